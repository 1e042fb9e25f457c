"""Cancellation passes through untouched, whenever it comes, and leaves nothing behind."""

import asyncio

import pytest

import kustom_hpp as hpp
from kustom_hpp import Delivery
from tests.faults import storm
from tests.faults.play import order
from tests.support.faults import find_fault
from tests.support.ports import open_port


@pytest.mark.parametrize("borrowed", [False, True], ids=["owned", "borrowed"])
async def test_a_storm_of_cancellations(borrowed):
    aftermath = await storm.storm(300, seed=7, borrowed=borrowed)
    assert aftermath.broken == []
    # All kinds of moments were met, or the storm has shown nothing.
    assert min(aftermath.before, aftermath.after, aftermath.made) > 10


async def test_the_storm_notices_a_mark_that_is_never_set(monkeypatch):
    real = hpp.HTTPSessionManager.send

    async def send(self, request, marker):
        return await real(self, request, type(marker)())

    monkeypatch.setattr(hpp.HTTPSessionManager, "send", send)
    aftermath = await storm.storm(100, seed=7, borrowed=False)
    assert any("and the server made 1 session(s)" in sentence for sentence in aftermath.broken)


def test_the_storm_notices_a_cancellation_that_is_swallowed():
    async def main() -> list[str]:
        task = asyncio.ensure_future(asyncio.sleep(0))
        await task
        call = storm.Call(url="x", task=task, given_up=True, events=[])  # type: ignore[arg-type]
        return list(storm._judge(call, 0, storm.Aftermath(calls=1)))

    assert "swallowed" in asyncio.run(main())[0]


MOMENTS = {
    # while it waits: the fault, what the hooks must be told, how many sessions there are
    "for an answer": ("hang", Delivery.UNKNOWN, 1),
    "for the rest of an answer": ("headers_then_hang", Delivery.UNKNOWN, 1),
    "for the next attempt": ("retry_after_seconds~seconds=5", Delivery.REJECTED, 0),
    "for the quota": ("ratelimit~seconds=5", Delivery.REJECTED, 0),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("lend", [None, {}], ids=["owned", "borrowed"])
async def test_given_up_while_it_waits(sandbox, make_client, lend, moment):
    fault, delivery, sessions = moment
    sandbox.fault(find_fault(fault))
    events, waiting = [], asyncio.Event()

    def hook(event):
        events.append(event)
        if isinstance(event, hpp.Retrying):
            waiting.set()

    client = await make_client(lend, hooks=[hook])
    task = asyncio.ensure_future(client.create_session(order(client, "given-up")))
    if delivery is Delivery.REJECTED:
        await waiting.wait()
    else:
        await sandbox.record.wait_for(lambda record: record.created)
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await sandbox.wait_until_idle()
    assert isinstance(events[-1], hpp.Finished)
    assert (events[-1].cancelled, events[-1].delivery, events[-1].attempts) == (True, delivery, 1)
    assert sandbox.record.counts.created == sessions
    assert sandbox.record.counts.posts == 1


@pytest.mark.parametrize("lend", [None, {}], ids=["owned", "borrowed"])
async def test_given_up_before_anything_was_sent(sandbox, make_client, lend):
    events = []
    async with open_port(sandbox, "connect_hang") as port:
        client = await make_client(lend, base_url=port.base_url, hooks=[events.append], pool=hpp.Pool(connections=1))
        connecting = asyncio.ensure_future(client.create_session(order(client, "connecting")))
        queued = asyncio.ensure_future(client.create_session(order(client, "queued")))
        await asyncio.wait([connecting, queued], timeout=0.1)
        for task in (queued, connecting):
            assert task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    finished = [event for event in events if isinstance(event, hpp.Finished)]
    assert [(event.cancelled, event.delivery) for event in finished] == [(True, Delivery.NOT_SENT)] * 2


async def test_a_callers_own_timeout_stays_the_callers(sandbox, make_client):
    sandbox.fault("hang")
    client = await make_client()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.create_session(order(client, "theirs"))


@pytest.mark.parametrize("lend", [None, {}], ids=["owned", "borrowed"])
async def test_a_cancellation_at_about_the_moment_of_our_own_timeout_is_not_swallowed(sandbox, make_client, lend):
    # Both clocks ring within a few milliseconds, in either order: where the caller's was heard at all, it wins.
    sandbox.fault("hang")
    client = await make_client(lend, timeouts=hpp.Timeouts(connect=10.0, read=0.05))
    for number in range(20):
        task = asyncio.ensure_future(client.create_session(order(client, f"both-{number}")))
        await asyncio.wait([task], timeout=0.045 + number / 2000)
        given_up = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == given_up
        if not given_up:
            assert isinstance(task.exception(), hpp.LostResponseError)
