"""The session manager's life: opening, the gate, closing, its loop and process, and its clocks."""

import asyncio
import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import kustom_hpp as hpp
from kustom_hpp._messages import Delivery, SendMarker
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.threaded import ThreadedSandbox
from kustom_hpp.transport import MAX_RESPONSE_BODY, HTTPSessionManager
from kustom_hpp.transport import session_manager as session_room
from tests.support.faults import find_fault
from tests.support.ports import open_port
from tests.transport.support import ORDER, opened, request_to, send, session_id


async def in_flight(sandbox: Sandbox, number: int = 1) -> None:
    await sandbox.record.wait_for(lambda record: len(record.posts) == number)


def one_place(**options) -> HTTPSessionManager:
    return HTTPSessionManager(pool=hpp.Pool(connections=1), **options)


async def test_an_attempt():
    async with Sandbox() as sandbox, opened() as manager:
        mark = SendMarker()
        answer = await send(manager, request_to(sandbox), mark)
        assert (answer.status, answer.body_error, answer.timed_out) == (201, None, False)
        assert [made.session_id for made in sandbox.record.created] == [session_id(answer)]
        assert mark.sent


@pytest.mark.parametrize(("allowed", "received"), [([False], []), ([True, False], [b""])], ids=["early", "late"])
async def test_what_may_not_be_sent_is_not(allowed, received):
    asked = []

    def may_send() -> bool:
        asked.append(mark.sent)
        return allowed.pop(0) if allowed else True

    async with Sandbox() as sandbox, opened() as manager:
        request = request_to(sandbox, may_send=may_send)
        mark = SendMarker()
        with pytest.raises(hpp.LeaseLostError) as caught:
            await send(manager, request, mark)
        assert caught.value.delivery is mark.delivery is Delivery.NOT_SENT
        # The server has not received one byte of it, and the same request may go when it is allowed.
        assert [bytes(connection.received) for connection in sandbox.record.connections] == received
        answer = await send(manager, request, mark)
        assert [made.session_id for made in sandbox.record.created] == [session_id(answer)]
        assert (set(asked), mark.sent) == ({False}, True)


async def test_connections_are_used_again():
    async with Sandbox() as sandbox, opened() as manager:
        for order in range(5):
            await send(manager, request_to(sandbox, order))
        assert sandbox.record.counts.connections == 1


# Opening


def test_nothing_is_opened_before_the_first_request():
    manager = HTTPSessionManager(pool=hpp.Pool())  # no loop is needed either
    assert manager._session is None
    asyncio.run(manager.aclose())


async def test_the_first_request_opens_one_session_for_all():
    async with Sandbox() as sandbox, opened() as manager:
        await asyncio.gather(*(send(manager, request_to(sandbox, order)) for order in range(10)))
        session = manager._session
        await send(manager, request_to(sandbox))
        assert manager._session is session


# The gate


async def test_the_wait_for_a_place_counts_into_no_timeout():
    async with Sandbox(faults=["slow_head~seconds=0.2"]) as sandbox, opened(pool=hpp.Pool(connections=2)) as manager:
        # Three rounds of 0.2 s each: the last two wait for longer than both timeouts.
        requests = [request_to(sandbox, order, connect_timeout=0.35, read_timeout=0.35) for order in range(6)]
        answers = await asyncio.gather(*(send(manager, request) for request in requests))
        assert [answer.status for answer in answers] == [201] * 6
        assert sandbox.record.counts.connections == 2


async def test_who_comes_first_goes_first():
    async with Sandbox() as sandbox, opened(pool=hpp.Pool(connections=1)) as manager:
        await asyncio.gather(*(send(manager, request_to(sandbox, order)) for order in range(8)))
        assert [post.payment_session_url for post in sandbox.record.posts] == [f"{ORDER}{order}" for order in range(8)]


async def test_the_deadline_ends_the_wait_at_the_gate():
    async with Sandbox(faults=["hang"]) as sandbox, opened(pool=hpp.Pool(connections=1)) as manager:
        holder = asyncio.create_task(send(manager, request_to(sandbox)))
        await in_flight(sandbox)
        mark = SendMarker()
        with pytest.raises(hpp.DeadlineExceededError, match="all 1 connections were busy: nothing was sent") as caught:
            await send(manager, request_to(sandbox, 2, deadline=0.02), mark)
        assert (caught.value.delivery, mark.sent, caught.value.__context__) == (Delivery.NOT_SENT, False, None)
        holder.cancel()
        await asyncio.wait([holder])
        sandbox.faults.clear()
        # The place that nobody took is not lost.
        assert (await send(manager, request_to(sandbox, 3))).status == 201
        assert [post.payment_session_url for post in sandbox.record.posts] == [f"{ORDER}1", f"{ORDER}3"]


# Closing


async def test_closing_twice_and_closing_what_was_never_used():
    async with Sandbox() as sandbox:
        manager = HTTPSessionManager(pool=hpp.Pool())
        await send(manager, request_to(sandbox))
        session = manager._session
        await manager.aclose()
        await manager.aclose()
        assert session.closed
        await sandbox.wait_until_idle()
        assert sandbox.record.connections[0].closed_at is not None


async def test_a_closed_one_stays_closed():
    async with Sandbox() as sandbox:
        manager = HTTPSessionManager(pool=hpp.Pool())
        await manager.aclose()
        for _ in range(2):
            with pytest.raises(hpp.ClientClosedError, match="Create a new one") as caught:
                await send(manager, request_to(sandbox))
            assert (caught.value.delivery, manager._session) == (None, None)
        assert sandbox.record.counts.connections == 0


@pytest.mark.parametrize("closers", [1, 2, 3])
async def test_closing_waits_for_attempts_in_flight(closers):
    async with Sandbox(faults=["slow_head~seconds=0.1"]) as sandbox:
        manager = HTTPSessionManager(pool=hpp.Pool(connections=5))
        flights = [asyncio.create_task(send(manager, request_to(sandbox, order))) for order in range(3)]
        await in_flight(sandbox, 3)
        closing = [asyncio.create_task(manager.aclose()) for _ in range(closers)]
        await asyncio.sleep(0)
        with pytest.raises(hpp.ClientClosedError):
            await send(manager, request_to(sandbox))
        # Not asyncio.gather alone: two that close at once once waited for each other without end.
        async with asyncio.timeout(5):
            await asyncio.gather(*closing)
        assert [flight.result().status for flight in flights] == [201] * 3


async def test_closing_sends_away_who_waits_at_the_gate():
    async with Sandbox(faults=["slow_head~seconds=0.1"]) as sandbox:
        manager = one_place()
        flight = asyncio.create_task(send(manager, request_to(sandbox)))
        await in_flight(sandbox)
        waiting = [asyncio.create_task(send(manager, request_to(sandbox, order))) for order in range(2, 5)]
        await asyncio.sleep(0)
        await manager.aclose()
        assert (await flight).status == 201
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [hpp.ClientClosedError] * 3
        assert sandbox.record.counts.posts == 1


async def test_a_cancelled_closing_closes_all_the_same():
    async with Sandbox(faults=["hang"]) as sandbox:
        manager = one_place()
        mark = SendMarker()
        flight = asyncio.create_task(send(manager, request_to(sandbox), mark))
        await in_flight(sandbox)
        waiting = asyncio.create_task(send(manager, request_to(sandbox, 2)))
        session = manager._session
        closing = asyncio.create_task(manager.aclose())
        await asyncio.sleep(0)
        closing.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await closing
        assert session.closed
        # Whoever was cut off hears that it may have been processed, and it was.
        with pytest.raises(hpp.LostResponseError):
            await flight
        with pytest.raises(hpp.ClientClosedError):
            await waiting
        assert (mark.sent, sandbox.record.counts.created) == (True, 1)
        await manager.aclose()


# Loops and processes


async def refused(manager: HTTPSessionManager, sandbox: Sandbox) -> None:
    """A request that ends soon, wherever it is made."""
    async with open_port(sandbox, "refuse") as port:
        with pytest.raises(hpp.ConnectError):
            await send(manager, request_to(sandbox, base_url=port.base_url))


def test_another_loop_is_told_so():
    manager, sandbox = HTTPSessionManager(pool=hpp.Pool()), Sandbox()
    with asyncio.Runner() as first:
        first.run(refused(manager, sandbox))
        with asyncio.Runner() as second:
            for action in (lambda: send(manager, request_to(sandbox, base_url="http://127.0.0.1:1")), manager.aclose):
                with pytest.raises(hpp.WrongLoopError, match="one client for each loop") as caught:
                    second.run(call(action))
                assert caught.value.delivery is None
        session = manager._session
        assert not session.closed
        first.run(manager.aclose())
        assert session.closed


async def call(action):
    # The arguments are made inside of the loop too.
    return await action()


def test_a_loop_that_is_gone_keeps_nobody_from_closing():
    manager, sandbox = HTTPSessionManager(pool=hpp.Pool()), Sandbox()
    with asyncio.Runner() as first:
        first.run(refused(manager, sandbox))
        session = manager._session
        # What aiohttp holds of the loop ends with it.
        first.run(session.close())
    with pytest.raises(hpp.WrongLoopError):
        asyncio.run(call(lambda: send(manager, request_to(sandbox, base_url="http://127.0.0.1:1"))))
    asyncio.run(manager.aclose())
    assert manager._session is None


async def test_a_forked_process_is_told_so(monkeypatch):
    async with Sandbox() as sandbox, opened() as manager:
        await send(manager, request_to(sandbox))
        session, parent = manager._session, os.getpid()
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: parent + 1)
            with pytest.raises(hpp.WrongLoopError, match="after the fork") as caught:
                await send(manager, request_to(sandbox))
            assert caught.value.delivery is None
            # In the child: forget, but close nothing that is the parent's.
            copy = HTTPSessionManager(pool=hpp.Pool())
            copy._session, copy._loop, copy._pid = session, manager._loop, parent
            await copy.aclose()
        assert not session.closed
        assert (await send(manager, request_to(sandbox))).status == 201


# The clocks


@pytest.mark.parametrize(
    ("fault", "clocks", "cause"),
    [
        ("hang", {"read_timeout": 0.05}, "read timeout while waiting for the response"),
        ("hang", {"deadline": 0.05}, "deadline while waiting for the response"),
        ("hang", {"read_timeout": 0.05, "deadline": 3.0}, "read timeout while waiting for the response"),
        ("drip_head", {"read_timeout": 0.25}, "read timeout while waiting for the response"),
        ("server_not_reading", {"read_timeout": 0.1}, "read timeout while waiting for the response"),
    ],
)
async def test_time_runs_out_before_an_answer(fault, clocks, cause):
    async with Sandbox(faults=[find_fault(fault)]) as sandbox, opened() as manager:
        mark = SendMarker()
        # A body that a server which does not read keeps us from sending.
        more = {"body": b"x" * 900_000} if fault == "server_not_reading" else {}
        with pytest.raises(hpp.LostResponseError) as caught:
            await send(manager, request_to(sandbox, **clocks, **more), mark)
        assert (caught.value.timed_out, caught.value.cause, mark.sent) == (True, cause, True)


@pytest.mark.parametrize(
    ("clocks", "cause"),
    [
        ({"connect_timeout": 0.05}, "connect timeout while connecting"),
        ({"deadline": 0.05}, "deadline while connecting"),
        ({"connect_timeout": 0.05, "deadline": 3.0}, "connect timeout while connecting"),
    ],
)
async def test_time_runs_out_before_a_connection(clocks, cause):
    async with Sandbox() as sandbox, open_port(sandbox, "tls_hang") as port, opened() as manager:
        mark = SendMarker()
        with pytest.raises(hpp.ConnectError) as caught:
            await send(manager, request_to(sandbox, base_url=port.base_url, **clocks), mark)
        assert (caught.value.timed_out, caught.value.cause, mark.sent) == (True, cause, False)


@pytest.mark.parametrize("fault", ["half_body_hang", "headers_then_hang", "drip_body"])
async def test_time_runs_out_within_an_answer(fault):
    async with Sandbox(faults=[find_fault(fault)]) as sandbox, opened() as manager:
        answer = await send(manager, request_to(sandbox, read_timeout=0.25))
        assert (answer.status, answer.body_error, answer.timed_out) == (201, "a timeout ended the read", True)


async def test_the_answers_time_begins_when_the_request_has_left():
    async with Sandbox(faults=["slow_head~seconds=0.15"]) as sandbox, opened() as manager:
        # Not with the connection: that clock has run out long before the answer.
        assert (await send(manager, request_to(sandbox, connect_timeout=0.1, read_timeout=2.0))).status == 201


async def test_a_timeout_of_ours_is_no_cancellation_of_the_callers():
    async with Sandbox(faults=["hang"]) as sandbox, opened() as manager:
        with pytest.raises(hpp.LostResponseError):
            await send(manager, request_to(sandbox, read_timeout=0.02))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)


async def test_a_cancellation_of_the_callers_closes_the_connection():
    async with Sandbox(faults=["hang"]) as sandbox, opened() as manager:
        mark = SendMarker()
        task = asyncio.create_task(send(manager, request_to(sandbox), mark))
        await in_flight(sandbox)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert mark.delivery is Delivery.UNKNOWN
        await sandbox.wait_until_idle()
        assert sandbox.record.connections[0].closed_at is not None
        sandbox.faults.clear()
        assert (await send(manager, request_to(sandbox, 2))).status == 201
        assert sandbox.record.counts.connections == 2


# What comes back


@pytest.mark.parametrize("fault", ["big_body~mib=2", "gzip_bomb~mib=64", "deflate_bomb~mib=64", "error_huge~mib=2",
                                   "error_bomb~mib=64"])  # fmt: skip
async def test_no_more_than_the_cap_is_read(fault):
    async with Sandbox(faults=[find_fault(fault)]) as sandbox, opened() as manager:
        answer = await send(manager, request_to(sandbox))
        assert (len(answer.body), answer.body_error) == (MAX_RESPONSE_BODY, "longer than 1,048,576 bytes")
        assert (answer.timed_out, answer.body_too_long) == (False, True)
        sandbox.faults.clear()
        # The connection with the rest on it is not used again.
        assert (await send(manager, request_to(sandbox, 2))).status == 201
        assert sandbox.record.counts.connections == 2


@pytest.mark.parametrize(("less", "whole"), [(0, True), (1, False)])
async def test_an_answer_as_long_as_the_cap_is_whole(monkeypatch, less, whole):
    async with Sandbox() as sandbox, opened() as manager:
        length = len((await send(manager, request_to(sandbox, 1))).body)
        monkeypatch.setattr(session_room, "MAX_RESPONSE_BODY", length - less)
        answer = await send(manager, request_to(sandbox, 2))
        assert (len(answer.body), answer.body_error is None) == (length - less, whole)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["", "_same"])
async def test_no_redirect_is_followed(status, where):
    async with Sandbox(faults=[find_fault(f"redirect_{status}{where}")]) as sandbox, opened() as manager:
        assert (await send(manager, request_to(sandbox))).status == status
        assert (sandbox.record.counts.posts, sandbox.record.counts.sink) == (1, 0)


# Threads


def create_in_a_loop_of_its_own(client: hpp.HPPClient, started: threading.Barrier, calls: int) -> list[object]:
    async def create() -> list[object]:
        request = hpp.CreateSessionRequest(payment_session_url=ORDER)
        started.wait()
        calls_ = (client.create_session(request) for _ in range(calls))
        outcomes: list[object] = await asyncio.gather(*calls_, return_exceptions=True)
        if isinstance(outcomes[0], hpp.Session):
            await client.aclose()
        return outcomes

    return asyncio.run(create())


@pytest.mark.parametrize("at_once", [False, True], ids=["by chance", "at the same moment"])
def test_of_two_threads_with_one_client_only_one_sends(monkeypatch, at_once):
    together = threading.Barrier(2)

    def both_look() -> int:  # as the threads are about to bind the client, each waits for the other
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.2)
        return os.getppid()

    if at_once:
        monkeypatch.setattr(session_room, "os", SimpleNamespace(getpid=both_look))
    with ThreadedSandbox() as sandbox, ThreadPoolExecutor(2) as pool:
        client = hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url)
        started = threading.Barrier(2)
        results = [pool.submit(create_in_a_loop_of_its_own, client, started, 5) for _ in range(2)]
        outcomes = [[type(outcome) for outcome in result.result(20)] for result in results]
        assert sorted(outcomes, key=lambda kinds: kinds[0].__name__) == [[hpp.Session] * 5, [hpp.WrongLoopError] * 5]
        assert sandbox.record.counts.posts == 5
