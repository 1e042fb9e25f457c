"""kill -9 at any moment of a batch, and what the next run makes of it.

    python -m tests.batch.kills [--kills 200] [--seed 1]         # the test suite does 3

A child process runs a batch of 300 rows at concurrency 32 over an SqliteJournal, against a sandbox in this process, and is
killed at a random moment; some are killed a second time, while they resume. Then the batch is resumed here. Judged by the
sandbox's record: no row lost, no order with two sessions, no wrong id, no more rows in doubt per kill than were in flight.
In which phases the rows were when they were killed is read from memory that the child shares. The exit code is 1 where a
promise was broken, or where no kill hit one of the phases.
"""

import argparse
import asyncio
import contextlib
import json
import mmap
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from attrs import define, field

import kustom_hpp as hpp
from kustom_hpp.batch import Claim, Claimed, ClaimedElsewhere, Outcome, OutcomeState, SqliteJournal, run
from kustom_hpp.sandbox import Sandbox
from tests.support.orders import rows, violations

ROWS = 300
CONCURRENCY = 32
T = TypeVar("T")
PHASES = ("claim", "flight", "settle")
_TWICE = 0.2
"""Of the batches are killed a second time."""


@define(kw_only=True)
class Report:
    """What came of it."""

    kills: int = 0
    batches: int = 0
    hit: Counter[str] = field(factory=Counter)
    """How many kills hit at least one row in a phase."""
    rows_hit: Counter[str] = field(factory=Counter)
    most_in_doubt: int = 0
    in_doubt: int = 0
    broken: list[str] = field(factory=list)

    def __str__(self) -> str:
        width = max(self.rows_hit.values(), default=1)
        lines = [f"{self.kills} kills in {self.batches} batches of {ROWS} rows"]
        for phase in PHASES:
            bar = "#" * round(40 * self.rows_hit[phase] / width)
            lines.append(f"  {phase:7} {self.hit[phase]:4} kills hit {self.rows_hit[phase]:5} rows  {bar}")
        lines.append(
            f"in doubt: {self.in_doubt} rows, at most {self.most_in_doubt} in a batch; broken promises: {len(self.broken)}"
        )
        return "\n".join([*lines, *(f"  BROKEN: {sentence}" for sentence in self.broken[:50])])


# The child.


class Phases:
    """How many rows are in which phase: bytes in a file, which outlive the process."""

    def __init__(self, path: str) -> None:
        with Path(path).open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), len(PHASES))

    @contextlib.contextmanager
    def within(self, phase: str) -> Iterator[None]:
        place = PHASES.index(phase)
        self._shared[place] += 1
        try:
            yield
        finally:
            self._shared[place] -= 1

    def until_done(self, phase: str, future: asyncio.Future[T]) -> asyncio.Future[T]:
        stack = contextlib.ExitStack()
        stack.enter_context(self.within(phase))
        future.add_done_callback(lambda _: stack.close())
        return future


class Watched(SqliteJournal):
    """The journal, with its phases."""

    phases: Phases

    def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> asyncio.Future[Claim]:
        return self.phases.until_done("claim", super().claim(key, order, digest, force=force))

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[ClaimedElsewhere | None]:
        return self.phases.until_done("settle", super().settle(key, outcome))


class Forgetful(SqliteJournal):
    """The control: a journal that records nothing and says yes to every claim."""

    phases: Phases

    def claim(self, key: str, order: str | None, digest: bytes, **_: bool) -> asyncio.Future[Claim]:
        return _done(Claimed())

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[ClaimedElsewhere | None]:
        return _done(None)


def _done(value: T) -> asyncio.Future[T]:
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


async def child(order: dict[str, str]) -> None:
    """Run the batch, and write a line for every outcome that is handed out."""
    phases = Phases(order["phases"])
    async with (
        hpp.HPPClient(order["api_key"], base_url=order["base_url"]) as client,
        JOURNALS[order["class"]](order["journal"], scope="kills") as journal,
    ):
        journal.phases = phases

        async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
            with phases.within("flight"):
                return await client.create_session(request)

        items = rows(order["base_url"], ROWS, order["prefix"])
        async with run(create, items, concurrency=CONCURRENCY, journal=journal) as outcomes:
            async for outcome in outcomes:
                reported = [outcome.key, str(outcome.state), outcome.session.session_id if outcome.session else None]
                # No buffer of ours: what was handed out before the kill is known.
                os.write(1, f"{json.dumps(reported)}\n".encode())


JOURNALS: dict[str, type[Watched | Forgetful]] = {"watched": Watched, "forgetful": Forgetful}


# The parent.


class Killer:
    """Runs batches, kills them, and judges."""

    def __init__(self, sandbox: Sandbox, folder: Path, seed: int, *, journal: str = "watched") -> None:
        self.sandbox, self.folder, self.journal = sandbox, folder, journal
        self.dice = random.Random(seed)
        self.report = Report()

    async def batch(self) -> None:
        """One batch: killed once or twice, then resumed."""
        report, record = self.report, self.sandbox.record
        report.batches += 1
        prefix, before = f"batch{report.batches}", report.kills
        record.clear()
        reported: dict[str, tuple[str, str | None]] = {}
        for _ in range(2 if self.dice.random() < _TWICE else 1):
            # The moment of a POST is a moment of flight: a few milliseconds later it may be any.
            reported |= await self.interrupt(prefix, [(0, self.dice.uniform(0, 0.02)), (signal.SIGKILL, 60.0)])
        await self.sandbox.wait_until_idle(30)
        outcomes = await self.resume(prefix)
        await self.sandbox.wait_until_idle(30)
        base_url = self.sandbox.base_url
        broken = list(violations(outcomes, record.created, [row.key for row in rows(base_url, ROWS, prefix)]))
        ended = {outcome.key: outcome for outcome in outcomes}
        for key, (state, identity) in reported.items():
            now = ended[key]
            if (str(now.state), now.session and now.session.session_id) != (state, identity):
                broken.append(f"{key}: reported as {state} {identity} before the kill, and as {now.state} after it")
        doubts = sum(outcome.state is OutcomeState.IN_DOUBT for outcome in outcomes)
        if doubts > CONCURRENCY * (report.kills - before):
            broken.append(f"{prefix}: {doubts} rows in doubt after {report.kills - before} kills")
        broken += [f"{outcome.key} failed: {outcome.error!r}" for outcome in outcomes if outcome.state == "failed"]
        report.in_doubt += doubts
        report.most_in_doubt = max(report.most_in_doubt, doubts)
        report.broken += broken

    async def interrupt(self, prefix: str, signals: list[tuple[int, float]]) -> dict[str, tuple[str, str | None]]:
        """Run the child, and at a random moment send it signals, each followed by a wait; return what it handed out."""
        phases = self.folder / "phases"
        phases.write_bytes(bytes(len(PHASES)))
        order = {
            "api_key": self.sandbox.api_key,
            "base_url": self.sandbox.base_url,
            "journal": str(self.folder / f"{prefix}.db"),
            "phases": str(phases),
            "prefix": prefix,
            "class": self.journal,
        }
        record = self.sandbox.record
        posts = record.counts.posts
        moment = posts + self.dice.randrange(1, max(2, ROWS - posts))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.batch.kills", "--child", json.dumps(order), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        reading = asyncio.create_task(process.stdout.read())
        ending = asyncio.create_task(process.wait())
        reached = asyncio.create_task(record.wait_for(lambda seen: seen.counts.posts >= moment, 30))
        await asyncio.wait([reached, ending], return_when=asyncio.FIRST_COMPLETED)
        for number, seconds in signals:
            if process.returncode is None:
                process.send_signal(number)
            await asyncio.wait([ending], timeout=seconds)
        await ending
        reached.cancel()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await reached
        if process.returncode == -9:
            self.report.kills += 1
            for phase, number in zip(PHASES, phases.read_bytes(), strict=True):
                self.report.rows_hit[phase] += number
                self.report.hit[phase] += bool(number)
        elif process.returncode:
            self.report.broken.append(f"{prefix}: the child ended with {process.returncode}")
        lines = (await reading).decode().splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        return {key: (state, identity) for key, state, identity in whole}

    async def resume(self, prefix: str) -> list[Outcome]:
        async with (
            hpp.HPPClient(self.sandbox.api_key, base_url=self.sandbox.base_url) as client,
            SqliteJournal(self.folder / f"{prefix}.db", scope="kills") as journal,
        ):
            items = rows(self.sandbox.base_url, ROWS, prefix)
            async with run(client.create_session, items, concurrency=CONCURRENCY, journal=journal) as outcomes:
                return [outcome async for outcome in outcomes]


async def kill(kills: int, seed: int, *, journal: str = "watched") -> Report:
    """Kill so many times, and judge."""
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox() as sandbox:
            killer = Killer(sandbox, Path(folder), seed, journal=journal)
            while killer.report.kills < kills and not killer.report.broken:
                await killer.batch()
            return killer.report


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.batch.kills")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(child(json.loads(options.child)))
        return 0
    report = asyncio.run(kill(options.kills, options.seed))
    print(report)
    return int(bool(report.broken) or any(not report.hit[phase] for phase in PHASES))


if __name__ == "__main__":
    sys.exit(main())
