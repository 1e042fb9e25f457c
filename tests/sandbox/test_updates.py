"""Status callbacks, judged by the shop that gets them, and by what the record says of them."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import pytest
from aiohttp import web

from kustom_hpp import callbacks
from kustom_hpp.sandbox import RecordedCallback, Sandbox
from tests.sandbox.support import PATH, ask, call, order, request
from tests.support.ports import open_port

Reaction = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Shop:
    """A shop's endpoint for status callbacks, on a port of its own: answers 200, or as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, Any], web.Request]] = []
        self.reactions: list[int | Reaction] = []
        """What the next calls meet; then 200."""
        self.url = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for body, _ in self.got]

    @property
    def statuses(self) -> list[str]:
        return [body["session"]["status"] for body in self.bodies]

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/status/{name}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/status/a"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.got.append((await request.json(), request))
        reaction = self.reactions.pop(0) if self.reactions else 200
        return web.Response(status=reaction) if isinstance(reaction, int) else await reaction(request)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with Shop() as opened:
        yield opened


@pytest.fixture
async def hasty(shop: Shop) -> AsyncIterator[Sandbox]:
    """A sandbox that repeats at once; when it closes, all it began is over."""
    async with Sandbox(callback_timeout=10, callback_delay=0.01) as sandbox:
        yield sandbox
    ours = {task for task in asyncio.all_tasks() if "_tell" in repr(task)}
    assert ours == set()


async def made(sandbox: Sandbox, status_update: str | None, number: int = 1) -> str:
    body = {"payment_session_url": order(number), "merchant_urls": {"status_update": status_update}}
    return str((await ask(sandbox, request(sandbox, body=json.dumps(body).encode()))).json["session_id"])


async def calls(sandbox: Sandbox, count: int) -> tuple[RecordedCallback, ...]:
    """The record's callbacks, once there are so many and none is due."""
    await sandbox.record.wait_for(lambda record: len(record.callbacks) >= count)
    await sandbox.wait_until_idle()
    assert len(sandbox.record.callbacks) == count
    return sandbox.record.callbacks


# What is told.


async def test_every_change_is_told_with_the_session_as_read(hasty: Sandbox, shop: Shop) -> None:
    session_id = await made(hasty, f"{shop.url}?hpp={{{{session_id}}}}&o={{{{order_id}}}}&secret=abc%20def")
    await hasty.wait_until_idle()
    assert shop.got == []

    hasty.act(session_id, "decline")
    hasty.act(session_id, "back")
    hasty.act(session_id, "pay")
    await hasty.wait_until_idle()
    assert shop.statuses == ["IN_PROGRESS", "FAILED", "IN_PROGRESS", "BACK", "IN_PROGRESS", "COMPLETED"]
    assert len({body["event_id"] for body in shop.bodies}) == 6
    for body in shop.bodies:
        update = callbacks.parse(json.dumps(body).encode())
        assert (update.event_id, update.extra) == (body["event_id"], {})
        assert update.session is not None
        assert (update.session.session_id, update.session.extra) == (session_id, {})
    read = (await ask(hasty, call(hasty, f"GET {PATH}/{session_id}"))).json
    assert shop.bodies[-1]["session"] == read
    assert shop.bodies[0]["session"]["updated_at"] <= shop.bodies[-1]["session"]["updated_at"]
    for _, got in shop.got:
        assert got.content_type == "application/json"
        assert dict(got.query) == {"hpp": session_id, "o": "1", "secret": "abc def"}
        assert "Authorization" not in got.headers


async def test_disabling_is_a_change_and_a_distribution_is_none(hasty: Sandbox, shop: Shop) -> None:
    session_id = await made(hasty, shop.url)
    body = json.dumps({"method": "email", "contact_information": {"email": "ann@shop.example"}}).encode()
    await ask(hasty, call(hasty, f"POST {PATH}/{session_id}/distribution", body))
    await ask(hasty, call(hasty, f"POST {PATH}/{session_id}/manual-id-check"))
    for _ in range(2):
        await ask(hasty, call(hasty, f"DELETE {PATH}/{session_id}"))
    await hasty.wait_until_idle()
    assert shop.statuses == ["MANUAL_ID_CHECK", "DISABLED"]


@pytest.mark.parametrize("url", [None, ""])
async def test_without_a_url_nobody_is_told(hasty: Sandbox, url: str | None) -> None:
    hasty.act(await made(hasty, url), "pay")
    await hasty.wait_until_idle()
    assert hasty.record.callbacks == ()


async def test_what_was_told_is_in_the_record_and_the_timeline_without_secrets(hasty: Sandbox, shop: Shop) -> None:
    shop.reactions = [500]
    session_id = await made(hasty, f"{shop.url}?secret=abc")
    hasty.act(session_id, "open")
    first, second = await calls(hasty, 2)
    assert (first.session_id, first.attempt, first.status, first.error) == (session_id, 1, 500, None)
    assert (second.session_id, second.attempt, second.status, second.error) == (session_id, 2, 200, None)
    assert json.loads(first.body) == json.loads(second.body) == shop.bodies[0] == shop.bodies[1]
    assert first.event_id == second.event_id == shop.bodies[0]["event_id"]
    assert first.url == f"{shop.url}?secret=abc"
    assert first.at <= second.at
    assert [moment.detail for moment in hasty.state.sessions[session_id].timeline[-2:]] == [
        f"500, attempt 1 of 4: IN_PROGRESS to {shop.url}?***",
        f"200, attempt 2 of 4: IN_PROGRESS to {shop.url}?***",
    ]
    assert "secret=abc" not in repr((hasty.record.callbacks, hasty.state.sessions[session_id].timeline))
    assert hasty.record.counts.callbacks == 2
    hasty.record.clear()
    assert hasty.record.callbacks == ()


# What is repeated.


async def silence(_: web.Request) -> web.StreamResponse:
    return await asyncio.get_running_loop().create_future()


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("/status/elsewhere")


async def endless(request: web.Request) -> web.StreamResponse:
    """A 200 whose body has no end: nobody reads it."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in itertools.count():
        await response.write(b"a" * 65_536)
    return response


def name_of(reaction: object) -> str:
    """The same in every process that collects the tests."""
    return getattr(reaction, "__name__", str(reaction))


@pytest.mark.parametrize("reaction", [500, 404, 304, cut, redirect], ids=name_of)
async def test_what_is_not_taken_is_repeated_three_times(hasty: Sandbox, shop: Shop, reaction: int | Reaction) -> None:
    shop.reactions = [reaction] * 9
    session_id = await made(hasty, shop.url)
    hasty.act(session_id, "open")
    made_calls = await calls(hasty, 4)
    assert [one.attempt for one in made_calls] == [1, 2, 3, 4]
    assert len({one.event_id for one in made_calls}) == 1
    assert len(shop.got) == 4
    assert {got.path for _, got in shop.got} == {"/status/a"}
    status = None if reaction is cut else 307 if reaction is redirect else reaction
    assert {one.status for one in made_calls} == {status}
    assert {one.error for one in made_calls} == {"ServerDisconnectedError" if reaction is cut else None}


async def test_silence_is_not_waited_for(shop: Shop) -> None:
    shop.reactions = [silence] * 9
    async with Sandbox(callback_timeout=0.5, callback_delay=0.01) as sandbox:
        sandbox.act(await made(sandbox, shop.url), "open")
        made_calls = await calls(sandbox, 4)
    assert {(one.status, one.error) for one in made_calls} == {(None, "no response within 0.5 s")}


@pytest.mark.parametrize("reaction", [200, 201, 204, 299, endless], ids=name_of)
async def test_any_2xx_takes_it(hasty: Sandbox, shop: Shop, reaction: int | Reaction) -> None:
    shop.reactions = [500, reaction]
    hasty.act(await made(hasty, shop.url), "open")
    assert [one.status for one in await calls(hasty, 2)] == [500, 200 if reaction is endless else reaction]


async def test_the_order_of_a_session_s_changes_is_kept(hasty: Sandbox, shop: Shop) -> None:
    shop.reactions = [500, cut, 200, cut, 500, 500, 500]
    session_id = await made(hasty, shop.url)
    hasty.act(session_id, "decline")
    hasty.act(session_id, "cancel")
    await calls(hasty, 3 + 4 + 2)
    assert [name for name, _ in itertools.groupby(shop.statuses)] == [
        "IN_PROGRESS",
        "FAILED",
        "IN_PROGRESS",
        "CANCELLED",
    ]


async def test_one_session_s_silence_holds_up_no_other_and_no_request(shop: Shop) -> None:
    shop.reactions = [silence]
    async with Sandbox(callback_timeout=60, callback_delay=60) as sandbox:
        silent, other = await made(sandbox, shop.url, 1), await made(sandbox, shop.url, 2)
        sandbox.act(silent, "open")
        await shop_has(shop, 1)
        sandbox.act(other, "open")
        assert (await ask(sandbox, call(sandbox, f"GET {PATH}/{silent}"))).json["status"] == "IN_PROGRESS"
        await calls_of(sandbox, other, 1)
        assert [one.session_id for one in sandbox.record.callbacks] == [other]
        with pytest.raises(TimeoutError, match="still serving"):
            await sandbox.wait_until_idle(timeout=0.05)


async def shop_has(shop: Shop, count: int) -> None:
    async with asyncio.timeout(5):
        while len(shop.got) < count:
            await asyncio.sleep(0)


async def calls_of(sandbox: Sandbox, session_id: str, count: int) -> None:
    await sandbox.record.wait_for(lambda record: sum(one.session_id == session_id for one in record.callbacks) >= count)


async def test_settled_does_not_wait_for_a_repetition(shop: Shop) -> None:
    shop.reactions = [500]
    async with Sandbox(callback_delay=60) as sandbox:
        sandbox.act(await made(sandbox, shop.url), "open")
        await sandbox.wait_until_idle()
        assert [one.status for one in sandbox.record.callbacks] == [500]


async def test_of_very_many_that_wait_the_oldest_are_dropped(shop: Shop) -> None:
    shop.reactions = [500]
    async with Sandbox(callback_delay=0.05) as sandbox:
        session_id = await made(sandbox, shop.url)
        sandbox.act(session_id, "open")
        await calls(sandbox, 1)
        for _ in range(100):
            sandbox.act(session_id, "back")
        await sandbox.record.wait_for(lambda record: len(record.callbacks) >= 102)
        await sandbox.wait_until_idle()
        assert len(shop.got) == 1 + 1 + 100
        assert shop.statuses[:3] == ["IN_PROGRESS", "IN_PROGRESS", "IN_PROGRESS"]
        assert shop.statuses[-1] == "BACK"


# Where nobody is.


@pytest.mark.parametrize("host", ["shop.example", "shop.invalid", "example.com", "www.example.org"])
async def test_names_of_nobody_are_not_looked_up(hasty: Sandbox, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **_: asked.append(args))
    hasty.act(await made(hasty, f"https://{host}/status?secret=abc"), "open")
    assert {one.error for one in await calls(hasty, 4)} == {"ConnectionError"}
    assert asked == []


async def test_a_port_where_nobody_listens(hasty: Sandbox) -> None:
    async with open_port(hasty, "refuse") as port:
        hasty.act(await made(hasty, f"{port.base_url}/status"), "open")
        made_calls = await calls(hasty, 4)
    assert {(one.status, one.error) for one in made_calls} == {(None, "ClientConnectorError")}


# The end.


@pytest.mark.parametrize("reaction", [silence, 500], ids=["a call", "a delay"])
async def test_closing_ends_what_is_under_way(shop: Shop, reaction: int | Reaction) -> None:
    before = asyncio.all_tasks()
    shop.reactions = [reaction]
    sandbox = await Sandbox(callback_timeout=60, callback_delay=60).open()
    session_id = await made(sandbox, shop.url)
    sandbox.act(session_id, "open")
    await shop_has(shop, 1)
    start = asyncio.get_running_loop().time()
    await sandbox.aclose()
    assert asyncio.get_running_loop().time() - start < 1
    assert {task for task in asyncio.all_tasks() - before if "_tell" in repr(task)} == set()
    # After it nothing is told, and a sandbox that is opened again tells again.
    sandbox.act(session_id, "back")
    async with sandbox:
        sandbox.act(session_id, "pay")
        await sandbox.wait_until_idle()
    assert shop.statuses == ["IN_PROGRESS", "IN_PROGRESS", "COMPLETED"]


async def test_a_worker_that_never_ran_leaves_nothing(shop: Shop) -> None:
    sandbox = await Sandbox().open()
    sandbox.act(await made(sandbox, shop.url), "open")
    await sandbox.aclose()
    assert (shop.got, sandbox._callbacks.is_quiet) == ([], True)


async def test_a_callback_can_be_repeated(shop: Shop, hasty: Sandbox) -> None:
    session_id = await made(hasty, shop.url)
    with pytest.raises(LookupError, match="no status callback"):
        hasty.repeat_callback(session_id)
    with pytest.raises(LookupError, match="no session nothing"):
        hasty.repeat_callback("nothing")
    hasty.act(session_id, "pay")
    await calls(hasty, 2)
    hasty.repeat_callback(session_id)
    await calls(hasty, 3)
    assert shop.bodies[2] == shop.bodies[1]
    assert shop.statuses == ["IN_PROGRESS", "COMPLETED", "COMPLETED"]
