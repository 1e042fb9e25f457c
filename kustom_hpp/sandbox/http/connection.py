"""One live connection: aiohttp's request handler with a tap on it, and the handle by which faults act on it."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from aiohttp import web

from kustom_hpp.sandbox.http import raw_response as answer
from kustom_hpp.sandbox.recorded import RAW_CAP, ConnectionSeen
from kustom_hpp.sandbox.stored_session import new_id

_NO_HTTP = 400
_RESET = struct.pack("ii", 1, 0)


class Link:
    """A connection in a fault's hands. All waiting ends at once when the peer is gone or the sandbox closes."""

    def __init__(self, transport: asyncio.Transport, seen: ConnectionSeen, changed: Callable[[], None]) -> None:
        self.transport = transport
        self.seen = seen
        self._changed = changed
        self.gone = asyncio.Event()
        """Set once the connection is lost."""
        self.serving: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._timers: list[asyncio.TimerHandle] = []

    async def send(self, data: bytes) -> None:
        """Write, and wait until the system has taken all of it.

        Raises:
            ConnectionResetError: the peer is gone.

        """
        if self.gone.is_set() or self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        await self.flush()

    async def flush(self) -> None:
        """Wait until nothing is left in our own buffer."""
        # With a high-water mark of 0, "writable" means "empty".
        self.transport.set_write_buffer_limits(high=0)
        await self._writable.wait()
        if self.gone.is_set():
            raise ConnectionResetError

    async def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            ConnectionResetError: the peer went away meanwhile.

        """
        try:
            async with asyncio.timeout(seconds):
                await self.gone.wait()
        except TimeoutError:
            return
        raise ConnectionResetError

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something after a while, unless the connection is lost by then."""
        self._timers.append(asyncio.get_running_loop().call_later(seconds, do))

    def close(self) -> None:
        """Close as a server does that has nothing more to say: what is written goes out, then FIN."""
        self.transport.close()

    def reset(self) -> None:
        """Cut the connection: RST, and what the system has not sent is lost."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    # What the protocol reports.

    def received(self, data: bytes) -> None:
        """Bytes came in."""
        room = RAW_CAP - len(self.seen.received)
        if room > 0:
            self.seen.received += data[:room]
        self.seen.bytes_received += len(data)
        self._changed()

    def writable(self, *, yes: bool) -> None:
        """The transport's buffer ran over its mark, or ran dry."""
        if yes:
            self._writable.set()
        else:
            self._writable.clear()

    def lost(self) -> None:
        """The connection is no more."""
        self.seen.closed_at = time.monotonic()
        for timer in self._timers:
            timer.cancel()
        self._writable.set()
        self.gone.set()
        self._changed()


class Greeter(Protocol):
    """Who is told of connections."""

    def connected(self, link: Link) -> bool:
        """A connection was made; True where it shall be served, False where a fault took it."""
        ...

    def link(self, transport: asyncio.Transport) -> Link:
        """Write a new connection down."""
        ...

    def disconnected(self, link: Link) -> None:
        """A connection was lost."""


class TappedHandler(web.RequestHandler):
    """aiohttp's protocol for one connection, with all that comes and goes passing by our eyes.

    Implementation note: a subclass rather than a wrapper, because `request.protocol` then leads from a request to its
    connection, also when the connection is already lost.
    """

    __slots__ = ("_greeter", "_served", "link")

    def __init__(self, greeter: Greeter, server: web.Server, **settings: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)
        self._greeter = greeter
        self._served = False
        self.link: Link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write the connection down; serve it unless a fault takes it."""
        # Other loops' transports look like asyncio's, and are none.
        self.link = self._greeter.link(cast("asyncio.Transport", transport))
        self._served = self._greeter.connected(self.link)
        if self._served:
            super().connection_made(transport)
            self.link.serving = self._task_handler

    def data_received(self, data: bytes) -> None:
        """Write the bytes down, then let aiohttp parse them."""
        if data:  # aiohttp calls with none when it goes on parsing what it has
            self.link.received(data)
        if self._served:
            super().data_received(data)

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.link.writable(yes=False)
        if self._served:
            super().pause_writing()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        self.link.writable(yes=True)
        if self._served:
            super().resume_writing()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and a failure of our own, in the API's shape. Only the latter is logged.

        What came is not told: it may hold a key.
        """
        if status == _NO_HTTP:
            why = "this is no HTTP/1.1 request that can be read"
        else:
            super().handle_error(request, status, exc, message)
            why = "the sandbox failed: its log has more"
        refusal = answer.error(status, answer.code(status), [why], new_id())
        response = web.Response(status=status, headers=dict(refusal.headers), body=refusal.body)
        response.force_close()
        return response

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell everyone who waits for this connection."""
        self.link.lost()
        if self._served:
            super().connection_lost(exc)
        self._greeter.disconnected(self.link)
