"""The API's "create a session", described for a generator: what the generated client is generated from."""

from typing import Any

from benchmarks.payloads import CREATE_PATH

_TEXT = {"type": "string"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _enum(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def _many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _reference(name)}}


SCHEMAS: dict[str, Any] = {
    "PaymentMethodCategory": _enum(
        "DIRECT_DEBIT", "DIRECT_BANK_TRANSFER", "PAY_NOW", "PAY_LATER", "PAY_OVER_TIME", "KLARNA"
    ),
    "MerchantUrls": _object(
        **dict.fromkeys(("success", "cancel", "back", "failure", "error", "status_update"), _TEXT),
    ),
    "BackgroundImage": _object(url=_TEXT, width={"type": "integer"}),
    "Options": _object(
        background_images=_many(_reference("BackgroundImage")),
        logo_url=_TEXT,
        page_title=_TEXT,
        payment_method_categories=_many(_reference("PaymentMethodCategory")),
        payment_method_category=_reference("PaymentMethodCategory"),
        place_order_mode=_enum("PLACE_ORDER", "CAPTURE_ORDER", "NONE"),
        purchase_type=_enum("BUY", "RENT", "BOOK", "SUBSCRIBE", "DOWNLOAD", "ORDER", "CONTINUE"),
        show_subtotal_detail=_enum("HIDE"),
    ),
    "CreateSession": {"required": ["payment_session_url"]}
    | _object(
        payment_session_url=_TEXT,
        profile_id=_TEXT,
        merchant_urls=_reference("MerchantUrls"),
        options=_reference("Options"),
    ),
    "DistributionModule": _object(token=_TEXT, standalone_url=_TEXT, generation_url=_TEXT),
    "Session": _object(
        **dict.fromkeys(
            (
                "session_id",
                "session_url",
                "redirect_url",
                "qr_code_url",
                "distribution_url",
                "manual_identification_check_url",
            ),
            _TEXT,
        ),
        expires_at={"type": "string", "format": "date-time"},
        distribution_module=_reference("DistributionModule"),
    ),
}

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "HPP", "version": "1.1"},
    "paths": {
        CREATE_PATH: {
            "post": {
                "operationId": "createSession",
                "tags": ["sessions"],
                "requestBody": {"required": True, "content": _json("CreateSession")},
                "responses": {"201": {"description": "The session was created", "content": _json("Session")}},
            }
        }
    },
    "components": {"schemas": SCHEMAS},
}
