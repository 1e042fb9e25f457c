"""One small app in each web framework, served on a real socket: the same tests go through all of them."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any

import uvicorn
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

import kustom_hpp as hpp
from kustom_hpp.integrations import aiohttp_web, starlette

Do = Callable[[hpp.HPPClient, Any], Awaitable[Any]]
"""What an app does with its client for a request; the answer is its result as JSON."""


def free_socket() -> socket.socket:
    """A socket at a free port, whose number is known before anything serves there."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    return listening


def url_of(listening: socket.socket) -> str:
    """The URL of what will be served there."""
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.asynccontextmanager
async def serve_aiohttp(app: web.Application, listening: socket.socket, patience: float = 1.0) -> AsyncIterator[str]:
    """Serve an app of aiohttp.web; gives its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=patience)
    with listening:
        try:
            await runner.setup()
            await web.SockSite(runner, listening).start()
            yield url_of(listening)
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def serve_asgi(app: Any, listening: socket.socket, patience: float = 1.0) -> AsyncIterator[str]:
    """Serve an ASGI app with uvicorn; gives its URL.

    Raises:
        RuntimeError: it did not start; the log says why.

    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", ws="none", http="h11", timeout_graceful_shutdown=patience
    )  # type: ignore[arg-type] # it takes fractions too
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment] # they are pytest's
    with listening:
        serving = asyncio.create_task(_serving(server, listening))
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if serving.done():
                raise RuntimeError("it did not start")
            yield url_of(listening)
        finally:
            server.should_exit = True
            await serving


async def _serving(server: uvicorn.Server, listening: socket.socket) -> None:
    with contextlib.suppress(SystemExit):  # it would end the event loop of the test too
        await server.serve(sockets=[listening])


class App:
    """An app with a route for each of `do`, and one for status callbacks at /status/{order} where there is an endpoint."""

    verbs: Any
    """The integration: the same names in each."""

    def __init__(
        self,
        context: Any,
        *,
        do: Mapping[str, Do] = {},
        status: Any = None,
        patience: float = 1.0,
        at_start: Callable[[Any], None] | None = None,
    ) -> None:
        self.context = context
        self.do = do
        self.status = status
        self.patience = patience
        """Seconds that requests in flight have when it stops."""
        self.at_start = at_start
        """Called once the client is there, with the app or the lifespan's state."""

    def serve(self) -> contextlib.AbstractAsyncContextManager[str]:
        """Serve it; gives its base URL."""
        raise NotImplementedError

    @staticmethod
    def bare_request() -> Any:
        """A request to an app that knows of no client."""
        raise NotImplementedError


class AiohttpApp(App):
    """In aiohttp.web, with the routes in a sub-app."""

    verbs = aiohttp_web

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app, inner = web.Application(), web.Application()
        app.cleanup_ctx.append(self.context)
        if self.at_start is not None:
            app.on_startup.append(self._start)
        for name, do in self.do.items():
            inner.router.add_post(f"/{name}", self._handler(do))
        if self.status is not None:
            app.router.add_route("*", "/status/{order}", self.status)
        app.add_subapp("/shop", inner)
        async with serve_aiohttp(app, free_socket(), self.patience) as url:
            yield url

    async def _start(self, app: web.Application) -> None:
        assert self.at_start is not None
        self.at_start(app)

    @staticmethod
    def bare_request() -> Any:
        return make_mocked_request("GET", "/", app=web.Application())

    @staticmethod
    def _handler(do: Do) -> Any:
        async def handler(request: web.Request) -> web.Response:
            return web.json_response(await do(aiohttp_web.client_from(request), request))

        return handler


class StarletteApp(App):
    """In Starlette, with the routes in a mounted app, under uvicorn."""

    verbs = starlette

    def app(self) -> Starlette:
        inner = Starlette(
            routes=[Route(f"/{name}", self._endpoint(do), methods=["POST"]) for name, do in self.do.items()]
        )
        app = Starlette(routes=[Mount("/shop", inner)], lifespan=self.lifespan if self.at_start else self.context)
        if self.status is not None:
            app.add_route("/status/{order}", self.status, methods=["GET", "POST", "PUT"])
        return app

    @staticmethod
    def bare_request() -> Any:
        return Request({"type": "http", "state": {"other": 1}})

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[Mapping[str, Any]]:
        """One of the app's own."""
        async with self.context(app) as state:
            if self.at_start is not None:
                self.at_start(state)
            yield {**state, "other": 1}

    @staticmethod
    def _endpoint(do: Do) -> Any:
        async def endpoint(request: Request) -> Response:
            return Response(json.dumps(await do(starlette.client_from(request), request)))

        return endpoint

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        async with serve_asgi(self.app(), free_socket(), self.patience) as url:
            yield url


class FastApiApp(StarletteApp):
    """In FastAPI: the client as a dependency, the lifespan one of the app's own, which knows of ours."""

    def app(self) -> Starlette:
        app = FastAPI(lifespan=self.lifespan)
        for name, do in self.do.items():
            app.post(f"/shop/{name}")(self._operation(do))
        if self.status is not None:
            app.api_route("/status/{order}", methods=["GET", "POST", "PUT"])(self.status)
        return app

    @staticmethod
    def _operation(do: Do) -> Any:
        async def operation(request: Request, client: Annotated[hpp.HPPClient, Depends(starlette.client_from)]) -> Any:
            assert request.state.other == 1
            return await do(client, request)

        return operation


APPS = {"aiohttp": AiohttpApp, "starlette": StarletteApp, "fastapi": FastApiApp}
