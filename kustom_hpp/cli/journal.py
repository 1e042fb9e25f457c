"""`kustom-hpp journal`: inspect a batch's journal, and record how rows in doubt ended."""

import datetime as dt
from typing import Annotated

from cyclopts import Parameter

from kustom_hpp.batch import Verdict
from kustom_hpp.batch.postgres.ledger import PostgresJournal
from kustom_hpp.batch.report import summarize
from kustom_hpp.cli.batch.output_lines import outcome_line
from kustom_hpp.cli.console import CommandError, Exit, print_note, stdout, write_line
from kustom_hpp.cli.journal_report import print_overview, print_report, write_html
from kustom_hpp.cli.open_journal import (
    JournalName,
    ScopeName,
    existing_journal,
    is_ledger,
    journal_title,
    ledger_at,
    refused,
)
from kustom_hpp.cli.requests import number
from kustom_hpp.config.options import check_positive
from kustom_hpp.errors import HPPError
from kustom_hpp.models import Session
from kustom_hpp.models.urls import check_url

_MEANING = {
    Verdict.CREATED: "later runs report this session.",
    Verdict.FAILED: "later runs report the failure; --retry-failed sends the row.",
    Verdict.SEND_AGAIN: "the next run sends it.",
}


async def init(ledger: str, /) -> int:
    """Create the tables of a ledger in PostgreSQL if there are none.

    Args:
        ledger: The database's URL, such as postgresql://user@host/database. The password comes from PGPASSWORD or
            a service file.

    """
    _require_ledger(ledger, "journal init", "needs no init")
    try:
        was_created = await ledger_at(ledger).create_schema()
    except HPPError as error:
        raise refused(error) from None
    print_note("ready", "the ledger was created." if was_created else "the ledger was there already.", "bold green")
    return Exit.OK


async def show(journal: JournalName, /, *, scope: ScopeName = None) -> int:
    """Count the rows of each state and list the rows in doubt."""
    async with existing_journal(journal, scope) as (opened, _):
        summary = await summarize(opened.rows())
        surplus = await opened.surplus() if isinstance(opened, PostgresJournal) else ()
    print_overview(stdout(), summary, surplus)
    return Exit.OK


async def report(
    journal: JournalName,
    /,
    *,
    html: Annotated[str | None, Parameter(help="Write an HTML file instead of tables.")] = None,
    scope: ScopeName = None,
) -> int:
    """Summarize a journal, as tables or as an HTML file.

    The report has totals, sessions per second, response times, failures with their next step, and rows in doubt.
    """
    async with existing_journal(journal, scope) as (opened, its_scope):
        summary = await summarize(opened.rows())
    if html is None:
        print_report(stdout(), summary)
    else:
        write_html(html, summary, title=journal_title(journal), scope=its_scope)
    return Exit.OK


async def export(journal: JournalName, /, *, scope: ScopeName = None) -> int:
    """Write every row to stdout, in the format of 'batch --output'."""
    async with existing_journal(journal, scope) as (opened, _):
        async for entry in opened.rows():
            write_line(outcome_line(entry.outcome))
    return Exit.OK


async def resolve(
    journal: JournalName,
    key: Annotated[str, Parameter(help="The row's key.")],
    /,
    *,
    created: Annotated[str | None, Parameter(help="The id of the row's session.")] = None,
    redirect_url: Annotated[str | None, Parameter(help="The session's page; required with --created.")] = None,
    failed: Annotated[bool, Parameter(help="The row has no session; later runs do not send it.")] = False,
    send_again: Annotated[bool, Parameter(help="The row has no session; the next run sends it.")] = False,
    note: Annotated[str, Parameter(help="Who decided, and why; stored in the journal.")] = "",
    scope: ScopeName = None,
) -> int:
    """Record the result of a row in doubt.

    Find the result first, for example in the merchant portal. Then give exactly one of --created with --redirect-url,
    --failed, --send-again. The row goes to stdout in the format of 'batch --output'.
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
    async with existing_journal(journal, scope) as (opened, _):
        try:
            outcome = await opened.resolve(key, verdict, session=session, note=note)
        except HPPError as error:
            raise CommandError(f"{str(error).rstrip('.')}. Nothing was changed.", Exit.USAGE) from None
    write_line(outcome_line(outcome))
    print_note("resolved", _MEANING[verdict], "bold green")
    return Exit.OK


async def prune(
    ledger: Annotated[str, Parameter(help="The ledger's URL.")],
    /,
    *,
    older_than: Annotated[
        float,
        number(check_positive, unit="days"),
        Parameter(help="Days since the row was last changed; at least 3."),
    ],
    scope: ScopeName = None,
) -> int:
    """Shorten old rows of a ledger in PostgreSQL.

    A row with a session keeps its key, its order and its session's id, so that it is never sent again. Failed rows and rows in
    doubt stay as they are.
    """
    _require_ledger(ledger, "journal prune", "is not pruned")
    async with existing_journal(ledger, scope) as (opened, _):
        count = await opened.prune(dt.timedelta(days=older_than)) if isinstance(opened, PostgresJournal) else 0
    print_note("pruned", f"{count:,} rows.", "bold green")
    return Exit.OK


def _require_ledger(name: str, command: str, otherwise: str) -> None:
    if not is_ledger(name):
        msg = f"{command} needs a URL such as postgresql://user@host/database. A journal in a file {otherwise}."
        raise CommandError(msg, Exit.USAGE)
