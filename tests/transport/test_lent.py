"""A session that the caller lends: what is refused, what is switched off, and what is left alone."""

import asyncio
import logging
from unittest import mock

import aiohttp
import pytest

import kustom_hpp as hpp
from kustom_hpp._messages import Delivery, SendMarker
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.transport import HTTPSessionManager, guarded_connector
from tests.support.ports import open_port
from tests.transport.support import opened, request_to, send


def guarded(**options) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=guarded_connector(), **options)


@pytest.mark.parametrize(
    ("session", "text"),
    [
        (object(), r"must be an aiohttp\.ClientSession, got a object"),
        (mock.Mock(spec=aiohttp.ClientSession, auth=("u", "p")), "has auth="),
        (mock.Mock(spec=aiohttp.ClientSession, auth=None, trust_env=True), "has trust_env=True"),
    ],
    ids=["no session", "auth", "trust_env"],
)
def test_a_session_that_would_change_our_requests_is_refused(session, text):
    with pytest.raises(hpp.ConfigError, match=text) as caught:
        HTTPSessionManager(pool=hpp.Pool(), http_session=session)
    assert "'u'" not in str(caught.value)


@pytest.mark.parametrize(("make", "warnings"), [(guarded_connector, 0), (aiohttp.TCPConnector, 1)])
async def test_a_pool_that_does_not_look_is_warned_of(make, warnings, caplog):
    async with aiohttp.ClientSession(connector=make()) as session:
        HTTPSessionManager(pool=hpp.Pool(), http_session=session)
    found = [record for record in caplog.records if "guarded_connector()" in record.getMessage()]
    assert [(record.name, record.levelno) for record in found] == [("kustom_hpp", logging.WARNING)] * warnings


async def test_it_is_used_and_never_closed():
    async with Sandbox() as sandbox, guarded() as session:
        async with opened(http_session=session) as manager:
            assert (await send(manager, request_to(sandbox))).status == 201
            assert manager._session is session
        assert not session.closed
        with pytest.raises(hpp.ClientClosedError):
            await send(manager, request_to(sandbox))
        # Lent to the next one.
        async with opened(http_session=session) as manager:
            assert (await send(manager, request_to(sandbox))).status == 201
        assert sandbox.record.counts.connections == 1


async def test_a_session_that_its_owner_closed():
    async with Sandbox() as sandbox:
        session = guarded()
        async with opened(http_session=session) as manager:
            await session.close()
            with pytest.raises(hpp.ClientClosedError, match="closed by its owner"):
                await send(manager, request_to(sandbox))


def test_a_session_of_another_loop():
    async def make() -> aiohttp.ClientSession:
        return guarded()

    async def use(session: aiohttp.ClientSession) -> None:
        with pytest.raises(hpp.WrongLoopError):
            await send(HTTPSessionManager(pool=hpp.Pool(), http_session=session), request_to(Sandbox()))

    with asyncio.Runner() as first:
        session = first.run(make())
        asyncio.run(use(session))
        first.run(session.close())


@pytest.mark.parametrize(
    ("pool", "limits", "width"),
    [(5, {}, 5), (5, {"limit": 3}, 3), (5, {"limit": 0}, 5), (5, {"limit_per_host": 2}, 2), (1, {"limit": 9}, 1),
     (5, {"limit": 4, "limit_per_host": 3}, 3)],
)  # fmt: skip
async def test_the_gate_is_as_wide_as_the_narrower_pool(pool, limits, width):
    async with aiohttp.ClientSession(connector=guarded_connector(**limits)) as session:
        manager = HTTPSessionManager(pool=hpp.Pool(connections=pool), http_session=session)
        assert manager._slots.width == width


async def test_its_habits_are_switched_off():
    seen = []

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        seen.append(request)
        return await handler(request)

    habits = {"raise_for_status": True, "middlewares": (middleware,), "timeout": aiohttp.ClientTimeout(total=0.05)}
    async with Sandbox() as sandbox, guarded(**habits) as session, opened(http_session=session) as manager:
        sandbox.fault(["slow_head~seconds=0.2", "status_500", "redirect_307"])
        statuses = [(await send(manager, request_to(sandbox))).status for _ in range(3)]
        assert statuses == [201, 500, 307]
    assert seen == []


async def test_a_session_that_rewrites_bodies_is_found_out():
    really = aiohttp.ClientSession._request

    async def rewriting(self, method, url, *, data=None, **options):
        return await really(self, method, url, data=bytes(data._value), **options)

    async with Sandbox() as sandbox, guarded() as session, open_port(sandbox, "refuse") as port:
        with mock.patch.object(aiohttp.ClientSession, "_request", rewriting):
            async with opened(http_session=session) as manager:
                nowhere = request_to(sandbox, base_url=port.base_url)
                with pytest.raises(hpp.ConnectError):
                    await send(manager, nowhere)
                # An answer without the mark: from here on the mark proves nothing, and "not sent" is never said.
                mark = SendMarker()
                assert (await send(manager, request_to(sandbox), mark)).status == 201
                assert mark.delivery is Delivery.UNKNOWN
                with pytest.raises(hpp.LostResponseError):
                    await send(manager, nowhere)
                # The payload that would ask may_send is not written, so it is asked before.
                with pytest.raises(hpp.LeaseLostError):
                    await send(manager, request_to(sandbox, may_send=lambda: False))
                assert sandbox.record.counts.created == 1


async def test_nothing_around_a_session_sends_twice():
    really = aiohttp.ClientSession._request

    async def insistent(self, *arguments, **options):
        try:
            return await really(self, *arguments, **options)
        except aiohttp.ClientError:
            return await really(self, *arguments, **options)

    async with Sandbox(faults=["close_after_request"]) as sandbox, guarded() as session:
        with mock.patch.object(aiohttp.ClientSession, "_request", insistent):
            async with opened(http_session=session) as manager:
                with pytest.raises(hpp.LostResponseError) as caught:
                    await send(manager, request_to(sandbox))
                await sandbox.wait_until_idle()
                assert (sandbox.record.counts.created, caught.value.delivery) == (1, Delivery.UNKNOWN)
                assert [post.complete for post in sandbox.record.posts][1:] in ([], [False])
