"""The HTTP side: every request on its way from its head to its answer, with faults in between.

What a request of the API goes through: its head comes in; the script is asked; the body is read; credentials, JSON, every
field are judged; the work is done and written down; the answer goes out. A fault that commits bites after the work was done,
and only on a request that a healthy API would have taken: a refused one gets its refusal. What the work is stands in `api`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from attrs import frozen
from multidict import CIMultiDict

from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.sandbox.faults import Call, Fault, Stage, Then
from kustom_hpp.sandbox.faults.rules import CREATE, Script
from kustom_hpp.sandbox.http import raw_response as answer
from kustom_hpp.sandbox.http.connection import Link
from kustom_hpp.sandbox.http.raw_response import Answer
from kustom_hpp.sandbox.http.request_context import Credentials, Exchange, RefusedError, Written
from kustom_hpp.sandbox.latency import Latency
from kustom_hpp.sandbox.limits import Bucket
from kustom_hpp.sandbox.record import Record
from kustom_hpp.sandbox.recorded import payment_session_url
from kustom_hpp.sandbox.state import State
from kustom_hpp.sandbox.stored_session import StoredSession, new_id, new_session

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@frozen(kw_only=True)
class Endpoint:
    """One operation of the API."""

    name: str
    """As the client's method is called; `Script.add(operation=...)` and the record name it so."""
    method: str
    path: str
    """Below the base URL, with `{session_id}` where it has one."""
    do: Callable[["Server", Exchange], Answer]
    """Does the work, and gives the healthy answer. It does not wait, so that nothing comes between a judgement and its
    work. It raises RefusedError."""
    show: Callable[[StoredSession, str], dict[str, Any]]
    """The session and the base URL as JSON: what the answer's body is, or could be."""


_EXCHANGE = web.RequestKey("exchange", Exchange)


class Server:
    """Requests over a state and a record, with faults in between."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        state: State,
        record: Record,
        script: Script,
        quota: Bucket | None = None,
        latency: Latency | None = None,
    ) -> None:
        self.credentials = credentials
        self.quota = quota
        self.latency = latency
        self.state = state
        self.record = record
        self.script = script
        self.base_url = ""
        self.is_everywhere = False
        """True where it listens on every address of the machine."""
        self.open_sink: Callable[[], Awaitable[str]]
        self.repeat_callback: Callable[[StoredSession], None]
        """Sends the newest status callback of a session again."""
        self.handlers: set[asyncio.Task[Any]] = set()
        """Requests of the API that are being served."""
        self.guests: set[asyncio.Task[Any]] = set()
        """Requests of pages that are being served: some of them last as long as their browser window."""

    def base_url_for(self, request: web.Request) -> str:
        """What the URLs in an answer begin with: where it listens everywhere, the name by which the client called it."""
        return f"{request.scheme}://{request.host}" if self.is_everywhere else self.base_url

    def app(self) -> web.Application:
        """An application without routes. Whatever is no route gets a 404 or 405 in the API's error shape."""
        return web.Application(middlewares=[self._around])

    def handler(self, endpoint: Endpoint) -> Handler:
        """What serves an endpoint."""

        async def serve(request: web.Request) -> web.StreamResponse:
            exchange = request[_EXCHANGE]
            exchange.seen.operation = endpoint.name
            if self.script.rules:
                match = self.script.for_request(await self._url_of(exchange), endpoint.name)
                if match is not None:
                    rule, fault = match
                    exchange.seen.rule = f"rule {rule.number}: {rule.when}"
                    return await self._faulty(exchange, endpoint, fault)
            healthy = await self._commit(exchange, endpoint)
            if self.latency is not None:
                await self._keep_back(exchange)
            return self._response(exchange, healthy)

        return serve

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the API serve what is below /hpp/, at the sink, and no route at all; the rest is for pages.

        Whatever comes to the API is written down, and what goes wrong there is answered in its shape.
        """
        link = link_of(request)
        if link.seen.port == "sink":
            handler = self._at_sink
        elif is_page(request):
            return await self._guest(request, handler)
        task = current_task()
        seen = self.record.request(link.seen, request.method, request.raw_path, request.raw_headers)
        seen.correlation_id, seen.received_at = new_id(), self.state.clock.now()
        exchange = request[_EXCHANGE] = Exchange(request=request, link=link, seen=seen)
        self.handlers.add(task)
        try:
            return await handler(request)
        except (RefusedError, web.HTTPException) as refused:
            return await self._refuse(exchange, refused)
        except ConnectionError:
            return Written(Then.CLOSE)
        finally:
            seen.done = True
            self.handlers.discard(task)
            self.record.changed()

    async def _at_sink(self, request: web.Request) -> web.StreamResponse:
        exchange = request[_EXCHANGE]
        await exchange.read()
        return self._refusal(exchange, RefusedError(418, "SINK", "nothing should ever come here"))

    async def _guest(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = current_task()
        self.guests.add(task)
        try:
            return await handler(request)
        finally:
            self.guests.discard(task)
            self.record.changed()

    async def _refuse(self, exchange: Exchange, refused: RefusedError | web.HTTPException) -> web.StreamResponse:
        try:
            if isinstance(refused, web.HTTPException):
                refused = await self._no_such_route(exchange, refused)
            await self._keep_back(exchange)
            response = self._refusal(exchange, refused)
            if exchange.request.content.at_eof():
                return response
            # Closing with unread bytes would send RST, and that may destroy the answer on its way: answer first, then let
            # the rest of the body run out.
            response.force_close()
            await response.prepare(exchange.request)
            await response.write_eof()
            await exchange.discard()
        except ConnectionError:
            pass
        return Written(Then.CLOSE)

    async def _no_such_route(self, exchange: Exchange, refused: web.HTTPException) -> RefusedError:
        try:
            await exchange.read()
        except RefusedError as too_big:
            return too_big
        if not self.credentials.fit(exchange.request.headers.get("Authorization")):
            return self._unauthorized()
        code = refused.reason.upper().replace(" ", "_")
        allow = refused.headers.get("Allow")
        return RefusedError(refused.status, code, refused.reason, headers=(("Allow", allow),) if allow else ())

    async def _keep_back(self, exchange: Exchange) -> None:
        """Wait as long as the latency says. What was judged and done stays so, also where the peer leaves meanwhile."""
        if self.latency is not None:
            await exchange.link.pause(self.latency.of(exchange.seen.number))

    async def _url_of(self, exchange: Exchange) -> str | None:
        """The payment session that a request is about; None where nobody needs to know, or it tells none."""
        if not self.script.asks_for_url:
            return None
        session_id = exchange.request.match_info.get("session_id")
        if session_id is None:
            await exchange.read()
            return payment_session_url(exchange.seen.body) if exchange.seen.complete else None
        session = self.state.sessions.get(session_id)
        return None if session is None else session.payment_session_url

    async def _commit(self, exchange: Exchange, endpoint: Endpoint) -> Answer:
        """Do the work; the healthy answer."""
        await exchange.read()
        if not self.credentials.fit(exchange.request.headers.get("Authorization")):
            raise self._unauthorized()
        healthy = endpoint.do(self, exchange)
        exchange.seen.processed = True
        return healthy

    async def _faulty(self, exchange: Exchange, endpoint: Endpoint, fault: Fault) -> web.StreamResponse:
        seen, link = exchange.seen, exchange.link
        seen.fault = fault
        if fault.stage is Stage.REQUEST:
            await exchange.read()
        healthy = await self._commit(exchange, endpoint) if fault.commits else None
        if fault.stage is Stage.REQUEST:
            await self._keep_back(exchange)
        if exchange.session is not None:
            self.state.note(exchange.session, "fault", f"{endpoint.name} met {fault}")
        base_url = self.base_url_for(exchange.request)
        call = Call(
            link=link,
            path=seen.path,
            body=seen.body,
            headers=seen.headers,
            correlation_id=exchange.seen.correlation_id,
            healthy=healthy,
            shown=self._shown(endpoint, exchange, healthy),
            stray=lambda: endpoint.show(self._stray(), base_url),
            base_url=base_url,
            sink=self.open_sink,
            discard=exchange.discard,
            answered=exchange.answered,
            record_response=exchange.record_response,
        )
        return Written(await fault.kind.play(call, fault.args))

    def _shown(self, endpoint: Endpoint, exchange: Exchange, healthy: Answer | None) -> dict[str, Any]:
        if healthy is None or exchange.session is None:
            return {}
        if healthy.body:
            body: dict[str, Any] = json.loads(healthy.body)
            return body
        return endpoint.show(exchange.session, self.base_url_for(exchange.request))

    def _stray(self) -> StoredSession:
        """A session that was never made."""
        request = CreateSessionRequest(payment_session_url="https://stray.invalid/checkout/v3/orders/stray")
        return new_session(request, self.state.clock.now())

    def _unauthorized(self) -> RefusedError:
        return RefusedError(401, "UNAUTHORIZED", "the credentials are missing or wrong")

    def _refusal(self, exchange: Exchange, refused: RefusedError) -> web.Response:
        what = answer.error(refused.status, refused.code, refused.messages, exchange.seen.correlation_id)
        what = what.with_headers(*refused.headers)
        exchange.record_response(what.encode())
        return self._response(exchange, what)

    def _response(self, exchange: Exchange, what: Answer) -> web.Response:
        exchange.answered(what.status)
        if self.quota is not None and exchange.seen.operation == CREATE:
            what = what.with_headers(*self.quota.headers(what.status))
        return web.Response(
            status=what.status, reason=what.reason, headers=CIMultiDict(what.headers), body=what.body or None
        )


def link_of(request: web.Request) -> Link:
    """The connection over which a request came."""
    link: Link = request.protocol.link  # type: ignore[attr-defined]
    return link


def current_task() -> asyncio.Task[Any]:
    """The task that serves this request."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker
    return task


def is_page(request: web.Request) -> bool:
    """True where the request's route is none of the API's: no credentials, no record, no faults."""
    if request.raw_path.startswith("/hpp/"):  # nearly always; what the route says is asked for what is left
        return False
    resource = request.match_info.route.resource
    return resource is not None and not resource.canonical.startswith("/hpp/")
