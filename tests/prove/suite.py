"""Trials that run the tests: in debug mode, while blocking calls are watched, and with small changes to the library."""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tests.prove.table import Row, Size, trial

ROOT = Path(__file__).parent.parent.parent
LEAST_KILLED = 88.0
SCORE = re.compile(r"^(\S+): (\d+) of (\d+) killed \(([\d.]+) %\)", re.MULTILINE)


async def run(*command: str, cwd: Path = ROOT, given: str | None = None, **environment: str) -> tuple[int, str]:
    """Run a command; return its exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env={**os.environ, **environment}, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate(given.encode() if given else None)
    return process.returncode or 0, out.decode(errors="replace")


ROOMS = ("tests/transport", "tests/batch", "tests/sync", "tests/faults/test_cancel.py")
"""The tests of what sends, waits and writes."""
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
MOST_AGAIN = 10


@frozen(kw_only=True)
class Outcome:
    """What came of a run of tests."""

    passed: bool
    summary: str
    out: str


async def run_tests(python: Sequence[str], options: Sequence[str], **environment: str) -> Outcome:
    """Run tests. Those that fail run once more, one at a time: a busy machine must not decide."""
    with tempfile.TemporaryDirectory() as cache:
        pytest = [*python, "-m", "pytest", "-q", "-o", f"cache_dir={cache}"]
        code, out = await run(*pytest, "-n", "2", *options, **environment)
        failed = FAILED.findall(out)
        summary = out.strip().splitlines()[-1].strip("= ")
        if not failed or len(failed) > MOST_AGAIN:
            return Outcome(passed=code == 0, summary=" ".join([summary, *failed[:3]]), out=out)
        code, again = await run(*pytest, "-n", "0", "--last-failed", *options, **environment)
    names = ", ".join(FAILED.findall(again) or failed)
    summary += f"; {names} {'passed when run again alone' if code == 0 else 'failed twice'}"
    return Outcome(passed=code == 0, summary=summary, out=out + again)


@trial("P10", whole=100)
async def debug_mode(_: Size) -> list[Row]:
    """Tests with `-X dev` and asyncio's debug mode, every warning an error."""
    strict = [sys.executable, "-X", "dev", "-W", "error"]
    tests = await run_tests(strict, ROOMS, PYTHONASYNCIODEBUG="1")
    # A test that runs when a forgotten file or coroutine is found fails for it: that one must not count as passed.
    forgotten = len(re.findall(r"^(?:FAILED|ERROR) .*(?:Unraisable|Warning)", tests.out, re.MULTILINE))
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "test_planted.py"
        planted.write_text("import gc\n\ndef test_it():\n    open(__file__)\n    gc.collect()\n", encoding="utf-8")
        pytest = [*strict, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "filterwarnings=error"]
        control, _out = await run(*pytest, str(planted), cwd=Path(folder))
    return [
        Row(
            promise="P10",
            tried="the tests of transport, batch and sync with -X dev and asyncio's debug mode",
            figure=f"{forgotten} warnings; {tests.summary}",
            target="0; 0 failed",
            held=tests.passed and not forgotten,
            control="a test that leaves a file open " + ("fails" if control else "passes"),
            noticed=control != 0,
        )
    ]


SLEEPS = """
import time
import kustom_hpp as hpp
from tests.support.golden import MINIMAL_REQUEST

class Sleeping:
    async def send(self, *_):
        time.sleep(0.01)
    async def aclose(self):
        pass

async def test_a_transport_that_sleeps():
    await hpp.HPPClient("kco_test_api_x", transport=Sleeping()).create_session(MINIMAL_REQUEST)
"""


@trial("P9", whole=500)
async def blocking_calls(size: Size) -> list[Row]:
    """The whole suite, while blockbuster watches the event loops."""
    whole = size.part == 1
    tried = "the whole suite" if whole else "a part of the suite"
    options = ["-m", "", "--ignore", "tests/browser"] if whole else ROOMS
    tests = await run_tests([sys.executable], options, KUSTOM_HPP_NO_BLOCKING="1")
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "test_planted.py"
        planted.write_text(SLEEPS, encoding="utf-8")
        _, planted_out = await run(
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest",
            "-o", "asyncio_mode=auto", str(planted), cwd=Path(folder), PYTHONPATH=str(ROOT), KUSTOM_HPP_NO_BLOCKING="1",
        )  # fmt: skip
    blocked = tests.out.count("BlockingError: ")
    caught = planted_out.count("BlockingError: Blocking call to time.sleep")
    return [
        Row(
            promise="P9",
            tried=f"{tried} under blockbuster; kustom_hpp.cli and .sandbox may block",
            figure=f"{blocked} blocking calls; {tests.summary}",
            target="0; 0 failed",
            held=tests.passed and not blocked,
            control=f"a transport that sleeps: {caught} noticed",
            noticed=caught > 0,
        )
    ]


@trial("Tests", whole=420)
async def mutation(size: Size) -> list[Row]:
    """Small changes to the modules that decide, met with their tests; `python -m tests.mutation` makes all of them."""
    every, mutants = size.pick(30, 3), [sys.executable, "-m", "tests.mutation", "--jobs", "1"]
    _, out = await run(*mutants, "--every", str(every))
    _, control = await run(*mutants, "--every", "40", "--tests", "tests/test_quota.py", "circuit_breaker")
    rows = list[Row]()
    lucky, met = next(((killed, of) for _, killed, of, _ in SCORE.findall(control)), ("?", "0"))
    for (file, killed, tried, score), survivors in zip(SCORE.findall(out), SCORE.split(out)[5::5], strict=True):
        unexplained = survivors.count("NO REASON YET")
        rows.append(
            Row(
                promise="Tests",
                tried=f"{tried} small changes to {file}: one of {every} that can be made",
                figure=f"the tests notice {killed} ({score} %)"
                + f"; {unexplained} without a reason" * (unexplained > 0),
                target=f"{LEAST_KILLED:g} %",
                held=float(score) >= LEAST_KILLED,
                control=f"tests of something else notice {lucky} of {met}",
                noticed=lucky == "0",
            )
        )
    return rows or [Row(promise="Tests", tried="mutation", figure=f"not run: {out[-300:]}", target="", held=False)]
