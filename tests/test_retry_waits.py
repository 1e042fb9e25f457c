"""How long is waited between attempts, what ends the waiting, and what the client's quota has to say."""

import asyncio
import random

import pytest

import kustom_hpp as hpp
from kustom_hpp import retry
from kustom_hpp._messages import Delivery
from tests.support.retrying import Story, connect, lost, settings, story, throttled, unavailable
from tests.support.virtual import virtual_time


@pytest.fixture(autouse=True)
def _same_dice_in_every_run():
    random.seed(20)


async def waits(*makes, rounds: int = 200, **options) -> list[list[float]]:
    """For each attempt but the last, the waits that came of many rounds."""
    with virtual_time():
        stories = [await story(*[make() for make in makes], "done", **options) for _ in range(rounds)]
    assert {told.value for told in stories} == {"done"}
    return [list(column) for column in zip(*([wait for _, wait, _ in told.retried] for told in stories), strict=True)]


@pytest.mark.parametrize(
    ("initial", "maximum", "upper_ends"),
    [
        (0.5, 8.0, [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]),
        (0.25, 1.0, [0.25, 0.5, 1.0, 1.0, 1.0, 1.0]),
        (2.0, 1.0, [1.0] * 6),
        (0.0, 8.0, [0.0] * 6),
        (0.5, 0.0, [0.0] * 6),
    ],
)
async def test_full_jitter(initial, maximum, upper_ends):
    options = settings(initial=initial, maximum=maximum, max_attempts=7, budget=1e6)
    columns = await waits(*[connect] * 6, settings=options)
    for column, upper in zip(columns, upper_ends, strict=True):
        assert 0.0 <= min(column) <= upper / 20
        assert upper * 0.95 <= max(column) <= upper


@pytest.mark.parametrize("make", [throttled, unavailable], ids=["429", "503"])
@pytest.mark.parametrize("asked", [0.0, 1.0, 30.0])
async def test_retry_after_is_the_least_and_spread_over_one_step(make, asked):
    options = settings(initial=0.5, on_unknown="resend", budget=1e6)
    for column in await waits(lambda: make(asked), lambda: make(asked), settings=options):
        assert asked <= min(column) <= asked + 0.05
        assert asked + 0.45 <= max(column) <= asked + 0.5


async def test_each_answer_asks_for_its_own_wait():
    with virtual_time():
        told = await story(throttled(3.0), connect(), throttled(1.5), "done", settings=settings())
    assert told.began == [0.0, 3.0, 3.0, 4.5]


@pytest.mark.parametrize(("cap", "asked", "again"), [(30.0, 30.0, True), (30.0, 30.001, False), (0.0, 0.0, True),
                                                     (0.0, 0.001, False), (5.0, 1e9, False)])  # fmt: skip
@pytest.mark.parametrize("earlier", [0, 1], ids=["first", "second"])
async def test_a_wait_over_the_cap_ends_the_call_at_once(cap, asked, again, earlier):
    options = settings(retry_after_cap=cap, budget=1e6)
    with virtual_time():
        told = await story(*[connect()] * earlier, throttled(asked), "done", settings=options)
    if again:
        assert (told.value, told.elapsed) == ("done", asked)
    else:
        assert (type(told.error), told.error.retry_after, told.elapsed) == (hpp.RateLimitError, asked, 0.0)
        assert told.quota.tokens == 500 - 14 * earlier


async def test_the_hint_of_an_answer_that_is_not_repeated_is_only_told():
    with virtual_time():
        told = await story(unavailable(2.0), "done", settings=settings())
    assert (told.error.retry_after, told.elapsed, len(told.began)) == (2.0, 0.0, 1)


@pytest.mark.parametrize(("asked", "again"), [(9.9, True), (10.0, True), (10.1, False)])
async def test_no_attempt_begins_after_the_budget(asked, again):
    with virtual_time():
        told = await story(throttled(asked), "done", settings=settings(budget=10.0))
    assert told.value == ("done" if again else None)
    assert told.elapsed == pytest.approx(asked if again else 0.0)
    assert told.quota.tokens == (500 - 5 + 1 if again else 500)


@pytest.mark.parametrize(("lasting", "attempts"), [(3.0, 4), (5.0, 3), (6.0, 2), (10.0, 2), (10.1, 1), (99.0, 1)])
async def test_the_budget_counts_attempts_and_waits_and_cuts_none(lasting, attempts):
    with virtual_time():
        told = await story(*[connect()] * 4, settings=settings(budget=10.0), lasting=lasting)
    assert len(told.began) == attempts
    assert told.elapsed == pytest.approx(attempts * lasting)


async def test_an_attempt_that_began_within_the_budget_may_take_its_time():
    async def slow():
        await asyncio.sleep(1000)
        return "done"

    with virtual_time():
        told = await story(connect(), slow, settings=settings(budget=10.0))
    assert (told.value, told.elapsed) == ("done", 1000.0)


async def test_the_budget_counts_from_the_first_turn():
    with virtual_time():
        told = await story(throttled(8.0), throttled(2.0), "done", settings=settings(budget=10.0), turn=500.0)
    assert (told.value, told.began) == ("done", [500.0, 508.0, 510.0])


async def test_without_a_turn_the_budget_counts_from_the_failure():
    with virtual_time():
        value = (await story("done", failed=throttled(8.0), settings=settings(budget=10.0))).value
    assert value == "done"


@pytest.mark.parametrize(("deadline", "again"), [(4.9, False), (5.0, False), (5.1, True), (None, True), (-1.0, False)])
async def test_no_wait_leads_past_the_deadline(deadline, again):
    error = throttled(5.0)
    with virtual_time():
        told = await story(error, "done", settings=settings(), deadline=deadline)
    # The error that asked for the wait is the one that is raised, at once.
    assert told.error is (None if again else error)
    assert told.elapsed == (5.0 if again else 0.0)
    assert told.quota.tokens == (496 if again else 500)


async def test_the_deadline_is_looked_at_before_each_wait():
    with virtual_time():
        told = await story(throttled(4.0), throttled(4.0), throttled(4.0), settings=settings(), deadline=10.0)
    assert (told.began, told.elapsed, told.error.attempts) == ([0.0, 4.0, 8.0], 8.0, 3)


async def test_the_deadline_cuts_no_attempt_here():
    # That is the transport's to do: it alone knows whether something was sent.
    with virtual_time():
        told = await story("done", settings=settings(), deadline=1.0, lasting=50.0)
    assert (told.value, told.elapsed) == ("done", 50.0)


# The quota


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        (["done"], 500),
        ([connect(), "done"], 500 - 14 + 1),
        ([throttled(), "done"], 500 - 5 + 1),
        ([lost(), "done"], 500 - 14 + 1),
        ([unavailable(), "done"], 500 - 14 + 1),
        ([connect(), throttled(), connect(), "done"], 500 - 14 - 5 - 14 + 1),
        ([connect()] * 4, 500 - 3 * 14),
        ([throttled()] * 4, 500 - 3 * 5),
        ([throttled(), hpp.BadRequestError("x", status=400)], 500 - 5),
        ([hpp.BadRequestError("x", status=400)], 500),
        ([hpp.CertificateError("x")], 500),
    ],
)
async def test_what_a_call_costs(steps, left):
    with virtual_time():
        told = await story(*steps, settings=settings(on_unknown="resend"))
    assert told.quota.tokens == left


def quota_of(tokens: int) -> retry.RetryQuota:
    quota = retry.RetryQuota()
    quota.tokens = tokens
    return quota


@pytest.mark.parametrize(
    ("make", "tokens", "paid"),
    [(connect, 14, True), (connect, 13, False), (connect, 0, False), (lost, 14, True), (lost, 13, False),
     (throttled, 5, True), (throttled, 4, False), (throttled, 13, True)],
)  # fmt: skip
async def test_an_attempt_that_cannot_be_paid_is_not_made(make, tokens, paid):
    error, quota = make(), quota_of(tokens)
    with virtual_time():
        told = await story(error, "done", settings=settings(on_unknown="resend"), quota=quota)
    cost = 5 if make is throttled else 14
    assert told.error is (None if paid else error)
    assert quota.tokens == (tokens - cost + 1 if paid else tokens)


def test_the_quota_answers_yes_or_no():
    quota = quota_of(14 + 5)
    asked = [quota.acquire(connect()), quota.acquire(connect()), quota.acquire(throttled()), quota.acquire(throttled())]
    assert (asked, quota.tokens) == ([True, False, True, False], 0)


async def test_the_quota_comes_back_one_by_one_and_is_full_at_500():
    quota = quota_of(497)
    left = []
    for _ in range(5):
        await story("done", quota=quota)
        left.append(quota.tokens)
    assert left == [498, 499, 500, 500, 500]


async def test_an_outage_does_not_multiply_the_requests():
    quota, requests = retry.RetryQuota(), 0
    with virtual_time():
        for _ in range(2000):
            requests += len((await story(*[connect()] * 4, quota=quota)).began)
    # 35 further attempts at 14 tokens each are all that 500 tokens buy; at most 1.05 requests for each call are allowed.
    assert (requests, quota.tokens) == (2000 + 35, 10)


async def test_after_an_outage_retrying_comes_back():
    quota = quota_of(0)
    for _ in range(14):
        assert (await story(connect(), "done", quota=quota)).value is None
        await story("done", quota=quota)
    assert quota.tokens == 14
    assert (await story(connect(), "done", quota=quota)).value == "done"


# Cancellation


async def stand_still():
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("steps", "earlier", "attempts"),
    [
        ([stand_still], None, 0),
        ([connect(), stand_still], Delivery.NOT_SENT, 1),
        ([lost(), connect(), stand_still], Delivery.UNKNOWN, 2),
        # In the wait: the attempt before it is over and counted.
        ([throttled(5.0)], Delivery.REJECTED, 1),
        ([unavailable(5.0)], Delivery.UNKNOWN, 1),
        ([connect(), throttled(5.0)], Delivery.REJECTED, 2),
    ],
)
async def test_cancellation_passes_through_untouched(steps, earlier, attempts):
    told = Story(steps=[*steps, "done"], settings=settings(on_unknown="resend"))
    with virtual_time():
        task = asyncio.create_task(told.run())
        await asyncio.sleep(1)
        task.cancel("by the caller")
        with pytest.raises(asyncio.CancelledError, match="by the caller") as caught:
            await task
    assert type(caught.value) is asyncio.CancelledError
    assert (caught.value.__cause__, task.cancelling()) == (None, 1)
    assert (told.state.earlier_delivery, told.state.attempts) == (earlier, attempts)
    assert len(told.began) == len([step for step in steps if step is stand_still]) + attempts


@pytest.mark.parametrize("steps", [[stand_still], [connect(), stand_still], [throttled(5.0)]])
async def test_a_timeout_around_a_call_stays_a_timeout(steps):
    task = asyncio.current_task()
    assert task is not None
    with virtual_time(), pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await story(*steps)
    assert task.cancelling() == 0
