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

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from kustom_hpp.client import HPPClient
from kustom_hpp.integrations._shared import AppClient, WebFramework
from kustom_hpp.integrations._status_endpoint import CallbackRequest, CallbackResponse

try:
    from starlette.requests import ClientDisconnect, HTTPConnection, Request
    from starlette.responses import Response
except ImportError as error:
    raise ImportError(
        "kustom_hpp.integrations.starlette needs starlette: pip install 'kustom_hpp[starlette]'", name=error.name
    ) from None

if TYPE_CHECKING:
    RequestOrState = Mapping[str, Any]
    """A request, which is a mapping too, or a lifespan's state."""
else:
    RequestOrState = HTTPConnection  # tells FastAPI that a dependency takes the request

__all__ = ["client_context", "client_from", "run_in_background", "status_endpoint"]

_STATE = "kustom_hpp"


def client_from(source: RequestOrState) -> HPPClient:
    """Return the app's client; in FastAPI a dependency: `Annotated[HPPClient, Depends(client_from)]`.

    Args:
        source: a request; or the state of `client_context`, in a lifespan of your own.

    Raises:
        ConfigError: the app has no client.

    """
    return _framework.client_from(source)


def _attach(_app: Any, app_client: AppClient) -> Mapping[str, Any]:
    return {_STATE: app_client}


def _find(source: Mapping[str, Any]) -> AppClient | None:
    # A request is a mapping too: its scope. It has the lifespan's state, which a mounted app sees as well. The source itself
    # comes first: it may be a state with a "state" of its own.
    state = source if _STATE in source else source.get("state")
    return state.get(_STATE) if isinstance(state, Mapping) else None


def _describe(request: Request, parameter: str) -> CallbackRequest:
    return CallbackRequest(
        method=request.method,
        secrets=request.query_params.getlist(parameter),
        headers=request.headers,
        body=_body(request),
    )


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise ConnectionError from error


def _respond(response: CallbackResponse) -> Response:
    kind = "text/plain" if response.text else None
    return Response(response.text, status_code=response.status, headers=response.headers, media_type=kind)


_framework = WebFramework[Request, Response, Mapping[str, Any]](
    attach=_attach,
    find=_find,
    remedy="pass it lifespan=client_context(), or let your own lifespan yield its state",
    request=Request,
    response=Response,
    describe=_describe,
    respond=_respond,
)
client_context = _framework.client_context
run_in_background = _framework.run_in_background
status_endpoint = _framework.status_endpoint
