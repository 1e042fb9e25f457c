"""A shop's whole flow at the sandbox: create the order, host it, pay, read it back."""

import json
from typing import Any

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.sandbox.support import PATH, Reply, ask, call, request

LINES = [
    {"name": "Mug", "quantity": 2, "unit_price": 1900, "tax_rate": 2500, "total_amount": 3800, "total_tax_amount": 760},
    {"name": "Blanket", "quantity": 1, "unit_price": 8900, "total_discount_amount": 900, "total_amount": 8000},
]
ORDER_BODY = {
    "purchase_country": "SE", "purchase_currency": "EUR", "locale": "sv-SE", "order_amount": 11800,
    "order_tax_amount": 760, "order_lines": LINES, "merchant_urls": {"terms": "https://shop.example/terms"},
}  # fmt: skip
PATHS = {"KCO": "/checkout/v3/orders", "KP": "/payments/v1/sessions"}


async def _post(sandbox: Sandbox, path: str, body: Any) -> Reply:
    return await ask(sandbox, call(sandbox, f"POST {path}", json.dumps(body).encode()))


@pytest.mark.parametrize("kind", PATHS)
async def test_an_order_is_created_hosted_paid_and_read(sandbox: Sandbox, kind: str) -> None:
    made = await _post(sandbox, PATHS[kind], ORDER_BODY)
    assert made.status == (201 if kind == "KCO" else 200)
    url = made.header("Location")
    assert url == f"{sandbox.base_url}{PATHS[kind]}/{made.json['order_id' if kind == 'KCO' else 'session_id']}"

    body = {"payment_session_url": url, "options": {"place_order_mode": "PLACE_ORDER"}}
    session = (await ask(sandbox, request(sandbox, body=json.dumps(body).encode()))).json
    assert (await _read(sandbox, url))["status"] in {"checkout_incomplete", "incomplete"}
    sandbox.act(session["session_id"], "pay")

    read = await _read(sandbox, url)
    assert read["status"] in {"checkout_complete", "complete"}
    assert {name: read[name] for name in ORDER_BODY} == ORDER_BODY
    operation = "order" if kind == "KCO" else "payment_session"
    assert [seen.operation for seen in sandbox.record.requests] == [
        f"create_{operation}", "create_session", f"read_{operation}", f"read_{operation}",
    ]  # fmt: skip


async def _read(sandbox: Sandbox, url: str) -> Any:
    reply = await ask(sandbox, call(sandbox, f"GET {url.removeprefix(sandbox.base_url)}"))
    assert reply.status == 200
    return reply.json


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("host", ["", "https://api.playground.kustom.co"])
async def test_the_page_shows_what_the_shop_asked_for(sandbox: Sandbox, kind: str, host: str) -> None:
    """Also if the shop names the order by the API's own host, as some plug-ins do."""
    made = await _post(sandbox, PATHS[kind], ORDER_BODY)
    url = (made.header("Location") or "").replace(sandbox.base_url, host or sandbox.base_url)
    shown = sandbox.state.orders.get(url)
    assert [(line.name, line.quantity, line.total_amount) for line in shown.lines] == [
        ("Mug", 2, 3800), ("Blanket", 1, 8000),
    ]  # fmt: skip
    assert (shown.currency, shown.order_amount, shown.order_tax_amount) == ("EUR", 11800, 760)
    assert (shown.shop, sandbox.state.orders.has(url)) == ("shop.example", True)

    session = (await ask(sandbox, request(sandbox, url))).json
    page = await ask(sandbox, call(sandbox, f"GET {session['redirect_url'].removeprefix(sandbox.base_url)}"))
    assert all(text in page.body for text in (b"Mug", b"Blanket"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"purchase_currency": "eur"},
            "purchase_currency: must be three capital letters (ISO 4217), got text of 3 characters",
        ),
        ({"purchase_currency": None}, "purchase_currency: must be three capital letters (ISO 4217), got null"),
        ({"order_lines": []}, "order_lines: must be a list of at least one line, got a list of 0"),
        ({"order_lines": [5]}, "order_lines[0]: must be an object, got a number"),
        (
            {"order_lines": [{"name": "Mug", "quantity": 1}]},
            "order_lines[0].unit_price: must be a whole number, got null",
        ),
        (
            {"order_lines": [{"name": "Mug", "quantity": True, "unit_price": 1}]},
            "order_lines[0].quantity: must be a whole number, got true",
        ),
        ({"order_lines": [{"quantity": 1, "unit_price": 1}]}, "order_lines[0].name: must be text, got null"),
        (
            {"order_lines": [{"name": "Mug", "quantity": 2, "unit_price": 5, "total_amount": 9}]},
            "order_lines[0].total_amount: must be quantity * unit_price - total_discount_amount",
        ),
        ({"order_amount": 11801}, "order_amount: must be the sum of order_lines[].total_amount, in minor units"),
        ({"order_amount": None}, "order_amount: must be the sum of order_lines[].total_amount, in minor units"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value.partition(":")[0],
)
async def test_an_order_that_does_not_add_up_is_refused(sandbox: Sandbox, change: dict[str, Any], problem: str) -> None:
    reply = await _post(sandbox, PATHS["KCO"], ORDER_BODY | change)
    assert (reply.status, reply.json["error_code"], reply.json["error_messages"]) == (400, "BAD_VALUE", [problem])
    assert sandbox.state.order_bodies == {}


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_order_is_refused(sandbox: Sandbox, body: bytes) -> None:
    assert (await ask(sandbox, call(sandbox, f"POST {PATHS['KCO']}", body))).status == 400


async def test_stand_ins_need_the_key_and_meet_no_fault(sandbox: Sandbox) -> None:
    sandbox.fault("status_503", operation="any")
    body = json.dumps(ORDER_BODY).encode()
    stranger = await ask(sandbox, call(sandbox, f"POST {PATHS['KCO']}", body, authorization="Basic no"))
    assert (stranger.status, (await _post(sandbox, PATHS["KCO"], ORDER_BODY)).status) == (401, 201)
    assert (await ask(sandbox, call(sandbox, f"GET {PATHS['KCO']}/unknown"))).status == 404


async def test_a_path_that_is_not_built_says_what_exists(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, call(sandbox, "POST /ordermanagement/v1/orders/1/captures", b"{}"))
    assert reply.status == 404
    [message] = reply.json["error_messages"]
    assert message.startswith(
        "the sandbox does not serve this path. It serves POST /hpp/v1/sessions, GET /hpp/v1/sessions/{"
    )
    assert "POST /checkout/v3/orders," in message
    wrong = await ask(sandbox, call(sandbox, f"PUT {PATH}", b"{}"))
    assert (wrong.status, wrong.json["error_messages"]) == (405, ["this path takes POST only"])


async def test_the_oldest_orders_are_forgotten() -> None:
    async with Sandbox(remember=2) as sandbox:
        for _ in range(3):
            await _post(sandbox, PATHS["KCO"], ORDER_BODY)
        assert len(sandbox.state.order_bodies) == 2
