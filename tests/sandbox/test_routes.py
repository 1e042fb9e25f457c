"""Rooms beside the API: what they serve needs no key, is not in the record, and meets no fault."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.http import routes
from kustom_hpp.sandbox.http.server import Server
from tests.sandbox.support import ask, request


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room with a page of a line, one that never ends, and one that breaks."""

    async def line(_: web.Request) -> web.Response:
        return web.Response(text="a page")

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        return await asyncio.get_running_loop().create_future()

    def add_routes(app: web.Application, server: Server) -> None:
        assert server.base_url == ""
        app.router.add_get("/page/line", line)
        app.router.add_get("/page/endless", endless)

    monkeypatch.setattr(routes, "ROUTE_MODULES", (add_routes,))


async def test_a_page_is_no_api(room: None) -> None:
    async with Sandbox(faults=["status_503"]) as sandbox, aiohttp.ClientSession(sandbox.base_url) as browser:
        async with browser.get("/page/line") as response:
            assert (response.status, await response.text()) == (200, "a page")
            assert "Klarna-Correlation-Id" not in response.headers
        assert sandbox.record.requests == ()
        # What is no route is the API's, beside a room's pages too.
        async with browser.get("/page/other") as response:
            assert (response.status, (await response.json())["error_code"]) == (401, "UNAUTHORIZED")
        async with browser.post("/page/line") as response:
            assert response.status == 401
        assert [seen.path for seen in sandbox.record.requests] == ["/page/other", "/page/line"]
        assert (await ask(sandbox)).status == 503


async def test_at_the_sink_there_are_no_pages(room: None) -> None:
    async with Sandbox() as sandbox:
        sink = await sandbox.redirect_target()
        async with aiohttp.ClientSession(sink) as browser, browser.get("/page/line") as response:
            assert response.status == 418
        assert [seen.path for seen in sandbox.record.sink] == ["/page/line"]


async def test_a_page_that_never_ends_holds_up_nobody(room: None) -> None:
    async with (
        Sandbox() as sandbox,
        aiohttp.ClientSession(sandbox.base_url) as browser,
        browser.get("/page/endless") as response,
    ):
        assert await response.content.readexactly(5) == b"first"
        assert (await ask(sandbox, request(sandbox))).status == 201
        await sandbox.wait_until_idle()
        before = asyncio.get_running_loop().time()
        await sandbox.aclose()
        assert asyncio.get_running_loop().time() - before < 0.5
