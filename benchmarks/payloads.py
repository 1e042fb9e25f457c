"""The messages of every benchmark: distinct requests of about 1,200 bytes, one response of about 890."""

import json
from typing import Any

from kustom_hpp import BackgroundImage, CreateSessionRequest, MerchantUrls, Options, PlaceOrderMode, PurchaseType

CREATE_PATH = "/hpp/v1/sessions"
API_KEY = "kco_test_api_benchmark0000000000000000"
DISTINCT = 500
"""Requests that a client has prebuilt and goes round in."""

SESSION_ID = "9cbc9884-1fdb-45a8-9694-9340340d0436"
_API = f"https://api.kustom.co/hpp/v1/sessions/{SESSION_ID}"
_PAGE = "https://pay.kustom.co/eu/hpp/payments/2OCkffK"
RESPONSE_BODY = json.dumps(
    {
        "session_id": SESSION_ID,
        "session_url": _API,
        "redirect_url": _PAGE,
        "qr_code_url": f"{_PAGE}/qr",
        "distribution_url": f"{_API}/distribution",
        "manual_identification_check_url": f"{_API}/manual-id-check",
        "expires_at": "2038-01-19T03:14:07.000Z",
        "distribution_module": {
            "token": "eyJhbGciOiJIUzI1NiJ9.eyJzaWQiOiI5Y2JjOTg4NCJ9.4pcPyMD09olPSyXnrXCjTwXyr4Bsezd",
            "standalone_url": f"{_PAGE}/standalone?profile={{{{profile_id}}}}&view={{{{view_id}}}}",
            "generation_url": f"{_API}/distribution/generation",
        },
    },
    separators=(",", ":"),
).encode()
"""Every field of the API's 201."""


def plain(index: int) -> dict[str, Any]:
    """The wire shape of request number `index`, as plain JSON values."""
    sid = f"{index:08d}-7a78-46a5-8f68-c56fe52dc4af"
    shop = f"https://shop.example/checkout/{{}}?sid={sid}&hpp="
    placeholder = "{{session_id}}"
    return {
        "payment_session_url": f"https://api.kustom.co/checkout/v3/orders/{sid}",
        "profile_id": "87ab3565-5e06-4006-9ada-8eedc6926703",
        "merchant_urls": {
            **{name: f"{shop.format(name)}{placeholder}" for name in ("success", "cancel", "back", "failure", "error")},
            "status_update": f"{shop.format('status')}{placeholder}&secret=5d1c7a52-8f0e-4a7b-9c56-2f6f1f7b0a11",
        },
        "options": {
            "background_images": [
                {"url": "https://cdn.shop.example/hpp/background-narrow.jpg", "width": 720},
                {"url": "https://cdn.shop.example/hpp/background-wide.jpg", "width": 1920},
            ],
            "logo_url": "https://cdn.shop.example/hpp/logo.png",
            "page_title": f"Complete your purchase no. {index}",
            "place_order_mode": "CAPTURE_ORDER",
            "purchase_type": "BUY",
        },
    }


def body(index: int) -> bytes:
    """The same as the JSON bytes that go over the wire."""
    return json.dumps(plain(index), separators=(",", ":")).encode()


def request(index: int) -> CreateSessionRequest:
    """The same as kustom_hpp's request."""
    fields = plain(index)
    options = fields["options"]
    images = [BackgroundImage(**image) for image in options.pop("background_images")]
    modes = PlaceOrderMode(options.pop("place_order_mode")), PurchaseType(options.pop("purchase_type"))
    return CreateSessionRequest(
        payment_session_url=fields["payment_session_url"],
        profile_id=fields["profile_id"],
        merchant_urls=MerchantUrls(**fields["merchant_urls"]),
        options=Options(background_images=images, place_order_mode=modes[0], purchase_type=modes[1], **options),
    )
