"""CPU per call of `SyncHPPClient` in threads, next to the async client with as many calls in flight."""

import asyncio
import gc
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from benchmarks import payloads, server
from benchmarks.clients import Ours
from benchmarks.environment import has_orjson, in_fresh_interpreter
from benchmarks.measure import CheckFailedError, Ratio, burst, check_count
from benchmarks.report import Figure, Section
from kustom_hpp import SyncHPPClient

ABOUT = "CPU per call of SyncHPPClient.create_session, the async client = 1 (all threads counted)"
THREADS = (1, 8)


def _burst_in_threads(client: SyncHPPClient, *, requests: int, threads: int) -> float:
    """CPU seconds per call of one burst: threads that pull from one list.

    Raises:
        CheckFailedError: a response is not the one that the server gives.

    """
    prebuilt = [payloads.request(index) for index in range(min(requests, payloads.DISTINCT))]
    with ThreadPoolExecutor(threads) as pool:
        gc.collect()  # the same state for all; the collector stays on, as in an application
        began = time.process_time()
        sessions = list(pool.map(lambda index: client.create_session(prebuilt[index % len(prebuilt)]), range(requests)))
        spent = time.process_time() - began
    if any(session.session_id != payloads.SESSION_ID for session in sessions):
        msg = "sync: a response is not what the server sends"
        raise CheckFailedError(msg)
    return spent / requests


async def task(url: str, threads: list[int], rounds: int, requests: int) -> dict[str, dict[str, float]]:
    """In a child: {threads: Ratio}."""
    ours, before = Ours(url), server.counts(url)
    found = {}
    with SyncHPPClient(payloads.API_KEY, base_url=f"{url}/sync") as client:
        for number in threads:
            spent: list[tuple[float, float]] = []
            for _ in range(rounds + 1):
                in_threads = await asyncio.to_thread(_burst_in_threads, client, requests=requests, threads=number)
                spent.append((in_threads, await burst(ours, requests=requests, concurrency=number)))
            theirs, peer = zip(*spent[1:], strict=True)  # the first round warms up
            found[str(number)] = asdict(Ratio.of(theirs, peer))
    await ours.aclose()
    for name in ("ours", "sync"):
        check_count(name, len(threads) * (rounds + 1) * requests, before, server.counts(url))
    return found


def measure(url: str, *, rounds: int, requests: int) -> Section:
    """The section."""
    section = Section("sync", ABOUT)
    arguments = {"url": url, "threads": THREADS, "rounds": max(2, rounds), "requests": requests}
    for threads, ratio in in_fresh_interpreter("sync", arguments, orjson=has_orjson()).items():
        figures = Ratio(**ratio)
        section.figures.append(
            Figure(
                what=f"SyncHPPClient in {threads} thread{'s' if threads != '1' else ''}",
                peer=f"HPPClient, {threads} in flight",
                value=figures.median,
                spread=(figures.low, figures.high),
                note=f"{figures.micros:.0f} us",
            )
        )
    return section
