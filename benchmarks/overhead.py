"""CPU per request of create_session over raw aiohttp, at several concurrencies, with orjson and without."""

from dataclasses import asdict

from benchmarks.clients import Ours, RawAiohttp, check_same, headers_of
from benchmarks.environment import has_orjson, in_fresh_interpreter
from benchmarks.measure import Client, Ratio, alternate
from benchmarks.report import Figure, Section

ABOUT = "CPU per request of create_session, raw aiohttp = 1 (the same bytes and headers, its response not parsed)"
TARGETS = {1: 1.30, 16: 1.36, 100: 1.30}
"""By concurrency, with orjson."""


async def task(
    url: str, concurrencies: list[int], rounds: int, requests: int
) -> dict[str, dict[str, dict[str, float]]]:
    """In a child: {concurrency: {client: Ratio}}."""
    ours = Ours(url)
    clients: list[Client] = [ours]
    try:
        headers = await headers_of(ours, url)
        # The same client again shows the noise.
        clients += [RawAiohttp(url, headers), RawAiohttp(url, headers, "raw-again")]
        await check_same(clients, url)
        found = {}
        for concurrency in concurrencies:
            seconds = await alternate(clients, url=url, concurrency=concurrency, rounds=rounds, requests=requests)
            found[str(concurrency)] = {name: asdict(Ratio.of(seconds[name], seconds["raw"])) for name in seconds}
        return found
    finally:
        for client in clients:
            await client.aclose()


def measure(url: str, *, concurrencies: tuple[int, ...] = (1, 16, 100), rounds: int, requests: int) -> Section:
    """The section; each JSON library in a process of its own."""
    section = Section("overhead", ABOUT)
    arguments = {"url": url, "concurrencies": concurrencies, "rounds": rounds, "requests": requests}
    for orjson in [True, False] if has_orjson() else [False]:
        found = in_fresh_interpreter("overhead", arguments, orjson=orjson)
        for concurrency, ratios in found.items():
            section.figures.extend(_figures(int(concurrency), orjson, {n: Ratio(**r) for n, r in ratios.items()}))
    return section


def _figures(concurrency: int, orjson: bool, ratios: dict[str, Ratio]) -> list[Figure]:  # noqa: FBT001 - one caller
    peer = f"raw aiohttp, {ratios['raw'].micros:.0f} us"
    figures = []
    for name, what in (
        ("ours", f"create_session, {'orjson' if orjson else 'json'}"),
        ("raw-again", "raw aiohttp again"),
    ):
        ratio = ratios[name]
        figures.append(
            Figure(
                what=f"{what}, {concurrency} in flight",
                peer=peer,
                value=ratio.median,
                spread=(ratio.low, ratio.high),
                at_most=TARGETS.get(concurrency) if orjson and name == "ours" else None,
                note="noise: 1.00 if there were none" if name == "raw-again" else f"{ratio.micros:.0f} us",
            )
        )
    return figures
