"""A consumer's walks: from the library's call through the page to the shop, in a real browser."""

import pytest
from selenium.webdriver.common.keys import Keys

import kustom_hpp as hpp
from kustom_hpp.sandbox import OrderLine, Sandbox
from tests.browser.driver import DESK, PHONE, Browser
from tests.browser.shop import Shop

pytestmark = pytest.mark.slow  # tests/browser/test_shops.py is the one that always runs in a browser

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/92d97f60-7a78-46a5-8f68-c56fe52dc4af"
KP = "https://api.playground.klarna.com/payments/v1/sessions/0b1d9815-165e-42e2-8867-35bc03789e00"
ORDER_ID = ORDER.rpartition("/")[2]
ENDINGS = {
    "Buy": ("success", "COMPLETED"),
    "Decline": ("failure", "FAILED"),
    "Technical error": ("error", "ERROR"),
    "Back": ("back", "BACK"),
}
"""What a consumer presses, where it leads, and what becomes of the session."""


@pytest.fixture(params=[PHONE, DESK], ids=["phone", "desk"])
async def consumer(request: pytest.FixtureRequest, browser: Browser) -> Browser:
    """A browser on a phone, and one on a desk."""
    await browser.look(request.param)
    return browser


async def create(sandbox: Sandbox, url: str = ORDER, options: hpp.Options | None = None, **urls: str) -> hpp.Session:
    """A session, made by the library."""
    async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client:
        request = hpp.CreateSessionRequest(
            payment_session_url=url, merchant_urls=hpp.MerchantUrls(**urls), options=options
        )
        return await client.create_session(request)


def status_of(sandbox: Sandbox, session: hpp.Session) -> str:
    return str(sandbox.state.sessions[session.session_id].status)


@pytest.mark.parametrize("press", ENDINGS)
async def test_a_walk_ends_at_the_shop(sandbox: Sandbox, shop: Shop, consumer: Browser, press: str) -> None:
    ending, status = ENDINGS[press]
    query = "?sid={{session_id}}&order={{order_id}}"
    session = await create(
        sandbox, **{name: shop.url(f"/{name}{query}") for name in ("success", "failure", "error", "back", "cancel")}
    )
    await consumer.open(session.payment_page)
    assert not await consumer.scrolls_aside()
    assert status_of(sandbox, session) == "IN_PROGRESS"
    await consumer.press(press)
    assert await consumer.url() == shop.url(f"/{ending}?sid={session.session_id}&order={ORDER_ID}")
    assert shop.visits == [f"/{ending}?sid={session.session_id}&order={ORDER_ID}"]
    assert status_of(sandbox, session) == status


async def test_cancelling_asks_first(sandbox: Sandbox, shop: Shop, consumer: Browser) -> None:
    session = await create(sandbox, cancel=shop.url("/cart"))
    await consumer.open(session.payment_page)
    await consumer.press("Cancel")
    assert "Cancel this purchase?" in await consumer.text()
    assert not await consumer.scrolls_aside()
    await consumer.press("No, return to the payment")
    assert await consumer.url() == session.payment_page
    await consumer.press("Cancel")
    assert status_of(sandbox, session) == "IN_PROGRESS"
    await consumer.press("Yes, cancel")
    assert (await consumer.url(), status_of(sandbox, session)) == (shop.url("/cart"), "CANCELLED")
    await consumer.open(session.payment_page)
    assert "Purchase cancelled" in await consumer.text()


async def test_a_kp_session_brings_its_authorization_token(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    session = await create(sandbox, KP, success=shop.url("/thanks?token={{authorization_token}}"))
    await browser.open(session.payment_page)
    await browser.keys(Keys.TAB, Keys.ARROW_DOWN)
    assert await browser.script("return document.querySelector(':checked').value") == "PAY_LATER"
    await browser.press("Buy")
    token = sandbox.state.sessions[session.session_id].authorization_token
    assert shop.visits == [f"/thanks?token={token}"]


@pytest.mark.parametrize(
    ("presses", "says", "offers"),
    [
        (["Buy"], "Payment complete", ""),
        (["Decline"], "Payment declined", "Try again"),
        (["Technical error"], "Something went wrong", "Try again"),
        (["Cancel", "Yes, cancel"], "Purchase cancelled", ""),
    ],
    ids=["pay", "decline", "error", "cancel"],
)
async def test_without_urls_the_browser_stays_on_the_generic_page(
    sandbox: Sandbox, consumer: Browser, presses: list[str], says: str, offers: str
) -> None:
    session = await create(sandbox)
    await consumer.open(session.payment_page)
    for text in presses:
        await consumer.press(text)
    assert await consumer.url() == session.payment_page + "/result"
    assert says in await consumer.text()
    assert not await consumer.scrolls_aside()
    if offers:
        await consumer.press(offers)
        assert await consumer.url() == session.payment_page
        assert "You can try again." in await consumer.text()
        await consumer.press("Buy")
        assert status_of(sandbox, session) == "COMPLETED"


async def test_a_consumer_who_went_back_can_return(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    session = await create(sandbox, back=shop.url("/cart"), success=shop.url("/thanks"))
    await browser.open(session.payment_page)
    await browser.press("Back")
    await browser.leave(browser.driver.back)
    assert await browser.url() == session.payment_page
    await browser.press("Buy")
    assert shop.visits == ["/cart", "/thanks"]


async def test_a_second_look_at_what_is_paid_leads_on_to_the_shop(
    sandbox: Sandbox, shop: Shop, browser: Browser
) -> None:
    session = await create(sandbox, success=shop.url("/thanks?sid={{session_id}}"))
    await browser.open(session.payment_page)
    await browser.press("Buy")
    await browser.open(session.payment_page)
    assert "Payment complete" in await browser.text()
    await browser.press("Back to the shop")
    assert shop.visits == [f"/thanks?sid={session.session_id}"] * 2


@pytest.mark.parametrize(
    ("how", "says"),
    [("expired", "This payment link has expired"), ("disabled", "This payment link is no longer active")],
)
async def test_a_page_that_is_over_while_it_is_looked_at(
    sandbox: Sandbox, shop: Shop, consumer: Browser, how: str, says: str
) -> None:
    session = await create(sandbox, success=shop.url("/thanks"))
    await consumer.open(session.payment_page)
    if how == "expired":
        sandbox.clock.advance(hours=47)
    else:
        sandbox.state.disable(sandbox.state.sessions[session.session_id])
    await consumer.press("Buy")
    assert says in await consumer.text()
    assert not await consumer.scrolls_aside()
    assert shop.visits == []


async def test_a_page_that_was_never_there(sandbox: Sandbox, browser: Browser) -> None:
    await browser.open(f"{sandbox.base_url}/eu/hpp/payments/nothing")
    assert "There is no such page" in await browser.text()


async def test_a_shop_may_send_the_browser_on_to_its_front_end(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    """Chromium holds the redirects that follow a form to the page's policy."""
    async with Shop() as front_end:
        shop.onward["/thanks"] = front_end.url("/orders").replace("127.0.0.1", "localhost")
        session = await create(sandbox, success=shop.url("/thanks"))
        await browser.open(session.payment_page)
        await browser.press("Buy")
        assert front_end.visits == ["/orders"]


async def test_a_walk_by_keyboard_alone(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    session = await create(sandbox, cancel=shop.url("/cart"), success=shop.url("/thanks"))
    await browser.open(session.payment_page)
    order = await browser.tab_to("Where each ending leads")
    assert order == ["Buy", "Cancel", "Decline", "Technical error", "Where each ending leads"]
    await browser.keys(Keys.ENTER)
    assert "the generic page" in await browser.text()
    await browser.open(session.payment_page)
    await browser.tab_to("Cancel")
    ring = await browser.script("return getComputedStyle(document.activeElement).outline")
    assert "3px" in ring
    assert "solid" in ring
    await browser.enter()
    await browser.tab_to("No, return to the payment")
    await browser.enter()
    await browser.tab_to("Buy")
    await browser.enter()
    assert shop.visits == ["/thanks"]


async def test_the_order_is_on_the_page(sandbox: Sandbox, browser: Browser) -> None:
    sandbox.order(ORDER, OrderLine(name="Mug", quantity=2, unit_price=1_900), currency="EUR")
    options = hpp.Options(page_title="Nearly there", purchase_type=hpp.PurchaseType.RENT)
    session = await create(sandbox, options=options)
    await browser.open(session.payment_page)
    assert await browser.do(lambda: browser.driver.title) == "Nearly there"
    text = (await browser.text()).replace("\u00a0", " ")
    assert [part for part in ("Nearly there", "2 ×", "Mug", "€38.00", "Rent") if part not in text] == []
