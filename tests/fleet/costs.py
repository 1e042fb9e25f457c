"""The cost of the ledger next to SqliteJournal and no journal: `python -m tests.fleet.costs [--rows 4000] [--rounds 3]`.

`batch.run` with a create that costs nothing, at concurrency 32; then claims at 40 a second. The exit code is 1 if the ledger
makes less than 0.35 of SqliteJournal's rows a second in the median, needs more than 0.3 statements a row, or more than 10 ms
for a claim (99 of 100).
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kustom_hpp as hpp
from kustom_hpp import batch
from kustom_hpp.batch import OutcomeState, PostgresLedger, SqliteJournal
from tests.support.journal_contract import PAYLOAD, created
from tests.support.orders import rows
from tests.support.postgres import Cluster


async def rows_per_second(journal: Any, count: int) -> float:
    async def create(request: hpp.CreateSessionRequest, may_send: Any = None) -> hpp.Session:
        key = request.payment_session_url.rpartition("/")[2]
        return hpp.Session(session_id=key, redirect_url=f"https://pay.example/{key}")

    items = list(rows("https://api.example", count))
    started = time.perf_counter()
    async with batch.run(create, items, journal=journal, concurrency=32) as run:
        states = {outcome.state async for outcome in run}
    assert states == {OutcomeState.CREATED}
    return count / (time.perf_counter() - started)


async def claim_seconds(journal: Any, count: int = 400) -> list[float]:
    """The seconds of each claim, at 40 a second."""
    seconds: list[float] = []

    async def row(key: str) -> None:
        started = time.perf_counter()
        await journal.claim(key, None, PAYLOAD)
        seconds.append(time.perf_counter() - started)
        await asyncio.sleep(0.15)
        await journal.settle(key, created(key, f"session of {key}"))

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(row(f"claim-{number}"))
            await asyncio.sleep(1 / 40)
    return sorted(seconds)


async def measure(dsn: str, count: int, rounds: int) -> bool:
    """Measure and print; True if all figures are as they must be."""
    await PostgresLedger(dsn).create_schema()
    parts, trips = [], []
    for number in range(rounds):
        bare = await rows_per_second(None, count)
        with tempfile.TemporaryDirectory() as folder:
            async with SqliteJournal(Path(folder) / "journal.db", scope="costs") as journal:
                sqlite = await rows_per_second(journal, count)
        async with PostgresLedger(dsn) as ledger, ledger.journal(f"round {number}") as journal:
            before = await ledger._thread.submit(lambda database: database.round_trips)
            postgres = await rows_per_second(journal, count)
            after = await ledger._thread.submit(lambda database: database.round_trips)
        parts.append(postgres / sqlite)
        trips.append((after - before) / count)
        print(
            f"rows a second: {bare:,.0f} without a journal, {sqlite:,.0f} SqliteJournal, {postgres:,.0f} PostgresLedger"
        )
    async with PostgresLedger(dsn) as ledger, ledger.journal("claims") as journal:
        seconds = await claim_seconds(journal)
    slowest = seconds[int(len(seconds) * 0.99)]
    print(
        f"{statistics.median(parts):.2f} of SqliteJournal, {statistics.median(trips):.2f} statements a row; "
        f"a claim at 40 a second: {1000 * statistics.median(seconds):.1f} ms, 99 of 100 within {1000 * slowest:.1f} ms"
    )
    return statistics.median(parts) >= 0.35 and statistics.median(trips) <= 0.3 and slowest <= 0.01


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.costs")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with Cluster() as cluster:
        return int(not asyncio.run(measure(cluster.create_database("costs"), options.rows, options.rounds)))


if __name__ == "__main__":
    sys.exit(main())
