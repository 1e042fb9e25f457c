"""`PostgresLedger` for the random histories of tests/batch/histories.py."""

import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from unittest import mock

from kustom_hpp.batch.postgres.database import LedgerDatabase
from tests.batch.histories import World
from tests.batch.postgres.test_ledger import SharedRuns
from tests.support.postgres import Cluster


class Postgres(World):
    """Several runs over one database, each with a connection of its own, in a scope of its own."""

    shared = True

    def __init__(self, cluster: Cluster, dsn: str, scope: str) -> None:
        self._stack = AsyncExitStack()
        self._runs = SharedRuns(cluster, dsn, scope, self._stack)
        # Between its calls a run takes no new lease: nobody could say when.
        self._stack.enter_context(mock.patch.object(LedgerDatabase, "maintain"))
        self.expire, self.cut_link, self.surplus = self._runs.expire, self._runs.cut_link, self._runs.surplus

    async def open(self) -> Any:
        return await self._runs.open()

    async def close(self) -> None:
        await self._stack.aclose()


def worlds(cluster: Cluster, dsn: str) -> Callable[[], Postgres]:
    """Return what makes the world of each history."""
    numbers = itertools.count()
    return lambda: Postgres(cluster, dsn, f"history {next(numbers)}")
