"""For an aiohttp.web app: one client for its life, and the route for status callbacks.

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

The secret stands in the URL, and aiohttp's access log writes URLs with their queries: give `run_app` an
`access_log_format` without `%r`, such as `%a %t %s %b %Tf`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

from kustom_hpp.callbacks import MAX_BODY
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import ConfigError
from kustom_hpp.integrations._shared import GRACE, Incoming, MakeClient, OnUpdate, Running, Secret, StatusEndpoint

_RUNNING = web.AppKey("kustom_hpp", Running)


def client_context(
    make_client: MakeClient = HPPClient.from_env, *, grace: float = GRACE
) -> Callable[[web.Application], AsyncIterator[None]]:
    """What goes into `app.cleanup_ctx`: one client, opened when the app starts and closed when it stops, in its loop.

    Args:
        make_client: makes it, when the app starts; by default from the environment.
        grace: seconds that status updates which were taken have to be finished when the app stops.

    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[_RUNNING] = running = Running(make_client(), grace)
        try:
            yield
        finally:
            await running.aclose()

    return context


def client_from(where: web.Request | web.Application) -> HPPClient:
    """The app's client.

    Args:
        where: a request; or, in what runs at the start after `client_context`, the app.

    Raises:
        ConfigError: the app has none.

    """
    return _running(where).client


def run_in_background(where: web.Request | web.Application, work: Coroutine[Any, Any, None]) -> None:
    """Do something that the answer does not wait for, such as to wait for the session; what it raises is logged.

    It is cancelled when the app stops, so it must be such that the next start finds what is left to do.

    Args:
        where: a request; or, in what runs at the start after `client_context`, the app.
        work: a coroutine.

    Raises:
        ConfigError: the app has no client, and so nowhere to work.
        RuntimeError: the app is stopping.

    """
    _running(where).run(work)


def status_endpoint(
    on_update: OnUpdate[web.Request],
    *,
    secret: Secret[web.Request],
    parameter: str = "secret",
    max_size: int = MAX_BODY,
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler for `MerchantUrls.status_update`, to be added with `app.router.add_post`.

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

    async def take(request: web.Request) -> web.Response:
        incoming = Incoming(
            method=request.method,
            secrets=request.query.getall(parameter, ()),
            length=request.content_length,
            body=_body(request),
        )
        answer = await endpoint.answer(_running(request), request, incoming)
        headers = {"Allow": "POST"} if answer.status == 405 else None  # noqa: PLR2004
        return web.Response(status=answer.status, text=answer.text or None, headers=headers)

    return take


def _running(where: web.Request | web.Application) -> Running:
    # A request to a sub-app finds what the parent has.
    running = (where if isinstance(where, web.Application) else where.config_dict).get(_RUNNING)
    if running is None:
        msg = "the app has no client: app.cleanup_ctx.append(client_context())"
        raise ConfigError(msg)
    return running


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except web.RequestPayloadError as error:
        raise ConnectionError from error
