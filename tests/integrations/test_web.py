"""The integrations for web frameworks, each through the same tests on a real socket."""

import asyncio
import contextlib
import gc
import gzip
import json
import logging
import re
import zlib
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from starlette.applications import Starlette
from starlette.requests import Request

import kustom_hpp as hpp
from kustom_hpp.callbacks import StatusUpdate
from kustom_hpp.integrations import _shared, _status_endpoint, starlette
from kustom_hpp.sandbox import Sandbox
from tests.integrations.web import APPS, App
from tests.support.faults import find_fault
from tests.support.golden import FULL_DETAILS, FULL_SESSION_DETAILS
from tests.support.shape import run_python
from tests.test_shape import PACKAGE

SECRET = "Zm9yIG9uZSBzZXNzaW9uIG9ubHk"
BODY = b'{"event_id":"e-1","session":%s}' % FULL_DETAILS
UPDATE = StatusUpdate(event_id="e-1", session=FULL_SESSION_DETAILS)
WRONG = "the secret is not the session's"


@pytest.fixture(params=APPS.values(), ids=list(APPS))
def kind(request) -> type[App]:
    return request.param


@pytest.fixture
async def browser():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture
async def sandbox():
    async with Sandbox(callback_delay=0.05) as sandbox:
        yield sandbox


def no_client() -> hpp.HPPClient:
    """One that is never called."""
    return hpp.HPPClient("kco_test_x", transport=hpp.FakeTransport())


class Taken:
    """A handler of updates that remembers."""

    def __init__(self) -> None:
        self.updates: list[StatusUpdate] = []
        self.paths: list[str] = []
        self.changed = asyncio.Event()

    async def __call__(self, request: Any, update: StatusUpdate) -> None:
        self.updates.append(update)
        self.paths.append(str(request.url).partition("?")[0].rpartition("/")[2])
        self.changed.set()

    async def at_least(self, number: int) -> None:
        """Wait until so many updates have come."""
        async with asyncio.timeout(10):
            while len(self.updates) < number:
                self.changed.clear()
                await self.changed.wait()


def endpoint(kind: type[App], on_update: Any, secret: Any = SECRET, **options: Any) -> App:
    return kind(
        kind.verbs.client_context(no_client), status=kind.verbs.status_endpoint(on_update, secret=secret, **options)
    )


# -------------------------------------------------------------------------------------------------------------- the client


async def test_one_client_for_the_life_of_the_app(kind, browser):
    made, seen = [], []

    def make() -> hpp.HPPClient:
        asyncio.get_running_loop()
        made.append(hpp.HPPClient("kco_test_x", transport=hpp.FakeTransport()))
        return made[-1]

    async def do(client, _):
        seen.append(client)
        return "done"

    app = kind(kind.verbs.client_context(make), do={"pay": do})
    assert made == []
    async with app.serve() as url:
        for _ in range(3):
            async with browser.post(f"{url}/shop/pay") as answer:
                assert (answer.status, await answer.json(content_type=None)) == (200, "done")
    assert [client is made[0] for client in seen] == [True] * 3
    assert len(made) == 1
    assert made[0]._create_context.transport.closed


async def test_a_client_that_cannot_be_made_stops_the_start(kind):
    def make() -> hpp.HPPClient:
        return hpp.HPPClient()

    expected = hpp.ConfigError if kind is APPS["aiohttp"] else RuntimeError
    with pytest.raises(expected):
        async with kind(kind.verbs.client_context(make)).serve():
            pass


async def test_an_app_without_a_client_is_told_what_to_do(kind):
    async def work():
        raise AssertionError

    with pytest.raises(hpp.ConfigError, match=r"the app has no client: .*client_context\(\)"):
        kind.verbs.client_from(kind.bare_request())
    begun = work()
    with pytest.raises(hpp.ConfigError, match=r"the app has no client: .*client_context\(\)"):
        kind.verbs.run_in_background(kind.bare_request(), begun)
    begun.close()


async def test_work_may_begin_with_the_app(kind):
    """What the last run left to do is found at the start, before there is a request."""
    begun = asyncio.Event()
    client = no_client()

    async def work(given):
        assert given is client
        begun.set()

    def at_start(where):
        kind.verbs.run_in_background(where, work(kind.verbs.client_from(where)))

    async with kind(kind.verbs.client_context(lambda: client), at_start=at_start).serve():
        await asyncio.wait_for(begun.wait(), 5)


@pytest.mark.slow
@pytest.mark.parametrize("crowd", [60, pytest.param(500, marks=pytest.mark.slow)])
async def test_concurrent_requests_share_one_pool(kind, browser, sandbox, crowd):
    def make() -> hpp.HPPClient:
        return hpp.HPPClient(
            sandbox.api_key, base_url=sandbox.base_url, pool=hpp.Pool(connections=20), pace=hpp.Pace(rate=None)
        )

    async def pay(client, request):
        order = str(request.url).partition("order=")[2]
        session = await client.create_session(hpp.CreateSessionRequest(payment_session_url=client.order_url(order)))
        return [order, session.session_id]

    async with kind(kind.verbs.client_context(make), do={"pay": pay}).serve() as url:

        async def buy(number):
            async with browser.post(f"{url}/shop/pay?order=order-{number}") as answer:
                return await answer.json(content_type=None)

        sessions = await asyncio.gather(*(buy(number) for number in range(crowd)))
    made = {created.payment_session_url.rpartition("/")[2]: created.session_id for created in sandbox.record.created}
    assert dict(sessions) == made
    assert len(made) == crowd
    assert sandbox.record.counts.connections <= 20
    await sandbox.record.wait_for(lambda record: all(seen.closed_at for seen in record.connections), timeout=30)


HANGS, RESPONDS = "the API hangs", "the API responds"


@pytest.mark.parametrize(
    "case",
    [(HANGS, 60), (RESPONDS, 60), *(pytest.param((api, 300), marks=pytest.mark.slow) for api in (HANGS, RESPONDS))],
    ids=str,
)
async def test_stopping_under_load_leaves_nothing_open(kind, browser, sandbox, case, caplog):
    """Requests that the API answers are finished, the others are cut; and nobody says "Unclosed"."""
    hangs, crowd = case[0] == HANGS, case[1]
    if hangs:
        sandbox.fault(find_fault("hang~seconds=30"))
    reached = asyncio.Event()
    ended = []

    def make() -> hpp.HPPClient:
        # Hundreds of connections may take a busy machine longer than the default.
        return hpp.HPPClient(
            sandbox.api_key,
            base_url=sandbox.base_url,
            pool=hpp.Pool(connections=crowd // 3),
            timeouts=hpp.Timeouts(connect=30),
        )

    async def pay(client, request):
        reached.set()
        try:
            await client.create_session(hpp.CreateSessionRequest(payment_session_url=client.order_url("1")))
        except BaseException as error:
            ended.append(type(error))
            raise
        ended.append(None)
        return "paid"

    async with kind(kind.verbs.client_context(make), do={"pay": pay}, patience=0.5 if hangs else 30).serve() as url:

        async def buy():
            try:
                async with browser.post(f"{url}/shop/pay") as answer:
                    return answer.status
            except aiohttp.ClientError:
                return None

        buyers = [asyncio.create_task(buy()) for _ in range(crowd)]
        await reached.wait()
        if hangs:
            await sandbox.record.wait_for(lambda record: record.counts.posts >= crowd // 3, timeout=30)
    answers = await asyncio.gather(*buyers)
    if hangs:
        assert set(ended) <= {asyncio.CancelledError, hpp.ClientClosedError}
        assert 200 not in answers
    else:
        assert set(ended) == {None}
        assert answers.count(200) == len(ended)
    await sandbox.record.wait_for(lambda record: all(seen.closed_at for seen in record.connections), timeout=30)
    gc.collect()
    assert "Unclosed" not in caplog.text
    assert "never" not in caplog.text


# ----------------------------------------------------------------------------------------------------- the status callback


CALLBACKS: list[tuple[str, str, bytes | None, int, str | None, StatusUpdate | None]] = [
    # method, query, body; status and text of the answer, the update that is worked on
    ("POST", f"?secret={SECRET}", BODY, 204, "", UPDATE),
    ("POST", f"?hpp=1&secret={SECRET}&x=y", BODY, 204, "", UPDATE),
    ("POST", f"?secret={SECRET}", b"", 204, "", StatusUpdate()),
    ("POST", f"?secret={SECRET}", b"{}", 204, "", StatusUpdate()),
    ("POST", f"?secret={SECRET}", b" " * 65_536, 204, "", StatusUpdate()),
    ("GET", f"?secret={SECRET}", None, 405, "POST only", None),
    ("PUT", f"?secret={SECRET}", BODY, 405, "POST only", None),
    ("POST", "", BODY, 403, WRONG, None),
    ("POST", "?secret=", BODY, 403, WRONG, None),
    ("POST", f"?secret={SECRET}x", BODY, 403, WRONG, None),
    ("POST", f"?secret={SECRET[:-1]}", BODY, 403, WRONG, None),
    ("POST", "?secret=%C3%A4%FF%00", BODY, 403, WRONG, None),
    ("POST", f"?Secret={SECRET}", BODY, 403, WRONG, None),
    ("POST", f"?secret=wrong&secret={SECRET}", BODY, 403, WRONG, None),
    ("POST", f"?secret={SECRET}&secret=wrong", BODY, 403, WRONG, None),
    ("POST", "?secret=wrong", b"x" * 70_000, 403, WRONG, None),
    ("POST", f"?secret={SECRET}", b"garbage", 400, "the callback's body is not JSON at character 0", None),
    ("POST", f"?secret={SECRET}", b"[]", 400, "the callback's body is not a JSON object but a list", None),
    ("POST", f"?secret={SECRET}", b" " * 65_537, 413, "the body has more than 65536 bytes", None),
]  # fmt: skip


async def test_what_a_callback_is_answered(kind, browser):
    taken = Taken()
    answers = []
    async with endpoint(kind, taken).serve() as url:
        for method, query, body, *_ in CALLBACKS:
            before = len(taken.updates)
            async with browser.request(method, f"{url}/status/7{query}", data=body) as answer:
                text = await answer.text()
                assert answer.headers.get("Allow") == ("POST" if answer.status == 405 else None)
            if answer.status == 204:
                await taken.at_least(before + 1)
            updates = [*taken.updates[before:], None]
            answers.append((method, query, body, answer.status, text, updates[0]))
    assert answers == CALLBACKS
    assert taken.paths == ["7"] * len(taken.updates)
    assert not any(SECRET in str(answer[4]) for answer in answers)


async def test_a_chunked_body_is_read_no_further_than_the_cap(kind, browser):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1000

    taken = Taken()
    async with endpoint(kind, taken, max_size=3000).serve() as url:
        with contextlib.suppress(aiohttp.ClientError):  # the answer may come while the body is still going out
            async with browser.post(f"{url}/status/7?secret={SECRET}", data=endless()) as answer:
                assert answer.status == 413
    assert taken.updates == []


@pytest.mark.parametrize("secret", [SECRET, "wrong"])
async def test_a_body_that_is_too_long_or_unwanted_is_not_waited_for(kind, secret):
    """The answer comes, though of the body that is announced nothing does."""
    async with endpoint(kind, Taken()).serve() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST /status/7?secret={secret} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readline()).split()[1] == (b"413" if secret == SECRET else b"403")
        writer.close()
        await writer.wait_closed()


async def test_a_body_that_breaks_off_is_no_update(kind, caplog):
    taken = Taken()
    async with endpoint(kind, taken).serve() as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST /status/7?secret={SECRET} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100\r\n\r\n{{"
        writer.write(head.encode())
        await writer.drain()
        writer.transport.abort()
    assert taken.updates == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_body_that_does_not_come_is_not_waited_for_longer_than_the_api_waits(kind, monkeypatch):
    monkeypatch.setattr(_status_endpoint, "_RESPOND_WITHIN", 0.1)
    async with endpoint(kind, Taken()).serve() as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST /status/7?secret={SECRET} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 100\r\n\r\n{{"
        writer.write(head.encode())
        assert (await reader.readline()).split()[1] == b"503"
        writer.close()
        await writer.wait_closed()


def test_the_answer_goes_out_within_the_time_that_the_api_waits():
    assert _status_endpoint._RESPOND_WITHIN < 3


async def by_order(request):
    await asyncio.sleep(0)
    order = str(request.url).partition("?")[0].rpartition("/")[2]
    return {"7": SECRET, "8": "another-secret-of-order-8"}.get(order)


@pytest.mark.parametrize(
    ("secret", "order", "status"),
    [
        (by_order, "7", 204),
        (by_order, "8", 403),
        (by_order, "9", 403),
        (lambda _: SECRET, "7", 204),
        (lambda _: None, "7", 403),
    ],
)
async def test_the_secret_is_found_for_each_request(kind, browser, secret, order, status):
    taken = Taken()
    async with (
        endpoint(kind, taken, secret).serve() as url,
        browser.post(f"{url}/status/{order}?secret={SECRET}", data=BODY) as answer,
    ):
        assert answer.status == status
    assert taken.updates == ([UPDATE] if status == 204 else [])


@pytest.mark.parametrize("found", ["", 5, ZeroDivisionError()], ids=repr)
async def test_a_secret_that_cannot_be_one_lets_nobody_in(kind, browser, found):
    def secret(_: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    taken = Taken()
    async with (
        endpoint(kind, taken, secret).serve() as url,
        browser.post(f"{url}/status/7?secret=", data=BODY) as answer,
    ):
        assert answer.status == 500
    assert taken.updates == []


async def test_a_secret_that_is_not_found_in_time_is_asked_for_again(kind, browser, monkeypatch):
    async def secret(_: Any) -> str:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(_status_endpoint, "_RESPOND_WITHIN", 0.05)
    async with (
        endpoint(kind, Taken(), secret).serve() as url,
        browser.post(f"{url}/status/7?secret={SECRET}", data=BODY) as answer,
    ):
        assert (answer.status, await answer.text()) == (503, "no response in time, call again")


async def test_another_name_in_the_query(kind, browser):
    taken = Taken()
    async with (
        endpoint(kind, taken, parameter="token").serve() as url,
        browser.post(f"{url}/status/7?secret={SECRET}", data=BODY) as wrong,
        browser.post(f"{url}/status/7?token={SECRET}", data=BODY) as right,
    ):
        assert (wrong.status, right.status) == (403, 204)


def sync(request: Any, update: StatusUpdate) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("on_update", "secret", "why"),
    [
        (sync, SECRET, "on_update must be an async function"),
        (None, SECRET, "on_update must be an async function"),
        (Taken, "", "got an empty str"),
        (Taken, None, "got a NoneType"),
    ],
)
async def test_an_endpoint_that_cannot_work_is_not_made(kind, on_update, secret, why):
    with pytest.raises(hpp.ConfigError, match=why):
        kind.verbs.status_endpoint(on_update() if on_update is Taken else on_update, secret=secret)


# ------------------------------------------------------------------------------------------ callbacks that are refused

FORM, BYTES = "application/x-www-form-urlencoded", "application/octet-stream"
REFUSED: list[tuple[bytes, dict[str, str], int, str]] = [
    # body, headers; status, what the log line says after "a status callback was refused: "
    (b"event_id=1", {"Content-Type": FORM}, 400,
     f"content type {FORM}, length 10 bytes: the callback's body is not JSON at character 0"),
    (b"[1]", {"Content-Type": "application/json"}, 400,
     "content type application/json, length 3 bytes: the callback's body is not a JSON object but a list"),
    (b"{", {"Content-Type": "x\ty" * 60}, 400,
     "content type " + ("x\\ty" * 60)[:100] + "\u2026, length 1 bytes: the callback's body is not JSON at character 1"),
    (b"x" * 65_537, {"Content-Type": "text/plain"}, 413,
     "content type text/plain, length 65537 bytes: the body has more than 65536 bytes"),
    (gzip.compress(b" " * 65_537), {"Content-Encoding": "gzip"}, 413,
     f"content type {BYTES}, length {len(gzip.compress(b' ' * 65_537))} bytes: the body has more than 65536 bytes"),
    (BODY, {"Content-Encoding": "gzip"}, 400,
     f"content type {BYTES}, length {len(BODY)} bytes: the body is not compressed as its Content-Encoding says"),
    (BODY, {"Content-Encoding": "compress"}, 400,
     f"content type {BYTES}, length {len(BODY)} bytes: the body has an unknown Content-Encoding"),
    (BODY, {"Content-Encoding": "gzip, gzip"}, 400,
     f"content type {BYTES}, length {len(BODY)} bytes: the body has an unknown Content-Encoding"),
]  # fmt: skip


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused[3])
async def test_a_callback_with_the_secret_that_is_refused_leaves_one_line(kind, browser, caplog, refused):
    body, headers, status, line = refused
    taken = Taken()
    async with (
        endpoint(kind, taken).serve() as url,
        browser.post(f"{url}/status/7?secret={SECRET}", data=body, headers=headers) as answer,
    ):
        assert answer.status == status
    (record,) = [record for record in caplog.records if record.name == "kustom_hpp"]
    assert (record.levelno, record.getMessage()) == (logging.WARNING, f"a status callback was refused: {line}")
    assert SECRET not in caplog.text
    assert taken.updates == []


ENCODINGS = {
    "gzip": gzip.compress,
    "GZIP": gzip.compress,
    "X-Gzip": gzip.compress,
    "gzip, identity": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}
AIOHTTP = [int(part) for part in re.findall("[0-9]+", aiohttp.__version__)]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_compressed_callback_is_read(kind, browser, encoding):
    compress, taken = ENCODINGS[encoding], Taken()
    # Content codings are case-insensitive (RFC 9110, 8.4.1); an older aiohttp fails before the endpoint has the body.
    readable = kind is not APPS["aiohttp"] or encoding != "GZIP" or AIOHTTP >= [3, 14, 4]
    async with endpoint(kind, taken).serve() as url:
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        async with browser.post(f"{url}/status/7?secret={SECRET}", data=compress(BODY), headers=headers) as answer:
            assert answer.status == (204 if readable else 400)
        await taken.at_least(1 if readable else 0)
    assert taken.updates == ([UPDATE] if readable else [])


# ------------------------------------------------------------------------------------------- acknowledge before or after


@pytest.mark.parametrize(
    "case",
    [
        (0, None, 204, []),
        (0.05, None, 204, []),
        (0, ZeroDivisionError(), 503, ["work on a status update failed"]),
        (60, None, 503, ["work on a status update took more than 0.4 s and was cancelled"]),
    ],
    ids=["at once", "slow", "fails", "too slow"],
)
async def test_a_callback_that_is_acknowledged_after_its_handler(kind, browser, caplog, monkeypatch, case):
    seconds, error, status, logged = case
    monkeypatch.setattr(_status_endpoint, "_RESPOND_WITHIN", 0.4)
    ended: list[object] = []

    async def on_update(request: Any, update: StatusUpdate) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        ended.append(update)
        if error is not None:
            raise error

    async with (
        endpoint(kind, on_update, acknowledge="after").serve() as url,
        browser.post(f"{url}/status/7?secret={SECRET}", data=BODY) as answer,
    ):
        assert answer.status == status
        assert ended == ([UPDATE] if seconds < 1 else ["cancelled"])
    assert [record.getMessage() for record in caplog.records if record.name == "kustom_hpp"] == logged


async def test_a_handler_that_fails_once_is_called_again_by_the_api(kind, sandbox, browser):
    """The sandbox calls as the API does: again, until it gets a 2xx."""
    taken, failures = Taken(), [ZeroDivisionError()]

    async def on_update(request: Any, update: StatusUpdate) -> None:
        if failures:
            raise failures.pop()
        await taken(request, update)

    async with endpoint(kind, on_update, acknowledge="after").serve() as url:
        async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client:
            session = await client.create_session(
                hpp.CreateSessionRequest(
                    payment_session_url=client.order_url("1"),
                    merchant_urls=hpp.MerchantUrls(status_update=f"{url}/status/7?secret={SECRET}"),
                )
            )
        sandbox.act(session, "pay")
        await taken.at_least(1)
    assert taken.updates[-1].session.session_id == session.session_id


@pytest.mark.parametrize("acknowledge", ["", "later", None, True])
def test_another_time_to_acknowledge_is_refused(kind, acknowledge):
    with pytest.raises(hpp.ConfigError, match="acknowledge must be 'before' or 'after'"):
        kind.verbs.status_endpoint(Taken(), secret=SECRET, acknowledge=acknowledge)


# --------------------------------------------------------------------------------------------------- work in the background


async def test_the_answer_does_not_wait_for_the_work(kind, browser):
    go, done = asyncio.Event(), asyncio.Event()

    async def on_update(request, update):
        await go.wait()
        done.set()

    async with endpoint(kind, on_update).serve() as url:
        async with browser.post(f"{url}/status/7?secret={SECRET}", data=BODY) as answer:
            assert answer.status == 204
        gc.collect()  # nobody else holds the task
        assert not done.is_set()
        go.set()
        await asyncio.wait_for(done.wait(), 5)


async def test_work_that_fails_is_logged_and_the_next_one_goes_on(kind, browser, caplog):
    taken = Taken()

    async def on_update(request, update):
        if not update.event_id:
            raise ZeroDivisionError("of the shop")
        await taken(request, update)

    async with endpoint(kind, on_update).serve() as url:
        for body in (b"", BODY):
            async with browser.post(f"{url}/status/7?secret={SECRET}", data=body) as answer:
                assert answer.status == 204
        await taken.at_least(1)
    (record,) = [record for record in caplog.records if record.name == "kustom_hpp"]
    assert (record.levelno, record.message) == (logging.ERROR, "work on a status update failed")
    assert record.exc_info[0] is ZeroDivisionError


async def test_stopping_finishes_updates_and_cancels_all_else(kind, browser, caplog):
    """Updates have the grace, the client lives until they are done; what would go on for ever is cancelled at once."""
    ended: dict[str, Any] = {}
    held = asyncio.Event()
    clients: list[hpp.HPPClient] = []

    async def on_update(request, update):
        clients.append(kind.verbs.client_from(request))
        try:
            if update.event_id:
                kind.verbs.run_in_background(request, forever())
                await asyncio.wait_for(held.wait(), 5)
                ended["finished"] = clients[0]._create_context.transport.closed
            else:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended["cut"] = clients[0]._create_context.transport.closed
            raise

    async def forever():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended["forever"] = clients[0]._create_context.transport.closed
            held.set()
            raise

    app = kind(
        kind.verbs.client_context(no_client, grace=0.3), status=kind.verbs.status_endpoint(on_update, secret=SECRET)
    )
    async with app.serve() as url:
        for body in (BODY, b""):
            async with browser.post(f"{url}/status/7?secret={SECRET}", data=body) as answer:
                assert answer.status == 204
        while len(clients) < 2:
            await asyncio.sleep(0)
    # What goes on for ever was the first to end; it let the first update finish; the second was cut when the grace was over.
    assert list(ended) == ["forever", "finished", "cut"]
    assert ended == {"forever": False, "finished": False, "cut": False}
    assert clients[0]._create_context.transport.closed
    (record,) = [record for record in caplog.records if record.name == "kustom_hpp"]
    assert record.message == "a status update was not finished when the app stopped, with 0.3 s of grace"


async def test_nothing_is_begun_once_the_app_stops(kind):
    async def work():
        raise AssertionError

    app_client = _shared.AppClient(no_client(), 1.0)
    await app_client.aclose()
    for begin in (app_client.start_work, app_client.start_update):
        with pytest.raises(RuntimeError, match="the app is stopping"):
            begin(work())
    with pytest.raises(hpp.ClientClosedError):
        await app_client.client.create_session(hpp.CreateSessionRequest(payment_session_url="https://a.example/1"))


async def test_a_client_is_closed_though_the_stop_itself_is_cancelled():
    async def stubborn():
        await asyncio.Event().wait()

    app_client = _shared.AppClient(no_client(), 60.0)
    app_client.start_update(stubborn())
    stop = asyncio.create_task(app_client.aclose())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    assert app_client.client._create_context.transport.closed


@pytest.mark.parametrize("times", [1, 2])
async def test_nothing_outlives_a_stop_that_is_cancelled(times, caplog):
    """Within its grace, and then once more while the updates clean up; each still has its client when it ends."""
    ended = []
    held = asyncio.Event()

    async def work(name):
        try:
            await asyncio.Event().wait()
        finally:
            if name == "update" and times == 2:
                held.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(10)
            ended.append((name, app_client.client._create_context.transport.closed))

    before = asyncio.all_tasks()
    app_client = _shared.AppClient(no_client(), 60.0)
    app_client.start_update(work("update"))
    app_client.start_work(work("other"))
    await asyncio.sleep(0)
    stop = asyncio.create_task(app_client.aclose())
    await asyncio.sleep(0)
    for _ in range(times - 1):
        stop.cancel()
        await asyncio.wait_for(held.wait(), 5)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    assert sorted(ended) == [("other", False), ("update", False)]
    assert asyncio.all_tasks() == before
    assert app_client.client._create_context.transport.closed
    assert [record.message for record in caplog.records if record.name == "kustom_hpp"] == [
        "a status update was not finished when the app stopped, with 60 s of grace"
    ]


async def test_what_was_judged_good_is_worked_off_though_the_answer_never_goes_out():
    """The update belongs to the app from the moment that its answer is made."""

    async def body():
        yield BODY

    taken = Taken()
    app_client = _shared.AppClient(no_client(), 5.0)
    incoming = _status_endpoint.CallbackRequest(method="POST", secrets=[SECRET], headers={}, body=body())
    request = make_mocked_request("POST", "/status/7")
    answer = await _status_endpoint.StatusEndpoint(taken, SECRET, 65_536).handle(
        app_client.start_update, request, incoming
    )
    assert answer == _status_endpoint.CallbackResponse(status=204)
    await app_client.aclose()
    assert taken.updates == [UPDATE]


# ------------------------------------------------------------------------------------------------------------ Starlette only


@pytest.mark.parametrize(
    ("query", "length", "status"),
    [
        (f"secret={SECRET}", "9" * 5000, 413),
        (f"secret={SECRET}", "9" * 19, 413),
        (f"secret={SECRET}", "0" * 5000 + "2", 204),
        (f"secret={SECRET}", "two", 204),
        ("secret=wrong", "9" * 5000, 403),
    ],
)  # fmt: skip
async def test_a_content_length_that_the_server_did_not_judge(query, length, status):
    """Some servers hand on whatever stands there: what counts is the secret, then how much comes."""
    app = Starlette()
    app.add_route("/status", starlette.status_endpoint(Taken(), secret=SECRET), methods=["POST"])
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        sent.append(message)

    async with starlette.client_context(no_client)(app) as state:
        scope = {
            "type": "http", "method": "POST", "path": "/status", "root_path": "", "query_string": query.encode(),
            "headers": [(b"content-length", length.encode())], "state": dict(state),
        }  # fmt: skip
        await app(scope, receive, send)
    assert sent[0]["status"] == status


@pytest.mark.parametrize("own", [{"x": 1}, object(), None], ids=["mapping", "object", "none"])
async def test_a_state_may_have_a_state_of_its_own(own):
    async with starlette.client_context(no_client)(Starlette()) as state:
        given = {"state": own, **state}
        client = starlette.client_from(state)
        assert starlette.client_from(given) is client
        assert starlette.client_from(Request({"type": "http", "state": given})) is client
    with pytest.raises(hpp.ConfigError, match="the app has no client"):
        starlette.client_from({"state": own})


# ------------------------------------------------------------------------------------------------------------ other libraries


def test_without_starlette_the_error_names_the_extra():
    done = run_python(
        "import sys; sys.modules['starlette'] = None; import kustom_hpp.integrations.starlette", PACKAGE.parent
    )
    assert done.stderr.splitlines()[-1] == (
        "ImportError: kustom_hpp.integrations.starlette needs starlette: pip install 'kustom_hpp[starlette]'"
    )


@pytest.mark.parametrize(
    ("name", "absent"), [("aiohttp_web", ["starlette", "fastapi"]), ("starlette", ["fastapi", "uvicorn", "pydantic"])]
)
def test_an_integration_loads_no_other_framework(name, absent):
    done = run_python(
        f"import sys, json, kustom_hpp.integrations.{name}; print(json.dumps([n for n in {absent} if n in sys.modules]))",
        PACKAGE.parent,
    )
    assert json.loads(done.stdout) == []
