"""What only the journal in a file promises: durable, ours alone, checked, refused and left as it was."""

import asyncio
import contextlib
import errno
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from kustom_hpp import Environment, HPPClient, errors
from kustom_hpp.batch import Claimed, OutcomeState, Scope, SqliteJournal
from tests.batch.damage import CONTROL, TRIALS, trial
from tests.support.child_environment import unmeasured
from tests.support.journal_contract import PAYLOAD, created, doubt

SECRET = "q8hT-secret-merchant-path"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def make(path: Path, *keys: str, **settings: Any) -> None:
    """A journal with some rows: created, but for the last, which is in doubt."""
    async with SqliteJournal(path, **{"scope": "here", **settings}) as journal:
        for key in keys:
            await journal.claim(key, None, PAYLOAD)
        for key in keys[:-1]:
            await journal.settle(key, created(key, f"session-{key}"))


async def keys_in(path: Path) -> dict[str, OutcomeState]:
    async with SqliteJournal(path, scope="here") as journal:
        return {row.key: row.outcome.state async for row in journal.rows()}


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*") if file.is_file()}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "kustom_hpp journal"]


# The file.


def test_importing_the_batch_loads_no_sqlite() -> None:
    code = "import sys, kustom_hpp.batch; sys.exit('sqlite3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=unmeasured())


async def test_only_its_owner_may_read_it(path: Path) -> None:
    old = os.umask(0)
    try:
        async with SqliteJournal(path, scope="here") as journal:
            await journal.claim("a", None, PAYLOAD)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-watermark": 0o600}
    assert sorted(content(path.parent)) == ["journal.db", "journal.db-watermark"]


async def test_it_holds_no_request(path: Path) -> None:
    error = errors.DecodeError("unreadable", body=SECRET.encode(), attempts=1)
    async with SqliteJournal(path, scope="here") as journal:
        await journal.claim("a", None, PAYLOAD)
        await journal.settle("a", doubt(error))
        found = b"".join(content(path.parent).values())
    assert b"unreadable" in found
    assert SECRET.encode() not in found


async def test_it_is_touched_at_its_first_use(path: Path) -> None:
    journal = SqliteJournal(path, scope="here")
    assert content(path.parent) == {}
    assert threads() == []
    await journal.aclose()
    assert content(path.parent) == {}


async def test_a_relative_path_stays_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = SqliteJournal("journal.db", scope="here")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    async with journal:
        assert (tmp_path / "journal.db").exists()


async def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "disk" / "journal.db")
    await make(tmp_path / "link.db", "a")
    assert await keys_in(tmp_path / "disk" / "journal.db") == {"a": OutcomeState.IN_DOUBT}


# Ours alone.


async def test_a_second_journal_in_this_process_fails_at_once(path: Path) -> None:
    async with SqliteJournal(path, scope="here") as journal:
        for _ in range(2):
            with pytest.raises(errors.JournalError, match="in use"):
                await SqliteJournal(path, scope="here").__aenter__()
        assert await journal.claim("a", None, PAYLOAD) == Claimed()
        assert len(threads()) == 1
    assert await keys_in(path) == {"a": OutcomeState.IN_DOUBT}


OTHER_PROCESS = """
import asyncio, sys
from kustom_hpp import errors
from kustom_hpp.batch import SqliteJournal
async def main():
    async with SqliteJournal(sys.argv[1], scope="here") as journal:
        print(await journal.claim("theirs", None, b"d" * 32), flush=True)
        sys.stdin.readline()
        if sys.argv[2] == "die":
            __import__("os").kill(__import__("os").getpid(), 9)
try:
    asyncio.run(main())
except errors.JournalError as error:
    print(error, flush=True)
"""


def other_process(path: Path, end: str = "close") -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", "-c", OTHER_PROCESS, str(path), end]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("end", ["close", "die"])
async def test_two_processes(path: Path, end: str) -> None:
    with other_process(path, end) as theirs:
        assert theirs.stdout.readline() == "Claimed()\n"
        with pytest.raises(errors.JournalError, match="in use"):
            await SqliteJournal(path, scope="here").__aenter__()
        theirs.communicate("\n", timeout=30)
    async with SqliteJournal(path, scope="here") as journal:
        assert [reported.key for reported in await journal.doubts()] == ["theirs"]
        with other_process(path) as theirs:
            assert "in use" in theirs.communicate("\n", timeout=30)[0]
        assert await journal.claim("ours", None, PAYLOAD) == Claimed()


async def test_a_forked_child_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteJournal(path, scope="here") as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(errors.JournalError, match="after the fork"):
                await journal.claim("a", None, PAYLOAD)
            await journal.aclose()  # the child's copy; the thread is the parent's
        assert len(threads()) == 1
        while threads():
            await asyncio.sleep(0)


# Refused, and left as it was.


@contextlib.contextmanager
def raw(path: Path) -> Any:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


async def refused(path: Path, why: str, **settings: Any) -> None:
    before = content(path.parent)
    journal = SqliteJournal(path, **{"scope": "here", **settings})
    with pytest.raises(errors.JournalError, match=why) as caught:
        await journal.__aenter__()
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    with pytest.raises(errors.JournalError):
        await journal.claim("a", None, PAYLOAD)
    assert content(path.parent) == before
    assert threads() == []


def crashed(path: Path, into: Path) -> Path:
    """A copy of an open journal: what a crash would leave."""
    into.mkdir()
    for file in path.parent.iterdir():
        if file.is_file():
            (into / file.name).write_bytes(file.read_bytes())
    return into / path.name


@pytest.mark.parametrize("crash", [False, True])
async def test_another_scope_is_refused(path: Path, tmp_path: Path, crash: bool) -> None:
    async with SqliteJournal(path, scope=Scope("https://api.example", "live", "shop 1")) as journal:
        await journal.claim("a", None, PAYLOAD)
        copy = crashed(path, tmp_path / "copy")
    why = "scope: 'https://api.example live shop 1', and this run has 'https://api.example live shop 2'"
    await refused(copy if crash else path, why, scope=Scope("https://api.example", "live", "shop 2"))


def test_a_scope_of_a_client() -> None:
    key = "kco_test_api_" + "x" * 32
    client = HPPClient(username="shop", password="p" * 20, environment=Environment.PLAYGROUND, transport=object())
    assert str(Scope.of(client.settings, "shop 1")) == f"{Environment.PLAYGROUND.base_url} playground shop 1"
    client = HPPClient(api_key=key, base_url="https://proxy.example:8443/kustom/", transport=object())
    assert Scope.of(client.settings) == Scope("https://proxy.example:8443", None, "")
    assert "without environment" in str(Scope.of(client.settings))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("PRAGMA user_version=2", "version 2"),
        ("PRAGMA application_id=7", "not a journal of this library"),
        ("UPDATE rows SET state='failed' WHERE key='a'", "the checksum of its row number 1 is wrong"),
        ("UPDATE rows SET session=replace(session, 'pay.example', 'evil.example')", "its row number 1"),
        ("UPDATE about SET scope='there'", "the checksum of its scope is wrong"),
        ("DROP INDEX rows_key", "its tables"),
        ("CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END", "its tables"),
        ("DELETE FROM rows", "lost its end"),
        ("PRAGMA journal_mode=DELETE", "its tables"),
    ],
)
async def test_a_changed_file_is_refused(path: Path, change: str, why: str) -> None:
    await make(path, "a", "b")
    with raw(path) as db:
        db.execute(change).fetchall()
    await refused(path, why)


async def test_what_is_no_journal_is_refused(path: Path, tmp_path: Path) -> None:
    for short in (b"", b"S"):
        path.write_bytes(short)
        await refused(path, "is empty or truncated")
    path.write_bytes(b"{}" * 5000)
    await refused(path, "is not a journal")
    path.unlink()
    with raw(path) as db:
        db.execute("CREATE TABLE theirs(a)")
    await refused(path, "not a journal of this library")
    Path(f"{path}-journal").write_bytes(b"theirs")
    await refused(path, "rollback journal")
    folder = tmp_path / "folder.db"
    folder.mkdir()
    await refused(folder / "missing" / "journal.db", "cannot be created: there is no folder .*folder.db/missing$")


async def test_a_refusal_names_no_file_but_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(**_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path.parent / ".journal.db.x1"))

    monkeypatch.setattr(tempfile, "mkstemp", forbidden)
    await refused(path, r"cannot be created or opened \(PermissionError 13: Permission denied\)$")


async def test_what_is_left_of_a_journal_is_not_taken_for_none(path: Path) -> None:
    await make(path, "a")
    path.unlink()
    await refused(path, "there is no journal .*-watermark. Put the journal back")
    Path(f"{path}-watermark").unlink()
    Path(f"{path}-wal").write_bytes(b"log")
    await refused(path, "there is no journal .*-wal. Put the journal back")
    Path(f"{path}-wal").unlink()
    assert await keys_in(path) == {}


async def test_a_copy_without_its_log_is_refused(path: Path, tmp_path: Path) -> None:
    async with SqliteJournal(path, scope="here") as journal:
        await journal.claim("a", None, PAYLOAD)
        copy = crashed(path, tmp_path / "copy")
    Path(f"{copy}-wal").unlink()
    await refused(copy, "last transaction is 0, and its watermark says 2")
    Path(f"{copy}-watermark").unlink()  # as the error says
    assert await keys_in(copy) == {}


async def test_the_watermark_of_another_journal_says_nothing(path: Path, tmp_path: Path) -> None:
    await make(path, *"abcdef")
    (tmp_path / "other").mkdir()
    await make(tmp_path / "other" / "journal.db", "a")
    path.write_bytes((tmp_path / "other" / "journal.db").read_bytes())
    assert list(await keys_in(path)) == ["a"]


@pytest.mark.parametrize("name", TRIALS)
def test_damage(name: str) -> None:
    """A share of what `python -m tests.batch.damage` does whole."""
    counted = trial(name, 1 if name == "watermark, bits" else 211, 0, 1)
    assert counted.total() > 100
    assert set(counted) <= TRIALS[name][4]


def test_without_the_watermark_a_damaged_log_is_an_earlier_state() -> None:
    counted = trial("control", 211, 0, 1)
    assert counted["earlier state"] > 100
    assert set(counted) <= CONTROL[4]


class Odd(str):
    """A text that is written another way than it is read, as an array library's texts are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Odd({self!s})"


async def test_a_text_of_an_odd_kind_does_not_make_the_file_look_damaged(path: Path) -> None:
    async with SqliteJournal(path, scope="here") as journal:
        assert await journal.claim(Odd("a"), Odd("order-a"), PAYLOAD) == Claimed()
        await journal.settle(Odd("a"), created("a"))
        assert await journal.claim(Odd("b"), Odd("order-b"), PAYLOAD) == Claimed()
    assert await keys_in(path) == {"a": OutcomeState.CREATED, "b": OutcomeState.IN_DOUBT}


async def test_what_the_file_cannot_keep_is_never_called_fresh(path: Path) -> None:
    nothing: Any = None
    async with SqliteJournal(path, scope="here") as journal:
        reported = await asyncio.gather(
            journal.claim("a", None, nothing), journal.claim("b", None, PAYLOAD), return_exceptions=True
        )
        assert isinstance(reported[0], errors.JournalError)
        assert reported[1] == Claimed()
    assert await keys_in(path) == {"b": OutcomeState.IN_DOUBT}
