"""`kustom-hpp journal`: inspect a batch's journal, and record how rows in doubt ended."""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from rich import box
from rich.table import Table
from rich.text import Text

from kustom_hpp.batch import JournalEntry, Outcome, OutcomeState, Verdict
from kustom_hpp.batch.journal_rules import is_refusal
from kustom_hpp.batch.postgres.ledger import PostgresJournal
from kustom_hpp.batch.report import summarize
from kustom_hpp.cli.batch.output_lines import outcome_line
from kustom_hpp.cli.console import CommandError, Exit, print_note, stdout, write_line
from kustom_hpp.cli.journal_report import print_report, write_html
from kustom_hpp.cli.open_journal import existing_journal, is_ledger, journal_title, ledger_at, refused
from kustom_hpp.cli.requests import number
from kustom_hpp.config.options import check_positive
from kustom_hpp.errors import HPPError
from kustom_hpp.models import Session
from kustom_hpp.models.urls import check_url

_FLAG = Parameter(negative="")
_MAX_DOUBTS = 200
"""Rows in doubt that `show` lists; `export` has all of them."""


def init(ledger: str, /) -> int:
    """Create the tables of a ledger in PostgreSQL if there are none.

    Args:
        ledger: The database's URL, such as postgresql://user@host/database. The password comes from PGPASSWORD or
            a service file.

    """
    if not is_ledger(ledger):
        msg = "journal init needs a URL such as postgresql://user@host/database. A journal in a file needs no init."
        raise CommandError(msg, Exit.USAGE)
    try:
        was_created = asyncio.run(ledger_at(ledger).create_schema())
    except HPPError as error:
        raise refused(error) from None
    print_note("ready", "the ledger was created." if was_created else "the ledger was there already.", "bold green")
    return Exit.OK


def show(journal: str, /, *, scope: str | None = None) -> int:
    """Count the rows of each state and list the rows in doubt.

    Args:
        journal: The journal's file, or the ledger's URL.
        scope: Which of a ledger's scopes, if it has several.

    """
    return asyncio.run(_show(journal, scope))


def report(journal: str, /, *, html: str | None = None, scope: str | None = None) -> int:
    """Summarize a journal, as tables or as an HTML file.

    The report has totals, sessions per second, response times, failures with their next step, and rows in doubt.

    Args:
        journal: The journal's file, or the ledger's URL.
        html: Write an HTML file instead of tables.
        scope: Which of a ledger's scopes, if it has several.

    """
    return asyncio.run(_report(journal, html, scope))


def export(journal: str, /, *, scope: str | None = None) -> int:
    """Write every row to stdout, in the format of 'batch --output'.

    Args:
        journal: The journal's file, or the ledger's URL.
        scope: Which of a ledger's scopes, if it has several.

    """
    return asyncio.run(_export(journal, scope))


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
    scope: str | None = None,
) -> int:
    """Record the result of a row in doubt.

    Find the result first, for example in the merchant portal. Then give exactly one of --created with --redirect-url,
    --failed, --send-again. The row goes to stdout in the format of 'batch --output'.

    Args:
        journal: The journal's file, or the ledger's URL.
        key: The row's key.
        created: The id of the row's session.
        redirect_url: The session's page; required with --created.
        failed: The row has no session; later runs do not send it.
        send_again: The row has no session; the next run sends it.
        note: Who decided, and why; stored in the journal.
        scope: Which of a ledger's scopes, if it has several.

    """
    if [created is not None, failed, send_again].count(True) != 1 or (created is None) != (redirect_url is None):
        msg = "resolve needs one of --created SESSION_ID with --redirect-url URL, --failed, --send-again."
        raise CommandError(msg, Exit.USAGE)
    session = None
    if created is not None and redirect_url is not None:
        problems: list[tuple[str, str]] = []
        check_url(problems, "--redirect-url", redirect_url)
        if problems or not created.strip():
            msg = " ".join(problems[0]) if problems else "--created must be the session's id"
            raise CommandError(f"{msg}. Nothing was changed.", Exit.USAGE)
        session = Session(session_id=created, redirect_url=redirect_url)
    verdict = Verdict.CREATED if session else Verdict.FAILED if failed else Verdict.SEND_AGAIN
    return asyncio.run(_resolve(journal, key, verdict, session=session, note=note, scope=scope))


def prune(
    ledger: str,
    /,
    *,
    older_than: Annotated[float, number(check_positive, unit="days")],
    scope: str | None = None,
) -> int:
    """Shorten old rows of a ledger in PostgreSQL.

    A row with a session keeps its key, its order and its session's id, so that it is never sent again. Failed rows and rows in
    doubt stay as they are.

    Args:
        ledger: The ledger's URL.
        older_than: Days since the row was last changed; at least 3.
        scope: Which of the ledger's scopes, if it has several.

    """
    if not is_ledger(ledger):
        msg = "journal prune needs a URL such as postgresql://user@host/database. A journal in a file is not pruned."
        raise CommandError(msg, Exit.USAGE)
    return asyncio.run(_prune(ledger, scope, dt.timedelta(days=older_than)))


async def _prune(url: str, scope: str | None, age: dt.timedelta) -> int:
    async with existing_journal(url, scope) as (journal, _):
        count = await journal.prune(age) if isinstance(journal, PostgresJournal) else 0
    print_note("pruned", f"{count:,} rows.", "bold green")
    return Exit.OK


async def _show(path: str, scope: str | None) -> int:
    counts: Counter[OutcomeState] = Counter()
    doubts: list[JournalEntry] = []
    again = 0
    async with existing_journal(path, scope) as (journal, _):
        async for entry in journal.rows():
            if entry.outcome.state is OutcomeState.FAILED and not is_refusal(entry.outcome.error):
                again += 1
                continue
            counts[entry.outcome.state] += 1
            if entry.outcome.state is OutcomeState.IN_DOUBT and len(doubts) < _MAX_DOUBTS:
                doubts.append(entry)
        surplus = await journal.surplus() if isinstance(journal, PostgresJournal) else ()
    console = stdout()
    console.print(_counts(counts, again))
    if doubts:
        console.print(_doubts(doubts, plain=not console.is_terminal))
        if (more := counts[OutcomeState.IN_DOUBT] - len(doubts)) > 0:
            console.print(f"and {more:,} more: 'kustom-hpp journal export {path}' has all of them.", soft_wrap=True)
    if surplus:
        console.print(_surplus(surplus, plain=not console.is_terminal))
    return Exit.OK


def _counts(counts: Counter[OutcomeState], again: int) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    for state in OutcomeState:
        if state is OutcomeState.CLAIMED_ELSEWHERE and not counts[state]:
            continue
        table.add_row(Text(state.replace("_", " ")), Text(f"{counts[state]:,}"))
    if again:
        table.add_row(Text("to send"), Text(f"{again:,}"), Text("not sent or throttled; the next run sends them"))
    return table


def _doubts(doubts: list[JournalEntry], *, plain: bool) -> Table:
    table = _table("In doubt", "since (UTC)", "why", plain=plain)
    for entry in doubts:
        why = "the run ended before it recorded an outcome" if entry.unsettled else str(entry.outcome.error)
        table.add_row(Text(entry.key), Text(f"{entry.changed_at:%Y-%m-%d %H:%M:%S}"), Text(why))
    return table


def _surplus(surplus: Sequence[tuple[str, str | None]], *, plain: bool) -> Table:
    table = _table("Surplus session of", "session", "next step", plain=plain)
    for key, session_id in surplus:
        step = "the request may have created one; create a new order" if session_id is None else "kustom-hpp disable ID"
        table.add_row(Text(key), Text(session_id or "unknown"), Text(step.replace("ID", session_id or "")))
    return table


def _table(*columns: str, plain: bool) -> Table:
    table = Table(box=None if plain else box.ROUNDED, header_style="" if plain else "bold", pad_edge=not plain)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


async def _report(path: str, html: str | None, scope: str | None) -> int:
    async with existing_journal(path, scope) as (journal, its_scope):
        summary = await summarize(journal.rows())
    if html is None:
        print_report(stdout(), summary)
    else:
        write_html(html, summary, title=journal_title(path), scope=its_scope)
    return Exit.OK


async def _export(path: str, scope: str | None) -> int:
    async with existing_journal(path, scope) as (journal, _):
        async for entry in journal.rows():
            write_line(outcome_line(entry.outcome))
    return Exit.OK


async def _resolve(
    path: str, key: str, verdict: Verdict, *, session: Session | None, note: str, scope: str | None
) -> int:
    async with existing_journal(path, scope) as (journal, _):
        try:
            outcome: Outcome = await journal.resolve(key, verdict, session=session, note=note)
        except HPPError as error:
            raise CommandError(f"{str(error).rstrip('.')}. Nothing was changed.", Exit.USAGE) from None
    write_line(outcome_line(outcome))
    print_note("resolved", _MEANING[verdict], "bold green")
    return Exit.OK


_MEANING = {
    Verdict.CREATED: "later runs report this session.",
    Verdict.FAILED: "later runs report the failure; --retry-failed sends the row.",
    Verdict.SEND_AGAIN: "the next run sends it.",
}
