"""The contract over every journal that the library has, and what a human can do to one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kustom_hpp import errors
from kustom_hpp._messages import Delivery
from kustom_hpp.batch import AlreadyRecorded, Claimed, OutcomeState, SqliteJournal, Verdict
from kustom_hpp.batch.journal_rules import is_refusal
from tests.support.journal_contract import (
    LOST,
    NOT_SENT,
    ORDER,
    PAYLOAD,
    REJECTED,
    THROTTLED,
    UNREADABLE,
    ExclusiveJournalContract,
    Opener,
    SharedJournalContract,
    created,
    doubt,
    failed,
    session,
)
from tests.support.memory_journal import MemoryJournal
from tests.support.shared_journal import SharedRuns


@pytest.fixture(params=["memory", "sqlite"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    """Open the journal anew, as the next run would."""
    last: list[Any] = []

    async def open_anew(**settings: Any) -> Any:
        if last:
            await last[-1].aclose()
        if request.param == "memory":
            journal: Any = MemoryJournal(last[-1] if last else None, **settings)
        else:
            journal = SqliteJournal(tmp_path / "journal.db", scope="here", **settings)
        last.append(journal)
        return await journal.__aenter__()

    yield open_anew
    for journal in last:
        await journal.aclose()


class TestExclusiveJournals(ExclusiveJournalContract):
    """Memory and file."""


class TestSharedJournal(SharedJournalContract):
    """Several runs over one store in memory."""

    @pytest.fixture
    def shared(self) -> SharedRuns:
        return SharedRuns()

    @pytest.fixture
    def opener(self, shared: SharedRuns) -> Opener:
        last: list[Any] = []

        async def open_next(**settings: Any) -> Any:
            if last:
                await last[-1].aclose()
            last.append(await shared.open(**settings))
            return last[-1]

        return open_next


# What a human resolves.


@pytest.fixture(params=["claimed", "lost", "accepted", "mixed up"])
async def doubtful(request: pytest.FixtureRequest, opener: Opener) -> Any:
    """A journal with the row "a" in doubt, for each of the reasons; and with "b", which has session-1."""
    journal = await opener()
    for key in "ba":
        await journal.claim(key, f"{ORDER}{key}", PAYLOAD)
    await journal.settle("b", created("b"))
    if request.param == "mixed up":
        with pytest.raises(errors.DuplicateSessionError):
            await journal.settle("a", created("a"))
    elif request.param != "claimed":
        await journal.settle("a", doubt(LOST if request.param == "lost" else UNREADABLE))
    return await opener()


async def test_a_doubt_is_resolved_as_created(doubtful: Any) -> None:
    reported = await doubtful.resolve("a", Verdict.CREATED, session=session("session-2"), note="seen in the portal")
    assert (reported.state, reported.session) == (OutcomeState.CREATED, session("session-2"))
    assert (await doubtful.claim("a", None, PAYLOAD, force=True)).outcome == reported
    assert await doubtful.doubts() == []
    notes = {row.key: (row.note, row.unsettled) async for row in doubtful.rows()}
    assert notes == {"b": (None, False), "a": ("created (by hand): seen in the portal", False)}


async def test_a_doubt_is_resolved_as_failed(doubtful: Any) -> None:
    reported = await doubtful.resolve("a", Verdict.FAILED)
    assert (reported.state, reported.error.delivery) == (OutcomeState.FAILED, Delivery.REJECTED)
    assert "by hand" in str(reported.error)
    assert type(await doubtful.claim("a", None, PAYLOAD)) is AlreadyRecorded
    assert await doubtful.claim("a", None, PAYLOAD, force=True) == Claimed()


async def test_a_doubt_is_resolved_as_to_be_sent_again(doubtful: Any) -> None:
    await doubtful.resolve("a", Verdict.SEND_AGAIN)
    assert await doubtful.claim("a", None, PAYLOAD) == Claimed()
    # The doubt is gone for good: what the new request says is true.
    await doubtful.settle("a", failed(REJECTED))
    assert (await doubtful.claim("a", None, PAYLOAD)).outcome.state is OutcomeState.FAILED


async def test_a_session_of_another_row_resolves_nothing(doubtful: Any) -> None:
    before = await doubtful.doubts()
    with pytest.raises(errors.DuplicateSessionError, match="belongs to 'b'"):
        await doubtful.resolve("a", Verdict.CREATED, session=session("session-1"))
    after = await doubtful.doubts()
    assert [(o.key, type(o.error), str(o.error)) for o in after] == [
        (o.key, type(o.error), str(o.error)) for o in before
    ]


@pytest.mark.parametrize(
    ("key", "verdict", "given", "why"),
    [
        ("zzz", Verdict.FAILED, None, "no row"),
        ("b", Verdict.FAILED, None, "not in doubt, it is created"),
        ("c", Verdict.FAILED, None, "this run is sending it"),
        ("a", Verdict.CREATED, None, "a session is required"),
        ("a", Verdict.FAILED, session("session-2"), "a session is required"),
    ],
)
async def test_nothing_else_is_resolved(doubtful: Any, key: str, verdict: Verdict, given: Any, why: str) -> None:
    await doubtful.claim("c", None, PAYLOAD)
    with pytest.raises(errors.JournalError, match=why):
        await doubtful.resolve(key, verdict, session=given)
    assert [reported.key for reported in await doubtful.doubts()] == ["a", "c"]


async def test_rows_come_in_the_order_of_their_claims(opener: Opener) -> None:
    journal = await opener()
    keys = [f"{(number * 7919) % 1201:04}" for number in range(1201)]  # more than two pages
    for key in keys:
        await journal.claim(key, None, PAYLOAD)
    await journal.settle(keys[600], created(keys[600]))
    assert [row.key async for row in journal.rows()] == keys


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, False),
        (NOT_SENT, False),
        (THROTTLED, False),
        (errors.AuthenticationError("who are you", status=401, attempts=1), False),
        (errors.PermissionDeniedError("not this", status=403, attempts=1), True),
        (REJECTED, True),
    ],
    ids=repr,
)
def test_what_is_a_refusal_of_the_row(error: errors.HPPError | None, expected: bool) -> None:
    assert is_refusal(error) is expected
