"""The writer thread of a journal: shared transactions, errors, and how the thread ends."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kustom_hpp import errors
from kustom_hpp._messages import Delivery
from kustom_hpp.batch import Claim, Claimed, OutcomeState, SqliteJournal
from kustom_hpp.batch.sqlite import database as journal_file
from tests.batch.test_sqlite_journal import crashed, keys_in, threads
from tests.support.journal_contract import PAYLOAD, created, session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hold every transaction back until the event is set: without it, a loaded machine may finish one at any line."""
    event = threading.Event()
    execute = journal_file.JournalDatabase.execute

    def wait_and_execute(self: Any, operations: Any) -> Any:
        event.wait()
        return execute(self, operations)

    monkeypatch.setattr(journal_file.JournalDatabase, "execute", wait_and_execute)
    yield event
    event.set()


# The thread.


async def test_many_that_wait_share_a_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0
    execute = journal_file.JournalDatabase.execute

    def counting(self: Any, operations: Any) -> Any:
        nonlocal begun
        begun += 1
        return execute(self, operations)

    monkeypatch.setattr(journal_file.JournalDatabase, "execute", counting)
    async with SqliteJournal(path, scope="here") as journal:
        claims = await asyncio.gather(*(journal.claim(str(number), None, PAYLOAD) for number in range(1000)))
    assert claims == [Claimed()] * 1000
    assert begun <= 1 + 1000 / 50


async def test_a_claim_that_was_cancelled_is_in_doubt(path: Path, release: threading.Event) -> None:
    async with contextlib.aclosing(SqliteJournal(path, scope="here")) as journal:
        claim = journal.claim("a", None, PAYLOAD)
        claim.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await claim
    assert await keys_in(path) == {"a": OutcomeState.IN_DOUBT}


def test_what_a_loop_left_behind_when_it_ended_is_kept(path: Path) -> None:
    journal = SqliteJournal(path, scope="here")

    async def begin() -> None:
        left = journal.claim("a", None, PAYLOAD)
        assert not left.done()
        await asyncio.sleep(0)

    asyncio.run(begin())
    asyncio.run(journal.aclose())
    assert threads() == []
    assert asyncio.run(keys_in(path)) == {"a": OutcomeState.IN_DOUBT}


def test_a_journal_serves_one_loop_after_another(path: Path) -> None:
    journal = SqliteJournal(path, scope="here")

    async def claim(key: str) -> Claim:
        return await journal.claim(key, None, PAYLOAD)

    assert asyncio.run(claim("a")) == Claimed()
    assert asyncio.run(claim("b")) == Claimed()
    asyncio.run(journal.aclose())
    assert threads() == []


async def test_closing_at_once_from_many_sides(path: Path) -> None:
    journal = SqliteJournal(path, scope="here")
    claims = [asyncio.ensure_future(journal.claim(str(number), None, PAYLOAD)) for number in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(*(journal.aclose() for _ in range(5)))
    assert await asyncio.gather(*claims) == [Claimed()] * 50
    assert threads() == []


async def test_a_close_that_is_cancelled_closes_nevertheless(path: Path) -> None:
    journal = SqliteJournal(path, scope="here")
    await journal.claim("a", None, PAYLOAD)
    close = asyncio.create_task(journal.aclose())
    await asyncio.sleep(0)
    close.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await close
    await journal.aclose()
    assert threads() == []


async def test_an_opening_that_is_cancelled_leaves_nothing_open(path: Path, release: threading.Event) -> None:
    opening = asyncio.create_task(SqliteJournal(path, scope="here").__aenter__())
    await asyncio.sleep(0)  # it waits for the thread now
    opening.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    while threads():
        await asyncio.sleep(0)
    assert await keys_in(path) == {}


async def test_a_journal_that_was_forgotten_says_so_and_lets_go(path: Path) -> None:
    journal = SqliteJournal(path, scope="here")
    await journal.claim("a", None, PAYLOAD)
    only = [journal]
    del journal
    with pytest.warns(ResourceWarning, match="unclosed journal"):
        only.clear()
    while threads():
        await asyncio.sleep(0)
    assert await keys_in(path) == {"a": OutcomeState.IN_DOUBT}


async def test_a_long_log_is_put_into_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "_MAX_LOG_BYTES", 50_000)
    monkeypatch.setattr(journal_file, "_CHANGES_PER_CHECK", 5)
    async with SqliteJournal(path, scope="here") as journal:
        lengths = []
        for number in range(100):
            await journal.claim(str(number), None, PAYLOAD)
            lengths.append(Path(f"{path}-wal").stat().st_size)
        await journal.doubts()  # the thread has done what it does after a transaction
        copy = crashed(path, path.parent / "copy")
    # Looked at after every fifth row, each of which takes a few pages.
    assert 50_000 < max(lengths) < 50_000 + 5 * 30_000
    assert sum(after < before for before, after in pairwise(lengths)) == 19
    assert len(await keys_in(copy)) == 100


# A disk that fails: every later call gets the error. (`python -m tests.batch.disk` asks a real one.)


async def test_after_a_write_error_nothing_more_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteJournal(path, scope="here") as journal:
        await journal.claim("a", None, PAYLOAD)
        await journal.settle("a", created())
        await journal.claim("b", None, PAYLOAD)
        with monkeypatch.context() as patch:
            patch.setattr(journal_file.CommitWatermark, "write", fail)
            reported = await asyncio.gather(
                journal.settle("b", created("b", "session-b")),
                *(journal.claim(str(number), None, PAYLOAD) for number in range(20)),
                return_exceptions=True,
            )
        assert {type(each) for each in reported} == {errors.JournalError}
        assert {each.cause for each in reported} == {"OSError 28: [Errno 28] No space left on device"}
        assert reported[0].delivery is None
        # The disk is well again; the journal is not.
        for call in (journal.claim("c", None, PAYLOAD), journal.settle("b", created("b")), journal.doubts()):
            with pytest.raises(errors.JournalError, match="cannot be written to"):
                await call
    assert threads() == []
    found = await keys_in(path)
    assert found["a"] is OutcomeState.CREATED
    assert "c" not in found


def fail(*_: Any) -> None:
    raise OSError(28, "No space left on device")


async def test_a_checkpoint_that_fails_ends_the_journal_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_once_it_holds_a(file: journal_file.JournalDatabase) -> None:
        if file.rows.get("a"):
            fail()

    with monkeypatch.context() as patch:
        patch.setattr(journal_file.JournalDatabase, "maintain", fail_once_it_holds_a)
        async with SqliteJournal(path, scope="here") as journal:
            assert await journal.claim("a", None, PAYLOAD) == Claimed()  # it is durable, whatever comes after
            with pytest.raises(errors.JournalError, match="No space left"):
                await journal.claim("b", None, PAYLOAD)
    assert await keys_in(path) == {"a": OutcomeState.IN_DOUBT}


async def test_a_failed_row_is_a_failed_row_alone(path: Path) -> None:
    async with SqliteJournal(path, scope="here") as journal:
        reported = await asyncio.gather(
            journal.claim("a", None, PAYLOAD), journal.settle("never", created("never")), return_exceptions=True
        )
        assert reported[0] == Claimed()
        assert isinstance(reported[1], errors.JournalError)
        await journal.settle("a", created("a"))


async def test_a_mixed_up_row_is_durable_when_it_is_told(path: Path, tmp_path: Path) -> None:
    async with SqliteJournal(path, scope="here") as journal:
        for key in "ab":
            await journal.claim(key, None, PAYLOAD)
        await journal.settle("a", created("a"))
        with pytest.raises(errors.DuplicateSessionError):
            await journal.settle("b", created("b"))
        copy = crashed(path, tmp_path / "copy")
    async with SqliteJournal(copy, scope="here") as journal:
        [reported] = await journal.doubts()
    assert (reported.key, reported.error.delivery, reported.session) == ("b", Delivery.ACCEPTED, None)
    assert session().session_id in str(reported.error)
