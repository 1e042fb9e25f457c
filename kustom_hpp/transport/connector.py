"""Connections: which exceptions come before sending, and a pool that hands out no connection with stray bytes on it."""

import select
import weakref
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from kustom_hpp.config import Pool


class NoConnectionError(aiohttp.ClientConnectionError):
    """Whatever went wrong while getting a connection, in a class that says so."""


PRE_SEND = (
    aiohttp.ClientConnectorError,  # DNS, TCP and TLS; a proxy that cannot be reached
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,  # a proxy that answers CONNECT with an error
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    NoConnectionError,
)
"""The exceptions that are known to come before a request's first byte."""


class GuardedConnector(aiohttp.TCPConnector):
    """A connector that never hands out a connection on which the server has already spoken, or which it has closed.

    Bytes that arrive on an idle connection would answer the next request: one customer would get another customer's
    payment page. A connection that the server has closed would lose the request. Neither is visible in aiohttp's pool
    (aiohttp#13656), so each pooled connection is looked at just before it is used.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._new: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()
        """Connections that were made and not yet handed out."""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's signature
        """A connection that nothing has arrived on."""
        try:
            connection: Any = await super().connect(req, traces, timeout)
            while not self._is_new(connection.protocol) and _is_stale(connection.protocol):
                connection.close()
                connection = await super().connect(req, traces, timeout)
        except PRE_SEND:
            raise
        except (
            Exception
        ) as error:  # a proxy that breaks off CONNECT, a resolver's own timeout, a connector closed meanwhile
            raise NoConnectionError(f"{type(error).__name__} while connecting") from error
        if connection.protocol.should_close:
            connection.close()
            msg = "the server spoke before it was asked"
            raise NoConnectionError(msg)
        return connection

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:  # noqa: ASYNC109
        protocol = await super()._create_connection(req, traces, timeout)
        self._new.add(protocol)
        return protocol

    def _is_new(self, protocol: ResponseHandler) -> bool:
        """Whether nobody has used the connection yet: then its socket may hold TLS's own messages. True once."""
        if not self._new or protocol not in self._new:
            return False
        self._new.discard(protocol)
        return True


def _is_stale(protocol: ResponseHandler) -> bool:
    """Whether something has arrived on a pooled connection: answer bytes, or the server's closing."""
    if protocol.should_close:
        return True
    sock = protocol.transport.get_extra_info("socket") if protocol.transport is not None else None
    number = -1 if sock is None else sock.fileno()
    return number < 0 or _is_readable(number)


if hasattr(select, "poll"):

    def _is_readable(number: int) -> bool:
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))

else:  # pragma: no cover - Windows has no poll, and its select no limit of 1,024

    def _is_readable(number: int) -> bool:
        return bool(select.select([number], [], [], 0)[0])


def guarded_connector(pool: Pool | None = None, **options: Any) -> aiohttp.TCPConnector:
    """The connector for an aiohttp session that you lend to a client with `http_session=`.

    It looks at each pooled connection before use, so that no stray bytes answer the next request: without it one
    customer may get another customer's payment page.

    Args:
        pool: how many connections, and how long idle ones are kept (seconds).
        options: more for aiohttp.TCPConnector.

    """
    pool = pool or Pool()
    return GuardedConnector(**{"limit": pool.connections, "keepalive_timeout": pool.keepalive} | options)
