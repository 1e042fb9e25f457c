"""The sandbox's quota: what passes, what is refused, and what each answer tells of it."""

import asyncio
import json

import attrs
import pytest

from kustom_hpp.sandbox import MerchantRateLimit, Sandbox, TokenBucket
from tests.quota import most_in_a_second
from tests.sandbox.support import Wire, ask, order, request
from tests.support.virtual import virtual_time

LIMIT, REMAINING, RESET = "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"


async def other_client_rate(bucket: TokenBucket, tries: int) -> int:
    return sum(bucket.take() for _ in range(tries))


# ------------------------------------------------------------------------------------------------- the bucket, exactly


async def test_a_full_bucket_gives_its_burst_and_then_the_rate():
    with virtual_time():
        bucket = TokenBucket(MerchantRateLimit(40))
        assert await other_client_rate(bucket, 100) == 40
        for seconds, expected in ((0.024, 0), (0.002, 1), (0.5, 20), (1.0, 40), (3600, 40)):
            await asyncio.sleep(seconds)
            assert await other_client_rate(bucket, 100) == expected


@pytest.mark.parametrize(
    ("quota", "size"),
    [
        (MerchantRateLimit(), 40),
        (MerchantRateLimit(40, 7), 7),
        (MerchantRateLimit(2.9), 2),
        (MerchantRateLimit(0.5), 1),
        (MerchantRateLimit(5, 200), 200),
    ],
)
async def test_the_burst(quota, size):
    with virtual_time():
        assert quota.size == size
        assert await other_client_rate(TokenBucket(quota), 1000) == size


@pytest.mark.parametrize(("others", "expected"), [(0, 40), (10, 30), (20, 20), (40, 0), (100, 0)])
async def test_another_client_takes_part_of_it(others, expected):
    with virtual_time():
        bucket = TokenBucket(MerchantRateLimit(40))
        await other_client_rate(bucket, 40)
        bucket.other_client_rate = others
        await asyncio.sleep(1)
        assert (bucket.other_client_rate, await other_client_rate(bucket, 100)) == (others, expected)
        bucket.other_client_rate = 0
        await asyncio.sleep(1)
        assert await other_client_rate(bucket, 100) == 40


async def test_what_others_take_counts_from_that_moment_on():
    with virtual_time():
        bucket = TokenBucket(MerchantRateLimit(40))
        await other_client_rate(bucket, 40)
        await asyncio.sleep(0.5)
        bucket.other_client_rate = 40
        await asyncio.sleep(5)
        assert await other_client_rate(bucket, 100) == 20


@pytest.mark.parametrize(
    ("quota", "limit"),
    [
        (MerchantRateLimit(40), "40, 40;w=1"),
        (MerchantRateLimit(5), "5, 5;w=1"),
        (MerchantRateLimit(1), "1, 1;w=1"),
        (MerchantRateLimit(0.5), "1, 1;w=2"),
        (MerchantRateLimit(0.3), "1, 1;w=4"),
        (MerchantRateLimit(40, 10), "40, 40;w=1"),
    ],
)
async def test_the_headers_tell_the_limit(quota, limit):
    with virtual_time():
        assert dict(TokenBucket(quota).headers(201))[LIMIT] == limit


async def test_the_headers_tell_what_is_left():
    with virtual_time():
        bucket = TokenBucket(MerchantRateLimit(5, 10))
        for used, remaining, reset in ((0, "10", "0"), (1, "9", "1"), (5, "4", "2"), (4, "0", "2"), (9, "0", "2")):
            await other_client_rate(bucket, used)
            assert bucket.headers(201) == ((LIMIT, "5, 5;w=1"), (REMAINING, remaining), (RESET, reset))
        await asyncio.sleep(1.1)
        assert bucket.headers(429) == ((LIMIT, "5, 5;w=1"), (REMAINING, "5"), (RESET, "1"))


@pytest.mark.parametrize(("rate", "expected"), [(40, "1"), (1, "1"), (0.25, "4")])
async def test_retry_after_stands_on_429s_alone(rate, expected):
    with virtual_time():
        bucket = TokenBucket(MerchantRateLimit(rate, announce="retry_after"))
        await other_client_rate(bucket, 100)
        assert bucket.headers(201) == ()
        assert bucket.headers(429) == (("Retry-After", expected),)


async def test_a_bare_quota_tells_nothing():
    with virtual_time():
        bucket = TokenBucket(MerchantRateLimit(40, announce="bare"))
        assert bucket.headers(201) == bucket.headers(429) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0}, {"rate": -1}, {"rate": float("nan")}, {"rate": float("inf")}, {"rate": 1e-320}, {"rate": 0.000009},
        {"rate": 2e9}, {"burst": 0}, {"burst": 10**400}, {"announce": "all"},
    ],
    ids=lambda wrong: str(wrong)[:20],
)  # fmt: skip
def test_a_quota_that_is_none(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MerchantRateLimit(**wrong)


@pytest.mark.parametrize("announce", ["headers", "retry_after"])
@pytest.mark.parametrize(
    "quota", [MerchantRateLimit(0.00001), MerchantRateLimit(0.00001, 10**9), MerchantRateLimit(1e9)], ids=str
)
async def test_the_ends_of_what_a_quota_may_be_can_be_told(quota, announce):
    with virtual_time():
        bucket = TokenBucket(attrs.evolve(quota, announce=announce))
        assert bucket.take()
        assert all(len(value) < 30 for _, value in bucket.headers(429))


# ------------------------------------------------------------------------------------------------------- over the wire


async def test_without_a_quota_nothing_is_told(sandbox: Sandbox) -> None:
    reply = await ask(sandbox)
    assert sandbox.rate_limit is None
    assert [reply.header(name) for name in (LIMIT, REMAINING, RESET, "Retry-After")] == [None] * 4


@pytest.mark.parametrize(
    ("announce", "told"),
    [
        ("headers", ("1, 1;w=1000", "0", "1000", None)),
        ("retry_after", (None, None, None, "1000")),
        ("bare", (None,) * 4),
    ],
)
async def test_a_429_is_not_processed(announce, told):
    async with Sandbox(rate_limit=MerchantRateLimit(0.001, announce=announce)) as sandbox:
        assert (await ask(sandbox, request(sandbox, order(1)))).status == 201
        reply = await ask(sandbox, request(sandbox, order(2)))
        assert reply.status_line == b"HTTP/1.1 429 Too Many Requests"
        assert json.loads(reply.body)["error_code"] == "TOO_MANY_REQUESTS"
        assert tuple(reply.header(name) for name in (LIMIT, REMAINING, RESET, "Retry-After")) == told
        assert [made.payment_session_url for made in sandbox.record.created] == [order(1)]
        assert [post.status for post in sandbox.record.posts] == [201, 429]


async def test_headers_stand_on_every_answer():
    async with Sandbox(rate_limit=3) as sandbox:
        good, bad, stranger = request(sandbox), request(sandbox, body=b"{}"), request(sandbox, authorization="Basic x")
        replies = [await ask(sandbox, data) for data in (good, bad, stranger)]
        assert [reply.status for reply in replies] == [201, 400, 401]
        assert [reply.header(LIMIT) for reply in replies] == ["3, 3;w=1"] * 3


async def test_a_refusal_takes_nothing():
    async with Sandbox(rate_limit=MerchantRateLimit(0.001, 2)) as sandbox:
        for _ in range(5):
            assert (await ask(sandbox, request(sandbox, body=b"{}"))).status == 400
        assert [(await ask(sandbox)).status for _ in range(3)] == [201, 201, 429]


async def test_a_fault_that_commits_needs_a_token_too():
    async with Sandbox(rate_limit=MerchantRateLimit(0.001)) as sandbox:
        sandbox.fault("status_500~commit=1")
        assert [(await ask(sandbox)).status for _ in range(2)] == [500, 429]
        assert len(sandbox.record.created) == 1


async def test_no_second_sees_more_than_burst_and_rate():
    async with Sandbox(rate_limit=MerchantRateLimit(30, 10, "bare")) as sandbox:
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.5

        async def hammer() -> None:
            async with await Wire.open(sandbox.base_url) as wire:
                while loop.time() < end:
                    wire.writer.write(request(sandbox))
                    await wire.answer()

        await asyncio.gather(*(hammer() for _ in range(4)))
        made = [one.at for one in sandbox.record.created]
        assert most_in_a_second(made) <= 40
        # That no less than that passes is shown above, in virtual time: here a busy machine may stand still for longer than
        # the bucket takes to be full.
        assert len(made) >= 10
        assert 429 in {post.status for post in sandbox.record.posts}
