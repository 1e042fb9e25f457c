"""The console in a real browser: it lives, without a reload, and leaves alone what somebody is looking at."""

import asyncio

import aiohttp
import pytest
from selenium.webdriver.common.keys import Keys

from kustom_hpp.sandbox import Sandbox
from tests.browser.driver import Browser
from tests.browser.shop import Shop
from tests.browser.states import page_of, session, visit
from tests.sandbox.support import ask, request

pytestmark = pytest.mark.slow  # tests/browser/test_shops.py is the one that always runs in a browser

LIVE = "return document.getElementById('live').dataset.state === arguments[0]"
ROWS = """
return [...document.querySelectorAll(".session summary")].map((row) => [
  row.querySelector(".title").innerText, row.querySelector(".badge").innerText, row.querySelector(".last").innerText]);
"""
HAS = "return document.body.innerText.includes(arguments[0])"
COUNTS = "return [...document.querySelectorAll('.count')].map((count) => Number(count.innerText))"
ONLY = "return [...document.querySelectorAll('.title')].map((title) => title.innerText).join() === arguments[0]"


async def test_sessions_appear_and_change_without_a_reload(sandbox: Sandbox, browser: Browser) -> None:
    await visit(browser, sandbox.base_url)
    await browser.script("window.stayed = true")
    assert await browser.script(HAS, "No sessions yet")

    first = session(sandbox, "1001")
    await browser.until(ONLY, "1001")
    assert await browser.script(ROWS) == [["1001", "WAITING", "created"]]
    assert not await browser.script(HAS, "No sessions yet")

    second = session(sandbox, "1002")
    sandbox.act(second, "decline")
    await browser.until(HAS, "FAILED")
    sandbox.act(first, "pay")
    sandbox.state.note(first, "callback", "answered 200, attempt 1 of 4")
    await browser.until(HAS, "answered 200, attempt 1 of 4")
    assert await browser.script(ROWS) == [
        ["1002", "FAILED", "declined"],
        ["1001", "COMPLETED", "callback answered 200, attempt 1 of 4"],
    ]
    assert await browser.script(COUNTS) == [2, 0, 1, 1, 0]

    await ask(sandbox, request(sandbox, authorization="Basic nonsense"))
    await browser.until(HAS, "answered 401")
    assert await browser.script("return window.stayed")


async def test_what_is_open_stays_open_and_keeps_the_focus(sandbox: Sandbox, browser: Browser) -> None:
    made = session(sandbox, "1001")
    await visit(browser, sandbox.base_url)
    await browser.script("document.querySelector('.session summary').focus()")
    await browser.keys(Keys.ENTER)
    assert await browser.script(HAS, "What happened")
    session(sandbox, "1002")
    sandbox.act(made, "pay")
    await browser.until(HAS, "COMPLETED")
    await browser.until(ONLY, "1002,1001")
    open_rows = "return [...document.querySelectorAll('details')].map((row) => row.open)"
    assert await browser.script(open_rows) == [False, True]
    assert await browser.script("return document.activeElement.innerText.includes('1001')")
    events = "return [...document.querySelectorAll('[open] .event')].map((event) => event.innerText)"
    assert await browser.script(events) == ["created", "opened", "paid"]


async def test_it_leads_to_the_payment_page_and_back(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    made = session(sandbox, "1001", success=shop.url("/thanks"))
    await visit(browser, f"{sandbox.base_url}/?q={made.session_id}")
    await browser.press("Payment page")
    assert await browser.url() == page_of(sandbox, made)
    await browser.tab_to("Where each ending leads")
    await browser.keys(Keys.ENTER)
    await browser.press("See it in the console")
    assert await browser.url() == f"{sandbox.base_url}/?q={made.session_id}"
    await browser.until(HAS, "opened")
    await browser.press("QR code")
    assert await browser.script("return document.images[0].naturalWidth > 0")


async def test_searching_narrows_the_live_list(sandbox: Sandbox, browser: Browser) -> None:
    for number in ("1001", "1002", "2001"):
        session(sandbox, number)
    await visit(browser, sandbox.base_url)
    await browser.script("document.getElementById('q').focus()")
    await browser.keys("orders/100")
    await browser.until(ONLY, "1002,1001")
    assert await browser.url() == f"{sandbox.base_url}/?q=orders%2F100"
    session(sandbox, "2002")
    session(sandbox, "1003")
    await browser.until(ONLY, "1003,1002,1001")
    await browser.keys("9")
    await browser.until(HAS, "No session fits.")
    await browser.keys(Keys.BACKSPACE)
    await browser.until(ONLY, "1003,1002,1001")
    await browser.keys(*[Keys.BACKSPACE] * len("orders/100"))
    await browser.until(ONLY, "1003,2002,2001,1002,1001")
    assert await browser.url() == f"{sandbox.base_url}/"


async def test_a_search_that_finds_nothing_leads_back(sandbox: Sandbox, browser: Browser) -> None:
    session(sandbox, "1001")
    await visit(browser, f"{sandbox.base_url}/?q=nothing")
    await browser.press("Show all")
    assert await browser.script(ONLY, "1001")


async def test_numbers_lead_to_what_they_count(sandbox: Sandbox, browser: Browser) -> None:
    paid, _ = session(sandbox, "1001"), session(sandbox, "1002")
    sandbox.act(paid, "pay")
    await visit(browser, sandbox.base_url)
    await browser.leave(lambda: browser.driver.find_element("css selector", ".tile.paid").click())
    assert await browser.url() == f"{sandbox.base_url}/?status=paid"
    assert await browser.script(ONLY, "1001")


async def test_it_tells_when_it_is_not_live_and_comes_back(browser: Browser) -> None:
    async with Sandbox() as sandbox:
        session(sandbox, "1001")
        await visit(browser, sandbox.base_url)
        port = int(sandbox.base_url.rpartition(":")[2])
    await browser.until(LIVE, "lost")
    # What it says of the lost connection is no complaint.
    await browser.complaints()
    async with Sandbox(port=port) as again:
        session(again, "3001")
        await browser.until(ONLY, "3001")
        assert await browser.script(LIVE, "on")
        await browser.open("about:blank")
        await browser.complaints()


async def test_it_works_without_its_script(sandbox: Sandbox, browser: Browser) -> None:
    session(sandbox, "1001")
    session(sandbox, "2001")
    await browser.cdp("Emulation.setScriptExecutionDisabled", value=True)
    await browser.open(sandbox.base_url)
    assert "Not live: reload to see what is new" in await browser.text()
    assert (await browser.text()).count("WAITING") == 2
    search = browser.driver.find_element("id", "q")
    await browser.do(search.send_keys, "orders/1001" + Keys.ENTER)
    await browser.until("return location.search === '?q=orders%2F1001'")
    await browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
    assert (await browser.text()).count("WAITING") == 1


async def test_a_storm_does_not_drown_it(sandbox: Sandbox, browser: Browser) -> None:
    await visit(browser, sandbox.base_url)
    for number in range(2_000):
        sandbox.act(session(sandbox, f"n{number}"), "pay")
        if number % 50 == 0:
            await asyncio.sleep(0)
    await browser.until("return document.getElementById('count-paid').innerText === '2000'")
    rows = await browser.script(ROWS)
    assert [row[0] for row in rows] == [f"n{number}" for number in range(1_999, 1_899, -1)]
    assert {row[1] for row in rows} == {"COMPLETED"}
    async with aiohttp.ClientSession() as http, http.get(sandbox.base_url) as answer:
        assert answer.status == 200
