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
without `%r`, such as `%a %t %s %b %Tf`. A source of `client_from` is a request, or the app in `on_startup`. aiohttp before
3.14.4 knows a Content-Encoding only in lower case: `GZIP` in capitals is then an invalid callback.
"""

from collections.abc import AsyncIterator

from aiohttp import web

from kustom_hpp.integrations._shared import AppClient, WebFramework
from kustom_hpp.integrations._status_endpoint import BADLY_COMPRESSED, CallbackRequest, CallbackResponse

__all__ = ["client_context", "client_from", "run_in_background", "status_endpoint"]

_APP_CLIENT = web.AppKey("kustom_hpp", AppClient)
_DECOMPRESSED_BY_AIOHTTP = frozenset({"br", "deflate", "gzip", "zstd"})


def _attach(app: web.Application, app_client: AppClient) -> None:
    app[_APP_CLIENT] = app_client


def _find(source: web.Request | web.Application) -> AppClient | None:
    # A request to a sub-app finds the parent's client.
    return (source if isinstance(source, web.Application) else source.config_dict).get(_APP_CLIENT)


def _describe(request: web.Request, parameter: str) -> CallbackRequest:
    return CallbackRequest(
        method=request.method,
        secrets=request.query.getall(parameter, ()),
        headers=request.headers,
        body=_body(request),
        decompressed=request.headers.get("Content-Encoding", "").lower() in _DECOMPRESSED_BY_AIOHTTP,
    )


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except web.RequestPayloadError as error:
        # aiohttp's parser decompresses before a handler runs, so a body that it could not decode ends here too.
        if request.headers.get("Content-Encoding"):
            raise ValueError(BADLY_COMPRESSED) from error
        raise ConnectionError from error


def _respond(response: CallbackResponse) -> web.Response:
    return web.Response(status=response.status, text=response.text or None, headers=response.headers)


_framework = WebFramework[web.Request, web.Response, web.Application](
    attach=_attach,
    find=_find,
    remedy="app.cleanup_ctx.append(client_context())",
    request=web.Request,
    response=web.Response,
    describe=_describe,
    respond=_respond,
)
client_context = _framework.client_context
client_from = _framework.client_from
run_in_background = _framework.run_in_background
status_endpoint = _framework.status_endpoint
