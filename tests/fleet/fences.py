"""A worker that sleeps past its lease, while a person lets another run send its rows.

    python -m tests.fleet.fences [--trials 30] [--unguarded] [--report]

The worker is stopped (SIGSTOP) while most of its claimed rows wait for their turn at a rate limit. When its lease is over,
another run resolves every row in doubt with SEND_AGAIN and sends it. Then the worker goes on (SIGCONT). Judged by the
sandbox's record: it must send none of the rows that it had not sent. With --unguarded it does not ask its lease before it
sends; then the exit code is 1 unless it sent some. With --report nobody resolves anything: no row whose response had
come may stay in doubt.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections import Counter
from typing import Any

from attrs import define, field

import kustom_hpp as hpp
from kustom_hpp import batch
from kustom_hpp.batch import OutcomeState, PostgresLedger, Verdict
from kustom_hpp.sandbox import Sandbox
from tests.support.orders import rows
from tests.support.postgres import Cluster

ROWS = 60
CONCURRENCY = 40
LEASE = 1.5
"""Seconds; the worker is stopped for longer."""


@define(kw_only=True)
class Report:
    """What came of it."""

    trials: int = 0
    unsent: int = 0
    """Rows that the worker had claimed and not sent when it was stopped, and that another run sent."""
    sent_late: int = 0
    """Those of them that the worker sent afterwards."""
    doubts: int = 0
    """With --report: rows in doubt at the end, although their sessions were made and the worker lived on."""
    broken: list[str] = field(factory=list)

    def __str__(self) -> str:
        return (
            f"{self.trials} trials: {self.sent_late} of {self.unsent} unsent rows were sent after SIGCONT; "
            f"{self.doubts} answered rows stayed in doubt; {len(self.broken)} promises broken {self.broken[:3]}"
        )


async def sleep_past_the_lease(dsn: str, scope: str, report: Report, *, guarded: bool, resend: bool) -> None:
    """One trial."""
    async with Sandbox(latency=0.05) as sandbox:
        order = {"dsn": dsn, "scope": scope, "base_url": sandbox.base_url, "key": sandbox.api_key, "guarded": guarded}
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.fleet.fences", "--child", json.dumps(order), stdout=asyncio.subprocess.DEVNULL
        )
        await sandbox.record.wait_for(lambda record: record.counts.posts >= ROWS // 4, 30)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE + 0.7)
        await sandbox.wait_until_idle(30)
        sent = {post.payment_session_url for post in sandbox.record.posts}
        async with (
            PostgresLedger(dsn) as ledger,
            ledger.journal(scope) as journal,
            hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client,
        ):
            items = list(rows(sandbox.base_url, ROWS))
            unsent = {item.request.payment_session_url for item in items} - sent
            doubts = {outcome.key for outcome in await journal.doubts()}
            again = [item for item in items if item.key in doubts and item.request.payment_session_url in unsent]
            if resend:
                for item in again:
                    await journal.resolve(item.key, Verdict.SEND_AGAIN)
                async with batch.run(client.create_session, again, journal=journal) as run:
                    states = Counter([outcome.state async for outcome in run])
                if states != {OutcomeState.CREATED: len(again)}:
                    report.broken.append(f"the second run ended {dict(states)}")
            worker.send_signal(signal.SIGCONT)
            code = await asyncio.wait_for(worker.wait(), 60)
            if code:
                report.broken.append(f"the worker ended with {code}")
            made = Counter(one.payment_session_url for one in sandbox.record.created)
            posts = Counter(post.payment_session_url for post in sandbox.record.posts)
            report.trials += 1
            if resend:
                report.unsent += len(again)
                report.sent_late += sum(posts[item.request.payment_session_url] > 1 for item in again)
            if guarded:
                report.broken += [f"{url}: {count} sessions" for url, count in made.items() if count > 1]
            if not resend:
                report.doubts += len(await journal.doubts())
            if missing := [item.key for item in items if not made[item.request.payment_session_url]]:
                report.broken.append(f"{len(missing)} rows have no session")


async def _child(order: dict[str, Any]) -> None:
    """The worker: its rows are claimed at once, and sent at 40 a second."""
    async with (
        PostgresLedger(order["dsn"], lease=LEASE, beat=LEASE / 3) as ledger,
        ledger.journal(order["scope"]) as journal,
        hpp.HPPClient(order["key"], base_url=order["base_url"], pace=hpp.Pace(40, burst=1)) as client,
    ):

        async def create(request: hpp.CreateSessionRequest, may_send: Any = None) -> hpp.Session:
            return await client.create_session(request, may_send=may_send if order["guarded"] else None)

        items = rows(order["base_url"], ROWS)
        async with batch.run(create, items, journal=journal, concurrency=CONCURRENCY) as run:
            async for outcome in run:
                print(outcome.key, outcome.state)


async def fence(dsn: str, trials: int, *, guarded: bool, resend: bool) -> Report:
    """Run trials."""
    await PostgresLedger(dsn).create_schema()
    report = Report()
    for number in range(trials):
        await sleep_past_the_lease(dsn, f"trial {number}", report, guarded=guarded, resend=resend)
    return report


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.fences")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--unguarded", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(_child(json.loads(options.child)))
        return 0
    with Cluster() as cluster:
        dsn = cluster.create_database("fences")
        report = asyncio.run(fence(dsn, options.trials, guarded=not options.unguarded, resend=not options.report))
    print(report)
    if options.unguarded:
        return int(not report.sent_late)
    return int(bool(report.broken or report.sent_late or report.doubts))


if __name__ == "__main__":
    sys.exit(main())
