"""Trials of the fault table elsewhere: on another event loop, with other releases of the libraries, on another Python."""

import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.prove.suite import ROOT, run
from tests.prove.table import Row, Size, trial


def not_run(label: str, reason: str) -> Row:
    """Return the row of a lane that could not run."""
    return Row(
        promise="P1", tried=f"the same faults once: {label}", figure=f"not run: {reason[-200:]}", target="0", held=False
    )


async def fault_table(label: str, python: str, *options: str) -> Row:
    """Run the fault table once with another interpreter, loop or library."""
    command = [python, "-m", "tests.prove", "--trial", "fault table", "--short", *options]
    code, out = await run(*command, PYTHONPATH=str(ROOT))
    last = (out.strip().splitlines() or [""])[-1]
    try:
        rows = [Row(**row) for row in json.loads(last)["rows"]]
    except (ValueError, KeyError, TypeError):
        return not_run(label, last)
    calls = re.search(r"in ([\d,]+) calls", rows[0].figure)
    wrong = "; ".join(row.figure for row in rows if not row.passed)
    return Row(
        promise="P1",
        tried=f"the same faults once: {label}",
        figure=wrong or f"0 broken rules in {calls[1] if calls else '?'} calls",
        target="0",
        held=code == 0 and all(row.passed for row in rows),
        control=f"{sum(row.noticed for row in rows)} of {len(rows)} mutant clients noticed",
        noticed=all(row.noticed for row in rows),
    )


@trial("P1", whole=15)
async def uvloop_lane(_: Size) -> list[Row]:
    """The fault table on uvloop."""
    return [await fault_table("uvloop", sys.executable, "--uvloop")]


def interpreters(version: str) -> Iterator[str]:
    """Return where an interpreter of a version may be: on the path, or built by pyenv."""
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python")))


async def find_python(version: str) -> str | None:
    """Return an interpreter that works: a shim of pyenv may lead nowhere."""
    for candidate in interpreters(version):
        code, _ = await run(candidate, "-c", "import ensurepip, ssl, sqlite3")
        if code == 0:
            return candidate
    return None


async def with_libraries(python: str, *, newest: bool) -> list[Row]:
    """Run the fault table with the lowest releases that pyproject.toml allows, and then with the newest ones."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        floors = [need.replace(">=", "==") for need in tomllib.load(file)["project"]["dependencies"]]
    names = [floor.partition("==")[0] for floor in floors]
    _, version = await run(python, "-c", "import platform; print(platform.python_version())")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        code, out = await run(python, "-m", "venv", folder)
        inside = str(Path(folder) / "bin" / "python")
        for label, needs in [("lowest", floors), ("newest", ["--upgrade", *names])][: 1 + newest]:
            what = f"Python {version.strip()}, {label} libraries"
            if not code:
                code, out = await run(inside, "-m", "pip", "install", "--quiet", f"{ROOT}[cli,test]", *needs)
            if code:
                rows.append(not_run(what, out))
                continue
            _, aiohttp = await run(inside, "-c", "import aiohttp; print(aiohttp.__version__)")
            rows.append(await fault_table(f"{what} (aiohttp {aiohttp.strip()})", inside))
    return rows


@trial("P1", whole=50)
async def lowest_libraries_lane(_: Size) -> list[Row]:
    """The fault table with the lowest releases of the libraries, on this Python."""
    return await with_libraries(sys.executable, newest=False)


@trial("P1", whole=200)
async def other_pythons_lane(_: Size) -> list[Row]:
    """The fault table on the other Pythons that are here, with the lowest and the newest libraries."""
    versions = {"3.11", "3.12", "3.13"} - {f"{sys.version_info.major}.{sys.version_info.minor}"}
    rows = list[Row]()
    for version in sorted(versions):
        python = await find_python(version)
        rows += await with_libraries(python, newest=True) if python else [not_run(f"Python {version}", "not found")]
    return rows
