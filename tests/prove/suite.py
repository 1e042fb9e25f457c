"""Trials that run the tests: in debug mode, while blocking calls are watched, and with small changes to the library."""

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

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


DEBUGGED = ("tests/transport", "tests/batch", "tests/sync", "tests/faults/test_cancel.py")


@trial("P10", whole=200)
async def debug_mode(__: Size) -> list[Row]:
    """Tests with `-X dev` and asyncio's debug mode, every warning an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"]
    there = [name for name in DEBUGGED if (ROOT / name).exists()]
    code, out = await run(*command, *there, PYTHONASYNCIODEBUG="1")
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "test_planted.py"
        planted.write_text(
            "import warnings\ndef test_it():\n    open(__file__)\n    import gc; gc.collect()\n", encoding="utf-8"
        )
        control, _ = await run(sys.executable, "-X", "dev", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                               "-o", "filterwarnings=error", str(planted), cwd=Path(folder))  # fmt: skip
    return [
        Row(
            promise="P10",
            tried=f"{', '.join(there)} with -X dev and asyncio debug",
            figure=out.strip().splitlines()[-1].strip("= "),
            target="0 failed",
            held=code == 0,
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
async def blocking_calls(__: Size) -> list[Row]:
    """The whole suite, while blockbuster watches the event loops."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    code, out = await run(*pytest, "-n", "2", "-m", "", "--ignore", "tests/browser", KUSTOM_HPP_NO_BLOCKING="1")
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "test_planted.py"
        planted.write_text(SLEEPS, encoding="utf-8")
        _, planted_out = await run(
            *pytest, "-p", "tests.conftest", "-o", "asyncio_mode=auto", str(planted), cwd=Path(folder),
            PYTHONPATH=str(ROOT), KUSTOM_HPP_NO_BLOCKING="1",
        )  # fmt: skip
    caught = planted_out.count("BlockingError: Blocking call to time.sleep")
    return [
        Row(
            promise="P9",
            tried="the whole suite under blockbuster",
            figure=f"{out.count('BlockingError: ')} blocking calls; {out.strip().splitlines()[-1].strip('= ')}",
            target="0",
            held=code == 0,
            control=f"a transport that sleeps: {caught} noticed",
            noticed=caught > 0,
        )
    ]


@trial("Tests", whole=900)
async def mutation(size: Size) -> list[Row]:
    """Small changes to the modules that decide, met with their tests."""
    jobs = ["--jobs", "1"]
    _, out = await run(sys.executable, "-m", "tests.mutation", *jobs, "--every", str(size.pick(30, 1)))
    control = await run(
        sys.executable,
        "-m",
        "tests.mutation",
        *jobs,
        "--every",
        "40",
        "--tests",
        "tests/test_quota.py",
        "circuit_breaker",
    )
    [(_, lucky, met, _)] = SCORE.findall(control[1])
    scores = SCORE.findall(out)
    lines: list[dict[str, Any]] = [
        {
            "tried": f"{total} mutants of {file}",
            "figure": f"{killed} killed ({score} %)",
            "held": float(score) >= LEAST_KILLED,
        }
        for file, killed, total, score in scores
    ] or [{"tried": "mutation", "figure": f"not run: {out[-300:]}", "held": False}]
    says = f"tests of something else kill {lucky} of {met}"
    target = f"{LEAST_KILLED:g} %"
    return [Row(promise="Tests", target=target, control=says, noticed=lucky == "0", **line) for line in lines]
