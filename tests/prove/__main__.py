"""The command: runs the trials, two at a time, and shows the table."""

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from tests.prove.table import PROMISES, TRIALS, Row, Size, Trial

MODULES = ("calls", "memory", "batches", "input", "processes", "suite", "fleets", "lanes", "secret_scan")
PATIENCE = 3600.0
"""Seconds for one trial."""
ROOT = Path(__file__).parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Ended:
    """What one trial's process reported."""

    trial: Trial
    rows: list[Row]
    seconds: float
    cpu_seconds: float = 0.0
    """Of all its processes: what it takes on an idle machine cannot be less, divided by the cores."""


def load_trials() -> None:
    """Import the modules that register trials."""
    for name in MODULES:
        import_module(f"tests.prove.{name}")


async def run_here(name: str, size: Size) -> int:
    """Run one trial in this process and print its rows as JSON."""
    rows = await TRIALS[name].run(size)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_seconds = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"rows": [attrs.asdict(row) for row in rows], "cpu_seconds": cpu_seconds}))
    return 0


def parse(line: str) -> tuple[list[Row], float]:
    """Return the rows and the CPU seconds that a trial's process printed.

    Raises:
        ValueError: they are not there.

    """
    try:
        printed = json.loads(line)
        return [Row(**row) for row in printed["rows"]], printed["cpu_seconds"]
    except (KeyError, TypeError) as error:
        raise ValueError(line) from error


async def run_apart(trial: Trial, size: Size) -> Ended:
    """Run one trial in a process of its own; one that ends otherwise than with its rows is a row that failed."""
    started = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "tests.prove",
        "--trial",
        trial.name,
        "--seed",
        str(size.seed),
        "--part",
        str(size.part),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, *(["--short"] if size.short else []), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    seconds = time.monotonic() - started
    lines = out.decode(errors="replace").strip().splitlines()
    try:
        rows, cpu_seconds = parse(lines[-1] if lines else "")
        return Ended(trial, rows, seconds, cpu_seconds)
    except ValueError:
        last = (err.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        failed = [
            Row(promise=promise, tried=trial.name, figure=f"not run: {last[:300]}", target="a figure", held=False)
            for promise in trial.promises
        ]
        return Ended(trial, failed, seconds)


async def run_all(trials: list[Trial], size: Size, jobs: int, report: Callable[[list[Ended]], None]) -> list[Ended]:
    """Run the trials, the longest first, so many at a time; report after each."""
    slots, ended = asyncio.Semaphore(jobs), list[Ended]()

    async def run(trial: Trial) -> None:
        async with slots:
            ended.append(await run_apart(trial, size))
        report(ended)

    await asyncio.gather(*map(run, sorted(trials, key=lambda one: -one.seconds)))
    return ended


def as_table(ended: list[Ended]) -> Table:
    """Return the rows by promise."""
    table = Table(title="What kustom_hpp promises, and what held", show_lines=True)
    for heading in ("", "Promise", "Tried", "Figure", "Target", "Control", ""):
        table.add_column(heading, overflow="fold")
    shown = ""
    for row in by_promise(ended):
        first = row.promise != shown
        shown = row.promise
        verdict = "[green]pass[/]" if row.passed else "[bold red]FAIL[/]"
        table.add_row(
            row.promise if first else "", PROMISES[row.promise] if first else "", row.tried, row.figure, row.target,
            f"{row.control}{'' if row.noticed else ' (NOT NOTICED)'}", verdict,
        )  # fmt: skip
    return table


def by_promise(ended: list[Ended]) -> list[Row]:
    """Return all rows in the order of the promises."""
    order = list(PROMISES)
    return sorted((row for one in ended for row in one.rows), key=lambda row: order.index(row.promise))


def as_json(ended: list[Ended], size: Size, seconds: float) -> dict[str, Any]:
    """Return the table and where it was made."""
    return {
        "python": platform.python_version(),
        "aiohttp": metadata.version("aiohttp"),
        "kustom_hpp": metadata.version("kustom_hpp"),
        "short": size.short,
        "part": size.part,
        "seed": size.seed,
        "seconds": round(seconds),
        "trials": [
            {"name": one.trial.name, "seconds": round(one.seconds), "cpu_seconds": round(one.cpu_seconds)}
            for one in ended
        ],
        "rows": [
            {**attrs.asdict(row), "says": PROMISES[row.promise], "passed": row.passed} for row in by_promise(ended)
        ],
    }


def main() -> int:
    """Run the programme, show the table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description="Try to break each promise.")
    parser.add_argument("--short", action="store_true", help="a part of each trial: at most 3 minutes")
    parser.add_argument("--only", nargs="+", default=[], metavar="P", help="promises (P4) or parts of trials' names")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--part", type=float, default=1.0, help="0.1: all trials, a tenth of the way from short to whole"
    )
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    parser.add_argument("--trial", help=argparse.SUPPRESS)
    parser.add_argument("--uvloop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    load_trials()
    size = Size(short=options.short, seed=options.seed, part=options.part)
    if options.trial:
        new_loop = import_module("uvloop").new_event_loop if options.uvloop else None
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(run_here(options.trial, size))
    chosen = [
        one
        for one in TRIALS.values()
        if (not options.only or any(part in one.promises or part in one.name for part in options.only))
        and not (one.only_whole and options.short)
    ]
    console, started = Console(width=None if sys.stdout.isatty() else 160), time.monotonic()

    def report(ended: list[Ended]) -> None:
        last = ended[-1]
        verdict = "ok  " if all(row.passed for row in last.rows) else "FAIL"
        console.print(
            f"{verdict} {last.seconds:6.0f} s, {last.cpu_seconds:6.0f} s of CPU  {last.trial.name}", highlight=False
        )
        if options.json:
            text = json.dumps(as_json(ended, size, time.monotonic() - started), indent=2)
            options.json.write_text(f"{text}\n", encoding="utf-8")

    ended = asyncio.run(run_all(chosen, size, options.jobs, report))
    seconds = time.monotonic() - started
    console.print(as_table(ended))
    failed = [row for row in by_promise(ended) if not row.passed]
    proved = {row.promise for one in ended for row in one.rows}
    console.print(f"{len(by_promise(ended))} rows, {len(failed)} failed, {seconds:.0f} s", highlight=False)
    missing = [] if options.only else [promise for promise in PROMISES if promise not in proved]
    if missing:
        console.print(f"not tried: {', '.join(missing)}")
    return int(bool(failed) or (bool(missing) and not options.short))


if __name__ == "__main__":
    sys.exit(main())
