"""The traps around one request and its answer: T1 to T10, each with the mistake that it is made of, where one can show it."""

import asyncio
import copy
import pickle
import socket
import tracemalloc

import aiohttp
import pytest

import kustom_hpp as hpp
from kustom_hpp import Delivery
from kustom_hpp.sandbox import Sandbox
from tests.faults.judge import leaks
from tests.faults.play import SHORT, order
from tests.support.faults import find_fault
from tests.support.ports import open_port

both_sessions = pytest.mark.parametrize("lend", [None, {}], ids=["owned", "borrowed"])
MIB = 1 << 20


async def by_hand(sandbox: Sandbox, session: aiohttp.ClientSession) -> bytes:
    """What a hand-written client does."""
    headers = {"Authorization": f"Basic {sandbox.api_key}", "Content-Type": "application/json"}
    body = b'{"payment_session_url":"https://x.example/checkout/v3/orders/by-hand"}'
    async with session.post(sandbox.base_url + "/hpp/v1/sessions", data=body, headers=headers) as answer:
        return await answer.read()


@pytest.mark.parametrize("fault", ["garbage", "length_too_short", "chunk_garbage"])
@both_sessions
async def test_t01_a_made_up_status_400_is_not_a_rejection(sandbox, make_client, lend, fault):
    sandbox.fault(find_fault(fault))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientResponseError) as made_up:
            await by_hand(sandbox, session)
    assert made_up.value.status == 400
    client = await make_client(lend)
    with pytest.raises(hpp.LostResponseError) as caught:
        await client.create_session(order(client, "t01"))
    assert caught.value.delivery is Delivery.UNKNOWN
    assert len(sandbox.record.created_for(client.order_url("t01"))) == 1


@both_sessions
async def test_t02_a_timeout_says_in_which_phase_it_came(sandbox, make_client, lend):
    retry = hpp.RetrySettings(max_attempts=1)
    sandbox.fault("hang", payment_session_url=f"{sandbox.base_url}/checkout/v3/orders/silent")
    async with open_port(sandbox, "connect_hang") as port:
        connecting = await make_client(lend, base_url=port.base_url, timeouts=SHORT, retry=retry)
        with pytest.raises(hpp.ConnectError, match="connect timeout") as before:
            await connecting.create_session(order(connecting, "t02"))
    assert (before.value.timed_out, before.value.delivery) == (True, Delivery.NOT_SENT)

    reading = await make_client(lend, timeouts=SHORT, retry=retry)
    with pytest.raises(hpp.LostResponseError, match="read timeout") as after:
        await reading.create_session(order(reading, "silent"))
    assert (after.value.timed_out, after.value.delivery) == (True, Delivery.UNKNOWN)

    narrow = await make_client(lend, pool=hpp.Pool(connections=1))
    async with asyncio.TaskGroup() as calls:
        long = calls.create_task(_ending(narrow, "silent", deadline=0.4))
        await sandbox.record.wait_for(lambda record: len(record.posts) == 2)
        queued = calls.create_task(_ending(narrow, "queued", deadline=0.1))
    assert (type(long.result()), long.result().delivery) == (hpp.LostResponseError, Delivery.UNKNOWN)
    assert "deadline" in str(long.result())
    assert (type(queued.result()), queued.result().delivery) == (hpp.DeadlineExceededError, Delivery.NOT_SENT)
    assert sandbox.record.posts_for(narrow.order_url("queued")) == ()


async def _ending(client: hpp.HPPClient, order_id: str, deadline: float) -> hpp.HPPError:
    with pytest.raises(hpp.HPPError) as caught:
        await client.create_session(order(client, order_id), deadline=deadline)
    return caught.value


@both_sessions
async def test_t03_not_sent_is_told_from_maybe_sent_though_one_class_is_the_others_parent(sandbox, make_client, lend):
    assert issubclass(aiohttp.ClientConnectorError, aiohttp.ClientOSError)
    async with open_port(sandbox, "refuse") as port:
        refused = await make_client(lend, base_url=port.base_url)
        with pytest.raises(hpp.ConnectError, match="ClientConnectorError, errno 111"):
            await refused.create_session(order(refused, "t03"))
    sandbox.fault("reset_after_request")
    client = await make_client(lend)
    with pytest.raises(hpp.LostResponseError, match="ClientOSError, errno 104"):
        await client.create_session(order(client, "t03"))


async def handed_out(sandbox: Sandbox, client: hpp.HPPClient, orders: int) -> list[bool]:
    """For each order whether it got its own session, where a stray answer comes 20 ms after each true one."""
    sandbox.fault(find_fault("double_answer~late=20"))
    right = []
    for number in range(orders):
        session = await client.create_session(order(client, f"t04-{number}"))
        made = sandbox.record.created_for(client.order_url(f"t04-{number}"))
        right.append([session.session_id] == [one.session_id for one in made])
        # Once it is done the stray answer is on the connection, which the pool believes to be idle.
        await sandbox.record.wait_for(lambda record: all(request.done for request in record.requests))
    return right


@both_sessions
async def test_t04_a_stray_answer_on_an_idle_connection_reaches_no_other_order(sandbox, make_client, lend):
    assert await handed_out(sandbox, await make_client(lend), 6) == [True] * 6


async def test_t04_without_the_guard_it_does(sandbox, make_client, caplog):
    client = await make_client({"connector": aiohttp.TCPConnector()})
    assert "guarded_connector" in caplog.text
    assert False in await handed_out(sandbox, client, 6)


def close_idle_connections(sandbox: Sandbox) -> None:
    """As the server's kernel does it: the FIN is on its way before our loop has looked at the connection again."""
    for listener in sandbox._listeners:
        for link in listener._connections:
            link.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


@both_sessions
async def test_t05_a_connection_that_the_server_has_just_closed_is_not_used(sandbox, make_client, lend):
    client = await make_client(lend)
    for number in range(10):
        session = await client.create_session(order(client, f"t05-{number}"))
        assert session.info.attempts == 1
        close_idle_connections(sandbox)
    assert sandbox.record.counts.posts == sandbox.record.counts.created == sandbox.record.counts.connections == 10


async def test_t05_without_the_guard_the_request_is_lost(sandbox, make_client):
    client = await make_client({"connector": aiohttp.TCPConnector()})
    await client.create_session(order(client, "t05"))
    close_idle_connections(sandbox)
    with pytest.raises(hpp.LostResponseError):
        await client.create_session(order(client, "t05-lost"))


async def test_t05_idle_connections_are_let_go_before_servers_close_them():
    usual = 5.0  # Node's; the servers behind the API do not say theirs
    assert hpp.Pool().keepalive < usual
    connector = hpp.guarded_connector()
    assert connector._keepalive_timeout == hpp.Pool().keepalive
    await connector.close()


@both_sessions
async def test_t06_a_server_that_does_not_read_is_waited_for_no_longer_than_for_an_answer(sandbox, make_client, lend):
    sandbox.fault(find_fault("server_not_reading"))
    client = await make_client(lend, timeouts=hpp.Timeouts(connect=10.0, read=0.5))
    began = asyncio.get_running_loop().time()
    with pytest.raises(hpp.LostResponseError) as caught:
        await client.create_session(order(client, "t06", padding=900_000))
    assert caught.value.timed_out
    assert asyncio.get_running_loop().time() - began < 5.0  # the sandbox itself would end it after 10 s


async def peak(sandbox: Sandbox, client: hpp.HPPClient, fault: str) -> tuple[int, hpp.HPPError]:
    """Bytes of memory that one call needs at most, the sandbox's own included."""
    await client.create_session(order(client, "warm"))
    rule = sandbox.fault(find_fault(fault))
    tracemalloc.start()
    try:
        with pytest.raises(hpp.HPPError) as caught:
            await client.create_session(order(client, "t07"))
        return tracemalloc.get_traced_memory()[1], caught.value
    finally:
        tracemalloc.stop()
        sandbox.faults.remove(rule)


@both_sessions
@pytest.mark.parametrize("fault", ["big_body", "gzip_bomb", "deflate_bomb"])
async def test_t07_an_answer_costs_no_more_than_its_cap(sandbox, make_client, lend, fault):
    used, error = await peak(sandbox, await make_client(lend), fault)
    assert used < 8 * MIB
    assert isinstance(error, hpp.DecodeError)
    assert error.session_id == sandbox.record.created[-1].session_id


@both_sessions
@pytest.mark.parametrize("fault", ["error_huge", "error_bomb", "error_bomb~status=400", "error_huge~status=429"])
async def test_t08_neither_does_an_error(sandbox, make_client, lend, fault):
    client = await make_client(lend, retry=hpp.RetrySettings(max_attempts=1))
    used, error = await peak(sandbox, client, fault)
    assert used < 8 * MIB
    assert isinstance(error, hpp.ApiError)
    assert 0 < len(error.body) <= 64 * 1024


async def test_t07_the_measure_sees_a_body_that_is_read_without_a_cap(sandbox):
    sandbox.fault(find_fault("big_body~mib=32"))
    tracemalloc.start()
    try:
        async with aiohttp.ClientSession() as session:
            assert len(await by_hand(sandbox, session)) > 32 * MIB
        assert tracemalloc.get_traced_memory()[1] > 32 * MIB
    finally:
        tracemalloc.stop()


@both_sessions
async def test_t09_the_key_reaches_the_server_and_no_error(sandbox, make_client, lend):
    client = await make_client(lend, retry=hpp.RetrySettings(max_attempts=1))
    for fault in ("garbage", "body_html", "echo_auth", "redirect_307", "status_evil_error", "reset_after_request"):
        rule = sandbox.fault(find_fault(fault))
        with pytest.raises(hpp.HPPError) as caught:
            await client.create_session(order(client, "t09", secret="the-shops-token"))
        assert leaks(caught.value, [sandbox.api_key, "the-shops-token"]) == []
        sandbox.faults.remove(rule)
    assert {post.header("authorization") for post in sandbox.record.posts} == {f"Basic {sandbox.api_key}".encode()}
    assert leaks(ValueError(repr(client), repr(vars(client))), [sandbox.api_key]) == []


@both_sessions
async def test_t10_every_error_travels(sandbox, make_client, lend):
    client = await make_client(lend, retry=hpp.RetrySettings(max_attempts=2, on_unknown="resend", initial=0.01))
    for fault in ("garbage", "half_headers", "body_html", "status_400", "status_429", "status_500", "redirect_301"):
        rule = sandbox.fault(find_fault(fault))
        with pytest.raises(hpp.HPPError) as caught:
            await client.create_session(order(client, "t10"))
        for there in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
            assert type(there) is type(caught.value)
            shown = [{key: repr(value) for key, value in vars(error).items()} for error in (there, caught.value)]
            assert shown[0] == shown[1]
        sandbox.faults.remove(rule)
