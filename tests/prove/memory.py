"""Trials of what calls cost: memory of hostile responses, a soak, an outage, jumping clocks."""

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp

import kustom_hpp as hpp
from benchmarks import payloads, server
from kustom_hpp.sandbox import Sandbox
from tests.faults.play import order
from tests.prove import mutants
from tests.prove.table import Row, Size, trial

MIB = 1 << 20
CAP_MIB = 8.0
LEAK_MIB = 2.0


def peak_mib() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def now_mib() -> float:
    """Return the memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / MIB


@contextlib.asynccontextmanager
async def sandbox_process(*faults: str) -> AsyncIterator[tuple[str, str]]:
    """Run a sandbox with faults in a process of its own; its base URL and its key."""
    command = [sys.executable, "-m", "tests.support.sandbox_process"]
    process = await asyncio.create_subprocess_exec(*command, *faults, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        first = json.loads(await process.stdout.readline())
        yield first["base_url"], first["api_key"]
    finally:
        process.terminate()
        await process.wait()


BOMBS = ("big_body", "gzip_bomb", "deflate_bomb", "error_huge", "error_bomb")


@trial("P8", short=6, whole=20)
async def big_responses(size: Size) -> list[Row]:
    """Bodies and decompression bombs, of successes and of errors."""
    mib = size.pick(128, 1024)
    grown: dict[str, float] = {}
    for fault in BOMBS:
        async with (
            sandbox_process(f"{fault}~mib={mib}") as (base_url, key),
            hpp.HPPClient(key, base_url=base_url) as client,
        ):
            before = peak_mib() if grown else await _warm_up(client)
            for number in range(3):
                with contextlib.suppress(hpp.HPPError):
                    await client.create_session(order(client, f"big-{number}"))
            grown[fault] = peak_mib() - before
    before = peak_mib()
    async with (
        sandbox_process("big_body~mib=64") as (base_url, key),
        aiohttp.ClientSession() as raw,
        raw.post(
            f"{base_url}/hpp/v1/sessions",
            json={
                "payment_session_url": f"{base_url}/checkout/v3/orders/raw",
                "merchant_urls": {"success": "https://a.example/"},
            },
            headers={"Authorization": f"Basic {key}"},
        ) as response,
    ):
        await response.read()
    control, worst = peak_mib() - before, max(grown.values())
    return [
        Row(
            promise="P8",
            tried=f"{', '.join(BOMBS)} of {mib} MiB",
            figure=f"at most {worst:.1f} MiB more",
            target=f"{CAP_MIB:g} MiB",
            held=worst <= CAP_MIB,
            control=f"bare aiohttp reads 64 MiB: {control:.0f} MiB more",
            noticed=control > CAP_MIB,
        )
    ]


async def _warm_up(client: hpp.HPPClient) -> float:
    """Make a call, which loads what calls load, and return the peak since."""
    with contextlib.suppress(hpp.HPPError):
        await client.create_session(order(client, "first"))
    return peak_mib()


def open_descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Leaky:
    """A hook that stores what it gets."""

    def __init__(self) -> None:
        self.stored: list[tuple[Any, bytes]] = []

    def __call__(self, event: Any) -> None:
        self.stored.append((event, os.urandom(512)))


async def _soak(url: str, count: int, hooks: tuple[Any, ...] = ()) -> tuple[list[float], int, int]:
    """Create so many sessions; memory at each tenth, and descriptors and tasks that came in between."""
    client = hpp.HPPClient(payloads.API_KEY, base_url=f"{url}/soak", hooks=hooks)
    numbers, memory = iter(range(count)), []
    tasks, descriptors = 0, 0

    async def worker() -> None:
        nonlocal tasks, descriptors
        for number in numbers:
            session = await client.create_session(payloads.request(number))
            assert session.session_id == payloads.SESSION_ID
            if number % (count // 10) == count // 10 - 1:
                gc.collect()
                memory.append(now_mib())
                if number // (count // 10) == 1:
                    tasks, descriptors = len(asyncio.all_tasks()), open_descriptors()

    async with asyncio.TaskGroup() as group:
        for _ in range(64):
            group.create_task(worker())
        await asyncio.sleep(0)
    more_descriptors = open_descriptors() - descriptors
    await client.aclose()
    left = len(asyncio.all_tasks()) - 1
    return memory, more_descriptors, left


@trial("P10", short=20, whole=420)
async def soak(size: Size) -> list[Row]:
    """Many creates through one client, against a server in another process."""
    count = size.pick(30_000, 1_000_000)
    with server.Server() as running:
        memory, descriptors, tasks = await _soak(running.url, count)
        arrived = server.counts(running.url)["soak"]
        leaky, _, _ = await _soak(running.url, 10_000, (Leaky(),))
    growth, control = max(memory[2:]) - memory[1], max(leaky[2:]) - leaky[1]
    return [
        Row(
            promise="P10",
            tried=f"{count:,} creates at 64 in flight",
            figure=f"{growth:+.1f} MiB from tenth 2 to 10, {max(descriptors, 0)} more descriptors, {tasks} tasks left; "
            f"the server counted {arrived:,}",
            target=f"{LEAK_MIB:g} MiB, 0, 0",
            held=growth < LEAK_MIB and descriptors <= 0 and tasks == 0 and arrived == count,
            control=f"a hook that stores events: {control:+.1f} MiB in 10,000",
            noticed=control >= LEAK_MIB,
        )
    ]


async def _outage(calls: int) -> tuple[float, float]:
    """Return POSTs per call while the API fails, and seconds until a call succeeds once it is back."""
    retry = hpp.RetrySettings(initial=0.001, maximum=0.01, on_unknown="resend")
    async with (
        Sandbox() as sandbox,
        hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, retry=retry, pace=hpp.Pace(1e6)) as client,
    ):
        sandbox.fault("status_500")
        for number in range(50):  # the warm-up: what the retry quota allows at first
            with contextlib.suppress(hpp.HPPError):
                await client.create_session(order(client, f"warm-{number}"))
        before, numbers = sandbox.record.counts.posts, iter(range(calls))

        async def worker() -> None:
            for number in numbers:
                with contextlib.suppress(hpp.HPPError):
                    await client.create_session(order(client, f"outage-{number}"))

        await asyncio.gather(*(worker() for _ in range(32)))
        posts = sandbox.record.counts.posts - before
        sandbox.faults.clear()
        back = time.monotonic()
        await asyncio.gather(*(client.create_session(order(client, f"back-{number}")) for number in range(100)))
        return posts / calls, time.monotonic() - back


@trial("P11", short=5, whole=30)
async def outage(size: Size) -> list[Row]:
    """An API that answers 500 to everything, and a client that may resend."""
    calls = size.pick(3_000, 20_000)
    amplification, recovery = await _outage(calls)
    with mutants.unlimited_retries():
        control, _ = await _outage(500)
    return [
        Row(
            promise="P11",
            tried=f"{calls:,} calls while every response is a 500, on_unknown='resend'",
            figure=f"{amplification:.4f} POSTs per call; 100 calls succeed {recovery:.1f} s after it",
            target="1.05; 5 s",
            held=amplification <= 1.05 and recovery <= 5,
            control=f"without a retry quota: {control:.2f}",
            noticed=control > 1.05,
        )
    ]


class JumpingClock:
    """A wall clock that jumps once its call waits for a retry."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._real = seconds, time.time
        self.jumped = False

    def __call__(self) -> float:
        return self._real() + (self._seconds if self.jumped else 0)

    def jump(self, event: Any) -> None:
        """Jump at a retry: a hook."""
        self.jumped = self.jumped or isinstance(event, hpp.Retrying)


async def _retried_call(sandbox: Sandbox, clock: JumpingClock, number: int) -> float:
    """Return how long a call took whose first two attempts get a 429."""
    sandbox.faults.clear()
    sandbox.fault("status_429", times=2)
    async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, hooks=[clock.jump]) as client:
        started = time.monotonic()
        await client.create_session(order(client, f"jump-{number}"), deadline=20)
    assert clock.jumped
    return time.monotonic() - started


@trial("P9", short=6, whole=45, waits=True)
async def jumping_clock(size: Size) -> list[Row]:
    """The wall clock jumps by an hour, forwards and back, while a call waits for its retry."""
    took, loop = [], asyncio.get_running_loop()
    async with Sandbox() as sandbox:
        for number in range(size.pick(4, 40)):
            clock = JumpingClock(3600 if number % 2 else -3600)
            with mock.patch("time.time", clock):
                took.append(await _retried_call(sandbox, clock, number))
        clock, control = JumpingClock(3600), ""
        with mock.patch.object(loop, "time", clock):
            try:
                await _retried_call(sandbox, clock, -1)
            except hpp.HPPError as error:
                control = type(error).__name__
    return [
        Row(
            promise="P9",
            tried=f"{len(took)} calls whose wall clock jumps by +-1 h during a retry",
            figure=f"all created, at most {max(took):.1f} s",
            target="20 s",
            held=max(took) < 20,
            control=f"an event loop on the wall clock: {control or 'created'}",
            noticed=bool(control),
        )
    ]
