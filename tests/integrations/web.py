"""One small app in each web framework, served on a real socket: the same tests go through all of them."""

import asyncio
import contextlib
import json
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
    ) -> None:
        self.context = context
        self.do = do
        self.status = status
        self.patience = patience
        """Seconds that requests in flight have when it stops."""

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
        for name, do in self.do.items():
            inner.router.add_post(f"/{name}", self._handler(do))
        if self.status is not None:
            app.router.add_route("*", "/status/{order}", self.status)
        app.add_subapp("/shop", inner)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=self.patience)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

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
        app = Starlette(routes=[Mount("/shop", inner)], lifespan=self.context)
        if self.status is not None:
            app.add_route("/status/{order}", self.status, methods=["GET", "POST", "PUT"])
        return app

    @staticmethod
    def bare_request() -> Any:
        return Request({"type": "http", "state": {"other": 1}})

    @staticmethod
    def _endpoint(do: Do) -> Any:
        async def endpoint(request: Request) -> Response:
            return Response(json.dumps(await do(starlette.client_from(request), request)))

        return endpoint

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        config = uvicorn.Config(
            self.app(), port=0, log_config=None, access_log=False, lifespan="on", ws="none", http="h11",
            timeout_graceful_shutdown=self.patience,
        )  # fmt: skip
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment] # they are pytest's
        serving = asyncio.create_task(_serving(server))
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if serving.done():
                raise RuntimeError("it did not start")
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def _serving(server: uvicorn.Server) -> None:
    with contextlib.suppress(SystemExit):  # it would end the event loop of the test too
        await server.serve()


class FastApiApp(StarletteApp):
    """In FastAPI: the client as a dependency, the lifespan one of the app's own, which knows of ours."""

    def app(self) -> Starlette:
        @contextlib.asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
            async with self.context(app) as state:
                yield {**state, "other": 1}

        app = FastAPI(lifespan=lifespan)
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
