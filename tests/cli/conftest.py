"""A sandbox beside the test, and the command in this process or in one of its own."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kustom_hpp import config
from kustom_hpp.cli import main
from kustom_hpp.sandbox.threaded import ThreadedSandbox

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Cli = Callable[..., Done]
PROXY_VARIABLES = tuple(
    name for lower in ("http_proxy", "https_proxy", "no_proxy", "all_proxy") for name in (lower, lower.upper())
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of the test, without anything that the machine may have set."""
    for name in (*config.ENV_VARS.values(), *PROXY_VARIABLES, "FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def cli(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        environment.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def variables(**settings: str) -> dict[str, str]:
    """The environment of a process of its own, with these settings and no others."""
    mine = {*config.ENV_VARS.values(), *PROXY_VARIABLES}
    kept = {name: value for name, value in os.environ.items() if name not in mine}
    return (
        kept
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "PYTHONWARNINGS": "error"}
        | settings
    )


def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "kustom_hpp", *arguments]
    return subprocess.Popen(
        command,
        env=variables(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], what: Callable[[], bool]) -> None:
    """Wait until something is true of a process that runs."""
    end = time.monotonic() + 20
    while not what():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)


def run(*arguments: str, stdin: str = "", **settings: str) -> Done:
    """Run a command in a process of its own."""
    with start(*arguments, **settings) as process:
        out, err = process.communicate(stdin, timeout=30)
    return Done(process.returncode, out, err)


@pytest.fixture
def sandbox() -> Iterator[ThreadedSandbox]:
    """A sandbox in a thread: the commands have a loop of their own."""
    with ThreadedSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def at_sandbox(environment: pytest.MonkeyPatch, sandbox: ThreadedSandbox) -> ThreadedSandbox:
    """A sandbox that the environment leads to."""
    environment.setenv("KUSTOM_HPP_BASE_URL", sandbox.base_url)
    environment.setenv("KUSTOM_HPP_API_KEY", sandbox.api_key)
    return sandbox


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """The options that name output and journal."""
    return ["--output", str(tmp_path / "out.jsonl"), "--journal", str(tmp_path / "j.db")]
