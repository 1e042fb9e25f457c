"""CPU of `callbacks.parse` next to `json.loads` of the same bytes, with orjson and without."""

import gc
import json
import time
from collections.abc import Callable
from dataclasses import asdict

from benchmarks.environment import has_orjson, in_fresh_interpreter
from benchmarks.measure import CheckFailedError, Ratio
from benchmarks.report import Figure, Section

ABOUT = "CPU of callbacks.parse, json.loads of the same bytes = 1"
TARGET = 20.0
BODIES = {
    "every field": json.dumps(
        {
            "event_id": "cd6f2a8e-31f4-4f0e-9d5b-2f6f0a7b1c55",
            "session": {
                "session_id": "9cbc9884-1fdb-45a8-9694-9340340d0436",
                "status": "COMPLETED",
                "updated_at": "2038-01-17T09:26:53.125Z",
                "expires_at": "2038-01-19T03:14:07.250Z",
                "authorization_token": "7a0b6a1f-0f7e-4f0c-b5b7-2f8d57c5f6a1",
                "order_id": "0b1cf1a4-9d5c-4a3e-8f6a-2f0d9f8e7a11",
                "klarna_reference": "QX4T71RP",
                "customer": {"date_of_birth": "1971-03-14", "family_name": "\u00d6berg", "given_name": "Alva"},
            },
        }
    ).encode(),
    "a change": json.dumps(
        {
            "event_id": "cd6f2a8e-31f4-4f0e-9d5b-2f6f0a7b1c55",
            "session": {
                "session_id": "9cbc9884-1fdb-45a8-9694-9340340d0436",
                "status": "IN_PROGRESS",
                "updated_at": "2038-01-17T09:26:53.125Z",
                "expires_at": "2038-01-19T03:14:07.250Z",
            },
        }
    ).encode(),
    "nothing": b"{}",
}


def _burst(read: Callable[[bytes], object], body: bytes, times: int) -> float:
    gc.collect()
    began = time.process_time()
    for _ in range(times):
        read(body)
    return (time.process_time() - began) / times


async def task(rounds: int, times: int) -> dict[str, dict[str, float]]:
    """In a child: {body: Ratio}. The two alternate in one run, so that other load on the machine affects both."""
    from kustom_hpp import callbacks

    found = {}
    for name, body in BODIES.items():
        plain = json.loads(body)
        if callbacks.parse(body).event_id != plain.get("event_id"):
            raise CheckFailedError(f"parse does not read {name!r}")
        ours, theirs = [], []
        for number in range(rounds + 1):
            spent = _burst(callbacks.parse, body, times), _burst(json.loads, body, times)
            if number:
                ours.append(spent[0])
                theirs.append(spent[1])
        found[name] = asdict(Ratio.of(ours, theirs))
    return found


def measure(*, rounds: int, times: int) -> Section:
    """The section; each JSON library in a process of its own.

    Args:
        rounds: of each body, after one that does not count.
        times: how often each body is read in a round.

    """
    section = Section("callbacks", ABOUT)
    for orjson in [True, False] if has_orjson() else [False]:
        found = in_fresh_interpreter("callbacks", {"rounds": rounds, "times": times}, orjson=orjson)
        for name, ratio in ((name, Ratio(**ratio)) for name, ratio in found.items()):
            section.figures.append(
                Figure(
                    what=f"{name}, {len(BODIES[name])} bytes, {'orjson' if orjson else 'json'}",
                    peer="json.loads",
                    value=ratio.median,
                    spread=(ratio.low, ratio.high),
                    at_most=TARGET,
                    note=f"{ratio.micros:.1f} us",
                )
            )
    return section
