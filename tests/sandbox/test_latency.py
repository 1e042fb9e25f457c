"""Answers that are kept back: how long, and what is true meanwhile. No upper bound is measured anywhere."""

import asyncio
import math
import time

import pytest

from kustom_hpp.sandbox import Latency, Sandbox
from tests.sandbox.support import PATH, Wire, ask, exchange, order, request

LOW = 0.15


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0.5, Latency(0.5)), (0, Latency(0.0)), ((0.1, 0.5), Latency(0.1, 0.5)), (Latency(1, 2, 3), Latency(1, 2, 3))],
)
def test_how_it_is_told(given: object, expected: Latency) -> None:
    sandbox = Sandbox(latency=given)
    assert sandbox.latency == expected
    sandbox.latency = None
    assert sandbox.latency is None
    sandbox.latency = given
    assert sandbox.latency == expected


@pytest.mark.parametrize("given", [-0.1, math.inf, math.nan, (0.5, 0.1), (0, math.inf), (0, math.nan), (-1, 1)])
def test_what_it_cannot_be(given: object) -> None:
    with pytest.raises(ValueError, match=r"low|lower|high"):
        Sandbox(latency=given)


def test_each_request_has_its_own_the_same_in_every_run() -> None:
    drawn = [Latency(0.1, 0.5).delay_for(number) for number in range(1, 101)]
    assert drawn == [Latency(0.1, 0.5).delay_for(number) for number in range(1, 101)]
    assert len(set(drawn)) == 100
    assert min(drawn) >= 0.1
    assert max(drawn) <= 0.5
    assert drawn != [Latency(0.1, 0.5, seed=1).delay_for(number) for number in range(1, 101)]
    assert {Latency(0.1).delay_for(number) for number in range(5)} == {0.1}


@pytest.mark.parametrize("what", ["created", "refused", "no route", "a fault that answers", "a read"])
async def test_every_answer_of_the_api_is_kept_back(what: str) -> None:
    async with Sandbox(latency=LOW) as sandbox:
        if what == "a fault that answers":
            sandbox.fault("status_503")
        data = {
            "refused": request(sandbox, body=b"{}"),
            "no route": request(sandbox).replace(PATH.encode(), b"/elsewhere"),
            "a read": b"GET %b/none HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %b\r\n\r\n"
            % (PATH.encode(), sandbox.api_key.encode()),
        }.get(what, request(sandbox))
        began = time.monotonic()
        reply = await ask(sandbox, data)
        assert time.monotonic() - began >= LOW
        expected = {"created": 201, "refused": 400, "no route": 404, "a fault that answers": 503, "a read": 404}
        assert reply.status == expected[what]


async def test_the_work_is_done_before_and_stays_done() -> None:
    async with Sandbox(latency=60) as sandbox:
        async with await Wire.open(sandbox.base_url) as wire:
            wire.writer.write(request(sandbox))
            await sandbox.record.wait_for(lambda record: record.created)
            [post] = sandbox.record.posts
            assert (post.processed, post.status, post.done) == (True, None, False)
        # The client went: nobody waits for the minute.
        await sandbox.wait_until_idle()
        assert (post.status, post.done) == (None, True)
        assert sandbox.record.counts.created == 1


async def test_it_holds_up_neither_the_others_nor_the_end() -> None:
    async with Sandbox(latency=60) as sandbox:
        tasks = [asyncio.create_task(exchange(sandbox, request(sandbox, order(number)), 30)) for number in range(5)]
        await sandbox.record.wait_for(lambda record: record.counts.created == 5)
        sandbox.latency = None
        assert (await ask(sandbox)).status == 201
    assert [reply.data for reply in await asyncio.gather(*tasks)] == [b""] * 5


async def test_pages_come_at_once_and_the_sink_too() -> None:
    async with Sandbox(latency=60) as sandbox:
        page = await ask(sandbox, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert page.status == 200
        async with await Wire.open(await sandbox.redirect_target()) as wire:
            wire.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await wire.answer()).status == 418
