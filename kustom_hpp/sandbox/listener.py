"""A listening port of the sandbox, and all the connections that came in at it."""

import array
import asyncio
import fcntl
import select
import socket
import ssl
import termios
from collections.abc import Callable
from typing import Any

from aiohttp import web

from kustom_hpp.sandbox.connection import Link, TappedHandler
from kustom_hpp.sandbox.record import Record
from kustom_hpp.sandbox.script import Script

_HANDSHAKE = 5.0
"""Seconds that a TLS handshake may take."""


def listening(host: str, port: int) -> socket.socket:
    """A bound and listening socket; one address family, so that a name like localhost stands for one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def url_of(sock: socket.socket, host: str, *, tls: bool = False) -> str:
    """The base URL that leads to a listening socket."""
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
        self._unmade = 0
        self._tls = False

    async def open(self, host: str, port: int, *, tls: ssl.SSLContext | None, keepalive: float) -> str:
        """Listen; the base URL."""
        sock = listening(host, port)
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
        self._unmade += 1
        return TappedHandler(self, self._server(), **settings)

    def is_quiet(self) -> bool:
        """True where nothing that has arrived on this machine waits to be accepted or read.

        Over TLS a connection whose handshake is going on is not waited for: it has no request yet.
        """
        if self._listening is None:
            return True
        if select.select(self._listening.sockets, (), (), 0)[0] or (self._unmade and not self._tls):
            return False
        return not any(_unread(link) for link in self._links)

    async def aclose(self) -> None:
        """Stop listening, cut every connection, and wait until nothing of them is left."""
        if self._listening is None:
            return
        self._listening.close()
        links = list(self._links)
        for link in links:
            link.transport.abort()
        for link in links:
            await link.gone.wait()
            if link.serving is not None:
                await asyncio.wait([link.serving])
        await self._listening.wait_closed()

    # What connections report.

    def link(self, transport: asyncio.Transport) -> Link:
        """Write a new connection down."""
        self._unmade -= 1
        link = Link(transport, self._record.connection(self._name))
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
        self._record.changed()


def _unread(link: Link) -> int:
    """Bytes that the system holds for a connection and we have not read; 0 where we do not mean to read them."""
    if link.gone.is_set() or link.transport.is_closing() or not link.transport.is_reading():
        return 0
    held = array.array("i", [0])
    fcntl.ioctl(link.transport.get_extra_info("socket").fileno(), termios.FIONREAD, held)
    return held[0]
