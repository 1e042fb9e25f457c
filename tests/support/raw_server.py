"""A listening port whose connections are served as bytes: for port faults and the proxy."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from kustom_hpp.sandbox.http.connection import Connection
from kustom_hpp.sandbox.http.listener import create_listening_socket, url_of
from kustom_hpp.sandbox.record import Record

_END_OF_HEAD = b"\r\n\r\n"

Serve = Callable[["RawConnection"], Awaitable[None]]


class RawConnection(asyncio.Protocol):
    """One connection, read by hand."""

    def __init__(self, listener: "RawListener") -> None:
        self._listener = listener
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._ended = False
        self.connection: Connection

    async def read_some(self) -> bytes:
        """The next bytes; empty at the end."""
        while not self._buffer and not self._ended:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    async def read_head(self) -> bytes:
        """A request's head with its empty line, or what came before the end. What follows it is kept for `some`."""
        data = b""
        while _END_OF_HEAD not in data:
            more = await self.read_some()
            if not more:
                return data
            data += more
        read_head, mark, rest = data.partition(_END_OF_HEAD)
        self._buffer[:0] = rest
        return read_head + mark

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write the connection down and begin to serve it."""
        # Other loops' transports look like asyncio's, and are none.
        self.connection = self._listener.accepted(cast("asyncio.Transport", transport), self)

    def data_received(self, data: bytes) -> None:
        """Keep the bytes until they are asked for."""
        self.connection.received(data)
        self._buffer += data
        self._news.set()

    def eof_received(self) -> bool:
        """The peer has nothing more to say; it may still listen."""
        self._ended = True
        self._news.set()
        return True

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.connection.writable(yes=False)

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        self.connection.writable(yes=True)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wake everyone who waits for this connection."""
        self._ended = True
        self._news.set()
        self.connection.lost()
        self._listener.lost(self.connection)


class RawListener:
    """Listens on a port of its own and serves each connection with a coroutine."""

    def __init__(self, name: str, record: Record, serve: Serve) -> None:
        self._name = name
        self._record = record
        self._serve = serve
        self._serving: dict[Connection, asyncio.Task[None]] = {}
        self._listening: asyncio.Server | None = None

    async def open(self, host: str) -> str:
        """Listen; the base URL, as of a plain http server."""
        sock = create_listening_socket(host, 0)
        self._listening = await asyncio.get_running_loop().create_server(lambda: RawConnection(self), sock=sock)
        return url_of(sock, host)

    async def aclose(self) -> None:
        """Stop listening, cut every connection, and wait until nothing of them is left."""
        if self._listening is None:
            return
        self._listening.close()
        for connection, task in list(self._serving.items()):
            task.cancel()
            connection.transport.abort()
            await connection.gone.wait()
            await asyncio.wait([task])
        await self._listening.wait_closed()

    def accepted(self, transport: asyncio.Transport, raw: RawConnection) -> Connection:
        """Write a new connection down and begin to serve it."""
        connection = Connection(transport, self._record.add_connection(self._name), self._record.notify)
        self._serving[connection] = asyncio.get_running_loop().create_task(self._run(connection, raw))
        return connection

    def lost(self, connection: Connection) -> None:
        """A connection was lost: nothing more to serve."""
        self._serving.pop(connection).cancel()

    async def _run(self, connection: Connection, raw: RawConnection) -> None:
        try:
            await self._serve(raw)
        except ConnectionError:
            pass
        finally:
            connection.close()
