"""`kustom-hpp batch --dry-run`: check every row, list what is wrong, send nothing."""

import sys
import time
from collections.abc import Iterable
from typing import TextIO

from kustom_hpp.cli.batch.input_rows import MAX_PATH, InputRow
from kustom_hpp.cli.console import CommandError, Exit, print_note, require_stream
from kustom_hpp.errors import clean_text


def dry_run(name: str, rows: Iterable[InputRow]) -> int:
    """List the problems and warnings of all rows on stdout, as `file:line: error|warning: field: sentence`.

    Returns:
        The exit code: 2 if a row has a problem or there is no row.

    """
    out, started = require_stream(sys.stdout), time.monotonic()
    checked = invalid = problems = warnings = 0
    input_error = None
    try:
        for row in rows:
            checked += 1
            invalid += bool(row.problems)
            problems += len(row.problems)
            suspicious = row.request.warnings() if row.request is not None else ()
            warnings += len(suspicious)
            _list(out, f"{name}:{row.line}: error", row.problems)
            _list(out, f"{name}:{row.line}: warning", suspicious)
    except CommandError as error:
        input_error = error
    out.flush()
    summary = f"{checked:,} rows checked in {time.monotonic() - started:.1f} s, nothing was sent"
    if problems:
        text = f"{summary}: {problems:,} problems in {invalid:,} rows, {warnings:,} warnings. In a run those rows would fail."
        print_note("error", text, "bold red")
    if input_error is not None:
        print_note("error", input_error.message, "bold red")
    elif not checked:
        print_note("error", f"{name} has no rows.", "bold red")
    elif not problems:
        print_note("valid", f"{summary}: no problems, {warnings:,} warnings.", "bold green")
        return Exit.OK
    return Exit.USAGE


def _list(out: TextIO, label: str, findings: Iterable[tuple[str, str]]) -> None:
    out.writelines(f"{label}: {clean_text(path, MAX_PATH)}: {sentence}\n" for path, sentence in findings)
