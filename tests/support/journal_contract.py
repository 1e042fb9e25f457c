"""What every journal must do: `ExclusiveJournalContract` for one run at a time, `SharedJournalContract` for several.

A test of a journal subclasses one of them and provides the fixture `opener`. It opens the journal as the next run would, after
the run before has ended: the claims of that run without an outcome are in doubt then. A shared journal provides the fixture
`shared` too, see `Shared`.
"""

import asyncio
import copy
import datetime as dt
import hashlib
import itertools
import pickle
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs
import pytest

from kustom_hpp import errors
from kustom_hpp._messages import CallInfo, Delivery
from kustom_hpp.batch import AlreadyRecorded, Claimed, ClaimedElsewhere, Outcome, OutcomeState, Verdict
from kustom_hpp.models import Session

Opener = Callable[..., Awaitable[Any]]
CREATED, FAILED, IN_DOUBT = OutcomeState.CREATED, OutcomeState.FAILED, OutcomeState.IN_DOUBT
PAYLOAD, OTHER_PAYLOAD = (hashlib.sha256(text).digest() for text in (b"one", b"two"))
ORDER = "https://api.kustom.example/checkout/v3/orders/1"


def session(session_id: str = "session-1", **fields: Any) -> Session:
    return Session(session_id=session_id, redirect_url=f"https://pay.example/{session_id}?token=a", **fields)


def created(key: str = "a", session_id: str = "session-1") -> Outcome:
    return Outcome(key=key, state=CREATED, session=session(session_id), attempts=1)


def failed(error: errors.HPPError, key: str = "a") -> Outcome:
    return Outcome(key=key, state=FAILED, error=error, attempts=error.attempts)


def doubt(error: errors.HPPError, key: str = "a") -> Outcome:
    return Outcome(key=key, state=IN_DOUBT, error=error, attempts=1)


REJECTED = errors.BadRequestError(
    "no", status=400, code="BAD_VALUE", messages=("a", "b"), attempts=1, correlation_id="c-1"
)
THROTTLED = errors.RateLimitError("slow", status=429, retry_after=1.5, attempts=4)
NOT_SENT = errors.ConnectError("no way", timed_out=True, attempts=2, cause="OSError 111 in connect")
INVALID = errors.InvalidRequestError(problems=(("payment_session_url", "is missing"),))
LOST = errors.LostResponseError("gone", timed_out=True, attempts=1, cause="TimeoutError in read")
BROKEN_500 = errors.ServerError("oh", status=500, attempts=1)
UNREADABLE = errors.DecodeError("what", status=201, session_id="session-9", attempts=1, body=b"{")

PASTS: dict[str, Outcome | None] = {
    "created": created(),
    "claimed": None,
    "lost": doubt(LOST),
    "500": doubt(BROKEN_500),
    "accepted": doubt(UNREADABLE),
    "not sent": failed(NOT_SENT),
    "invalid": failed(INVALID),
    "throttled": failed(THROTTLED),
    "wrong key": failed(errors.AuthenticationError("who are you", status=401, attempts=1)),
    "rejected": failed(REJECTED),
}
# The past, and whether a claim gets the row: with the same payload; and force; with a changed one; and force.
RESUME = [
    ("created", False, False, False, False),
    ("claimed", False, True, False, False),
    ("lost", False, True, False, False),
    ("500", False, True, False, False),
    ("accepted", False, False, False, False),
    ("not sent", True, True, True, True),
    ("invalid", True, True, True, True),
    ("throttled", True, True, True, True),
    ("wrong key", True, True, True, True),
    ("rejected", False, True, True, True),
]
CASES = [
    (past, changed, force, fresh)
    for past, *ends in RESUME
    for (changed, force), fresh in zip(itertools.product((False, True), repeat=2), ends, strict=True)
]


async def all_of(journal: Any) -> list[Any]:
    """Everything that a journal shows, in a form that can be compared (an error equals only itself)."""
    return [
        (attrs.evolve(row, outcome=attrs.evolve(row.outcome, error=None)), repr(row.outcome.error))
        async for row in journal.rows()
    ]


class JournalContract:
    """The tests of every journal. Each opens journals with `opener`, whose teardown closes them."""

    is_shared = False

    @pytest.mark.parametrize(("past", "changed", "force", "fresh"), CASES)
    async def test_the_resume_table(self, opener: Opener, past: str, changed: bool, force: bool, fresh: bool) -> None:
        if self.is_shared and past in {"claimed", "lost", "500"}:
            fresh = False  # only a person frees a doubt
        journal = await opener()
        assert await journal.claim("a", ORDER, PAYLOAD) == Claimed()
        if (outcome := PASTS[past]) is not None:
            await journal.settle("a", outcome)
        journal = await opener()
        before = await all_of(journal)
        reported = await journal.claim("a", ORDER, OTHER_PAYLOAD if changed else PAYLOAD, force=force)
        if fresh:
            assert reported == Claimed()
            assert [o.key for o in await journal.doubts()] == ["a"]  # claimed: in doubt until it is settled
            return
        assert type(reported) is AlreadyRecorded
        assert reported.changed is changed
        assert reported.outcome.state is (outcome.state if outcome else IN_DOUBT)
        assert reported.outcome.earlier_run
        if reported.outcome.state is IN_DOUBT:
            assert isinstance(reported.outcome.error, errors.OutcomeUnknownError)
        assert await all_of(journal) == before  # nothing was written

    async def test_a_claim_without_an_outcome_is_unknown(self, opener: Opener) -> None:
        await (await opener()).claim("a", None, PAYLOAD)
        [reported] = await (await opener()).doubts()
        assert reported.state is IN_DOUBT
        assert reported.error.delivery is Delivery.UNKNOWN
        assert reported.earlier_run

    async def test_a_row_says_when_it_was_changed(self, opener: Opener) -> None:
        journal = await opener()
        before = dt.datetime.now(dt.UTC)
        await journal.claim("a", None, PAYLOAD)
        await journal.settle("a", created())
        [row] = [row async for row in journal.rows()]
        assert before - dt.timedelta(seconds=1) < row.changed_at < dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)

    async def test_a_run_claims_a_key_once(self, opener: Opener) -> None:
        journal = await opener()
        assert await journal.claim("a", None, PAYLOAD) == Claimed()
        for force in (False, True):
            with pytest.raises(errors.InvalidRequestError, match="this run is sending another row with it"):
                await journal.claim("a", None, PAYLOAD, force=force)

    async def test_a_hundred_claims_of_a_key_at_once_give_it_to_one(self, opener: Opener) -> None:
        journal = await opener()
        claims = (journal.claim("a", ORDER, PAYLOAD) for _ in range(100))
        ends = await asyncio.gather(*claims, return_exceptions=True)
        assert sorted(type(end).__name__ for end in ends) == ["Claimed"] + ["InvalidRequestError"] * 99

    async def test_what_may_exist_is_in_doubt_whatever_it_is_called(self, opener: Opener) -> None:
        journal = await opener()
        await journal.claim("a", None, PAYLOAD)
        await journal.settle("a", failed(LOST))
        assert [each.state for each in await journal.doubts()] == [IN_DOUBT]

    # Uniqueness.

    @pytest.mark.parametrize(
        ("outcome", "free"),
        [(None, False), (created(), False), (doubt(LOST), False), (failed(REJECTED), True), (failed(NOT_SENT), True)],
        ids=["claimed", "created", "in doubt", "rejected", "not sent"],
    )
    async def test_an_order_has_one_session(self, opener: Opener, outcome: Outcome | None, free: bool) -> None:
        journal = await opener()
        await journal.claim("a", ORDER, PAYLOAD)
        if outcome is not None:
            await journal.settle("a", outcome)
        if not free:
            with pytest.raises(errors.InvalidRequestError, match="'a' is for the same KCO order"):
                await journal.claim("b", ORDER, OTHER_PAYLOAD)
        else:
            assert await journal.claim("b", ORDER, OTHER_PAYLOAD) == Claimed()
            # Now it belongs to b: a, which failed, does not get it back.
            with pytest.raises(errors.InvalidRequestError, match="'b' is for the same KCO order"):
                await journal.claim("a", ORDER, PAYLOAD, force=True)
        assert await journal.claim("c", ORDER + "2", PAYLOAD) == Claimed()

    async def test_other_payment_sessions_may_have_several(self, opener: Opener) -> None:
        journal = await opener()
        assert [await journal.claim(key, None, PAYLOAD) for key in "abc"] == [Claimed()] * 3

    async def test_an_order_that_a_key_no_longer_means_is_free(self, opener: Opener) -> None:
        journal = await opener()
        await journal.claim("a", ORDER, PAYLOAD)
        await journal.settle("a", failed(REJECTED))
        assert await journal.claim("a", ORDER + "2", OTHER_PAYLOAD) == Claimed()
        assert await journal.claim("b", ORDER, PAYLOAD) == Claimed()

    async def test_a_session_of_two_keys_is_a_mix_up(self, opener: Opener) -> None:
        journal = await opener()
        for key in "ab":
            await journal.claim(key, None, PAYLOAD)
        await journal.settle("a", created("a"))
        with pytest.raises(errors.DuplicateSessionError) as caught:
            await journal.settle("b", created("b"))
        assert "'a'" in str(caught.value)
        assert "'b'" in str(caught.value)
        journal = await opener()
        [reported] = await journal.doubts()
        assert (reported.key, reported.error.delivery) == ("b", Delivery.ACCEPTED)
        assert type(await journal.claim("b", None, PAYLOAD, force=True)) is AlreadyRecorded
        assert (await journal.claim("a", None, PAYLOAD)).outcome.session == session()

    # Settling.

    async def test_only_what_this_run_claimed_is_settled(self, opener: Opener) -> None:
        journal = await opener()
        with pytest.raises(errors.JournalError, match="has not claimed it"):
            await journal.settle("a", created())
        await journal.claim("a", None, PAYLOAD)
        journal = await opener()
        if self.is_shared:
            assert type(await journal.settle("a", failed(REJECTED))) is ClaimedElsewhere
        else:
            with pytest.raises(errors.JournalError, match="has not claimed it"):
                await journal.settle("a", created())
        assert len(await journal.doubts()) == 1

    async def test_settling_twice_changes_no_session(self, opener: Opener) -> None:
        journal = await opener()
        await journal.claim("a", None, PAYLOAD)
        await journal.settle("a", created())
        await journal.settle("a", created())
        for other in (created("a", "session-2"), failed(REJECTED), doubt(LOST)):
            with pytest.raises(errors.JournalError, match="has a session already"):
                await journal.settle("a", other)
        assert (await journal.claim("a", None, PAYLOAD)).outcome.session == session()

    async def test_a_session_is_needed_to_be_created(self, opener: Opener) -> None:
        journal = await opener()
        await journal.claim("a", None, PAYLOAD)
        with pytest.raises(errors.JournalError, match="no session"):
            await journal.settle("a", Outcome(key="a", state=CREATED))
        await journal.settle("a", created())

    # What comes back.

    async def test_a_session_comes_back_whole(self, opener: Opener) -> None:
        info = CallInfo(attempts=3, elapsed=0.25, status=201, correlation_id="c-2", earlier_unknown=True)
        whole = session(session_url="https://api.example/s", extra={"new": {"deep": [1, None, "é"]}}, info=info)
        journal = await opener()
        await journal.claim("a", None, PAYLOAD)
        await journal.settle("a", Outcome(key="a", state=CREATED, session=whole, attempts=3))
        reported = (await (await opener()).claim("a", None, PAYLOAD)).outcome
        assert reported == Outcome(key="a", state=CREATED, session=whole, attempts=3, earlier_run=True)
        assert reported.session.info == info  # not compared with the session

    @pytest.mark.parametrize("error", [REJECTED, THROTTLED, NOT_SENT, INVALID, LOST, BROKEN_500, UNREADABLE], ids=repr)
    async def test_an_error_comes_back_of_its_class(self, opener: Opener, error: errors.HPPError) -> None:
        journal = await opener()
        await journal.claim("a", None, PAYLOAD)
        state = IN_DOUBT if isinstance(error, errors.OutcomeUnknownError) else FAILED
        await journal.settle("a", Outcome(key="a", state=state, error=error, attempts=1))
        [row] = [row async for row in (await opener()).rows()]
        reported = row.outcome.error
        assert type(reported) is type(error)
        assert str(reported) == str(error)
        facts = {name: value for name, value in vars(error).items() if name not in {"body", "last_error"}}
        assert {name: getattr(reported, name) for name in facts} == facts
        assert getattr(reported, "body", b"") == b""  # may hold anything, and is not kept
        for copied in (pickle.loads(pickle.dumps(reported)), copy.deepcopy(reported)):
            assert (type(copied), vars(copied), str(copied)) == (type(reported), vars(reported), str(reported))

    async def test_an_error_class_of_somebody_else_becomes_the_nearest_of_ours(self, opener: Opener) -> None:
        class MyError(errors.LostResponseError):
            pass

        journal = await opener()
        await journal.claim("a", None, PAYLOAD)
        await journal.settle("a", doubt(MyError("mine")))
        [reported] = await journal.doubts()
        assert type(reported.error) is errors.OutcomeUnknownError

    async def test_an_answer_with_a_lone_surrogate_is_kept(self, opener: Opener) -> None:
        journal = await opener()
        await journal.claim("a", None, PAYLOAD)
        await journal.settle("a", Outcome(key="a", state=CREATED, session=session("s\ud800", extra={"x": "\udfff"})))
        reported = (await journal.claim("a", None, PAYLOAD)).outcome.session
        assert (reported.session_id, reported.extra) == ("s?", {"x": "?"})

    @pytest.mark.parametrize(("key", "order"), [("\ud800", None), ("a", "https://x/\udfff")])
    async def test_a_key_that_no_text_can_hold_is_refused_alone(
        self, opener: Opener, key: str, order: str | None
    ) -> None:
        journal = await opener()
        with pytest.raises(errors.InvalidRequestError, match="surrogate"):
            await journal.claim(key, order, PAYLOAD)
        assert await journal.claim("b", None, PAYLOAD) == Claimed()

    @pytest.mark.parametrize("key", ["", "a\x00b", "a\nb", "é", "𝔘" * 1000, "'; DROP TABLE rows; --"])
    async def test_any_other_key_is_a_key(self, opener: Opener, key: str) -> None:
        await (await opener()).claim(key, None, PAYLOAD)
        assert [reported.key for reported in await (await opener()).doubts()] == [key]

    async def test_it_says_whether_it_is_shared(self, opener: Opener) -> None:
        assert (await opener()).shared is self.is_shared

    async def test_closing_twice_is_closing(self, opener: Opener) -> None:
        journal = await opener()
        await journal.claim("a", None, PAYLOAD)
        await journal.aclose()
        await journal.aclose()
        with pytest.raises(errors.JournalError, match="closed"):
            await journal.claim("b", None, PAYLOAD)


class ExclusiveJournalContract(JournalContract):
    """The tests of a journal that one run at a time can use: there a run may send doubts again."""

    async def test_a_doubt_is_sent_once_per_run(self, opener: Opener) -> None:
        await (await opener()).claim("a", None, PAYLOAD)
        for _ in range(2):
            journal = await opener()
            assert await journal.claim("a", None, PAYLOAD, force=True) == Claimed()
            await journal.settle("a", doubt(LOST))
            assert type(await journal.claim("a", None, PAYLOAD, force=True)) is AlreadyRecorded

    @pytest.mark.parametrize("second", [NOT_SENT, REJECTED, THROTTLED], ids=lambda e: type(e).__name__)
    async def test_a_second_request_that_failed_ends_no_doubt(self, opener: Opener, second: errors.HPPError) -> None:
        await (await opener()).claim("a", None, PAYLOAD)
        journal = await opener()
        await journal.claim("a", None, PAYLOAD, force=True)
        await journal.settle("a", failed(second))
        journal = await opener()
        reported = await journal.claim("a", None, PAYLOAD)
        assert reported.outcome.state is IN_DOUBT
        assert reported.outcome.error.delivery is Delivery.UNKNOWN
        assert str(second) in str(reported.outcome.error)
        # A session ends it; and then the row is like any other.
        assert await journal.claim("a", None, PAYLOAD, force=True) == Claimed()
        await journal.settle("a", created())
        assert await journal.doubts() == []


class Shared(Protocol):
    """The fixture `shared`: several runs over one store."""

    async def open(self) -> Any:
        """Open the journal in one more run. The runs before it stay alive."""
        ...

    async def expire(self, journal: Any) -> None:
        """End the lease of a run, as if its process had been stopped for too long. Its next call gets a new lease."""
        ...

    def cut_link(self, journal: Any) -> None:
        """Let the run's next write take effect, and lose the response, so that the journal must ask again."""
        ...

    async def surplus(self) -> list[str]:
        """Return the ids of the sessions that the store recorded as surplus."""
        ...


class SharedJournalContract(JournalContract):
    """The tests of a journal that several runs use at the same time."""

    is_shared = True

    # A row that another live run has

    @pytest.mark.parametrize("force", [False, True])
    async def test_a_row_of_a_live_run_is_left_to_it(self, shared: Shared, force: bool) -> None:
        one, two = await shared.open(), await shared.open()
        assert await one.claim("a", ORDER, PAYLOAD) == Claimed()
        for payload in (PAYLOAD, OTHER_PAYLOAD):
            claim = await two.claim("a", ORDER, payload, force=force)
            assert type(claim) is ClaimedElsewhere
            assert claim.holder
            assert claim.until is not None
            assert claim.until > dt.datetime.now(dt.UTC)
        assert await two.doubts() == []
        [entry] = [entry async for entry in two.rows()]
        assert (entry.outcome.state, entry.unsettled) == (OutcomeState.CLAIMED_ELSEWHERE, True)
        assert await one.settle("a", created()) is None
        assert (await two.claim("a", ORDER, PAYLOAD)).outcome.session == session()

    async def test_runs_that_claim_at_once_get_a_row_once(self, shared: Shared) -> None:
        runs = [await shared.open() for _ in range(4)]
        keys = [str(number) for number in range(20)]
        ends = await asyncio.gather(*(run.claim(key, None, PAYLOAD) for key in keys for run in runs))
        assert [type(end) for end in ends].count(Claimed) == 20
        assert [type(end) for end in ends].count(ClaimedElsewhere) == 60

    async def test_an_order_has_one_session_over_all_runs(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        with pytest.raises(errors.InvalidRequestError, match="'a' is for the same KCO order"):
            await two.claim("b", ORDER, PAYLOAD)

    async def test_a_row_that_a_run_releases_is_free_at_once(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await one.settle("a", failed(NOT_SENT))
        assert await two.claim("a", ORDER, PAYLOAD) == Claimed()

    async def test_a_run_that_closes_ends_its_lease(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await one.aclose()
        assert (await two.claim("a", ORDER, PAYLOAD)).outcome.state is IN_DOUBT

    # The end of a lease

    @pytest.mark.parametrize("force", [False, True])
    async def test_a_claim_whose_lease_ended_is_in_doubt_and_not_sent(self, shared: Shared, force: bool) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        claim = await two.claim("a", ORDER, PAYLOAD, force=force)
        assert type(claim) is AlreadyRecorded
        assert (claim.outcome.state, claim.outcome.error.delivery) == (IN_DOUBT, Delivery.UNKNOWN)
        assert [each.key for each in await two.doubts()] == ["a"]

    async def test_a_late_settle_counts_if_nobody_took_the_row(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        assert (await two.claim("a", ORDER, PAYLOAD)).outcome.state is IN_DOUBT
        assert await one.settle("a", created()) is None
        assert (await two.claim("a", ORDER, PAYLOAD)).outcome.session == session()
        assert await shared.surplus() == []

    async def test_a_late_settle_does_not_count_if_a_run_took_the_row(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        await two.resolve("a", Verdict.SEND_AGAIN)
        assert await two.claim("a", ORDER, PAYLOAD) == Claimed()
        for late in (failed(NOT_SENT), doubt(LOST), created()):
            assert type(await one.settle("a", late)) is ClaimedElsewhere
        assert await shared.surplus() == ["session-1"]
        assert await two.settle("a", created("a", "session-2")) is None
        assert (await one.claim("a", ORDER, PAYLOAD)).outcome.session == session("session-2")

    @pytest.mark.parametrize("late", [failed(NOT_SENT), failed(REJECTED), doubt(LOST)], ids=["unsent", "no", "lost"])
    async def test_only_a_session_changes_the_verdict_of_a_person(self, shared: Shared, late: Outcome) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        await two.resolve("a", Verdict.FAILED)
        assert await one.settle("a", late) is None
        claim = await two.claim("a", ORDER, PAYLOAD)
        assert (type(claim), claim.outcome.state) == (AlreadyRecorded, FAILED)
        assert "by hand" in str(claim.outcome.error)
        assert await one.settle("a", created()) is None
        assert (await two.claim("a", ORDER, PAYLOAD)).outcome.session == session()

    async def test_a_late_session_of_a_row_that_a_person_gave_another_is_surplus(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        await two.resolve("a", Verdict.CREATED, session=session("session-2"))
        assert type(await one.settle("a", created())) is ClaimedElsewhere
        assert await shared.surplus() == ["session-1"]
        assert (await two.claim("a", ORDER, PAYLOAD)).outcome.session == session("session-2")

    async def test_a_late_session_whose_response_was_lost_is_not_surplus(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        await two.resolve("a", Verdict.FAILED)
        shared.cut_link(one)
        assert await one.settle("a", created()) is None
        assert await shared.surplus() == []

    async def test_a_late_session_is_surplus_if_another_key_has_its_order(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        await two.resolve("a", Verdict.FAILED)
        assert await two.claim("b", ORDER, PAYLOAD) == Claimed()
        assert type(await one.settle("a", created())) is ClaimedElsewhere
        assert await shared.surplus() == ["session-1"]
        assert await two.settle("b", created("b", "session-2")) is None

    async def test_a_run_puts_back_no_claim_that_a_person_has_resolved(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        await two.resolve("a", Verdict.SEND_AGAIN)
        assert await one.settle("a", failed(NOT_SENT)) is None
        assert await two.claim("a", ORDER, PAYLOAD) == Claimed()
        await two.settle("a", failed(NOT_SENT))
        shared.cut_link(one)
        await one.claim("b", None, PAYLOAD)
        assert await two.claim("a", ORDER, PAYLOAD) == Claimed()

    # The guard

    async def test_a_lost_lease_never_comes_back_for_its_claims(self, shared: Shared) -> None:
        one = await shared.open()
        claim = await one.claim("a", ORDER, PAYLOAD)
        assert claim.may_send()
        await shared.expire(one)
        assert not claim.may_send()
        later = await one.claim("b", None, PAYLOAD)  # under a new lease
        assert later.may_send()
        assert not claim.may_send()
        # The row is released, and claimed again.
        assert await one.settle("a", failed(NOT_SENT)) is None
        again = await one.claim("a", ORDER, PAYLOAD)
        assert again.may_send()
        assert not claim.may_send()

    # What a person resolves

    async def test_a_live_claim_is_not_resolved(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        for journal in (one, two):
            with pytest.raises(errors.JournalError, match="is sending it") as caught:
                await journal.resolve("a", Verdict.SEND_AGAIN)
        until = r"Wait until it ends, or until its lease does, at \d\d:\d\d:\d\d UTC"
        assert re.search(until, str(caught.value))
        await shared.expire(one)
        await two.resolve("a", Verdict.SEND_AGAIN)

    async def test_a_doubt_is_sent_again_once_for_each_verdict(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await one.settle("a", doubt(LOST))
        await two.resolve("a", Verdict.SEND_AGAIN)
        claims = [await journal.claim("a", ORDER, PAYLOAD) for journal in (two, one)]
        assert [type(claim) for claim in claims] == [Claimed, ClaimedElsewhere]
        await two.settle("a", doubt(LOST))
        for journal in (one, two):
            assert type(await journal.claim("a", ORDER, PAYLOAD, force=True)) is AlreadyRecorded

    # A link that is cut

    async def test_a_claim_whose_response_was_lost_is_a_claim(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        shared.cut_link(one)
        claim = await one.claim("a", ORDER, PAYLOAD)
        assert claim == Claimed()
        assert claim.may_send()
        assert type(await two.claim("a", ORDER, PAYLOAD)) is ClaimedElsewhere
        # The same key once more is another row, also over a cut link.
        shared.cut_link(one)
        with pytest.raises(errors.InvalidRequestError, match="this run is sending another row with it"):
            await one.claim("a", ORDER, PAYLOAD)

    async def test_a_claim_after_a_verdict_is_a_claim_too(self, shared: Shared) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        await shared.expire(one)
        await two.resolve("a", Verdict.SEND_AGAIN)
        shared.cut_link(one)
        assert await one.claim("a", ORDER, PAYLOAD) == Claimed()

    @pytest.mark.parametrize("outcome", [created(), failed(REJECTED), doubt(LOST)], ids=lambda o: str(o.state))
    async def test_a_settle_whose_response_was_lost_is_recorded_once(self, shared: Shared, outcome: Outcome) -> None:
        one, two = await shared.open(), await shared.open()
        await one.claim("a", ORDER, PAYLOAD)
        shared.cut_link(one)
        assert await one.settle("a", outcome) is None
        [(entry, _)] = await all_of(two)
        assert (entry.outcome.state, entry.outcome.session) == (outcome.state, outcome.session)
        assert await shared.surplus() == []
