"""A TCP proxy that plays a bad network: latency, slices, cuts, resets and black holes, in each direction."""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from types import TracebackType
from typing import Self

TROUBLES = ("latency", "slices", "cut", "reset", "black hole")
_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a timeout of 0: closing sends RST."""


class BadNetwork:
    """A proxy in front of a server. Every connection may meet one trouble in one direction, after a random number of bytes.

    A black hole swallows all further bytes and leaves the connection open. `met` counts what happened.
    """

    def __init__(self, host: str, port: int, *, seed: int, probability: float = 0.5, within: int = 8_000) -> None:
        self._upstream = (host, port)
        self._dice = random.Random(seed)
        self._probability = probability
        self._within = within
        self._tasks: set[asyncio.Task[None]] = set()
        self.met: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def base_url(self) -> str:
        """The URL that a client is given."""
        return f"http://127.0.0.1:{self.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # the proxy closes: the streams' own callback must see a task that ended
        except OSError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        trouble = self._dice.choice(TROUBLES) if self._dice.random() < self._probability else ""
        up = self._dice.random() < 0.5
        both = (writer, upstream_writer)
        pipes = [
            asyncio.create_task(self._pipe(reader, upstream_writer, trouble if up else "", both)),
            asyncio.create_task(self._pipe(upstream_reader, writer, "" if up else trouble, both)),
        ]
        try:
            await asyncio.gather(*pipes)
        finally:
            for pipe in pipes:
                pipe.cancel()
            for one in both:
                one.transport.abort()

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        trouble: str,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        left = self._dice.randrange(self._within)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                if trouble and len(data) >= left:
                    self.met[trouble] += 1
                    writer.write(data[:left])
                    data = data[left:]
                    if trouble == "black hole":
                        while await reader.read(_CHUNK):
                            pass
                        return
                    if trouble in {"cut", "reset"}:
                        await self._end(trouble, both)
                        return
                    await self._delay(writer, data, trouble)
                    left = self._dice.randrange(self._within)
                else:
                    left -= len(data)
                    writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def _delay(self, writer: asyncio.StreamWriter, data: bytes, trouble: str) -> None:
        if trouble == "latency":
            await asyncio.sleep(self._dice.uniform(0, 0.1))
            writer.write(data)
            return
        while data:
            size = self._dice.randint(1, 200)
            writer.write(data[:size])
            await writer.drain()
            await asyncio.sleep(0)
            data = data[size:]

    async def _end(self, trouble: str, both: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        for writer in both:
            if trouble == "reset":
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            else:
                writer.close()
