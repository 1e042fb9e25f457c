"""The session manager: one pooled aiohttp session, its lifecycle, and one attempt."""

import asyncio
import base64
import logging
import os
from typing import TYPE_CHECKING, Any
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
from kustom_hpp.transport.attempt_timeout import AttemptTimeout, AttemptTimer, ConnectionSlots
from kustom_hpp.transport.connector import GuardedConnector, guarded_connector
from kustom_hpp.transport.exception_mapping import OneShotPayload, describe_exception, map_exception

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HTTPSessionManager"]

HTTP_LIBRARY = f"aiohttp/{aiohttp.__version__}"
MAX_RESPONSE_BODY = 1 << 20
"""Decoded bytes of a response body that are read; the API's responses have about 1,000."""

# AttemptTimeout replaces aiohttp's timeouts: its total and connect include the wait for a pooled connection, sock_connect
# excludes DNS, sock_read excludes writing, and the exception does not say which of them expired.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_log = logging.getLogger("kustom_hpp")


class HTTPSessionManager:
    """One pooled aiohttp session, opened at the first request in the loop of that request, and closed once.

    Args:
        pool: connections and their keep-alive.
        ssl: a TLS context; None for the default one, which verifies and accepts TLS 1.2 and newer.
        proxy: URL of an HTTP proxy, with user and password if it needs them.
        headers: the usual headers. A request with this very mapping costs aiohttp nothing to prepare.
        http_session: a borrowed session, which is not closed here. Make its connector with `guarded_connector()` and its
            cookie jar with aiohttp.DummyCookieJar(). Its middlewares, raise_for_status and redirects do not apply to the
            client's requests; its default headers are sent too.

    Raises:
        ConfigError: the borrowed session has auth= or trust_env=, which would change the requests.

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
        self._session = None if http_session is None else _check_borrowed(http_session)
        self._ssl = ssl
        self._proxy, self._proxy_authorization = _split_proxy(proxy)
        # Not on a borrowed session, and not with a proxy, to which aiohttp would send them.
        self._default_headers = headers if http_session is None and proxy is None else None
        # Arguments of every request. The second ones override the settings of a borrowed session.
        self._options: dict[str, Any] = {"allow_redirects": False}
        if self._borrowed:
            self._options |= {
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
        self._binding: dict[str, asyncio.AbstractEventLoop] = {}
        self._pid = 0
        self._closed = False
        # A response while the marker is unset proves that the borrowed session rewrites bodies. Nothing is NOT_SENT then.
        self._marker_unreliable = False
        # A borrowed session of another class may rewrite bodies until a response has come with the marker set.
        self._marker_verified = http_session is None or type(http_session) is aiohttp.ClientSession
        # One slot for each connection: the wait for a connection happens here, bounded by the deadline alone.
        self._slots = ConnectionSlots(_max_in_flight(pool, http_session))
        self._timer = AttemptTimer()
        # Two concurrent closers would each hold some slots and wait for the other's.
        self._closing = asyncio.Lock()

    @property
    def bound_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of its own open connections; None before the first request and after `aclose`."""
        return None if self._borrowed or self._session is None else self._loop

    async def send(self, request: HttpRequest, marker: SendMarker) -> HttpResponse:
        """Make one attempt; see `Transport.send`."""
        session = self._get_session()
        slots = self._slots
        if slots.free:
            slots.free -= 1
        else:
            await slots.wait(request.deadline)
        try:
            if self._closed:
                raise ClientClosedError
            # Asked here too: a borrowed session that rewrites bodies does not write the payload that asks it.
            if request.may_send is not None and not request.may_send():
                raise LeaseLostError(_LEASE_LOST)
            result = await self._send_once(session, request, marker)
        finally:
            slots.release()
        if marker.refused and not marker.sent:
            result = LeaseLostError(_LEASE_LOST)
        # Raised here, where no local refers to an object of aiohttp or to a body.
        if isinstance(result, HPPError):
            try:
                raise result
            finally:
                del result  # otherwise error, traceback and frame refer to each other until the collector runs
        return result

    async def aclose(self) -> None:
        """Wait for the attempts in flight, then close. Idempotent; a borrowed session stays open.

        Raises:
            WrongLoopError: called in another event loop while the client's own still lives.

        """
        self._closed = True
        session, loop = self._session, self._loop
        if session is None or loop is None or self._pid != os.getpid() or loop.is_closed():
            # Never used, or its loop or process is gone: there is nothing to close.
            self._session = None
            return
        if loop is not asyncio.get_running_loop():
            raise WrongLoopError(_OTHER_LOOP)
        async with self._closing:
            await self._close(session)

    async def _close(self, session: aiohttp.ClientSession) -> None:
        """Acquire every slot, so that no attempt is in flight, and close; if cancelled, close at once."""
        slots, held = self._slots, 0
        try:
            while held < slots.width:
                if slots.free:
                    slots.free -= 1
                else:
                    await slots.wait(None)
                held += 1
        finally:
            # Callers that still wait for a slot get one, and find the client closed.
            for _ in range(held):
                slots.release()
            if not self._borrowed:
                await session.close()
            self._timer.stop()
            self._session = None

    def _get_session(self) -> aiohttp.ClientSession:
        """Return the session, opened in this loop if necessary."""
        if self._closed:
            raise ClientClosedError
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._pid != os.getpid():
            self._bind_to_loop(loop)
        session = self._session
        if session is None:
            session = self._session = aiohttp.ClientSession(
                connector=guarded_connector(self._pool),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._default_headers,
                timeout=_NO_TIMEOUT,
            )
        elif session.closed:
            raise ClientClosedError("http_session was closed by its owner. Give an open one to a new client")
        return session

    def _bind_to_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        owner = None
        if self._borrowed and self._session is not None and self._session.connector is not None:
            owner = self._session.connector._loop  # noqa: SLF001 - aiohttp has no public name for it
        # dict.setdefault is atomic: if two threads make the first call at once, only one of them binds the client.
        if self._loop is None and owner in (None, loop) and self._binding.setdefault("loop", loop) is loop:
            self._loop, self._pid = loop, os.getpid()
            return
        raise WrongLoopError(_FORKED if self._pid not in {0, os.getpid()} else _OTHER_LOOP)

    async def _send_once(
        self, session: aiohttp.ClientSession, request: HttpRequest, marker: SendMarker
    ) -> HttpResponse | HPPError:
        """Send and read, with one timer that is restarted for each phase."""
        loop = self._loop
        assert loop is not None  # noqa: S101 - _get_session has set it

        timeout = AttemptTimeout(self._timer, loop, request.connect_timeout, request.deadline)
        body = OneShotPayload(request.body or b"", marker, timeout, request.read_timeout, request.may_send)
        headers = None if request.headers is self._default_headers else self._headers_for(request)
        marker.sent = self._marker_unreliable
        response: aiohttp.ClientResponse | None = None
        chunks: list[bytes] = []
        failure: Exception | None = None
        body_error: str | None = None
        try:
            response = await session.request(request.method, request.url, data=body, headers=headers, **self._options)
            body_error = await _read(response, chunks)
        except asyncio.CancelledError:
            if not timeout.finish():
                raise  # the caller cancelled
            failure = TimeoutError()
        except Exception as error:  # noqa: BLE001 - map_exception maps every one of them
            timeout.finish()
            failure = error
        else:
            timeout.finish()
        finally:
            body.detach()
            # A connection whose response was not read to its end must not be used again.
            if response is not None and not response.closed:
                response.close()
        if response is None:
            assert failure is not None  # noqa: S101
            return self._map_failure(failure, request, marker, expired=timeout.expired)
        if failure is not None:
            body_error = (
                "a timeout ended the read" if timeout.expired else describe_exception(failure, "while reading the body")
            )
        if not marker.sent:
            self._marker_unreliable = marker.sent = True
        self._marker_verified = True
        return HttpResponse(
            status=response.status,
            headers=response.headers,
            body=b"".join(chunks),
            body_error=body_error,
            timed_out=timeout.expired,
            body_too_long=failure is None and body_error is not None,
        )

    def _map_failure(self, failure: Exception, request: HttpRequest, marker: SendMarker, *, expired: bool) -> HPPError:
        now = asyncio.get_running_loop().time()
        return map_exception(
            failure,
            sent=marker.sent or (expired and not self._marker_verified),
            expired=_timeout_kind(request.deadline, now, sent=marker.sent) if expired else None,
            host=request.url.host or "",
            unknown_outcome_advice=request.unknown_outcome_advice,
        )

    def _headers_for(self, request: HttpRequest) -> "Mapping[str, str]":
        """Return the headers, with the proxy's own for plain http; for https they go into CONNECT."""
        if request.url.scheme == "https" or self._proxy_authorization is None:
            return request.headers
        return {**request.headers, "Proxy-Authorization": self._proxy_authorization}


_LEASE_LOST = "the lease on this call ended before the request was sent: nothing was sent. Claim it again"
_FORKED = (
    "the client was used before the process forked, and processes cannot share connections. Create one client for each "
    "process, after the fork"
)
_OTHER_LOOP = (
    "the client belongs to another event loop. Create one client for each loop, and keep the loop (asyncio.run creates a "
    "new one each time), or use SyncHPPClient"
)


def _timeout_kind(deadline: float | None, now: float, *, sent: bool) -> str:
    if deadline is not None and now >= deadline:
        return "deadline"
    return "read timeout" if sent else "connect timeout"


async def _read(response: aiohttp.ClientResponse, chunks: list[bytes]) -> str | None:
    """Read the body into chunks, up to the limit; return why it is incomplete, or None."""
    size = 0
    read = response.content.readany
    while chunk := await read():
        size += len(chunk)
        if size > MAX_RESPONSE_BODY:
            chunks.append(chunk[: MAX_RESPONSE_BODY - size])
            return f"longer than {MAX_RESPONSE_BODY:,} bytes"
        chunks.append(chunk)
    return None


def _max_in_flight(pool: Pool, session: aiohttp.ClientSession | None) -> int:
    """Return how many attempts may be in flight: the pool's connections, or fewer if a borrowed session has fewer."""
    connector = session.connector if session is not None else None
    limits = [connector.limit, connector.limit_per_host] if connector is not None else []
    return min([pool.connections, *(limit for limit in limits if limit)])


def _check_borrowed(session: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """Check that a borrowed session does not change the requests."""
    if not isinstance(session, aiohttp.ClientSession):
        raise ConfigError(f"http_session must be an aiohttp.ClientSession, got a {type(session).__name__}")
    if session.auth is not None:
        raise ConfigError(
            "http_session has auth=, which would replace the API's Authorization. Use a session without it"
        )
    if session.trust_env:
        raise ConfigError(
            "http_session has trust_env=True, so .netrc could replace the API's Authorization. Use a session without it, and "
            "give the client trust_env=True for the proxy of the environment"
        )
    if not isinstance(session.connector, GuardedConnector):
        _log.warning(
            "http_session does not check idle connections, so unread data may become the response for another order. Make "
            "its connector with kustom_hpp.guarded_connector()"
        )
    if not isinstance(session.cookie_jar, aiohttp.DummyCookieJar):
        _log.warning(
            "http_session stores cookies and sends them back to the API. Create it with "
            "cookie_jar=aiohttp.DummyCookieJar()"
        )
    return session


def _split_proxy(proxy: Secret | None) -> tuple[URL | None, Secret | None]:
    """Return the proxy's URL without its password, and a header with it: the repr of a URL shows the password."""
    if proxy is None:
        return None, None
    url = URL(proxy)
    if url.raw_user is None and url.raw_password is None:
        return url, None
    credentials = Secret(f"{unquote(url.raw_user or '')}:{unquote(url.raw_password or '')}")
    header = Secret("Basic " + base64.b64encode(credentials.encode()).decode())
    return url.with_user(None), header
