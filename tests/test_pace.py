"""Turns: at which rate they come, in which order, and what becomes of one that nobody takes."""

import asyncio
import itertools
import random

import pytest

import kustom_hpp as hpp
from kustom_hpp import pace as pace_room
from tests.support.virtual import virtual_time


async def moments(pace: hpp.Pace, number: int, deadline: float | None = None) -> list[float]:
    """When each of so many attempts that ask at once gets its turn, in seconds from now."""
    begin = pace_room.time.monotonic()

    async def one() -> float:
        await pace.acquire(deadline)
        return pace_room.time.monotonic() - begin

    return list(await asyncio.gather(*(one() for _ in range(number))))


async def test_without_a_rate_everything_passes():
    with virtual_time():
        assert await moments(hpp.Pace(), 1000) == [0.0] * 1000


@pytest.mark.parametrize(
    ("rate", "burst", "expected"),
    [
        (10.0, 1, [0.0, 0.1, 0.2, 0.3, 0.4]),
        (10.0, 3, [0.0, 0.0, 0.0, 0.1, 0.2]),
        (2, 2, [0.0, 0.0, 0.5, 1.0, 1.5]),
        (2, None, [0.0, 0.0, 0.5, 1.0, 1.5]),  # one second's worth
        (2.9, None, [0.0, 0.0, 1 / 2.9, 2 / 2.9, 3 / 2.9]),
        (0.1, None, [0.0, 10.0, 20.0, 30.0, 40.0]),  # at least 1
        (0.5, 2, [0.0, 0.0, 2.0, 4.0, 6.0]),
    ],
)
async def test_rate_and_burst(rate, burst, expected):
    with virtual_time():
        assert await moments(hpp.Pace(rate, burst), 5) == pytest.approx(expected)


async def test_a_pause_fills_the_burst_and_not_more():
    pace = hpp.Pace(rate=10, burst=3)
    with virtual_time():
        await moments(pace, 5)
        await asyncio.sleep(0.2)  # 0.4 s of turns are given: the bucket is full 0.5 s after the beginning
        assert await moments(pace, 2) == pytest.approx([0.0, 0.0])
        await asyncio.sleep(3600)
        assert await moments(pace, 5) == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])


@pytest.mark.parametrize(("rate", "burst"), [(40.0, 40), (5.0, 1), (7.3, 3)])
async def test_never_more_than_the_rate_allows_in_any_stretch_of_time(rate, burst):
    dice, pace, turns = random.Random(3), hpp.Pace(rate, burst), []

    async def one(arrival: float) -> None:
        await asyncio.sleep(arrival)
        await pace.acquire()
        turns.append(pace_room.time.monotonic())

    with virtual_time():
        begin = pace_room.time.monotonic()
        await asyncio.gather(*(one(dice.random() * 20) for _ in range(300)))
    assert turns == sorted(turns)
    for first, last in itertools.combinations(range(300), 2):
        assert last - first + 1 <= burst + rate * (turns[last] - turns[first]) + 1e-6
    # And nothing of the rate is wasted while somebody waits.
    assert turns[-1] - begin < 20 + 300 / rate


async def test_who_comes_first_goes_first():
    pace, order = hpp.Pace(rate=10, burst=1), []

    async def one(number: int) -> None:
        await asyncio.sleep(number / 100)
        await pace.acquire()
        order.append(number)

    with virtual_time():
        await asyncio.gather(*(one(number) for number in reversed(range(50))))
    assert order == list(range(50))


@pytest.mark.parametrize(("after", "passes"), [(0.9, False), (0.99, False), (1.0, True), (1.5, True)])
async def test_a_turn_after_the_deadline_is_refused_at_once(after, passes):
    pace = hpp.Pace(rate=1, burst=1)
    with virtual_time() as clock:
        await pace.acquire()
        begin = clock.now
        if passes:
            await pace.acquire(begin + after)
            assert clock.now == pytest.approx(begin + 1.0)
        else:
            with pytest.raises(hpp.DeadlineExceededError, match="of 1 attempts per second: nothing was sent") as caught:
                await pace.acquire(begin + after)
            assert clock.now == begin
            assert caught.value.delivery is hpp.Delivery.NOT_SENT


@pytest.mark.parametrize(("late", "passes"), [(0.0, True), (0.001, False)])
async def test_a_deadline_that_is_past_is_past_with_a_turn_at_hand_too(late, passes):
    pace = hpp.Pace(rate=10, burst=10)
    with virtual_time() as clock:
        # A bucket that has been full for long: its "wait" is far below zero, and that must not count as time.
        if passes:
            await pace.acquire(clock.now - late)
        else:
            with pytest.raises(hpp.DeadlineExceededError):
                await pace.acquire(clock.now - late)


async def test_those_in_front_count_before_a_deadline():
    pace = hpp.Pace(rate=1, burst=1)
    with virtual_time() as clock:
        begin = clock.now
        waiting = [asyncio.create_task(pace.acquire()) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(hpp.DeadlineExceededError):
            await pace.acquire(begin + 2.5)
        assert clock.now == begin
        assert await pace.acquire(begin + 4.5) == pytest.approx(begin + 4.0)
        await asyncio.gather(*waiting)


async def test_a_refused_turn_is_not_taken():
    pace = hpp.Pace(rate=1, burst=1)
    with virtual_time() as clock:
        await pace.acquire()
        for _ in range(5):
            with pytest.raises(hpp.DeadlineExceededError):
                await pace.acquire(clock.now + 0.5)
        assert await moments(pace, 1) == pytest.approx([1.0])


async def test_a_cancelled_wait_gives_its_turn_back():
    pace = hpp.Pace(rate=1, burst=1)
    with virtual_time():
        await pace.acquire()
        waiting = [asyncio.create_task(pace.acquire()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in results] == [asyncio.CancelledError] * 10
        assert await moments(pace, 2) == pytest.approx([1.0, 2.0])


async def test_two_paces_know_nothing_of_each_other():
    one, other = hpp.Pace(rate=1, burst=1), hpp.Pace(rate=1, burst=1)
    with virtual_time():
        assert await moments(one, 2) == pytest.approx([0.0, 1.0])
        assert await moments(other, 2) == pytest.approx([0.0, 1.0])


def test_event_loops_may_share_a_pace():
    pace, taken = hpp.Pace(rate=1, burst=1), []

    async def one() -> None:
        with virtual_time() as clock:
            begin = clock.now
            await pace.acquire()
            taken.append(clock.now - begin)

    # Both virtual clocks begin at the same moment, as two loops that run at the same time do.
    asyncio.run(one())
    asyncio.run(one())
    assert taken == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(
    "rate",
    [0, 0.0, -1, -0.1, float("nan"), float("inf"), -float("inf"), "40", True, False, 10**400, [1], 1j],
    ids=lambda rate: repr(rate)[:20],
)
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(hpp.ConfigError, match=r"Pace\.rate must be a finite number above 0"):
        hpp.Pace(rate)


@pytest.mark.parametrize(("rate", "burst"), [(1, 0), (1, -1), (1, 1.5), (1, 2.0), (1, "2"), (1, True), (None, 5)])
def test_a_burst_that_is_none_is_refused(rate, burst):
    with pytest.raises(hpp.ConfigError, match=r"Pace\.burst (must be a whole number of at least 1|needs a rate)"):
        hpp.Pace(rate, burst)
