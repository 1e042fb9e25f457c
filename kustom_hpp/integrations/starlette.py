"""For a Starlette or FastAPI app: one client as long as it runs, and the route for status callbacks.

Needs the extra `starlette`.

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

A lifespan of your own enters it and yields its state:

    @asynccontextmanager
    async def lifespan(app):
        async with hpp_web.client_context()(app) as state, Database() as database:
            yield {**state, "database": database}

The secret is in the URL, and uvicorn's access log contains URLs with their queries: run it with `access_log=False`, or with
a log of your own.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from kustom_hpp.callbacks import MAX_BODY
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import ConfigError
from kustom_hpp.integrations._shared import (
    GRACE,
    Acknowledge,
    AppClient,
    CallbackRequest,
    ClientFactory,
    SecretSource,
    StatusEndpoint,
    UpdateHandler,
    decompress,
)

try:
    from starlette.requests import ClientDisconnect, HTTPConnection, Request
    from starlette.responses import PlainTextResponse, Response
except ImportError as error:
    msg = "kustom_hpp.integrations.starlette needs starlette: pip install 'kustom_hpp[starlette]'"
    raise ImportError(msg, name=error.name) from None

if TYPE_CHECKING:
    RequestOrState = Mapping[str, Any]
    """A request, which is a mapping too, or a lifespan's state."""
else:
    RequestOrState = HTTPConnection  # tells FastAPI that a dependency takes the request

_STATE = "kustom_hpp"


def client_context(
    make_client: ClientFactory = HPPClient.from_env, *, grace: float = GRACE
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Return what goes into `lifespan=`: it opens one client when the app starts, and closes it when the app stops.

    Args:
        make_client: creates the client when the app starts; by default from the environment.
        grace: seconds in which accepted status updates may finish when the app stops.

    """

    @asynccontextmanager
    async def context(_app: Any) -> AsyncIterator[Mapping[str, Any]]:
        app_client = AppClient(make_client(), grace)
        try:
            yield {_STATE: app_client}
        finally:
            await app_client.aclose()

    return context


def client_from(source: RequestOrState) -> HPPClient:
    """Return the app's client; in FastAPI a dependency: `Annotated[HPPClient, Depends(client_from)]`.

    Args:
        source: a request; or the state of `client_context`, in a lifespan of your own.

    Raises:
        ConfigError: the app has no client.

    """
    return _app_client(source).client


def run_in_background(source: Mapping[str, Any], work: Coroutine[Any, Any, None]) -> None:
    """Start work that no response waits for, such as a wait for the session. Its errors are logged.

    It is cancelled when the app stops, so the next start must be able to find unfinished work.

    Args:
        source: a request; or the state of `client_context`, in a lifespan of your own.
        work: a coroutine.

    Raises:
        ConfigError: the app has no client.
        RuntimeError: the app is stopping.

    """
    _app_client(source).start_work(work)


def status_endpoint(
    on_update: UpdateHandler[Request],
    *,
    secret: SecretSource[Request],
    parameter: str = "secret",
    max_size: int = MAX_BODY,
    acknowledge: Acknowledge = "before",
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint for `MerchantUrls.status_update`, for `app.add_route(..., methods=["POST"])`.

    It responds with 204; 403 for a wrong secret, before it reads the body; 413, 400 and 405 for an invalid callback; 503 if
    the response is not ready in time, so that the API calls again. It logs one line for an invalid callback, without its body.

    Args:
        on_update: an async function that takes the request and the update, `async def on_update(request, update)`. It must
            not block the event loop. Its errors are logged. The API repeats calls: de-duplicate by `update.event_id`.
        secret: the expected secret, or a function, async or not, that finds it for a request by its URL, and returns None if
            there is none.
        parameter: the secret's name in the query, the `name` of `with_secret`.
        max_size: the most bytes of a body, decompressed.
        acknowledge: "before" responds before `on_update` has run: an update is lost if `on_update` raises or the process
            dies, because the API does not call again. "after" responds when `on_update` has finished: 204, or 503 if it
            raised or took more than 2.5 seconds (then it is cancelled). The API calls again after a 503, at most four times
            in all; `on_update` may then run twice for one update, and the update is lost if all calls fail.

    Raises:
        ConfigError: `on_update` is not an async function, or the secret or `acknowledge` is invalid.

    """
    endpoint = StatusEndpoint(on_update, secret, max_size, acknowledge)

    async def handle(request: Request) -> Response:
        incoming = CallbackRequest(
            method=request.method,
            secrets=request.query_params.getlist(parameter),
            length=_length(request.headers.get("content-length", "")),
            content_type=request.headers.get("content-type", ""),
            body=decompress(_body(request), request.headers.get("content-encoding", "")),
        )
        response = await endpoint.handle(_app_client(request), request, incoming)
        headers = {"Allow": "POST"} if response.status == 405 else None  # noqa: PLR2004
        if not response.text:
            return Response(status_code=response.status)
        return PlainTextResponse(response.text, status_code=response.status, headers=headers)

    return handle


def _app_client(source: Mapping[str, Any]) -> AppClient:
    # A request is a mapping too: its scope. It has the lifespan's state, which a mounted app sees as well. The source itself
    # comes first: it may be a state with a "state" of its own.
    state = source if _STATE in source else source.get("state")
    app_client = state.get(_STATE) if isinstance(state, Mapping) else None
    if not isinstance(app_client, AppClient):
        msg = "the app has no client: pass it lifespan=client_context(), or let your own lifespan yield its state"
        raise ConfigError(msg)
    return app_client


def _length(text: str) -> int | None:
    # Not every server checks it. int() refuses thousands of digits; 18 are more than any body has.
    return int(text[:18]) if text.isdecimal() else None


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise ConnectionError from error
