"""The commands behind a forward proxy: the proxy's and the sandbox's records are the judges."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.cli.conftest import Cli, Done, variables
from tests.faults.certificates import authority_file, serving
from tests.support.batch_files import order, states, write
from tests.support.proxy import open_proxy


async def command(*arguments: str, stdin: bytes = b"", **settings: str) -> Done:
    """Run a command in a process of its own, while this loop serves."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kustom_hpp", *arguments, env=variables(**settings),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(stdin), 40)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def create(folder: Path, *options: str, **settings: str) -> Done:
    request = json.dumps({"payment_session_url": order(0)}).encode()
    return await command("create", "-", *options, stdin=request, **settings)


async def batch(folder: Path, *options: str, **settings: str) -> Done:
    files = ["--output", str(folder / "out"), "--journal", str(folder / "j.db")]
    done = await command("batch", write(folder / "in", 3), *files, *options, **settings)
    assert states(folder / "out") == dict.fromkeys(("row 0", "row 1", "row 2"), "created")
    return done


@pytest.mark.parametrize("by", ["system", "variable", "option", "option without a scheme"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "CONNECT"])
@pytest.mark.parametrize(("run", "sessions"), [(create, 1), (batch, 3)], ids=["create", "batch"])
async def test_a_command_goes_through_the_proxy(tmp_path: Path, run, sessions: int, tls: bool, by: str) -> None:
    certificate = {"SSL_CERT_FILE": authority_file(tmp_path)} if tls else {}
    async with Sandbox(ssl=serving("good") if tls else None) as sandbox, open_proxy(sandbox) as proxy:
        settings = {"KUSTOM_HPP_BASE_URL": sandbox.base_url, "KUSTOM_HPP_API_KEY": sandbox.api_key, **certificate}
        options: list[str] = []
        if by == "system":
            settings |= {"HTTPS_PROXY" if tls else "HTTP_PROXY": proxy.url}
        elif by == "variable":
            settings |= {"KUSTOM_HPP_PROXY": proxy.url, "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "*"}
        else:
            options = ["--proxy", proxy.url if by == "option" else proxy.url.removeprefix("http://")]
            settings |= {"KUSTOM_HPP_PROXY": "http://127.0.0.1:9"}
        done = await run(tmp_path, *options, **settings)
        assert done.code == 0
        assert len(sandbox.record.created) == sessions
    assert {seen.method for seen in proxy.seen} == {"CONNECT" if tls else "POST"}


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "other.example, 127.0.0.1:{port}", "*", ".example,127.0.0.1"])
async def test_no_proxy_bypasses_it(tmp_path: Path, no_proxy: str) -> None:
    async with Sandbox() as sandbox, open_proxy(sandbox) as proxy:
        settings = {
            "KUSTOM_HPP_BASE_URL": sandbox.base_url, "KUSTOM_HPP_API_KEY": sandbox.api_key, "HTTP_PROXY": proxy.url,
            "NO_PROXY": no_proxy.format(port=sandbox.base_url.rpartition(":")[2]),
        }  # fmt: skip
        assert (await create(tmp_path, **settings)).code == 0
        assert (len(sandbox.record.created), proxy.seen) == (1, [])
        settings["NO_PROXY"] = "127.0.0.1:1"  # another port
        assert (await create(tmp_path, **settings)).code == 0
        assert (len(sandbox.record.created), len(proxy.seen)) == (2, 1)


@pytest.mark.parametrize(
    ("settings", "options", "due"),
    [
        ({}, [], "none"),
        ({"HTTPS_PROXY": "10.1.2.3:3128"}, [], "http://10.1.2.3:3128 (from HTTPS_PROXY)"),
        ({"https_proxy": "http://me:pa55word@p.example"}, [], "http://p.example (from https_proxy)"),
        ({"HTTP_PROXY": "http://p.example"}, [], "none"),
        ({"HTTPS_PROXY": "http://p.example", "NO_PROXY": "api.playground.kustom.co"}, [], "none"),
        ({"KUSTOM_HPP_PROXY": "me:pa55word@p.example:1"}, [], "http://p.example:1 (from KUSTOM_HPP_PROXY)"),
        (
            {"KUSTOM_HPP_PROXY": "http://p.example:1"},
            ["--proxy", "https://q.example:2"],
            "https://q.example:2 (from --proxy)",
        ),
    ],
)
def test_check_shows_which_proxy_is_used(
    cli: Cli, environment: pytest.MonkeyPatch, settings: dict[str, str], options: list[str], due: str
) -> None:
    environment.setenv("KUSTOM_HPP_API_KEY", "kco_test_api_x")
    for name, value in settings.items():
        environment.setenv(name, value)
    done = cli("check", *options)
    assert done.code == 0
    [shown] = [line.split(None, 1)[1].strip() for line in done.out.splitlines() if line.strip().startswith("proxy ")]
    assert shown == due
    assert "pa55word" not in done.out + done.err


@pytest.mark.parametrize(
    ("settings", "options", "due"),
    [
        ({"HTTPS_PROXY": "socks5://p.example"}, [], "HTTPS_PROXY must be the URL of an HTTP proxy"),
        ({"https_proxy": "http://me:pa55word@p:x"}, [], "https_proxy must be the URL of an HTTP proxy"),
        ({"KUSTOM_HPP_PROXY": "http://me:pa55word@"}, [], "KUSTOM_HPP_PROXY must be the URL of an HTTP proxy"),
        ({}, ["--proxy", "ftp://me:pa55word@p.example"], "proxy must be the URL of an HTTP proxy"),
    ],
)
def test_an_invalid_proxy_is_named_by_its_source(
    cli: Cli, environment: pytest.MonkeyPatch, settings: dict[str, str], options: list[str], due: str
) -> None:
    environment.setenv("KUSTOM_HPP_API_KEY", "kco_test_api_x")
    for name, value in settings.items():
        environment.setenv(name, value)
    done = cli("read", "a-session", *options)
    assert (done.code, done.out) == (3, "")
    assert due in done.err
    assert "pa55word" not in done.err
