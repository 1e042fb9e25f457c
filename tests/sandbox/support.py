"""A client made of bare sockets: what it sends and what it gets is exactly what was written here."""

import asyncio
import base64
import contextlib
import json
import socket
import ssl
from typing import Any, Self

from attrs import define
from yarl import URL

from kustom_hpp.sandbox import Fault, Sandbox, Stage
from tests.support.faults import find_fault

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/92d97f60-7a78-46a5-8f68-c56fe52dc4af"
PATH = "/hpp/v1/sessions"

# So that no fault takes longer than a test may.
SHORT = {"seconds": 0.1, "mib": 2}


def order(number: int) -> str:
    return f"https://api.playground.kustom.co/checkout/v3/orders/{number}"


def short(name: str, **given: Any) -> Fault:
    """A fault whose waits and sizes suit a test."""
    fault = find_fault(name)
    if fault.stage is Stage.CONNECTION:
        return fault
    return find_fault(name, **{key: value for key, value in SHORT.items() if key in fault.type.defaults} | given)


def request(
    sandbox: Sandbox, url: str = ORDER, *, body: bytes | None = None, authorization: str | None = None
) -> bytes:
    """A create, as the library sends it."""
    if body is None:
        body = json.dumps({"payment_session_url": url}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {URL(sandbox.base_url).authority}\r\n"
        f"Authorization: {authorization or 'Basic ' + sandbox.api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def call(
    sandbox: Sandbox, line: str, body: bytes | None = None, *, authorization: str | None = None, more: str = ""
) -> bytes:
    """A request for any operation: `call(sandbox, f"GET {PATH}/{session_id}")`; JSON where it has a body."""
    framing = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    head = (
        f"{line} HTTP/1.1\r\nHost: {URL(sandbox.base_url).authority}\r\n"
        f"Authorization: {authorization or 'Basic ' + sandbox.api_key}\r\n{framing}{more}\r\n"
    )
    return head.encode() + (body or b"")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@define
class Reply:
    """All that came over a connection until its end, or until time was up."""

    data: bytes = b""
    end: str = ""
    """`fin`, `rst`, or `open` where the connection still stood."""

    @property
    def status_line(self) -> bytes:
        return self.data.partition(b"\r\n")[0]

    @property
    def status(self) -> int:
        return int(self.status_line.split(b" ")[1])

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode("latin-1").lower() == name.lower():
                return value.strip().decode("utf-8", "surrogateescape")
        return None


class Wire:
    """One connection to a URL's host and port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, base_url: str, tls: ssl.SSLContext | None = None, host: str | None = None) -> "Wire":
        url = URL(base_url)
        reader, writer = await asyncio.open_connection(
            url.host, url.port, ssl=tls, server_hostname=host if tls else None, limit=1 << 26
        )
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def answer(self) -> Reply:
        """One well-formed answer with a Content-Length or in chunks, or a 100 or 204; the connection stays."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        reply = Reply(head, "open")
        if reply.status in {100, 204}:
            return reply
        if (length := reply.header("content-length")) is not None:
            reply.data += await self.reader.readexactly(int(length))
            return reply
        assert reply.header("transfer-encoding") == "chunked"
        while size := int(await self.reader.readline(), 16):
            reply.data += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return reply

    async def rest(self, seconds: float = 5.0) -> Reply:
        """Everything until the connection ends; `open` where it does not within that time."""
        reply = Reply()
        try:
            async with asyncio.timeout(seconds):
                while data := await self.reader.read(1 << 16):
                    reply.data += data
            reply.end = "fin"
        except TimeoutError:
            reply.end = "open"
        except ConnectionResetError:
            reply.end = "rst"
        return reply

    def cut(self) -> None:
        """RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()


async def exchange(sandbox: Sandbox, data: bytes | None = None, seconds: float = 5.0) -> Reply:
    """Send a create over a connection of its own; all that comes back until the end."""
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox) if data is None else data)
        return await wire.rest(seconds)


async def touch(sandbox: Sandbox, data: bytes | None = None) -> bytes:
    """Send a create over a connection of its own; the first bytes that come back, none where it is closed instead."""
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox) if data is None else data)
        async with asyncio.timeout(5):
            return await wire.reader.read(12)


async def ask(sandbox: Sandbox, data: bytes | None = None) -> Reply:
    """Send a create over a connection of its own; its one well-formed answer."""
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox) if data is None else data)
        async with asyncio.timeout(5):
            return await wire.answer()
