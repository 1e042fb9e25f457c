"""Every state in which a page can be seen, each made in a sandbox: for the tests, and for people's eyes.

`python -m tests.browser.states FOLDER [NAME ...]` takes a picture of each, on a phone and on a desk, light and dark.
"""

import asyncio
import base64
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kustom_hpp.models import BackgroundImage, CreateSessionRequest, MerchantUrls, Options, PaymentMethodCategory
from kustom_hpp.sandbox import Action, MerchantRateLimit, OrderLine, Sandbox, TokenBucket
from kustom_hpp.sandbox.stored_session import StoredSession
from tests.browser.driver import DESK, PHONE, Browser, start
from tests.browser.shop import Shop
from tests.sandbox.pages import HOSTILE, KP
from tests.sandbox.support import ask, request

SandboxState = Callable[[Sandbox, Shop], Awaitable[str]]
"""Makes the state; the URL where it can be seen."""

SCREENS = [(screen, dark) for screen in (PHONE, DESK) for dark in (False, True)]
_HOST = "https://api.playground.kustom.co/checkout/v3/orders/"


def session(sandbox: Sandbox, order: str = "1", options: Options | None = None, **urls: str) -> StoredSession:
    """A session, without a call."""
    url = order if "://" in order else _HOST + order
    asked = CreateSessionRequest(payment_session_url=url, merchant_urls=MerchantUrls(**urls), options=options)
    assert asked.problems() == ()
    made = sandbox.state.create(asked)
    assert made is not None
    return made


def page_of(sandbox: Sandbox, made: StoredSession) -> str:
    """Where its page is."""
    url: str = made.created_json(sandbox.base_url)["redirect_url"]
    return url


async def payment(sandbox: Sandbox, shop: Shop) -> str:
    """The page of a KCO order."""
    return page_of(sandbox, session(sandbox, success=shop.url("/thanks?sid={{session_id}}")))


async def branded(sandbox: Sandbox, shop: Shop) -> str:
    """The page of a KP session, with all that a merchant can set."""
    options = Options(
        background_images=[BackgroundImage(url=shop.url("/back.svg"), width=1280)],
        logo_url=shop.url("/logo.svg"),
        page_title="Almost there",
        payment_method_categories=[*PaymentMethodCategory][2:5],
    )
    return page_of(sandbox, session(sandbox, KP, options, back=shop.url("/cart")))


async def declined(sandbox: Sandbox, shop: Shop) -> str:
    """The page after a declined attempt, of which it tells once."""
    made = session(sandbox, back=shop.url("/cart"))
    sandbox.act(made, Action.DECLINE)
    return page_of(sandbox, made)


async def cancelling(sandbox: Sandbox, shop: Shop) -> str:
    """The question before a cancellation."""
    return page_of(sandbox, session(sandbox, cancel=shop.url("/cart"))) + "/cancel"


def ended(action: Action) -> SandboxState:
    """The generic page after an action."""

    async def state(sandbox: Sandbox, shop: Shop) -> str:
        made = session(sandbox)
        sandbox.act(made, action)
        return page_of(sandbox, made) + "/result"

    return state


async def completed(sandbox: Sandbox, shop: Shop) -> str:
    """The page of a session that is paid."""
    made = session(sandbox, success=shop.url("/thanks"))
    sandbox.act(made, Action.PAY)
    return page_of(sandbox, made)


async def disabled(sandbox: Sandbox, shop: Shop) -> str:
    """The page of a session that was disabled."""
    made = session(sandbox)
    sandbox.state.disable(made)
    return page_of(sandbox, made)


async def expired(sandbox: Sandbox, shop: Shop) -> str:
    """The page of a session whose time is over."""
    made = session(sandbox, cancel=shop.url("/cart"))
    sandbox.expire(_HOST + "1")
    return page_of(sandbox, made)


async def unknown(sandbox: Sandbox, shop: Shop) -> str:
    """A page that was never there."""
    return f"{sandbox.base_url}/eu/hpp/payments/nothing"


async def hostile(sandbox: Sandbox, shop: Shop) -> str:
    """The page with a hostile text, or a number, wherever there can be one."""
    text, flood = HOSTILE.translate(dict.fromkeys(map(ord, ' "<>`{}\\%'), "-")), "W" * 10_000
    made = session(
        sandbox, f"hostile{text}{flood}", Options(page_title=HOSTILE + flood), success=shop.url(f"/'{text}{flood}")
    )
    sandbox.order(
        made.request.payment_session_url,
        OrderLine(name=HOSTILE + flood, quantity=10**9, unit_price=10**9),
        OrderLine(name=flood, unit_price=-100),
        OrderLine(name="\u202e\u2066" * 100 + "שלום", unit_price=1),
        shop=HOSTILE + flood,
    )
    sandbox.state.record_event(made, "callback", HOSTILE + flood)
    return page_of(sandbox, made)


async def large(sandbox: Sandbox, shop: Shop) -> str:
    """The page of an order with large numbers, and with a discount."""
    made = session(sandbox, success=shop.url("/thanks"))
    sandbox.order(
        made.request.payment_session_url,
        OrderLine(name="Gold bar, 1 kg, with its certificate", quantity=12_500, unit_price=799_992_000),
        OrderLine(name="Screw, 4 mm", quantity=1_250_000, unit_price=5),
        OrderLine(name="Mug", quantity=2, unit_price=1_900),
        OrderLine(name="Discount", unit_price=-5_000),
        currency="JPY",
    )
    return page_of(sandbox, made)


async def unloaded(sandbox: Sandbox, shop: Shop) -> str:
    """The page of a session whose images cannot be loaded. The browser's console says so."""
    nowhere = "http://127.0.0.1:9/"
    options = Options(
        background_images=[BackgroundImage(url=f"{nowhere}back.png", width=1280)], logo_url=f"{nowhere}logo.png"
    )
    return page_of(sandbox, session(sandbox, "1", options, success="https://shop.example/thanks"))


async def imageless(sandbox: Sandbox, shop: Shop) -> str:
    """The same page of a session without images."""
    return page_of(sandbox, session(sandbox, "1", success="https://shop.example/thanks"))


async def hostile_console(sandbox: Sandbox, shop: Shop) -> str:
    """The console with a session that holds nothing but hostile texts, open."""
    await hostile(sandbox, shop)
    [made] = sandbox.state.sessions
    return f"{sandbox.base_url}/?q={made}"


async def empty_console(sandbox: Sandbox, shop: Shop) -> str:
    """The console before anything has happened."""
    return sandbox.base_url + "/"


async def console(sandbox: Sandbox, shop: Shop) -> str:
    """The console with many sessions, with faults, refusals and callbacks that fail."""
    ways: list[list[str]] = [[], ["open"], ["pay"], ["decline"], ["decline", "pay"], ["error"], ["cancel"], ["back"]]
    for number in range(40):
        titled = Options(page_title=f"Order {1001 + number}") if number % 3 == 0 else None
        made = session(sandbox, f"9a3f{number:04}-7a78-46a5-8f68-c56fe52dc4af", titled, success=shop.url("/thanks"))
        for action in ways[number * 5 % 8]:
            sandbox.act(made, action)
    sandbox.expire(f"{_HOST}9a3f0010-7a78-46a5-8f68-c56fe52dc4af")
    sandbox.fault("status_503", nth=1)
    sandbox.fault("hang~seconds=5", probability=0.0)
    await ask(sandbox)
    await ask(sandbox, request(sandbox, authorization="Basic nonsense"))
    newest = list(sandbox.state.sessions.values())[-1]
    sandbox.state.record_event(newest, "callback", f"500, attempt 1 of 4: BACK to {shop.url('/a' * 100)}", failed=True)
    return sandbox.base_url + "/"


REFUSED = {
    "payment_session_url": "http://api.playground.kustom.co/checkout/v3/orders/92d97f60?token=secret",
    "merchant_urls": {"success": "shop.example/thanks", "back": "https://shop.example/cart?sid={{session}}"},
    "options": {"purchase_type": "buy", "background_images": [{"url": 5, "width": 1}]},
}


async def refused_console(sandbox: Sandbox, shop: Shop) -> str:
    """The console with a request that was refused for several reasons, open."""
    reply = await ask(sandbox, request(sandbox, body=json.dumps(REFUSED).encode()))
    return f"{sandbox.base_url}/?q={reply.json['correlation_id']}"


async def faulted_console(sandbox: Sandbox, shop: Shop) -> str:
    """The console with a request that a fault met after a session was created, open."""
    sandbox.fault("status_503~commit=1", nth=1)
    reply = await ask(sandbox)
    return f"{sandbox.base_url}/?q={reply.json['correlation_id']}"


async def ruled_console(sandbox: Sandbox, shop: Shop) -> str:
    """The console with rules of every kind, two of them exhausted."""
    sandbox.rate_limit = TokenBucket(MerchantRateLimit(5))
    sandbox.fault("status_503", nth=1)
    sandbox.fault("retry_after_seconds~seconds=2", operation="read_session", skip=2, times=3)
    sandbox.fault(["status_429", None, "hang"], skip=50)
    sandbox.faults.add_random(["status_500", "status_503"], 0.1, 1)
    sandbox.fault("hang~seconds=5", payment_session_url=f"{_HOST}9a3f0010-7a78-46a5-8f68-c56fe52dc4af", operation="any")
    sandbox.fault("hang", times=0)
    await ask(sandbox)
    return sandbox.base_url + "/"


async def open_console(sandbox: Sandbox, shop: Shop) -> str:
    """The console with one session, open."""
    made = session(sandbox, KP, success=shop.url("/thanks?token={{authorization_token}}"))
    for action in (Action.DECLINE, Action.PAY):
        sandbox.act(made, action)
        sandbox.state.record_event(made, "callback", f"200, attempt 1 of 4: COMPLETED to {shop.url('/status')}")
    return f"{sandbox.base_url}/?q={made.session_id}"


async def fault_list(sandbox: Sandbox, shop: Shop) -> str:
    """The list of faults."""
    return sandbox.base_url + "/faults"


async def console_without(sandbox: Sandbox, shop: Shop) -> str:
    """The console with a search that finds nothing."""
    session(sandbox)
    return f"{sandbox.base_url}/?q=nothing"


STATES: dict[str, SandboxState] = {
    "payment": payment,
    "branded": branded,
    "declined": declined,
    "cancelling": cancelling,
    **{f"generic-{action}": ended(action) for action in Action if action is not Action.OPEN},
    "completed": completed,
    "disabled": disabled,
    "expired": expired,
    "unknown": unknown,
    "hostile": hostile,
    "large": large,
    "console-empty": empty_console,
    "console": console,
    "console-refused": refused_console,
    "console-faulted": faulted_console,
    "console-rules": ruled_console,
    "console-open": open_console,
    "console-without": console_without,
    "faults": fault_list,
    "console-hostile": hostile_console,
}


async def visit(browser: Browser, url: str) -> None:
    """Open a page, and wait until a console is live."""
    await browser.open(url)
    if urlsplit(url).path == "/":
        await browser.until("return document.getElementById('live').dataset.state === 'on'")


async def picture(browser: Browser, path: Path) -> None:
    """The whole page as a PNG, as on a screen that is high enough for it."""
    width, least = browser.screen
    height = max(least, await browser.script("return document.documentElement.scrollHeight"))
    high = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    await browser.cdp("Emulation.setDeviceMetricsOverride", **high)
    shot: Any = await browser.cdp("Page.captureScreenshot", format="png")
    path.write_bytes(base64.b64decode(shot["data"]))


async def main(folder: Path, *names: str) -> None:
    """A picture of each state, or of those that are named."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(start(Path(profile)))
        try:
            for name, state in {**STATES, "unloaded": unloaded}.items():
                if names and name not in names:
                    continue
                for screen, dark in SCREENS:
                    async with Sandbox() as sandbox, Shop() as shop:
                        await browser.look(screen, dark=dark)
                        await visit(browser, await state(sandbox, shop))
                        await picture(browser, folder / f"{name}-{screen[0]}-{'dark' if dark else 'light'}.png")
                        await browser.open("about:blank")
        finally:
            browser.driver.quit()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
