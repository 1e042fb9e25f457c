"""Puts one row of the table on the stage: a sandbox, what misbehaves, a client, one call, and the record of it."""

import asyncio
import base64
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from ssl import SSLContext
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from attrs import frozen

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.faults import certificates
from tests.faults.judge import Facts, attempts_of
from tests.faults.table import MAX_ATTEMPTS, Place, Row
from tests.support.faults import find_fault
from tests.support.orders import CALLBACK_SECRET
from tests.support.ports import open_port
from tests.support.proxy import open_proxy

PATIENT = hpp.Timeouts(connect=10.0, read=20.0)
"""Where the server ends the attempt: a machine that is busy must not end it first."""
SHORT = hpp.Timeouts(connect=1.0, read=1.0)
"""Where only the client's own clock ends it."""
QUICK = {"initial": 0.01, "maximum": 0.05, "budget": 30.0}


class NoNames(AbstractResolver):
    """A resolver without a network: `unknown.invalid` does not exist, `silent.invalid` is never answered."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host == "silent.invalid":
            await asyncio.get_running_loop().create_future()
        raise OSError(None, "this name does not exist")

    async def close(self) -> None:
        """Nothing to close."""


@frozen(kw_only=True)
class Variant:
    """How a row is called for."""

    borrowed: bool
    """The aiohttp session is lent, with a hook and aiohttp's own tracing; it carries user name and key."""
    resend: bool
    once: bool
    """Only the first attempt meets the row."""


@frozen(kw_only=True)
class Site:
    """Where the client goes, and by which way."""

    base_url: str
    proxy: str | None = None
    ssl: SSLContext | None = None


def order(
    client: hpp.HPPClient, order_id: str, secret: str = CALLBACK_SECRET or "none", padding: int = 0
) -> hpp.CreateSessionRequest:
    """A request for an order, with a secret where shops have theirs."""
    return hpp.CreateSessionRequest(
        payment_session_url=client.order_url(order_id),
        merchant_urls=hpp.MerchantUrls(
            success="https://shop.example/thanks?sid={{session_id}}",
            status_update=f"https://shop.example/kustom?token={secret}",
        ),
        extra={"x_padding": "x" * padding} if padding else {},
    )


@contextlib.asynccontextmanager
async def site(sandbox: Sandbox, row: Row, *, once: bool) -> AsyncIterator[Site]:
    """Make the row happen."""
    async with contextlib.AsyncExitStack() as stack:
        https = certificates.trusting()
        secure = sandbox.base_url.replace("http:", "https:", 1)
        if row.place is Place.API:
            sandbox.fault(find_fault(row.told), skip=row.before, times=1 if once else None)
            yield Site(base_url=sandbox.base_url)
        elif row.place is Place.PORT:
            port = await stack.enter_async_context(open_port(sandbox, row.told))
            yield Site(base_url=port.base_url, ssl=https)
        elif row.place is Place.TLS:
            yield Site(base_url=secure, ssl=https)
        elif row.place is Place.NAME:
            yield Site(base_url=f"https://{row.told}.invalid")
        elif row.told == "refused":
            port = await stack.enter_async_context(open_port(sandbox, "refuse"))
            yield Site(base_url=sandbox.base_url, proxy=port.base_url, ssl=https)
        else:
            proxy = await stack.enter_async_context(open_proxy(sandbox, *[row.told, "ok"][: 1 + once]))
            yield Site(base_url=sandbox.base_url, proxy=proxy.url, ssl=https)


@contextlib.asynccontextmanager
async def lent(where: Site, heads: list[int]) -> AsyncIterator[aiohttp.ClientSession]:
    """An aiohttp session as the documentation says to lend it; aiohttp notes each head that it sends."""

    async def head_sent(*_: Any) -> None:
        heads.append(1)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(head_sent)
    connector = hpp.guarded_connector(resolver=NoNames(), ssl=where.ssl or True)
    async with aiohttp.ClientSession(connector=connector, trace_configs=[tracing]) as session:
        yield session


async def play(row: Row, variant: Variant) -> Facts:
    """One call that meets a row; what came of it, once the server has come to rest."""
    tls = {Place.TLS: row.told, Place.TUNNEL: "good"}.get(row.place)
    secret, heads, events = secrets.token_hex(16), [], []
    timeouts = SHORT if row.silent else PATIENT
    retry = hpp.RetrySettings(max_attempts=MAX_ATTEMPTS, on_unknown="resend" if variant.resend else "raise", **QUICK)
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(ssl=certificates.serving(tls) if tls else None))
        where = await stack.enter_async_context(site(sandbox, row, once=variant.once))
        proxy = where.proxy and where.proxy.replace("://", f"://u:{secret}@")
        options: dict[str, Any] = {"ssl": where.ssl}
        if variant.borrowed:
            session = await stack.enter_async_context(lent(where, heads))
            options = {"http_session": session, "hooks": [events.append], "username": sandbox.username}
        client = await stack.enter_async_context(
            hpp.HPPClient(
                sandbox.api_key, base_url=where.base_url, timeouts=timeouts, retry=retry, proxy=proxy, **options
            )
        )
        for number in range(row.before):
            await client.create_session(order(client, f"before-{number}"))
        heads.clear()
        events.clear()
        began = asyncio.get_running_loop().time()
        outcome = await _outcome(client, order(client, "the-order", secret, row.padding))
        elapsed = asyncio.get_running_loop().time() - began
        attempts = attempts_of(outcome)
        await sandbox.wait_until_idle()
        return Facts(
            outcome=outcome,
            posts=sandbox.record.posts[row.before :],
            created=sandbox.record.created_for(client.order_url("the-order")),
            sink=len(sandbox.record.sink),
            resend=variant.resend,
            elapsed=elapsed,
            # A wait that an answer asks for is at most 2 s in the table.
            limit=attempts * (timeouts.connect + timeouts.read) + 2 * (attempts - 1),
            secrets=(
                secret,
                sandbox.api_key,
                base64_of(f"{sandbox.username}:{sandbox.api_key}"),
                base64_of(f"u:{secret}"),
            ),
            traced=len(heads) if variant.borrowed and where.proxy is None else None,
            events=tuple(events),
        )


async def _outcome(client: hpp.HPPClient, request: hpp.CreateSessionRequest) -> hpp.Session | BaseException:
    try:
        return await client.create_session(request)
    except Exception as error:  # noqa: BLE001 - the judge says which ones are foreign
        return error


def base64_of(text: str) -> str:
    """As it stands in an Authorization header."""
    return base64.b64encode(text.encode()).decode()
