"""Outages in the middle of a batch: an API that answers 500 to all, and a server that is gone.

    python -m tests.batch.outage [--rows 10000] [--gone 20]      # the test suite: 1500 rows, 2 seconds

500 from row 1,000 on (a tenth of the rows): at most max_doubts + concurrency rows are in doubt, the rest is untouched, and
when the API is back a second run completes the batch. A server that is gone for a while: no row fails, every row that was
not on its way then gets its session, in one run. The exit code is 1 where a promise was broken.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from attrs import define, field

import kustom_hpp as hpp
from kustom_hpp.batch import BatchRun, Outcome, OutcomeState, SqliteJournal, run
from kustom_hpp.errors import BatchStoppedError
from kustom_hpp.sandbox import Sandbox
from tests.support.orders import rows, states, violations

CONCURRENCY = 32
MAX_DOUBTS = 10


@define(kw_only=True)
class Report:
    """What came of it."""

    reported: list[str] = field(factory=list)
    broken: list[str] = field(factory=list)

    def __str__(self) -> str:
        return "\n".join([*self.reported, *(f"  BROKEN: {sentence}" for sentence in self.broken or ["nothing"])])


def _client(sandbox: Sandbox) -> hpp.HPPClient:
    return hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url)


def _run(client: hpp.HPPClient, base_url: str, count: int, journal: SqliteJournal) -> BatchRun:
    items = rows(base_url, count)
    return run(client.create_session, items, journal=journal, concurrency=CONCURRENCY, max_doubts=MAX_DOUBTS)


async def all_500(count: int) -> Report:
    """An API that answers 500 from a tenth of the rows on."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        async with Sandbox() as sandbox:
            sandbox.fault("status_500", skip=count // 10)
            first: list[Outcome] = []
            stopped = None
            async with _client(sandbox) as client, SqliteJournal(path, scope="outage") as journal:
                try:
                    async with _run(client, sandbox.base_url, count, journal) as outcomes:
                        async for outcome in outcomes:
                            first.append(outcome)  # noqa: PERF401 - what came before the stop counts
                except BatchStoppedError as error:
                    stopped = error
            await sandbox.wait_until_idle()
            ended, posts = states(first), sandbox.record.counts.posts
            report.reported.append(f"500 from row {count // 10} on: {dict(ended)}, {posts} POSTs; {stopped}")
            keys = [row.key for row in rows(sandbox.base_url, count)]
            report.broken += violations(first, sandbox.record.created, keys, complete=False)
            if stopped is None:
                report.broken.append("it did not stop")
            if ended["in_doubt"] > MAX_DOUBTS + CONCURRENCY or ended["failed"]:
                report.broken.append(f"{ended['in_doubt']} rows in doubt, {ended['failed']} failed")
            if posts != len(first):
                report.broken.append(f"{posts} POSTs for {len(first)} rows: the rest is not untouched")
            sandbox.faults.clear()
            async with (
                _client(sandbox) as client,
                SqliteJournal(path, scope="outage") as journal,
                _run(client, sandbox.base_url, count, journal) as outcomes,
            ):
                second = [outcome async for outcome in outcomes]
            await sandbox.wait_until_idle()
            report.reported.append(
                f"and when it is back: {dict(states(second))}, {sandbox.record.counts.posts - posts} POSTs"
            )
            report.broken += violations(second, sandbox.record.created, keys)
            if states(second) != {"created": count - ended["in_doubt"], "in_doubt": ended["in_doubt"]}:
                report.broken.append(f"the second run ended with {dict(states(second))}")
    return report


async def gone(count: int, seconds: float) -> Report:
    """A server that is gone for a while."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox() as before:
            base_url = before.base_url
            after = Sandbox(port=int(base_url.rpartition(":")[2]), api_key=before.api_key)
            async with _client(before) as client, SqliteJournal(Path(folder) / "journal.db", scope="outage") as journal:

                async def vanish() -> None:
                    await before.record.wait_for(lambda seen: seen.counts.created >= count // 10, 60)
                    await before.aclose()
                    await asyncio.sleep(seconds)
                    await after.open()

                vanishing = asyncio.create_task(vanish())
                began = time.monotonic()
                try:
                    async with _run(client, base_url, count, journal) as outcomes:
                        ended = [outcome async for outcome in outcomes]
                    took = time.monotonic() - began
                    await vanishing
                    await after.wait_until_idle()
                finally:
                    vanishing.cancel()
                    await asyncio.wait([vanishing])
                    await after.aclose()
            made = [*before.record.created, *after.record.created]
            keys = [row.key for row in rows(base_url, count)]
            report.reported.append(f"gone for {seconds:g} s: {dict(states(ended))} in {took:.0f} s")
            report.broken += violations(ended, made, keys)
            doubts = sum(outcome.state is OutcomeState.IN_DOUBT for outcome in ended)
            if doubts > CONCURRENCY or states(ended)["failed"]:
                report.broken.append(f"{dict(states(ended))}: more than what was on its way")
            if not after.record.created:
                report.broken.append("it never came back: nothing was tested")
    return report


def main() -> int:
    """Run both, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.batch.outage")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--gone", type=float, default=20.0)
    options = parser.parse_args()
    broken = False
    for report in (asyncio.run(all_500(options.rows)), asyncio.run(gone(options.rows, options.gone))):
        print(report, flush=True)
        broken = broken or bool(report.broken)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
