"""The search for secrets in all that the command line and the tests print, log, raise, pickle and store."""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from attrs import field, frozen

from tests.prove.suite import ROOT, run, run_tests
from tests.prove.table import Row, Size, trial

FAULTS = ("echo_auth", "status_500", "reset_after_request", "garbage", "status_evil_error", "error_html")
CLI = "from kustom_hpp.cli import main; raise SystemExit(main())"
MUTANT = """
from kustom_hpp.cli import main
from tests.prove import mutants
with mutants.redacts_nothing():
    raise SystemExit(main())
"""


@frozen
class Secrets:
    """What must not be seen."""

    key: str = field(factory=lambda: f"kco_test_api_{secrets.token_hex(16)}")
    token: str = field(factory=lambda: secrets.token_hex(16))
    password: str = field(factory=lambda: secrets.token_hex(16))

    def found_in(self, texts: Mapping[str, bytes]) -> list[str]:
        """Return the name of a text for each secret in it."""
        ours = (self.key, self.token, self.password)
        return [name for name, text in texts.items() for secret in ours if secret.encode() in text]

    def rows(self, base_url: str, count: int) -> str:
        """Return rows of a batch, with a secret where shops have theirs."""
        urls = {"success": "https://shop.example/a", "status_update": f"https://shop.example/s?secret={self.token}"}
        requests = [
            {"payment_session_url": f"{base_url}/checkout/v3/orders/{number}", "merchant_urls": urls}
            for number in range(count)
        ]
        return "".join(f"{json.dumps({'key': str(at), 'request': one})}\n" for at, one in enumerate(requests))


@contextlib.asynccontextmanager
async def sandbox(key: str, probability: float) -> AsyncIterator[str]:
    """Run a sandbox with many faults in a process of its own; its base URL."""
    faults = [f"{fault}~probability={probability},seed={seed}" for seed, fault in enumerate(FAULTS)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-m", "tests.support.sandbox_process", *faults, cwd=ROOT,
        env={**os.environ, "KUSTOM_HPP_API_KEY": key}, stdout=asyncio.subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())["base_url"]
    finally:
        process.terminate()
        await process.wait()


async def everything(ours: Secrets, base_url: str, folder: Path, count: int) -> dict[str, bytes]:
    """Run the commands, and return all that they printed and all files that they left."""
    rows = ours.rows(base_url, count)
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    request = json.dumps(json.loads(rows.splitlines()[0])["request"])
    direct = {"KUSTOM_HPP_API_KEY": ours.key, "KUSTOM_HPP_BASE_URL": base_url}
    no_proxy = {**direct, "KUSTOM_HPP_PROXY": f"http://u:{ours.password}@127.0.0.1:9"}
    batch = ("batch", "rows.jsonl", "--output", "out.jsonl", "--journal", "j.db")
    commands = [
        (batch, direct), (("create", "-"), direct), (("journal", "show", "j.db"), direct),
        (("create", "-"), no_proxy), (("check",), no_proxy),
    ]  # fmt: skip
    texts = {}
    for arguments, environment in commands:
        _, out = await run(sys.executable, "-X", "dev", "-c", CLI, *arguments, given=request, cwd=folder, **environment)
        texts[f"{arguments[0]} {len(texts)}"] = out.encode()
    return texts | {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "rows.jsonl"}


async def unredacted(ours: Secrets, folder: Path) -> list[str]:
    """Let a client that redacts nothing print the error of an API that repeats the key."""
    (folder / "request.json").write_text(json.dumps(json.loads(ours.rows("BASE", 1))["request"]), encoding="utf-8")
    async with sandbox(ours.key, 1.0) as base_url:
        request = (folder / "request.json").read_text(encoding="utf-8").replace("BASE", base_url)
        environment = {"KUSTOM_HPP_API_KEY": ours.key, "KUSTOM_HPP_BASE_URL": base_url, "PYTHONPATH": str(ROOT)}
        _, out = await run(sys.executable, "-c", MUTANT, "create", "-", given=request, cwd=folder, **environment)
    return ours.found_in({"create": out.encode()})


@trial("P6", short=10, whole=25)
async def secret_scan(size: Size) -> list[Row]:
    """What the command line prints, logs and stores while everything goes wrong, searched for three secrets."""
    ours = Secrets()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        async with sandbox(ours.key, 0.1) as base_url:
            texts = await everything(ours, base_url, Path(folder), size.pick(40, 400))
        control = await unredacted(ours, Path(other))
    found, created = ours.found_in(texts), texts.get("out.jsonl", b"").count(b'"created"')
    return [
        Row(
            promise="P6",
            tried=f"{len(texts)} outputs and files of the command line, {sum(map(len, texts.values())):,} bytes, "
            f"{created} sessions created",
            figure=f"{len(found)} secrets {found[:3] or ''}".strip(),
            target="0",
            held=not found and created > 0,
            control=f"a command that redacts nothing: {len(control)} noticed",
            noticed=bool(control),
        )
    ]


SEARCHED = (
    "tests/cli",
    "tests/batch",
    "tests/faults",
    "tests/integrations",
    "tests/sync",
    "tests/testing",
    "tests/transport",
)
"""Tests of all that prints, logs and stores."""
WAYS = {"outputs", "log records", "warnings", "errors", "pickles", "files"}
PLANTED = """
import logging, pickle, warnings
import pytest
import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.support.orders import CALLBACK_SECRET

def test_that_shows_secrets(tmp_path, capsys):
    key = Sandbox().api_key
    print(key)
    capsys.readouterr()
    logging.getLogger("shop").warning("%s", CALLBACK_SECRET)
    with pytest.warns(UserWarning):
        warnings.warn(key)
    hpp.ConnectError(CALLBACK_SECRET)
    pickle.dumps({"key": key})
    with (tmp_path / "journal.db").open("w") as file:
        file.write(key)
"""


def read_watch(folder: Path) -> tuple[Counter[str], list[tuple[str, str]]]:
    """Return how many texts of each kind were searched, and each find with its test."""
    searched, found = Counter[str](), list[tuple[str, str]]()
    for path in folder.glob("*.json"):
        written = json.loads(path.read_bytes())
        searched.update(written["searched"])
        found += [(place, test) for place, test in written["found"]]
    return searched, found


@trial("P6", whole=200)
async def secrets_of_the_suite(size: Size) -> list[Row]:
    """What tests print, log, warn of, raise, pickle and store, searched for the secrets in it."""
    watch = ["-p", "tests.support.secret_watch", "--log-level=DEBUG"]
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        secret = {"KUSTOM_HPP_CALLBACK_SECRET": secrets.token_hex(16), "PYTHONPATH": str(ROOT)}
        rooms = SEARCHED if size.part == 1 else SEARCHED[-3:]
        tests = await run_tests([sys.executable], [*watch, *rooms], KUSTOM_HPP_SECRET_WATCH=ours, **secret)
        searched, found = read_watch(Path(ours))
        planted = Path(theirs) / "test_planted.py"
        planted.write_text(PLANTED, encoding="utf-8")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *watch, str(planted)]
        await run(*pytest, cwd=Path(theirs), KUSTOM_HPP_SECRET_WATCH=theirs, **secret)
        _, caught = read_watch(Path(theirs))
    texts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(searched.items()))
    return [
        Row(
            promise="P6",
            tried=f"all that the tests show: {texts}",
            figure=f"{len(found)} secrets {found[:3] or ''}".strip() + ("" if tests.passed else f"; {tests.summary}"),
            target="0",
            held=not found and tests.passed and searched.total() > 0,
            control=f"a test that shows secrets in {len(WAYS)} ways: {len(caught)} noticed",
            noticed={place for place, _ in caught} == WAYS,
        )
    ]
