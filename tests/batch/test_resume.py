"""The resume table: what a run does with a row that an earlier run knew, as data; and the journal's part in a run."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from attrs import frozen

import kustom_hpp as hpp
from kustom_hpp import batch, errors
from kustom_hpp.batch import Claim, Outcome, OutcomeState
from tests.support.batches import (
    Api,
    Result,
    digest,
    item,
    items,
    lost,
    not_sent,
    obeys_the_invariant,
    rejected,
    request,
    state_by_key,
    take,
    take_until_it_stops,
    throttled,
    unreadable,
)
from tests.support.memory_journal import MemoryJournal
from tests.support.virtual import virtual_time

ORDERS_URL = request("a").payment_session_url
Past = Literal["created", "claimed", "lost", "unreadable", "rejected", "not sent", "throttled", "invalid"]


def outcome_of(past: Past) -> Outcome | None:
    """How the row `a` ended in an earlier run."""
    if past == "claimed":
        return None
    if past == "created":
        made = hpp.Session(session_id="earlier", redirect_url="https://pay.kustom.co/eu/hpp/payments/earlier")
        return Outcome(key="a", state=OutcomeState.CREATED, session=made, attempts=1)
    ends: dict[Past, Result] = {
        "lost": lost,
        "unreadable": unreadable,
        "rejected": rejected,
        "not sent": not_sent,
        "throttled": throttled,
        "invalid": lambda: hpp.InvalidRequestError("no"),
    }
    end = ends[past]
    assert end is not None
    error = end()
    assert isinstance(error, hpp.HPPError)
    state = OutcomeState.IN_DOUBT if isinstance(error, hpp.OutcomeUnknownError) else OutcomeState.FAILED
    return Outcome(key="a", state=state, error=error, attempts=1)


async def journal_with(past: Past) -> MemoryJournal:
    """What a run that is over left."""
    journal = MemoryJournal()
    await journal.claim("a", ORDERS_URL, digest("a"))
    if (outcome := outcome_of(past)) is not None:
        await journal.settle("a", outcome)
    return MemoryJournal(journal)


@frozen
class Line:
    """A line of the table: what the journal knows, and what comes of it for this payload and these options."""

    past: Past
    changed: bool
    options: dict[str, Any]
    sent: bool
    state: str
    error: type[BaseException] | None = None


PLAIN: dict[str, Any] = {}
RESEND: dict[str, Any] = {"on_doubt": "resend"}
RETRY: dict[str, Any] = {"retry_failed": True}
BOTH = RESEND | RETRY

TABLE: list[Line] = [
    # created: handed out again; another payload is a conflict, and the earlier session is kept.
    *(Line("created", False, options, False, "created") for options in (PLAIN, BOTH)),
    *(Line("created", True, options, False, "created", hpp.InvalidRequestError) for options in (PLAIN, BOTH)),
    # in doubt: reported; sent again only where it is asked for, and only the same payload.
    *(Line(past, changed, options, False, "in_doubt", hpp.OutcomeUnknownError)
      for past in ("claimed", "lost") for changed in (False, True) for options in (PLAIN, RETRY)),
    *(Line(past, False, options, True, "created") for past in ("claimed", "lost") for options in (RESEND, BOTH)),
    *(Line(past, True, options, False, "in_doubt", hpp.OutcomeUnknownError)
      for past in ("claimed", "lost") for options in (RESEND, BOTH)),
    # accepted: never.
    *(Line("unreadable", changed, options, False, "in_doubt", hpp.DecodeError)
      for changed in (False, True) for options in (PLAIN, RESEND, RETRY, BOTH)),
    # failed, not processed: sent.
    *(Line(past, changed, options, True, "created")
      for past in ("not sent", "throttled", "invalid") for changed in (False, True) for options in (PLAIN, BOTH)),
    # refused: reported; sent again where it is asked for, or where it is another payload.
    *(Line("rejected", False, options, False, "failed", hpp.BadRequestError) for options in (PLAIN, RESEND)),
    *(Line("rejected", False, options, True, "created") for options in (RETRY, BOTH)),
    *(Line("rejected", True, options, True, "created") for options in (PLAIN, RESEND, RETRY, BOTH)),
]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    TABLE,
    ids=[f"{x.past}{', changed' if x.changed else ''}{''.join(f', {o}' for o in x.options)}" for x in TABLE],
)
async def test_the_resume_table(line: Line) -> None:
    journal = await journal_with(line.past)
    api = Api()
    more = {"profile_id": "another"} if line.changed else {}
    run = batch.run(api.create, [item("a", **more)], journal=journal, **line.options)
    [outcome] = await take(run)
    assert (api.sent == ["a"]) == line.sent
    assert str(outcome.state) == line.state
    assert outcome.earlier_run == (not line.sent)
    assert outcome.attempts == int(line.sent)
    assert run.counts.earlier == int(not line.sent)
    if line.state == "created":
        assert outcome.session is not None
        assert outcome.session.session_id == ("session-of-a-1" if line.sent else "earlier")
    assert (outcome.error is None) if line.error is None else isinstance(outcome.error, line.error)
    # And the run after it knows of this one.
    [after] = await take(batch.run(Api().create, [item("a", **more)], journal=MemoryJournal(journal)))
    assert (after.state, after.earlier_run) == (outcome.state, True)


@pytest.mark.parametrize(
    ("answer", "state"), [(None, "created"), (lost, "in_doubt"), (rejected, "in_doubt"), (unreadable, "in_doubt")]
)
async def test_only_a_session_ends_a_doubt_that_was_sent_again(answer: Result, state: str) -> None:
    journal = await journal_with("lost")
    api = Api(a=[answer])
    [outcome] = await take(batch.run(api.create, [item("a")], journal=journal, on_doubt="resend"))
    assert str(outcome.state) == state
    assert obeys_the_invariant(outcome)
    assert len(await journal.doubts()) == (state == "in_doubt")


async def test_a_doubt_that_could_not_be_sent_again_stays_one() -> None:
    journal = await journal_with("claimed")
    with virtual_time():
        api = Api()
        api.always = not_sent
        run = batch.run(api.create, [item("a")], journal=journal, on_doubt="resend", patience=30)
        outcomes, error = await take_until_it_stops(run)
    assert isinstance(error, errors.BatchStoppedError)
    assert outcomes == []
    assert [doubt.key for doubt in await journal.doubts()] == ["a"]


async def test_a_doubt_is_sent_again_once_in_a_run() -> None:
    journal = await journal_with("lost")
    api = Api(a=[lost])
    await take(batch.run(api.create, [item("a"), item("b"), item("a")], journal=journal, on_doubt="resend"))
    assert api.repeated == {}


async def test_two_keys_for_one_order_get_one_session() -> None:
    api = Api()
    rows = [batch.BatchItem("one", request("x")), batch.BatchItem("two", request("x"))]
    outcomes = await take(batch.run(api.create, rows, journal=MemoryJournal(), concurrency=1))
    assert state_by_key(outcomes) == {"one": "created", "two": "failed"}
    assert "'one'" in str(outcomes[1].error)


# The journal's word comes first.


class Diary(MemoryJournal):
    """A journal that logs its calls, and fails at those in `breaks`."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.breaks: dict[str, Exception] = {}

    async def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> Claim:
        await asyncio.sleep(0)
        self._break(f"claim {key}")
        reported = await super().claim(key, order, digest, force=force)
        await asyncio.sleep(0)
        self.events.append(f"claimed {key}")
        return reported

    async def settle(self, key: str, outcome: Outcome) -> None:
        await asyncio.sleep(0)
        self._break(f"settle {key}")
        await super().settle(key, outcome)
        await asyncio.sleep(0)
        self.events.append(f"settled {key}")

    def _break(self, what: str) -> None:
        if what in self.breaks:
            self.events.append(f"broken at {what}")
            raise self.breaks[what]


@pytest.mark.parametrize("answer", [None, lost, rejected])
async def test_claimed_before_it_is_sent_and_settled_before_it_is_handed_out(answer: Result) -> None:
    events: list[str] = []
    api = Api(**{str(number): [answer] for number in range(20)})

    async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
        events.append(f"sent {request.payment_session_url.rpartition('/')[2]}")
        return await api.create(request)

    async with batch.run(create, items(20), journal=Diary(events), max_doubts=100) as outcomes:
        async for outcome in outcomes:
            events.append(f"handed out {outcome.key}")  # noqa: PERF401 - at its moment
    for number in range(20):
        steps = [event.rpartition(" ")[0] for event in events if event.endswith(f" {number}")]
        assert steps == ["claimed", "sent", "settled", "handed out"]


@pytest.mark.parametrize("broken", [errors.JournalError("no space"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("answer", [None, lost, rejected])
async def test_an_outcome_that_cannot_be_kept_is_handed_out_and_ends_the_run(broken: Exception, answer: Result) -> None:
    events: list[str] = []
    journal = Diary(events)
    journal.breaks["settle 5"] = broken
    api = Api(**{"5": [answer]})
    outcomes, error = await take_until_it_stops(batch.run(api.create, items(1000), concurrency=4, journal=journal))
    assert isinstance(error, errors.JournalError)
    assert error.__context__ is None
    assert len(api.sent) < 20
    # Not one request after the fault, and the broken journal is left alone.
    after = events[events.index("broken at settle 5") + 1 :]
    assert [event for event in after if event.startswith("broken")] == []
    unrecorded = {outcome.key for outcome in outcomes if not outcome.recorded}
    assert "5" in unrecorded
    assert {outcome.key for outcome in outcomes} == set(api.sent)
    # What was handed out as not recorded, exactly that is in doubt for the next run.
    assert {doubt.key for doubt in await journal.doubts()} == unrecorded


@pytest.mark.parametrize("broken", [errors.JournalError("no space"), OSError(28, "No space left on device")])
async def test_a_row_that_cannot_be_claimed_is_not_sent(broken: Exception) -> None:
    events: list[str] = []
    journal = Diary(events)
    journal.breaks["claim 5"] = broken
    api = Api()
    outcomes, error = await take_until_it_stops(batch.run(api.create, items(1000), concurrency=4, journal=journal))
    assert isinstance(error, errors.JournalError)
    assert "5" not in api.sent
    unrecorded = {outcome.key for outcome in outcomes if not outcome.recorded}
    assert {doubt.key for doubt in await journal.doubts()} == unrecorded
    assert set(api.sent) <= {outcome.key for outcome in outcomes}


async def test_a_key_that_the_journal_cannot_hold_fails_alone() -> None:
    class Picky(MemoryJournal):
        async def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> Claim:
            if key == "1":
                raise hpp.InvalidRequestError("no such key")
            return await super().claim(key, order, digest, force=force)

    outcomes = await take(batch.run(Api().create, items(3), journal=Picky()))
    assert state_by_key(outcomes) == {"0": "created", "1": "failed", "2": "created"}


async def test_a_session_that_another_key_has_in_the_journal_stops_the_run() -> None:
    journal = await journal_with("created")
    api = Api()

    async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
        made = await api.create(request)
        twice = request.payment_session_url.endswith("/7")
        return hpp.Session(session_id="earlier", redirect_url="https://x") if twice else made

    outcomes, error = await take_until_it_stops(batch.run(create, items(1000), concurrency=2, journal=journal))
    assert isinstance(error, errors.DuplicateSessionError)
    assert "'a'" in str(error)
    assert "'7'" in str(error)
    [mixed] = [outcome for outcome in outcomes if outcome.key == "7"]
    assert (str(mixed.state), mixed.session) == ("in_doubt", None)
    assert len(api.sent) < 20
    # It is never sent again.
    again = Api()
    [after] = await take(
        batch.run(again.create, [item("7")], journal=MemoryJournal(journal), on_doubt="resend", retry_failed=True)
    )
    assert (again.sent, str(after.state)) == ([], "in_doubt")


class Elsewhere:
    """Another journal, which says that another run has every row."""

    shared = False

    async def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> Claim:
        return batch.ClaimedElsewhere("the run 7 on host-1")

    async def settle(self, key: str, outcome: Outcome) -> None:
        raise AssertionError("what was not claimed is not settled")

    async def doubts(self) -> Sequence[Outcome]:
        return ()

    async def aclose(self) -> None:
        pass


async def test_rows_of_another_run_are_neither_sent_nor_failed() -> None:
    api = Api()
    run = batch.run(api.create, items(100), journal=Elsewhere(), max_failures=1, on_doubt="resend", retry_failed=True)
    outcomes = await take(run)
    assert api.sent == []
    assert set(state_by_key(outcomes).values()) == {"claimed_elsewhere"}
    assert (run.counts.elsewhere, run.counts.failed, run.counts.in_doubt, run.counts.earlier) == (100, 0, 0, 0)
    assert all("the run 7 on host-1 has claimed the row" in str(outcome.error) for outcome in outcomes)
    assert {outcome.error.delivery for outcome in outcomes if outcome.error} == {hpp.Delivery.NOT_SENT}
    assert {(outcome.attempts, outcome.earlier_run, outcome.recorded) for outcome in outcomes} == {(0, False, True)}
