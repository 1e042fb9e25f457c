"""No connection is handed out on which the server has already spoken, or which it has closed."""

import asyncio
import errno
from unittest import mock

import aiohttp
import pytest

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.http.connection import Connection
from kustom_hpp.transport import HTTPSessionManager, guarded_connector
from kustom_hpp.transport.connector import PRE_SEND_EXCEPTIONS, GuardedConnector, NoConnectionError
from tests.faults.certificates import serving, trusting
from tests.transport.support import opened, request_to, send, session_id


def idle(manager: HTTPSessionManager) -> list[aiohttp.client_proto.ResponseHandler]:
    assert manager._session is not None
    assert manager._session.connector is not None
    return [protocol for pool in manager._session.connector._conns.values() for protocol, _ in pool]


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def readable(protocol: aiohttp.client_proto.ResponseHandler) -> bool:
    assert protocol.transport is not None
    sock = protocol.transport.get_extra_info("socket")
    try:
        # Peeking leaves the bytes where they are; nothing at all means that the server has closed.
        sock._sock.recv(1, 2)
    except BlockingIOError:
        return False
    return True


async def next_answer_is_its_own(sandbox: Sandbox, manager: HTTPSessionManager, connections: int) -> None:
    answer = await send(manager, request_to(sandbox, "next"))
    assert session_id(answer) == sandbox.record.created[-1].session_id
    assert sandbox.record.counts.connections == connections


def speak(sandbox: Sandbox) -> None:
    """Let the server send an answer that nobody asked for, on every connection."""
    for link in server_side(sandbox):
        link.transport.write(b"HTTP/1.1 201 Created\r\nContent-Length: 22\r\n\r\n" + b'{"session_id":"stray"}')


def hang_up(sandbox: Sandbox) -> None:
    for link in server_side(sandbox):
        link.close()


def server_side(sandbox: Sandbox) -> list[Connection]:
    return [link for listener in sandbox._listeners for link in listener._connections]


async def test_stray_bytes_that_the_loop_has_read():
    async with Sandbox() as sandbox, opened() as manager:
        await send(manager, request_to(sandbox))
        [protocol] = idle(manager)
        speak(sandbox)
        await until(lambda: protocol.should_close)
        await next_answer_is_its_own(sandbox, manager, 2)


@pytest.mark.parametrize("meanwhile", [speak, hang_up])
@pytest.mark.parametrize("number", [1, 3])
async def test_what_is_in_the_socket_and_the_loop_has_not_read(meanwhile, number):
    async with Sandbox() as sandbox, opened() as manager:
        await asyncio.gather(*(send(manager, request_to(sandbox, order)) for order in range(number)))
        protocols = idle(manager)
        assert len(protocols) == number
        for protocol in protocols:
            # As if the loop were busy with something else from now on.
            assert protocol.transport is not None
            protocol.transport.pause_reading()
        meanwhile(sandbox)
        await until(lambda: all(readable(protocol) for protocol in protocols))
        assert [protocol.should_close for protocol in protocols] == [False] * number
        await next_answer_is_its_own(sandbox, manager, number + 1)
        assert [protocol.transport is None or protocol.transport.is_closing() for protocol in protocols] == [
            True
        ] * number


async def test_a_connection_without_a_socket_is_used_once(monkeypatch):
    real = asyncio.BaseTransport.get_extra_info

    def without_socket(self, name, default=None):
        return default if name == "socket" else real(self, name, default)

    monkeypatch.setattr(asyncio.BaseTransport, "get_extra_info", without_socket)
    async with Sandbox() as sandbox, opened() as manager:
        for number in (1, 2):
            assert (await send(manager, request_to(sandbox, number))).status == 201
        assert sandbox.record.counts.connections == 2


@pytest.mark.parametrize("tls", [False, True])
async def test_a_good_connection_is_used_again(tls):
    # Over TLS 1.3 a fresh connection has the server's session tickets in its socket: that is no stray answer.
    options = {"ssl": trusting()} if tls else {}
    async with Sandbox(ssl=serving("good") if tls else None) as sandbox, opened(**options) as manager:
        for order in range(5):
            answer = await send(manager, request_to(sandbox, order))
            assert session_id(answer) == sandbox.record.created[-1].session_id
        assert sandbox.record.counts.connections == 1


async def test_a_fresh_connection_on_which_the_server_spoke_first():
    async with Sandbox() as sandbox, opened() as manager:
        with (
            mock.patch.object(
                aiohttp.client_proto.ResponseHandler, "should_close", new_callable=mock.PropertyMock, return_value=True
            ),
            pytest.raises(hpp.ConnectError, match="the server sent data before the request") as caught,
        ):
            await send(manager, request_to(sandbox))
        assert caught.value.delivery is hpp.Delivery.NOT_SENT
        assert idle(manager) == []
        await sandbox.wait_until_idle()
        assert sandbox.record.counts.requests == 0


async def test_a_resolvers_own_timeout_means_that_nothing_was_sent():
    slow = mock.Mock()
    slow.resolve.side_effect = TimeoutError  # aiohttp lets it through as it is
    async with (
        Sandbox() as sandbox,
        aiohttp.ClientSession(connector=guarded_connector(resolver=slow)) as session,
        opened(http_session=session) as manager,
    ):
        with pytest.raises(hpp.ConnectError, match="TimeoutError while connecting"):
            await send(manager, request_to(sandbox, base_url="http://api.example"))


REFUSED = aiohttp.ClientConnectorError(mock.Mock(), OSError(errno.ECONNREFUSED, "refused"))


@pytest.mark.parametrize("error", [REFUSED, aiohttp.ConnectionTimeoutError("x"), aiohttp.InvalidURL("x"),
                                   aiohttp.ServerFingerprintMismatch(b"", b"", "h", 1)])  # fmt: skip
async def test_what_is_known_to_come_before_sending_stays_itself(error):
    assert isinstance(error, PRE_SEND_EXCEPTIONS)
    assert await raised_while_connecting(error) is error


@pytest.mark.parametrize("error", [aiohttp.ServerDisconnectedError(), aiohttp.ClientConnectionError("closed"),
                                   OSError(104, "reset"), RuntimeError("x"), TimeoutError()])  # fmt: skip
async def test_all_else_that_goes_wrong_while_connecting_comes_before_sending_too(error):
    found = await raised_while_connecting(error)
    assert (type(found), str(found)) == (NoConnectionError, f"{type(error).__name__} while connecting")
    assert found.__cause__ is error
    assert isinstance(found, PRE_SEND_EXCEPTIONS)


async def test_a_cancellation_while_connecting_stays_one():
    error = asyncio.CancelledError("x")
    assert await raised_while_connecting(error) is error


async def raised_while_connecting(error: BaseException) -> BaseException:
    async with guarded_connector() as connector:
        with (
            mock.patch.object(aiohttp.TCPConnector, "connect", side_effect=error),
            pytest.raises(type(error).__mro__[-2]) as caught,
        ):
            await connector.connect(mock.Mock(), [], aiohttp.ClientTimeout())
    return caught.value


@pytest.mark.parametrize(
    ("pool", "options", "expected"),
    [
        (None, {}, (100, 0, 4.0)),
        (hpp.Pool(connections=7, keepalive=1.5), {}, (7, 0, 1.5)),
        (hpp.Pool(connections=7), {"limit": 3, "limit_per_host": 2, "keepalive_timeout": 9.0}, (3, 2, 9.0)),
    ],
)
async def test_the_connector_to_lend(pool, options, expected):
    async with guarded_connector(pool, **options) as connector:
        assert isinstance(connector, GuardedConnector)
        assert (connector.limit, connector.limit_per_host, connector._keepalive_timeout) == expected
