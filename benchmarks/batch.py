"""A batch next to a bare aiohttp worker pool: CPU per session, time to the first outcome, memory."""

import asyncio
import gc
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path

from benchmarks import payloads, server
from benchmarks.clients import Ours, RawAiohttp, check_same, headers_of
from benchmarks.environment import in_fresh_interpreter
from benchmarks.measure import CheckFailedError, Ratio, burst, check_count
from benchmarks.report import Figure, Section
from kustom_hpp import CreateSessionRequest, HPPClient, Session
from kustom_hpp.batch import BatchItem, OutcomeState, SqliteJournal, run

ABOUT = "a batch with 32 rows in flight; bare worker pool = 1 (raw aiohttp, the same bytes, its response not parsed)"
CONCURRENCY = 32
TARGETS = {"batch": 1.7, "batch-journal": None}
"""CPU per session over the bare pool; with a journal the rows per second count."""
MIN_ROWS_PER_SECOND = 1000
"""With a journal. The API allows 40 creates a second."""
GROWTH_MIB = 10.0
"""Target: what a million rows may take above ten thousand."""
ROWS = (1_000, 10_000, 100_000, 1_000_000)


class Batch:
    """`batch.run` over prebuilt requests, as one client of the server."""

    def __init__(self, url: str, name: str, *, durable: bool, folder: str) -> None:
        self.name = name
        self._client = HPPClient(payloads.API_KEY, base_url=f"{url}/{name}")
        self._requests = [payloads.request(index) for index in range(payloads.DISTINCT)]
        self._durable, self._folder, self._rounds = durable, folder, count()

    async def send(self, index: int) -> bool:
        """One session, without a batch: for the check that all send the same."""
        session = await self._client.create_session(self._requests[index % payloads.DISTINCT])
        return session.expires_at is not None

    async def burst(self, rows: int) -> float:
        """CPU seconds per session of a whole run, the journal's thread included; not the journal's opening.

        Raises:
            CheckFailedError: a row was not created.

        """
        self._prebuild(rows)
        if not self._durable:
            return await self._run(rows, None)
        path = Path(self._folder) / f"{self.name}-{next(self._rounds)}.db"
        async with SqliteJournal(path, scope="benchmark") as journal:
            return await self._run(rows, journal)

    async def _run(self, rows: int, journal: SqliteJournal | None) -> float:
        wrong = 0
        items = self._items(rows)
        gc.collect()
        began = time.process_time()
        async with run(self._client.create_session, items, concurrency=CONCURRENCY, journal=journal) as outcomes:
            async for outcome in outcomes:
                if outcome.state is not OutcomeState.CREATED:
                    wrong += 1
        spent = time.process_time() - began
        if wrong or outcomes.counts.created != rows:
            raise CheckFailedError(f"{self.name}: {outcomes.counts} of {rows} rows")
        return spent / rows

    def _items(self, rows: int) -> Iterator[BatchItem]:
        return (BatchItem(f"row-{index}", request) for index, request in enumerate(self._requests[:rows]))

    def _prebuild(self, rows: int) -> None:
        """Build a request for each row: a batch creates one session for an order."""
        self._requests += map(payloads.request, range(len(self._requests), rows))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


async def cpu_task(url: str, rounds: int, requests: int) -> dict[str, dict[str, float]]:
    """In a child: {client: Ratio}."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(url)
        batches = [Batch(url, name, durable="journal" in name, folder=folder) for name in TARGETS]
        raw: list[RawAiohttp] = []
        try:
            headers = await headers_of(ours, url)
            raw += [RawAiohttp(url, headers), RawAiohttp(url, headers, "raw-again")]
            await check_same([*raw, *batches], url)
            seconds = await _alternate([*raw, *batches], url, rounds, requests)
            return {name: asdict(Ratio.of(seconds[name], seconds["raw"])) for name in seconds}
        finally:
            for client in (ours, *raw, *batches):
                await client.aclose()


async def _alternate(clients: list[RawAiohttp | Batch], url: str, rounds: int, requests: int) -> dict[str, list[float]]:
    """Do what `measure.alternate` does; the burst of a batch is a whole run."""
    before = server.counts(url)
    seconds: dict[str, list[float]] = {client.name: [] for client in clients}
    for number in range(rounds + 1):
        first = number % len(clients)
        for client in (*clients[first:], *clients[:first]):
            if isinstance(client, Batch):
                spent = await client.burst(requests)
            else:
                spent = await burst(client, requests=requests, concurrency=CONCURRENCY)
            if number:
                seconds[client.name].append(spent)
    for client in clients:
        check_count(client.name, (rounds + 1) * requests, before, server.counts(url))
    return seconds


async def first_task(url: str, rows: int) -> float:
    """In a child: seconds from the beginning of a run to its first outcome, while the rest of the rows wait."""
    client = HPPClient(payloads.API_KEY, base_url=f"{url}/batch-first")
    items = (BatchItem(str(index), payloads.request(index)) for index in range(rows))
    async with client:
        began = time.perf_counter()
        async with run(client.create_session, items, concurrency=CONCURRENCY) as outcomes:
            await anext(outcomes)
            return time.perf_counter() - began


async def peak_task(rows: int) -> float:
    """In a child: the peak of the process in MiB, over a batch whose sessions cost nothing."""
    numbers = count()

    async def create(_: CreateSessionRequest) -> Session:
        await asyncio.sleep(0)
        return Session(session_id=f"{next(numbers):036d}", redirect_url="https://pay.kustom.co/eu/hpp/payments/x")

    items = (BatchItem(f"row-{index}", payloads.request(index)) for index in range(rows))
    created = 0
    async with run(create, items, concurrency=CONCURRENCY) as outcomes:
        async for outcome in outcomes:
            created += outcome.state is OutcomeState.CREATED
    if created != rows:
        raise CheckFailedError(f"{created} of {rows} rows")
    return _peak_kib() / 1024


def measure(url: str, *, rounds: int, requests: int, rows: tuple[int, ...] = ROWS) -> Section:
    """The section.

    Args:
        url: of the server.
        rounds: of the measuring of CPU.
        requests: of each client in each round; at most as many as there are distinct ones.
        rows: sizes of batches whose memory is measured; the last one is compared with the second.

    """
    arguments = {"url": url, "rounds": rounds, "requests": min(requests, payloads.DISTINCT)}
    ratios = {name: Ratio(**found) for name, found in in_fresh_interpreter("batch", arguments).items()}
    section = Section("batch", ABOUT)
    for name, what in (
        ("batch", "batch without a journal"),
        ("batch-journal", "batch with SqliteJournal"),
        ("raw-again", "bare worker pool again"),
    ):
        ratio = ratios[name]
        section.figures.append(
            Figure(
                what=what,
                peer=f"bare worker pool, {ratios['raw'].micros:.0f} us",
                value=ratio.median,
                spread=(ratio.low, ratio.high),
                at_most=TARGETS.get(name),
                note="noise: 1.00 if there were none" if name == "raw-again" else f"{ratio.micros:.0f} us a session",
            )
        )
    rate = 1e6 / ratios["batch-journal"].micros
    what = "rows per CPU second with SqliteJournal"
    section.figures.append(Figure(what=what, value=rate, unit="/s", at_least=MIN_ROWS_PER_SECOND))
    first = in_fresh_interpreter("batch-first", {"url": url, "rows": 100_000})
    section.figures.append(Figure(what="the first of 100,000 outcomes", value=first * 1000, unit="ms", at_most=500))
    section.figures.extend(_memory(rows))
    return section


def _memory(rows: tuple[int, ...]) -> list[Figure]:
    peaks = {number: in_fresh_interpreter("batch-peak", {"rows": number}) for number in rows}
    figures = [Figure(what=f"peak memory, {number:,} rows", value=peak, unit="MiB") for number, peak in peaks.items()]
    growth = peaks[rows[-1]] - peaks[rows[1]]
    what = f"{rows[-1]:,} rows above {rows[1]:,}"
    return [*figures, Figure(what=what, value=growth, unit="MiB", at_most=GROWTH_MIB)]


def _peak_kib() -> float:
    """Return the peak memory of this program. ru_maxrss starts with the parent's, so it is the last resort."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return float(line.split()[1])
    import resource  # not on Windows
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1024 if sys.platform == "darwin" else float(most)
