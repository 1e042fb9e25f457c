"""The command: runs the trials, two at a time, and shows the table."""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from tests.prove.table import PROMISES, TRIALS, Row, Size, Trial

MODULES = ("calls", "memory", "batches", "input", "processes", "suite", "fleets", "lanes", "secret_scan")
PATIENCE = 4
"""How many times its usual time a trial may take, but at least `LEAST_PATIENCE`."""
LEAST_PATIENCE = 300.0
CLEAN_UP = 10.0
"""Seconds that a trial may take to stop its servers and processes."""
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


async def stop(process: asyncio.subprocess.Process) -> None:
    """Interrupt a trial and all processes that it started; kill those that do not end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), CLEAN_UP)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def not_finished(trial: Trial, why: str, seconds: float) -> Ended:
    """Return a row that failed for each promise of a trial that has no rows."""
    figure = f"not finished: {why[:300]}"
    rows = [
        Row(promise=promise, tried=trial.name, figure=figure, target="a figure", held=False, control="not tried")
        for promise in trial.promises
    ]
    return Ended(trial, rows, seconds)


async def run_apart(trial: Trial, size: Size, patience: float | None = None) -> Ended:
    """Run one trial in a process of its own; one that ends without its rows, or too late, is a row that failed."""
    started, patience = time.monotonic(), patience or max(PATIENCE * trial.seconds(size), LEAST_PATIENCE)
    command = [sys.executable, "-m", "tests.prove", "--trial", trial.name, f"--seed={size.seed}", f"--part={size.part}"]
    # A session of its own: Ctrl-C reaches this process only, which then interrupts the trial with all its processes.
    process = await asyncio.create_subprocess_exec(
        *command, *(["--short"] if size.short else []), cwd=ROOT, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(patience):
            out, err = await process.communicate()
    except TimeoutError:
        return not_finished(trial, f"it took more than {patience:g} s", patience)
    finally:
        await stop(process)
    seconds = time.monotonic() - started
    lines, errors = (text.decode(errors="replace").strip().splitlines() for text in (out, err))
    try:
        rows, cpu_seconds = parse(lines[-1] if lines else "")
    except ValueError:
        last = errors[-1] if errors else "no output"
        return not_finished(trial, f"its process ended with {process.returncode}: {last}", seconds)
    return Ended(trial, rows, seconds, cpu_seconds)


async def run_all(trials: list[Trial], size: Size, jobs: int, report: Callable[[Ended], None]) -> None:
    """Run the trials, the longest first, and report each.

    So many that compute run at a time, and one more that mostly waits.
    """
    computing, waiting = asyncio.Semaphore(jobs), asyncio.Semaphore(1)

    async def run(trial: Trial) -> None:
        async with waiting if trial.waits else computing:
            report(await run_apart(trial, size))

    async with asyncio.TaskGroup() as group:
        for one in sorted(trials, key=lambda one: -one.seconds(size)):
            group.create_task(run(one))


WIDTHS = {"": 8, "What was tried": 36, "Result": 30, "Target": 12, "Control": 30}
"""Of the columns of the table: 120 with their gaps."""


def verdict(row: Row) -> str:
    """Return a word for what came of a row."""
    if not row.held:
        return "[bold red]NOT HELD[/]"
    return "[green]held[/]" if row.noticed else "[bold red]CONTROL[/]"


def columns(*, show_header: bool = False) -> Table:
    """Return an empty table with the columns of all rows."""
    table = Table(box=None, pad_edge=False, show_header=show_header)
    for heading, width in WIDTHS.items():
        table.add_column(heading, width=width, overflow="fold")
    return table


def as_table(ended: list[Ended]) -> Group:
    """Return the rows by promise, and then each promise in one line."""
    rows, summary = by_promise(ended), Table(box=None, pad_edge=False, show_header=False)
    shown: list[RenderableType] = [columns(show_header=True)]
    for promise, says in PROMISES.items():
        own = [row for row in rows if row.promise == promise]
        passed = sum(row.passed for row in own)
        word = "[bold red]NOT HELD[/]" if passed < len(own) else "[green]held[/]" if own else "[yellow]not tried[/]"
        summary.add_row(word, promise, f"{says} ({passed} of {len(own)} rows)" if own else says)
        if own:
            table = columns()
            for row in own:
                table.add_row(verdict(row), *map(escape, (row.tried, row.figure, row.target, row.control)))
            shown += ["", f"[bold]{promise}  {says}[/]", table]
    return Group(*shown, "", LEGEND, "", summary, "")


LEGEND = """\
Each trial also runs with a client, a journal or a server that is broken on purpose, its control, and must notice it.
CONTROL: the promise held, but the trial did not notice what was broken on purpose."""


def by_promise(ended: list[Ended]) -> list[Row]:
    """Return all rows in the order of the promises."""
    order = list(PROMISES)
    return sorted((row for one in ended for row in one.rows), key=lambda row: order.index(row.promise))


def as_json(ended: list[Ended], chosen: list[Trial], size: Size, seconds: float) -> dict[str, Any]:
    """Return the table and where it was made."""
    names = {one.trial.name for one in ended}
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
        "not_finished": [one.name for one in chosen if one.name not in names],
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
        and (one.short or not options.short)
    ]
    return show(chosen, size, options)


def show(chosen: list[Trial], size: Size, options: argparse.Namespace) -> int:
    """Run trials and show the table, also after Ctrl-C; return the exit code."""
    console, started = Console(width=None if sys.stdout.isatty() else 120), time.monotonic()
    ended, interrupted = list[Ended](), False

    def report(last: Ended) -> None:
        ended.append(last)
        word = "ok  " if all(row.passed for row in last.rows) else "FAIL"
        times = f"{last.seconds:5.0f} s, {last.cpu_seconds:5.0f} s of CPU"
        console.print(f"{word} {len(ended):2} of {len(chosen)} {times}  {last.trial.name}", highlight=False)
        if options.json:
            text = json.dumps(as_json(ended, chosen, size, time.monotonic() - started), indent=2)
            options.json.write_text(f"{text}\n", encoding="utf-8")

    try:
        asyncio.run(run_all(chosen, size, options.jobs, report))
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.monotonic() - started
    console.print(as_table(ended), highlight=False)
    rows = by_promise(ended)
    failed = sum(not row.passed for row in rows)
    console.print(f"{len(rows)} rows, {failed} failed, {seconds:.0f} s", highlight=False)
    unfinished = [one.name for one in chosen if one not in {done.trial for done in ended}]
    if unfinished:
        console.print(f"interrupted; not finished: {', '.join(unfinished)}", highlight=False)
    missing = [] if options.only else [promise for promise in PROMISES if promise not in {row.promise for row in rows}]
    if missing:
        console.print(f"not tried: {', '.join(missing)}", highlight=False)
    return 130 if interrupted else int(failed > 0 or (bool(missing) and not options.short))


if __name__ == "__main__":
    sys.exit(main())
