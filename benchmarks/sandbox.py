"""The sandbox's throughput beside a bare aiohttp.web handler, by the CPU that a create costs the server's process.

One core serves as many requests a second as its CPU seconds have room for, so that the ratio of CPU per request is that of
the throughputs, and does not suffer from what else the machine does.
"""

import asyncio
import statistics
from collections.abc import Iterator

from yarl import URL

from benchmarks import payloads
from benchmarks.measure import CheckFailedError
from benchmarks.report import Figure, Section
from benchmarks.serving import Process

ABOUT = "creates per second and core of `kustom-hpp sandbox`, a bare aiohttp.web handler (body read, a fixed 201) = 1"
CONCURRENCY = 16
TARGET = 0.35
_HEAD = (
    f"POST {payloads.CREATE_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {payloads.API_KEY}\r\n"
    "User-Agent: benchmark\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)
_CREATED = b"HTTP/1.1 201 "


def requests_as_bytes() -> list[bytes]:
    """Every distinct request, head and body."""
    return [_HEAD.format(len(body)).encode() + body for body in map(payloads.body, range(payloads.DISTINCT))]


async def burst(base_url: str, data: list[bytes], requests: int) -> int:
    """Send so many requests over a few connections; how many were created."""
    numbers, url = iter(range(requests)), URL(base_url)

    async def work() -> int:
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            return await _send(reader, writer, data, numbers)
        finally:
            writer.close()
            await writer.wait_closed()

    return sum(await asyncio.gather(*(work() for _ in range(CONCURRENCY))))


async def _send(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: list[bytes], numbers: Iterator[int]
) -> int:
    created = 0
    for number in numbers:
        writer.write(data[number % len(data)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        created += head.startswith(_CREATED)
    return created


async def alternate(servers: list[Process], rounds: int, requests: int) -> dict[str, list[float]]:
    """CPU seconds per request of every round, by server, after a round that warms up.

    Raises:
        CheckFailedError: a request was not answered 201, or the server did not create what it answered.

    """
    data = requests_as_bytes()
    seconds: dict[str, list[float]] = {server.kind: [] for server in servers}
    for number in range(rounds + 1):
        for server in servers if number % 2 else servers[::-1]:
            before = server.report()
            created = await burst(server.base_url, data, requests)
            after = server.report()
            if not created == after["created"] - before["created"] == requests:
                raise CheckFailedError(f"{server.kind}: {created} of {requests} created, {after} after {before}")
            if number:
                seconds[server.kind].append((after["cpu"] - before["cpu"]) / requests)
    return seconds


def measure(*, rounds: int, requests: int) -> Section:
    """The section.

    Args:
        rounds: of each server.
        requests: in each round.

    """
    with Process("bare") as bare, Process("sandbox") as sandbox:
        seconds = asyncio.run(alternate([bare, sandbox], rounds, requests))
    # Throughput is one over the time.
    ratios = [theirs / ours for theirs, ours in zip(seconds["bare"], seconds["sandbox"], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    ours, theirs = (statistics.median(seconds[kind]) * 1e6 for kind in ("sandbox", "bare"))
    figure = Figure(
        what="creates per CPU second",
        peer=f"bare handler, {theirs:.0f} us",
        value=median,
        spread=(low, high),
        at_least=TARGET,
        note=f"{ours:.0f} us a create",
    )
    return Section("sandbox", ABOUT, [figure])
