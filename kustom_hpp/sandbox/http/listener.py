"""A listening port of the sandbox and its connections."""

import asyncio
import contextlib
import selectors
import socket
import ssl
import weakref
from types import MappingProxyType
from typing import Any

from aiohttp import web

from kustom_hpp.sandbox.faults.rules import FaultRules
from kustom_hpp.sandbox.http.connection import Connection, RecordingRequestHandler
from kustom_hpp.sandbox.record import Record

_MAX_SEGMENT = 2_800
"""Bytes of a TCP segment: twice those of a real network, so that a usual request fits into one."""
WILDCARD_HOSTS = MappingProxyType({"0.0.0.0": "127.0.0.1", "::": "::1"})  # noqa: S104 - the caller says so
"""Hosts that stand for every address of this machine, and its own address for them."""
CLOSE_TIMEOUT = 1.0
"""Seconds that closing waits for a connection that is being opened or closed."""
_HANDSHAKE = 5.0
"""Seconds that a TLS handshake may take."""


class ListeningSocket(socket.socket):
    """A listening socket that knows its connections, also during a handshake."""

    __slots__ = ("accepted", "count")
    accepted: "weakref.WeakSet[socket.socket]"
    count: int
    """Number of accepted connections."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        accepted = super().accept()
        self.accepted.add(accepted[0])
        self.count += 1
        return accepted

    async def shut_down(self) -> None:
        """Shut down every remaining connection, and wait for its transport."""
        for sock in list(self.accepted):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        # The loop sees the end of each within a few iterations, and closes it.
        loop = asyncio.get_running_loop()
        end = loop.time() + CLOSE_TIMEOUT
        while any(sock.fileno() >= 0 for sock in self.accepted) and loop.time() < end:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
        for sock in list(self.accepted):
            sock.close()  # if the accept was cancelled, nobody else closes it


def create_listening_socket(host: str, port: int) -> ListeningSocket:
    """Return a listening socket of one address family, so of one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    plain = socket.create_server((host, port), family=family, backlog=1024)
    sock = ListeningSocket(family, socket.SOCK_STREAM, fileno=plain.detach())
    sock.accepted, sock.count = weakref.WeakSet(), 0
    if hasattr(socket, "TCP_MAXSEG"):
        # With loopback's segments of 64 KiB the sender's buffer accepts any body at once. With small ones a body of 200 KB
        # notices a server that does not read.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _MAX_SEGMENT)
    return sock


def url_of(sock: socket.socket, host: str, *, tls: bool = False) -> str:
    """Return the base URL of a listening socket, as this machine reaches it."""
    host = WILDCARD_HOSTS.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{sock.getsockname()[1]}"


class Listener:
    """Serves an aiohttp application on a port of its own.

    Args:
        name: the port's name in the record.
        rules: the faults for its connections; None for no faults.

    """

    def __init__(self, name: str, record: Record, server: web.Server, rules: FaultRules | None) -> None:
        self._name = name
        self._record = record
        self._server = server
        self._rules = rules
        self._connections: set[Connection] = set()
        self._listening: asyncio.Server | None = None
        self._sock: ListeningSocket | None = None
        self._protocols = 0
        self._accepted_unconnected = 0
        self._tls = False

    async def open(self, host: str, port: int, *, tls: ssl.SSLContext | None, keepalive: float) -> str:
        """Start to listen and return the base URL."""
        sock = self._sock = create_listening_socket(host, port)
        self._tls = tls is not None
        settings = {"access_log": None, "lingering_time": 0, "auto_decompress": False, "keepalive_timeout": keepalive}
        self._listening = await asyncio.get_running_loop().create_server(
            lambda: self._protocol(settings),
            sock=sock,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE if tls else None,
        )
        return url_of(sock, host, tls=tls is not None)

    def _protocol(self, settings: dict[str, Any]) -> RecordingRequestHandler:
        self._protocols += 1
        self._accepted_unconnected += 1
        return RecordingRequestHandler(self, self._server, **settings)

    def is_quiet(self) -> bool:
        """Return True if nothing waits to be accepted or read.

        A connection during its TLS handshake does not count: it has no request yet.
        """
        if self._listening is None:
            return True
        if self._accepted_unconnected and not self._tls:
            return False
        with selectors.DefaultSelector() as selector:
            for sock in self._listening.sockets:
                selector.register(sock, selectors.EVENT_READ)
            for connection in self._connections:
                # Connections whose reading is paused do not count.
                if not connection.transport.is_closing() and connection.transport.is_reading():
                    selector.register(connection.transport.get_extra_info("socket"), selectors.EVENT_READ)
            return not selector.select(0)

    async def aclose(self) -> None:
        """Stop listening, abort every connection, and wait for their end."""
        if self._listening is None or self._sock is None:
            return
        # An accepted socket gets its transport one iteration of the loop later. asyncio forgets it if the server is closed by
        # then. In a loop that is being closed that iteration never comes, hence the timeout.
        loop = asyncio.get_running_loop()
        end = loop.time() + CLOSE_TIMEOUT
        while self._protocols < self._sock.count and loop.time() < end:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
        self._listening.close()
        links = list(self._connections)
        for connection in links:
            connection.transport.abort()
        for connection in links:
            await connection.gone.wait()
            if connection.serving is not None:
                await asyncio.wait([connection.serving])
        await self._sock.shut_down()
        await self._listening.wait_closed()

    # Called by connections.

    def add_connection(self, transport: asyncio.Transport) -> Connection:
        """Record a new connection."""
        self._accepted_unconnected -= 1
        connection = Connection(transport, self._record.add_connection(self._name), self._record.notify)
        self._connections.add(connection)
        return connection

    def should_serve(self, connection: Connection) -> bool:
        """Return False if a fault acts on the connection."""
        fault = self._rules.for_connection() if self._rules is not None else None
        if fault is None:
            return True
        connection.recorded.fault = fault
        fault.type.apply_to_connection(connection, fault.args)
        return False

    def disconnected(self, connection: Connection) -> None:
        """Forget a lost connection."""
        self._connections.discard(connection)
