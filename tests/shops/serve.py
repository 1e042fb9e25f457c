"""Serves a shop for a test, at a port that is known before it is made."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.integrations.web import free_socket, serve_aiohttp, serve_asgi, url_of
from tests.shops import aiohttp_shop, fastapi_shop
from tests.shops.shop import Orders, Shop

NOWHERE = "http://127.0.0.1:9"
"""Where nobody listens: port 9 is that of the discard service, which nobody runs."""
SHOPS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "aiohttp": (aiohttp_shop.application, serve_aiohttp),
    "fastapi": (fastapi_shop.application, serve_asgi),
}


@contextlib.asynccontextmanager
async def serving(
    kind: Any, sandbox: Sandbox, orders: Orders, *, callback_url: str | None = None, poll: float = 600.0
) -> AsyncIterator[str]:
    """A shop; with the poll as it stands here, nothing but a callback tells it anything."""
    application, serve = kind
    listening = free_socket()
    url = url_of(listening)
    shop = Shop(orders=orders, url=url, callback_url=callback_url or url, poll=poll)
    app = application(shop, lambda: hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url))
    async with serve(app, listening) as url:
        yield url
