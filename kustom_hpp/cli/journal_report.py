"""The report of a journal: as tables on the terminal, or as an HTML file."""

import datetime as dt
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kustom_hpp.batch import OutcomeState
from kustom_hpp.batch.report import JournalReport
from kustom_hpp.batch.report_html import render_html, seconds_text
from kustom_hpp.cli.console import CommandError, Exit
from kustom_hpp.errors import clean_text

_MAX_DOUBTS = 50
"""Doubts that the terminal shows; `--html` and `export` have more."""
_HTML_START = b"<!doctype html>"


def write_html(target: str, report: JournalReport, *, title: str, scope: str) -> None:
    """Write the report to a file.

    Raises:
        CommandError: the file exists and is not an HTML document, such as the journal itself; or it cannot be written.

    """
    path = Path(target)
    page = render_html(report, title=title, scope=scope, now=dt.datetime.now(dt.UTC))
    try:
        if path.exists():
            with path.open("rb") as file:
                if file.read(len(_HTML_START)) != _HTML_START:
                    msg = f"{target} exists and is not a report. Nothing was written; choose another file."
                    raise CommandError(msg, Exit.USAGE)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        msg = f"{target} cannot be written: {error.strerror or error}."
        raise CommandError(msg, Exit.USAGE) from None


def print_report(console: Console, report: JournalReport) -> None:
    """Print the report as tables."""
    for table in (_totals(report), _periods(report), _response_times(report), _failures(report), _doubts(report)):
        if table is not None:
            console.print(table)
            console.print()
    hidden = report.states[OutcomeState.IN_DOUBT] - min(len(report.doubts), _MAX_DOUBTS)
    if hidden:
        console.print(f"and {hidden:,} more in doubt: 'kustom-hpp journal export' has all of them.", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        number = name in {"rows", "sessions", "mean/s", "busiest second"}
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _totals(report: JournalReport) -> Table:
    table = _table("Rows", "state", "rows")
    table.add_row("all", f"{report.rows:,}")
    for state in OutcomeState:
        if report.states[state] or state is not OutcomeState.CLAIMED_ELSEWHERE:
            table.add_row(state.replace("_", " "), f"{report.states[state]:,}")
    table.add_row("to send", f"{report.to_send:,}")
    return table


def _periods(report: JournalReport) -> Table | None:
    if not report.periods:
        return None
    table = _table("Sessions per second", "start (UTC)", "duration", "sessions", "mean/s", "busiest second")
    for period in report.periods:
        duration = str(dt.timedelta(seconds=period.seconds))
        numbers = (f"{period.created:,}", f"{period.rate:,.1f}", f"{period.peak:,}")
        table.add_row(f"{period.start:%Y-%m-%d %H:%M:%S}", duration, *numbers)
    return table


def _response_times(report: JournalReport) -> Table | None:
    if (times := report.response_times) is None:
        return None
    table = _table("Response times", "median", "90 %", "99 %", "slowest")
    table.add_row(*map(seconds_text, (times.p50, times.p90, times.p99, times.maximum)))
    return table


def _failures(report: JournalReport) -> Table | None:
    if not report.failures:
        return None
    table = _table("Failures", "code", "rows", "next step")
    for each in report.failures:
        table.add_row(Text(clean_text(each.code)), f"{each.count:,}", Text(each.next_step))
    return table


def _doubts(report: JournalReport) -> Table | None:
    if not report.doubts:
        return None
    table = _table("Rows in doubt", "key", "order", "since (UTC)", "why")
    for doubt in report.doubts[:_MAX_DOUBTS]:
        since = f"{doubt.since:%Y-%m-%d %H:%M:%S}"
        table.add_row(Text(clean_text(doubt.key)), Text(clean_text(doubt.order or "")), since, Text(doubt.reason))
    return table
