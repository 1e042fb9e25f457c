"""The sandbox in a thread, asked by code without an event loop, and by coroutines of another one."""

import asyncio
import doctest
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import kustom_hpp as hpp
from kustom_hpp.sandbox import OrderLine, threaded
from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.sandbox.support import ORDER, order, request
from tests.support.faults import find_fault


@pytest.fixture
def sandbox() -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox() as sandbox:
        yield sandbox


def create(sandbox: ThreadedSandbox, url: str = ORDER) -> tuple[int, dict[str, Any]]:
    """A create by a client that knows no loop; status and body."""
    asked = urllib.request.Request(
        f"{sandbox.base_url}/hpp/v1/sessions",
        data=json.dumps(
            {"payment_session_url": url, "merchant_urls": {"success": "https://shop.example/thanks"}}
        ).encode(),
        headers={"Authorization": f"Basic {sandbox.api_key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_sync_code_gets_a_session_and_pays(sandbox: ThreadedSandbox) -> None:
    status, session = create(sandbox)
    assert status == 201
    assert [made.session_id for made in sandbox.record.created] == [session["session_id"]]
    assert sandbox.act(session["session_id"], "pay") == "https://shop.example/thanks"
    with pytest.raises(ValueError, match="is COMPLETED"):
        sandbox.act(session["session_id"], "decline")
    with pytest.raises(LookupError, match="no session nobody"):
        sandbox.act("nobody", "pay")


def test_the_page_shows_the_order_that_was_given(sandbox: ThreadedSandbox) -> None:
    sandbox.order(ORDER, OrderLine(name="A very special mug", quantity=2, unit_price=1900), currency="EUR")
    _, session = create(sandbox)
    with urllib.request.urlopen(session["redirect_url"], timeout=10) as page:
        assert "A very special mug" in page.read().decode()


def test_faults_bite_and_can_be_taken_back(sandbox: ThreadedSandbox) -> None:
    rule = sandbox.fault("status_503", nth=2)
    assert [create(sandbox)[0] for _ in range(3)] == [201, 503, 201]
    assert (rule.checked, rule.triggered, sandbox.faults.rules) == (3, 1, (rule,))
    sandbox.faults.remove(rule)
    assert sandbox.faults.rules == ()
    sandbox.faults.add([find_fault("status_429"), None])
    assert [create(sandbox)[0] for _ in range(2)] == [429, 201]
    sandbox.faults.add_random(["status_500"], probability=1.0, seed=1)
    assert create(sandbox)[0] == 500
    sandbox.faults.clear()
    assert create(sandbox)[0] == 201
    with pytest.raises(ValueError, match="did you mean status_503"):
        sandbox.fault("status_5003")


def test_time_can_be_moved(sandbox: ThreadedSandbox) -> None:
    assert create(sandbox)[0] == 201
    before = sandbox.clock.now()
    sandbox.clock.advance(hours=48, seconds=1)
    assert (sandbox.clock.now() - before).total_seconds() >= 48 * 3600 + 1
    assert create(sandbox)[0] == 404
    assert create(sandbox, order(2))[0] == 201
    sandbox.expire(order(2))
    assert create(sandbox, order(2))[0] == 404


def test_a_record_is_a_copy_of_its_moment(sandbox: ThreadedSandbox) -> None:
    create(sandbox)
    before = sandbox.record
    told = (
        before.counts,
        before.requests,
        before.posts,
        before.created,
        [bytes(c.received) for c in before.connections],
    )
    create(sandbox, order(2))
    assert told == (
        before.counts, before.requests, before.posts, before.created, [bytes(c.received) for c in before.connections]
    )  # fmt: skip
    after = sandbox.record
    assert (before.counts.created, after.counts.created) == (1, 2)
    assert [made.payment_session_url for made in after.created] == [ORDER, order(2)]
    assert [len(after.created_for(url)) for url in (ORDER, order(2))] == [1, 1]
    assert after.posts_for(ORDER)[0].number == before.posts[0].number
    # What was still going on in the earlier one does not go on there.
    assert after.requests[0] is not before.requests[0]


def test_copies_hold_together_while_many_write(sandbox: ThreadedSandbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(create, sandbox, order(number)) for number in range(60)]
        while not all(one.done() for one in asked):
            record = sandbox.record
            assert record.counts.created == len(record.created) <= len(record.posts) == record.counts.posts
            assert {made.request for made in record.created} <= {post.number for post in record.posts}
        assert {one.result()[0] for one in asked} == {201}
    assert sandbox.record.counts.created == 60


def test_it_settles_and_tells_when_it_does_not(sandbox: ThreadedSandbox) -> None:
    sandbox.wait_until_idle()
    sandbox.fault("hang~seconds=30")
    with socket.create_connection(("127.0.0.1", int(sandbox.base_url.rpartition(":")[2]))) as client:
        client.sendall(request(sandbox))
        assert sandbox.wait_for(lambda record: record.posts).counts.posts == 1
        with pytest.raises(TimeoutError, match=r"still serving after 0\.05 s"):
            sandbox.wait_until_idle(0.05)
        with pytest.raises(TimeoutError, match=r"not met within 0\.05 s"):
            sandbox.wait_for(lambda record: record.counts.posts == 2, timeout=0.05)
        # And it closes at once, though somebody waits.
        began = time.monotonic()
        sandbox.close()
        assert time.monotonic() - began < 1
        assert client.recv(1) == b""


async def test_a_coroutine_may_ask_and_the_client_of_its_loop_goes_on(sandbox: ThreadedSandbox) -> None:
    sandbox.fault("status_429", times=1)
    retry = hpp.RetrySettings(initial=0.01)
    async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, retry=retry) as client:
        session, *_ = await asyncio.gather(
            *(client.create_session(hpp.CreateSessionRequest(payment_session_url=order(number))) for number in range(8))
        )
        await asyncio.to_thread(sandbox.wait_until_idle)
    assert session.session_id in {made.session_id for made in sandbox.record.created}
    assert (sandbox.record.counts.created, sandbox.record.counts.posts) == (8, 9)
    assert sandbox.act(session, "open") is None


def test_options_are_those_of_the_sandbox() -> None:
    with ThreadedSandbox(api_key="my key", username="me", rate_limit=1, faults=["status_503~nth=1"]) as sandbox:
        assert (sandbox.api_key, sandbox.username) == ("my key", "me")
        assert [create(sandbox)[0] for _ in range(3)] == [503, 201, 429]
        sandbox.call(lambda inner: setattr(inner.rate_limit, "other_client_rate", 1))
        assert sandbox.call(lambda inner: inner.rate_limit.other_client_rate) == 1
    with pytest.raises(TypeError, match="qouta"):
        ThreadedSandbox(qouta=1)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sandbox = ThreadedSandbox(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"), sandbox:
            pass
    assert repr(sandbox) == "<ThreadedSandbox at no port yet>"


def test_a_closed_one_says_so(sandbox: ThreadedSandbox) -> None:
    assert repr(sandbox) == f"<ThreadedSandbox at {sandbox.base_url}>"
    assert sandbox.api_key not in repr(sandbox)
    sandbox.close()
    for ask in (
        lambda: sandbox.record,
        sandbox.wait_until_idle,
        lambda: sandbox.fault("hang"),
        lambda: sandbox.faults.rules,
    ):
        with pytest.raises(RuntimeError, match="the sandbox is not open"):
            ask()


def test_50_times_opened_and_closed_leave_nothing() -> None:
    code = """
import gc, os, threading, warnings
from kustom_hpp.sandbox.threaded import ThreadedSandbox

def left():
    gc.collect()
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0, threading.active_count()

with ThreadedSandbox() as sandbox:  # what is opened once and for all
    sandbox.wait_until_idle()
before = left()
for _ in range(50):
    with ThreadedSandbox() as sandbox:
        sandbox.record
assert left() == before, (before, left())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_that_nobody_closes_does_not_keep_the_process() -> None:
    code = "from kustom_hpp.sandbox.threaded import ThreadedSandbox; ThreadedSandbox().open(); print('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "end\n")


def test_its_examples_run() -> None:
    assert doctest.testmod(threaded) == (0, 1)
