"""What a sandbox accepts beyond the API, and that it refuses all of it by default."""

import json
from typing import Any

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.sandbox.support import ORDER, PATH, Reply, Wire, ask, call, request

CALLBACK = "http://shop:8000/status?secret=0123456789abcdef"


def _warnings(sandbox: Sandbox) -> list[str]:
    return [
        entry.detail
        for session in sandbox.state.sessions.values()
        for entry in session.timeline
        if entry.what == "warning"
    ]


async def _create(sandbox: Sandbox, **fields: Any) -> Reply:
    return await ask(sandbox, request(sandbox, body=json.dumps({"payment_session_url": ORDER, **fields}).encode()))


async def _distribute(sandbox: Sandbox, session_id: str, **fields: Any) -> Reply:
    body = json.dumps({"contact_information": {"email": "a@example.com"}, **fields}).encode()
    return await ask(sandbox, call(sandbox, f"POST {PATH}/{session_id}/distribution", body))


@pytest.mark.parametrize(
    ("options", "wanted", "warnings"),
    [
        ({"purchase_type": "buy"}, {"purchase_type": "BUY"}, ["options.purchase_type: buy was accepted as BUY"]),
        (
            {"place_order_mode": "Capture_Order"},
            {"place_order_mode": "CAPTURE_ORDER"},
            ["options.place_order_mode: Capture_Order was accepted as CAPTURE_ORDER"],
        ),
        (
            {"payment_method_categories": ["KLARNA", "pay_later"]},
            {"payment_method_categories": ("KLARNA", "PAY_LATER")},
            ["options.payment_method_categories[1]: pay_later was accepted as PAY_LATER"],
        ),
        ({"show_subtotal_detail": "HIDE"}, {"show_subtotal_detail": "HIDE"}, []),
    ],
    ids=["lower", "mixed", "in a list", "as documented"],
)
async def test_a_tolerant_sandbox_accepts_enum_values_in_another_case(
    options: dict[str, Any], wanted: dict[str, Any], warnings: list[str]
) -> None:
    async with Sandbox(strict=False) as sandbox:
        reply = await _create(sandbox, options=options)
        session = sandbox.state.sessions[reply.json["session_id"]]
        assert {name: getattr(session.request.options, name) for name in wanted} == wanted
        assert [warning.partition(";")[0] for warning in _warnings(sandbox)] == warnings


async def test_a_tolerant_sandbox_accepts_a_distribution_in_another_case() -> None:
    async with Sandbox(strict=False) as sandbox:
        made = (await _create(sandbox)).json
        reply = await _distribute(sandbox, made["session_id"], method="EMAIL", template="instore_purchase")
        assert (reply.status, sandbox.record.distributions[0].method) == (204, "email")
        assert _warnings(sandbox) == [
            "method: EMAIL was accepted as email; the API documents email only",
            "template: instore_purchase was accepted as INSTORE_PURCHASE; the API documents INSTORE_PURCHASE only",
        ]


@pytest.mark.parametrize(
    "options", [{"purchase_type": "gift"}, {"purchase_type": 5}, "none", {"place_order_mode": ["none"]}]
)
async def test_a_tolerant_sandbox_refuses_other_values(options: Any) -> None:
    async with Sandbox(strict=False) as sandbox:
        assert (await _create(sandbox, options=options)).status == 400
        assert (await ask(sandbox, request(sandbox, body=b'{"payment'))).status == 400
        assert (await ask(sandbox, request(sandbox, body=b"[1]"))).status == 400


async def test_by_default_case_matters(sandbox: Sandbox) -> None:
    reply = await _create(sandbox, options={"purchase_type": "buy"})
    assert reply.status == 400
    assert "did you mean BUY?" in reply.json["error_messages"][0]
    made = (await _create(sandbox)).json
    assert (await _distribute(sandbox, made["session_id"], method="EMAIL")).status == 400


async def test_an_exposed_sandbox_accepts_callbacks_over_http_to_private_hosts() -> None:
    async with Sandbox("0.0.0.0", callback_timeout=0.1) as sandbox:
        made = await _create(sandbox, merchant_urls={"status_update": CALLBACK})
        session = sandbox.state.sessions[made.json["session_id"]]
        assert (made.status, session.merchant_url("status_update")) == (201, CALLBACK)
        assert _warnings(sandbox) == ["merchant_urls.status_update: http to a private host; the API accepts https only"]
        public = await _create(
            sandbox, merchant_urls={"status_update": "http://shop.example/status?secret=0123456789abcdef"}
        )
        assert public.status == 400
        broken = await _create(
            sandbox, merchant_urls={"status_update": "http://shop:99999/"}, options={"purchase_type": "x"}
        )
        assert broken.status == 400


async def test_a_sandbox_of_this_machine_alone_refuses_them(sandbox: Sandbox) -> None:
    assert (await _create(sandbox, merchant_urls={"status_update": CALLBACK})).status == 400


async def test_links_begin_with_the_public_url() -> None:
    async with Sandbox("0.0.0.0", public_url="http://localhost:8123/") as sandbox:
        made = (await _create(sandbox)).json
        links = [value for name, value in made.items() if name.endswith("_url")]
        assert len(links) == 5
        assert {link.split("/", 3)[2] for link in links} == {"localhost:8123"}
        assert made["redirect_url"].startswith("http://localhost:8123/eu/hpp/payments/")
        async with await Wire.open(sandbox.base_url) as wire:
            path = made["redirect_url"].removeprefix("http://localhost:8123")
            wire.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:8123\r\n\r\n".encode())
            assert (await wire.answer()).status == 200


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://localhost", "http://", "http://localhost/?a=1", "http://a:x@b/"]
)
def test_a_public_url_is_checked(url: str) -> None:
    with pytest.raises(ValueError, match="public_url is invalid"):
        Sandbox(public_url=url)
