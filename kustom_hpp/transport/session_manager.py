"""The session manager: one pooled aiohttp session, its life, its gate, and the exchange of one attempt."""

import asyncio
import base64
import logging
import os
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import aiohttp
from yarl import URL

from kustom_hpp._messages import HttpRequest, HttpResponse, SendMarker
from kustom_hpp._redaction import Secret
from kustom_hpp.config import Pool
from kustom_hpp.errors import (
    ClientClosedError,
    ConfigError,
    HPPError,
    LeaseLostError,
    WrongLoopError,
)
from kustom_hpp.transport.attempt_timeout import Clock, Gate
from kustom_hpp.transport.connector import GuardedConnector, guarded_connector
from kustom_hpp.transport.exception_mapping import SingleShot, describe, translate

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP_LIBRARY = f"aiohttp/{aiohttp.__version__}"
MAX_RESPONSE_BODY = 1 << 20
"""Bytes of an answer's body, decoded, that are read; the API's answers have about 1,000."""

# Every clock is ours: aiohttp's total and connect count the wait for a pooled connection, its sock_connect leaves DNS out,
# its sock_read leaves the writing out, and which of them it was cannot be told from the exception.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_log = logging.getLogger("kustom_hpp")


class HTTPSessionManager:
    """One pooled aiohttp session: opened at the first request, in the loop of that request, closed once.

    Args:
        pool: connections and their keep-alive.
        ssl: a TLS context of the caller's; None for the default one, which verifies and takes TLS 1.2 and newer.
        proxy: URL of an HTTP proxy, perhaps with user and password.
        headers: what nearly every request has; sent with the very same mapping, they cost nothing to prepare.
        http_session: a session of the caller's, which is never closed here. Make its connector with
            `guarded_connector()` and the session with aiohttp.DummyCookieJar(). Its middlewares, raise_for_status and
            redirects are switched off for our requests; its own default headers go out beside ours.

    Raises:
        ConfigError: the lent session has auth= or trust_env=, which would change our requests.

    """

    def __init__(
        self,
        *,
        pool: Pool,
        ssl: Any = None,
        proxy: Secret | None = None,
        headers: "Mapping[str, str] | None" = None,
        http_session: aiohttp.ClientSession | None = None,
    ) -> None:
        self._pool = pool
        self._borrowed = http_session is not None
        self._session = None if http_session is None else _lent(http_session)
        self._ssl = ssl
        self._proxy, self._proxy_authorization = _split_proxy(proxy)
        # Not on a lent session, which is not ours to change; and not with a proxy, which aiohttp would show them to.
        self._default_headers = headers if http_session is None and proxy is None else None
        # Constant arguments of every request; each of them overrules what a lent session may have.
        self._options: dict[str, Any] = {
            "allow_redirects": False,
            "raise_for_status": False,
            "middlewares": (),
            "timeout": _NO_TIMEOUT,
            "auto_decompress": True,
        }
        if ssl is not None:
            self._options["ssl"] = ssl
        if self._proxy is not None:
            self._options["proxy"] = self._proxy
            if self._proxy_authorization is not None:
                self._options["proxy_headers"] = {"Proxy-Authorization": self._proxy_authorization}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed = False
        # An answer with the mark unset proves that the lent session rewrites bodies: from then on nothing is "not sent".
        self._blind = False
        # Until an answer has come with the mark set, a lent session of another class may be such a one.
        self._proven = http_session is None or type(http_session) is aiohttp.ClientSession
        # As wide as the pool, so that the wait for a connection is here, outside of every timeout but the deadline.
        self._gate = Gate(_width(pool, http_session))
        # Two that close at once would each hold some of the places and wait for the other's.
        self._closing = asyncio.Lock()

    @property
    def open_in(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which connections of its own may be open; None before the first request and once closed."""
        return None if self._borrowed or self._session is None else self._loop

    async def send(self, request: HttpRequest, mark: SendMarker) -> HttpResponse:
        """Make one attempt; see `Transport.send`."""
        session = self._ready()
        gate = self._gate
        if gate.free:
            gate.free -= 1
        else:
            await gate.wait(request.deadline)
        try:
            if self._closed:
                _raise_closed()
            result = await self._exchange(session, request, mark)
        finally:
            gate.release()
        if mark.refused and not mark.sent:
            result = LeaseLostError(_LEASE_LOST)
        # Raised here, where no local holds an object of aiohttp or the bytes of an answer.
        if isinstance(result, HPPError):
            try:
                raise result
            finally:
                del result  # or error, traceback and frame would hold one another until the collector comes
        return result

    async def aclose(self) -> None:
        """Let attempts in flight end, each within its own timeouts, then close. Idempotent; a lent session stays open.

        Raises:
            WrongLoopError: called in another event loop while the client's own still lives.

        """
        self._closed = True
        session, loop = self._session, self._loop
        if session is None or loop is None or self._pid != os.getpid() or loop.is_closed():
            # Never used, or of a loop or process that is gone: there is nothing here that could be closed.
            self._session = None
            return
        if loop is not asyncio.get_running_loop():
            raise WrongLoopError(_OTHER_LOOP)
        async with self._closing:
            await self._close(session)

    async def _close(self, session: aiohttp.ClientSession) -> None:
        """Take every place at the gate, so that nobody is in flight, and close; if cancelled, close at once."""
        gate, held = self._gate, 0
        try:
            while held < gate.width:
                if gate.free:
                    gate.free -= 1
                else:
                    await gate.wait(None)
                held += 1
        finally:
            # Whoever still waits at the gate gets through it, and finds the client closed.
            for _ in range(held):
                gate.release()
            if not self._borrowed:
                await session.close()
            self._session = None

    def _ready(self) -> aiohttp.ClientSession:
        """The session, opened in this loop if need be; an error in words where it cannot be used here."""
        if self._closed:
            _raise_closed()
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._pid != os.getpid():
            self._belongs(loop)
        session = self._session
        if session is None:
            session = self._session = aiohttp.ClientSession(
                connector=guarded_connector(self._pool),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._default_headers,
                timeout=_NO_TIMEOUT,
            )
        elif session.closed:
            msg = "the lent http_session was closed by its owner: lend an open one to a new client"
            raise ClientClosedError(msg)
        return session

    def _belongs(self, loop: asyncio.AbstractEventLoop) -> None:
        owner = self._loop
        if owner is None and self._borrowed and self._session is not None and self._session.connector is not None:
            owner = self._session.connector._loop  # noqa: SLF001 - aiohttp has no public name for it
        if self._loop is None and owner in (None, loop):
            self._loop, self._pid = loop, os.getpid()
            return
        raise WrongLoopError(_FORKED if self._pid not in {0, os.getpid()} else _OTHER_LOOP)

    async def _exchange(
        self, session: aiohttp.ClientSession, request: HttpRequest, mark: SendMarker
    ) -> HttpResponse | HPPError:
        """Send and read, under one clock that is set anew for each phase."""
        loop, deadline = self._loop, request.deadline
        assert loop is not None  # noqa: S101 - _ready has seen to it

        clock = Clock(loop, request.connect_timeout, deadline)
        body = SingleShot(request.body or b"", mark, clock, request.read_timeout, request.may_send)
        headers = None if request.headers is self._default_headers else self._headers_for(request)
        mark.sent = self._blind
        answer: aiohttp.ClientResponse | None = None
        chunks: list[bytes] = []
        failure: Exception | None = None
        broken: str | None = None
        try:
            answer = await session.request(request.method, request.url, data=body, headers=headers, **self._options)
            broken = await _read(answer, chunks)
        except asyncio.CancelledError:
            if not clock.stop():
                raise  # the caller's own
            failure = TimeoutError()
        except Exception as error:  # noqa: BLE001 - every one of them becomes one of ours
            clock.stop()
            failure = error
        else:
            clock.stop()
        finally:
            body.settle()
            # Read to its end, it has given its connection back; anything else must not be used again.
            if answer is not None and not answer.closed:
                answer.close()
        if answer is None:
            assert failure is not None  # noqa: S101
            ended_by = _clock_name(deadline, loop.time(), sent=mark.sent) if clock.expired else None
            sent = mark.sent or (clock.expired and not self._proven)
            host = request.url.host or ""
            return translate(failure, sent=sent, expired=ended_by, host=host, in_doubt=request.in_doubt)
        if failure is not None:
            broken = "the time ran out" if clock.expired else describe(failure, "while reading the body")
        if not mark.sent:
            self._blind = mark.sent = True
        self._proven = True
        return HttpResponse(
            status=answer.status,
            headers=answer.headers,
            body=b"".join(chunks),
            broken=broken,
            timed_out=clock.expired,
            too_long=failure is None and broken is not None,
        )

    def _headers_for(self, request: HttpRequest) -> "Mapping[str, str]":
        """The headers, with the proxy's own where the proxy reads them; with https it gets them by CONNECT."""
        if request.url.scheme == "https" or self._proxy_authorization is None:
            return request.headers
        return {**request.headers, "Proxy-Authorization": self._proxy_authorization}


_LEASE_LOST = "the lease on this call ended before the request was sent: nothing was sent. Claim it again"
_FORKED = (
    "this client was opened before the process forked, and connections cannot be shared: make the client after the "
    "fork, one for each process"
)
_OTHER_LOOP = (
    "this client belongs to another event loop: make one client for each loop, and keep the loop (asyncio.run makes a "
    "new one each time)"
)


def _raise_closed() -> NoReturn:
    msg = "the client is closed, and stays closed: make a new one, and keep it for the life of the process"
    raise ClientClosedError(msg)


def _clock_name(deadline: float | None, now: float, *, sent: bool) -> str:
    if deadline is not None and now >= deadline:
        return "deadline"
    return "read timeout" if sent else "connect timeout"


async def _read(answer: aiohttp.ClientResponse, chunks: list[bytes]) -> str | None:
    """Read the body into chunks, up to the cap; None where it is whole, else why it is not."""
    size = 0
    read = answer.content.readany
    while chunk := await read():
        size += len(chunk)
        if size > MAX_RESPONSE_BODY:
            chunks.append(chunk[: MAX_RESPONSE_BODY - size])
            return f"longer than {MAX_RESPONSE_BODY:,} bytes"
        chunks.append(chunk)
    return None


def _width(pool: Pool, session: aiohttp.ClientSession | None) -> int:
    """How many attempts may be in flight: the pool's connections, or fewer where a lent session has fewer."""
    connector = session.connector if session is not None else None
    limits = [connector.limit, connector.limit_per_host] if connector is not None else []
    return min([pool.connections, *(limit for limit in limits if limit)])


def _lent(session: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """A lent session, if it leaves our requests as they are."""
    if not isinstance(session, aiohttp.ClientSession):
        msg = f"http_session must be an aiohttp.ClientSession, got a {type(session).__name__}"
        raise ConfigError(msg)
    if session.auth is not None:
        msg = "http_session has auth=, which would replace the API's Authorization: lend a session without it"
        raise ConfigError(msg)
    if session.trust_env:
        msg = (
            "http_session has trust_env=True, so .netrc could replace the API's Authorization: lend a session without "
            "it, and give the client trust_env=True for the proxy of the environment"
        )
        raise ConfigError(msg)
    if not isinstance(session.connector, GuardedConnector):
        _log.warning(
            "the lent http_session hands out idle connections without looking at them, so that a stray answer may "
            "reach another order: make its connector with kustom_hpp.guarded_connector()"
        )
    if not isinstance(session.cookie_jar, aiohttp.DummyCookieJar):
        _log.warning(
            "the lent http_session keeps cookies, and sends the API's own back to it: make it with "
            "cookie_jar=aiohttp.DummyCookieJar()"
        )
    return session


def _split_proxy(proxy: Secret | None) -> tuple[URL | None, Secret | None]:
    """The proxy's URL without its password, and the header that carries that: a URL shows itself in every repr."""
    if proxy is None:
        return None, None
    url = URL(proxy)
    if url.raw_user is None and url.raw_password is None:
        return url, None
    credentials = Secret(f"{unquote(url.raw_user or '')}:{unquote(url.raw_password or '')}")
    header = Secret("Basic " + base64.b64encode(credentials.encode()).decode())
    return url.with_user(None), header
