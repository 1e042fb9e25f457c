"""The traps of the world around a request: cookies, settings, hints, the pool, loops and processes, names: T11 to T21."""

import asyncio
import contextlib
import copy
import os
import pickle
import threading
import warnings
from collections.abc import Callable

import aiohttp
import pytest
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp import Delivery
from kustom_hpp._messages import HttpRequest, SendMarker
from kustom_hpp._redaction import Secret
from kustom_hpp.sandbox import Sandbox
from tests.faults.play import SHORT, NoNames, order
from tests.support.faults import find_fault
from tests.support.ports import open_port

both_sessions = pytest.mark.parametrize("lend", [None, {}], ids=["owned", "borrowed"])
ONCE = hpp.RetrySettings(max_attempts=1)


@pytest.mark.parametrize("lent", [False, True], ids=["owned", "borrowed"])
async def test_t11_no_cookie_is_sent_back(lent):
    # By name: aiohttp's own jar keeps no cookies of addresses.
    async with Sandbox(host="localhost") as sandbox:
        sandbox.fault(find_fault("set_cookie"))
        session = None
        if lent:
            jar = aiohttp.DummyCookieJar()
            session = aiohttp.ClientSession(connector=hpp.guarded_connector(), cookie_jar=jar)
        async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, http_session=session) as client:
            for number in range(3):
                await client.create_session(order(client, f"t11-{number}"))
        if session is not None:
            await session.close()
        assert [post.header("cookie") for post in sandbox.record.posts] == [None] * 3


@both_sessions
async def test_t12_the_user_agent_arrives_as_it_was_checked(sandbox, make_client, lend):
    client = await make_client(lend, app_info="MyShop/1.2")
    await client.create_session(order(client, "t12"))
    agent = sandbox.record.posts[0].header("user-agent")
    assert agent is not None
    assert agent.startswith(f"Library/kustom_hpp_{hpp.__version__} (aiohttp/{aiohttp.__version__}) ".encode())
    assert agent.endswith(b"MyShop/1.2")


@pytest.mark.parametrize("text", ["Shöp/1", "Shop\udc80/1", "Shop/1\r\nX: y", " Shop/1", "S" * 9_000, "Shop\x7f"])
def test_t12_one_that_aiohttp_would_bend_is_refused(text):
    with pytest.raises(hpp.ConfigError):
        hpp.HPPClient("kco_test_api_x", app_info=text)


HINTS = {
    "retry_after_seconds~seconds=2": 2.0, "retry_after_past": 0.0, "retry_after_huge": 999_999_999.0,
    "retry_after_naive": None, "retry_after_overflow": None, "retry_after_garbage": None, "retry_after_empty": None,
    "retry_after_negative": None, "retry_after_digits": None, "retry_after_superscript": None, "retry_after_nan": None,
    "retry_after_inf": None, "retry_after_exponent": None, "ratelimit~seconds=3": 3.0,
}  # fmt: skip


@pytest.mark.parametrize(("fault", "wait"), HINTS.items(), ids=HINTS)
async def test_t13_a_hint_is_digits_or_a_date_and_else_no_hint(sandbox, make_client, fault, wait):
    sandbox.fault(find_fault(fault))
    client = await make_client(retry=ONCE)
    with pytest.raises(hpp.RateLimitError) as caught:
        await client.create_session(order(client, "t13"))
    assert caught.value.retry_after == wait


async def test_t13_a_date_is_waited_for_and_a_wait_above_the_cap_ends_the_call(sandbox, make_client):
    client = await make_client(retry=hpp.RetrySettings(max_attempts=2, initial=0.01, retry_after_cap=5.0))
    sandbox.fault("retry_after_date~seconds=2", times=1)
    session = await client.create_session(order(client, "t13"))
    assert session.info.attempts == 2
    assert session.info.elapsed > 0.9  # an HTTP date has whole seconds
    sandbox.fault(find_fault("retry_after_huge"))
    with pytest.raises(hpp.RateLimitError) as caught:
        await client.create_session(order(client, "t13-huge"))
    assert (caught.value.attempts, caught.value.retry_after) == (1, 999_999_999.0)


@pytest.mark.parametrize("given", ["Basic schlüssel", "Basic \udcff\udcfe", "Basic", ""])
async def test_t14_comparing_a_secret_that_is_not_ascii_is_a_no_and_no_crash(sandbox, given):
    # hmac.compare_digest raises on such text: whoever compares compares bytes.
    async with aiohttp.ClientSession() as session:
        header = given.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        async with session.post(
            sandbox.base_url + "/hpp/v1/sessions", json={}, headers={"Authorization": header}
        ) as answer:
            assert answer.status == 401


BENT = (
    "https://kustom.co\n.evil", "https://kustom.co\t.evil", "https://api.kustom.co%2eevil",
    "https://api.kustom.co;evil", "https://ａｐｉ.kustom.co", "https://api。kustom.co", "https://api kustom.co",
    "https://api.kustom.co:٤٤٣", "https://a:b@api.kustom.co", "https://api.kustom.co?x=1", "https://api.kustom.co#x",
    "https://api.kustom.co\\@evil", "//evil/x", "https:///x", "http://127.1", "http://2130706433", "http://evil.example",
)  # fmt: skip


@pytest.mark.parametrize("base_url", BENT)
def test_t15_a_base_url_that_a_library_would_repair_is_refused(base_url):
    with pytest.raises(hpp.ConfigError):
        hpp.HPPClient("kco_test_api_x", base_url=base_url)


@both_sessions
async def test_t16_the_wait_for_a_connection_counts_into_no_timeout(sandbox, make_client, lend):
    sandbox.fault("slow_head~seconds=0.2")
    client = await make_client(lend, pool=hpp.Pool(connections=1), timeouts=hpp.Timeouts(connect=0.15, read=10.0))
    sessions = await asyncio.gather(*(client.create_session(order(client, f"t16-{number}")) for number in range(4)))
    assert [session.info.attempts for session in sessions] == [1] * 4
    assert {session.session_id for session in sessions} == {made.session_id for made in sandbox.record.created}
    assert sandbox.record.counts.posts == 4


@both_sessions
async def test_t17_a_closed_client_says_so(sandbox, make_client, lend):
    client = await make_client(lend)
    await client.create_session(order(client, "t17"))
    await client.aclose()
    with pytest.raises(hpp.ClientClosedError) as caught:
        await client.create_session(order(client, "t17-late"))
    assert caught.value.delivery is None
    assert sandbox.record.counts.posts == 1


async def test_t17_a_lent_session_that_its_owner_closed_says_so(sandbox):
    session = aiohttp.ClientSession(connector=hpp.guarded_connector())
    async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, http_session=session) as client:
        await session.close()
        with pytest.raises(hpp.ClientClosedError, match="closed by its owner"):
            await client.create_session(order(client, "t17"))


# A lent session belongs to its loop before the first call, an owned one does not.
@pytest.mark.parametrize(("lend", "used"), [(None, True), ({}, True), ({}, False)], ids=["owned", "borrowed", "fresh"])
async def test_t17_a_second_loop_is_told_in_words(sandbox, make_client, lend, used):
    client = await make_client(lend)
    if used:
        await client.create_session(order(client, "t17"))
    found: list[BaseException] = []

    async def in_another_loop() -> None:
        with pytest.raises(hpp.WrongLoopError) as caught:
            await client.create_session(order(client, "t17-other"))
        found.append(caught.value)

    thread = threading.Thread(target=lambda: asyncio.run(in_another_loop()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert [error.delivery for error in found if isinstance(error, hpp.HPPError)] == [None]
    await client.create_session(order(client, "t17-here"))
    assert sandbox.record.counts.posts == 1 + used


@pytest.mark.parametrize("again", [True, False], ids=["the parent's loop", "a loop of its own"])
@pytest.mark.parametrize("lent", [False, True], ids=["owned", "borrowed"])
def test_t17_a_forked_process_is_told_in_words_and_the_parent_goes_on(lent, again):
    # No async test: a process that forks inside of a running loop has none in the child, which asyncio sees to.
    with asyncio.Runner() as runner:
        sandbox = runner.run(Sandbox().open())
        session = runner.run(a_session()) if lent else None
        client = hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, http_session=session)
        runner.run(client.create_session(order(client, "t17")))

        def in_the_child() -> None:
            loop = runner.get_loop() if again else asyncio.new_event_loop()
            loop.run_until_complete(client.create_session(order(client, "t17-child")))

        told = said_by_a_child(in_the_child)
        assert told.startswith("WrongLoopError: ")
        assert "after the fork" in told
        assert runner.run(client.create_session(order(client, "t17-parent"))).info.attempts == 1
        assert sandbox.record.counts.posts == 2
        runner.run(client.aclose())
        if session is not None:
            runner.run(session.close())
        runner.run(sandbox.aclose())


async def a_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=hpp.guarded_connector())


def said_by_a_child(do: Callable[[], None]) -> str:
    """What a forked process raises, as text."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests may live: the child starts none
        child = os.fork()
    if child == 0:
        try:
            do()
        except BaseException as error:  # noqa: BLE001 - a child of a test must not come back into pytest
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


@pytest.mark.parametrize("fault", [None, "reset_after_request", "garbage", "status_500", "close_on_head", "hang"])
async def test_t18_the_mark_is_set_where_aiohttp_says_that_it_sends(sandbox, fault):
    if fault:
        sandbox.fault(find_fault(fault))
    assert await _mark_and_trace(sandbox.base_url, connect_timeout=30.0) == (True, 1, 1)


@pytest.mark.parametrize("port", ["refuse", "connect_hang", "tls_hang", "tls_reset", "tls_eof", "tls_plain", "tls_old"])
async def test_t18_the_mark_is_unset_where_aiohttp_says_that_it_sent_nothing(sandbox, port):
    async with open_port(sandbox, port) as opened:
        assert await _mark_and_trace(opened.base_url) == (False, 0, 0)


async def _mark_and_trace(base_url: str, connect_timeout: float = SHORT.connect) -> tuple[bool, int, int]:
    """Our mark, and how many heads and bodies aiohttp says that it has sent."""
    mark, heads, chunks = SendMarker(), [], []

    async def head_sent(*_: object) -> None:
        heads.append(mark.sent)

    async def chunk_sent(*_: object) -> None:
        # By now the mark must be set: it comes before the first byte.
        chunks.append(mark.sent)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(head_sent)
    tracing.on_request_chunk_sent.append(chunk_sent)
    request = HttpRequest(
        method="POST",
        url=URL(base_url + "/hpp/v1/sessions"),
        headers={"Authorization": Secret("Basic x")},
        body=b"{}",
        connect_timeout=connect_timeout,
        read_timeout=SHORT.read,
    )
    async with aiohttp.ClientSession(connector=hpp.guarded_connector(), trace_configs=[tracing]) as session:
        manager = hpp.HTTPSessionManager(pool=hpp.Pool(), http_session=session)
        with contextlib.suppress(hpp.HPPError):
            await manager.send(request, mark)
    assert all(chunks)
    return mark.sent, len(heads), len(chunks)


@pytest.mark.parametrize("lend", [None, {}], ids=["owned", "borrowed"])
async def test_t20_a_resolver_that_is_silent_is_waited_for_no_longer_than_a_connection(make_client, monkeypatch, lend):
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", lambda **_: NoNames())
    if lend is not None:
        lend = {"connector": hpp.guarded_connector(resolver=NoNames())}
    client = await make_client(lend, base_url="https://silent.invalid", timeouts=SHORT, retry=ONCE)
    began = asyncio.get_running_loop().time()
    with pytest.raises(hpp.ConnectError) as caught:
        await client.create_session(order(client, "t20"))
    assert (caught.value.timed_out, caught.value.delivery) == (True, Delivery.NOT_SENT)
    assert asyncio.get_running_loop().time() - began < 5.0


@both_sessions
@pytest.mark.parametrize("fault", ["drip_head~interval=0.05", "drip_body~interval=0.05", "interim_flood"])
async def test_t20_an_answer_that_drips_is_waited_for_no_longer_than_an_answer(sandbox, make_client, lend, fault):
    sandbox.fault(find_fault(fault))
    client = await make_client(lend, timeouts=SHORT, retry=ONCE)
    began = asyncio.get_running_loop().time()
    with pytest.raises(hpp.OutcomeUnknownError):
        await client.create_session(order(client, "t20"))
    assert asyncio.get_running_loop().time() - began < 5.0  # the whole answer would take more than 30 s


@pytest.mark.parametrize("fault", [None, "new_fields", "wrong_types", "nulls"])
async def test_t21_an_answer_pickles_copies_compares_and_hashes(sandbox, make_client, fault):
    if fault:
        sandbox.fault(find_fault(fault))
    client = await make_client()
    session = await client.create_session(order(client, "t21"))
    for there in (pickle.loads(pickle.dumps(session)), copy.deepcopy(session), copy.copy(session)):
        assert there == session
        assert hash(there) == hash(session)
        assert there.extra == session.extra
        assert there.info == session.info
