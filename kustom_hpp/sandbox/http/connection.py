"""One connection: the object for faults, and the handler that records it."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web

from kustom_hpp.sandbox.http import raw_response
from kustom_hpp.sandbox.record import MAX_RAW_BYTES, RecordedConnection
from kustom_hpp.sandbox.stored_session import new_id

_INVALID_HTTP = 400
_RESET = struct.pack("ii", 1, 0)


class Connection:
    """A connection. Its waits end if the peer leaves or the sandbox closes."""

    def __init__(self, transport: asyncio.Transport, recorded: RecordedConnection, changed: Callable[[], None]) -> None:
        self.transport = transport
        self.recorded = recorded
        self._changed = changed
        self.gone = asyncio.Event()
        """Set when the connection is lost."""
        self.serving: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._timers: list[asyncio.TimerHandle] = []

    async def send(self, data: bytes) -> None:
        """Write and flush; raise a ConnectionResetError if the peer left."""
        if self.gone.is_set() or self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        await self.flush()

    async def flush(self) -> None:
        """Wait until the transport's buffer is empty."""
        # With a high-water mark of 0, "writable" means "empty".
        self.transport.set_write_buffer_limits(high=0)
        await self._writable.wait()
        if self.gone.is_set():
            raise ConnectionResetError

    async def pause(self, seconds: float) -> None:
        """Wait; a ConnectionResetError if the peer leaves."""
        try:
            async with asyncio.timeout(seconds):
                await self.gone.wait()
        except TimeoutError:
            return
        raise ConnectionResetError

    def call_later(self, seconds: float, do: Callable[[], None]) -> None:
        """Call a function later, unless the connection is lost by then."""
        self._timers.append(asyncio.get_running_loop().call_later(seconds, do))

    def close(self) -> None:
        """Close: the written data is sent, then FIN."""
        self.transport.close()

    def reset(self) -> None:
        """Reset: RST, and unsent data is lost."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    # Called by the protocol.

    def received(self, data: bytes) -> None:
        """Record received bytes."""
        room = MAX_RAW_BYTES - len(self.recorded.received)
        if room > 0:
            self.recorded.received += data[:room]
        self.recorded.bytes_received += len(data)
        self._changed()

    def writable(self, *, yes: bool) -> None:
        """Note that the transport's buffer is full, or empty."""
        if yes:
            self._writable.set()
        else:
            self._writable.clear()

    def lost(self) -> None:
        """End the waits: the connection is lost."""
        self.recorded.closed_at = time.monotonic()
        for timer in self._timers:
            timer.cancel()
        self._writable.set()
        self.gone.set()
        self._changed()


class RecordingRequestHandler(web.RequestHandler):
    """aiohttp's protocol for one connection, which records it.

    A subclass, because `request.protocol` then leads from a request to its connection, even after that is lost.
    """

    __slots__ = ("_owner", "_served", "connection")

    def __init__(self, owner: Any, server: web.Server, **settings: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)
        self._owner = owner
        self._served = False
        self.connection: Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Record the connection; serve it unless a fault acts on it."""
        # The transports of other loops have the same methods but another class.
        self.connection = self._owner.add_connection(cast("asyncio.Transport", transport))
        self._served = self._owner.should_serve(self.connection)
        if self._served:
            super().connection_made(transport)
            self.connection.serving = self._task_handler

    def data_received(self, data: bytes) -> None:
        """Record the bytes, then let aiohttp parse them."""
        if data:  # aiohttp passes none when it goes on with buffered data
            self.connection.received(data)
        if self._served:
            super().data_received(data)

    def pause_writing(self) -> None:
        """Note that the transport's buffer is full."""
        self.connection.writable(yes=False)
        if self._served:
            super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the transport's buffer has space again."""
        self.connection.writable(yes=True)
        if self._served:
            super().resume_writing()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Respond to invalid HTTP and to an error of the sandbox, which is logged.

        The response does not repeat the request, which may hold a key.
        """
        if status == _INVALID_HTTP:
            why = "the request is not valid HTTP/1.1"
        else:
            super().handle_error(request, status, exc, message)
            why = "the sandbox failed; see its log"
        response = raw_response.error(status, raw_response.error_code(status), [why], new_id()).for_aiohttp()
        response.force_close()
        return response

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the waits for this connection."""
        self.connection.lost()
        if self._served:
            super().connection_lost(exc)
        self._owner.disconnected(self.connection)
