"""What the traps share: a sandbox, and clients of it on owned and on lent sessions."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.faults.play import PATIENT, QUICK

Clients = Callable[..., Awaitable[hpp.HPPClient]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


@pytest.fixture
async def make_client(sandbox: Sandbox) -> AsyncIterator[Clients]:
    """Make a client of the sandbox; `lend=` takes the arguments of an aiohttp session to borrow."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(lend: dict[str, Any] | None = None, **options: Any) -> hpp.HPPClient:
            if lend is not None:
                options["http_session"] = await stack.enter_async_context(
                    aiohttp.ClientSession(**{"connector": hpp.guarded_connector()} | lend)
                )
            given = {"base_url": sandbox.base_url, "timeouts": PATIENT, "retry": hpp.RetrySettings(**QUICK)} | options
            return await stack.enter_async_context(hpp.HPPClient(sandbox.api_key, **given))

        yield make
