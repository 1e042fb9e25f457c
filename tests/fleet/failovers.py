"""A failover to an asynchronous standby that is behind, while a fleet creates sessions.

    python -m tests.fleet.failovers [--runs 10] [--rows 3000] [--workers 4] [--behind 0.5] [--control]

The standby stops receiving for `--behind` seconds, then the primary is killed and the standby promoted: what the primary
acknowledged meanwhile is lost. The workers live on and put it back. Judged by the sandbox's record. With --control they do
not, and orders get two sessions: then the exit code is 1 unless there are more than 100 of them in a run.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections import Counter

from attrs import define, field

from kustom_hpp.sandbox import Sandbox
from tests.fleet.crashes import MERCHANT, end_workers, read_outcomes
from tests.fleet.worker import WorkerOrder
from tests.support.orders import states, violations
from tests.support.postgres import Cluster


@define(kw_only=True)
class Report:
    """What came of it."""

    rows: int
    lost: int
    """Commits of rows that the primary acknowledged and the standby did not have."""
    twice: int
    ended: Counter[str]
    seconds: float
    broken: list[str] = field(factory=list)

    def __str__(self) -> str:
        text = (
            f"{self.rows} rows in {self.seconds:.0f} s, {self.lost} sessions made that the standby did not know: "
            f"{dict(self.ended)}; {self.twice} orders twice; {len(self.broken)} promises broken"
        )
        return "\n".join([text, *(f"  BROKEN: {sentence}" for sentence in self.broken[:5])])


async def fail_over(*, rows: int, workers: int, behind: float, repairs: bool = True) -> Report:
    """Run a fleet through a failover, and judge."""
    started = time.monotonic()
    with Cluster() as primary, Cluster(primary) as standby:
        primary.create_database("fleet")
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        dsn = f"postgresql://tests@{hosts}/fleet?target_session_attrs=read-write&connect_timeout=5"
        async with Sandbox() as sandbox:
            order = WorkerOrder(dsn=dsn, apis={MERCHANT: (sandbox.base_url, sandbox.api_key)}, repairs=repairs)
            fleet = order.fleet()
            await fleet.create_schema()
            keys = [f"row-{number}" for number in range(rows)]
            async with fleet:
                await fleet.enqueue(MERCHANT, keys)
            processes = [order.start() for _ in range(workers)]
            try:
                await sandbox.record.wait_for(lambda record: len(record.created) > rows // 3, 60)
                lost = await _switch(primary, standby, behind, sandbox)
                async with fleet, asyncio.timeout(120):
                    while any(line["todo"] + line["doing"] for line in await fleet.status()):
                        await asyncio.sleep(0.2)
            finally:
                await end_workers(processes)
            outcomes = await read_outcomes(dsn, order, keys)
            await sandbox.wait_until_idle(30)
            made = sandbox.record.created
            broken = list(violations(outcomes, made, keys))
    counts = Counter(one.payment_session_url for one in made)
    return Report(
        rows=rows,
        lost=lost,
        twice=sum(count > 1 for count in counts.values()),
        ended=states(outcomes),
        seconds=time.monotonic() - started,
        broken=broken,
    )


async def _switch(primary: Cluster, standby: Cluster, behind: float, sandbox: Sandbox) -> int:
    """Fail over; return how many sessions were made while the standby received nothing."""
    [[sender]] = primary.execute("SELECT pid FROM pg_stat_replication")
    os.kill(sender, signal.SIGSTOP)
    before = len(sandbox.record.created)
    await asyncio.sleep(behind)
    await asyncio.to_thread(primary.crash)
    lost = len(sandbox.record.created) - before
    await asyncio.to_thread(standby.promote)
    return lost


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.failovers")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--behind", type=float, default=0.5)
    parser.add_argument("--control", action="store_true")
    options = parser.parse_args()
    failed = False
    for _ in range(options.runs):
        report = asyncio.run(
            fail_over(rows=options.rows, workers=options.workers, behind=options.behind, repairs=not options.control)
        )
        print(report, flush=True)
        failed = failed or (report.twice <= 100 if options.control else bool(report.broken))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
