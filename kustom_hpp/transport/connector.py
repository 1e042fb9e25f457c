"""The connection pool, and the exceptions that come before sending."""

import functools
import select
import weakref
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from kustom_hpp.config import Pool

__all__ = ["guarded_connector"]


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
        self._checks: weakref.WeakKeyDictionary[ResponseHandler, Callable[[], object]] = weakref.WeakKeyDictionary()
        """For each connection that a request has used: is there unread data, or an end?"""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's signature
        """Return a connection without unread data."""
        try:
            connection: Any = await super().connect(req, traces, timeout)
            # The socket of a new connection is not checked: it may hold messages of TLS itself.
            while (is_readable := self._checks.get(connection.protocol)) is not None:
                if not (connection.protocol.should_close or not connection.protocol.is_connected() or is_readable()):
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
            raise NoConnectionError("the server sent data before the request")
        self._checks[connection.protocol] = _readable_check(connection.protocol)
        return connection


def _readable_check(protocol: ResponseHandler) -> Callable[[], object]:
    """Return a function that says whether the socket has something to read, be it the end. It is called for each request."""
    sock = protocol.transport.get_extra_info("socket") if protocol.transport is not None else None
    number = -1 if sock is None else sock.fileno()
    if number < 0:
        return lambda: True
    if not hasattr(select, "poll"):  # pragma: no cover - Windows has no poll, and its select no limit of 1,024
        return lambda: select.select([number], [], [], 0)[0]
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return functools.partial(poll.poll, 0)


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
