"""Every request from its head to its response, with faults in between.

A request of the API, in order: its head arrives; the fault rules are checked; the body is read; credentials, JSON and every
field are checked; the request is processed and recorded; the response is sent. A fault that processes the request runs after
processing, and only if the request is valid: a refused one gets its refusal. `endpoints` processes the requests.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from attrs import define, field, frozen

from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.sandbox.faults import ConnectionAction, Fault, Stage
from kustom_hpp.sandbox.faults.rules import CREATE, FaultRules
from kustom_hpp.sandbox.http.connection import Connection
from kustom_hpp.sandbox.http.listener import WILDCARD_HOSTS
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.http.request_context import (
    AlreadyWritten,
    ApiRefusal,
    Credentials,
    RequestContext,
    SessionJson,
    discard_body,
)
from kustom_hpp.sandbox.limits import Latency, TokenBucket
from kustom_hpp.sandbox.record import Record, payment_session_url
from kustom_hpp.sandbox.state import SandboxState
from kustom_hpp.sandbox.status_callbacks import CallbackSender
from kustom_hpp.sandbox.stored_session import SessionClosedError, new_id

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@frozen
class Endpoint:
    """One operation of the API."""

    name: str
    """The name of the client's method, which `FaultRules.add(operation=...)` and the record use."""
    method: str
    path: str
    """Below the base URL; `{session_id}` is a placeholder."""
    do: Callable[["Server", RequestContext], RawResponse]
    """Processes the request and returns the healthy response. The server turns an ApiRefusal, an InvalidRequestError and a
    SessionClosedError into a refusal. It does not await, so that nothing happens between a check and its effect."""
    show: SessionJson = lambda session, _: session.read_json()
    """Returns the body of the response, or what it could be."""
    meets_faults: bool = True
    """False for an endpoint that is not part of the HPP API."""


_API_PATHS = ("/hpp/", "/checkout/", "/payments/")
_CONTEXT = web.RequestKey("context", RequestContext)


@define(kw_only=True, eq=False)
class Server:
    """Serves requests, with faults in between, on a state and a record."""

    credentials: Credentials
    state: SandboxState
    record: Record
    rules: FaultRules
    callbacks: CallbackSender
    open_sink: Callable[[], Awaitable[str]]
    rate_limit: TokenBucket | None
    latency: Latency | None
    strict: bool
    """False accepts enum values in another case."""
    host: str
    """The address on which it listens."""
    public_url: str | None
    """What the URLs in responses begin with, if that is not the base URL."""
    base_url: str = ""
    endpoints: list[str] = field(factory=list)
    """Method and path of everything that the API serves."""
    handlers: set[asyncio.Task[Any]] = field(factory=set)
    """The tasks of API requests in flight."""
    page_tasks: set[asyncio.Task[Any]] = field(factory=set)
    """The tasks of page requests in flight. Some last as long as their browser window."""

    def base_url_for(self, request: web.Request) -> str:
        """Return what the URLs in a response begin with.

        A sandbox that listens on every address uses the host of the request, unless it has a public URL.
        """
        if self.public_url is not None:
            return self.public_url
        return f"{request.scheme}://{request.host}" if self.host in WILDCARD_HOSTS else self.base_url

    def handler(self, endpoint: Endpoint) -> Handler:
        """Return the aiohttp handler of an endpoint."""
        self.endpoints.append(f"{endpoint.method} {endpoint.path}")

        async def serve(request: web.Request) -> web.StreamResponse:
            context = request[_CONTEXT]
            context.recorded.operation, context.show = endpoint.name, endpoint.show
            if self.rules.rules and endpoint.meets_faults:
                match = self.rules.for_request(await self._url_of(context), endpoint.name)
                if match is not None:
                    rule, fault = match
                    context.recorded.rule = f"rule {rule.number}: {rule.when}"
                    return await self._respond_with_fault(context, endpoint, fault)
            healthy = await self._process(context, endpoint)
            await self._apply_latency(context)
            return self._response(context, healthy)

        return serve

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve the API for its paths, the sink and unknown paths, else pages.

        Every request to the API is recorded, and its errors have the API's shape, also a 404 or 405 for an unknown path.
        """
        connection = connection_of(request)
        if connection.recorded.port == "sink":
            handler = self._at_sink
        elif is_page(request):
            return await self._serve_page(request, handler)
        task = current_task()
        recorded = self.record.add_request(connection.recorded, request.method, request.raw_path, request.raw_headers)
        recorded.correlation_id, recorded.received_at = new_id(), self.state.clock.now()
        base_url, sink = self.base_url_for(request), self.open_sink
        context = RequestContext(
            request=request, connection=connection, recorded=recorded, base_url=base_url, sink=sink
        )
        request[_CONTEXT] = context
        self.handlers.add(task)
        try:
            try:
                return await handler(request)
            except (ApiRefusal, web.HTTPException) as refused:
                return await self._refuse(context, refused)
        except ConnectionError:
            return AlreadyWritten(keep_alive=False)
        finally:
            recorded.done = True
            self.handlers.discard(task)
            self.record.notify()

    async def _at_sink(self, request: web.Request) -> web.StreamResponse:
        context = request[_CONTEXT]
        await context.read()
        return self._refusal(context, ApiRefusal(418, "SINK", "no client should call this port"))

    async def _serve_page(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = current_task()
        self.page_tasks.add(task)
        try:
            return await handler(request)
        finally:
            self.page_tasks.discard(task)
            self.record.notify()

    async def _refuse(self, context: RequestContext, refused: ApiRefusal | web.HTTPException) -> web.StreamResponse:
        if isinstance(refused, web.HTTPException):
            refused = await self._no_such_route(context, refused)
        await self._apply_latency(context)
        return await respond_and_drain(context.request, self._refusal(context, refused))

    async def _no_such_route(self, context: RequestContext, refused: web.HTTPException) -> ApiRefusal:
        try:
            await context.read()
            self.credentials.check(context.request.headers.get("Authorization"))
        except ApiRefusal as earlier:
            return earlier
        code = refused.reason.upper().replace(" ", "_")
        if allow := refused.headers.get("Allow"):
            return ApiRefusal(refused.status, code, f"this path takes {allow} only", headers=(("Allow", allow),))
        return ApiRefusal(
            refused.status, code, f"the sandbox does not serve this path. It serves {', '.join(self.endpoints)}"
        )

    async def _apply_latency(self, context: RequestContext) -> None:
        """Wait. The request is processed, even if the peer leaves meanwhile."""
        if self.latency is not None:
            await context.connection.pause(self.latency.delay_for(context.recorded.number))

    async def _url_of(self, context: RequestContext) -> str | None:
        """Return a request's payment session, if it has one and a rule asks."""
        if not self.rules.asks_for_url:
            return None
        session_id = context.request.match_info.get("session_id")
        if session_id is None:
            await context.read()
            return payment_session_url(context.recorded.body) if context.recorded.complete else None
        session = self.state.sessions.get(session_id)
        return None if session is None else session.payment_session_url

    async def _process(self, context: RequestContext, endpoint: Endpoint) -> RawResponse:
        """Process a request and return the healthy response."""
        await context.read()
        self.credentials.check(context.request.headers.get("Authorization"))
        try:
            context.healthy = endpoint.do(self, context)
        except SessionClosedError as closed:
            raise ApiRefusal(400, closed.code, str(closed)) from None
        except InvalidRequestError as error:
            raise ApiRefusal(400, "BAD_VALUE", *map(": ".join, error.problems)) from None
        context.recorded.processed = True
        return context.healthy

    async def _respond_with_fault(
        self, context: RequestContext, endpoint: Endpoint, fault: Fault
    ) -> web.StreamResponse:
        context.recorded.fault = fault
        if fault.stage is Stage.REQUEST:
            await context.read()
        if fault.processes_request:
            await self._process(context, endpoint)
        if fault.stage is Stage.REQUEST:
            await self._apply_latency(context)
        if context.session is not None:
            self.state.record_event(context.session, "fault", f"{endpoint.name} got {fault}")
        action = await fault.type.apply(context, fault.args)
        return AlreadyWritten(keep_alive=action is ConnectionAction.KEEP and bool(context.request.keep_alive))

    def _refusal(self, context: RequestContext, refused: ApiRefusal) -> web.Response:
        what = refused.response(context.recorded.correlation_id)
        context.record_response(what.encode())
        return self._response(context, what)

    def _response(self, context: RequestContext, what: RawResponse) -> web.Response:
        context.recorded.status = what.status
        if self.rate_limit is not None and context.recorded.operation == CREATE:
            what = what.with_headers(*self.rate_limit.headers(what.status))
        return what.for_aiohttp()


async def respond_and_drain(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Send a response, then read and discard the rest of the request's body.

    Closing a connection with unread bytes sends RST, which may destroy the response on its way.
    """
    if request.content.is_eof():
        return response
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    await discard_body(request)
    return response


def connection_of(request: web.Request) -> Connection:
    """Return the connection of a request."""
    connection: Connection = request.protocol.connection  # type: ignore[attr-defined]
    return connection


def current_task() -> asyncio.Task[Any]:
    """Return the task that serves this request."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker
    return task


def is_page(request: web.Request) -> bool:
    """Return True for a page: without credentials, record and faults."""
    resource = request.match_info.route.resource
    return resource is not None and not resource.canonical.startswith(_API_PATHS)
