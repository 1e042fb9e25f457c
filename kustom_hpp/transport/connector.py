"""The connection pool, and the exceptions that come before sending."""

import select
import weakref
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from kustom_hpp.config import Pool


class NoConnectionError(aiohttp.ClientConnectionError):
    """No connection; raised for foreign exceptions whose class does not say so."""


PRE_SEND_EXCEPTIONS = (
    aiohttp.ClientConnectorError,  # DNS, TCP and TLS; a proxy that cannot be reached
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,  # a proxy that answers CONNECT with an error
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    NoConnectionError,
)
"""Exceptions that are known to come before the first byte of a request."""


class GuardedConnector(aiohttp.TCPConnector):
    """A connector that never returns a pooled connection with unread data, or one that the server closed.

    Unread data would become the response to the next request: one customer would get another customer's payment page. A
    closed connection would lose the request. aiohttp's pool does not notice either (aiohttp#13656), so this connector
    checks each pooled connection directly before its use.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._unused: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()
        """New connections that no request has used yet."""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's signature
        """Return a connection without unread data."""
        try:
            connection: Any = await super().connect(req, traces, timeout)
            while not self._is_unused(connection.protocol):
                if not _is_stale(connection.protocol):
                    return connection
                connection.close()
                connection = await super().connect(req, traces, timeout)
        except PRE_SEND_EXCEPTIONS:
            raise
        except Exception as error:
            # A proxy that breaks off CONNECT, a resolver's own timeout, a connector that was closed meanwhile.
            raise NoConnectionError(f"{type(error).__name__} while connecting") from error
        if connection.protocol.should_close:
            connection.close()
            msg = "the server sent data before the request"
            raise NoConnectionError(msg)
        return connection

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:  # noqa: ASYNC109
        protocol = await super()._create_connection(req, traces, timeout)
        self._unused.add(protocol)
        return protocol

    def _is_unused(self, protocol: ResponseHandler) -> bool:
        """Return True once for a new connection, whose socket may hold messages of TLS itself."""
        if not self._unused or protocol not in self._unused:
            return False
        self._unused.discard(protocol)
        return True


def _is_stale(protocol: ResponseHandler) -> bool:
    """Return True if a pooled connection has unread data, or if the server closed it."""
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
    """Return the connector for an aiohttp session that is passed to a client as `http_session=`.

    It checks each pooled connection before its use. Without it, unread data may become the response to the next request,
    and one customer may get another customer's payment page.

    Args:
        pool: number of connections, and seconds until an idle one is closed.
        options: more arguments of aiohttp.TCPConnector.

    """
    pool = pool or Pool()
    return GuardedConnector(**{"limit": pool.connections, "keepalive_timeout": pool.keepalive} | options)
