"""Faults of a whole port: nobody listens, nobody accepts, or TLS goes wrong.

Each opens a port of its own: `async with open_port(sandbox, "tls_hang") as port: ...`. None of them ever makes a session.
Certificates that are expired, of another host or unknown need no port fault: give the sandbox such an `ssl` context. An
https client at a plain port is a client at the sandbox's own address with https.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType

from attrs import frozen

from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.http.listener import create_listening_socket, url_of
from tests.support.raw_server import RawConnection, RawListener

_FULL = 0.2
"""Seconds after which a connection attempt on loopback counts as not answered."""
_DRIP = 0.05
_MOST_FILLERS = 32
_HANDSHAKE_START = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03"
"""A TLS record of 16,383 bytes that begins as a ServerHello of TLS 1.2."""


@frozen(kw_only=True)
class Port:
    """An open port."""

    base_url: str
    """Where a client shall go: https for the TLS ports, else http."""
    host: str
    number: int


@frozen(kw_only=True)
class PortKind:
    """A port fault as the table has it. None of them commits: there is nobody who could."""

    name: str
    about: str
    scheme: str = "https"
    serve: Callable[[RawConnection], Awaitable[None]] | None = None
    """What happens on each connection; None where there are none."""


async def _hang(connection: RawConnection) -> None:
    while await connection.read_some():
        pass


async def _slow(connection: RawConnection) -> None:
    await connection.read_some()
    await connection.connection.send(_HANDSHAKE_START)
    while True:
        await connection.connection.pause(_DRIP)
        await connection.connection.send(b"\x00")


async def _reset(connection: RawConnection) -> None:
    await connection.read_some()
    connection.connection.reset()


async def _eof(connection: RawConnection) -> None:
    await connection.read_some()


async def _tls_1_1(connection: RawConnection) -> None:
    """Answer every ClientHello with a ServerHello of TLS 1.1, written by hand: no OpenSSL has to be willing to speak it."""
    await connection.read_some()
    hello = b"\x03\x02" + bytes(range(32)) + b"\x00" + b"\x00\x2f" + b"\x00"
    message = b"\x02" + len(hello).to_bytes(3, "big") + hello
    await connection.connection.send(b"\x16\x03\x02" + len(message).to_bytes(2, "big") + message)
    # The client's alert, or its leaving.
    await connection.read_some()


async def _plain(connection: RawConnection) -> None:
    await connection.read_some()
    await connection.connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


PORTS: Mapping[str, PortKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            PortKind(name="refuse", about="nobody listens: connection refused", scheme="http"),
            PortKind(name="connect_hang", about="the backlog is full: SYNs are not answered", scheme="http"),
            PortKind(name="tls_hang", about="accepts and never answers the handshake", serve=_hang),
            PortKind(name="tls_slow", about="a handshake that comes byte by byte and never ends", serve=_slow),
            PortKind(name="tls_reset", about="RST after the ClientHello", serve=_reset),
            PortKind(name="tls_eof", about="FIN after the ClientHello", serve=_eof),
            PortKind(name="tls_old", about="speaks TLS 1.1 and nothing newer", serve=_tls_1_1),
            PortKind(name="tls_plain", about="answers the ClientHello with plain HTTP", serve=_plain),
        )
    }
)
"""Every port fault by its name."""


@contextlib.asynccontextmanager
async def open_port(sandbox: Sandbox, name: str) -> AsyncIterator[Port]:
    """Open a port with a fault; its connections come into the record under the fault's name.

    Raises:
        ValueError: there is no port fault of this name.

    """
    host, record = sandbox.host, sandbox.record
    kind = PORTS.get(name)
    if kind is None:
        raise ValueError(f"no port fault is called {name!r}; there are: {', '.join(PORTS)}")
    async with contextlib.AsyncExitStack() as stack:
        if kind.serve is not None:
            listener = RawListener(name, record, kind.serve)
            stack.push_async_callback(listener.aclose)
            url = await listener.open(host)
        elif name == "refuse":
            url = url_of(stack.enter_context(_bound_port(host)), host)
        else:
            url = url_of(await stack.enter_async_context(_full_backlog(host)), host)
        url = url.replace("http", kind.scheme, 1)
        yield Port(base_url=url, host=host, number=int(url.rpartition(":")[2]))


@contextlib.contextmanager
def _bound_port(host: str) -> Iterator[socket.socket]:
    """A port that is bound, so that nobody else gets it, and not listening."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    with sock:
        sock.bind((host, 0))
        yield sock


@contextlib.asynccontextmanager
async def _full_backlog(host: str) -> AsyncIterator[socket.socket]:
    """A listening socket whose queue is full: the system drops further SYNs. Seen on Linux."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(create_listening_socket(host, 0))
        sock.listen(0)
        for _ in range(_MOST_FILLERS):
            filler = stack.enter_context(socket.socket(sock.family))
            filler.setblocking(False)
            try:
                async with asyncio.timeout(_FULL):
                    await loop.sock_connect(filler, sock.getsockname())
            except TimeoutError:
                break
        else:
            raise RuntimeError("this system accepts connections beyond its backlog: connect_hang cannot be had here")
        yield sock
