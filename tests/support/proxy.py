"""A small forward proxy that can misbehave: CONNECT for https, and requests in absolute form for http."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

from attrs import define, field, frozen
from yarl import URL

from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.record import Record
from tests.support.raw_server import RawConnection, RawListener

PROXY_BEHAVIOURS: Mapping[str, str] = MappingProxyType(
    {
        "ok": "does what a proxy does",
        "status_407": "answers 407 and asks for credentials",
        "status_403": "answers 403",
        "status_502": "answers 502: it cannot reach the server",
        "hang": "falls silent",
        "close": "FIN in the place of an answer",
        "reset": "RST in the place of an answer",
        "garbage": "answers with bytes that are no HTTP",
        "close_tunnel": "for CONNECT: says that the tunnel stands, then FIN",
        "reset_tunnel": "for CONNECT: says that the tunnel stands, then RST",
    }
)
"""What the proxy can do with a request, by name. None but `ok` lets anything through."""

_REASONS = {407: "Proxy Authentication Required", 403: "Forbidden", 502: "Bad Gateway"}
_TUNNEL_STANDS = b"HTTP/1.1 200 Connection established\r\n\r\n"


@frozen(kw_only=True)
class ProxyRequest:
    """One request as it came to the proxy. Inside a tunnel it sees nothing more."""

    method: str
    target: str
    """`host:port` for CONNECT, else the absolute URL."""
    head: bytes = field(repr=False)
    """The whole head, byte for byte."""
    behaviour: str
    """What the proxy did with it."""


@define(kw_only=True, eq=False)
class Proxy:
    """An open proxy."""

    url: str = ""
    """Where it listens."""
    record: Record = field(repr=False)
    """Told when something came, so that its `wait_for` looks again."""
    seen: list[ProxyRequest] = field(factory=list)
    """What came to it, oldest first."""
    _plan: list[str] = field(factory=lambda: ["ok"], init=False)

    def behave(self, *behaviours: str) -> None:
        """Meet the next requests with these, one after the other; the last one stays.

        Raises:
            ValueError: the proxy cannot do this.

        """
        for behaviour in behaviours:
            if behaviour not in PROXY_BEHAVIOURS:
                raise ValueError(f"a proxy cannot {behaviour!r}; it can: {', '.join(PROXY_BEHAVIOURS)}")
        self._plan = list(behaviours) or ["ok"]

    async def serve(self, connection: RawConnection) -> None:
        """Serve one connection."""
        head = await connection.read_head()
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target = rest.rpartition(" ")[0]
        if not (target and head.endswith(b"\r\n\r\n")):
            return
        behaviour = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
        self.seen.append(ProxyRequest(method=method, target=target, head=head, behaviour=behaviour))
        self.record.notify()
        if behaviour == "ok":
            await _forward(connection, method, target, head)
        else:
            await _misbehave(connection, behaviour)


async def _misbehave(connection: RawConnection, behaviour: str) -> None:
    peer = connection.connection
    if behaviour.startswith("status_"):
        status = int(behaviour.removeprefix("status_"))
        challenge = 'Proxy-Authenticate: Basic realm="sandbox"\r\n' if status == 407 else ""
        answer = f"HTTP/1.1 {status} {_REASONS[status]}\r\n{challenge}Content-Length: 0\r\nConnection: close\r\n\r\n"
        await peer.send(answer.encode())
    elif behaviour == "hang":
        while await connection.read_some():
            pass
    elif behaviour == "garbage":
        await peer.send(bytes(range(256)) + b"\r\n\r\n")
    elif behaviour.endswith("_tunnel"):
        await peer.send(_TUNNEL_STANDS)
    if behaviour.startswith("reset"):
        peer.reset()


async def _forward(connection: RawConnection, method: str, target: str, head: bytes) -> None:
    """Tunnel, or pass on: the absolute form stays as it is, every server must take it (RFC 9112, 3.2.2)."""
    url = URL(f"//{target}" if method == "CONNECT" else target)
    try:
        reader, writer = await asyncio.open_connection(url.host, url.port)
    except OSError:
        await _misbehave(connection, "status_502")
        return
    with contextlib.closing(writer):
        if method == "CONNECT":
            await connection.connection.send(_TUNNEL_STANDS)
        else:
            writer.write(head)
        there = asyncio.ensure_future(_there(connection, writer))
        back = asyncio.ensure_future(_back(reader, connection))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in (there, back):
                pump.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            writer.transport.abort()


async def _there(connection: RawConnection, writer: asyncio.StreamWriter) -> None:
    while data := await connection.read_some():
        writer.write(data)
        await writer.drain()


async def _back(reader: asyncio.StreamReader, connection: RawConnection) -> None:
    while data := await reader.read(65_536):
        await connection.connection.send(data)


@contextlib.asynccontextmanager
async def open_proxy(sandbox: Sandbox, *behaviours: str) -> AsyncIterator[Proxy]:
    """Open a proxy; its connections come into the record under the name `proxy`."""
    host, record = sandbox.host, sandbox.record
    proxy = Proxy(record=record)
    proxy.behave(*behaviours)
    listener = RawListener("proxy", record, proxy.serve)
    try:
        proxy.url = await listener.open(host)
        yield proxy
    finally:
        await listener.aclose()
