"""Every state of every page, on a phone and on a desk, light and dark: who can use it, and what runs in it."""

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.browser import axe
from tests.browser.driver import DESK, PHONE, Browser, skip_or_fail
from tests.browser.shop import Shop
from tests.browser.states import SCREENS, STATES, visit

EVERY = pytest.mark.parametrize("state", STATES)
SMALL = """
return [...document.querySelectorAll("button, .button, summary, input[type=search], .tile, .methods label")]
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


@EVERY
async def test_a_page_fits_its_screen(state: str, sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    """Nothing scrolls aside, nothing is cut off, every target is large enough for a finger."""
    url = await STATES[state](sandbox, shop)
    for screen in (PHONE, DESK):
        await browser.look(screen)
        await visit(browser, url)
        assert not await browser.scrolls_aside()
        assert await browser.script(CUT_OFF, screen[0]) == []
        assert await browser.script(SMALL) == []


@EVERY
async def test_a_page_keeps_nobody_out(state: str, sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    if (reason := axe.missing()) is not None:
        skip_or_fail(reason)
    url = await STATES[state](sandbox, shop)
    for screen, dark in SCREENS:
        await browser.look(screen, dark=dark)
        await visit(browser, url)
        assert await axe.violations(browser) == []


async def test_a_flood_of_text_leaves_the_way_to_pay_in_sight(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    url = await STATES["hostile"](sandbox, shop)
    for screen in (PHONE, DESK):
        await browser.look(screen)
        await browser.open(url)
        assert await browser.script("return document.querySelector('.primary').getBoundingClientRect().top") < screen[1]


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


async def test_the_images_of_a_merchant_are_loaded_and_the_best_one_is_taken(
    sandbox: Sandbox, shop: Shop, browser: Browser
) -> None:
    await visit(browser, await STATES["branded"](sandbox, shop))
    loaded = await browser.script("return [...document.images].map((image) => image.naturalWidth > 0)")
    assert loaded == [True, True]


async def test_a_page_sends_no_referrer_and_asks_nobody_else(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    await visit(browser, await STATES["payment"](sandbox, shop))
    asked = await browser.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert asked
    assert [url for url in asked if not url.startswith(sandbox.base_url)] == []
    await browser.press("Buy")
    assert await browser.script("return document.referrer") == ""


async def test_axe_sees_what_is_wrong(browser: Browser) -> None:
    """The judge itself: a page with a button that has no name."""
    if (reason := axe.missing()) is not None:
        skip_or_fail(reason)
    await browser.open("data:text/html,<html lang=en><title>x</title><main><h1>x</h1><button></button></main>")
    [found] = await axe.violations(browser)
    assert found.startswith("critical: button-name")
