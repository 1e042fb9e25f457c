"""`kustom-hpp journal`: what a batch remembers, and the word of a human where that is needed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from cyclopts import App, Parameter
from rich import box
from rich.table import Table
from rich.text import Text

from kustom_hpp.batch import JournalEntry, Outcome, OutcomeState, Scope, SqliteJournal, Verdict
from kustom_hpp.batch.journal_rules import is_refusal
from kustom_hpp.batch.report import summarize
from kustom_hpp.batch.sqlite.journal import read_scope
from kustom_hpp.cli.batch.output_lines import outcome_line
from kustom_hpp.cli.console import CommandError, Exit, print_note, stdout, write_line
from kustom_hpp.cli.journal_report import print_report, write_html
from kustom_hpp.errors import HPPError, JournalError
from kustom_hpp.models import Session
from kustom_hpp.models.urls import check_url

_FLAG = Parameter(negative="")
_SHOWN = 200
"""Doubts that `show` lists; `export` has all of them."""


def build_journal_app() -> App:
    """The sub-commands."""
    app = App(name="journal", help="Show a batch's journal, export its rows, and end doubts by hand.", sort_key=4)
    app.command(show, sort_key=1)
    app.command(report, sort_key=2)
    app.command(export, sort_key=3)
    app.command(resolve, sort_key=4)
    return app


def show(journal: str, /) -> int:
    """Show how many rows are in which state, and those in doubt.

    Args:
        journal: The journal's file.

    """
    return asyncio.run(_show(journal))


def report(journal: str, /, *, html: str | None = None) -> int:
    """Summarize a journal: totals, sessions per second, response times, failures with their next step, rows in doubt.

    Args:
        journal: The journal's file.
        html: Write the report to this HTML file instead.

    """
    return asyncio.run(_report(journal, html))


def export(journal: str, /) -> int:
    """Write all rows to stdout, as the lines that `kustom-hpp batch` writes.

    Args:
        journal: The journal's file.

    """
    return asyncio.run(_export(journal))


def resolve(
    journal: str,
    key: str,
    /,
    *,
    created: str | None = None,
    redirect_url: str | None = None,
    failed: Annotated[bool, _FLAG] = False,
    send_again: Annotated[bool, _FLAG] = False,
    note: str = "",
) -> int:
    """Say how a row in doubt ended, because you found out; its line goes to stdout.

    Args:
        journal: The journal's file.
        key: Of the row in doubt.
        created: It has a session: the session's id.
        redirect_url: The session's page; goes with --created.
        failed: It has none, and is not to be sent again.
        send_again: It has none: the next run of the batch sends it.
        note: Who says so, and why; kept in the journal.

    """
    if [created is not None, failed, send_again].count(True) != 1 or (created is None) != (redirect_url is None):
        msg = "resolve needs one of --created SESSION_ID with --redirect-url URL, --failed, and --send-again."
        raise CommandError(msg, Exit.USAGE)
    session = None
    if created is not None and redirect_url is not None:
        found: list[tuple[str, str]] = []
        check_url(found, "--redirect-url", redirect_url)
        if found or not created.strip():
            msg = " ".join(found[0]) if found else "--created must be the session's id"
            raise CommandError(f"{msg}. Nothing was changed.", Exit.USAGE)
        session = Session(session_id=created, redirect_url=redirect_url)
    verdict = Verdict.CREATED if session else Verdict.FAILED if failed else Verdict.SEND_AGAIN
    return asyncio.run(_resolve(journal, key, verdict, session, note))


@asynccontextmanager
async def open_journal(path: str, scope: Scope | str) -> AsyncIterator[SqliteJournal]:
    """A journal, checked.

    Raises:
        CommandError: it is refused: bad input.

    """
    journal = SqliteJournal(path, scope=scope)
    try:
        await journal.__aenter__()
    except JournalError as error:
        raise _refused(error) from None
    try:
        yield journal
    finally:
        await journal.aclose()


def _refused(error: HPPError) -> CommandError:
    return CommandError(f"{str(error).rstrip('.')}. Nothing was sent or changed.", Exit.USAGE)


@asynccontextmanager
async def _existing(path: str) -> AsyncIterator[SqliteJournal]:
    """The journal at a path, whatever its scope; it is not made."""
    try:
        scope = read_scope(path)
    except JournalError as error:
        raise _refused(error) from None
    async with open_journal(path, scope) as journal:
        yield journal


async def _show(path: str) -> int:
    counts: Counter[OutcomeState] = Counter()
    doubts: list[JournalEntry] = []
    again = 0
    async with _existing(path) as journal:
        async for record in journal.rows():
            if record.outcome.state is OutcomeState.FAILED and not is_refusal(record.outcome.error):
                again += 1
                continue
            counts[record.outcome.state] += 1
            if record.outcome.state is OutcomeState.IN_DOUBT and len(doubts) < _SHOWN:
                doubts.append(record)
    console = stdout()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for state in OutcomeState:
        if state is OutcomeState.CLAIMED_ELSEWHERE and not counts[state]:
            continue
        table.add_row(Text(state.replace("_", " ")), Text(f"{counts[state]:,}"))
    if again:
        table.add_row(
            Text("to send"), Text(f"{again:,}"), Text("not sent, or not taken for now: the next run sends them")
        )
    console.print(table)
    if doubts:
        console.print(_doubts(doubts, plain=not console.is_terminal))
        if (more := counts[OutcomeState.IN_DOUBT] - len(doubts)) > 0:
            console.print(f"and {more:,} more: 'kustom-hpp journal export {path}' has them all.", soft_wrap=True)
    return Exit.OK


def _doubts(doubts: list[JournalEntry], *, plain: bool) -> Table:
    table = Table(box=None if plain else box.ROUNDED, header_style="" if plain else "bold", pad_edge=not plain)
    for column in ("In doubt", "since (UTC)", "why"):
        table.add_column(column, overflow="fold")
    for record in doubts:
        why = "the run ended before its outcome was kept" if record.unsettled else str(record.outcome.error)
        table.add_row(Text(record.key), Text(f"{record.changed_at:%Y-%m-%d %H:%M:%S}"), Text(why))
    return table


async def _report(path: str, html: str | None) -> int:
    async with _existing(path) as journal:
        summary = await summarize(journal.rows())
    if html is None:
        print_report(stdout(), summary)
    else:
        write_html(html, summary, journal=path, scope=read_scope(path))
    return Exit.OK


async def _export(path: str) -> int:
    async with _existing(path) as journal:
        async for record in journal.rows():
            write_line(outcome_line(record.outcome))
    return Exit.OK


async def _resolve(path: str, key: str, verdict: Verdict, session: Session | None, words: str) -> int:
    async with _existing(path) as journal:
        try:
            outcome: Outcome = await journal.resolve(key, verdict, session=session, note=words)
        except HPPError as error:
            raise CommandError(f"{str(error).rstrip('.')}. Nothing was changed.", Exit.USAGE) from None
    write_line(outcome_line(outcome))
    print_note("resolved", _MEANING[verdict], "bold green")
    return Exit.OK


_MEANING = {
    Verdict.CREATED: "later runs tell this session.",
    Verdict.FAILED: "later runs tell that it failed, and do not send it, unless with --retry-failed.",
    Verdict.SEND_AGAIN: "the next run of the batch sends it.",
}
