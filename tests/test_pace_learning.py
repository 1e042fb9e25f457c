"""What a pace makes of the answers it hears: exact rates, who may cut, and who has to wait."""

import asyncio
import itertools
import threading
import time

import pytest

import kustom_hpp as hpp
from kustom_hpp._messages import RateLimit
from tests.support.golden import MINIMAL_ANSWER, MINIMAL_REQUEST
from tests.support.virtual import virtual_time
from tests.test_pace import moments

ANSWER = hpp.FakeTransport.response(201, MINIMAL_ANSWER)
EXACT = hpp.RetrySettings(initial=0, maximum=0)
"""No jitter: every wait is what the answer asks for."""


def told(limit: int | None = 40, remaining: int | None = None, window: float | None = 1.0) -> RateLimit:
    return RateLimit(limit=limit, remaining=remaining, window=window)


def throttled(**headers: str) -> hpp.HttpResponse:
    return hpp.FakeTransport.response(429, {}, {name.replace("_", "-"): value for name, value in headers.items()})


def client_of(*steps: hpp.HttpResponse, pace: hpp.Pace | None = None, **options) -> hpp.HPPClient:
    return hpp.HPPClient("kco_test_x", transport=hpp.FakeTransport(*steps), pace=pace, **({"retry": EXACT} | options))


# ---------------------------------------------------------------------------------------------------- the first 429


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([0.0] * 40, 28.0),
        ([0.9] * 40, 28.0),
        ([1.0] * 40 + [0.5] * 20, 14.0),  # what was accepted a second ago or earlier is not counted
        ([], 7.0),  # few answers tell little: at least 10
        ([0.1] * 10, 7.0),
        ([0.1] * 11, 7.7),
        ([0.1] * 2000, 700.0),
    ],
)
async def test_the_first_429_cuts_from_what_was_accepted(ages, expected):
    pace = hpp.Pace()
    with virtual_time() as clock:
        now = clock.now
        for age in ages:
            clock.now = now - age
            pace.record_response(clock.now)
        clock.now = now
        assert pace.rate is None
        pace.record_response(clock.now, throttled=True)
    assert pace.rate == pytest.approx(expected)


async def test_after_a_429_a_learned_pace_keeps_its_rate():
    pace = hpp.Pace()
    with virtual_time() as clock:
        pace.record_response(clock.now, throttled=True)
        assert await moments(pace, 4) == pytest.approx([1 / 7, 2 / 7, 3 / 7, 4 / 7])


async def test_of_a_learned_rate_a_quarter_of_a_second_may_go_at_once_after_a_pause():
    pace = hpp.Pace()
    with virtual_time() as clock:
        for _ in range(20):
            pace.record_response(clock.now)
        pace.record_response(clock.now, throttled=True)
        await asyncio.sleep(10)
        spacing = 1 / 14  # a quarter of a second is 3.5 turns, beside the one that is always there
        assert await moments(pace, 6) == pytest.approx([0, 0, 0, 0, 4 * spacing - 0.25, 5 * spacing - 0.25])


# ------------------------------------------------------------------------------------------------------ cuts, recovery


@pytest.mark.parametrize(("sent", "expected"), [(-5.0, 28.0), (0.0, 28.0), (0.24, 28.0), (0.25, 19.6), (3.0, 19.6)])
async def test_late_429s_of_one_window_do_not_cut_again(sent, expected):
    pace = hpp.Pace(40)
    with virtual_time() as clock:
        cut_at = clock.now
        pace.record_response(cut_at - 1, throttled=True)
        for _ in range(32):
            pace.record_response(cut_at - 1, throttled=True)
        assert pace.rate == pytest.approx(28.0)
        await asyncio.sleep(3)
        for _ in range(32):
            pace.record_response(cut_at + sent, throttled=True)
    assert pace.rate == pytest.approx(expected)


@pytest.mark.parametrize(("given", "slowest"), [(None, 0.1), (40, 0.1), (0.2, 0.1), (0.05, 0.05)])
async def test_nothing_cuts_a_pace_to_a_standstill(given, slowest):
    pace = hpp.Pace(given)
    with virtual_time() as clock:
        for _ in range(100):
            pace.record_response(clock.now, throttled=True)
            await asyncio.sleep(1)
    assert pace.rate == pytest.approx(slowest)


async def test_each_answer_gives_a_learned_rate_a_tenth_of_a_turn_back():
    pace = hpp.Pace()
    with virtual_time() as clock:
        pace.record_response(clock.now, throttled=True)
        for number in range(50):
            sent = await pace.acquire()
            pace.record_response(sent)
            assert pace.rate == pytest.approx(7.0 + 0.1 * (number + 1))


async def test_a_given_rate_is_back_after_three_seconds_and_never_exceeded():
    pace, rates = hpp.Pace(40, 1), []
    with virtual_time() as clock:
        pace.record_response(clock.now, throttled=True)
        began = clock.now
        while clock.now < began + 6:
            sent = await pace.acquire()
            pace.record_response(sent)
            rates.append((clock.now - began, pace.rate))
    assert max(rate for _, rate in rates) == 40
    assert next(moment for moment, rate in rates if rate == 40) == pytest.approx(3.0, abs=0.1)
    assert all(rate == pytest.approx(28 + 4 * moment, abs=0.3) for moment, rate in rates if rate < 40)


async def test_a_rate_that_nobody_uses_up_does_not_grow():
    pace = hpp.Pace()
    with virtual_time() as clock:
        pace.record_response(clock.now, throttled=True)
        for _ in range(100):
            await asyncio.sleep(1)
            pace.record_response(await pace.acquire())
    assert pace.rate == pytest.approx(7.0)


async def test_the_rate_counts_from_the_first_answer_after_a_pause():
    # Else a slow first request would let those after it come to the API earlier than the rate allows.
    pace = hpp.Pace(10, 3)
    with virtual_time() as clock:
        for _ in range(2):
            began = clock.now
            first = await pace.acquire()
            await asyncio.sleep(0.05)
            pace.record_response(first)
            pace.record_response(first)  # who went in the same moment is another
            rest = [await pace.acquire() - began for _ in range(4)]
            assert rest == pytest.approx([0.05, 0.05, 0.15, 0.25])
            for turn in rest:
                pace.record_response(began + turn)
            await asyncio.sleep(10)


# ------------------------------------------------------------------------------------------------------ what it is told


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [
        (None, told(40), 40.0),
        (None, told(300, window=60.0), 5.0),
        (None, told(40, window=None), None),
        (None, told(40, window=0.0), None),
        (None, told(None), None),
        (None, told(0), None),
        (None, told(None, remaining=0), None),
        (None, told(1, window=3600.0), 1 / 3600),
        (20, told(40), 20.0),
        (40, told(20), 20.0),
        (40, told(40, remaining=40), 40.0),
        (40, told(40, remaining=10), 40.0),
        (40, told(40, remaining=5), 20.0),
        (40, told(40, remaining=3), 12.0),
        (40, told(40, remaining=0), 10.0),
        (40, told(40, remaining=0, window=None), 10.0),
        (None, told(40, remaining=5), 20.0),
        (20, told(40, remaining=5), 10.0),
    ],
)
async def test_what_the_headers_tell(given, limit, expected):
    pace = hpp.Pace(given)
    pace.record_response(time.monotonic(), limit=limit)
    assert pace.rate == (expected if expected is None else pytest.approx(expected))


async def test_a_share_comes_back_with_the_next_answer():
    pace = hpp.Pace()
    for remaining, rate in ((40, 40.0), (2, 10.0), (5, 20.0), (9, 36.0), (11, 40.0)):
        pace.record_response(time.monotonic(), limit=told(40, remaining))
        assert pace.rate == pytest.approx(rate)


async def test_a_cut_holds_beside_the_share():
    pace = hpp.Pace()
    with virtual_time() as clock:
        pace.record_response(clock.now, limit=told(40, 40))
        pace.record_response(clock.now, throttled=True, limit=told(40, 0))
        assert pace.rate == pytest.approx(10.0)
        pace.record_response(clock.now, throttled=True, limit=told(40, 0), retry_after=1)
        assert pace.rate == pytest.approx(28.0)  # the share of a window that is over by then counts no more


@pytest.mark.parametrize(("asked", "held"), [(0, 1 / 28), (2, 2.0), (60, 60.0), (999_999_999, 60.0)])
async def test_nobody_goes_before_the_moment_that_a_429_named(asked, held):
    pace = hpp.Pace(40)
    with virtual_time() as clock:
        pace.record_response(clock.now, throttled=True, retry_after=asked)
        assert min(await moments(pace, 3)) == pytest.approx(held)


async def test_the_later_of_two_moments_holds():
    pace = hpp.Pace(40)
    with virtual_time() as clock:
        pace.record_response(clock.now, throttled=True, retry_after=5)
        pace.record_response(clock.now, throttled=True, retry_after=1)
        assert min(await moments(pace, 3)) == pytest.approx(5.0)


async def test_who_waits_already_waits_for_that_moment_too():
    pace = hpp.Pace(1, 1)
    with virtual_time() as clock:
        await pace.acquire()
        waiting = asyncio.create_task(moments(pace, 2))
        await asyncio.sleep(0.5)
        pace.record_response(clock.now, throttled=True, retry_after=10)
        first, second = await waiting
        assert first == pytest.approx(10.5)
        assert second == pytest.approx(10.5 + 1 / 0.7)


async def test_a_deadline_ends_a_wait_that_became_longer_than_it_looked():
    pace = hpp.Pace(10, 1)
    with virtual_time() as clock:
        await pace.acquire()
        began = clock.now
        ends = {}

        async def one(number: int) -> None:
            with pytest.raises(hpp.DeadlineExceededError, match="nothing was sent") as caught:
                await pace.acquire(began + 2)
            ends[number] = clock.now - began
            assert (caught.value.__cause__, caught.value.__context__) == (None, None)

        waiting = [asyncio.create_task(one(number)) for number in range(3)]
        await asyncio.sleep(0.05)
        pace.record_response(clock.now, throttled=True, retry_after=30)
        await asyncio.gather(*waiting)
        # The first in line looks again when its turn would have come, and the next ones right after it.
        assert list(ends.values()) == pytest.approx([0.1, 0.1, 0.1])


async def test_a_deadline_ends_the_wait_for_those_in_front():
    pace = hpp.Pace(1, 1)
    with virtual_time() as clock:
        await pace.acquire()
        began = clock.now
        first = asyncio.create_task(pace.acquire())
        second = asyncio.create_task(pace.acquire(began + 2.5))
        await asyncio.sleep(0.5)
        pace.record_response(clock.now, throttled=True, retry_after=10)
        # The first one now sleeps from 1.0 to 10.5 and keeps its place.
        with pytest.raises(hpp.DeadlineExceededError, match="nothing was sent"):
            await second
        assert clock.now - began == pytest.approx(2.5)
        assert await first == pytest.approx(began + 10.5)


async def test_a_quarter_of_the_window_of_the_headers_may_go_at_once():
    pace = hpp.Pace()
    with virtual_time() as clock:
        pace.record_response(clock.now, limit=told(80, window=2.0))
        assert (await moments(pace, 40)).count(0.0) == 21  # half a second's worth, and the next one


async def test_nothing_is_left_of_a_line_when_it_is_over():
    pace = hpp.Pace(1000, 1)
    await asyncio.gather(*(pace.acquire() for _ in range(5)))
    assert pace._queues == {}


# ----------------------------------------------------------------------------------------------------- who shares it


async def test_a_429_slows_the_whole_client_down():
    client = client_of(ANSWER, throttled(), ANSWER)
    with virtual_time() as clock:
        await client.create_session(MINIMAL_REQUEST)
        began = clock.now
        await client.create_session(MINIMAL_REQUEST)  # throttled, then accepted: one turn at 7 a second
        assert clock.now - began == pytest.approx(1 / 7)
        began = clock.now
        await asyncio.gather(*(client.create_session(MINIMAL_REQUEST) for _ in range(7)))
        assert 0.8 < clock.now - began < 1.1


async def test_a_429_of_one_client_slows_another_down_that_shares_its_pace():
    pace = hpp.Pace()
    one, other = client_of(throttled(Retry_After="3"), ANSWER, pace=pace), client_of(ANSWER, pace=pace)
    with virtual_time() as clock:
        began = clock.now
        first = asyncio.create_task(one.create_session(MINIMAL_REQUEST))
        await asyncio.sleep(0.01)
        await other.create_session(MINIMAL_REQUEST)
        assert clock.now - began == pytest.approx(3.0)
        await first


@pytest.mark.parametrize(
    "options", [{}, {"hooks": [lambda event: None]}, {"pace": hpp.Pace(40)}], ids=["alone", "hooks", "pace"]
)
async def test_a_throttled_attempt_does_not_wait_twice(options):
    client = client_of(throttled(Retry_After="2"), ANSWER, **options)
    with virtual_time() as clock:
        began = clock.now
        session = await client.create_session(MINIMAL_REQUEST)
        assert clock.now - began == pytest.approx(2.0)
    assert session.info.attempts == 2


async def test_a_retry_waits_for_the_later_of_its_own_moment_and_the_paces():
    pace = hpp.Pace(40)
    client = client_of(throttled(Retry_After="2"), ANSWER, pace=pace)
    with virtual_time() as clock:
        began = clock.now
        call = asyncio.create_task(client.create_session(MINIMAL_REQUEST))
        await asyncio.sleep(1)
        pace.record_response(clock.now, throttled=True, retry_after=4)
        await call
        assert clock.now - began == pytest.approx(5.0)


@pytest.mark.parametrize("options", [{}, {"hooks": [lambda event: None]}], ids=["short way", "with hooks"])
@pytest.mark.parametrize("status", [201, 400])
async def test_headers_are_heard_on_every_answer(options, status):
    headers = {"x-ratelimit-limit": "40, 40;w=1", "x-ratelimit-remaining": "5", "x-ratelimit-reset": "1"}
    client = client_of(hpp.FakeTransport.response(status, MINIMAL_ANSWER, headers), **options)
    try:
        await client.create_session(MINIMAL_REQUEST)
    except hpp.BadRequestError:
        assert status == 400
    assert client._create_context.pace.rate == pytest.approx(20.0)


def test_threads_with_loops_of_their_own_keep_one_rate():
    pace, taken = hpp.Pace(200, 1), []

    async def turns() -> None:
        taken.extend(await asyncio.gather(*(pace.acquire() for _ in range(15))))

    threads = [threading.Thread(target=asyncio.run, args=(turns(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken.sort()
    assert len(taken) == 60
    assert pace._queues == {}
    # A thread may lose the processor between reading the clock and taking its turn, hence the tolerance.
    for (first, one), (last, other) in itertools.combinations(enumerate(taken), 2):
        assert last - first <= 200 * (other - one + 0.02)
