"""`kustom-hpp batch`: a file of requests in, a line for each row out, a journal to resume from."""

import asyncio
import contextlib
import errno
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kustom_hpp.cli.batch.dry_run import dry_run as check_rows
from kustom_hpp.cli.batch.input_file import InputFile
from kustom_hpp.cli.batch.run import BatchJob, BatchOptions
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import STDIN, CommandError, Exit
from kustom_hpp.cli.open_journal import is_ledger


def batch(
    input: Annotated[str, Parameter(help="The rows' file, or - for stdin.")],  # noqa: A002 - the name that --help shows
    /,
    *,
    output: Annotated[
        str | None, Parameter(help="The file for the outcomes, or - for stdout. Required unless --dry-run.")
    ] = None,
    journal: Annotated[
        str | None,
        Parameter(
            help="The journal's file, which the first run creates; or the postgresql:// URL of a ledger ('journal init'). "
            "Required unless --dry-run."
        ),
    ] = None,
    dry_run: Annotated[
        bool, Parameter(help="Check every row and list the problems; send nothing and create no file.")
    ] = False,
    options: BatchOptions | None = None,
    connection: ConnectionOptions | None = None,
) -> int:
    """Create one session for each row of a file.

    INPUT has one row on each line. It may be compressed with gzip.

        {"key": "order 1001", "request": {"payment_session_url": "https://...", "merchant_urls": {...}}}

    It may also be a CSV table. The name of a column is "key" or the path of a request field: payment_session_url,
    merchant_urls.success, options.background_images[0].url. The default key is the payment_session_url.

    The output has one line of JSON for each row: key, state (created, failed, in_doubt or claimed_elsewhere), session,
    error, attempts, correlation_id, and earlier_run, which is true if the outcome comes from an earlier run. Each run
    overwrites the output file; the journal stores the outcomes.

    After an interruption run the same command again. It sends nothing for a row that has a session, and reports that
    session. It sends the rows that the API did not process (not sent, 401, 429). It reports the rows that the API refused,
    and the rows that may have a session.

    With a ledger several machines may run the same command at once, each with its own output; they share --rate. A run
    skips the rows that another live run has claimed (claimed_elsewhere).

    The first Ctrl-C, SIGTERM or SIGHUP stops reading rows and waits for requests in flight; the second aborts them.

    Exit codes, the first that fits: 130 interrupted; 3 credentials or settings; 2 invalid input; 4 a row is in doubt;
    1 a row failed, or has a session for another payload; 0 otherwise, also if another run has claimed rows.
    """
    options = options or BatchOptions()
    if dry_run:
        with contextlib.closing(InputFile(input)) as file:
            return check_rows(input, options.open_rows(file))
    if output is None or journal is None:
        msg = "batch needs --output and --journal, or --dry-run. Run 'kustom-hpp batch --help' for usage."
        raise CommandError(msg, Exit.USAGE)
    if is_ledger(journal) and options.on_doubt == "resend":
        msg = (
            "--on-doubt resend does not go with a ledger, because every machine would send the rows. Free them one by one: "
            f"kustom-hpp journal resolve {journal} KEY --send-again"
        )
        raise CommandError(msg, Exit.USAGE)
    _check_files(INPUT=input, **{"--output": output, "--journal": journal, "--template": options.template})
    return asyncio.run(BatchJob(input, output, journal, options, connection or ConnectionOptions()).run())


def _check_files(**files: str | None) -> None:
    """Check that no file is used twice: the output would overwrite the other."""
    names: dict[Path, str] = {}
    for name, file in files.items():
        if file is None or file == STDIN or is_ledger(file):
            continue
        other = names.setdefault(Path(file).resolve(), name)
        if other != name:
            msg = f"{other} and {name} are the same file ({file}). Nothing was sent; use different files."
            raise CommandError(msg, Exit.USAGE)
    output = files["--output"]
    if output is not None and output != STDIN:
        _check_output(output)
    if files["--journal"] == STDIN:
        msg = "--journal must be a file. The next run resumes from it."
        raise CommandError(msg, Exit.USAGE)


def _check_output(name: str) -> None:
    """Check, without creating it, that the output can be created: the journal is created first."""
    path = Path(name).resolve()
    if not path.parent.is_dir():
        fault = errno.ENOENT
    elif path.is_dir():
        fault = errno.EISDIR
    else:
        fault = 0 if os.access(path if path.exists() else path.parent, os.W_OK) else errno.EACCES
    if fault:
        msg = f"{name} cannot be written: {os.strerror(fault)}. Nothing was sent."
        raise CommandError(msg, Exit.USAGE)
