"""The HTTP side: every request from its head to its response, with faults in between.

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
from kustom_hpp.sandbox.faults import ConnectionAction, Fault, FaultContext, Stage
from kustom_hpp.sandbox.faults.rules import CREATE, FaultRules
from kustom_hpp.sandbox.http import raw_response
from kustom_hpp.sandbox.http.connection import Connection
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.http.request_context import AlreadyWritten, ApiRefusal, Credentials, RequestContext
from kustom_hpp.sandbox.limits import Latency, TokenBucket
from kustom_hpp.sandbox.record import Record, payment_session_url
from kustom_hpp.sandbox.state import SandboxState
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
    do: Callable[["Server", RequestContext], RawResponse]
    """Does the work, and gives the healthy answer. It does not wait, so that nothing comes between a judgement and its
    work. It raises RefusedError."""
    show: Callable[[StoredSession, str], dict[str, Any]]
    """The session and the base URL as JSON: what the answer's body is, or could be."""
    meets_faults: bool = True
    """False for what is no operation of the HPP API."""


_API_PATHS = ("/hpp/", "/checkout/", "/payments/")
_CONTEXT = web.RequestKey("exchange", RequestContext)


class Server:
    """Requests over a state and a record, with faults in between."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        state: SandboxState,
        record: Record,
        rules: FaultRules,
        rate_limit: TokenBucket | None = None,
        latency: Latency | None = None,
        strict: bool = True,
    ) -> None:
        self.credentials = credentials
        self.rate_limit = rate_limit
        self.latency = latency
        self.state = state
        self.record = record
        self.rules = rules
        self.strict = strict
        """False accepts enum values in another case."""
        self.accepts_private_callbacks = False
        """True accepts status callbacks over http to private hosts."""
        self.base_url = ""
        self.public_url: str | None = None
        """What the URLs in responses begin with, if that is not the base URL."""
        self.listens_everywhere = False
        """True where it listens on every address of the machine."""
        self.open_sink: Callable[[], Awaitable[str]]
        self.repeat_callback: Callable[[StoredSession], None]
        """Sends the newest status callback of a session again."""
        self.endpoints: list[str] = []
        """Method and path of everything that the API serves."""
        self.handlers: set[asyncio.Task[Any]] = set()
        """Requests of the API that are being served."""
        self.page_tasks: set[asyncio.Task[Any]] = set()
        """Requests of pages that are being served: some of them last as long as their browser window."""

    def base_url_for(self, request: web.Request) -> str:
        """Return what the URLs in a response begin with.

        A sandbox that listens on every address uses the host of the request, unless it has a public URL.
        """
        if self.public_url is not None:
            return self.public_url
        return f"{request.scheme}://{request.host}" if self.listens_everywhere else self.base_url

    def app(self) -> web.Application:
        """An application without routes. Whatever is no route gets a 404 or 405 in the API's error shape."""
        return web.Application(middlewares=[self._handle])

    def handler(self, endpoint: Endpoint) -> Handler:
        """What serves an endpoint."""
        self.endpoints.append(f"{endpoint.method} {endpoint.path}")

        async def serve(request: web.Request) -> web.StreamResponse:
            context = request[_CONTEXT]
            context.recorded.operation = endpoint.name
            if self.rules.rules and endpoint.meets_faults:
                match = self.rules.for_request(await self._url_of(context), endpoint.name)
                if match is not None:
                    rule, fault = match
                    context.recorded.rule = f"rule {rule.number}: {rule.when}"
                    return await self._respond_with_fault(context, endpoint, fault)
            healthy = await self._process(context, endpoint)
            if self.latency is not None:
                await self._apply_latency(context)
            return self._response(context, healthy)

        return serve

    @web.middleware
    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the API serve what is below /hpp/, at the sink, and no route at all; the rest is for pages.

        Whatever comes to the API is written down, and what goes wrong there is answered in its shape.
        """
        connection = connection_of(request)
        if connection.recorded.port == "sink":
            handler = self._at_sink
        elif is_page(request):
            return await self._serve_page(request, handler)
        task = current_task()
        recorded = self.record.add_request(connection.recorded, request.method, request.raw_path, request.raw_headers)
        recorded.correlation_id, recorded.received_at = new_id(), self.state.clock.now()
        context = request[_CONTEXT] = RequestContext(request=request, connection=connection, recorded=recorded)
        self.handlers.add(task)
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
        return self._refusal(context, ApiRefusal(418, "SINK", "nothing should ever come here"))

    async def _serve_page(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = current_task()
        self.page_tasks.add(task)
        try:
            return await handler(request)
        finally:
            self.page_tasks.discard(task)
            self.record.notify()

    async def _refuse(self, context: RequestContext, refused: ApiRefusal | web.HTTPException) -> web.StreamResponse:
        try:
            if isinstance(refused, web.HTTPException):
                refused = await self._no_such_route(context, refused)
            await self._apply_latency(context)
            response = self._refusal(context, refused)
            if context.request.content.at_eof():
                return response
            # Closing with unread bytes would send RST, and that may destroy the answer on its way: answer first, then let
            # the rest of the body run out.
            response.force_close()
            await response.prepare(context.request)
            await response.write_eof()
            await context.discard()
        except ConnectionError:
            pass
        return AlreadyWritten(keep_alive=False)

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
        """Wait as long as the latency says. What was judged and done stays so, also where the peer leaves meanwhile."""
        if self.latency is not None:
            await context.connection.pause(self.latency.delay_for(context.recorded.number))

    async def _url_of(self, context: RequestContext) -> str | None:
        """The payment session that a request is about; None where nobody needs to know, or it tells none."""
        if not self.rules.asks_for_url:
            return None
        session_id = context.request.match_info.get("session_id")
        if session_id is None:
            await context.read()
            return payment_session_url(context.recorded.body) if context.recorded.complete else None
        session = self.state.sessions.get(session_id)
        return None if session is None else session.payment_session_url

    async def _process(self, context: RequestContext, endpoint: Endpoint) -> RawResponse:
        """Do the work; the healthy answer."""
        await context.read()
        self.credentials.check(context.request.headers.get("Authorization"))
        healthy = endpoint.do(self, context)
        context.recorded.processed = True
        return healthy

    async def _respond_with_fault(
        self, context: RequestContext, endpoint: Endpoint, fault: Fault
    ) -> web.StreamResponse:
        recorded, connection = context.recorded, context.connection
        recorded.fault = fault
        if fault.stage is Stage.REQUEST:
            await context.read()
        healthy = await self._process(context, endpoint) if fault.processes_request else None
        if fault.stage is Stage.REQUEST:
            await self._apply_latency(context)
        if context.session is not None:
            self.state.record_event(context.session, "fault", f"{endpoint.name} met {fault}")
        base_url = self.base_url_for(context.request)
        call = FaultContext(
            connection=connection,
            path=recorded.path,
            body=recorded.body,
            headers=recorded.headers,
            connection_headers=context.connection_headers,
            correlation_id=context.recorded.correlation_id,
            healthy=healthy,
            session_json=self._session_json(endpoint, context, healthy),
            unrelated_session=lambda: endpoint.show(self._unrelated_session(), base_url),
            base_url=base_url,
            sink=self.open_sink,
            discard=context.discard,
            record_status=context.record_status,
            record_response=context.record_response,
        )
        action = await fault.type.apply(call, fault.args)
        return AlreadyWritten(keep_alive=action is ConnectionAction.KEEP and bool(context.request.keep_alive))

    def _session_json(self, endpoint: Endpoint, context: RequestContext, healthy: RawResponse | None) -> dict[str, Any]:
        if healthy is None or context.session is None:
            return {}
        if healthy.body:
            body: dict[str, Any] = json.loads(healthy.body)
            return body
        return endpoint.show(context.session, self.base_url_for(context.request))

    def _unrelated_session(self) -> StoredSession:
        """A session that was never made."""
        request = CreateSessionRequest(payment_session_url="https://unrelated.invalid/checkout/v3/orders/unrelated")
        return new_session(request, self.state.clock.now())

    def _refusal(self, context: RequestContext, refused: ApiRefusal) -> web.Response:
        what = raw_response.error(refused.status, refused.code, refused.messages, context.recorded.correlation_id)
        what = what.with_headers(*refused.headers)
        context.record_response(what.encode())
        return self._response(context, what)

    def _response(self, context: RequestContext, what: RawResponse) -> web.Response:
        context.record_status(what.status)
        if self.rate_limit is not None and context.recorded.operation == CREATE:
            what = what.with_headers(*self.rate_limit.headers(what.status))
        return web.Response(
            status=what.status, reason=what.reason, headers=CIMultiDict(what.headers), body=what.body or None
        )


def connection_of(request: web.Request) -> Connection:
    """The connection over which a request came."""
    connection: Connection = request.protocol.connection  # type: ignore[attr-defined]
    return connection


def current_task() -> asyncio.Task[Any]:
    """The task that serves this request."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker
    return task


def is_page(request: web.Request) -> bool:
    """True where the request's route is none of the API's: no credentials, no record, no faults."""
    if request.raw_path.startswith(_API_PATHS):  # nearly always; what the route says is asked for what is left
        return False
    resource = request.match_info.route.resource
    return resource is not None and not resource.canonical.startswith(_API_PATHS)
