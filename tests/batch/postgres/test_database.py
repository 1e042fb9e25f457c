"""What the ledger does when its database is away, behind, or has been replaced; and when it is not installed."""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

import kustom_hpp as hpp
from kustom_hpp import errors
from kustom_hpp.batch import Claim, Claimed, PostgresLedger
from kustom_hpp.batch.postgres import pace as pace_module
from kustom_hpp.batch.postgres.database import LedgerDatabase
from tests.support.journal_contract import PAYLOAD, all_of, created
from tests.support.postgres import Cluster, free_port

_NUMBERS = itertools.count()


@pytest.fixture
def scope() -> str:
    return f"database {next(_NUMBERS)}"


@pytest.fixture
def own_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """A server that the test may crash."""
    with Cluster() as own:
        asyncio.run(PostgresLedger(own.create_database("ledger")).create_schema())
        yield own


@pytest.fixture
async def ledger(ledger_dsn: str) -> AsyncIterator[PostgresLedger]:
    async with PostgresLedger(ledger_dsn) as ledger:
        yield ledger


def may_send(claim: Claim) -> bool:
    """Whether a claim of this run may still be sent."""
    assert isinstance(claim, Claimed)
    assert claim.may_send is not None
    return claim.may_send()


async def test_a_crash_of_the_database_is_waited_for(own_cluster: Cluster) -> None:
    async with PostgresLedger(own_cluster.dsn("ledger")) as ledger, ledger.journal("here") as journal:
        assert await journal.claim("a", None, PAYLOAD) == Claimed()
        await asyncio.to_thread(own_cluster.crash)
        settled = journal.settle("a", created())
        claimed = journal.claim("b", None, PAYLOAD)
        await asyncio.sleep(0.3)
        assert not settled.done()
        await asyncio.to_thread(own_cluster.start)
        assert await settled is None
        assert may_send(await claimed)
        assert [(entry.key, entry.unsettled) for entry, _ in await all_of(journal)] == [("a", False), ("b", True)]


async def test_a_connection_lost_while_a_run_is_recorded(
    ledger: PostgresLedger, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_lease, losses = LedgerDatabase._take_lease, iter([psycopg.OperationalError("lost")])

    def lose_once(self: LedgerDatabase, connection: Any, run: Any) -> None:
        for loss in losses:
            raise loss
        take_lease(self, connection, run)

    monkeypatch.setattr(LedgerDatabase, "_take_lease", lose_once)
    async with ledger.journal(scope) as journal:
        assert may_send(await journal.claim("a", None, PAYLOAD))


async def test_a_database_that_stays_away_ends_the_ledger(own_cluster: Cluster) -> None:
    async with PostgresLedger(own_cluster.dsn("ledger"), patience=0.5) as ledger:
        journal = await ledger.journal("here").__aenter__()
        assert await journal.claim("a", None, PAYLOAD) == Claimed()
        await asyncio.to_thread(own_cluster.crash)
        started = time.monotonic()
        for _ in range(2):
            with pytest.raises(errors.JournalError, match=r"did not respond for 0\.5 s"):
                await journal.settle("a", created())
        assert time.monotonic() - started < 10
        await journal.aclose()


async def test_nothing_is_claimed_while_another_run_may_put_rows_back(
    cluster: Cluster, ledger_dsn: str, scope: str
) -> None:
    async with PostgresLedger(ledger_dsn) as ledger, ledger.journal(scope) as other, ledger.journal(scope) as journal:
        assert await journal.claim("a", None, PAYLOAD) == Claimed()
        # As after a failover that the other run has not noticed yet.
        cluster.execute(f"UPDATE kustom_hpp.runs SET timeline = 0 WHERE run = '{other.run_id}'", "ledger")
        async with PostgresLedger(ledger_dsn) as late, late.journal(scope) as waiting:
            claim = waiting.claim("b", None, PAYLOAD)
            await asyncio.sleep(0.3)
            assert not claim.done()
            cluster.execute(f"UPDATE kustom_hpp.runs SET timeline = 1 WHERE run = '{other.run_id}'", "ledger")
            assert may_send(await asyncio.wait_for(claim, 5))


async def test_rows_that_the_database_forgot_are_put_back(own_cluster: Cluster) -> None:
    async with PostgresLedger(own_cluster.dsn("ledger")) as ledger, ledger.journal("here") as journal:
        for key in ("open", "created", "known"):
            assert await journal.claim(key, None, PAYLOAD) == Claimed()
        for key in ("created", "known"):
            await journal.settle(key, created(key, f"session of {key}"))
        before = sorted(await all_of(journal), key=lambda row: row[0].key)
        own_cluster.execute("DELETE FROM kustom_hpp.rows WHERE key <> 'known'", "ledger")
        await asyncio.to_thread(own_cluster.crash)
        await asyncio.to_thread(own_cluster.start)
        assert sorted(await all_of(journal), key=lambda row: row[0].key) == before


@pytest.mark.parametrize("taken", ["run = 'another'", "run = 'another', state = 'failed', note = 'by a person'"])
async def test_a_row_that_another_run_has_taken_is_not_put_back_and_not_sent(own_cluster: Cluster, taken: str) -> None:
    dsn = own_cluster.dsn("ledger")
    async with PostgresLedger(dsn) as ledger, ledger.journal("here") as journal:
        claim = await journal.claim("a", None, PAYLOAD)
        own_cluster.execute(f"UPDATE kustom_hpp.rows SET {taken}", "ledger")
        await asyncio.to_thread(own_cluster.crash)
        await asyncio.to_thread(own_cluster.start)
        await journal.doubts()
        assert not may_send(claim)
        assert own_cluster.execute("SELECT run FROM kustom_hpp.rows", "ledger") == [("another",)]


async def test_the_lease_is_renewed_without_operations(cluster: Cluster, ledger_dsn: str, scope: str) -> None:
    async with PostgresLedger(ledger_dsn, lease=3, beat=0.2) as ledger, ledger.journal(scope) as journal:
        claim = await journal.claim("a", None, PAYLOAD)
        query = "SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM kustom_hpp.runs"
        await asyncio.sleep(3.3)
        [[left]] = cluster.execute(f"{query} WHERE run = '{journal.run_id}'", "ledger")
        assert 1 < left <= 3
        assert may_send(claim)


# The pace


async def test_a_pace_holds_for_all_ledgers_together(ledger_dsn: str, scope: str) -> None:
    async with PostgresLedger(ledger_dsn) as one, PostgresLedger(ledger_dsn) as two:
        paces = [one.pace(50, merchant=scope), two.pace(50, merchant=scope)]
        started = time.monotonic()
        await asyncio.gather(*(pace.acquire() for pace in paces for _ in range(25)))
        # 50 starts at 50 a second; a quarter of a second's worth may start at once.
        assert 0.7 < time.monotonic() - started < 3


async def test_a_pace_keeps_its_deadline(ledger: PostgresLedger, scope: str) -> None:
    pace = ledger.pace(1, merchant=scope)
    await pace.acquire()
    with pytest.raises(errors.DeadlineExceededError):
        await pace.acquire(time.monotonic() + 0.1)


async def test_a_process_that_never_had_the_database_starts_once_a_second() -> None:
    ledger = PostgresLedger(f"postgresql://tests@127.0.0.1:{free_port()}/nowhere")
    pace = ledger.pace(1000)
    started = time.monotonic()
    await pace.acquire()
    await pace.acquire()
    assert 1 <= time.monotonic() - started < 5
    assert pace.statements == 0
    await ledger.aclose()


@pytest.mark.slow
async def test_without_the_database_all_processes_together_keep_the_rate(
    ledger_dsn: str, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace_module, "_PATIENCE", 0.2)
    starts = list[float]()

    async def call(pace: hpp.Pace, until: float) -> None:
        while time.monotonic() < until:
            starts.append(await pace.acquire())

    async with PostgresLedger(ledger_dsn) as one, PostgresLedger(ledger_dsn) as two:
        paces = [ledger.pace(40, merchant=scope) for ledger in (one, two)]
        end = time.monotonic() + 8
        calls = asyncio.gather(*(call(pace, end) for pace in paces for _ in range(8)))
        await asyncio.sleep(5)
        async with await psycopg.AsyncConnection.connect(ledger_dsn) as connection:
            query = "SELECT FROM kustom_hpp.rate_limits WHERE merchant = %s FOR UPDATE"
            await connection.execute(query, [scope])
            blocked = time.monotonic()
            await asyncio.sleep(2)
        await calls
    without = [start for start in starts if blocked + 0.3 < start < blocked + 2]
    assert 0.5 * 40 * 1.7 < len(without) <= 40 * 1.7 + 2


async def test_a_429_slows_the_process_down(ledger: PostgresLedger, scope: str) -> None:
    pace = ledger.pace(40, merchant=scope)
    start = await pace.acquire()
    pace.record_response(start, throttled=True, limit=hpp.RateLimit(limit=40, window=1.0, remaining=0))
    assert pace.rate == pytest.approx(28, rel=0.01)


# Optional means absent


def test_without_psycopg_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["psycopg"] = None
from kustom_hpp import batch
try:
    batch.PostgresLedger("postgresql://localhost/x")
except ImportError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "PostgresLedger needs psycopg 3: pip install 'kustom_hpp[postgres]'\n"


def test_importing_the_batch_loads_no_psycopg() -> None:
    code = "import sys, kustom_hpp.batch; sys.exit('psycopg' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
