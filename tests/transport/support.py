"""What the tests of the transport share: one attempt at the sandbox, without any layer above."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from yarl import URL

from kustom_hpp._messages import HttpRequest, HttpResponse, SendMarker
from kustom_hpp._redaction import Secret
from kustom_hpp.config import Pool
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.transport import HTTPSessionManager

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/"


@contextlib.asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[HTTPSessionManager]:
    manager = HTTPSessionManager(**({"pool": Pool()} | options))
    try:
        yield manager
    finally:
        await manager.aclose()


def request_to(
    sandbox: Sandbox, order: object = 1, *, base_url: str = "", deadline: float | None = None, **facts: Any
) -> HttpRequest:
    """A create for an order. The deadline counts in seconds from now."""
    body = {"payment_session_url": f"{ORDER}{order}", "merchant_urls": {"success": "https://shop.example/thanks"}}
    options: dict[str, Any] = {
        "method": "POST",
        "url": URL(f"{base_url or sandbox.base_url}/hpp/v1/sessions"),
        "headers": {"Authorization": Secret(f"Basic {sandbox.api_key}"), "Content-Type": "application/json"},
        "body": json.dumps(body).encode(),
        "connect_timeout": 5.0,
        "read_timeout": 5.0,
        "deadline": None if deadline is None else asyncio.get_running_loop().time() + deadline,
    }
    return HttpRequest(**options | facts)


async def send(manager: HTTPSessionManager, request: HttpRequest, mark: SendMarker | None = None) -> HttpResponse:
    return await manager.send(request, mark or SendMarker())


def session_id(answer: HttpResponse) -> str:
    return str(json.loads(answer.body)["session_id"])
