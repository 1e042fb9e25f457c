"""Claims of a journal that takes its time: never more of them than workers, and none is left behind."""

import asyncio
import random
from typing import Any

import pytest

import kustom_hpp as hpp
from kustom_hpp import batch, errors
from kustom_hpp.batch import Claim, Claimed, ClaimedElsewhere, Outcome, OutcomeState
from tests.support.batches import (
    Api,
    Result,
    items,
    lost,
    not_sent,
    rejected,
    state_by_key,
    take,
    throttled,
    unreadable,
)
from tests.support.memory_journal import MemoryJournal
from tests.support.virtual import virtual_time

ROWS = 60


class Begun(MemoryJournal):
    """A journal whose claims and settlings begin in the call, in that order, and are durable some turns later."""

    def __init__(self, earlier: MemoryJournal | None = None, *, seed: int = 0, fails_after: int | None = None) -> None:
        super().__init__(earlier)
        self.random = random.Random(seed)
        self.fails_after = fails_after
        self.open: set[str] = set()
        """Rows that are claimed and not settled."""
        self.most_open = 0
        self.asked: list[asyncio.Future[Any]] = []

    # Beneath it are coroutines, which futures are not: the protocol asks for neither, only that they can be awaited.
    def claim(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: str, order: str | None, digest: bytes, *, force: bool = False
    ) -> asyncio.Future[Claim]:
        return self._later(super().claim(key, order, digest, force=force), key)

    def settle(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: str, outcome: Outcome
    ) -> asyncio.Future[ClaimedElsewhere | None]:
        return self._later(super().settle(key, outcome), key)

    def _later(self, call: Any, key: str) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            call.close()
            self._end(future, errors.JournalError("the disk is full"))
        else:
            try:
                call.send(None)
            except StopIteration as end:
                (self.open.add if isinstance(end.value, Claimed) else self.open.discard)(key)
                self.most_open = max(self.most_open, len(self.open))
                self._end(future, end.value)
        self.asked.append(future)
        return future

    def _end(self, future: asyncio.Future[Any], result: Any, turns: int | None = None) -> None:
        turns = self.random.randrange(4) if turns is None else turns
        if turns:
            asyncio.get_running_loop().call_soon(self._end, future, result, turns - 1)
        elif future.cancelled():
            pass
        elif isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def trouble(rng: random.Random) -> dict[str, list[Result]]:
    kinds: list[Result] = [not_sent, throttled, rejected, lost, unreadable, None]
    return {str(number): rng.choices(kinds, k=rng.randrange(3)) for number in range(ROWS) if rng.random() < 0.3}


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_happens_no_claim_is_left_behind(seed: int) -> None:
    rng = random.Random(seed)
    concurrency = rng.choice([1, 2, 5, 8])
    leave_after = rng.choice([None, 1, 7, 30])
    with virtual_time():
        api, journal = Api(**trouble(rng)), Begun(seed=seed)
        api.delay = rng.choice([0.0, 0.001])
        run = batch.run(
            api.create, items(ROWS), concurrency=concurrency, journal=journal, ordered=rng.random() < 0.5, max_doubts=5
        )
        taken: list[Outcome] = []
        try:
            async with run as outcomes:
                async for outcome in outcomes:
                    taken.append(outcome)
                    if len(taken) == leave_after:
                        rng.choice([run.drain, lambda: None])()
                        break
            taken += [outcome async for outcome in outcomes]
        except errors.BatchStoppedError:
            pass
        assert journal.most_open <= concurrency
        assert journal.open == set()
        # What is in doubt was sent, and its outcome was handed out.
        doubts = {doubt.key for doubt in await journal.doubts()}
        assert doubts == {outcome.key for outcome in taken if outcome.state is OutcomeState.IN_DOUBT}
        assert doubts <= set(api.sent)
        again = Api()
        rest = await take(batch.run(again.create, items(ROWS), journal=MemoryJournal(journal)))
    assert len(rest) == ROWS
    assert not set(api.made) & set(again.made)
    assert set(state_by_key(rest)) == {str(number) for number in range(ROWS)}
    assert {outcome.key for outcome in rest if outcome.state is OutcomeState.CREATED} == {*api.made, *again.made}


@pytest.mark.parametrize("fails_after", range(0, 40, 3))
async def test_a_journal_that_breaks_is_asked_no_more_and_every_future_is_taken(fails_after: int) -> None:
    api, journal = Api(), Begun(fails_after=fails_after)
    api.delay = 0.001
    taken: list[Outcome] = []
    with pytest.raises(errors.JournalError, match="disk is full"):  # noqa: PT012
        async with batch.run(api.create, items(ROWS), concurrency=4, journal=journal) as outcomes:
            async for outcome in outcomes:
                taken.append(outcome)  # noqa: PERF401 - what came before the error counts
    assert {outcome.key for outcome in taken if outcome.state is OutcomeState.CREATED} == set(api.sent)
    # The others were claimed, never sent, and the journal could not record that.
    others = [outcome for outcome in taken if outcome.state is not OutcomeState.CREATED]
    assert {(outcome.error.delivery, outcome.recorded) for outcome in others} <= {(hpp.Delivery.NOT_SENT, False)}
    assert {outcome.key for outcome in taken if not outcome.recorded} == journal.open
    # An exception that nobody took is complained of by the loop.
    assert all(future.done() and not future._log_traceback for future in journal.asked if not future.cancelled())


async def test_a_row_that_cannot_be_read_is_told_when_its_turn_comes() -> None:
    bad = batch.BatchItem("bad", None)  # type: ignore[arg-type]
    rows = [*items(6)[:3], bad, *items(6)[3:]]
    outcomes = await take(batch.run(Api().create, rows, concurrency=1, journal=Begun()))
    created = {str(number): "created" for number in range(6)}
    assert state_by_key(outcomes) == {**created, "bad": "failed"}


async def test_an_iterable_that_raises_while_a_row_is_settled_costs_no_row() -> None:
    def some() -> Any:
        yield from items(5)
        raise LookupError("mine")

    api, journal = Api(), Begun()
    taken: list[Outcome] = []
    with pytest.raises(LookupError, match="mine"):  # noqa: PT012
        async with batch.run(api.create, some(), concurrency=2, journal=journal) as outcomes:
            async for outcome in outcomes:
                taken.append(outcome)  # noqa: PERF401 - what came before the error counts
    # The last row may have been claimed already: then it was not sent, and is free again.
    assert state_by_key(taken) == dict.fromkeys(api.sent, "created")
    assert len(api.sent) >= 3
    assert journal.open == set()
    rest = await take(batch.run(api.create, items(5), journal=MemoryJournal(journal)))
    assert state_by_key(rest) == {str(number): "created" for number in range(5)}
    assert api.repeated == {}


class Hangs(Begun):
    """A journal that does not answer any more once it hangs."""

    hangs = False

    def _end(self, future: asyncio.Future[Any], result: Any, turns: int | None = None) -> None:
        if not self.hangs:
            super()._end(future, result, turns)


async def test_a_journal_that_hangs_does_not_hold_up_the_end_for_ever() -> None:
    taken: list[Outcome] = []
    with virtual_time() as clock:
        api, journal = Api(), Hangs()
        api.delay = 0.001
        run = batch.run(api.create, items(100), concurrency=4, journal=journal)

        async def leave() -> None:
            async with run as outcomes:
                async for outcome in outcomes:
                    taken.append(outcome)
                    if len(taken) == 10:
                        journal.hangs = True
                        break

        leaving = asyncio.create_task(leave())
        await asyncio.sleep(60)
        ended, now = leaving.done(), clock.now
        # Now the disk says what was wrong; nobody listens, and nobody complains of that.
        for future in journal.asked:
            if not future.done():
                future.set_exception(errors.JournalError("the disk was gone"))
        await leaving
        assert ended
        assert now == clock.now
    taken += [outcome async for outcome in run]
    assert {outcome.key for outcome in taken if outcome.state is OutcomeState.CREATED} == set(api.sent)
    assert any(not outcome.recorded for outcome in taken)
    assert not any(future._log_traceback for future in journal.asked if not future.cancelled())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rate", [None, 2000])
async def test_a_worker_that_is_cancelled_leaves_no_row_in_doubt_that_was_not_sent(
    seed: int, rate: float | None
) -> None:
    rng = random.Random(seed)
    with virtual_time():
        api, journal = Api(**trouble(rng)), Begun(seed=seed)
        run = batch.run(api.create, items(ROWS), concurrency=4, journal=journal, rate=rate, max_doubts=ROWS)
        taken: list[Outcome] = []
        with pytest.raises(errors.BatchStoppedError, match="cancelled"):  # noqa: PT012
            async with run as outcomes:
                async for outcome in outcomes:
                    taken.append(outcome)
                    if len(taken) == 5:
                        for _ in range(rng.randrange(6)):
                            await asyncio.sleep(0)
                        for worker in run._tasks:
                            worker.cancel()
        reported_doubts = {each.key for each in taken if each.state is OutcomeState.IN_DOUBT or not each.recorded}
        doubts = {doubt.key for doubt in await journal.doubts()}
        assert doubts <= reported_doubts
        assert {each.key for each in taken} >= set(api.made)


async def test_a_journal_that_refuses_a_row_at_once_fails_that_row_alone() -> None:
    class Refuses(Begun):
        def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> asyncio.Future[Claim]:
            if key == "3":
                raise errors.InvalidRequestError("not here")
            return super().claim(key, order, digest, force=force)

    outcomes = await take(batch.run(Api().create, items(8), concurrency=1, journal=Refuses()))
    assert state_by_key(outcomes) == {**{str(number): "created" for number in range(8)}, "3": "failed"}
    assert all(outcome.recorded for outcome in outcomes)
