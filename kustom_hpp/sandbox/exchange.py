"""One request on its way through the API: its body, who may ask, and what it is refused with."""

import asyncio
import base64
import hmac

from aiohttp import web
from attrs import define, field, frozen

from kustom_hpp.models import MAX_BODY
from kustom_hpp.sandbox.connection import Link
from kustom_hpp.sandbox.faults import Then
from kustom_hpp.sandbox.seen import RequestSeen
from kustom_hpp.sandbox.sessions import StoredSession

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


@frozen(kw_only=True)
class Credentials:
    """What the sandbox takes as Authorization. Source: docs.kustom.co, authentication."""

    username: str
    api_key: str = field(repr=False)

    def fit(self, header: bytes | None) -> bool:
        """True for `Basic` with the key as it is, or with base64 of `username:key` or `:key`."""
        scheme, _, given = (header or b"").partition(b" ")
        key = self.api_key.encode()
        accepted = (key, base64.b64encode(self.username.encode() + b":" + key), base64.b64encode(b":" + key))
        # All three are compared, each in constant time: which form came close is nobody's business.
        matches = [hmac.compare_digest(given.strip(), one) for one in accepted]
        return scheme.lower() == b"basic" and any(matches)


@define(kw_only=True, eq=False)
class Exchange:
    """One request on its way through the sandbox."""

    request: web.Request
    link: Link
    seen: RequestSeen
    correlation_id: str
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
        body = bytearray()
        try:
            async for data in self.request.content.iter_any():
                body += data
                if len(body) > MAX_BODY:
                    break
        except web.RequestPayloadError as error:
            raise RefusedError(400, "BAD_VALUE", f"the body cannot be read: {error}") from None
        finally:
            self.seen.body = bytes(body[:MAX_BODY])
        if len(body) > MAX_BODY:
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
