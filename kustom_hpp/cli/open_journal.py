"""The journal that a command names: a file, or a ledger in PostgreSQL by its URL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from kustom_hpp.batch import PostgresLedger, Scope, SqliteJournal
from kustom_hpp.batch.postgres.ledger import PostgresJournal
from kustom_hpp.batch.sqlite.journal import read_scope
from kustom_hpp.cli.console import CommandError, Exit
from kustom_hpp.errors import HPPError, JournalError

JournalName = Annotated[str, Parameter(help="The journal's file, or the ledger's URL.")]
ScopeName = Annotated[str | None, Parameter(help="Which of a ledger's scopes, if it has several.")]
_SCHEMES = ("postgresql://", "postgres://")


def is_ledger(name: str) -> bool:
    """Return whether a name is the URL of a database; any other name is a file's."""
    return name.startswith(_SCHEMES)


def journal_title(name: str) -> str:
    """Return a short name for a report's title: the file's, or the database's."""
    return urlsplit(name).path.strip("/") or "PostgreSQL" if is_ledger(name) else Path(name).name


def ledger_at(url: str) -> PostgresLedger:
    """Return the ledger at a URL; nothing is connected yet.

    Raises:
        CommandError: the URL is invalid or has a password, or psycopg is not installed.

    """
    try:
        ledger = PostgresLedger(url)
    except JournalError as error:
        raise refused(error) from None
    except ImportError as error:
        raise CommandError(f"{error}.", Exit.USAGE) from None
    from kustom_hpp.batch.postgres.schema import has_password

    if has_password(url):
        msg = "Passwords are never arguments, which other users of the machine can read. Set PGPASSWORD or use a service file."
        raise CommandError(msg, Exit.USAGE)
    return ledger


@asynccontextmanager
async def open_journal(
    name: str | PostgresLedger, scope: Scope | str
) -> AsyncIterator[SqliteJournal | PostgresJournal]:
    """Open a journal.

    Args:
        name: the file, or the ledger.
        scope: whose sessions the journal remembers.

    Raises:
        CommandError: the journal cannot be used for this scope.

    """
    async with AsyncExitStack() as stack:
        try:
            if isinstance(name, PostgresLedger):
                ledger = await stack.enter_async_context(name)
                journal: SqliteJournal | PostgresJournal = ledger.journal(scope)
            else:
                journal = SqliteJournal(name, scope=scope)
            await stack.enter_async_context(journal)
        except JournalError as error:
            raise refused(error) from None
        yield journal


@asynccontextmanager
async def existing_journal(
    name: str, scope: str | None = None
) -> AsyncIterator[tuple[SqliteJournal | PostgresJournal, str]]:
    """Open a journal that exists, with its scope; do not create one.

    Args:
        name: the file, or the ledger's URL.
        scope: the scope; None for the only one.

    Raises:
        CommandError: there is no such journal, or the ledger has several scopes.

    """
    try:
        if is_ledger(name):
            async with ledger_at(name) as ledger:
                its_scope = _choose_scope(await ledger.scopes(), scope)
        else:
            its_scope = await asyncio.to_thread(read_scope, name) if scope is None else scope
    except JournalError as error:
        raise refused(error) from None
    async with open_journal(ledger_at(name) if is_ledger(name) else name, its_scope) as journal:
        yield journal, its_scope


def _choose_scope(scopes: list[str], scope: str | None) -> str:
    if scope is None and len(scopes) == 1:
        return scopes[0]
    if scope is not None and scope in scopes:
        return scope
    fact = "the ledger has no rows" if not scopes else f"the ledger has no scope {scope!r}"
    if scope is None and scopes:
        fact = "the ledger has several scopes"
    known = ", ".join(f"'{each}'" for each in scopes)
    raise CommandError(f"{fact}.{f' Choose one with --scope: {known}.' if scopes else ''}", Exit.USAGE)


def refused(error: HPPError) -> CommandError:
    """Return the error of a command that did nothing."""
    return CommandError(f"{str(error).rstrip('.')}. Nothing was sent or changed.", Exit.USAGE)
