"""For a Starlette or FastAPI app: one client for its life, and the route for status callbacks. Needs the extra `starlette`.

    from kustom_hpp.integrations import starlette as hpp_web

    Client = Annotated[hpp.HPPClient, Depends(hpp_web.client_from)]

    async def on_update(request, update):
        details = await hpp_web.client_from(request).read_session(...)

    app = FastAPI(lifespan=hpp_web.client_context())
    app.add_route("/status/{order}", hpp_web.status_endpoint(on_update, secret=...), methods=["POST"])

    @app.post("/pay")
    async def pay(client: Client):
        session = await client.create_session(..., deadline=10)
        return RedirectResponse(session.payment_page, status_code=303)

A lifespan of your own enters it and yields its state on:

    @asynccontextmanager
    async def lifespan(app):
        async with hpp_web.client_context()(app) as state, Database() as database:
            yield {**state, "database": database}

The secret stands in the URL, and uvicorn's access log writes URLs with their queries: run it with `access_log=False`, or
with a log of your own.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from kustom_hpp.callbacks import MAX_BODY
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import ConfigError
from kustom_hpp.integrations._shared import GRACE, Incoming, MakeClient, OnUpdate, Running, Secret, StatusEndpoint

try:
    from starlette.requests import ClientDisconnect, HTTPConnection, Request
    from starlette.responses import PlainTextResponse, Response
except ImportError as error:
    msg = "kustom_hpp.integrations.starlette needs starlette: pip install 'kustom_hpp[starlette]'"
    raise ImportError(msg, name=error.name) from None

if TYPE_CHECKING:
    Where = Mapping[str, Any]
    """A request, which is a mapping too, or a lifespan's state."""
else:
    Where = HTTPConnection  # by which FastAPI knows that a dependency asks for the request

_STATE = "kustom_hpp"


def client_context(
    make_client: MakeClient = HPPClient.from_env, *, grace: float = GRACE
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """What goes into `lifespan=`: one client, opened when the app starts and closed when it stops, in its loop.

    Args:
        make_client: makes it, when the app starts; by default from the environment.
        grace: seconds that status updates which were taken have to be finished when the app stops.

    """

    @asynccontextmanager
    async def context(_app: Any) -> AsyncIterator[Mapping[str, Any]]:
        running = Running(make_client(), grace)
        try:
            yield {_STATE: running}
        finally:
            await running.aclose()

    return context


def client_from(where: Where) -> HPPClient:
    """The app's client; in FastAPI a dependency: `Annotated[HPPClient, Depends(client_from)]`.

    Args:
        where: a request; or, in a lifespan of your own, the state that `client_context` gave.

    Raises:
        ConfigError: the app has none.

    """
    return _running(where).client


def run_in_background(where: Mapping[str, Any], work: Coroutine[Any, Any, None]) -> None:
    """Do something that the answer does not wait for, such as to wait for the session; what it raises is logged.

    It is cancelled when the app stops, so it must be such that the next start finds what is left to do.

    Args:
        where: a request; or, in a lifespan of your own, the state that `client_context` gave.
        work: a coroutine.

    Raises:
        ConfigError: the app has no client, and so nowhere to work.
        RuntimeError: the app is stopping.

    """
    _running(where).run(work)


def status_endpoint(
    on_update: OnUpdate[Request],
    *,
    secret: Secret[Request],
    parameter: str = "secret",
    max_size: int = MAX_BODY,
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint for `MerchantUrls.status_update`, to be added with `app.add_route(..., methods=["POST"])`.

    It answers 204 and does not wait for the work on the update; 403 for a wrong secret, before the body is read; 413, 400
    and 405 for what is no callback; 503 where the secret was not found in time, so that the API comes again.

    Args:
        on_update: an async function that takes the request and the update, `async def on_update(request, update)`. It is
            begun when the answer is made, which middleware may still hold back: do nothing in it that blocks the event
            loop. What it raises is logged, and does not make the API come again. It gets repeated calls too: de-duplicate
            by `update.event_id`.
        secret: the one to expect, or a function, async or not, that finds it for a request by what the URL says, and
            gives None where there is none.
        parameter: the secret's name in the query, as `with_secret` put it there.
        max_size: of the body, in bytes.

    Raises:
        ConfigError: `on_update` is no async function, or the secret cannot be one.

    """
    endpoint = StatusEndpoint(on_update, secret, max_size)

    async def take(request: Request) -> Response:
        incoming = Incoming(
            method=request.method,
            secrets=request.query_params.getlist(parameter),
            length=_length(request.headers.get("content-length", "")),
            body=_body(request),
        )
        answer = await endpoint.answer(_running(request), request, incoming)
        headers = {"Allow": "POST"} if answer.status == 405 else None  # noqa: PLR2004
        if not answer.text:
            return Response(status_code=answer.status)
        return PlainTextResponse(answer.text, status_code=answer.status, headers=headers)

    return take


def _running(where: Mapping[str, Any]) -> Running:
    # A request is a mapping too, its scope. The lifespan's state and not the app's: a mounted app sees it too. What was given
    # is looked at first: it may be a state that has a "state" of its own.
    state = where if _STATE in where else where.get("state")
    running = state.get(_STATE) if isinstance(state, Mapping) else None
    if not isinstance(running, Running):
        msg = "the app has no client: give it lifespan=client_context(), or let your own lifespan yield its state on"
        raise ConfigError(msg)
    return running


def _length(told: str) -> int | None:
    # Not every server judges it. The first digits of a number that is too long for any body tell as much as all of them,
    # and int() takes no more than some thousands.
    return int(told[:18]) if told.isdecimal() else None


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise ConnectionError from error
