"""One request of the API: its body, its credentials, its refusal."""

import asyncio
import base64
import contextlib
from hmac import compare_digest
from typing import Any

from aiohttp import HttpVersion11, web
from attrs import define, field, frozen

from kustom_hpp.models import MAX_BODY
from kustom_hpp.sandbox.http import raw_response
from kustom_hpp.sandbox.http.connection import Connection
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.record import MAX_RAW_BYTES, RecordedRequest
from kustom_hpp.sandbox.stored_session import StoredSession

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
        """Return True for `Basic` with the key, or with base64 of `username:key` or `:key`."""
        scheme, _, text = (header or "").partition(" ")
        sent, key = text.strip().encode("utf-8", "surrogateescape"), self.api_key.encode()
        forms = key, base64.b64encode(self.username.encode() + b":" + key), base64.b64encode(b":" + key)
        matches = [compare_digest(sent, form) for form in forms]  # with all three, each in constant time
        return any(matches) and scheme.lower() == "basic"

    def check(self, header: str | None) -> None:
        """Raise a 401 that says which part of the Authorization header is wrong, unless it matches."""
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
    """One request while the sandbox serves it."""

    request: web.Request
    connection: Connection
    recorded: RecordedRequest
    session: StoredSession | None = None
    """The session that it created or is about, once it is processed."""

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

    @property
    def connection_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers by which a response says what happens to the connection (RFC 9112, section 9.3)."""
        if not self.request.keep_alive:
            return (("Connection", "close"),)
        return () if self.request.version >= HttpVersion11 else (("Connection", "keep-alive"),)

    def response(self, status: int, value: dict[str, Any] | None = None) -> RawResponse:
        """Return a JSON response to the request; without a value, a 204."""
        return raw_response.of_value(status, value, self.recorded.correlation_id)

    def record_response(self, data: bytes) -> None:
        """Record bytes of the response, as far as the record has space for them."""
        self.recorded.response += data[: MAX_RAW_BYTES - len(self.recorded.response)]


async def discard_body(request: web.Request) -> None:
    """Read the rest of a body and drop it, for a few seconds at most."""
    with contextlib.suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
        async with asyncio.timeout(_LINGER):
            while not request.content.at_eof():
                await request.content.readany()
