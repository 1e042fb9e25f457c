"""A batch in bad weather: three requests of ten meet a random fault of the sandbox's table.

    python -m tests.batch.chaos [--rows 20000] [--seed 1]        # the test suite runs 400 rows

Judged by the sandbox's record: CREATED has exactly its session, FAILED has none, no session is unexplained; and a second
run over the same journal tells the same and sends nothing but what was not processed. The exit code is 1 where a promise
was broken.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from attrs import define, field

import kustom_hpp as hpp
from kustom_hpp.batch import Outcome, OutcomeState, SqliteJournal, run
from kustom_hpp.sandbox import Sandbox, Stage
from tests.support.faults import ALL_FAULTS as FAULTS
from tests.support.faults import find_fault
from tests.support.orders import rows, states, violations

PROBABILITY = 0.3
_SET = {
    **dict.fromkeys(("big_body", "gzip_bomb", "deflate_bomb", "error_huge", "error_bomb"), "~mib=2"),
    # A second answer that comes later may land between the next request and its answer on the same connection, and nothing
    # in it tells the two apart: the one mix-up that nobody can see (aiohttp#13656). At once, it is seen.
    "double_answer": "~late=0",
}
_LEFT_OUT = {
    "status_401": "stops a run, as it should",
    "retry_after_huge": "asks to wait for longer than a run has patience: stops it, as it should",
}
WEATHER = tuple(
    name + _SET.get(name, "")
    for name, kind in FAULTS.items()
    # What bites before there is a request cannot be drawn for one.
    if kind.stage is not Stage.CONNECTION and name not in _LEFT_OUT
)


@define(kw_only=True)
class Report:
    """What came of it."""

    rows: int
    ended: Counter[str]
    met: int
    """Requests that met a fault."""
    posts: int
    doubts_with_a_session: int
    seconds: float
    broken: list[str] = field(factory=list)

    def __str__(self) -> str:
        reported = (
            f"{self.rows} rows in {self.seconds:.0f} s, {self.posts} POSTs, {self.met} of them met one of {len(WEATHER)} "
            f"faults: {dict(self.ended)}; {self.doubts_with_a_session} of those in doubt had a session; "
            f"{len(self.broken)} unexplained"
        )
        return "\n".join([reported, *(f"  BROKEN: {sentence}" for sentence in self.broken[:50])])


async def chaos(count: int, seed: int, *, read: float = 1.0) -> Report:
    """Run a batch through it, and judge."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox() as sandbox:
            rule = sandbox.faults.add_random(map(find_fault, WEATHER), probability=PROBABILITY, seed=seed)
            async with SqliteJournal(Path(folder) / "journal.db", scope="chaos") as journal:
                outcomes = await _run(sandbox, journal, count, read)
            await sandbox.wait_until_idle(30)
            posts, made = sandbox.record.counts.posts, sandbox.record.created
            keys = [row.key for row in rows(sandbox.base_url, count)]
            broken = list(violations(outcomes, made, keys))
            met = rule.triggered
            sandbox.faults.clear()
            async with SqliteJournal(Path(folder) / "journal.db", scope="chaos") as journal:
                second_run = await _run(sandbox, journal, count, read)
            if sandbox.record.counts.posts != posts:
                broken.append(f"a second run sent {sandbox.record.counts.posts - posts} rows again")
            broken += _differences(outcomes, second_run)
    exists = {one.payment_session_url.rpartition("/")[2] for one in made}
    doubts = sum(outcome.state is OutcomeState.IN_DOUBT and outcome.key in exists for outcome in outcomes)
    return Report(
        rows=count,
        ended=states(outcomes),
        met=met,
        posts=posts,
        doubts_with_a_session=doubts,
        seconds=time.monotonic() - began,
        broken=broken,
    )


async def _run(sandbox: Sandbox, journal: SqliteJournal, count: int, read: float) -> list[Outcome]:
    # As quick as faults allow: the waits are not tested here. The pace is given: a rate that is learned from 429s
    # which have no reason would be a crawl.
    retry = hpp.RetrySettings(initial=0.01, maximum=0.05)
    async with hpp.HPPClient(
        sandbox.api_key,
        base_url=sandbox.base_url,
        timeouts=hpp.Timeouts(connect=10, read=read),
        retry=retry,
        pace=Untaught(),
    ) as client:
        run_ = run(
            client.create_session, rows(sandbox.base_url, count), journal=journal, concurrency=64, max_doubts=1000
        )
        async with run_ as outcomes:
            return [outcome async for outcome in outcomes]


class Untaught(hpp.Pace):
    """A pace that learns nothing."""

    def record_response(self, *_: object, **__: object) -> None:
        pass


def _differences(first: list[Outcome], second: list[Outcome]) -> list[str]:
    before = {outcome.key: outcome for outcome in first}
    return [
        f"{outcome.key}: {before[outcome.key].state}, and a second run tells {outcome.state}"
        for outcome in second
        if (outcome.state, outcome.session) != (before[outcome.key].state, before[outcome.key].session)
    ]


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.batch.chaos")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    report = asyncio.run(chaos(options.rows, options.seed))
    print(report)
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
