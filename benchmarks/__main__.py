"""`python -m benchmarks [--quick] [--json] [--check] [section ...]`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import batch, callbacks, generated, imports, memory, overhead, sandbox, sync
from benchmarks.environment import facts
from benchmarks.report import Section, table
from benchmarks.server import Server


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    requests: int
    """Of each client in each round."""
    imports: int
    growth: int
    """Requests whose growth in memory is measured."""
    callbacks: int
    """How often each callback is read in each round."""
    rows: tuple[int, ...]
    """Of the batches whose memory is measured."""
    patience: float
    """Seconds that installing the generator may take."""


FULL = Size(rounds=31, requests=400, imports=21, growth=20_000, callbacks=5_000, rows=batch.ROWS, patience=300)
QUICK = Size(rounds=3, requests=100, imports=3, growth=2_000, callbacks=500, rows=(1_000, 10_000, 50_000), patience=25)


def sections(url: str, size: Size) -> dict[str, Callable[[], Section]]:
    """Every benchmark by its name."""
    return {
        "overhead": lambda: overhead.measure(url, rounds=2 * size.rounds, requests=size.requests // 2),
        "sync": lambda: sync.measure(url, rounds=size.rounds // 2, requests=size.requests),
        "generated": lambda: generated.measure(
            url, rounds=max(3, size.rounds // 2), requests=size.requests // 2, patience=size.patience
        ),
        "imports": lambda: imports.measure(rounds=size.imports),
        "memory": lambda: memory.measure(url, requests=size.growth),
        "callbacks": lambda: callbacks.measure(rounds=size.rounds, times=size.callbacks),
        "batch": lambda: batch.measure(url, rounds=size.rounds, requests=size.requests, rows=size.rows),
        "sandbox": lambda: sandbox.measure(rounds=size.rounds, requests=size.requests),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="CPU and memory of kustom_hpp.")
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="section",
        help="overhead, sync, generated, imports, memory, callbacks, batch, sandbox; all of them",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test of under a minute: its figures are rough")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed or not measured")
    options = parser.parse_args(arguments)
    found = []
    about = facts()
    if not options.json:
        print("\n".join(table([(name, fact) for name, fact in about.items()])))
        if options.quick:
            print("quick: few rounds, rough figures")
    with Server() as server:
        known = sections(server.url, QUICK if options.quick else FULL)
        if strangers := set(options.sections) - known.keys():
            parser.error(f"no section {', '.join(sorted(strangers))}; there are {', '.join(known)}")
        for name in options.sections or known:
            section = known[name]()
            found.append(section)
            if not options.json:
                print(f"\n{section.text()}", flush=True)
    if options.json:
        print(json.dumps({"machine": about, "quick": options.quick, "sections": [s.plain() for s in found]}, indent=2))
    return int(options.check and any(section.missed for section in found))


if __name__ == "__main__":
    sys.exit(main())
