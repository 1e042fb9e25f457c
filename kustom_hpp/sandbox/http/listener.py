"""A listening port of the sandbox, and all the connections that came in at it."""

import asyncio
import contextlib
import selectors
import socket
import ssl
import weakref
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from aiohttp import web

from kustom_hpp.sandbox.faults.rules import Script
from kustom_hpp.sandbox.http.connection import Link, TappedHandler
from kustom_hpp.sandbox.record import Record

_MAX_SEGMENT = 2_800
"""Bytes of a TCP segment: twice those of a real network, so that a usual request comes in one."""
HERE = MappingProxyType({"0.0.0.0": "127.0.0.1", "::": "::1"})  # noqa: S104 - the caller says so
"""Hosts that stand for every address of this machine, and the address by which it calls itself."""
_PATIENCE = 1.0
"""Seconds that a connection which is on its way in or out may hold up the closing."""
_HANDSHAKE = 5.0
"""Seconds that a TLS handshake may take."""


class ListeningSocket(socket.socket):
    """A listening socket that knows the connections that it gave out, those too whose TLS handshake is going on."""

    __slots__ = ("accepted", "count")
    accepted: "weakref.WeakSet[socket.socket]"
    count: int
    """How many connections it gave out in all."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept, as sockets do."""
        accepted = super().accept()
        self.accepted.add(accepted[0])
        self.count += 1
        return accepted

    async def cut(self) -> None:
        """End every connection that is still there, and wait until its transport has noticed."""
        for sock in list(self.accepted):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        # A few turns: the loop sees the end of each at once, and closes it.
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE
        while any(sock.fileno() >= 0 for sock in self.accepted) and loop.time() < end:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        for sock in list(self.accepted):
            sock.close()  # one whose accepting was cancelled belongs to nobody


def listening(host: str, port: int) -> ListeningSocket:
    """A bound and listening socket; one address family, so that a name like localhost stands for one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    plain = socket.create_server((host, port), family=family, backlog=1024)
    sock = ListeningSocket(family, socket.SOCK_STREAM, fileno=plain.detach())
    sock.accepted, sock.count = weakref.WeakSet(), 0
    if hasattr(socket, "TCP_MAXSEG"):
        # Loopback's segments of 64 KiB make the sender's buffer so large that it takes in any body at once; with small ones
        # a server that does not read is felt, from bodies of 200 KB on.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _MAX_SEGMENT)
    return sock


def url_of(sock: socket.socket, host: str, *, tls: bool = False) -> str:
    """The base URL that leads to a listening socket; this machine's own where it listens on every address."""
    host = HERE.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{sock.getsockname()[1]}"


class Listener:
    """Serves an aiohttp application on a port of its own.

    Args:
        name: how its connections are called in the record.
        script: asked about each connection; None where no fault may meet them.

    """

    def __init__(self, name: str, record: Record, server: Callable[[], web.Server], script: Script | None) -> None:
        self._name = name
        self._record = record
        self._server = server
        self._script = script
        self._links: set[Link] = set()
        self._listening: asyncio.Server | None = None
        self._sock: ListeningSocket | None = None
        self._protocols = 0
        self._unmade = 0
        self._tls = False

    async def open(self, host: str, port: int, *, tls: ssl.SSLContext | None, keepalive: float) -> str:
        """Listen; the base URL."""
        sock = self._sock = listening(host, port)
        self._tls = tls is not None
        settings = {"access_log": None, "lingering_time": 0, "auto_decompress": False, "keepalive_timeout": keepalive}
        self._listening = await asyncio.get_running_loop().create_server(
            lambda: self._protocol(settings),
            sock=sock,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE if tls else None,
        )
        return url_of(sock, host, tls=tls is not None)

    def _protocol(self, settings: dict[str, Any]) -> TappedHandler:
        self._protocols += 1
        self._unmade += 1
        return TappedHandler(self, self._server(), **settings)

    def is_quiet(self) -> bool:
        """True where nothing that has arrived on this machine waits to be accepted or read.

        Over TLS a connection whose handshake is going on is not waited for: it has no request yet.
        """
        if self._listening is None:
            return True
        if self._unmade and not self._tls:
            return False
        with selectors.DefaultSelector() as selector:
            for sock in self._listening.sockets:
                selector.register(sock, selectors.EVENT_READ)
            for link in self._links:
                # What we do not mean to read is not waited for.
                if not link.transport.is_closing() and link.transport.is_reading():
                    selector.register(link.transport.get_extra_info("socket"), selectors.EVENT_READ)
            return not selector.select(0)

    async def aclose(self) -> None:
        """Stop listening, cut every connection, and wait until nothing of them is left."""
        if self._listening is None or self._sock is None:
            return
        # What was accepted gets its protocol and its transport a turn later, and asyncio forgets it where the server is
        # closed by then.
        # Where that turn was cancelled, as by a loop that is being closed, there will never be one.
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE
        while self._protocols < self._sock.count and loop.time() < end:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        self._listening.close()
        links = list(self._links)
        for link in links:
            link.transport.abort()
        for link in links:
            await link.gone.wait()
            if link.serving is not None:
                await asyncio.wait([link.serving])
        await self._sock.cut()
        await self._listening.wait_closed()

    # What connections report.

    def link(self, transport: asyncio.Transport) -> Link:
        """Write a new connection down."""
        self._unmade -= 1
        link = Link(transport, self._record.connection(self._name), self._record.changed)
        self._links.add(link)
        return link

    def connected(self, link: Link) -> bool:
        """True where the connection shall be served, False where a fault took it."""
        fault = self._script.for_connection() if self._script is not None else None
        if fault is None:
            return True
        link.seen.fault = fault
        fault.kind.play_connection(link, fault.args)
        return False

    def disconnected(self, link: Link) -> None:
        """A connection was lost."""
        self._links.discard(link)
