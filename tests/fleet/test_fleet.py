"""A fleet on a PostgreSQL of our own: what its promises are worth when workers and the database die."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

import kustom_hpp as hpp
from kustom_hpp import errors
from kustom_hpp.batch import OutcomeState, PostgresLedger
from kustom_hpp.integrations.procrastinate import CHUNK, Fleet
from kustom_hpp.pace import Pace
from kustom_hpp.sandbox import Sandbox
from tests.fleet.crashes import crash
from tests.support.orders import request
from tests.support.postgres import Cluster

_NUMBERS = itertools.count()


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    """An empty database."""
    name = f"fleet_{next(_NUMBERS)}"
    yield cluster.create_database(name)
    cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


def fleet_of(dsn: str, *sandboxes: Sandbox, **settings: object) -> Fleet:
    """A fleet whose merchants are "0", "1" and so on, each with a sandbox."""

    def client_of(merchant: str, pace: Pace | None) -> hpp.HPPClient:
        sandbox = sandboxes[int(merchant)]
        return hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, pace=pace)

    async def request_of(client: hpp.HPPClient, key: str) -> hpp.CreateSessionRequest:
        if key.startswith("invalid"):
            raise errors.InvalidRequestError(problems=(("payment_session_url", "is missing"),))
        return request(str(client.settings.base_url).rstrip("/"), key)

    return Fleet(dsn, client_of, request_of, **settings)


@asynccontextmanager
async def working(fleet: Fleet, *merchants: str) -> AsyncIterator[None]:
    """A worker in this process."""
    task = asyncio.create_task(fleet.work(merchants, install_signal_handlers=False))
    try:
        yield
    finally:
        fleet.drain()
        await task


async def test_ids_go_in_and_outcomes_come_out(dsn: str, sandbox: Sandbox) -> None:
    shop, worker = fleet_of(dsn, sandbox), fleet_of(dsn, sandbox)
    await shop.create_schema()
    await shop.create_schema()  # which changes nothing
    keys = [f"row-{number}" for number in range(2 * CHUNK + 1)]
    async with shop:
        assert await shop.enqueue("0", [*keys, "invalid-1"], batch="today") == len(keys) + 1
        async with working(worker, "0"):
            outcomes = {outcome.key: outcome async for outcome in shop.outcomes("0", batch="today", poll=0.05)}
    made = {one.payment_session_url.rpartition("/")[2]: one.session_id for one in sandbox.record.created}
    assert set(outcomes) == {*keys, "invalid-1"}
    assert {key: outcomes[key].session.session_id for key in keys} == made
    assert len(sandbox.record.created) == len(keys)
    assert outcomes["invalid-1"].state is OutcomeState.FAILED
    assert "is missing" in str(outcomes["invalid-1"].error)


async def test_ids_that_are_enqueued_again_are_not_sent_again(dsn: str, sandbox: Sandbox) -> None:
    shop, worker = fleet_of(dsn, sandbox), fleet_of(dsn, sandbox)
    await shop.create_schema()
    async with shop, working(worker, "0"):
        for batch in ("one", "two"):
            await shop.enqueue("0", ["a", "b"], batch=batch)
            outcomes = [outcome async for outcome in shop.outcomes("0", batch=batch, poll=0.05)]
            assert sorted(outcome.key for outcome in outcomes) == ["a", "b"]
    assert len(sandbox.record.created) == 2


async def test_the_queue_holds_ids_and_no_secret(cluster: Cluster, dsn: str, sandbox: Sandbox) -> None:
    shop = fleet_of(dsn, sandbox)
    await shop.create_schema()
    async with shop:
        await shop.enqueue("0", ["a"], batch="today")
        assert [(line["merchant"], line["todo"]) for line in await shop.status()] == [("0", 1)]
    [[arguments]] = cluster.execute("SELECT args FROM procrastinate_jobs", dsn.rpartition("/")[2].partition("?")[0])
    assert arguments == {"merchant": "0", "ids": ["a"], "batch": "today"}


async def test_a_small_merchant_does_not_wait_behind_a_big_one(dsn: str) -> None:
    async with Sandbox() as big, Sandbox() as small:
        shop, worker = fleet_of(dsn, big, small), fleet_of(dsn, big, small, rate={"0": 20.0})
        await shop.create_schema()
        async with shop:
            await shop.enqueue("0", [f"row-{number}" for number in range(2000)])
            await shop.enqueue("1", ["a"])
            started = time.monotonic()
            async with working(worker, "0", "1"):
                await small.record.wait_for(lambda record: len(record.created) == 1, 30)
                assert time.monotonic() - started < 5
        assert len(big.record.created) < 2000


async def test_a_merchant_whose_key_is_refused_stops_no_other(dsn: str) -> None:
    async with Sandbox() as one, Sandbox() as two:
        one.fault("status_401")
        shop, worker = fleet_of(dsn, one, two), fleet_of(dsn, one, two)
        await shop.create_schema()
        async with shop:
            for merchant in "01":
                await shop.enqueue(merchant, [f"row-{number}" for number in range(300)])
            async with working(worker, "0", "1"):
                await two.record.wait_for(lambda record: len(record.created) == 300, 30)
                await asyncio.sleep(1)
            assert {line["merchant"]: line["todo"] for line in await shop.status()} == {"0": 3, "1": 0}
        assert one.record.created == ()
        assert one.record.counts.posts < 100


async def test_workers_that_die(cluster: Cluster, dsn: str) -> None:
    """A share of what `python -m tests.fleet.crashes` does whole."""
    report = await crash(cluster, dsn, rows=800, workers=2, kills=1, terminations=1, crashes=0)
    assert report.broken == []
    assert (report.kills, report.terminations) == (1, 1)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_database_that_crashes() -> None:
    with Cluster() as cluster:
        report = await crash(
            cluster, cluster.create_database("fleet"), rows=4000, workers=3, kills=4, terminations=3, crashes=1
        )
    assert report.broken == []


async def test_a_worker_without_tables_says_so_instead_of_waiting(dsn: str, sandbox: Sandbox) -> None:
    fleet = fleet_of(dsn, sandbox)
    with pytest.raises(errors.JournalError, match="has no ledger"):
        await fleet.work(["0"], install_signal_handlers=False)
    await PostgresLedger(dsn).create_schema()
    with pytest.raises(errors.JournalError, match="has no queue"):
        await fleet.work(["0"], install_signal_handlers=False)
    await fleet.create_schema()
    async with working(fleet, "0"), asyncio.timeout(10):
        while not fleet._queues:
            await asyncio.sleep(0.01)
