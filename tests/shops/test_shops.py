"""Both shops against the sandbox, from end to end, without a browser: what it would do is done by hand."""

import asyncio
import contextlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.integrations.web import free_socket, url_of
from tests.shops.serve import NOWHERE, SHOPS, serving
from tests.shops.shop import Orders

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=SHOPS.values(), ids=list(SHOPS))
def kind(request):
    return request.param


@pytest.fixture
async def sandbox():
    async with Sandbox(callback_delay=0.05) as sandbox:
        yield sandbox


@pytest.fixture
async def browser():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def orders():
    orders = Orders()
    yield orders
    orders.close()


async def buy(browser: aiohttp.ClientSession, url: str, sandbox: Sandbox) -> str:
    """Press the button; gives the session's id."""
    async with browser.get(f"{url}/") as answer:
        assert 'action="/buy"' in await answer.text()
    async with browser.post(f"{url}/buy", allow_redirects=False) as answer:
        created = sandbox.record.created[-1]
        assert (answer.status, answer.headers["Location"]) == (303, created.redirect_url)
    return created.session_id


async def told(browser: aiohttp.ClientSession, url: str) -> str:
    """What an order's page tells."""
    async with browser.get(url) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        found = re.search('<p id="status">(.*?)</p>', await answer.text())
    assert found is not None
    return found[1]


async def until_told(browser: aiohttp.ClientSession, url: str, what: str) -> None:
    """Look again, as the page itself does, until it tells."""
    async with asyncio.timeout(20):
        while what not in await told(browser, url):
            await asyncio.sleep(0.02)


async def test_a_paid_order_is_told_by_the_callback(kind, browser, sandbox, orders):
    async with serving(kind, sandbox, orders) as url:
        session_id = await buy(browser, url, sandbox)
        order_id = sandbox.record.created[-1].payment_session_url.rpartition("/")[2]
        assert await told(browser, f"{url}/orders/{order_id}") == "Waiting for your payment ..."
        success = sandbox.act(session_id, "pay")
        assert success == f"{url}/orders/{order_id}"
        await until_told(browser, success, f"Order {order_id}: paid, thank you!")
        await sandbox.wait_until_idle()
    # Two changes, entered and paid; each call was taken at the first time.
    assert [(call.attempt, call.status, call.error) for call in sandbox.record.callbacks] == [(1, 204, None)] * 2
    reads = [seen for seen in sandbox.record.requests if seen.method == "GET"]
    assert {seen.path for seen in reads} == {f"/hpp/v1/sessions/{session_id}"}
    order = orders.find(order_id)
    assert (order.status, order.session_id) == ("COMPLETED", session_id)
    assert orders.is_known(sandbox.record.callbacks[-1].event_id)
    assert orders.unsettled() == []


async def test_with_the_callback_lost_the_poll_finds_it(kind, browser, sandbox, orders):
    async with serving(kind, sandbox, orders, callback_url=NOWHERE, poll=0.5) as url:
        success = sandbox.act(await buy(browser, url, sandbox), "pay")
        await until_told(browser, success, "paid, thank you!")
        await sandbox.record.wait_for(lambda record: len(record.callbacks) >= 4)
    assert {call.status for call in sandbox.record.callbacks} == {None}


async def test_what_was_paid_while_the_shop_was_down_is_found_at_its_start(kind, browser, sandbox, orders):
    async with serving(kind, sandbox, orders) as url:
        session_id = await buy(browser, url, sandbox)
    success = sandbox.act(session_id, "pay")
    await sandbox.record.wait_for(lambda record: len(record.callbacks) >= 4)
    async with serving(kind, sandbox, orders) as url:
        await until_told(browser, f"{url}/orders/{success.rpartition('/')[2]}", "paid, thank you!")


NOT_KNOWN = "not known here: the order at Kustom tells"


async def test_of_an_order_whose_session_is_gone_nothing_is_said_though_nobody_paid(kind, browser, sandbox, orders):
    async with serving(kind, sandbox, orders, poll=0.5) as url:
        await buy(browser, url, sandbox)
        order_id = sandbox.record.created[-1].payment_session_url.rpartition("/")[2]
        sandbox.clock.advance(hours=48)
        await until_told(browser, f"{url}/orders/{order_id}", f"Order {order_id}: {NOT_KNOWN}")
    assert orders.find(order_id).status == "unknown"


async def test_an_order_that_was_paid_before_its_session_was_gone_is_not_called_unpaid(kind, browser, sandbox, orders):
    """Paid while the shop was down, and no callback came through: the sandbox knows, the shop cannot."""
    async with serving(kind, sandbox, orders) as url:
        session_id = await buy(browser, url, sandbox)
    order_id = sandbox.act(session_id, "pay").rpartition("/")[2]
    await sandbox.record.wait_for(lambda record: len(record.callbacks) >= 4)
    sandbox.clock.advance(hours=48)
    async with serving(kind, sandbox, orders) as url:
        await until_told(browser, f"{url}/orders/{order_id}", f"Order {order_id}: {NOT_KNOWN}")
    assert orders.find(order_id).status == "unknown"


async def test_a_callback_after_the_session_is_gone_says_nothing_either(kind, browser, sandbox, orders, caplog):
    async with serving(kind, sandbox, orders) as url:
        await buy(browser, url, sandbox)
        order_id = sandbox.record.created[-1].payment_session_url.rpartition("/")[2]
        sandbox.clock.advance(hours=48)
        async with browser.post(f"{url}/status/{order_id}?secret={orders.find(order_id).secret}") as answer:
            assert answer.status == 204
        await until_told(browser, f"{url}/orders/{order_id}", NOT_KNOWN)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_callback_corrects_what_was_not_known(kind, browser, sandbox, orders):
    async with serving(kind, sandbox, orders) as url:
        session_id = await buy(browser, url, sandbox)
        order_id = sandbox.record.created[-1].payment_session_url.rpartition("/")[2]
        orders.settle(order_id, "unknown")
        assert await told(browser, f"{url}/orders/{order_id}") == f"Order {order_id}: {NOT_KNOWN}"
        sandbox.act(session_id, "pay")
        await until_told(browser, f"{url}/orders/{order_id}", f"Order {order_id}: paid, thank you!")


async def test_a_disabled_session_is_not_paid(kind, browser, sandbox, orders):
    async with (
        serving(kind, sandbox, orders) as url,
        hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url) as elsewhere,
    ):
        session_id = await buy(browser, url, sandbox)
        order_id = sandbox.record.created[-1].payment_session_url.rpartition("/")[2]
        await elsewhere.disable_session(session_id)
        await until_told(browser, f"{url}/orders/{order_id}", "not paid (DISABLED)")


@pytest.mark.parametrize("fault", ["status_500", "status_400"])
async def test_without_a_payment_page_the_consumer_is_told_so(kind, browser, sandbox, orders, fault):
    """Whether a session may exist or not: the next press of the button makes another order."""
    sandbox.fault(fault, times=1)
    async with serving(kind, sandbox, orders) as url:
        async with browser.post(f"{url}/buy", allow_redirects=False) as answer:
            assert answer.status == 503
            assert "We cannot take payments right now" in await answer.text()
        assert orders.unsettled() == []
        await buy(browser, url, sandbox)
    urls = [seen.payment_session_url for seen in sandbox.record.posts]
    assert len(set(urls)) == len(urls) == 2


async def test_a_callback_for_nobody_or_with_a_wrong_secret_changes_nothing(kind, browser, sandbox, orders):
    async with serving(kind, sandbox, orders) as url:
        await buy(browser, url, sandbox)
        order_id = sandbox.record.created[-1].payment_session_url.rpartition("/")[2]
        body = b'{"event_id":"e","session":{"session_id":"s","status":"COMPLETED"}}'
        for path in (f"{order_id}?secret=guessed", order_id, "nobody?secret=guessed", "nobody"):
            async with browser.post(f"{url}/status/{path}", data=body) as answer:
                assert answer.status == 403
        # Even with the secret a callback only makes the shop look.
        secret = orders.find(order_id).secret
        for told_body in (body, b"", b"{}"):
            async with browser.post(f"{url}/status/{order_id}?secret={secret}", data=told_body) as answer:
                assert answer.status == 204
        await sandbox.record.wait_for(
            lambda record: sum(seen.method == "GET" and seen.done for seen in record.requests) >= 4
        )
        assert await told(browser, f"{url}/orders/{order_id}") == "Waiting for your payment ..."
        async with browser.get(f"{url}/orders/nobody") as answer:
            assert answer.status == 404


async def test_no_secret_is_logged(kind, browser, sandbox, orders, caplog):
    caplog.set_level(logging.DEBUG)
    async with serving(kind, sandbox, orders) as url:
        success = sandbox.act(await buy(browser, url, sandbox), "pay")
        await until_told(browser, success, "paid")
    secret = orders.find(success.rpartition("/")[2]).secret
    assert secret not in caplog.text
    assert sandbox.api_key not in caplog.text


def test_what_happens_once_happens_once(orders, caplog):
    caplog.set_level(logging.INFO, "shop")
    order = orders.new()
    orders.has_session(order.id, "s-1")
    assert orders.unsettled() == [order.id]
    assert not orders.is_known("e-1")
    orders.settle(order.id, "unknown")
    orders.settle(order.id, "unknown")
    assert orders.unsettled() == []
    for event_id in ("e-1", "e-1", None, "e-2"):
        orders.settle(order.id, "COMPLETED", event_id)
    orders.settle(order.id, "unknown")
    orders.settle(order.id, "CANCELLED")
    assert orders.find(order.id).status == "COMPLETED"
    assert [orders.is_known(event_id) for event_id in ("e-1", "e-2", "e-3", None)] == [True, True, False, False]
    assert caplog.messages == [f"order {order.id}: unknown", f"order {order.id}: COMPLETED"]


@pytest.mark.parametrize("name", ["aiohttp_shop", "fastapi_shop"])
async def test_a_shop_runs_as_its_docstring_says(name, browser, sandbox, tmp_path):
    """As a process of its own, until Ctrl-C."""
    with free_socket() as listening:
        url = url_of(listening)
    environment = os.environ | {
        "KUSTOM_HPP_BASE_URL": sandbox.base_url, "KUSTOM_HPP_API_KEY": sandbox.api_key,
        "SHOP_URL": url, "SHOP_DB": str(tmp_path / "shop.db"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    shop = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-m", f"tests.shops.{name}"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(40):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    async with browser.get(f"{url}/"):
                        break
                assert shop.poll() is None
                await asyncio.sleep(0.05)
        success = sandbox.act(await buy(browser, url, sandbox), "pay")
        await until_told(browser, success, "paid, thank you!")
    finally:
        shop.send_signal(2)
        output, _ = await asyncio.to_thread(shop.communicate, timeout=20)
    assert shop.returncode in {0, -2, 130}
    text = output.decode()
    assert [word for word in ("Unclosed", "Traceback", "secret", sandbox.api_key) if word in text] == []
