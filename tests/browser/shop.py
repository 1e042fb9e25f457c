"""A merchant's site on this machine: it serves every path and records the visits."""

from typing import Self

from aiohttp import web

_IMAGE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="160" height="40" viewBox="0 0 160 40">'
    '<rect width="160" height="40" fill="#b9c7b4"/><circle cx="20" cy="20" r="14" fill="#8a3b2a"/></svg>'
)


class Shop:
    """`async with Shop() as shop: ... shop.url("/thanks?sid={{session_id}}") ... shop.visits`."""

    def __init__(self) -> None:
        self.base_url = ""
        self.visits: list[str] = []
        """Path and query of each visit of a page, as they came."""
        self.onward: dict[str, str] = {}
        """Where a path redirects to."""
        self._runner: web.AppRunner | None = None

    def url(self, path: str) -> str:
        """An address of the shop."""
        return self.base_url + path

    async def _page(self, request: web.Request) -> web.Response:
        if request.path == "/favicon.ico":
            return web.Response(status=204)
        self.visits.append(request.raw_path)
        if (onward := self.onward.get(request.path)) is not None:
            return web.Response(status=302, headers={"Location": onward})
        if request.path.endswith(".svg"):
            return web.Response(text=_IMAGE, content_type="image/svg+xml")
        html = f"<!doctype html><html lang=en><title>Shop</title><h1>Shop {request.path}</h1>"
        return web.Response(text=html, content_type="text/html")

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._page)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
