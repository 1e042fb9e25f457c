"""The console in a real browser: it lives, without a reload, and leaves alone what somebody is looking at."""

import asyncio
import datetime as dt
import json

import aiohttp
import pytest
from selenium.webdriver.common.keys import Keys

from kustom_hpp.sandbox import Sandbox
from tests.browser.driver import PHONE, Browser
from tests.browser.shop import Shop
from tests.browser.states import REFUSED, SCREENS, STATES, page_of, session, visit
from tests.sandbox.support import ask, exchange, request

pytestmark = pytest.mark.slow  # tests/browser/test_shops.py is the one that always runs in a browser

LIVE = "return document.getElementById('live').dataset.state === arguments[0]"
ROWS = """
return [...document.querySelectorAll(".row summary")].map((row) => [
  row.querySelector(".title").innerText, row.querySelector(".badge").innerText, row.querySelector(".last").innerText]);
"""
HAS = "return document.body.innerText.includes(arguments[0])"
COUNTS = "return [...document.querySelectorAll('.count')].map((count) => Number(count.innerText))"
ONLY = "return [...document.querySelectorAll('.title')].map((title) => title.innerText).join() === arguments[0]"
CLIPBOARD = "navigator.clipboard.readText().then(arguments[0], (error) => arguments[0](String(error)))"
HEADINGS = "return [...document.querySelectorAll('h2')].filter((h) => h.checkVisibility()).map((h) => h.innerText)"
OPEN_FIRST = "document.querySelector('.row summary').click()"


async def test_sessions_appear_and_change_without_a_reload(sandbox: Sandbox, browser: Browser) -> None:
    await visit(browser, sandbox.base_url)
    await browser.script("window.stayed = true")
    assert await browser.script(HAS, "Send your first request")

    first = session(sandbox, "1001")
    await browser.until(ONLY, "1001")
    assert await browser.script(ROWS) == [["1001", "WAITING", "created"]]
    assert not await browser.script(HAS, "Send your first request")

    second = session(sandbox, "1002")
    sandbox.act(second, "decline")
    await browser.until(HAS, "FAILED")
    assert [row[0] for row in await browser.script(ROWS)] == ["1002", "1001"]
    sandbox.act(first, "pay")
    sandbox.state.record_event(first, "callback", "200, attempt 1 of 4")
    await browser.until(HAS, "200, attempt 1 of 4")
    assert await browser.script(ROWS) == [
        ["1001", "COMPLETED", "callback 200, attempt 1 of 4"],
        ["1002", "FAILED", "declined"],
    ]
    assert await browser.script(COUNTS) == [2, 0, 1, 1, 0, 0]

    await ask(sandbox, request(sandbox, authorization="Basic nonsense"))
    await browser.until(HAS, "the key is wrong")
    assert (await browser.script(ROWS))[0][:2] == ["Unknown endpoint", "401"] or (
        (await browser.script(ROWS))[0][:2] == ["Create session", "401"]
    )
    assert await browser.script("return window.stayed")


async def test_what_is_open_stays_open_and_keeps_the_focus(sandbox: Sandbox, browser: Browser) -> None:
    made = session(sandbox, "1001")
    await visit(browser, sandbox.base_url)
    await browser.script("document.querySelector('.row summary').focus()")
    await browser.keys(Keys.ENTER)
    assert await browser.script(HAS, "What happened")
    session(sandbox, "1002")
    sandbox.act(made, "pay")
    await browser.until(HAS, "COMPLETED")
    await browser.until(ONLY, "1001,1002")
    open_rows = "return [...document.querySelectorAll('.row details')].map((row) => row.open)"
    assert await browser.script(open_rows) == [True, False]
    assert await browser.script("return document.activeElement.innerText.includes('1001')")
    events = "return [...document.querySelectorAll('[open] .timeline .event')].map((event) => event.innerText)"
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
    await browser.until(HAS, "Nothing matches.")
    await browser.keys(Keys.BACKSPACE)
    await browser.until(ONLY, "1003,1002,1001")
    await browser.keys(*[Keys.BACKSPACE] * len("orders/100"))
    await browser.until("return location.href === arguments[0]", f"{sandbox.base_url}/")
    await browser.until(ONLY, "1003,2002,2001,1002,1001")


async def test_a_search_that_finds_nothing_leads_back(sandbox: Sandbox, browser: Browser) -> None:
    session(sandbox, "1001")
    await visit(browser, f"{sandbox.base_url}/?q=nothing")
    await browser.press("Show all")
    assert await browser.script(ONLY, "1001")


async def test_filters_lead_to_the_rows_that_they_count(sandbox: Sandbox, browser: Browser) -> None:
    paid, _ = session(sandbox, "1001"), session(sandbox, "1002")
    sandbox.act(paid, "pay")
    await visit(browser, sandbox.base_url)
    await browser.leave(lambda: browser.driver.find_element("css selector", ".filter.paid").click())
    assert await browser.url() == f"{sandbox.base_url}/?status=paid"
    assert await browser.script(ONLY, "1001")


@pytest.fixture(params=SCREENS, ids=["phone", "phone-dark", "desk", "desk-dark"])
async def viewer(request: pytest.FixtureRequest, browser: Browser) -> Browser:
    """A browser on each screen, light and dark."""
    screen, dark = request.param
    await browser.look(screen, dark=dark)
    return browser


async def test_a_refused_request_opens_and_says_why(sandbox: Sandbox, shop: Shop, viewer: Browser) -> None:
    reply = await ask(sandbox, request(sandbox, body=json.dumps(REFUSED).encode()))
    await visit(viewer, sandbox.base_url)
    [[title, badge, last]] = await viewer.script(ROWS)
    assert (title, badge) == ("Create session", "400")
    assert last.startswith(reply.json["error_messages"][0].partition(", ")[0][:40])
    assert await viewer.script("return getComputedStyle(document.querySelector('.last')).color") == await viewer.script(
        "return getComputedStyle(document.querySelector('.badge')).color"
    )
    await viewer.script(OPEN_FIRST)
    text = await viewer.text()
    for message in reply.json["error_messages"]:
        path, _, sentence = message.partition(": ")
        assert path in text
        assert sentence in text
    assert [
        part for part in ("BAD_VALUE", reply.json["correlation_id"], "Basic ***", "HTTP/1.1 400") if part not in text
    ] == []
    assert sandbox.api_key not in await viewer.script("return document.querySelector('.row').innerText")


async def test_a_fault_is_named_with_its_rule(sandbox: Sandbox, viewer: Browser) -> None:
    sandbox.fault("reset_after_request", nth=1)
    await exchange(sandbox)
    await visit(viewer, f"{sandbox.base_url}/?status=refused")
    [[_, badge, last]] = await viewer.script(ROWS)
    assert (badge, last) == ("no response", "met reset_after_request")
    await viewer.script(OPEN_FIRST)
    text = await viewer.text()
    for part in ("Chosen by rule 1: create_session, once.", "The session exists.", "The sandbox sent none."):
        assert part in text
    await viewer.press("See the session")
    assert (await viewer.script(ROWS))[0][1] == "WAITING"


async def test_a_callback_that_fails_is_red_and_shows_its_outcome(sandbox: Sandbox, viewer: Browser) -> None:
    made = session(sandbox, success="https://shop.example/", status_update="https://shop.example/" + "a" * 500)
    sandbox.act(made, "open")
    await sandbox.record.wait_for(lambda record: record.callbacks)
    await visit(viewer, sandbox.base_url)
    outcome = "ConnectionError, attempt 1 of 4"
    assert outcome in (await viewer.script(ROWS))[0][2]
    # What is visible, not what the ellipsis hides: the outcome ends inside of the box.
    shown = """
    const last = document.querySelector(".last"), text = last.querySelector(".detail").firstChild;
    const range = document.createRange();
    range.setStart(text, 0);
    range.setEnd(text, arguments[0]);
    const box = last.getBoundingClientRect(), end = range.getBoundingClientRect();
    return end.bottom <= box.bottom + 1 && end.right <= box.right + 1;
    """
    assert await viewer.script(shown, len(outcome)) is True
    red, green, blue = await viewer.script(
        "return getComputedStyle(document.querySelector('.last .detail')).color.match(/\\d+/g).map(Number)"
    )
    assert red > green + 60
    assert red > blue + 60


async def test_a_session_is_paid_and_its_callback_repeated_from_its_row(
    sandbox: Sandbox, shop: Shop, viewer: Browser
) -> None:
    made = session(sandbox, "1001", success=shop.url("/thanks"), status_update=shop.url("/status"))
    await visit(viewer, f"{sandbox.base_url}/?q={made.session_id}")
    await viewer.script("window.stayed = true")
    await viewer.click("Pay")
    await viewer.until(HAS, "COMPLETED")
    await sandbox.record.wait_for(lambda record: len(record.callbacks) == 2)
    await viewer.until(HAS, "Repeat callback")
    assert not await viewer.script(HAS, "Decline")
    await viewer.click("Repeat callback")
    await sandbox.record.wait_for(lambda record: len(record.callbacks) == 3)
    assert [made.status for made in sandbox.record.callbacks] == [200, 200, 200]
    assert await viewer.script("return window.stayed")


@pytest.mark.parametrize(
    ("press", "status"),
    [("Decline", "FAILED"), ("Technical error", "ERROR"), ("Cancel", "CANCELLED"), ("Expire", "EXPIRED")],
)
async def test_every_ending_is_an_action(sandbox: Sandbox, browser: Browser, press: str, status: str) -> None:
    made = session(sandbox, "1001")
    await visit(browser, f"{sandbox.base_url}/?q={made.session_id}")
    await browser.click(press)
    await browser.until(HAS, status)


async def test_faults_and_limits_are_set_from_the_console(sandbox: Sandbox, viewer: Browser) -> None:
    session(sandbox)
    await visit(viewer, sandbox.base_url)
    await viewer.fill("Fault", "hang~seconds=2")
    await viewer.fill("Only number", "3")
    await viewer.click("Add fault")
    await viewer.until(HAS, "create_session, from number 3 on, once")
    assert [str(rule.faults[0]) for rule in sandbox.faults.rules] == ["hang~seconds=2"]
    assert await viewer.script("return document.querySelector('[name=fault]').value") == ""

    await viewer.fill("Fault", "status_5O3")
    await viewer.click("Add fault")
    await viewer.until(HAS, "did you mean status_503?")
    assert (await viewer.complaints())[0].count("400") == 1  # the browser's own line about the response
    await viewer.fill("Fault", "status_503")
    await viewer.click("Add fault")
    await viewer.until("return document.querySelectorAll('.rules li').length === 2")
    assert not await viewer.script(HAS, "did you mean")
    await viewer.script("document.querySelector('[aria-label=\"Remove rule 1\"]').click()")
    await viewer.until("return document.querySelectorAll('.rules li').length === 1")
    await viewer.click("Clear all faults")
    await viewer.until(HAS, "No faults: every valid request succeeds.")

    await viewer.fill("Creates a second", "40")
    await viewer.click("Set rate limit")
    await viewer.until(HAS, "Rate limit 40 creates a second, 40 at once; no latency.")
    await viewer.fill("From", "0.1")
    await viewer.fill("To", "0.2")
    await viewer.click("Set latency")
    await viewer.until(HAS, "latency 0.1 to 0.2 s.")


async def test_a_form_of_another_site_changes_nothing(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    made = session(sandbox)
    for path in (f"sessions/{made.session_id}/pay", "faults", "rate_limit"):
        await browser.open(shop.url("/attack"))
        await browser.leave(
            browser.driver.execute_script,
            """
            const form = Object.assign(document.createElement("form"), {method: "post", action: arguments[0]});
            for (const [name, value] of [["fault", "hang"], ["rate", "1"]]) {
              form.append(Object.assign(document.createElement("input"), {name, value}));
            }
            document.body.append(form);
            form.submit();
            """,
            f"{sandbox.base_url}/_sandbox/console/{path}",
        )
        assert "Another site sent this form." in await browser.text()
    assert (made.status, sandbox.faults.rules, sandbox.rate_limit) == ("WAITING", (), None)
    assert all("403" in complaint for complaint in await browser.complaints())


async def test_without_a_script_the_forms_work(sandbox: Sandbox, browser: Browser) -> None:
    made = session(sandbox, "1001")
    await browser.open(f"{sandbox.base_url}/?q={made.session_id}")
    await browser.cdp("Emulation.setScriptExecutionDisabled", value=True)
    await browser.open(f"{sandbox.base_url}/?q={made.session_id}")
    pay = browser.driver.find_element("xpath", "//button[text()='Pay']")
    await browser.do(pay.click)
    await sandbox.record.wait_for(lambda _: made.status == "COMPLETED")
    await browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
    await browser.until(HAS, "COMPLETED")
    assert await browser.url() == f"{sandbox.base_url}/?q={made.session_id}"


async def test_the_key_can_be_copied_after_the_first_session(sandbox: Sandbox, viewer: Browser) -> None:
    session(sandbox)
    await visit(viewer, sandbox.base_url)
    await viewer.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    for name, value in (("key", sandbox.api_key), ("base-url", sandbox.base_url), ("username", sandbox.username)):
        await viewer.script("document.querySelector(`[data-copy='${arguments[0]}']`).click()", name)
        await viewer.until(
            "return document.querySelector(`[data-copy='${arguments[0]}']`).innerText.startsWith('Copied')", name
        )
        assert await viewer.do(viewer.driver.execute_async_script, CLIPBOARD) == value
    await viewer.press("List of faults")
    assert await viewer.url() == f"{sandbox.base_url}/faults"


async def test_on_a_phone_the_first_session_is_in_sight(sandbox: Sandbox, shop: Shop, browser: Browser) -> None:
    await browser.look(PHONE)
    await visit(browser, await STATES["console"](sandbox, shop))
    bottom = "return document.querySelector('.session summary').getBoundingClientRect().bottom"
    assert await browser.script(bottom) <= PHONE[1]


async def test_the_empty_console_begins_with_the_first_request(sandbox: Sandbox, viewer: Browser) -> None:
    await visit(viewer, sandbox.base_url)
    assert (await viewer.script(HEADINGS))[0] == "Send your first request"
    assert await viewer.script("return document.getElementById('curl').checkVisibility()") is True


async def test_times_are_shown_in_the_zone_of_the_browser(sandbox: Sandbox, browser: Browser) -> None:
    made = session(sandbox)
    await browser.cdp("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    await visit(browser, sandbox.base_url)
    shown = await browser.script("return document.querySelector('.row time').innerText")
    local = made.created_at.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30)))
    assert shown.startswith(f"{local:%Y-%m-%d %H:%M:%S} ")
    assert "UTC+5:30" in shown.replace("GMT", "UTC") or "IST" in shown
    await browser.cdp("Emulation.setTimezoneOverride", timezoneId="")


async def test_it_says_when_it_is_not_live_and_reconnects(browser: Browser) -> None:
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
    assert "Not live: reload for news" in await browser.text()
    assert (await browser.text()).count("WAITING") == 2
    search = browser.driver.find_element("id", "q")
    await browser.do(search.send_keys, "orders/1001" + Keys.ENTER)
    await browser.until("return location.search === '?q=orders%2F1001'")
    await browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
    assert (await browser.text()).count("WAITING") == 1


async def test_two_thousand_sessions_at_once(sandbox: Sandbox, browser: Browser) -> None:
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
