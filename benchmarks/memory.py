"""Memory: what a client's process grows by while it works, and what an idle client takes."""

import asyncio
import gc
import statistics
import sys
import tracemalloc
from pathlib import Path

from benchmarks import payloads, server
from benchmarks.clients import Ours
from benchmarks.environment import in_fresh_interpreter
from benchmarks.measure import burst, check_count
from benchmarks.report import Figure, Section
from kustom_hpp import HPPClient

ABOUT = "the client's process; what does not leak stands still"
GROWTH_KIB = 1024.0
"""Target: above what an allocator's pages drift by, and below what a leak of 70 bytes a request adds up to in a full run."""


async def growth_task(url: str, requests: int) -> list[float]:
    """In a child: resident KiB after each tenth of the requests."""
    client = Ours(url, "memory")
    try:
        await burst(client, requests=max(requests // 10, 200), concurrency=16)
        before, resident = server.counts(url), []
        for _ in range(10):
            await burst(client, requests=requests // 10, concurrency=16)
            resident.append(_resident_kib())
        check_count(client.name, requests // 10 * 10, before, server.counts(url))
        return resident
    finally:
        await client.aclose()


async def idle_task(url: str, clients: int) -> dict[str, float]:
    """In a child: bytes of an unused client, and of one that has made a request and keeps its connection."""
    base_url = f"{url}/idle"
    request = payloads.request(0)
    async with HPPClient(payloads.API_KEY, base_url=base_url) as first:
        await first.create_session(request)  # what all clients share is made now
        tracemalloc.start()
        start = _traced()
        made = [HPPClient(payloads.API_KEY, base_url=base_url) for _ in range(clients)]
        unused = _traced() - start
        for client in made:
            await client.create_session(request)
        used = _traced() - start
        tracemalloc.stop()
        for client in made:
            await client.aclose()
    await asyncio.sleep(0)
    return {"unused": unused / clients, "used": used / clients}


def measure(url: str, *, requests: int, clients: int = 100) -> Section:
    """The section.

    Args:
        url: of the server.
        requests: for the growth, after a tenth of them for warming up.
        clients: idle at once.

    """
    resident = in_fresh_interpreter("growth", {"url": url, "requests": requests})
    idle = in_fresh_interpreter("idle", {"url": url, "clients": clients})
    growth = resident[-1] - resident[1]
    return Section(
        "memory",
        ABOUT,
        [
            Figure(
                what=f"growth over {requests:,} requests",
                peer="from the 2nd to the 10th tenth",
                value=growth,
                unit="KiB",
                at_most=GROWTH_KIB,
                note=f"of {statistics.median(resident) / 1024:.0f} MiB",
            ),
            Figure(what="an unused client", value=idle["unused"] / 1024, unit="KiB", note=f"mean of {clients}"),
            Figure(what="an idle client with one connection", value=idle["used"] / 1024, unit="KiB"),
        ],
    )


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _resident_kib() -> float:
    """Return the process's memory now, or its peak if the system does not report the former."""
    gc.collect()
    import resource  # not on Windows

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1024 if sys.platform == "darwin" else float(most)
