"""What all pages share: templates, which escape texts, and static files."""

import asyncio
from collections.abc import Iterable
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kustom_hpp.sandbox.pages.security_headers import headers
from kustom_hpp.sandbox.sample_orders import money

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGE = "kustom_hpp.sandbox.pages"
STATIC_PATH = "/_sandbox/static/"
_TYPES = MappingProxyType({"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"})


class Site:
    """The pages of one sandbox. The first one imports jinja2."""

    def __init__(self) -> None:
        self._environment: Environment | None = None

    def add_routes(self, app: web.Application) -> None:
        """Register the static files."""
        app.router.add_get(f"{STATIC_PATH}{{name}}", self._static)
        # A browser asks for it when it shows an image or a text. Without a route it would count as an API request.
        app.router.add_get("/favicon.ico", self._static)

    async def page(
        self, template: str, policy: Iterable[tuple[str, str]], *, status: int = 200, **values: Any
    ) -> web.Response:
        """Return a page."""
        body = await self.render(template, **values)
        return web.Response(status=status, body=body, content_type="text/html", charset="utf-8", headers=dict(policy))

    async def render(self, template: str, **values: Any) -> bytes:
        """Return a page or a part of one; without jinja2, raise a 501."""
        if self._environment is None:
            self._environment = await asyncio.to_thread(_load_templates)
        # A lone surrogate in a text must not break the page.
        return self._environment.get_template(template).render(values).encode("utf-8", "replace")

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "icon.svg")
        files = {entry.name: entry for entry in (resources.files(_PACKAGE) / "static").iterdir()}
        kind = _TYPES.get(name.rpartition(".")[2])
        if name not in files or kind is None:
            return web.Response(status=404, text="no such file\n", headers=dict(headers()))
        return web.Response(
            body=files[name].read_bytes(), headers={**dict(headers()), "Content-Type": f"{kind}; charset=utf-8"}
        )


def _load_templates() -> "Environment":
    try:
        import jinja2
    except ImportError:
        text = "This page needs jinja2: pip install 'kustom_hpp[sandbox]'\n"
        raise web.HTTPNotImplemented(text=text, headers=dict(headers())) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = STATIC_PATH.__add__
    environment.filters["money"] = money
    for name in environment.list_templates():
        environment.get_template(name)  # compiled once, outside the event loop
    return environment
