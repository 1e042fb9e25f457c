"""The README's Python blocks run, in their order, against a real sandbox; and the README keeps its form.

For whoever writes the README. All ```python blocks share one namespace, so a later block sees what an earlier one
imported, and one event loop. The namespace begins with

    shop      has `await shop.new_order(cart)`
    cart      what `shop` makes an order of
    log       a logging.Logger
    request   a CreateSessionRequest that the sandbox accepts

and KUSTOM_HPP_API_KEY and KUSTOM_HPP_BASE_URL lead to the sandbox, so `HPPClient.from_env()` works. A block may await
at its top level. A block that does not runs as a script would, in a thread without a loop: it may call asyncio.run().
No block can be skipped.
"""

import ast
import asyncio
import inspect
import logging
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from sybil import Example
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox, StoredSession, TimelineEntry
from tests.integrations.web import free_socket, serve_asgi

README = Path(__file__).parent.parent / "README.md"


def fences(path: Path) -> list[str]:
    """The info string of every fenced block, in order."""
    opened = re.findall(r"^[ \t]*(`{3,}|~{3,})(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [info.strip() for _, info in opened][::2]


def python_blocks(path: Path) -> list[Example]:
    """The Python blocks of a Markdown file, in order; fails where one would be passed over, or where there is none."""
    blocks = list(Document.parse(str(path), CodeBlockParser("python", evaluator=lambda _: None)))
    meant = [info for info in fences(path) if info.lower().startswith("py")]
    assert len(blocks) == len(meant), f"{path.name}: a Python block must open with ```python, got {meant}"
    assert blocks, f"{path.name}: no Python block"
    return blocks


async def run_blocks(path: Path, namespace: dict[str, Any]) -> None:
    """Run every Python block of a Markdown file; a traceback shows the file's own lines."""
    for block in python_blocks(path):
        source = "\n" * (block.line + block.parsed.line_offset) + block.parsed
        code = compile(source, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            # With the flag, what eval gives for code that awaits is a coroutine.
            await eval(code, namespace)
        else:
            await asyncio.to_thread(exec, code, namespace)


@pytest.fixture
async def namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    monkeypatch.chdir(tmp_path)  # a block may write a file, such as a journal

    async def new_order(cart: list[str]) -> str:
        return f"an order of {len(cart)} things"

    async with Sandbox() as sandbox:
        monkeypatch.setenv("KUSTOM_HPP_API_KEY", sandbox.api_key)
        monkeypatch.setenv("KUSTOM_HPP_BASE_URL", str(sandbox.base_url))
        async with hpp.HPPClient.from_env() as client:
            order_url = client.order_url("1f3c5a0e-8a55-4ff2-b9c6-1d8ae6a4f1d2")
        sandbox.state.listen(lambda session, moment: cancels(sandbox, session, moment))
        yield {
            "__name__": "readme",
            "shop": SimpleNamespace(new_order=new_order),
            "cart": ["a thing"],
            "log": logging.getLogger("shop"),
            "request": hpp.CreateSessionRequest(
                payment_session_url=order_url,
                merchant_urls=hpp.MerchantUrls(success="https://shop.example/thanks?hpp={{session_id}}"),
            ),
        }


def cancels(sandbox: Sandbox, session: StoredSession, moment: TimelineEntry) -> None:
    """A consumer who cancels every session: a block may wait for its end, and the order stays open for the next block."""
    if moment.what == "created":
        asyncio.get_running_loop().call_soon(sandbox.act, session, "cancel")


async def test_every_python_block_runs(namespace: dict[str, Any]) -> None:
    await run_blocks(README, namespace)


def test_the_shops_test_passes_as_it_stands(tmp_path: Path) -> None:
    [shop] = [str(block.parsed) for block in python_blocks(README) if "kustom_sandbox" in block.parsed]
    (tmp_path / "test_shop.py").write_text(shop, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # Whoever runs this suite with options of pytest's does not mean that one.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


async def test_the_fastapi_app_returns_a_session(namespace: dict[str, Any]) -> None:
    [block] = [str(block.parsed) for block in python_blocks(README) if "FastAPI" in block.parsed]
    scope = namespace | {"hpp": hpp}
    exec(block, scope)
    async with (
        serve_asgi(scope["app"], free_socket()) as url,
        aiohttp.ClientSession() as browser,
        browser.post(f"{url}/pay") as response,
    ):
        assert response.status == 200
        session = hpp.Session.from_dict(await response.json())
    async with hpp.HPPClient.from_env() as client:
        assert (await client.read_session(session)).session_id == session.session_id


def test_at_most_250_lines() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 250


def test_the_first_two_blocks_are_the_two_commands() -> None:
    # .ci/run takes them from here and runs them as they stand: the first shows the demo, the second tests.
    assert fences(README)[:2] == ["sh", "sh"]
    demo, tests = (block.parsed for block in list(Document.parse(str(README), CodeBlockParser("sh")))[:2])
    assert "kustom-hpp demo" in demo
    assert "pytest" in tests


# The harness can fail.


def write(folder: Path, *blocks: str) -> Path:
    path = folder / "README.md"
    path.write_text("# Title\n\n" + "\n\nand\n\n".join(blocks))
    return path


async def test_blocks_run_in_order_with_and_without_await(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "```python\nimport asyncio\nseen = [len(given)]\n```",
        "```sh\nfalse\n```",
        "```python\nasync with asyncio.timeout(5):\n    seen.append(await asyncio.sleep(0, 2))\n```",
        "```python\nasync def main():\n    seen.append(3)\n\nasyncio.run(main())\n```",
    )
    namespace: dict[str, Any] = {"given": "x"}
    await run_blocks(path, namespace)
    assert namespace["seen"] == [1, 2, 3]


@pytest.mark.parametrize("block", ["raise KeyError", "import asyncio\nawait asyncio.sleep(0)\nraise KeyError"])
async def test_a_block_that_fails_shows_its_line(tmp_path: Path, block: str) -> None:
    path = write(tmp_path, "```python\nx = 1\n```", f"```python\n{block}\n```")
    with pytest.raises(KeyError) as caught:
        await run_blocks(path, {})
    assert str(caught.traceback[-1].path) == str(path)
    assert path.read_text().splitlines()[caught.traceback[-1].lineno] == "raise KeyError"


@pytest.mark.parametrize("info", ["py", "Python", "python title=x", "pycon"])
def test_a_block_that_would_be_passed_over_is_an_error(tmp_path: Path, info: str) -> None:
    path = write(tmp_path, "```python\nx = 1\n```", f"```{info}\nraise KeyError\n```")
    with pytest.raises(AssertionError, match="must open with"):
        python_blocks(path)


def test_a_file_without_blocks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no Python block"):
        python_blocks(write(tmp_path, "```sh\ntrue\n```"))
