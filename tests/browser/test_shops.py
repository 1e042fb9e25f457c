"""Both shops as a consumer meets them: from the shop's button over the hosted page to the order that is paid."""

from collections.abc import Iterator
from typing import Any

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.browser.driver import Browser
from tests.shops.serve import NOWHERE, SHOPS, serving
from tests.shops.shop import Orders


@pytest.fixture(params=SHOPS.values(), ids=list(SHOPS))
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def orders() -> Iterator[Orders]:
    orders = Orders()
    yield orders
    orders.close()


async def reads(browser: Browser, text: str) -> None:
    """Wait until the page says so; it looks again by itself."""
    await browser.until("return document.body?.innerText.includes(arguments[0])", text)


async def buy(browser: Browser, url: str, sandbox: Sandbox) -> str:
    """From the shop's front to the page after paying; gives the order's id."""
    await browser.open(f"{url}/")
    await browser.press("Buy the mug")
    created = sandbox.record.created[-1]
    assert await browser.url() == created.redirect_url
    await browser.press("Buy")
    order_id = created.payment_session_url.rpartition("/")[2]
    assert await browser.url() == f"{url}/orders/{order_id}"
    return order_id


async def test_buy_the_callback_comes_the_order_is_paid(
    kind: Any, browser: Browser, sandbox: Sandbox, orders: Orders
) -> None:
    async with serving(kind, sandbox, orders) as url:
        order_id = await buy(browser, url, sandbox)
        await reads(browser, f"Order {order_id}: paid, thank you!")
        await browser.press("Back to the shop")
        assert await browser.url() == f"{url}/"
        await sandbox.wait_until_idle()
    assert [call.status for call in sandbox.record.callbacks] == [204, 204]


async def test_buy_the_callback_is_lost_the_poll_finds_it(
    kind: Any, browser: Browser, sandbox: Sandbox, orders: Orders
) -> None:
    async with serving(kind, sandbox, orders, callback_url=NOWHERE, poll=0.5) as url:
        order_id = await buy(browser, url, sandbox)
        await reads(browser, f"Order {order_id}: paid, thank you!")
        await sandbox.wait_until_idle()
    assert {call.status for call in sandbox.record.callbacks} == {None}


async def test_going_back_leaves_the_order_open(kind: Any, browser: Browser, sandbox: Sandbox, orders: Orders) -> None:
    async with serving(kind, sandbox, orders) as url:
        await browser.open(f"{url}/")
        await browser.press("Buy the mug")
        await browser.press("Back")
        assert await browser.url() == f"{url}/"
        order_id = sandbox.record.created[-1].payment_session_url.rpartition("/")[2]
        await browser.open(f"{url}/orders/{order_id}")
        assert "Waiting for your payment ..." in await browser.text()
    assert orders.unsettled() == [order_id]
