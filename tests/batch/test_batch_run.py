"""Leaving a run early, in every way; and what is left of it: nothing."""

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Iterator

import pytest

import kustom_hpp as hpp
from kustom_hpp import batch, errors
from tests.support.batches import Api, item, items, not_sent, state_by_key, take
from tests.support.memory_journal import MemoryJournal
from tests.support.virtual import virtual_time


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """After each test: no task, and no complaint of the loop's."""
    loop = asyncio.get_running_loop()
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
    before = asyncio.all_tasks()
    yield
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    assert complaints == []


@pytest.mark.parametrize("ordered", [False, True])
async def test_after_a_break_what_flies_ends_and_nothing_new_begins(ordered: bool) -> None:
    api, journal = Api(), MemoryJournal()
    api.delay = 0.01
    sent = 0
    async with batch.run(api.create, items(1000), concurrency=8, journal=journal, ordered=ordered) as outcomes:
        async for _ in outcomes:
            sent = len(api.sent)
            break
    assert sent > 0
    assert len(api.sent) <= sent + 8
    assert await journal.doubts() == []
    # What was not taken can still be taken, and is in the journal.
    rest = [outcome async for outcome in outcomes]
    assert len(rest) + 1 == len(api.sent)
    again = Api()
    resumed = await take(batch.run(again.create, items(1000), journal=MemoryJournal(journal)))
    assert len(resumed) == 1000
    assert len(again.sent) == 1000 - len(api.sent)


async def test_an_exception_in_the_body_passes_through() -> None:
    api = Api()
    api.delay = 0.001
    with pytest.raises(LookupError, match="mine"):  # noqa: PT012
        async with batch.run(api.create, items(1000)) as outcomes:
            async for _ in outcomes:
                raise LookupError("mine")
    assert api.in_flight == 0


@pytest.mark.parametrize("journalled", [False, True])
async def test_what_does_not_end_within_its_grace_is_cut_off_and_in_doubt(journalled: bool) -> None:
    api = Api()
    journal = MemoryJournal() if journalled else None
    with virtual_time() as clock:
        api.gate = asyncio.Event()
        async with batch.run(api.create, items(100), concurrency=4, journal=journal) as outcomes:
            await asyncio.sleep(0.1)
            began = clock.now
        assert clock.now - began == pytest.approx(10.0)
    left = [outcome async for outcome in outcomes]
    assert state_by_key(left) == dict.fromkeys("0123", "in_doubt")
    assert all(isinstance(outcome.error, hpp.LostResponseError) for outcome in left)
    assert outcomes.counts == batch.RunCounts(pulled=4, created=0, failed=0, in_doubt=4, earlier=0, in_flight=0)
    if journal is not None:
        assert {doubt.key for doubt in await journal.doubts()} == set("0123")


async def test_a_cancelled_run_lets_what_flies_end_and_passes_the_cancellation_on() -> None:
    api, journal = Api(), MemoryJournal()
    api.delay = 0.05

    async def consume() -> None:
        async with batch.run(api.create, items(1000), concurrency=4, journal=journal) as outcomes:
            async for _ in outcomes:
                pass

    with virtual_time():
        task = asyncio.create_task(consume())
        await asyncio.sleep(0.07)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(api.sent) == 8
    assert await journal.doubts() == []


async def test_a_second_cancellation_ends_the_patience() -> None:
    api, journal = Api(), MemoryJournal()
    with virtual_time() as clock:
        api.gate = asyncio.Event()

        async def consume() -> None:
            async with batch.run(api.create, items(1000), concurrency=4, journal=journal) as outcomes:
                async for _ in outcomes:
                    pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.1)
        began = clock.now
        task.cancel()
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert clock.now - began == pytest.approx(0.1)
    assert len(await journal.doubts()) == 4


async def test_a_drained_run_hands_out_what_flies_and_ends() -> None:
    api = Api()
    api.delay = 0.01
    keys = []
    async with batch.run(api.create, items(1000), concurrency=8) as outcomes:
        async for outcome in outcomes:
            keys.append(outcome.key)
            if len(keys) == 20:
                outcomes.drain()
    assert sorted(keys) == sorted(api.sent)
    assert len(keys) < 40


async def test_a_drained_run_that_is_closed_hands_out_what_it_cut_off() -> None:
    api = Api()
    api.gate = asyncio.Event()
    with virtual_time():
        async with batch.run(api.create, items(1000), concurrency=3) as outcomes:
            await asyncio.sleep(0.01)
            outcomes.drain()
            closing = asyncio.create_task(outcomes.aclose(grace=0))
            taken = [outcome async for outcome in outcomes]
            await closing
    assert state_by_key(taken) == dict.fromkeys("012", "in_doubt")


async def test_closing_is_idempotent_and_less_grace_wins() -> None:
    api = Api()
    with virtual_time() as clock:
        api.gate = asyncio.Event()
        async with batch.run(api.create, items(10)) as outcomes:
            await asyncio.sleep(0.01)
            began = clock.now
            patient = asyncio.create_task(outcomes.aclose(grace=100))
            await asyncio.sleep(1)
            await outcomes.aclose(grace=0)
            await patient
        assert clock.now - began == pytest.approx(1)
        await outcomes.aclose()


async def test_an_input_that_waits_does_not_hold_up_the_end() -> None:
    closed = asyncio.Event()

    async def waiting() -> AsyncIterator[batch.BatchItem]:
        try:
            for one in items(3):
                yield one
            await asyncio.Event().wait()
        finally:
            closed.set()

    with virtual_time() as clock:
        began = clock.now
        async with batch.run(Api().create, waiting()) as outcomes:
            taken = [(await anext(outcomes)).key for _ in range(3)]
        assert clock.now == began
    assert sorted(taken) == ["0", "1", "2"]
    assert closed.is_set()


async def test_generators_are_closed_with_the_run() -> None:
    closed: list[str] = []

    def plain() -> Iterator[batch.BatchItem]:
        try:
            yield from items(1000)
        finally:
            closed.append("plain")

    async def later() -> AsyncIterator[batch.BatchItem]:
        try:
            for one in items(1000):
                yield one
        finally:
            closed.append("later")

    for kind in (plain, later):
        async with batch.run(Api().create, kind()) as outcomes:
            await anext(outcomes)
    assert closed == ["plain", "later"]


async def test_a_run_that_pauses_can_be_left_at_once() -> None:
    api, journal = Api(), MemoryJournal()
    api.always = not_sent
    with virtual_time() as clock:
        async with batch.run(api.create, items(1000), journal=journal) as outcomes:
            await asyncio.sleep(100)
            began = clock.now
        assert clock.now == began
        assert [outcome async for outcome in outcomes] == []
    assert await journal.doubts() == []


@pytest.mark.parametrize("rate", [None, 0.01])
async def test_a_run_that_waits_for_a_turn_can_be_left_at_once(rate: float | None) -> None:
    with virtual_time() as clock:
        began = clock.now
        async with batch.run(Api().create, items(1000), rate=rate) as outcomes:
            await anext(outcomes)
        assert clock.now == began


async def test_nobody_misses_that_an_answer_was_not_kept() -> None:
    class Full(MemoryJournal):
        async def settle(self, key: str, outcome: batch.Outcome) -> None:
            raise errors.JournalError("no space")

    with pytest.raises(errors.JournalError, match="no space"):
        async with batch.run(Api().create, items(10), journal=Full()) as outcomes:
            await anext(outcomes)


async def test_a_run_that_was_never_entered_leaves_nothing() -> None:
    api = Api()
    run = batch.run(api.create, items(10))
    await run.aclose()
    assert api.sent == []


async def test_a_worker_that_is_cancelled_from_outside_ends_the_run_with_a_word() -> None:
    api = Api()
    api.gate = asyncio.Event()
    taken = []
    with virtual_time():
        async with batch.run(api.create, items(10), concurrency=2) as outcomes:
            await asyncio.sleep(0.01)
            for task in asyncio.all_tasks():
                if task.get_name().startswith("kustom_hpp batch worker"):
                    task.cancel()
            with pytest.raises(errors.BatchStoppedError, match="other code cancelled"):  # noqa: PT012
                async for outcome in outcomes:
                    taken.append(outcome)  # noqa: PERF401
    assert state_by_key(taken) == {"0": "in_doubt", "1": "in_doubt"}


@pytest.mark.parametrize("seed", range(20))
async def test_left_at_any_moment_every_row_is_accounted_for(seed: int) -> None:
    dice = random.Random(seed)
    api, journal = Api(**{str(n): [not_sent] * dice.randrange(3) for n in range(0, 60, 7)}), MemoryJournal()
    with virtual_time():
        api.delay = 0.01

        async def consume() -> list[batch.Outcome]:
            run = batch.run(api.create, items(60), concurrency=4, journal=journal, ordered=dice.random() < 0.5)
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(dice.uniform(0, 3)), run as outcomes:
                    async for _ in outcomes:
                        await asyncio.sleep(dice.uniform(0, 0.01))
            return [outcome async for outcome in run]

        await consume()
        assert api.in_flight == 0
        assert await journal.doubts() == []
        again = Api()
        resumed = await take(batch.run(again.create, items(60), journal=MemoryJournal(journal)))
    assert set(state_by_key(resumed).values()) == {"created"}
    assert sorted(api.made + again.made, key=int) == [str(number) for number in range(60)]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_create_that_is_cancelled_by_itself_stops_the_run_and_says_so(concurrency: int) -> None:
    api = Api()

    async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
        if len(api.sent) == 2:
            raise asyncio.CancelledError  # of a task of its own that it waited for
        return await api.create(request)

    taken = []
    with pytest.raises(errors.BatchStoppedError, match="cancelled"):  # noqa: PT012
        async with batch.run(create, items(20), concurrency=concurrency) as outcomes:
            async for outcome in outcomes:
                taken.append(outcome)  # noqa: PERF401 - what came before the error counts
    assert "in_doubt" in state_by_key(taken).values()
    assert set(state_by_key(taken)) >= set(api.sent)


async def test_an_input_that_stops_the_run_can_still_clean_up() -> None:
    runs: list[batch.BatchRun] = []
    closed: list[str] = []

    async def rows() -> AsyncIterator[batch.BatchItem]:
        try:
            yield item("a")
            runs[0].drain()
            yield item("b")
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    runs.append(batch.run(Api().create, rows(), concurrency=1))
    assert state_by_key(await take(runs[0])) == {"a": "created"}
    assert closed == ["closed"]
