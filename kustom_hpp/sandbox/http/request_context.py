"""One request of the API: its body, credentials, refusal and response."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any

from aiohttp import HttpVersion11, web
from attrs import define, field, frozen

from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.models.fields import MAX_BODY
from kustom_hpp.sandbox.http import raw_response
from kustom_hpp.sandbox.http.connection import Connection
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.record import MAX_RAW_BYTES, RecordedRequest
from kustom_hpp.sandbox.stored_session import StoredSession, new_session

SessionJson = Callable[[StoredSession, str], dict[str, Any]]
"""Returns the body of a response for a session and the base URL."""
_UNRELATED = CreateSessionRequest(payment_session_url="https://unrelated.invalid/checkout/v3/orders/unrelated")
_LINGER = 5.0
"""Seconds until the connection of a refused request is closed, if its body does not end."""


class ApiRefusal(Exception):  # noqa: N818 - words: a refusal is the API's response, not an error of the sandbox
    """A request that the API refuses."""

    def __init__(self, status: int, code: str, *messages: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, code, messages)
        self.status = status
        self.code = code
        self.messages = list(messages)
        self.headers = headers

    def response(self, correlation_id: str) -> RawResponse:
        """Return the API's response."""
        return raw_response.error(self.status, self.code, self.messages, correlation_id).with_headers(*self.headers)


class AlreadyWritten(web.StreamResponse):
    """Tells aiohttp that the response is already sent, or that there is none."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keeps = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        """False if aiohttp must close the connection."""
        return self._keeps

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing."""

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Do nothing."""


@frozen(kw_only=True)
class Credentials:
    """The accepted Authorization. Source: docs.kustom.co, authentication."""

    username: str
    api_key: str = field(repr=False)

    def matches(self, header: str | None) -> bool:
        """Return True for `Basic` with the key or base64 of `[username]:key`."""
        scheme, _, text = (header or "").partition(" ")
        sent, key = text.strip().encode("utf-8", "surrogateescape"), self.api_key.encode()
        forms = key, base64.b64encode(self.username.encode() + b":" + key), base64.b64encode(b":" + key)
        matches = [compare_digest(sent, form) for form in forms]  # with all three, each in constant time
        return any(matches) and scheme.lower() == "basic"

    def check(self, header: str | None) -> None:
        """Raise a 401 that says what is wrong, unless the header matches."""
        if not self.matches(header):
            raise ApiRefusal(401, "UNAUTHORIZED", self._problem(header or ""))

    def _problem(self, header: str) -> str:
        scheme, _, text = header.partition(" ")
        if not header:
            return f"the Authorization header is missing: send Basic with base64 of {self.username}:<key>"
        if scheme.lower() != "basic":
            return "the scheme of Authorization must be Basic"
        try:
            pair = base64.b64decode(text.strip(), validate=True)
        except ValueError:
            pair = b""
        username, colon, key = pair.partition(b":")
        if not colon:
            return f"the key is wrong, or not base64 of {self.username}:<key>"
        if not compare_digest(key, self.api_key.encode()):
            return "the key is wrong: the sandbox shows its key when it starts"
        return f"the username is wrong, got text of {len(username)} bytes: use {self.username}, or none"


@define(kw_only=True, eq=False)
class RequestContext:
    """One request while an endpoint or a fault serves it."""

    request: web.Request
    connection: Connection
    """The connection as the client sees it."""
    recorded: RecordedRequest
    """Its headers and, once it is read, its body."""
    base_url: str
    """What the URLs in its response begin with."""
    sink: Callable[[], Awaitable[str]]
    """Returns the base URL of the sink, and opens it if necessary."""
    show: SessionJson = lambda session, _: session.read_json()
    """Returns the body of its response, or what it could be."""
    session: StoredSession | None = None
    """The session that it created or is about, once it is processed."""
    healthy: RawResponse | None = None
    """The response without a fault, once it is processed; None for a fault that does not process the request."""

    async def read(self) -> bytes:
        """Return the body.

        Raises:
            ApiRefusal: it is too large.
            ConnectionResetError: the peer left.

        """
        if self.recorded.complete:
            return self.recorded.body
        content, size = self.request.content, 0
        parts: list[bytes] = []
        try:
            while size <= MAX_BODY:
                parts.append(await content.readany())
                size += len(parts[-1])
                if content.at_eof():
                    break
        except web.RequestPayloadError as error:
            raise ApiRefusal(400, "BAD_VALUE", f"the body cannot be read: {error}") from None
        finally:
            self.recorded.body = b"".join(parts)[:MAX_BODY]
        if size > MAX_BODY:
            raise ApiRefusal(413, "REQUEST_TOO_LARGE", f"the body is larger than {MAX_BODY:,} bytes")
        self.recorded.complete = True
        return self.recorded.body

    def response(self, status: int, value: dict[str, Any] | None = None) -> RawResponse:
        """Return a JSON response to the request; without a value, a 204."""
        return raw_response.of_value(status, value, self.recorded.correlation_id)

    def record_response(self, data: bytes) -> None:
        """Record bytes of the response, as far as the record has space for them."""
        self.recorded.response += data[: MAX_RAW_BYTES - len(self.recorded.response)]

    @property
    def session_json(self) -> dict[str, Any]:
        """The session of the request in JSON; empty before it is processed."""
        if self.healthy is None or self.session is None:
            return {}
        body: dict[str, Any] = json.loads(self.healthy.body or b"{}")
        return body or self.show(self.session, self.base_url)

    def unrelated_session(self) -> dict[str, Any]:
        """Return the same for a session that is not stored."""
        return self.show(new_session(_UNRELATED, dt.datetime.now(dt.UTC)), self.base_url)

    def healthy_response(self) -> RawResponse:
        """Return the response without a fault, if the request was processed."""
        assert self.healthy is not None  # noqa: S101 - for the type checker
        return self._with_connection(self.healthy)

    def response_with_body(self) -> RawResponse:
        """Return the healthy response, or a 200 with the session for a 204.

        A client treats every 2xx as success. Source: docs.klarna.com, escalation and retry policy.
        """
        healthy = self.healthy_response()
        if healthy.body:
            return healthy
        return self._with_connection(raw_response.of_value(200, self.session_json, self.recorded.correlation_id))

    def error(self, status: int, message: str = "injected by a fault") -> RawResponse:
        """Return an error response in the API's shape."""
        code = raw_response.error_code(status)
        return self._with_connection(raw_response.error(status, code, [message], self.recorded.correlation_id))

    async def send(self, data: RawResponse | bytes) -> None:
        """Write a response or bytes, and record a response's status."""
        if isinstance(data, RawResponse):
            self.recorded.status = data.status
            data = self._with_connection(data).encode()
        self.record_response(data)
        await self.connection.send(data)

    def _with_connection(self, response: RawResponse) -> RawResponse:
        """Return a response that says close or keep-alive (RFC 9112, 9.3)."""
        if any(name.lower() == "connection" for name, _ in response.headers):
            return response
        if not self.request.keep_alive:
            return response.with_headers(("Connection", "close"))
        return (
            response if self.request.version >= HttpVersion11 else response.with_headers(("Connection", "keep-alive"))
        )


async def discard_body(request: web.Request) -> None:
    """Read the rest of a body and drop it, for a few seconds at most."""
    with contextlib.suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
        async with asyncio.timeout(_LINGER):
            while not request.content.at_eof():
                await request.content.readany()
