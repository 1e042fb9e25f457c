"""The hosted page, without a browser: what it shows, what it may do, and where it sends."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from kustom_hpp.models import SessionStatus
from kustom_hpp.sandbox import OrderLine, Sandbox, pages
from kustom_hpp.sandbox.pages.site import Site
from tests.sandbox.pages import HOSTILE, KP, URLS, Got, Page, browse, create
from tests.sandbox.support import ORDER, Wire
from tests.support import shape

PAGE = "/eu/hpp/payments/"
FINAL = [SessionStatus.COMPLETED, SessionStatus.CANCELLED, SessionStatus.DISABLED]


def status_of(sandbox: Sandbox, made: dict[str, Any]) -> SessionStatus:
    return sandbox.state.sessions[made["session_id"]].status


async def open_page(sandbox: Sandbox, **given: Any) -> Page:
    return (await browse((await create(sandbox, **given))["redirect_url"])).page


# What it shows.


async def test_the_page_shows_the_order(sandbox: Sandbox) -> None:
    sandbox.order(
        ORDER,
        OrderLine(name="Mug", quantity=2, unit_price=1_900),
        OrderLine(name="Book", unit_price=10_600, tax_rate=600),
        currency="EUR",
        shop="The shop",
    )
    page = await open_page(sandbox)
    assert page.texts[:2] == ["Complete your purchase", "The shop"]
    start = page.texts.index("Your order")
    texts = [text.replace("\u00a0", " ") for text in page.texts]
    assert texts[start + 1 : start + 13] == [
        "2 ×", "Mug", "EUR 38.00",
        "1 ×", "Book", "EUR 106.00",
        "Subtotal", "EUR 130.40", "VAT 25 %", "EUR 7.60", "VAT 6 %", "EUR 6.00",
    ]  # fmt: skip
    start = texts.index("Payment")
    assert texts[start + 1 : start + 5] == ["Total", "EUR 144.00", "Buy", "EUR 144.00"]
    amounts = {(amount["value"], amount["data-currency"]) for amount in page.all("data")}
    assert amounts == {(minor, "EUR") for minor in ("3800", "10600", "13040", "760", "600", "14400")}


async def test_an_order_that_the_sandbox_made_up_is_called_a_sample(sandbox: Sandbox) -> None:
    sample = await open_page(sandbox)
    assert ("Sample order" in sample.texts, "Your order" in sample.texts) == (True, False)
    sandbox.order(ORDER, OrderLine(name="Mug", unit_price=1_900))
    given = await open_page(sandbox)
    assert ("Sample order" in given.texts, "Your order" in given.texts) == (False, True)
    assert not [text for text in given.texts if "made it up" in text]


@pytest.mark.parametrize(
    ("urls", "shop"),
    [
        ({}, "Your shop"),
        ({"success": "https://Shop.example/a"}, "shop.example"),
        ({"success": "", "back": "https://bücher.example"}, "bücher.example"),
        ({"success": "http://localhost:8000/"}, "Your shop"),
        ({"success": "http://shop.localhost/"}, "Your shop"),
        ({"success": "http://127.0.0.1/"}, "Your shop"),
        ({"success": "http://[::1]/"}, "Your shop"),
        ({"success": "https://" + "a" * 300 + "ü/"}, "Your shop"),
    ],
)
async def test_the_shop_is_called_by_the_host_of_its_urls(sandbox: Sandbox, urls: dict[str, str], shop: str) -> None:
    assert (await open_page(sandbox, merchant_urls=urls)).texts[1] == shop


async def test_the_subtotals_can_be_hidden(sandbox: Sandbox) -> None:
    assert "Subtotal" in (await open_page(sandbox)).texts
    hidden = await open_page(sandbox, show_subtotal_detail="HIDE")
    assert "Subtotal" not in hidden.texts
    assert "Total" in hidden.texts


async def test_the_title_is_that_of_the_window_too(sandbox: Sandbox) -> None:
    page = await open_page(sandbox, page_title="Almost there")
    assert page.texts.count("Almost there") == 2
    assert page.texts[0] == "Almost there"
    assert "Complete your purchase" not in page.texts


@pytest.mark.parametrize("kind", ["Buy", "Rent", "Book", "Subscribe", "Download", "Order", "Continue"])
async def test_the_button_names_the_purchase(sandbox: Sandbox, kind: str) -> None:
    page = await open_page(sandbox, purchase_type=kind.upper())
    assert page.texts[page.texts.index("Total") + 2] == kind


async def test_it_says_that_it_is_a_sandbox(sandbox: Sandbox) -> None:
    assert ": no money moves" in (await open_page(sandbox)).texts


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        ({}, ["PAY_NOW", "PAY_LATER", "PAY_OVER_TIME", "DIRECT_DEBIT", "DIRECT_BANK_TRANSFER", "KLARNA"]),
        ({"payment_method_categories": ["PAY_LATER", "PAY_NOW"]}, ["PAY_LATER", "PAY_NOW"]),
    ],
)
async def test_a_kp_session_offers_its_payment_methods(sandbox: Sandbox, options: Any, offered: list[str]) -> None:
    page = await open_page(sandbox, url=KP, **options)
    assert [field["value"] for field in page.all("input")] == offered
    assert "checked" in page.all("input")[0]


async def test_a_single_payment_method_is_no_choice(sandbox: Sandbox) -> None:
    page = await open_page(sandbox, url=KP, payment_method_category="PAY_LATER")
    assert page.all("input") == []
    assert "Pay later" in page.texts


async def test_payment_methods_are_ignored_for_a_kco_order(sandbox: Sandbox) -> None:
    page = await open_page(sandbox, payment_method_categories=["PAY_LATER", "PAY_NOW"])
    assert page.all("input") == []


async def test_logo_and_background_are_shown_and_nothing_else_is_let_in(sandbox: Sandbox) -> None:
    made = await create(
        sandbox,
        merchant_urls=URLS,
        logo_url="https://cdn.example/logo.png",
        background_images=[
            {"url": "https://img.example/1280,a.jpg", "width": 1280},
            {"url": "https://img.example/480.jpg", "width": 480},
            {"url": "https://fallback.example/any.jpg"},
        ],
    )
    got = await browse(made["redirect_url"])
    backdrop, logo = got.page.all("img")
    assert backdrop["srcset"] == "https://img.example/1280%2Ca.jpg 1280w, https://img.example/480.jpg 480w"
    assert (backdrop["src"], backdrop["alt"], backdrop["sizes"]) == ("https://fallback.example/any.jpg", "", "100vw")
    assert (logo["src"], logo["alt"]) == ("https://cdn.example/logo.png", "shop.example")
    assert got.policy["img-src"] == [
        "'self'", "https://cdn.example", "https://img.example", "https://fallback.example",
    ]  # fmt: skip


async def test_an_image_that_the_policy_cannot_name_is_left_out(sandbox: Sandbox) -> None:
    made = await create(
        sandbox,
        logo_url="https://a.example;script-src/x.js",
        background_images=[{"url": "https://a.example,b/", "width": 1}, {"url": "https://ok.example/", "width": 0}],
    )
    got = await browse(made["redirect_url"])
    [backdrop] = got.page.all("img")
    assert backdrop == {"class": "backdrop", "src": "https://ok.example/", "alt": ""}
    assert got.policy["img-src"] == ["'self'", "https://ok.example"]
    assert got.policy["script-src"] == ["'self'"]


async def test_a_flood_of_images_keeps_the_headers_small(sandbox: Sandbox) -> None:
    images = [{"url": f"https://{number}.example/", "width": number + 1} for number in range(10_000)]
    got = await browse((await create(sandbox, background_images=images))["redirect_url"])
    assert len(got.policy["img-src"]) == 21


async def test_the_page_shows_where_its_endings_lead_without_their_secrets(sandbox: Sandbox) -> None:
    urls = {
        "success": "https://user:password@shop.example/thanks?token=secret#secret",
        "failure": "https://shop.example/" + "f" * 10_000,
        "back": "https://shop.example/cart",
    }
    page = await open_page(sandbox, merchant_urls=urls)
    start = page.texts.index("Paid")
    assert page.texts[start : start + 8] == [
        "Paid", "shop.example/thanks", "Back", "shop.example/cart",
        "Declined", "shop.example/" + "f" * 107 + "…", "Error", "shop.example/" + "f" * 107 + "…",
    ]  # fmt: skip
    assert not any("secret" in text or "password" in text for text in page.texts)


# What it does.


async def test_a_get_opens_and_nothing_else(sandbox: Sandbox) -> None:
    made = await create(sandbox, merchant_urls=URLS)
    page = made["redirect_url"]
    for path in ("/cancel", "/result"):
        await browse(page + path)
    await browse(page, "HEAD")
    assert status_of(sandbox, made) is SessionStatus.WAITING
    for path in ("", "/cancel", "/result"):
        await browse(page + path)
    assert status_of(sandbox, made) is SessionStatus.IN_PROGRESS
    assert [moment.what for moment in sandbox.state.sessions[made["session_id"]].timeline] == ["created", "opened"]


@pytest.mark.parametrize(
    ("action", "urls", "destinations", "status"),
    [
        ("pay", ["success"], "success", SessionStatus.COMPLETED),
        ("decline", ["failure"], "failure", SessionStatus.FAILED),
        ("error", ["failure", "error"], "error", SessionStatus.ERROR),
        ("error", ["failure"], "failure", SessionStatus.ERROR),
        ("back", ["back", "cancel"], "back", SessionStatus.BACK),
        ("cancel", ["back", "cancel"], "back", SessionStatus.BACK),
        ("cancel", ["cancel"], "cancel", SessionStatus.CANCELLED),
        ("pay", [], None, SessionStatus.COMPLETED),
        ("decline", [], None, SessionStatus.FAILED),
        ("error", [], None, SessionStatus.ERROR),
        ("back", [], None, SessionStatus.BACK),
        ("cancel", [], None, SessionStatus.CANCELLED),
    ],
)
async def test_each_ending_leads_to_its_url(
    sandbox: Sandbox, action: str, urls: list[str], destinations: str | None, status: SessionStatus
) -> None:
    given = {name: f"https://shop.example/{name}?sid={{{{session_id}}}}&order={{{{order_id}}}}" for name in urls}
    made = await create(sandbox, merchant_urls=given | {"success": given.get("success", "")})
    await browse(made["redirect_url"])
    got = await browse(f"{made['redirect_url']}/{action}", "POST")
    assert got.status == 303
    assert status_of(sandbox, made) is status
    order = ORDER.rpartition("/")[2]
    if destinations is None:
        path = made["redirect_url"].removeprefix(sandbox.base_url)
        assert got.headers["Location"] == f"{path}/result"
        assert (await browse(sandbox.base_url + got.headers["Location"])).status == 200
    else:
        assert got.headers["Location"] == f"https://shop.example/{destinations}?sid={made['session_id']}&order={order}"


async def test_the_authorization_token_of_a_kp_session_arrives_at_success(sandbox: Sandbox) -> None:
    made = await create(sandbox, KP, merchant_urls={"success": "https://shop.example/?t={{authorization_token}}"})
    got = await browse(made["redirect_url"] + "/pay", "POST", data={"payment_method_category": "PAY_NOW"})
    token = sandbox.state.sessions[made["session_id"]].authorization_token
    assert got.headers["Location"] == f"https://shop.example/?t={token}"


@pytest.mark.parametrize(
    ("urls", "button", "path"),
    [
        ({"back": "https://shop.example/"}, "Back", "/back"),
        ({}, "Cancel", "/cancel"),
        ({"back": ""}, "Cancel", "/cancel"),
    ],
)
async def test_only_one_of_back_and_cancel_is_offered(sandbox: Sandbox, urls: Any, button: str, path: str) -> None:
    made = await create(sandbox, merchant_urls=urls)
    got = await browse(made["redirect_url"])
    assert {"Back", "Cancel"} & set(got.page.texts[: got.page.texts.index("Sandbox", 4)]) == {button}
    target = made["redirect_url"].removeprefix(sandbox.base_url) + path
    assert target in (*got.page.forms, *(link["href"] for link in got.page.all("a")))


async def test_cancelling_is_asked_about(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    path = made["redirect_url"].removeprefix(sandbox.base_url)
    got = await browse(made["redirect_url"] + "/cancel")
    assert (got.status, got.page.forms) == (200, [f"{path}/cancel"])
    assert {"href": path, "class": "button secondary"} in got.page.all("a")


async def test_what_cannot_be_cancelled_is_not_asked_about(sandbox: Sandbox) -> None:
    made = await create(sandbox, merchant_urls={"back": "https://shop.example/"})
    got = await browse(made["redirect_url"] + "/cancel")
    assert (got.status, got.headers["Location"]) == (303, made["redirect_url"].removeprefix(sandbox.base_url))


@pytest.mark.parametrize(("action", "notice"), [("decline", "declined"), ("error", "went wrong"), ("back", "")])
async def test_the_page_reports_an_earlier_attempt(sandbox: Sandbox, action: str, notice: str) -> None:
    made = await create(sandbox)
    sandbox.act(made["session_id"], action)
    page = (await browse(made["redirect_url"])).page
    notices = [text for text in page.texts if "You can try again" in text]
    assert [notice in text for text in notices] == ([True] if notice else [])
    assert (await browse(made["redirect_url"] + "/pay", "POST")).status == 303
    assert status_of(sandbox, made) is SessionStatus.COMPLETED


# When it is over.


async def closed(sandbox: Sandbox, how: str, urls: dict[str, str] | None = None) -> dict[str, Any]:
    made = await create(sandbox, merchant_urls=urls)
    stored = sandbox.state.sessions[made["session_id"]]
    if how == "expired":
        sandbox.clock.advance(hours=47)
    elif how == "disabled":
        sandbox.state.disable(stored)
    else:
        sandbox.act(stored, how)
    return made


@pytest.mark.parametrize(
    ("how", "status", "heading"),
    [
        ("pay", 200, "Payment complete"),
        ("cancel", 410, "Purchase cancelled"),
        ("disabled", 410, "This payment link is no longer active"),
        ("expired", 410, "This payment link has expired"),
    ],
)
async def test_a_session_that_is_over_says_so(sandbox: Sandbox, how: str, status: int, heading: str) -> None:
    made = await closed(sandbox, how)
    before = status_of(sandbox, made)
    for path in ("", "/cancel"):
        got = await browse(made["redirect_url"] + path)
        assert (got.status, got.page.texts[0], got.page.forms) == (status, heading, [])
    for action in ("pay", "decline", "back", "cancel", "error"):
        got = await browse(f"{made['redirect_url']}/{action}", "POST")
        assert (got.status, got.headers["Location"]) == (303, made["redirect_url"].removeprefix(sandbox.base_url))
    assert status_of(sandbox, made) is before


async def test_a_completed_page_leads_to_the_shop(sandbox: Sandbox) -> None:
    made = await closed(sandbox, "pay", URLS)
    hrefs = [link["href"] for link in (await browse(made["redirect_url"])).page.all("a")]
    assert hrefs[0] == f"https://shop.example/success?sid={made['session_id']}"


@pytest.mark.parametrize(
    ("urls", "shop"),
    [
        ({"success": "https://shop.example/thanks?sid={{session_id}}"}, "https://shop.example/"),
        ({"success": "https://shop.example/", "cancel": "https://shop.example/cart"}, "https://shop.example/cart"),
        ({"back": "https://shop.example/b", "cancel": "https://shop.example/cart"}, "https://shop.example/b"),
        ({"error": "https://user:secret@shop.example:8443/?secret"}, "https://shop.example:8443/"),
        ({"success": "http://my_shop/"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("how", ["expired", "disabled"])
async def test_a_closed_page_links_back_to_the_shop(
    sandbox: Sandbox, how: str, urls: dict[str, str], shop: str | None
) -> None:
    made = await closed(sandbox, how, {"success": ""} | urls)
    links = [link["href"] for link in (await browse(made["redirect_url"])).page.all("a")]
    assert links == [*([shop] if shop else []), f"/?q={made['session_id']}"]


async def test_a_payment_without_a_success_url_shows_amount_and_reference(sandbox: Sandbox) -> None:
    sandbox.order(ORDER, OrderLine(name="Mug", unit_price=1_900), currency="EUR")
    made = await closed(sandbox, "pay", {"success": ""})
    texts = (await browse(made["redirect_url"] + "/result")).page.texts
    start = texts.index("Paid")
    reference = sandbox.state.sessions[made["session_id"]].klarna_reference
    assert texts[start : start + 4] == ["Paid", "EUR\u00a019.00", "Reference", reference]
    assert "Reference" not in (await browse((await create(sandbox, KP))["redirect_url"])).page.texts


async def test_a_completed_page_stays_so_when_its_time_is_over(sandbox: Sandbox) -> None:
    made = await closed(sandbox, "pay")
    sandbox.clock.advance(hours=48)
    assert (await browse(made["redirect_url"])).page.texts[0] == "Payment complete"


@pytest.mark.parametrize(
    "path", ["nothing", "nothing/cancel", "nothing/result", "%2e%2e%2f%2e%2e", "a%00b", "é" * 1_000]
)
async def test_a_page_that_was_never_there(sandbox: Sandbox, path: str) -> None:
    got = await browse(f"{sandbox.base_url}{PAGE}{path}")
    assert (got.status, got.page.texts[0]) == (404, "There is no such page")
    assert got.policy["default-src"] == ["'none'"]


async def test_acting_on_a_page_that_was_never_there(sandbox: Sandbox) -> None:
    assert (await browse(f"{sandbox.base_url}{PAGE}nothing/pay", "POST")).status == 404


@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("POST", "/open"), ("POST", "/result"), ("GET", "/pay"), ("PUT", "/pay")]
)
async def test_what_the_page_does_not_know(sandbox: Sandbox, method: str, path: str) -> None:
    made = await create(sandbox)
    assert (await browse(made["redirect_url"] + path, method)).status in {401, 404, 405}
    assert status_of(sandbox, made) is SessionStatus.WAITING


# What it is not: an API, a way in, a way out.


async def test_the_page_is_no_api(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    before = sandbox.record.counts.requests
    sandbox.fault("status_503")
    assert (await browse(made["redirect_url"])).status == 200
    assert (await browse(f"{sandbox.base_url}/_sandbox/static/base.css")).status == 200
    assert (await browse(made["redirect_url"] + "/pay", "POST")).status == 303
    assert sandbox.record.counts.requests == before
    assert sandbox.faults.rules[0].checked == 0


async def hostile(sandbox: Sandbox) -> Got:
    """A page with a hostile text wherever a text can stand."""
    sandbox.order(ORDER, OrderLine(name=HOSTILE, unit_price=100), OrderLine(name="\ud800", unit_price=1), shop=HOSTILE)
    text = HOSTILE.translate(dict.fromkeys(map(ord, ' "<>`{}\\%'), "-"))
    urls = dict.fromkeys(URLS, f"https://shop.example/'onclick='{text}")
    made = await create(
        sandbox, merchant_urls=urls, page_title=HOSTILE, logo_url=f"https://cdn.example/'onload='{text}"
    )
    return await browse(made["redirect_url"])


async def test_hostile_texts_are_texts(sandbox: Sandbox) -> None:
    got = await hostile(sandbox)
    assert [tag for tag, _ in got.page.elements if tag in {"script", "iframe", "base"}] == ["script"]
    assert got.page.all("script") == [{"src": "/_sandbox/static/payment.js", "defer": None}]
    assert len(got.page.all("img")) == 1
    attributes = {name for _, attributes in got.page.elements for name in attributes}
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert got.page.texts.count(HOSTILE) == 3  # title, heading, line; the shop's name is the logo's text here
    assert got.page.all("img")[0]["alt"] == HOSTILE
    assert "?" in got.page.texts  # half a surrogate pair


@pytest.mark.parametrize(
    "path", ["../render.py", "..%2frender.py", "%2e%2e/hosted.py", "nothing.css", ".", "%00", "base.css%00"]
)
async def test_only_the_static_files_can_be_had(sandbox: Sandbox, path: str) -> None:
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(f"GET /_sandbox/static/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        reply = await wire.answer()
    assert reply.status in {401, 404}
    assert b"import" not in reply.body


@pytest.mark.parametrize(
    ("name", "kind"), [("base.css", "text/css"), ("payment.css", "text/css"), ("icon.svg", "image/svg+xml")]
)
async def test_static_files(sandbox: Sandbox, name: str, kind: str) -> None:
    got = await browse(f"{sandbox.base_url}/_sandbox/static/{name}")
    assert (got.status, got.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.text == (Path(pages.__file__).parent / "static" / name).read_text(encoding="utf-8")


async def test_an_icon_is_no_request_of_the_api(sandbox: Sandbox) -> None:
    got = await browse(f"{sandbox.base_url}/favicon.ico")
    assert (got.status, got.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    assert sandbox.record.counts.requests == 0


async def test_a_response_arrives_before_the_form_is_complete(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    path = made["redirect_url"].removeprefix(sandbox.base_url)
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(f"POST {path}/pay HTTP/1.1\r\nHost: x\r\nContent-Length: {32 << 20}\r\n\r\n".encode())
        wire.writer.write(bytes(32 << 20))
        await wire.writer.drain()
        reply = await wire.rest()
    assert (reply.status, reply.end) == (303, "fin")
    assert status_of(sandbox, made) is SessionStatus.COMPLETED


async def test_a_form_without_its_body_gets_a_response(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    path = made["redirect_url"].removeprefix(sandbox.base_url)
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(f"POST {path}/pay HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n".encode())
        assert (await wire.answer()).status == 303
    assert status_of(sandbox, made) is SessionStatus.COMPLETED


async def test_browsers_that_come_at_once_share_the_templates(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    got = await asyncio.gather(*(browse(made["redirect_url"]) for _ in range(5)))
    assert [response.status for response in got] == [200] * 5


# Without jinja2.


async def test_without_jinja2_the_page_names_the_extra(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    made = await create(sandbox, merchant_urls=URLS)
    got = await browse(made["redirect_url"])
    assert (got.status, got.headers["Content-Type"]) == (501, "text/plain; charset=utf-8")
    assert got.text == "This page needs jinja2: pip install 'kustom_hpp[sandbox]'\n"
    assert (await browse(made["redirect_url"] + "/pay", "POST")).headers["Location"].startswith("https://shop.example/")


def test_jinja2_is_loaded_with_the_first_page_only() -> None:
    assert "jinja2" not in shape.loaded_by("import kustom_hpp.sandbox", Path(__file__).parents[2])


async def test_a_template_that_forgets_a_value_is_an_error() -> None:
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        await Site().render("payment.html", frame=None, page=None)
