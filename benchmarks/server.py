"""A server that returns the same 201 for every POST, as cheaply as Python can, and counts the requests.

It runs in a process of its own (`Server`), so that none of its cost is on a client's clock. The first part of a path names
the client ("/raw/hpp/v1/sessions"); `GET /counts` returns how many requests each client made, `GET /last/<client>` shows
its last one. A client whose name begins with "batch" gets sessions with ids of their own. The process ends when its
standard input does, so it never outlives who started it.
"""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from benchmarks.environment import child_environment
from benchmarks.payloads import RESPONSE_BODY, SESSION_ID

_HEAD = "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
_ID = SESSION_ID.encode()
_CREATED = _HEAD.format("201 Created", len(RESPONSE_BODY)).encode() + RESPONSE_BODY


class _Log:
    """What the server remembers of its clients."""

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.last: dict[bytes, bytes] = {}


class _Connection(asyncio.Protocol):
    """One connection: whole requests in, fixed bytes out."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        while (end := buffer.find(b"\r\n\r\n") + 4) > 3:
            length = buffer.lower().find(b"content-length:", 0, end)
            if length >= 0:
                end += int(buffer[length + 15 : buffer.index(b"\r\n", length)])
            if len(buffer) < end:
                break
            self._respond(buffer[:end])
            buffer = buffer[end:]
        self._buffer = buffer

    def _respond(self, request: bytes) -> None:
        method, path, _ = request.split(b" ", 2)
        client = path.split(b"/", 2)[1]
        if method == b"POST":
            self._log.counts[client] += 1
            self._log.last[client] = request
            self._transport.write(self._distinct() if client.startswith(b"batch") else _CREATED)
            return
        if client == b"counts":
            found: Any = {name.decode(): count for name, count in self._log.counts.items()}
        else:
            found = self._log.last.get(path.rpartition(b"/")[2], b"").decode()
        body = json.dumps(found).encode()
        self._transport.write(_HEAD.format("200 OK", len(body)).encode() + body)

    def _distinct(self) -> bytes:
        """The same, with an id of its own: a batch stops where two rows get the same session."""
        number = sum(self._log.counts.values())
        return _CREATED.replace(_ID, b"%036d" % number)


async def _serve() -> None:
    log, over = _Log(), asyncio.Event()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(log), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)

    def wait_for_the_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    await over.wait()
    server.close()


class Server(AbstractContextManager["Server"]):
    """The server's process, for the length of a `with`."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.server"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(), text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)


def counts(url: str) -> dict[str, int]:
    """How many requests each client has made, by the server's own count."""
    counted: dict[str, int] = _get(f"{url}/counts")
    return counted


def last_request(url: str, client: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of the last request that the server got from a client."""
    head, _, body = str(_get(f"{url}/last/{client}")).partition("\r\n\r\n")
    lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
    return {name: value for name, _, value in lines}, body.encode()


def _get(url: str) -> Any:
    # A proxy of the environment has nothing to do with loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        return json.load(response)


if __name__ == "__main__":
    asyncio.run(_serve())
