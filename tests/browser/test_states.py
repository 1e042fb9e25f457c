"""Every state of every page, on a phone and on a desk, light and dark: who can use it, and what runs in it."""

import pytest

from kustom_hpp.sandbox import OrderLine, Sandbox
from tests.browser import axe
from tests.browser.driver import DESK, PHONE, Browser, skip_or_fail
from tests.browser.shop import Shop
from tests.browser.states import SCREENS, STATES, imageless, page_of, session, unloaded, visit

pytestmark = pytest.mark.slow  # tests/browser/test_shops.py is the one that always runs in a browser

EVERY = pytest.mark.parametrize("state", STATES)
SMALL = """
return [...document.querySelectorAll("button, .button, summary, input:not([type=radio]), select, .filter, .methods label")]
  .filter((target) => target.checkVisibility() && target.getBoundingClientRect().height < 44)
  .map((target) => target.outerHTML);
"""
CUT_OFF = """
// What ends in an ellipsis, or scrolls in a box of its own, is so on purpose.
const within = (part) => part && (getComputedStyle(part).overflowX !== "visible" || within(part.parentElement));
return [...document.querySelectorAll("body *")]
  .filter((part) => part.checkVisibility() && part.getBoundingClientRect().right > arguments[0] + 1)
  .filter((part) => !part.matches(".backdrop") && !within(part.parentElement))
  .map((part) => part.outerHTML.slice(0, 200));
"""


BROKEN_NUMBERS = """
const lines = (part) => {
  const range = document.createRange();
  range.selectNodeContents(part);
  return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
};
return [...document.querySelectorAll(".amount, .quantity")].filter((part) => lines(part) !== 1).map((part) => part.innerText);
"""
FILTERS = """
return [...document.querySelectorAll(".filter")].map((filter) => filter.getBoundingClientRect())
  .map((box) => [Math.round(box.top), Math.round(box.width)]);
"""


@EVERY
async def test_a_page_is_as_wide_as_its_screen(state: str, sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    """Nothing scrolls aside, nothing is cut off, every target is large enough for a finger."""
    url = await STATES[state](sandbox, shop)
    for screen in (PHONE, DESK):
        await browser.look(screen)
        await visit(browser, url)
        assert not await browser.scrolls_aside()
        assert await browser.script(CUT_OFF, screen[0]) == []
        assert await browser.script(SMALL) == []


@EVERY
async def test_a_page_is_accessible(state: str, sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    if (reason := axe.missing()) is not None:
        skip_or_fail(reason)
    url = await STATES[state](sandbox, shop)
    for screen, dark in SCREENS:
        await browser.look(screen, dark=dark)
        await visit(browser, url)
        assert await axe.violations(browser) == []


async def picture(browser: Browser) -> str:
    """What is on the screen."""
    shot: dict[str, str] = await browser.cdp("Page.captureScreenshot", format="png")
    return shot["data"]


async def test_a_flood_of_text_leaves_the_way_to_pay_in_sight(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    url = await STATES["hostile"](sandbox, shop)
    for screen in (PHONE, DESK):
        await browser.look(screen)
        await browser.open(url)
        assert await browser.script("return document.querySelector('.primary').getBoundingClientRect().top") < screen[1]


@pytest.mark.parametrize("state", ["large", "hostile"])
async def test_a_number_stands_in_one_line_and_leaves_the_name_its_room(
    state: str, sandbox: Sandbox, shop: Shop, browser: Browser
) -> None:
    url = await STATES[state](sandbox, shop)
    for screen in (PHONE, DESK):
        await browser.look(screen)
        await browser.open(url)
        assert await browser.script(BROKEN_NUMBERS) == []
        names = await browser.script("return [...document.querySelectorAll('.name')].map((name) => name.offsetWidth)")
        assert min(names) >= 100


async def test_a_link_is_not_broken(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    url = await STATES["payment"](sandbox, shop)
    for screen in (PHONE, DESK):
        await browser.look(screen)
        await browser.open(url)
        await browser.script("document.querySelector('details').open = true")
        assert await browser.script("return document.querySelector('.sandbox a').getBoundingClientRect().height") < 30


async def test_the_filters_of_the_console_are_even(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    """On a phone three in a row and equally wide, on a desk all in one row."""
    url = await STATES["console"](sandbox, shop)
    for screen, rows in ((PHONE, [3, 3]), (DESK, [6])):
        await browser.look(screen)
        await visit(browser, url)
        places = await browser.script(FILTERS)
        assert [[top for top, _ in places].count(top) for top in sorted({top for top, _ in places})] == rows
        assert rows == [6] or len({width for _, width in places}) == 1


@pytest.mark.parametrize("screen", [PHONE, DESK], ids=["phone", "desk"])
async def test_an_image_that_cannot_be_loaded_leaves_no_trace(
    sandbox: Sandbox, shop: Shop, browser: Browser, screen: tuple[int, int]
) -> None:
    """The page looks as if the session had no images: no band, no broken icon, the shop's name instead of its logo."""
    if (reason := axe.missing()) is not None:
        skip_or_fail(reason)
    broken, plain = await unloaded(sandbox, shop), await imageless(sandbox, shop)
    for dark in (False, True):
        await browser.look(screen, dark=dark)
        await browser.open(broken)
        await browser.until("return document.images.length === 0")
        assert await axe.violations(browser) == []
        seen = await picture(browser)
        await browser.open(plain)
        assert (seen == await picture(browser)) is True  # the assertion's message must not hold the pictures
    assert all("net::ERR_" in complaint for complaint in await browser.complaints())


@pytest.mark.parametrize("state", ["hostile", "console-hostile"])
async def test_hostile_texts_do_not_run(state: str, sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    await visit(browser, await STATES[state](sandbox, shop))
    assert await browser.do(lambda: browser.driver.title == "ran") is False
    assert await browser.script("return document.querySelectorAll('main script, main img, main style').length") == 0


@pytest.mark.parametrize("state", ["payment", "console-open"])
async def test_a_text_that_got_past_the_escaping_would_not_run(
    state: str, sandbox: Sandbox, shop: Shop, browser: Browser
) -> None:
    await visit(browser, await STATES[state](sandbox, shop))
    await browser.script(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    )
    assert await browser.script("return window.ran") is None
    [complaint] = await browser.complaints()
    assert "Content Security Policy" in complaint


@pytest.mark.parametrize("state", ["payment", "branded", "declined", "large"])
async def test_on_a_small_phone_the_buy_button_is_in_sight(
    state: str, sandbox: Sandbox, shop: Shop, browser: Browser
) -> None:
    await browser.look((360, 640))
    await visit(browser, await STATES[state](sandbox, shop))
    assert await browser.script("return document.querySelector('.primary').getBoundingClientRect().bottom") <= 640


@pytest.mark.parametrize(
    ("language", "amount"), [("en-US", "€1,234.50"), ("sv-SE", "1 234,50 €"), ("de-DE", "1.234,50 €")]
)
async def test_amounts_are_written_as_the_reader_writes_them(
    sandbox: Sandbox, browser: Browser, language: str, amount: str
) -> None:
    made = session(sandbox)
    sandbox.order(made.request.payment_session_url, OrderLine(name="Chair", unit_price=123_450), currency="EUR")
    await browser.speak(language)
    await browser.open(page_of(sandbox, made))
    texts = await browser.script(
        "return [...document.querySelectorAll('.total .amount, button .amount')].map(a => a.innerText)"
    )
    assert [text.replace("\u00a0", " ") for text in texts] == [amount, amount]


async def test_a_currency_without_minor_units_has_no_decimals(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    await browser.open(await STATES["large"](sandbox, shop))
    amounts = await browser.script("return [...document.querySelectorAll('.lines .amount')].map(a => a.innerText)")
    assert amounts == ["¥9,999,900,000,000", "¥6,250,000", "¥3,800", "-¥5,000"]


async def test_a_logo_has_no_plate_in_the_dark(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    await browser.look(PHONE, dark=True)
    await browser.open(await STATES["branded"](sandbox, shop))
    ground = await browser.script("return getComputedStyle(document.querySelector('.logo')).backgroundColor")
    assert ground == "rgba(0, 0, 0, 0)"


async def test_an_expired_page_leads_back_to_the_shop(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    await browser.open(await STATES["expired"](sandbox, shop))
    await browser.press("Back to the shop")
    assert shop.visits == ["/cart"]


async def test_the_images_of_a_merchant_are_loaded_and_the_best_one_is_taken(
    sandbox: Sandbox, shop: Shop, browser: Browser
) -> None:
    await visit(browser, await STATES["branded"](sandbox, shop))
    loaded = await browser.script("return [...document.images].map((image) => image.naturalWidth > 0)")
    assert loaded == [True, True]


async def test_a_page_sends_no_referrer_to_others_and_loads_nothing_from_them(
    sandbox: Sandbox, shop: Shop, browser: Browser
) -> None:
    await visit(browser, await STATES["payment"](sandbox, shop))
    asked = await browser.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert asked
    assert [url for url in asked if not url.startswith(sandbox.base_url)] == []
    await browser.press("Buy")
    assert await browser.script("return document.referrer") == ""


async def test_axe_reports_a_violation(browser: Browser) -> None:
    """The judge itself: a page with a button that has no name."""
    if (reason := axe.missing()) is not None:
        skip_or_fail(reason)
    await browser.open("data:text/html,<html lang=en><title>x</title><main><h1>x</h1><button></button></main>")
    [found] = await axe.violations(browser)
    assert found.startswith("critical: button-name")
