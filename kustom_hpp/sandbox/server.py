"""The HTTP side: authentication, routes, and the answers of a healthy API; faults step in between.

What a create goes through: its head comes in; the script is asked; the body is read; credentials, JSON, every field are
judged; the quota has its say, and the payment session; the session is made and written down; the answer goes out. A fault
that commits bites after the session was made, and only on a request that a healthy API would have taken: a refused one
gets its refusal.
"""

import asyncio
import base64
import hmac
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from attrs import define, field, frozen

from kustom_hpp._codec import codec
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import MAX_BODY
from kustom_hpp.sandbox import answer
from kustom_hpp.sandbox.answer import Answer
from kustom_hpp.sandbox.connection import Link
from kustom_hpp.sandbox.faults import Call, Fault, Stage, Then
from kustom_hpp.sandbox.quota import Bucket
from kustom_hpp.sandbox.record import CREATE_PATH, Record, RequestSeen, payment_session_url
from kustom_hpp.sandbox.script import Script
from kustom_hpp.sandbox.sessions import new_session
from kustom_hpp.sandbox.state import State

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LINGER = 5.0
"""Seconds that a refused body may take until its connection is closed."""


class RefusedError(Exception):
    """What a healthy API says no to."""

    def __init__(self, status: int, code: str, *messages: str) -> None:
        super().__init__(status, code, messages)
        self.status = status
        self.code = code
        self.messages = list(messages)


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


_EXCHANGE = web.RequestKey("exchange", Exchange)


class Server:
    """The API: handlers over a state and a record, with faults in between."""

    def __init__(
        self, *, credentials: Credentials, state: State, record: Record, script: Script, quota: Bucket | None = None
    ) -> None:
        self.credentials = credentials
        self.quota = quota
        self.state = state
        self.record = record
        self.script = script
        self.base_url = ""
        self.open_sink: Callable[[], Awaitable[str]]
        self.handlers: set[asyncio.Task[Any]] = set()
        """Requests of the API that are being served."""
        self.guests: set[asyncio.Task[Any]] = set()
        """Requests of pages that are being served: some of them last as long as their browser window."""

    def app(self) -> web.Application:
        """The routes of the API. Whatever is no route gets a 404 or 405 in the API's error shape."""
        app = web.Application(middlewares=[self._around])
        app.router.add_post(CREATE_PATH, self._create)
        return app

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the API serve what is below /hpp/, at the sink, and no route at all; the rest is for pages."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        link: Link = request.protocol.link  # type: ignore[attr-defined]
        for_page = is_page(request) and link.seen.port != "sink"
        tasks = self.guests if for_page else self.handlers
        tasks.add(task)
        try:
            return await (handler(request) if for_page else self._serve(request, handler, link))
        finally:
            tasks.discard(task)
            self.record.changed()

    async def _serve(self, request: web.Request, handler: Handler, link: Link) -> web.StreamResponse:
        """Write the request down, and turn what goes wrong into answers in the API's shape."""
        seen = self.record.request(link.seen, request.method, request.raw_path, request.raw_headers)
        exchange = Exchange(request=request, link=link, seen=seen, correlation_id=str(uuid.uuid4()))
        seen.correlation_id = exchange.correlation_id
        request[_EXCHANGE] = exchange
        try:
            return await self._answer(exchange, request, handler)
        except ConnectionError:
            return Written(Then.CLOSE)
        finally:
            seen.done = True

    async def _answer(self, exchange: Exchange, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if seen_at_sink(exchange):
                await exchange.read()
                return self._refusal(exchange, RefusedError(418, "SINK", "nothing should ever come here"))
            return await handler(request)
        except RefusedError as refused:
            response = self._refusal(exchange, refused)
        except web.HTTPException as refused:
            response = self._refusal(exchange, await self._no_such_route(exchange, refused))
        if exchange.request.content.at_eof():
            return response
        # Closing with unread bytes would send RST, and that may destroy the answer on its way: answer first, then let
        # the rest of the body run out.
        response.force_close()
        await response.prepare(request)
        await response.write_eof()
        await exchange.discard()
        return Written(Then.CLOSE)

    async def _no_such_route(self, exchange: Exchange, refused: web.HTTPException) -> RefusedError:
        try:
            await exchange.read()
        except RefusedError as too_big:
            return too_big
        if not self.credentials.fit(exchange.seen.header("authorization")):
            return self._unauthorized()
        return RefusedError(refused.status, refused.reason.upper().replace(" ", "_"), refused.reason)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        exchange = request[_EXCHANGE]
        if self.script.asks_for_url:
            await exchange.read()
        url = payment_session_url(exchange.seen.body) if exchange.seen.complete else None
        fault = self.script.for_request(url)
        if fault is not None:
            return await self._faulty(exchange, fault)
        return self._response(exchange, answer.created(await self._commit(exchange), exchange.correlation_id))

    async def _commit(self, exchange: Exchange) -> dict[str, Any]:
        """Do the work; the session as it is answered."""
        body = await exchange.read()
        if not self.credentials.fit(exchange.seen.header("authorization")):
            raise self._unauthorized()
        try:
            asked = codec().decode_request(body)
        except InvalidRequestError as error:
            problems = [f"{path}: {sentence}" for path, sentence in error.problems]
            raise RefusedError(400, "BAD_VALUE", *problems) from None
        # Last of all, and with no await until the session is written down: the record is as exact as the bucket.
        if self.quota is not None and not self.quota.take():
            raise RefusedError(429, "TOO_MANY_REQUESTS", "the merchant's quota is used up")
        session = self.state.create(asked)
        if session is None:
            raise RefusedError(404, "NOT_FOUND", "the payment session has expired or is completed: make a new one")
        wire = session.wire(self.base_url)
        self.record.session(exchange.seen, session.session_id, asked.payment_session_url, wire["redirect_url"])
        return wire

    async def _faulty(self, exchange: Exchange, fault: Fault) -> web.StreamResponse:
        seen, link = exchange.seen, exchange.link
        seen.fault = fault
        if fault.stage is Stage.REQUEST:
            await exchange.read()
        session = await self._commit(exchange) if fault.commits else None
        call = Call(
            link=link,
            body=seen.body,
            headers=seen.headers,
            correlation_id=exchange.correlation_id,
            session=session,
            stray=self._stray,
            base_url=self.base_url,
            sink=self.open_sink,
            discard=exchange.discard,
            answered=exchange.answered,
        )
        return Written(await fault.kind.play(call, fault.args))

    def _stray(self) -> dict[str, Any]:
        """An answer that nobody asked for: a session that was never made."""
        request = codec().request_from({"payment_session_url": "https://stray.invalid/checkout/v3/orders/stray"})
        return new_session(request, self.state.clock.now()).wire(self.base_url)

    def _unauthorized(self) -> RefusedError:
        return RefusedError(401, "UNAUTHORIZED", "the credentials are missing or wrong")

    def _refusal(self, exchange: Exchange, refused: RefusedError) -> web.Response:
        return self._response(
            exchange, answer.error(refused.status, refused.code, refused.messages, exchange.correlation_id)
        )

    def _response(self, exchange: Exchange, what: Answer) -> web.Response:
        exchange.answered(what.status)
        if self.quota is not None:
            what = what.with_headers(*self.quota.headers(what.status))
        return web.Response(status=what.status, reason=what.reason, headers=dict(what.headers), body=what.body)


def seen_at_sink(exchange: Exchange) -> bool:
    """True for a request that came in at the sink."""
    return exchange.link.seen.port == "sink"


def is_page(request: web.Request) -> bool:
    """True where the request's route is none of the API's: no credentials, no record, no faults."""
    resource = request.match_info.route.resource
    return resource is not None and not resource.canonical.startswith("/hpp/")
