"""A pytest plugin that searches for secrets in all that tests print, log, warn of, raise, pickle and store.

`python -m tests.prove` runs a part of the suite with `-p tests.support.secret_watch`. KUSTOM_HPP_SECRET_WATCH is the
folder into which each process of pytest writes what it searched and what it found. The secrets are the API key that each
sandbox makes, a callback's secret in the requests of the tests (KUSTOM_HPP_CALLBACK_SECRET), and personal data.
"""

import asyncio
import base64
import functools
import json
import logging
import os
import pickle
import subprocess
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.support.golden import FULL_SESSION_DETAILS
from tests.support.orders import CALLBACK_SECRET

MADE_KEY = 40
"""Characters of an API key that a sandbox made, at least; a key that a test chose is shorter."""
PERSONAL = [str(FULL_SESSION_DETAILS.authorization_token), "19710314-0000"]
"""Data of the tests' session that no other text has by chance: never in an error or a log record."""
MOST_BYTES = 8_000_000
"""Of a file that are searched."""


class Watch:
    """The secrets of this process, what was searched, and where a secret was found."""

    def __init__(self) -> None:
        self.secrets = [CALLBACK_SECRET]
        self.searched = Counter[str]()
        self.found = list[tuple[str, str]]()
        self.inputs = set[str]()
        """Files that the test itself wrote."""
        self.test = ""

    def search(self, place: str, text: Any, *, personal: bool = False) -> None:
        """Search one text."""
        if not text:
            return
        self.searched[place] += 1
        shown = bytes(text).decode("latin-1") if isinstance(text, (bytes, bytearray)) else str(text)
        if any(secret in shown for secret in (*self.secrets, *(PERSONAL if personal else []))):
            self.found.append((place, self.test))

    def see_sandbox(self, _: None, sandbox: Sandbox, *__: object) -> None:
        """Add the key that a sandbox made, as it is and as it is sent."""
        if len(sandbox.api_key) > MADE_KEY:
            login = f"{sandbox.username}:{sandbox.api_key}"
            self.secrets += [sandbox.api_key, base64.b64encode(login.encode()).decode()]

    def see_error(self, _: None, error: hpp.HPPError, *__: object) -> None:
        """Search all that an error shows."""
        for text in (str(error), repr(error), repr(error.args), repr(vars(error))):
            self.search("errors", text, personal=True)
        try:
            pickled = DUMPS(error)
        except Exception:  # noqa: BLE001 - a class of a test, or one that is made only half
            return
        self.search("pickles", pickled, personal=True)

    def see_record(self, record: logging.LogRecord, *_: object) -> None:
        """Search a log record, with its arguments and its exception."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        self.search("log records", f"{record.getMessage()} {record.args!r} {error!r}", personal=True)

    def see_outputs(self, outputs: Any, *_: object) -> None:
        """Search what a test reads of stdout and stderr."""
        for text in outputs:
            self.search("outputs", text)

    def see_warning(self, _: None, warning: warnings.WarningMessage, *__: object) -> None:
        """Search a warning."""
        self.search("warnings", warning.message)

    def see_input(self, _: None, path: Path, *__: object) -> None:
        """Remember a file that a test writes."""
        self.inputs.add(str(path))

    def search_files(self, folder: Path) -> None:
        """Search the files that were written while a test ran, but for those that it wrote itself."""
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and str(path) not in self.inputs:
                with path.open("rb") as file:
                    self.search("files", file.read(MOST_BYTES))


DUMPS = pickle.dumps
WATCH = Watch()


def after(owner: Any, name: str, see: Callable[..., None]) -> Any:
    """Return a patch: the function is called, and its result and arguments are searched."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def call(*args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        see(result, *args)
        return result

    return mock.patch.object(owner, name, call)


def kinds(error: type[hpp.HPPError]) -> Iterator[type[hpp.HPPError]]:
    """Return the class of an error and all classes below it."""
    yield error
    for below in error.__subclasses__():
        yield from kinds(below)


async def communicate(process: asyncio.subprocess.Process, given: bytes | None = None) -> tuple[bytes, bytes]:
    """Search what a process printed."""
    outputs = await COMMUNICATE(process, given)
    WATCH.see_outputs(outputs)
    return outputs


COMMUNICATE = asyncio.subprocess.Process.communicate
PATCHES = [
    *(after(kind, "__init__", WATCH.see_error) for kind in {*kinds(hpp.HPPError)} if "__init__" in vars(kind)),
    after(Sandbox, "__init__", WATCH.see_sandbox),
    after(pickle, "dumps", lambda pickled, *_: WATCH.search("pickles", pickled)),
    after(logging.Logger, "makeRecord", WATCH.see_record),
    after(warnings.WarningMessage, "__init__", WATCH.see_warning),
    after(pytest.CaptureFixture, "readouterr", WATCH.see_outputs),
    after(subprocess.Popen, "communicate", WATCH.see_outputs),
    mock.patch.object(asyncio.subprocess.Process, "communicate", communicate),
    *(after(Path, name, WATCH.see_input) for name in ("write_text", "write_bytes")),
]


def pytest_configure() -> None:
    """Watch from here on."""
    if not CALLBACK_SECRET:
        raise pytest.UsageError("KUSTOM_HPP_CALLBACK_SECRET is not set: there is no secret to search for")
    for patch in PATCHES:
        patch.start()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test runs."""
    WATCH.test = item.nodeid
    WATCH.inputs.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: Any) -> None:
    """Search the test's files while they are there."""
    if "tmp_path" in item.funcargs:
        WATCH.search_files(item.funcargs["tmp_path"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Any:
    """Search what the test printed and did not read."""
    report = yield
    WATCH.see_outputs([text for name, text in report.sections if name.startswith("Captured std")])
    return report


def pytest_sessionfinish() -> None:
    """Write down what was searched and found."""
    for patch in reversed(PATCHES):
        patch.stop()
    folder = Path(os.environ["KUSTOM_HPP_SECRET_WATCH"])
    found = sorted(set(WATCH.found))
    (folder / f"{os.getpid()}.json").write_text(
        json.dumps({"searched": WATCH.searched, "found": found}), encoding="utf-8"
    )
