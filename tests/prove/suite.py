"""Trials that run other programmes: other event loops and libraries, the mutation run, the secret scan, debug mode."""

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

from tests.prove.table import PROMISES, Row, Size, trial

ROOT = Path(__file__).parent.parent.parent
LEAST_KILLED = 88.0


async def run(*command: str, cwd: Path = ROOT, given: str | None = None, **environment: str) -> tuple[int, str]:
    """Run a command; return its exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env={**os.environ, **environment}, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate(given.encode() if given else None)
    return process.returncode or 0, out.decode(errors="replace")


async def fault_table_elsewhere(label: str, python: str, *options: str) -> list[Row]:
    """Run the fault table once with another interpreter, loop or library."""
    command = [python, "-m", "tests.prove", "--trial", "fault table", "--short", *options]
    code, out = await run(*command, PYTHONPATH=str(ROOT))
    last = (out.strip().splitlines() or [""])[-1]
    try:
        rows = [Row(**row) for row in json.loads(last)]
    except ValueError:
        return [
            Row(promise="P1", tried=f"fault table, {label}", figure=f"not run: {last[:200]}", target="0", held=False)
        ]
    held = code == 0 and all(row.passed for row in rows)
    calls = re.search(r"in ([\d,]+) calls", rows[0].figure)
    wrong = "; ".join(row.figure for row in rows if not row.passed)
    return [
        Row(
            promise="P1",
            tried=f"fault table, {label}",
            figure=wrong or f"0 broken rules in {calls[1] if calls else '?'} calls",
            target="0",
            held=held,
            control=f"{sum(row.noticed for row in rows)} of {len(rows)} mutant clients noticed",
            noticed=all(row.noticed for row in rows),
        )
    ]


@trial("P1", seconds=60, only_whole=True)
async def uvloop_lane(_: Size) -> list[Row]:
    """The fault table on uvloop."""
    return await fault_table_elsewhere("uvloop", sys.executable, "--uvloop")


@trial("P1", seconds=90, only_whole=True)
async def lowest_aiohttp_lane(_: Size) -> list[Row]:
    """The fault table with the lowest releases that pyproject.toml allows."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        floors = [need.replace(">=", "==") for need in tomllib.load(file)["project"]["dependencies"]]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        code, out = await run(python, "-m", "pip", "install", "--quiet", f"{ROOT}[cli,test]", *floors)
        if code:
            return [Row(promise="P1", tried="lowest aiohttp", figure=f"not run: {out[-200:]}", target="0", held=False)]
        return await fault_table_elsewhere(floors[0], python)


DEBUGGED = ("tests/transport", "tests/batch", "tests/sync", "tests/faults/test_cancel.py")
PLANTED = """
import asyncio, socket
async def test_a_socket_that_is_left_open():
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
def test_it_is_collected():
    import gc
    gc.collect()
"""


@trial("P10", seconds=60, only_whole=True)
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


@trial("P9", seconds=60, only_whole=True)
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


@trial("P6", seconds=25)
async def secret_scan(size: Size) -> list[Row]:
    """What the command line prints, logs and stores while everything goes wrong, searched for three secrets."""
    key, token, password = (f"{prefix}{secrets.token_hex(16)}" for prefix in ("kco_test_api_", "", ""))
    found, scanned = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {"key": str(number), "request": {
                "payment_session_url": f"BASE/checkout/v3/orders/{number}",
                "merchant_urls": {"success": "https://shop.example/a", "status_update": f"https://shop.example/s?secret={token}"},
            }}
            for number in range(size.pick(40, 400))
        ]  # fmt: skip
        environment = {"KUSTOM_HPP_API_KEY": key, "KUSTOM_HPP_PROXY": f"http://u:{password}@127.0.0.1:9"}
        cli = [sys.executable, "-X", "dev", "-c", "from kustom_hpp.cli import main; raise SystemExit(main())"]
        faults = ("echo_auth", "status_500", "reset_after_request", "garbage", "status_evil_error", "error_html")
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-X", "dev", "-m", "tests.support.sandbox_process",
            *(f"{fault}~probability=0.1,seed={seed}" for seed, fault in enumerate(faults)),
            env={**os.environ, "KUSTOM_HPP_API_KEY": key}, stdout=asyncio.subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert server.stdout is not None
        try:
            base_url = json.loads(await server.stdout.readline())["base_url"]
            text = "".join(f"{json.dumps(row)}\n" for row in rows).replace("BASE", base_url)
            (folder / "rows.jsonl").write_text(text, encoding="utf-8")
            direct = {**environment, "KUSTOM_HPP_BASE_URL": base_url, "KUSTOM_HPP_PROXY": ""}
            outputs = {
                "batch": await run(
                    *cli, "batch", "rows.jsonl", "--output", "out.jsonl", "--journal", "j.db", cwd=folder, **direct
                ),
                "create": await run(
                    *cli,
                    "create",
                    "-",
                    given=json.dumps(json.loads(text.splitlines()[0])["request"]),
                    cwd=folder,
                    **direct,
                ),
                "journal": await run(*cli, "journal", "show", "j.db", cwd=folder, **direct),
                "check": await run(*cli, "check", cwd=folder, **environment),
                "create through a proxy that is not there": await run(
                    *cli,
                    "create",
                    "-",
                    given=json.dumps(rows[0]["request"]),
                    cwd=folder,
                    **{**environment, "KUSTOM_HPP_BASE_URL": base_url},
                ),
            }
        finally:
            server.terminate()
            await server.wait()
        texts: dict[str, bytes] = {name: out.encode() for name, (_, out) in outputs.items()}
        texts |= {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "rows.jsonl"}
        for where, content in texts.items():
            scanned += len(content)
            found += [where for secret in (key, token, password) if secret.encode() in content]
        planted = [
            where for where, content in {"planted": f"log: {token}".encode()}.items() if token.encode() in content
        ]
        created = texts.get("out.jsonl", b"").count(b'"created"')
    return [
        Row(
            promise="P6",
            tried=f"{len(texts)} outputs and files of the command line, {scanned:,} bytes, {created} sessions created",
            figure=f"{len(found)} secrets {found[:3] or ''}".strip(),
            target="0",
            held=not found and created > 0,
            control=f"a planted log line: {len(planted)} noticed",
            noticed=bool(planted),
        )
    ]


@trial("Tests", seconds=600, only_whole=True)
async def mutation(_: Size) -> list[Row]:
    """Small changes to the modules that decide, met with their tests."""
    code, out = await run(sys.executable, "-m", "tests.mutation", "--jobs", "1")
    scores = re.findall(r"^(\S+): (\d+) of (\d+) killed \(([\d.]+) %\)", out, re.MULTILINE)
    lines: list[dict[str, Any]] = [
        {
            "tried": f"mutants of {file}",
            "figure": f"{killed} of {total} killed ({score} %)",
            "target": f"{LEAST_KILLED:g} %",
            "held": float(score) >= LEAST_KILLED,
        }
        for file, killed, total, score in scores
    ]
    if code and not lines:
        lines = [
            {"tried": "mutation", "figure": f"not run: {out[-300:]}", "target": f"{LEAST_KILLED:g} %", "held": False}
        ]
    return [Row(promise="Tests", control="the unchanged file passes", **line) for line in lines]


assert "Tests" in PROMISES
