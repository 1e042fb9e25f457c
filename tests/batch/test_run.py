"""A run from its input to its outcomes: what goes in, in which order it comes out, and who waits for whom."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import pytest

import kustom_hpp as hpp
from kustom_hpp import batch, errors
from kustom_hpp.batch import rows as batch_input
from tests.support.batches import (
    Api,
    item,
    items,
    obeys_the_invariant,
    rejected,
    request,
    state_by_key,
    take,
    take_until_it_stops,
)
from tests.support.memory_journal import MemoryJournal
from tests.support.virtual import virtual_time


async def test_each_row_gets_its_session_and_nothing_else() -> None:
    api = Api()
    outcomes = await take(batch.run(api.create, items(100)))
    assert {outcome.key: outcome.session.session_id for outcome in outcomes} == {
        str(number): f"session-of-{number}-1" for number in range(100)
    }
    assert all(obeys_the_invariant(outcome) and outcome.attempts == 1 and outcome.recorded for outcome in outcomes)
    assert api.max_in_flight == 32


async def test_no_rows_no_outcomes() -> None:
    assert await take(batch.run(Api().create, [])) == []


async def test_the_key_of_a_bare_request_is_its_payment_session() -> None:
    [outcome] = await take(batch.run(Api().create, [request("a")]))
    assert outcome.key == request("a").payment_session_url


async def later(things: list[Any]) -> AsyncIterator[Any]:
    for thing in things:
        await asyncio.sleep(0)
        yield thing


async def test_items_may_come_later() -> None:
    outcomes = await take(batch.run(Api().create, later(items(50)), concurrency=4))
    assert state_by_key(outcomes) == {str(number): "created" for number in range(50)}


async def test_rows_that_cannot_be_sent_fail_and_the_rest_goes_on() -> None:
    api = Api()
    bad: list[Any] = [
        None,
        "text",
        batch.BatchItem("", request("a")),
        batch.BatchItem(7, request("b")),
        batch.BatchItem("key", {"payment_session_url": "x"}),
        hpp.CreateSessionRequest(payment_session_url=None),
    ]
    outcomes = await take(batch.run(api.create, [*bad, item("good")], ordered=True))
    assert [outcome.key for outcome in outcomes] == ["#1", "#2", "#3", "#4", "key", "#6", "good"]
    assert [str(outcome.state) for outcome in outcomes] == ["failed"] * 6 + ["created"]
    assert all(
        isinstance(outcome.error, hpp.InvalidRequestError) and outcome.error.problems for outcome in outcomes[:6]
    )
    assert api.sent == ["good"]


@pytest.mark.parametrize("journalled", [False, True])
async def test_a_request_that_the_client_refuses_fails_alone(journalled: bool) -> None:
    transport = hpp.FakeTransport()
    journal = MemoryJournal() if journalled else None
    unwritable = item("x", extra={"new_field": object()})
    plain_http = item("y", merchant_urls=hpp.MerchantUrls(success="ftp://shop.example"))
    async with hpp.HPPClient("kco_test_api_x", base_url="https://api.kustom.co", transport=transport) as client:
        outcomes = await take(batch.run(client.create_session, [unwritable, plain_http], journal=journal, ordered=True))
    assert [type(outcome.error) for outcome in outcomes] == [hpp.InvalidRequestError] * 2
    assert [str(outcome.state) for outcome in outcomes] == ["failed"] * 2


@pytest.mark.parametrize("journalled", [False, True])
@pytest.mark.parametrize("apart", [0, 40], ids=["next to each other", "far apart"])
async def test_a_repeated_key_fails_and_is_not_sent_again(journalled: bool, apart: int) -> None:
    api = Api()
    journal = MemoryJournal() if journalled else None
    rows = [item("a"), *items(apart), item("a")]
    outcomes = await take(batch.run(api.create, rows, concurrency=2, journal=journal, ordered=True))
    assert str(outcomes[0].state) == "created"
    assert str(outcomes[-1].state) == "failed"
    assert "row 1 of this run has it already" in str(outcomes[-1].error)
    assert api.repeated == {}


async def test_beyond_the_window_a_journal_still_keeps_a_repeated_key_from_a_second_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_input.RecentKeys.__init__, "__defaults__", (4,))
    rows = [item("a"), *items(20), item("a")]
    api = Api()
    outcomes = await take(batch.run(api.create, rows, concurrency=2, journal=MemoryJournal(), ordered=True))
    assert api.repeated == {}
    assert outcomes[-1].earlier_run
    without = Api()
    await take(batch.run(without.create, rows))
    assert without.repeated == {"a": 2}  # as promised: without a journal, only among the newest


async def test_what_the_items_raise_comes_after_all_that_was_sent() -> None:
    def broken() -> Iterator[batch.BatchItem]:
        yield from items(5)
        raise LookupError("line 6")

    outcomes, error = await take_until_it_stops(batch.run(Api().create, broken()))
    assert len(outcomes) == 5
    assert str(error) == "line 6"


async def test_what_async_items_raise_likewise() -> None:
    async def broken() -> AsyncIterator[batch.BatchItem]:
        async for one in later(items(5)):
            yield one
        raise LookupError("line 6")

    outcomes, error = await take_until_it_stops(batch.run(Api().create, broken()))
    assert len(outcomes) == 5
    assert str(error) == "line 6"


@pytest.mark.parametrize("journalled", [False, True])
async def test_what_create_raises_that_is_none_of_ours_leaves_its_row_in_doubt_and_comes_out(journalled: bool) -> None:
    api = Api(**{"3": [lambda: LookupError("a bug")]})
    journal = MemoryJournal() if journalled else None
    outcomes, error = await take_until_it_stops(batch.run(api.create, items(1000), concurrency=4, journal=journal))
    assert str(error) == "a bug"
    assert {key for key, state in state_by_key(outcomes).items() if state == "in_doubt"} == {"3"}
    assert len(outcomes) < 20
    assert all(obeys_the_invariant(outcome) for outcome in outcomes)
    if journal is not None:
        assert [doubt.key for doubt in await journal.doubts()] == ["3"]


async def test_what_is_no_session_likewise() -> None:
    async def create(_: hpp.CreateSessionRequest) -> Any:
        return {"session_id": "a dict"}

    outcomes: list[batch.Outcome] = []
    with pytest.raises(TypeError, match="must return a Session, got a dict"):  # noqa: PT012
        async with batch.run(create, items(1)) as run:
            async for outcome in run:
                outcomes.append(outcome)  # noqa: PERF401
    assert state_by_key(outcomes) == {"0": "in_doubt"}


# Order and flow.


async def test_outcomes_come_as_they_end() -> None:
    api = Api()
    slow = asyncio.Event()

    async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
        if request.payment_session_url.endswith("/0"):
            await slow.wait()
        return await api.create(request)

    async with batch.run(create, items(10), concurrency=2) as outcomes:
        first = [(await anext(outcomes)).key for _ in range(9)]
        assert "0" not in first
        slow.set()
        assert (await anext(outcomes)).key == "0"


async def test_in_order_they_come_in_the_order_of_the_items_and_pulling_stops_when_many_wait() -> None:
    api = Api()
    slow = asyncio.Event()

    async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
        if request.payment_session_url.endswith("/0"):
            await slow.wait()
        return await api.create(request)

    with virtual_time():
        async with batch.run(create, items(200), concurrency=4, ordered=True) as outcomes:
            taking = asyncio.create_task(anext(outcomes))
            await asyncio.sleep(0.05)
            assert not taking.done()
            # 8 x 4 outcomes wait, and no more than those who were flying then came after them.
            assert 32 <= len(api.sent) <= 32 + 4
            slow.set()
            keys = [(await taking).key, *[outcome.key async for outcome in outcomes]]
    assert keys == [str(number) for number in range(200)]


async def test_in_order_a_row_that_went_back_to_the_line_is_not_waited_for_for_ever() -> None:
    with virtual_time():
        api = Api(**{"0": [lambda: hpp.ConnectError("refused", attempts=1)] * 3})
        outcomes = await take(batch.run(api.create, items(200), concurrency=4, ordered=True))
    assert [outcome.key for outcome in outcomes] == [str(number) for number in range(200)]
    assert api.sent.count("0") == 4


async def test_a_taker_who_is_slow_slows_the_sending() -> None:
    api = Api()
    with virtual_time():
        async with batch.run(api.create, items(1000), concurrency=8) as outcomes:
            await asyncio.sleep(0.05)
            assert len(api.sent) <= 16  # eight wait to be taken, and eight more were on their way
            for taken in range(1, 101):
                await anext(outcomes)
                assert len(api.sent) <= 16 + taken
                assert outcomes.counts.pulled <= 16 + taken


async def test_the_first_outcome_does_not_wait_for_the_input() -> None:
    pulled = 0

    def endless() -> Iterator[batch.BatchItem]:
        nonlocal pulled
        while True:
            pulled += 1
            yield item(pulled)

    async with batch.run(Api().create, endless(), concurrency=4) as outcomes:
        began = time.perf_counter()
        await anext(outcomes)
        assert time.perf_counter() - began < 2  # an endless input that was read first would never come to it
    assert pulled <= 12


async def test_rate_caps_the_rows_per_second() -> None:
    with virtual_time() as clock:
        began = clock.now
        api = Api()
        outcomes = await take(batch.run(api.create, items(21), rate=10))
        assert len(outcomes) == 21
        assert clock.now - began == pytest.approx(2.0)
    gaps = [after - before for before, after in pairwise(api.times)]
    assert gaps == pytest.approx([0.1] * 20)


async def test_rate_does_not_hold_up_the_end() -> None:
    with virtual_time() as clock:
        began = clock.now
        await take(batch.run(Api().create, items(2), rate=0.1))
        assert clock.now - began == pytest.approx(10.0)


async def test_counts_tell_how_far_it_is() -> None:
    api = Api(**{"1": [rejected]})
    api.gate = asyncio.Event()
    with virtual_time():
        async with batch.run(api.create, items(10), concurrency=4) as outcomes:
            await asyncio.sleep(0.01)
            assert outcomes.counts == batch.RunCounts(pulled=4, created=0, failed=0, in_doubt=0, earlier=0, in_flight=4)
            api.gate.set()
            async for _ in outcomes:
                pass
            assert outcomes.counts == batch.RunCounts(
                pulled=10, created=9, failed=1, in_doubt=0, earlier=0, in_flight=0
            )


# Without a journal, ids that come twice.


async def test_a_session_that_another_row_has_stops_the_run_and_names_both() -> None:
    api = Api()

    async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
        made = await api.create(request)
        twice = request.payment_session_url.endswith("/7")
        return hpp.Session(session_id="session-of-2-1", redirect_url="https://x") if twice else made

    outcomes, error = await take_until_it_stops(batch.run(create, items(1000), concurrency=2))
    assert isinstance(error, errors.DuplicateSessionError)
    assert "'2'" in str(error)
    assert "'7'" in str(error)
    [mixed] = [outcome for outcome in outcomes if outcome.key == "7"]
    assert (str(mixed.state), mixed.session, mixed.error) == ("in_doubt", None, error)
    assert len(api.sent) < 20


# Arguments.


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0}, {"concurrency": 1.5}, {"concurrency": True}, {"rate": 0}, {"rate": -1}, {"rate": "fast"},
        {"rate": float("nan")}, {"patience": 0}, {"patience": float("inf")}, {"max_doubts": 0}, {"max_failures": 0},
        {"on_doubt": "guess"},
    ],
)  # fmt: skip
def test_arguments_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(hpp.ConfigError, match=next(iter(wrong))):
        batch.run(Api().create, [], **wrong)


def test_items_that_are_no_iterable_are_refused() -> None:
    with pytest.raises(hpp.ConfigError, match="got a int"):
        batch.run(Api().create, 5)


async def test_a_run_is_entered_once_and_before_it_is_iterated() -> None:
    run = batch.run(Api().create, items(1))
    with pytest.raises(RuntimeError, match="enter a run before"):
        await anext(run)
    await take(run)
    with pytest.raises(RuntimeError, match="entered once"):
        await take(run)
    with pytest.raises(StopAsyncIteration):
        await anext(run)


async def test_a_run_has_one_taker() -> None:
    api = Api()
    api.gate = asyncio.Event()
    async with batch.run(api.create, items(1)) as outcomes:
        first = asyncio.create_task(anext(outcomes))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one task at a time"):
            await anext(outcomes)
        api.gate.set()
        assert (await first).key == "0"


async def test_a_row_that_the_caller_could_not_read_is_failed_with_its_error() -> None:
    error = errors.InvalidRequestError("line 2 is not JSON")
    rows = [batch.BatchItem("", error), batch.BatchItem("b", error), item("c")]
    outcomes = await take(batch.run(Api().create, rows, ordered=True))
    assert [(outcome.key, outcome.state, outcome.error, outcome.attempts) for outcome in outcomes] == [
        ("#1", "failed", error, 0), ("b", "failed", error, 0), ("c", "created", None, 1),
    ]  # fmt: skip
