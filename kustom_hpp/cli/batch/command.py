"""`kustom-hpp batch`: a file of requests in, a line for each row out, and a journal in between."""

import asyncio
import errno
import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from kustom_hpp.cli.batch.dry_run import dry_run as check_rows
from kustom_hpp.cli.batch.input_file import InputFile
from kustom_hpp.cli.batch.input_rows import Format, open_rows, read_template
from kustom_hpp.cli.batch.output_lines import STDOUT
from kustom_hpp.cli.batch.run import BatchJob, run_job
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import STDIN, CommandError, Exit

_FLAG = Parameter(negative="")


def _check_rate(_: Any, value: float | None) -> None:
    """For cyclopts: a ValueError is a usage error."""
    if value is not None and not (math.isfinite(value) and value > 0):
        msg = "It must be a finite number of requests per second above 0."
        raise ValueError(msg)


def batch(
    input: str,  # noqa: A002 - it is the name that --help shows
    /,
    *,
    output: str | None = None,
    journal: str | None = None,
    format: Annotated[Format | None, Parameter()] = None,  # noqa: A002 - the option's name
    template: str | None = None,
    dry_run: Annotated[bool, _FLAG] = False,
    concurrency: Annotated[int, Parameter(validator=Number(gte=1, lte=1000))] = 32,
    rate: Annotated[float | None, Parameter(validator=_check_rate)] = None,
    on_doubt: Literal["report", "resend"] = "report",
    retry_failed: Annotated[bool, _FLAG] = False,
    ordered: Annotated[bool, _FLAG] = False,
    quiet: Annotated[bool, _FLAG] = False,
    connection: ConnectionOptions | None = None,
) -> int:
    """Create one session for each row of a file.

    INPUT holds one row a line, gzip or not:

        {"key": "order 1001", "request": {"payment_session_url": "https://...", "merchant_urls": {...}}}

    or is a CSV table whose columns are paths of fields (payment_session_url, merchant_urls.success,
    options.background_images[0].url) or "key". Without a key, a row's key is its payment_session_url.

    The output has one line of JSON for each row: key, state (created, failed or in_doubt), session, error, attempts,
    correlation_id, earlier_run. It is written anew by each run; the journal is the memory. Run the same command again
    after an interruption: what was created is told from the journal, what was not begun is sent, and what may have been
    created is never sent again by itself.

    Ctrl-C, SIGTERM or SIGHUP takes no more rows and lets those end that are on their way; a second one cuts them off.

    Args:
        input: The rows' file, or - for stdin.
        output: The file for the outcomes, or - for stdout.
        journal: The journal's file; made by the first run.
        format: jsonl or csv; by default what the input's name says, and jsonl for stdin.
        template: A JSON file with the fields that all rows share; a row's own fields win.
        dry_run: Check every row and list what is wrong or odd; nothing is sent, no file is made.
        concurrency: How many rows are in flight at most.
        rate: Requests per second; by default 40 live, 5 at the playground, elsewhere what the answers allow.
        on_doubt: "resend" sends rows again that an earlier run left in doubt, at the risk of a second session.
        retry_failed: Send rows again that the API refused in an earlier run.
        ordered: Write the outcomes in the order of the rows.
        quiet: No progress and no summary on stderr.
        connection: Where to call and as whom.

    """
    shared = read_template(template)
    form = format or _format_of(input)
    if dry_run:
        with InputFile(input) as source:
            return check_rows(input, open_rows(source, form, shared))
    if output is None or journal is None:
        msg = "batch needs --output and --journal, or --dry-run. 'kustom-hpp batch --help' tells how to use it."
        raise CommandError(msg, Exit.USAGE)
    _check_files(INPUT=input, **{"--output": output, "--journal": journal, "--template": template})
    if output == STDIN:
        output = STDOUT
    job = BatchJob(
        input=input,
        form=form,
        template=shared,
        output=output,
        journal=journal,
        concurrency=concurrency,
        rate=rate,
        on_doubt=on_doubt,
        retry_failed=retry_failed,
        ordered=ordered,
        quiet=quiet,
        connection=connection or ConnectionOptions(),
    )
    return asyncio.run(run_job(job))


def _format_of(name: str) -> Format:
    """By the name: table.csv and table.csv.gz are CSV."""
    return "csv" if name.lower().removesuffix(".gz").endswith(".csv") else "jsonl"


def _check_files(**files: str | None) -> None:
    """No file may be two things at once: writing the output would wipe out the other."""
    seen: dict[Path, str] = {}
    for name, file in files.items():
        if file is None or file == STDIN:  # stdin as input and stdout as output are both called "-"
            continue
        other = seen.setdefault(Path(file).resolve(), name)
        if other != name:
            msg = f"{other} and {name} are the same file ({file}). Nothing was sent: give each a file of its own."
            raise CommandError(msg, Exit.USAGE)
    output = files["--output"]
    if output is not None and output != STDIN:
        _check_output(output)
    if files["--journal"] == STDIN:
        msg = "--journal must be a file: it is what the next run remembers this one by."
        raise CommandError(msg, Exit.USAGE)


def _check_output(name: str) -> None:
    """Find out, without making it, whether the output can be made: the journal is made first."""
    path = Path(name).resolve()
    place = path if path.exists() else path.parent
    if not path.parent.is_dir():
        fault = errno.ENOENT
    elif path.is_dir():
        fault = errno.EISDIR
    else:
        fault = 0 if os.access(place, os.W_OK) else errno.EACCES
    if fault:
        msg = f"{name} cannot be written: {os.strerror(fault)}. Nothing was sent."
        raise CommandError(msg, Exit.USAGE)
