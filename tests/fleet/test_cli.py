"""`kustom-hpp fleet`, from nothing to sessions."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.support.postgres import Cluster

MODULE = """
import os
import kustom_hpp as hpp
from kustom_hpp.integrations.procrastinate import Fleet
from tests.support.orders import request

def client_of(merchant, pace):
    return hpp.HPPClient(os.environ["SHOP_KEY"], base_url=os.environ["SHOP_URL"], pace=pace)

def request_of(client, key):
    return request(os.environ["SHOP_URL"], key)

fleet = Fleet(os.environ["SHOP_DSN"], client_of, request_of, rate=200, stalled=3)
"""


@pytest.fixture
def dsn(cluster: Cluster) -> str:
    return cluster.create_database("fleet_cli")


async def run(*arguments: str, folder: Path, stdin: bytes = b"", **environment: str) -> tuple[int | None, str]:
    """The exit code of a command, and what it said."""
    process = await start(*arguments, folder=folder, **environment)
    output, _ = await process.communicate(stdin)
    return process.returncode, output.decode()


async def start(*arguments: str, folder: Path, **environment: str) -> asyncio.subprocess.Process:
    root = str(Path(__file__).parents[2])
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kustom_hpp", *arguments,
        cwd=folder, env={**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "error", **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


async def test_from_nothing_to_sessions(tmp_path: Path, dsn: str) -> None:
    (tmp_path / "shop.py").write_text(MODULE)
    (tmp_path / "ids.txt").write_text("a\n\nb\nc\n")
    async with Sandbox() as sandbox:
        shop = {"SHOP_DSN": dsn, "SHOP_URL": sandbox.base_url, "SHOP_KEY": sandbox.api_key}
        assert (await run("fleet", "init", "--app", "shop:fleet", folder=tmp_path, **shop))[0] == 0
        enqueue = ("--app", "shop:fleet", "--merchant", "acme")
        code, said = await run("fleet", "enqueue", "ids.txt", *enqueue, folder=tmp_path, **shop)
        assert (code, "3 ids for acme" in said) == (0, True)
        code, said = await run("fleet", "enqueue", "-", *enqueue, folder=tmp_path, stdin=b"c\nd\n", **shop)
        assert (code, "2 ids for acme" in said) == (0, True)
        worker = await start("fleet", "work", "acme", "--app", "shop:fleet", folder=tmp_path, **shop)
        await sandbox.record.wait_for(lambda record: len(record.created) == 4, 30)
        worker.send_signal(signal.SIGTERM)
        said = (await worker.communicate())[0].decode()
        first, *jobs, last = said.splitlines()
        assert (worker.returncode, first.partition(":")[0], last.partition(":")[0]) == (0, "working", "stopped")
        # A line with its time for each job.
        assert sorted(job.split(" ", 2)[2] for job in jobs) == [
            "merchant acme: 2 ids: 2 created", "merchant acme: 3 ids: 3 created",
        ]  # fmt: skip
        code, said = await run("fleet", "status", "--app", "shop:fleet", folder=tmp_path, **shop)
        assert code == 0
        lines = [line.split() for line in said.splitlines()]
        assert lines[1][:3] == ["acme", "0", "0"]
        # Created, failed, in doubt, claimed; live workers; surplus sessions.
        assert lines[3][-6:] == ["4", "0", "0", "0", "0", "0"]
    keys = sorted(one.payment_session_url.rpartition("/")[2] for one in sandbox.record.created)
    assert keys == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("fleet", "work", "acme", "--app", "shop"), "--app must be MODULE:NAME"),
        (("fleet", "work", "acme", "--app", "nothing:fleet"), "there is no Fleet of that name"),
        (("fleet", "work", "--app", "empty:fleet"), "at least one merchant"),
        (("fleet", "status", "--app", "empty:fleet"), "there is no Fleet of that name"),
    ],
)
async def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], fragment: str) -> None:
    (tmp_path / "empty.py").write_text("")
    code, said = await run(*arguments, folder=tmp_path)
    assert (code, fragment in " ".join(said.split())) == (2, True)
