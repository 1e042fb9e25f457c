"""Workers that are killed, and a database that crashes, while a fleet creates sessions.

    python -m tests.fleet.crashes [--rows 20000] [--workers 4] [--kills 20] [--terminate 0] [--database-crashes 1]

Workers are killed with SIGKILL (or ended with SIGTERM) at random moments and replaced at once. Judged by the sandbox's
record: no order has two sessions, none is missing, each CREATED row has its session, and no more rows are in doubt than
were in flight in the workers that were killed. The exit code is 1 if a promise was broken.
"""

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter

from attrs import define, field

from kustom_hpp.batch import Outcome, PostgresLedger, Scope
from kustom_hpp.sandbox import Sandbox
from tests.fleet.worker import WorkerOrder
from tests.support.orders import states, violations
from tests.support.postgres import Cluster

MERCHANT = "shop"


@define(kw_only=True)
class Report:
    """What came of it."""

    rows: int
    kills: int
    terminations: int
    crashes: int
    ended: Counter[str]
    in_doubt_per_kill: float
    seconds: float
    broken: list[str] = field(factory=list)

    def __str__(self) -> str:
        text = (
            f"{self.rows} rows in {self.seconds:.0f} s; {self.kills} kills, {self.terminations} SIGTERM, {self.crashes} "
            f"crashes of the database: {dict(self.ended)}; {self.in_doubt_per_kill:.1f} in doubt a kill; "
            f"{len(self.broken)} promises broken"
        )
        return "\n".join([text, *(f"  BROKEN: {sentence}" for sentence in self.broken[:20])])


async def crash(
    cluster: Cluster, dsn: str, *, rows: int, workers: int, kills: int, terminations: int, crashes: int, seed: int = 1
) -> Report:
    """Run a fleet through it, and judge."""
    started = time.monotonic()
    async with Sandbox() as sandbox:
        order = WorkerOrder(dsn=dsn, apis={MERCHANT: (sandbox.base_url, sandbox.api_key)})
        fleet = order.fleet()
        await fleet.create_schema()
        keys = [f"row-{number}" for number in range(rows)]
        async with fleet:
            await fleet.enqueue(MERCHANT, keys, batch="crash")
        processes = [order.start() for _ in range(workers)]
        try:
            await _disturb(sandbox, cluster, order, processes, rows, kills, terminations, crashes, random.Random(seed))
            async with fleet:
                async with asyncio.timeout(120):
                    while any(line["todo"] + line["doing"] for line in await fleet.status()):
                        await asyncio.sleep(0.2)
        finally:
            codes = await end_workers(processes)
        outcomes = await read_outcomes(dsn, order, keys)
        await sandbox.wait_until_idle(30)
        broken = list(violations(outcomes, sandbox.record.created, keys))
    ended = states(outcomes)
    if ended["in_doubt"] > order.concurrency * kills:
        broken.append(f"{ended['in_doubt']} rows in doubt after {kills} kills at concurrency {order.concurrency}")
    if failed := ended["failed"]:
        broken.append(f"{failed} rows failed, and the API refused none")
    broken += [f"a worker ended with {code}" for code in codes if code not in (0, -signal.SIGTERM)]
    return Report(
        rows=rows,
        kills=kills,
        terminations=terminations,
        crashes=crashes,
        ended=ended,
        in_doubt_per_kill=ended["in_doubt"] / max(1, kills),
        seconds=time.monotonic() - started,
        broken=broken,
    )


async def _disturb(  # noqa: PLR0917
    sandbox: Sandbox,
    cluster: Cluster,
    order: WorkerOrder,
    processes: "list[subprocess.Popen[bytes]]",
    rows: int,
    kills: int,
    terminations: int,
    crashes: int,
    dice: random.Random,
) -> None:
    """Kill, end and crash, at moments that are spread over the rows."""
    events = ["kill"] * kills + ["terminate"] * terminations + ["crash"] * crashes
    dice.shuffle(events)
    moments = sorted(dice.randrange(rows // 20, rows * 9 // 10) for _ in events)
    for event, moment in zip(events, moments, strict=True):
        async with asyncio.timeout(120):
            await sandbox.record.wait_for(lambda record, moment=moment: len(record.created) >= moment, 120)
        await asyncio.sleep(dice.uniform(0, 0.02))
        if event == "crash":
            await asyncio.to_thread(cluster.crash)
            await asyncio.sleep(dice.uniform(0.2, 1))
            await asyncio.to_thread(cluster.start)
            continue
        code = None
        while code is None or (event == "terminate" and code == -signal.SIGTERM):  # it had not begun to work yet
            process = processes.pop(dice.randrange(len(processes)))
            process.send_signal(signal.SIGKILL if event == "kill" else signal.SIGTERM)
            code = await asyncio.to_thread(process.wait, 60)
            processes.append(order.start())
        if code != (-signal.SIGKILL if event == "kill" else 0):
            raise AssertionError(f"a worker that got {event} ended with {code}")


async def end_workers(processes: "list[subprocess.Popen[bytes]]") -> list[int]:
    for process in processes:
        process.terminate()
    try:
        return list(await asyncio.gather(*(asyncio.to_thread(process.wait, 30) for process in processes)))
    finally:
        for process in processes:
            process.kill()


async def read_outcomes(dsn: str, order: WorkerOrder, keys: list[str]) -> list[Outcome]:
    """The outcomes in the ledger, once no lease of a killed worker holds a row."""
    settings = order.client(MERCHANT).settings
    async with PostgresLedger(dsn) as ledger, ledger.journal(Scope.of(settings, MERCHANT)) as journal:
        async with asyncio.timeout(order.lease + 10):
            while True:
                found = await journal.outcomes(keys)
                if None not in found.values():
                    return [outcome for outcome in found.values() if outcome is not None]
                await asyncio.sleep(0.2)


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.crashes")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--terminate", type=int, default=0)
    parser.add_argument("--database-crashes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with Cluster() as cluster:
        report = asyncio.run(
            crash(
                cluster,
                cluster.create_database("fleet"),
                rows=options.rows,
                workers=options.workers,
                kills=options.kills,
                terminations=options.terminate,
                crashes=options.database_crashes,
                seed=options.seed,
            )
        )
    print(report)
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
