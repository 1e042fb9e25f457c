"""What all pages share: templates, static files, and responses to a browser."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from kustom_hpp.sandbox.pages.security_headers import headers
from kustom_hpp.sandbox.pages.templates import STATIC_PATH, NoTemplatesError, Renderer, StaticFile, static_files

_DRAIN_TIMEOUT = 5.0
"""Seconds for the rest of a form's body until its connection is closed."""


class Site:
    """The pages of one sandbox. The first page loads the files and imports jinja2."""

    def __init__(self) -> None:
        self._renderer: Renderer | None = None
        self._files: Mapping[str, StaticFile] | None = None

    def add_routes(self, app: web.Application) -> None:
        """Register the static files."""
        app.router.add_get(f"{STATIC_PATH}{{name}}", self._static)
        # A browser asks for it when it shows an image or a text. Without a route it would count as an API request.
        app.router.add_get("/favicon.ico", self._static)

    async def renderer(self) -> Renderer:
        """Return the templates.

        Raises:
            NoTemplatesError: jinja2 is not installed.

        """
        if self._renderer is None:
            self._renderer = await asyncio.to_thread(Renderer)
        return self._renderer

    async def page(
        self, template: str, policy: Iterable[tuple[str, str]], *, status: int = 200, **values: Any
    ) -> web.Response:
        """Return a page; without jinja2, a text that says what to install."""
        try:
            body = (await self.renderer()).page(template, **values)
        except NoTemplatesError as missing:
            return web.Response(status=501, text=f"{missing}\n", headers=dict(headers()))
        return web.Response(status=status, body=body, content_type="text/html", charset="utf-8", headers=dict(policy))

    async def _static(self, request: web.Request) -> web.Response:
        if self._files is None:
            self._files = await asyncio.to_thread(static_files)
        file = self._files.get(request.match_info.get("name", "icon.svg"))
        if file is None:
            return web.Response(status=404, text="no such file\n", headers=dict(headers()))
        return web.Response(body=file.data, headers={**dict(headers()), "Content-Type": file.content_type})


async def respond_and_drain(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Respond to a form, then discard the part of its body that has not arrived yet.

    Closing a connection with unread bytes sends RST, which may destroy the response.
    """
    if request.content.is_eof():
        return response
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    with contextlib.suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
        async with asyncio.timeout(_DRAIN_TIMEOUT):
            while not request.content.at_eof():
                await request.content.readany()
    return response
