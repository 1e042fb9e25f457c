"""The slots and the timeout of an attempt, and the moments in which two things happen at once."""

import asyncio
import contextlib

import pytest

import kustom_hpp as hpp
from kustom_hpp.transport.attempt_timeout import AttemptTimeout, AttemptTimer, ConnectionSlots
from tests.support.virtual import virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


async def passing(slots: ConnectionSlots, deadline: float | None = None) -> None:
    if slots.free:
        slots.free -= 1
    else:
        await slots.wait(deadline)


async def waiting(slots: ConnectionSlots, number: int, deadline: float | None = None) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(passing(slots, deadline)) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_places_go_to_whoever_has_waited_longest():
    slots = ConnectionSlots(2)
    tasks = await waiting(slots, 5)
    assert [task.done() for task in tasks] == [True, True, False, False, False]
    for done in ([True] * 3 + [False] * 2, [True] * 4 + [False], [True] * 5):
        slots.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == done
    assert slots.free == 0
    for _ in range(2):
        slots.release()
    assert (slots.free, slots.width) == (2, 2)


async def test_who_gave_up_is_passed_over():
    slots = ConnectionSlots(1)
    tasks = await waiting(slots, 4)
    for task in tasks[1:3]:
        task.cancel()
    await asyncio.wait(tasks[1:3])
    slots.release()
    await asyncio.wait_for(tasks[3], 1)
    assert (tasks[1].cancelled(), tasks[2].cancelled(), slots.free) == (True, True, 0)


async def test_a_place_given_to_someone_who_is_cancelled_at_that_moment_is_not_lost():
    slots = ConnectionSlots(1)
    _, first, second = await waiting(slots, 3)
    slots.release()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    await asyncio.wait_for(second, 1)
    slots.release()
    assert slots.free == 1


@pytest.mark.parametrize("given", [None, -1e-10, 1e-10], ids=["not", "just before", "just after"])
async def test_the_deadline_at_the_gate(given):
    slots = ConnectionSlots(1)
    with virtual_time() as clock:
        begin = clock.now
        holder, late = await waiting(slots, 2, begin + 2.0)
        assert holder.done()
        if given is not None:
            # The place comes free in the same turn of the loop in which the deadline's timer rings.
            asyncio.get_running_loop().call_at(begin + 2.0 + given, slots.release)
        with pytest.raises(hpp.DeadlineExceededError) as caught:
            await late
        assert clock.now == pytest.approx(begin + 2.0)
        assert (caught.value.__context__, caught.value.delivery) == (None, hpp.Delivery.NOT_SENT)
        await asyncio.sleep(1)
    # Nobody took it, and it is not lost.
    assert slots.free == (0 if given is None else 1)


async def attempt(timeout: AttemptTimeout, seconds: float) -> str:
    """What an attempt does with its clock: "done", or "time" where the clock ended it."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if not timeout.finish():
            raise
        return "time"
    timeout.finish()
    return "done"


def timeout_in(seconds: float, deadline: float | None = None) -> AttemptTimeout:
    """A clock whose first phase may take so long, with a deadline in seconds from now."""
    return AttemptTimeout(
        AttemptTimer(), asyncio.get_running_loop(), seconds, None if deadline is None else now() + deadline
    )


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, "done"), (3.0, "time")])
async def test_the_clock_ends_what_takes_too_long(seconds, expected):
    with virtual_time() as virtual:
        begin = virtual.now
        timeout = timeout_in(2.0)
        assert await attempt(timeout, seconds) == expected
        assert timeout.expired is (expected == "time")
        assert virtual.now - begin == pytest.approx(min(seconds, 2.0))
        # Stopped, it rings no more, and leaves no mark on the task.
        await asyncio.sleep(60)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize(
    ("phases", "deadline", "ends"),
    [
        ([], None, 2.0),
        ([5.0], None, 5.0),
        ([0.5], None, 0.5),
        ([5.0, 3.0], None, 3.0),
        ([0.5, 7.0], None, 7.0),
        ([5.0, 0.5, 6.0, 4.0], None, 4.0),
        # No phase lasts longer than the deadline, the first one neither.
        ([], 1.0, 1.0),
        ([], 2.5, 2.0),
        ([5.0], 3.0, 3.0),
        ([5.0], 1.0, 1.0),
        ([0.5], 1.0, 0.5),
        ([0.5, 5.0], 1.0, 1.0),
        ([5.0], -1.0, 0.0),
    ],
)
async def test_each_phase_has_its_own_time(phases, deadline, ends):
    with virtual_time() as virtual:
        begin = virtual.now
        timeout = timeout_in(2.0, deadline)
        for seconds in phases:
            timeout.restart(seconds)
        assert await attempt(timeout, 100.0) == "time"
        assert virtual.now - begin == pytest.approx(ends)


async def test_a_phase_counts_from_its_beginning():
    with virtual_time() as virtual:
        begin = virtual.now
        timeout = timeout_in(2.0)
        await asyncio.sleep(1.5)
        timeout.restart(2.0)
        assert await attempt(timeout, 100.0) == "time"
        assert virtual.now - begin == pytest.approx(3.5)


@pytest.mark.parametrize("first", ["caller", "clock"])
async def test_a_caller_who_cancels_as_the_clock_rings_is_heard(first):
    async def one() -> str:
        return await attempt(timeout_in(2.0), 100.0)

    with virtual_time():
        loop, begin = asyncio.get_running_loop(), now()
        task: asyncio.Task[str]
        if first == "clock":
            task = asyncio.create_task(one())
            await asyncio.sleep(0)
            loop.call_at(begin + 2.0, task.cancel)
        else:
            loop.call_at(begin + 2.0, lambda: task.cancel())  # noqa: PLW0108 - there is no task yet
            task = asyncio.create_task(one())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()


async def test_a_task_that_was_cancelled_before_still_has_a_clock_of_its_own():
    async def one() -> str:
        # Somebody above decided to go on, and did not call uncancel().
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        return await attempt(timeout_in(2.0), 100.0)

    with virtual_time():
        task = asyncio.create_task(one())
        await asyncio.sleep(1)
        task.cancel()
        assert await task == "time"


async def test_one_timer_ends_each_attempt_at_its_own_time():
    timer = AttemptTimer()
    loop = asyncio.get_running_loop()
    ended: dict[float, float] = {}

    async def one(seconds: float, phase: float | None, lasts: float) -> str:
        timeout = AttemptTimeout(timer, loop, seconds, None)
        if phase is not None:
            timeout.restart(phase)
        result = await attempt(timeout, lasts)
        ended[seconds] = now()
        return result

    with virtual_time() as virtual:
        begin = virtual.now
        plays = [(5.0, None, 100.0), (2.0, None, 100.0), (3.0, 1.0, 100.0), (4.0, 7.0, 100.0), (6.0, None, 0.5)]
        results = await asyncio.gather(*(one(*play) for play in plays))
        assert results == ["time", "time", "time", "time", "done"]
        assert {seconds: moment - begin for seconds, moment in ended.items()} == pytest.approx(
            {5.0: 5.0, 2.0: 2.0, 3.0: 1.0, 4.0: 7.0, 6.0: 0.5}
        )
        # With nothing to watch, it sets no timer, and the next attempt sets one.
        assert timer._handle is None
        assert await one(2.0, None, 100.0) == "time"


async def test_many_attempts_set_one_timer(monkeypatch):
    timer, loop = AttemptTimer(), asyncio.get_running_loop()
    with virtual_time():
        set_at: list[float] = []
        call_at = loop.call_at
        monkeypatch.setattr(loop, "call_at", lambda when, *rest: set_at.append(when) or call_at(when, *rest))
        for _ in range(100):
            timeout = AttemptTimeout(timer, loop, 5.0, None)
            timeout.restart(35.0)
            assert timeout.finish() is False
    assert len(set_at) == 1
    timer.stop()
