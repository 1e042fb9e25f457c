"""How well a client uses a merchant's quota, and how often it is told off: `python -m tests.quota [--rows N] [mode ...]`.

Many rows go through a pool of workers over `client.create_session`, against sandboxes with a quota. The ideal time is what
the quota itself takes: (rows - burst) / rate. For each mode it prints the time in ideal times, the part of all requests
that was answered 429, and what was lost: rows that failed, or were created twice, or more than the quota allows. The exit
code is 1 where one of them is more than the mode may have.

All modes run side by side in one event loop, idle most of the time: 2,000 rows at 40 a second take about 80 seconds.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence

from attrs import frozen

import kustom_hpp as hpp
from kustom_hpp.sandbox import MerchantRateLimit, Sandbox
from kustom_hpp.sandbox.limits import Announcement

WORKERS = 32


@frozen
class Mode:
    """What the client knows, what it is told, and what is asked of it then."""

    name: str
    announce: Announcement
    most_time: float
    """In ideal times."""
    most_throttled: float
    """Of all requests."""
    knows: bool = False
    """Whether the client is told the rate at the start."""
    shared: bool = False
    """Whether another client takes half of the quota once half of the rows are created."""


NO_BOUND = float("inf")
MODES = (
    Mode("told the rate", "headers", 1.03, 0.01, knows=True),
    Mode("told the rate, bare 429s", "bare", 1.03, 0.01, knows=True),
    Mode("x-ratelimit headers", "headers", 1.10, 0.03),
    Mode("Retry-After", "retry_after", 1.15, 0.05),
    Mode("bare 429s", "bare", 1.25, 0.10),
    Mode("shared: told the rate", "headers", NO_BOUND, NO_BOUND, knows=True, shared=True),
    Mode("shared: x-ratelimit headers", "headers", NO_BOUND, NO_BOUND, shared=True),
    Mode("shared: Retry-After", "retry_after", NO_BOUND, NO_BOUND, shared=True),
    Mode("shared: bare 429s", "bare", NO_BOUND, NO_BOUND, shared=True),
)


@frozen(kw_only=True)
class Result:
    """What came of one mode."""

    mode: Mode
    time: float
    """In ideal times."""
    throttled: float
    """Of all requests."""
    failures: list[str]
    """Rows that failed, and whatever else should not be."""

    @property
    def good(self) -> bool:
        """Whether the mode kept within its bounds, and no row failed."""
        in_bounds = self.time <= self.mode.most_time and self.throttled <= self.mode.most_throttled
        return in_bounds and not self.failures

    def row(self) -> str:
        """A line of the table."""
        figures = f"{self.time:6.3f} {_at_most(self.mode.most_time, '.2f')} {self.throttled:7.2%}"
        figures += f" {_at_most(self.mode.most_throttled, '.0%')} {len(self.failures):4}"
        return f"{self.mode.name:28} {figures}  {'ok' if self.good else 'MISSED'}"


def _at_most(bound: float, form: str) -> str:
    return f"{'' if bound == NO_BOUND else f'({bound:{form}})':>7}"


HEADING = f"{'mode':28} {'time (at most)':>14} {'429s (at most)':>15} {'lost':>4}"


async def create_all(client: hpp.HPPClient, rows: int, halfway: Callable[[], None] | None = None) -> list[str]:
    """Create all rows through a pool of workers that puts a throttled row back; the rows that failed."""
    waiting, failures, created = list(range(rows)), list[str](), 0

    async def work() -> None:
        nonlocal created
        while waiting:
            row = waiting.pop()
            try:
                await client.create_session(hpp.CreateSessionRequest(payment_session_url=client.order_url(str(row))))
            except hpp.RateLimitError:
                waiting.append(row)
                continue
            except hpp.HPPError as error:
                failures.append(f"row {row}: {error!r}")
            created += 1
            if created == rows // 2 and halfway is not None:
                halfway()

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return failures


async def play(mode: Mode, rows: int, rate: int) -> Result:
    """Create all rows under a quota."""
    async with (
        Sandbox(rate_limit=MerchantRateLimit(rate, announce=mode.announce)) as sandbox,
        hpp.HPPClient(
            sandbox.api_key, base_url=sandbox.base_url, pace=hpp.Pace(rate) if mode.knows else None
        ) as client,
    ):
        bucket = sandbox.rate_limit
        assert bucket is not None

        def halfway() -> None:
            bucket.other_client_rate = rate / 2

        begin = time.monotonic()
        failures = await create_all(client, rows, halfway if mode.shared else None)
        took, record = time.monotonic() - begin, sandbox.record
        throttled = sum(post.status == 429 for post in record.posts) / record.counts.posts
        created = [made.payment_session_url for made in record.created]
    if len(created) != rows or len(set(created)) != rows:
        failures.append(f"{rows} rows, {len(created)} sessions for {len(set(created))} of them")
    at = [made.at for made in record.created]
    failures += [f"more than the quota within a second: {most}" for most in [most_in_a_second(at)] if most > 2 * rate]
    time_taken = took / ideal_time(mode, rows, rate)
    return Result(mode=mode, time=time_taken, throttled=throttled, failures=failures)


def ideal_time(mode: Mode, rows: int, rate: int) -> float:
    """Seconds that the quota itself takes."""
    alone = (rows - rate) / rate
    # From the middle on half of the quota is left, so that its rows take twice the time.
    return alone + (rows - rows // 2) / rate if mode.shared else alone


def most_in_a_second(moments: Sequence[float]) -> int:
    """The most of these moments, which are in order, that lie within one second."""
    first = most = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] > 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


async def play_all(modes: Sequence[Mode], rows: int, rate: int) -> list[Result]:
    """All of them side by side, each with a sandbox and a client of its own."""
    return list(await asyncio.gather(*(play(mode, rows, rate) for mode in modes)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.quota", description="Use of a quota; see the module.")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rate", type=int, default=40, help="creates per second, and the burst")
    parser.add_argument("modes", nargs="*", metavar="mode", help="parts of modes' names; all if none is given")
    options = parser.parse_args(arguments)
    modes = [mode for mode in MODES if not options.modes or any(part in mode.name for part in options.modes)]
    results = asyncio.run(play_all(modes, options.rows, options.rate))
    print(HEADING)
    for result in results:
        print(result.row())
        for failure in result.failures[:5]:
            print(f"    {failure}")
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
