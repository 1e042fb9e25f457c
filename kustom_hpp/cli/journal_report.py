"""The report of a journal: as tables on the terminal, or as an HTML file."""

import datetime as dt
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from rich.console import Console

from kustom_hpp.batch import OutcomeState
from kustom_hpp.batch.report import JournalReport
from kustom_hpp.cli.console import CommandError, Exit, table
from kustom_hpp.errors import clean_text

_MAX_DOUBTS = 200
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


def render_html(report: JournalReport, *, title: str, scope: str, now: dt.datetime) -> str:
    """Return one HTML document: no scripts, nothing from elsewhere, light and dark, printable."""
    import jinja2  # no other command needs it

    environment = jinja2.Environment(
        autoescape=True,
        finalize=lambda value: clean_text(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "per_second": "{:,.1f}/s".format,
        "seconds": _seconds,
        "span": _span,
        "time": lambda moment: f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
    template = resources.files("kustom_hpp.cli").joinpath("journal_report.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(report=report, title=title, scope=scope, now=now)


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _span(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


# On the terminal


def print_overview(console: Console, report: JournalReport, surplus: Iterable[tuple[str, str | None]]) -> None:
    """Print the number of rows by state, the rows in doubt, and the surplus sessions of a ledger."""
    remarks = {"to_send": "not sent or throttled; the next run sends them"}
    counts = [(name, number) for name, number in report.totals if number or name not in remarks]
    rows = [(name.replace("_", " "), f"{number:,}", remarks.get(name, "")) for name, number in counts]
    console.print(table(None, ("state", ">rows", "remark"), rows, show_header=False))
    _print_doubts(console, report)
    steps = [
        (key, session_id or "unknown", f"kustom-hpp disable {session_id}" if session_id else "create a new order")
        for key, session_id in surplus
    ]
    if steps:
        console.print(table("Surplus sessions", ("key", "session", "next step"), steps))


def print_report(console: Console, report: JournalReport) -> None:
    """Print the report as tables."""
    totals = [("all", report.rows), *report.totals]
    rows = [(name.replace("_", " "), f"{number:,}") for name, number in totals]
    tables = [table("Rows", ("state", ">rows"), rows)]
    if report.periods:
        columns = ("start (UTC)", "duration", ">sessions", ">mean/s", ">busiest second")
        periods = [
            (
                f"{each.start:%Y-%m-%d %H:%M:%S}",
                str(each.length),
                f"{each.created:,}",
                f"{each.rate:,.1f}",
                f"{each.peak:,}",
            )
            for each in report.periods
        ]
        tables.append(table("Sessions per second", columns, periods))
    if report.response_times is not None:
        names, values = zip(*report.response_times.marks, strict=True)
        tables.append(table("Response times", names, [tuple(map(_seconds, values))]))
    if report.failures:
        failures = [(each.code, f"{each.count:,}", each.next_step) for each in report.failures]
        tables.append(table("Failures", ("code", ">rows", "next step"), failures))
    for each in tables:
        console.print(each)
        console.print()
    _print_doubts(console, report)


def _print_doubts(console: Console, report: JournalReport) -> None:
    doubts = report.doubts[:_MAX_DOUBTS]
    if doubts:
        rows = [(each.key, each.order or "", f"{each.since:%Y-%m-%d %H:%M:%S}", each.reason) for each in doubts]
        console.print(table("Rows in doubt", ("key", "order", "since (UTC)", "why"), rows))
    if more := report.states[OutcomeState.IN_DOUBT] - len(doubts):
        console.print(f"and {more:,} more in doubt: 'kustom-hpp journal export' has all of them.", soft_wrap=True)
