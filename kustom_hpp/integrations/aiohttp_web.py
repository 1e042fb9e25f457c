"""For an aiohttp.web app: one client as long as it runs, and the route for status callbacks.

    from kustom_hpp import with_secret
    from kustom_hpp.integrations import aiohttp_web as hpp_web

    async def pay(request):
        session = await hpp_web.client_from(request).create_session(..., deadline=10)
        raise web.HTTPSeeOther(session.payment_page)

    async def on_update(request, update):
        details = await hpp_web.client_from(request).read_session(...)

    app = web.Application()
    app.cleanup_ctx.append(hpp_web.client_context())
    app.router.add_post("/pay", pay)
    app.router.add_post("/status/{order}", hpp_web.status_endpoint(on_update, secret=...))

The secret is in the URL, and aiohttp's access log contains URLs with their queries: pass `run_app` an `access_log_format`
without `%r`, such as `%a %t %s %b %Tf`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

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

_APP_CLIENT = web.AppKey("kustom_hpp", AppClient)
_DECODED_BY_AIOHTTP = frozenset({"br", "deflate", "gzip", "zstd"})


def client_context(
    make_client: ClientFactory = HPPClient.from_env, *, grace: float = GRACE
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return what goes into `app.cleanup_ctx`: it opens one client when the app starts, and closes it when the app stops.

    Args:
        make_client: creates the client when the app starts; by default from the environment.
        grace: seconds in which accepted status updates may finish when the app stops.

    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[_APP_CLIENT] = app_client = AppClient(make_client(), grace)
        try:
            yield
        finally:
            await app_client.aclose()

    return context


def client_from(source: web.Request | web.Application) -> HPPClient:
    """Return the app's client.

    Args:
        source: a request; or the app, in code that runs at its start after `client_context`.

    Raises:
        ConfigError: the app has no client.

    """
    return _app_client(source).client


def run_in_background(source: web.Request | web.Application, work: Coroutine[Any, Any, None]) -> None:
    """Start work that no response waits for, such as a wait for the session. Its errors are logged.

    It is cancelled when the app stops, so the next start must be able to find unfinished work.

    Args:
        source: a request; or the app, in code that runs at its start after `client_context`.
        work: a coroutine.

    Raises:
        ConfigError: the app has no client.
        RuntimeError: the app is stopping.

    """
    _app_client(source).start_work(work)


def status_endpoint(
    on_update: UpdateHandler[web.Request],
    *,
    secret: SecretSource[web.Request],
    parameter: str = "secret",
    max_size: int = MAX_BODY,
    acknowledge: Acknowledge = "before",
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler for `MerchantUrls.status_update`, for `app.router.add_post`.

    It responds with 204; 403 for a wrong secret, before it reads the body; 413, 400 and 405 for an invalid callback; 503 if
    the response is not ready in time, so that the API calls again. It logs one line for an invalid callback, without its body.
    aiohttp before 3.14.4 knows a Content-Encoding only in lower case: `GZIP` in capitals is then an invalid callback.

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

    async def handle(request: web.Request) -> web.Response:
        incoming = CallbackRequest(
            method=request.method,
            secrets=request.query.getall(parameter, ()),
            length=request.content_length,
            content_type=request.headers.get("Content-Type", ""),
            body=_body(request),
        )
        response = await endpoint.handle(_app_client(request), request, incoming)
        headers = {"Allow": "POST"} if response.status == 405 else None  # noqa: PLR2004
        return web.Response(status=response.status, text=response.text or None, headers=headers)

    return handle


def _app_client(source: web.Request | web.Application) -> AppClient:
    # A request to a sub-app finds the parent's client.
    app_client = (source if isinstance(source, web.Application) else source.config_dict).get(_APP_CLIENT)
    if app_client is None:
        msg = "the app has no client: app.cleanup_ctx.append(client_context())"
        raise ConfigError(msg)
    return app_client


def _body(request: web.Request) -> AsyncIterator[bytes]:
    encoding = request.headers.get("Content-Encoding", "")
    body = _received(request)
    return body if encoding.lower() in _DECODED_BY_AIOHTTP else decompress(body, encoding)


async def _received(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except web.RequestPayloadError as error:
        # aiohttp's parser decompresses before a handler runs, so a body that it could not decode ends here too.
        if request.headers.get("Content-Encoding"):
            raise ValueError("is not compressed as its Content-Encoding says") from error
        raise ConnectionError from error
