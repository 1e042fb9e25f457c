"""The contract of a shared journal, on a PostgreSQL of our own."""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from kustom_hpp.batch import PostgresLedger
from kustom_hpp.batch.postgres.database import LedgerDatabase
from tests.support.journal_contract import Opener, SharedJournalContract
from tests.support.lossy_proxy import LossyProxy
from tests.support.postgres import Cluster

_NUMBERS = itertools.count()


@pytest.fixture
def scope() -> str:
    return f"scope {next(_NUMBERS)}"


@pytest.fixture
async def opener(ledger_dsn: str, scope: str) -> AsyncIterator[Opener]:
    """Open the journal as the next run would."""
    last: list[Any] = []
    async with PostgresLedger(ledger_dsn) as ledger:

        async def open_next(**settings: Any) -> Any:
            if last:
                await last[-1].aclose()
            journal = ledger.journal(scope, **settings)
            last.append(journal)
            return await journal.__aenter__()

        yield open_next
        for journal in last:
            await journal.aclose()


class SharedRuns:
    """Several runs over one database, each with a connection of its own."""

    def __init__(self, cluster: Cluster, dsn: str, scope: str, stack: AsyncExitStack) -> None:
        self._cluster, self._dsn, self._scope, self._stack = cluster, dsn, scope, stack
        self._proxies: dict[Any, LossyProxy] = {}
        self._journals: list[Any] = []

    async def open(self, **settings: Any) -> Any:
        proxy = LossyProxy(self._cluster.port)
        self._stack.callback(proxy.close)
        dsn = self._dsn.replace(f":{self._cluster.port}/", f":{proxy.port}/")
        ledger = await self._stack.enter_async_context(PostgresLedger(dsn))
        journal = await self._stack.enter_async_context(ledger.journal(self._scope, **settings))
        self._proxies[journal] = proxy
        self._journals.append(journal)
        return journal

    async def expire(self, journal: Any) -> None:
        journal._run.lease.end()
        statement = f"UPDATE kustom_hpp.runs SET lease_until = now() - interval '1 s' WHERE run = '{journal.run_id}'"
        self._cluster.execute(statement, "ledger")

    def cut_link(self, journal: Any) -> None:
        self._proxies[journal].cut()

    async def surplus(self) -> list[str]:
        return [session_id for _, session_id in await self._journals[0].surplus() if session_id is not None]


@pytest.fixture
async def shared(
    cluster: Cluster, ledger_dsn: str, scope: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SharedRuns]:
    # Between its operations a run renews nothing, as if it slept: on a busy machine it would take back an expired lease.
    monkeypatch.setattr(LedgerDatabase, "max_idle", None)
    monkeypatch.setattr(LedgerDatabase, "maintain", lambda _: None)
    async with AsyncExitStack() as stack:
        yield SharedRuns(cluster, ledger_dsn, scope, stack)


class TestPostgresJournal(SharedJournalContract):
    """The contract of a journal that several runs use at the same time."""
