"""When a run pauses, tries with one row, or stops: minutes of trouble in virtual time."""

from itertools import pairwise
from typing import Any

import pytest

import kustom_hpp as hpp
from kustom_hpp import batch, errors
from kustom_hpp.batch.circuit_breaker import FIRST_PAUSE, MAX_PAUSE
from tests.support.batches import (
    Api,
    Result,
    items,
    lost,
    not_sent,
    obeys_the_invariant,
    rejected,
    state_by_key,
    take,
    take_until_it_stops,
    throttled,
    unreadable,
)
from tests.support.memory_journal import MemoryJournal
from tests.support.virtual import VirtualClock, virtual_time


class Gone(Api):
    """An API that is not there from one moment to another."""

    def __init__(self, clock: VirtualClock, seconds: float, answer: Result = not_sent, after: float = 0.05) -> None:
        super().__init__()
        self.clock, self.answer = clock, answer
        self.begins, self.ends = clock.now + after, clock.now + after + seconds
        self.delay = 0.01

    async def create(self, request: hpp.CreateSessionRequest) -> hpp.Session:
        made = await super().create(request)
        if self.begins <= self.clock.now < self.ends and self.answer is not None:
            raise self.answer()
        return made


# Rows that are not processed.


@pytest.mark.parametrize("answer", [not_sent, throttled], ids=["not sent", "throttled"])
@pytest.mark.parametrize("journalled", [False, True])
async def test_an_outage_costs_no_row_and_is_waited_out(answer: Result, journalled: bool) -> None:
    with virtual_time() as clock:
        api = Gone(clock, 120, answer)
        journal = MemoryJournal() if journalled else None
        outcomes = await take(batch.run(api.create, items(500), journal=journal))
        assert clock.now < api.ends + MAX_PAUSE + 2
    assert set(state_by_key(outcomes).values()) == {"created"}
    assert len(outcomes) == 500
    # 32 that were flying, and then one at a time with growing pauses: 120 s at 4 to 8 s each, and the first, shorter ones.
    assert len(api.sent) - 500 <= 32 + 40


async def test_pauses_grow_and_one_row_goes_after_each() -> None:
    with virtual_time() as clock:
        api = Gone(clock, 60, after=0)
        await take(batch.run(api.create, items(100), concurrency=4))
    probes = [when for when in api.times if when < api.ends][4:]
    gaps = [after - before for before, after in pairwise(probes)]
    assert all(
        0.5 * min(MAX_PAUSE, FIRST_PAUSE * 2**number) <= gap - api.delay <= min(MAX_PAUSE, FIRST_PAUSE * 2**number)
        for number, gap in enumerate(gaps, 1)
    ), gaps
    assert len(gaps) >= 6
    # It is the row at the head of the line that is tried, and no other is touched.
    assert len({name for name, when in zip(api.sent, api.times, strict=True) if when < api.ends}) <= 4


async def test_what_the_api_asks_to_wait_is_waited() -> None:
    with virtual_time():
        api = Api(**{"0": [lambda: throttled(20.0)]})
        await take(batch.run(api.create, items(3), concurrency=1))
    assert api.sent == ["0", "0", "1", "2"]
    assert 20.0 <= api.times[1] - api.times[0] <= 20.0 + FIRST_PAUSE


async def test_a_wish_that_a_row_brings_late_lengthens_the_pause() -> None:
    with virtual_time():
        api = Api(**{"0": [throttled], "1": [lambda: throttled(30.0)]})
        await take(batch.run(api.create, items(4), concurrency=2))
    assert api.times[2] - api.times[0] >= 30.0


async def test_attempts_are_counted_over_all_sendings() -> None:
    with virtual_time():
        api = Api(**{"0": [not_sent, throttled, not_sent]})
        [outcome] = await take(batch.run(api.create, items(1)))
    assert (str(outcome.state), outcome.attempts) == ("created", 4)


@pytest.mark.parametrize("answer", [not_sent, throttled], ids=["not sent", "throttled"])
async def test_patience_ends_the_run_and_the_next_one_sends_what_was_held_back(answer: Result) -> None:
    journal = MemoryJournal()
    with virtual_time() as clock:
        api = Gone(clock, 1e6, answer, after=0.045)
        outcomes, error = await take_until_it_stops(batch.run(api.create, items(1000), journal=journal, patience=100))
        assert 100 <= clock.now - api.begins <= 100 + 2 * MAX_PAUSE
    assert isinstance(error, errors.BatchStoppedError)
    assert "patience is 100 s" in str(error)
    assert answer is not None
    assert type(error.last_error) is type(answer())
    assert set(state_by_key(outcomes).values()) == {"created"}
    assert await journal.doubts() == []
    again = Api()
    rest = await take(batch.run(again.create, items(1000), journal=MemoryJournal(journal)))
    assert set(state_by_key(rest).values()) == {"created"}
    assert len(again.sent) == 1000 - len(outcomes)


async def test_a_wish_beyond_the_patience_stops_at_once() -> None:
    with virtual_time() as clock:
        began = clock.now
        api = Api()
        api.always = lambda: throttled(301.0)
        outcomes, error = await take_until_it_stops(batch.run(api.create, items(100)))
        assert clock.now - began < 1
    assert "asks to wait 301 s more" in str(error)
    assert outcomes == []


async def test_patience_begins_anew_with_each_success() -> None:
    with virtual_time():
        api = Api(**{str(number): [not_sent] * 5 for number in range(100)})
        outcomes = await take(batch.run(api.create, items(100), concurrency=1, patience=60))
    assert len(outcomes) == 100


async def test_a_long_silence_of_the_taker_uses_up_no_patience() -> None:
    with virtual_time() as clock:
        api = Api(**{"50": [not_sent]})
        async with batch.run(api.create, items(100), concurrency=1) as outcomes:
            async for outcome in outcomes:
                if outcome.key == "20":
                    clock.now += 1000
        assert outcomes.counts.created == 100


# Doubt.


async def test_doubts_in_a_row_let_one_row_go_first_and_its_success_opens_the_line() -> None:
    with virtual_time() as clock:
        api = Gone(clock, 1.0, lost, after=0.045)
        outcomes = await take(batch.run(api.create, items(1000), max_doubts=10))
    states = list(state_by_key(outcomes).values())
    assert states.count("created") + states.count("in_doubt") == 1000
    assert 10 <= states.count("in_doubt") <= 10 + 31
    assert all(obeys_the_invariant(outcome) for outcome in outcomes)
    assert api.repeated == {}
    pause = next(after - before for before, after in pairwise(api.times) if after - before > 0.5)
    assert pause >= 1.0


@pytest.mark.parametrize("answer", [lost, unreadable], ids=["lost", "unreadable"])
async def test_a_row_in_doubt_after_the_breaker_tripped_stops_the_run(answer: Result) -> None:
    with virtual_time() as clock:
        api = Gone(clock, 1e6, answer, after=0.045)
        outcomes, error = await take_until_it_stops(batch.run(api.create, items(1000), max_doubts=10))
    assert isinstance(error, errors.BatchStoppedError)
    assert "unknown outcome" in str(error)
    states = list(state_by_key(outcomes).values())
    assert 10 <= states.count("in_doubt") <= 10 + 32
    assert len(api.sent) == len(outcomes)


async def test_a_second_trip_stops_the_run_however_much_later() -> None:
    with virtual_time():
        api = Api(**{str(number): [lost] for number in (*range(100, 103), *range(500, 503))})
        outcomes, error = await take_until_it_stops(
            batch.run(api.create, items(1000), concurrency=1, max_doubts=3, ordered=True)
        )
    assert "for the second time" in str(error)
    assert [outcome.key for outcome in outcomes] == [str(number) for number in range(503)]


@pytest.mark.parametrize("between", [None, rejected], ids=["a success", "a refusal"])
async def test_an_answer_in_between_ends_the_row_of_doubts(between: Result) -> None:
    plan: dict[str, list[Result]] = {str(number): [lost] for number in range(100)}
    plan |= {str(number): [between] for number in range(0, 100, 3)}
    with virtual_time():
        outcomes = await take(batch.run(Api(**plan).create, items(100), concurrency=1, max_doubts=3))
    assert list(state_by_key(outcomes).values()).count("in_doubt") == 66


async def test_an_invalid_row_in_between_does_not_end_the_row_of_doubts() -> None:
    invalid = batch.BatchItem("invalid", errors.InvalidRequestError("not a row"))
    rows = [*items(2), invalid, *items(9)[2:]]
    plan: dict[str, list[Result]] = {str(number): [lost] for number in range(9)}
    with virtual_time():
        outcomes, error = await take_until_it_stops(batch.run(Api(**plan).create, rows, concurrency=1, max_doubts=3))
    assert "3 rows in a row ended with an unknown outcome, and so did the next one" in str(error)
    assert list(state_by_key(outcomes).values()) == ["in_doubt", "in_doubt", "failed", "in_doubt", "in_doubt"]


async def test_a_refusal_is_not_the_success_that_ends_a_trip() -> None:
    plan: dict[str, list[Result]] = {"0": [lost], "1": [lost], "2": [rejected], "3": [lost]}
    with virtual_time():
        outcomes, error = await take_until_it_stops(
            batch.run(Api(**plan).create, items(9), concurrency=1, max_doubts=2)
        )
    assert isinstance(error, errors.BatchStoppedError)
    assert len(outcomes) == 4


async def test_a_server_that_dies_and_comes_back_costs_what_was_flying_and_nothing_else() -> None:
    """What flies when it dies is lost; then nobody is there; then it is back."""
    with virtual_time() as clock:
        api = Gone(clock, 20, not_sent, after=0.045)

        async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
            was_there = clock.now < api.begins
            try:
                return await api.create(request)
            except hpp.ConnectError:
                if was_there:
                    raise lost() from None
                raise

        outcomes = await take(batch.run(create, items(1000)))
    states = list(state_by_key(outcomes).values())
    assert (len(states), states.count("failed")) == (1000, 0)
    assert 1 <= states.count("in_doubt") <= 32


# What stops a run at once.


@pytest.mark.parametrize(
    ("error", "handed_out"),
    [
        (hpp.AuthenticationError("wrong key", status=401, attempts=1), True),
        (hpp.CertificateError("expired", attempts=1), False),
        (hpp.ClientClosedError("closed"), False),
        (hpp.ConfigError("on_unknown"), False),
        (hpp.WrongLoopError("loop"), False),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("journalled", [False, True])
async def test_what_every_row_would_meet_stops_the_run(error: hpp.HPPError, handed_out: bool, journalled: bool) -> None:
    api = Api()
    api.always = lambda: error
    journal = MemoryJournal() if journalled else None
    outcomes, stop = await take_until_it_stops(batch.run(api.create, items(1000), concurrency=4, journal=journal))
    assert isinstance(stop, errors.BatchStoppedError)
    assert stop.last_error is error
    assert stop.cause == type(error).__name__
    assert len(api.sent) <= 4
    assert state_by_key(outcomes) == (dict.fromkeys(api.sent, "failed") if handed_out else {})
    if journal is not None:
        again = Api()
        await take(batch.run(again.create, items(4), journal=MemoryJournal(journal)))
        assert sorted(again.sent) == sorted(str(number) for number in range(4))


def forbidden() -> hpp.HPPError:
    return hpp.PermissionDeniedError("not this", status=403, attempts=1)


async def test_403_is_per_row_unless_the_first_rows_all_say_so() -> None:
    api = Api()
    api.always = forbidden
    outcomes, error = await take_until_it_stops(batch.run(api.create, items(1000), concurrency=1))
    assert "403" in str(error)
    assert list(state_by_key(outcomes).values()) == ["failed"] * 10

    later = Api(**{"5": [rejected]})
    later.always = forbidden
    outcomes = await take(batch.run(later.create, items(100), concurrency=1))
    assert list(state_by_key(outcomes).values()) == ["failed"] * 100


@pytest.mark.parametrize("bad", ["refused", "no request"])
async def test_max_failures_stops_the_run(bad: str) -> None:
    api = Api(**{str(number): [rejected] for number in range(1000)})
    rows: list[Any] = items(1000) if bad == "refused" else [None] * 1000
    outcomes, error = await take_until_it_stops(batch.run(api.create, rows, concurrency=1, max_failures=7))
    assert "7 rows failed, which is max_failures" in str(error)
    assert list(state_by_key(outcomes).values()) == ["failed"] * len(outcomes)
    assert len(outcomes) == 7


async def test_without_max_failures_they_go_on() -> None:
    api = Api(**{str(number): [rejected] for number in range(300)})
    outcomes = await take(batch.run(api.create, items(300)))
    assert list(state_by_key(outcomes).values()) == ["failed"] * 300
    assert all(obeys_the_invariant(outcome) for outcome in outcomes)


@pytest.mark.parametrize("rows", [8, 40])
async def test_after_a_pause_a_refused_row_lets_all_workers_go_on(rows: int) -> None:
    with virtual_time():
        api = Api(**{str(number): [not_sent, rejected] for number in range(8)})
        api.delay = 0.01
        outcomes = await take(batch.run(api.create, items(rows), concurrency=8))
    refused = {str(number): "failed" for number in range(8)}
    assert state_by_key(outcomes) == {**{str(number): "created" for number in range(rows)}, **refused}
    # The first eight, one that tries, and then as many at once as before.
    begun = api.times[9:]
    assert len([time for time in begun if time == begun[0]]) >= 7


async def test_after_a_pause_a_refused_row_lets_all_workers_end_where_the_input_has_ended() -> None:
    with virtual_time():
        api = Api(**{str(number): [not_sent, rejected] for number in range(7)})
        api.delay = 0.01  # the eighth worker finds the end of the input meanwhile
        outcomes = await take(batch.run(api.create, items(7), concurrency=8))
    assert state_by_key(outcomes) == {str(number): "failed" for number in range(7)}
