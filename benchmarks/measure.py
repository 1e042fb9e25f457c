"""CPU per request of clients that alternate.

The clients of a section live in one process and alternate in bursts, each round in another order, so that other load on the
machine affects all of them alike. Every round gives one ratio. The median of the ratios is the figure; their quartiles show
how precise it is. Every response is checked, and the server's count of requests must be the client's.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks import server


class CheckFailedError(Exception):
    """A client did not do what it was measured for, so its figure means nothing."""


class Client(Protocol):
    """A client that is measured."""

    name: str
    """Also the first part of its path at the server."""

    async def send(self, index: int) -> bool:
        """Send request number `index`; return True if the response is the server's."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True)
class Ratio:
    """How much CPU a client takes, with its peer as the measure."""

    median: float
    low: float
    """The first quartile of the rounds."""
    high: float
    """The third quartile."""
    micros: float
    """CPU per request in microseconds, the median: holds for this machine at this moment only."""

    @classmethod
    def of(cls, client: Sequence[float], peer: Sequence[float]) -> "Ratio":
        """From the seconds per request of each round."""
        ratios = [ours / theirs for ours, theirs in zip(client, peer, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high, statistics.median(client) * 1e6)


async def burst(client: Client, *, requests: int, concurrency: int) -> float:
    """CPU seconds per request of one burst: N workers that pull from one counter.

    Raises:
        CheckFailedError: a response is not the server's.

    """
    numbers = iter(range(requests))
    wrong = 0

    async def work() -> None:
        nonlocal wrong
        for number in numbers:
            if not await client.send(number):
                wrong += 1

    workers = [work() for _ in range(min(concurrency, requests))]
    gc.collect()  # the same state for all; the collector stays on, as in an application
    began = time.process_time()
    await asyncio.gather(*workers)
    spent = time.process_time() - began
    if wrong:
        raise CheckFailedError(f"{client.name}: {wrong} of {requests} responses are not the server's")
    return spent / requests


async def alternate(
    clients: Sequence[Client], *, url: str, concurrency: int, rounds: int, requests: int
) -> dict[str, list[float]]:
    """CPU seconds per request of every round, by client.

    Args:
        clients: the clients that alternate.
        url: of the server, which is asked for its count.
        concurrency: requests in flight.
        rounds: after one that warms up and does not count.
        requests: of each client in each round.

    Raises:
        CheckFailedError: a response is wrong, or the server counted another number of requests.

    """
    before = server.counts(url)
    seconds: dict[str, list[float]] = {client.name: [] for client in clients}
    for number in range(rounds + 1):
        first = number % len(clients)
        for client in (*clients[first:], *clients[:first]):
            spent = await burst(client, requests=requests, concurrency=concurrency)
            if number:
                seconds[client.name].append(spent)
    for client in clients:
        check_count(client.name, (rounds + 1) * requests, before, server.counts(url))
    return seconds


def check_count(client: str, sent: int, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Refuse a client whose requests are not the server's.

    Raises:
        CheckFailedError: the server counted another number.

    """
    counted = after.get(client, 0) - before.get(client, 0)
    if counted != sent:
        raise CheckFailedError(f"{client}: {sent} requests by its own count, {counted} by the server's")
