"""`kustom-hpp batch --dry-run`: every row checked, everything that is wrong or odd listed, nothing sent."""

import sys
import time
from collections.abc import Iterable
from typing import TextIO

from kustom_hpp.cli.batch.input_rows import LINE, LONGEST_PATH, RowReader, unread_lines
from kustom_hpp.cli.console import Exit, print_note, require_stream
from kustom_hpp.errors import clean_text


def dry_run(name: str, rows: RowReader) -> int:
    """List the problems and warnings of all rows on stdout, as `file:line: error|warning: field: sentence`.

    Args:
        name: of the input.
        rows: of the input.

    Returns:
        The exit code: 2 where a row has a problem or there is no row.

    """
    out, began = require_stream(sys.stdout), time.monotonic()
    checked = broken = problems = warnings = 0
    for row in rows:
        checked += 1
        broken += bool(row.problems)
        problems += len(row.problems)
        odd = list(row.request.warnings() if row.request is not None else ())
        if row.end:  # it may be meant; or a quote was not closed, and the next one closed it, rows later
            odd.append((LINE, f"lines {row.line} to {row.end} are one row: a quoted cell goes over them"))
        warnings += len(odd)
        _list(out, f"{name}:{row.line}: error", row.problems)
        _list(out, f"{name}:{row.line}: warning", odd)
    out.flush()
    took = f"{checked:,} rows checked in {time.monotonic() - began:.1f} s, nothing was sent"
    if not checked:
        print_note("error", f"{name} has no rows.", "bold red")
        return Exit.USAGE
    if problems:
        text = (
            f"{took}: {problems:,} problems in {broken:,} rows, {warnings:,} warnings. In a run those rows would fail."
            f"{unread_lines(rows)}"
        )
        print_note("error", text, "bold red")
        return Exit.USAGE
    print_note("good", f"{took}: no problems, {warnings:,} warnings.", "bold green")
    return Exit.OK


def _list(out: TextIO, where: str, found: Iterable[tuple[str, str]]) -> None:
    out.writelines(f"{where}: {clean_text(path, LONGEST_PATH)}: {sentence}\n" for path, sentence in found)
