"""One request on its way through the API: its body, who may ask, and what it is refused with."""

import asyncio
import base64
from hmac import compare_digest

from aiohttp import web
from attrs import Factory, define, field, frozen

from kustom_hpp.models import MAX_BODY
from kustom_hpp.sandbox.faults import Then
from kustom_hpp.sandbox.http.connection import Link
from kustom_hpp.sandbox.recorded import RAW_CAP, RequestSeen
from kustom_hpp.sandbox.stored_session import StoredSession

_LINGER = 5.0
"""Seconds that a refused body may take until its connection is closed."""


class RefusedError(Exception):
    """What a healthy API says no to."""

    def __init__(self, status: int, code: str, *messages: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, code, messages)
        self.status = status
        self.code = code
        self.messages = list(messages)
        self.headers = headers


class Written(web.StreamResponse):
    """Tells aiohttp that the answer is on the wire already, or that there is none."""

    def __init__(self, then: Then) -> None:
        super().__init__()
        self._then = then

    @property
    def keep_alive(self) -> bool | None:
        """False where aiohttp shall close the connection."""
        return self._then is Then.KEEP

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to do."""

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Nothing is left to do."""


def _forms(username: str, api_key: str) -> tuple[bytes, bytes, bytes]:
    """How a key may be sent."""
    key = api_key.encode()
    return key, base64.b64encode(username.encode() + b":" + key), base64.b64encode(b":" + key)


@frozen(kw_only=True)
class Credentials:
    """What the sandbox takes as Authorization. Source: docs.kustom.co, authentication."""

    username: str
    api_key: str = field(repr=False)
    _accepted: tuple[bytes, bytes, bytes] = field(
        init=False,
        repr=False,
        eq=False,
        default=Factory(lambda self: _forms(self.username, self.api_key), takes_self=True),
    )

    def fit(self, header: str | None) -> bool:
        """True for `Basic` with the key as it is, or with base64 of `username:key` or `:key`."""
        scheme, _, text = (header or "").partition(" ")
        given, (key, named, nameless) = text.strip().encode("utf-8", "surrogateescape"), self._accepted
        # All three are compared, each in constant time: which form came close is nobody's business.
        fits = compare_digest(given, key) | compare_digest(given, named) | compare_digest(given, nameless)
        return fits and scheme.lower() == "basic"


@define(kw_only=True, eq=False)
class Exchange:
    """One request on its way through the sandbox."""

    request: web.Request
    link: Link
    seen: RequestSeen
    session: StoredSession | None = None
    """The session that it made or was about, once it is processed."""
    _read: bool = field(default=False, init=False)

    async def read(self) -> bytes:
        """The body.

        Raises:
            RefusedError: it is too big.
            ConnectionResetError: the peer went away.

        """
        if self._read:
            return self.seen.body
        content, size = self.request.content, 0
        parts: list[bytes] = []
        try:
            while size <= MAX_BODY:
                parts.append(await content.readany())
                size += len(parts[-1])
                if content.at_eof():
                    break
        except web.RequestPayloadError as error:
            raise RefusedError(400, "BAD_VALUE", f"the body cannot be read: {error}") from None
        finally:
            self.seen.body = b"".join(parts)[:MAX_BODY]
        if size > MAX_BODY:
            raise RefusedError(413, "REQUEST_TOO_LARGE", f"the body is larger than {MAX_BODY:,} bytes")
        self._read = self.seen.complete = True
        return self.seen.body

    async def discard(self) -> None:
        """Read what is left of the body and throw it away, for a few seconds at most."""
        try:
            async with asyncio.timeout(_LINGER):
                while not self.request.content.at_eof():
                    await self.request.content.readany()
        except (TimeoutError, ConnectionError, web.RequestPayloadError):
            self.link.close()

    def answered(self, status: int) -> None:
        """Write down what was answered."""
        self.seen.status = status

    def record_response(self, data: bytes) -> None:
        """Record bytes of the response, as far as the record has room for them."""
        self.seen.response += data[: RAW_CAP - len(self.seen.response)]
