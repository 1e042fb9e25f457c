"""The API as one description in OpenAPI 3.1, served at /openapi.json without credentials.

Fields, enums and what is required are those of the API reference; `tests/sandbox/test_openapi.py` holds them against the
models, and `python -m tests.sandbox.contract` holds the sandbox against it. What the sandbox had to choose where the
documents are silent is described as it chose. Any object may have fields that are not described: they are newer.
"""

from typing import Any

from aiohttp import web

from kustom_hpp.sandbox.endpoints.distribution import ACCESS_ID, COUNTRIES
from kustom_hpp.sandbox.http.raw_response import dumps
from kustom_hpp.sandbox.http.server import Server

_Schema = dict[str, Any]

# A URL as the models take it: absolute, http or https, without blanks and control characters; braces, for placeholders,
# behind the host and not percent-encoded. Where a URL may be left out it may be empty too.
# Blanks are listed: the languages of patterns do not agree on what \s is.
_BLANK = r"\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NO_URL = rf'\u0000-\u0020\u007f-\u009f{_BLANK}"<>\\^`'
_HOST = rf"[^/?#{_NO_URL}{{}}]+"
_REST = rf"([/?#][^{_NO_URL}]*)?"
_PLAIN_BRACES = r"(?!.*(%7[bB](%7[bB]|\{)|\{%7[bB]|%7[dD](%7[dD]|\})|\}%7[dD]))"
_LOOPBACK = r"(localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])(:[0-9]+)?"
_ANY_URL = rf"{_PLAIN_BRACES}https?://{_HOST}{_REST}"
_SAFE_URL = rf"{_PLAIN_BRACES}(https://{_HOST}|http://{_LOOPBACK}){_REST}"


def _text(about: str = "", *, optional: bool = True, **more: Any) -> _Schema:
    schema: _Schema = {"type": ["string", "null"] if optional else "string", **more}
    return {**schema, "description": about} if about else schema


def _url(about: str, pattern: str = _ANY_URL, *, optional: bool = True) -> _Schema:
    return _text(about, optional=optional, pattern=f"^({pattern})?$" if optional else f"^{pattern}$")


def _enum(*values: str) -> _Schema:
    return {"type": "string", "enum": list(values)}


def _object(*required: str, **properties: Any) -> _Schema:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


def _ref(name: str, *, optional: bool = False) -> _Schema:
    reference = {"$ref": f"#/components/schemas/{name}"}
    return {"anyOf": [reference, {"type": "null"}]} if optional else reference


def _many(name: str) -> _Schema:
    return {"type": ["array", "null"], "items": _ref(name)}


_DATE = {"type": "string", "format": "date-time"}
_LINK = {"type": "string", "format": "uri"}
_PAGE = {"type": "string"}
_ANSWERED = {"type": "string"}

_REQUESTS: dict[str, _Schema] = {
    "PaymentMethodCategory": _enum(
        "DIRECT_DEBIT", "DIRECT_BANK_TRANSFER", "PAY_NOW", "PAY_LATER", "PAY_OVER_TIME", "KLARNA"
    ),
    "PlaceOrderMode": _enum("PLACE_ORDER", "CAPTURE_ORDER", "NONE"),
    "PurchaseType": _enum("BUY", "RENT", "BOOK", "SUBSCRIBE", "DOWNLOAD", "ORDER", "CONTINUE"),
    "ShowSubtotalDetail": _enum("HIDE"),
    "MerchantUrls": _object(
        success=_url("After the payment was authorised."),
        cancel=_url("After the consumer cancelled; only without back."),
        back=_url("Where the back button leads; it keeps the session open."),
        failure=_url("After a declined payment."),
        error=_url("After a technical error; failure stands in where it is empty."),
        status_update=_url("Where status callbacks are posted; https, or http on loopback.", _SAFE_URL),
    ),
    "BackgroundImage": _object(
        "url",
        url=_url("https, or http on loopback.", _SAFE_URL, optional=False),
        width={"type": ["integer", "null"], "minimum": 0, "maximum": (1 << 63) - 1, "description": "In pixels."},
    ),
    "Options": _object(
        background_images=_many("BackgroundImage"),
        logo_url=_url("The logo to be displayed."),
        page_title=_text("Title of the page; the default is 'Complete your purchase'."),
        payment_method_categories=_many("PaymentMethodCategory"),
        payment_method_category=_ref("PaymentMethodCategory", optional=True),
        place_order_mode=_ref("PlaceOrderMode", optional=True),
        purchase_type=_ref("PurchaseType", optional=True),
        show_subtotal_detail=_ref("ShowSubtotalDetail", optional=True),
    )
    | {
        "not": {
            "properties": {
                "payment_method_categories": {"type": "array"},
                "payment_method_category": {"type": "string"},
            },
            "required": ["payment_method_categories", "payment_method_category"],
        }
    },
    "CreateSessionRequest": _object(
        "payment_session_url",
        payment_session_url=_url("The KCO order or KP session to be hosted.", optional=False),
        profile_id=_text("Profile id for default session options."),
        merchant_urls=_ref("MerchantUrls", optional=True),
        options=_ref("Options", optional=True),
    ),
    "DistributionTemplate": _enum("INSTORE_PURCHASE"),
}

_EMAIL = rf"^[^@\u0000-\u0020\u007f{_BLANK}]+@[^@\u0000-\u0020\u007f{_BLANK}]+$"
_PHONE = r"^\+?[ ()./-]*[0-9][0-9 ()./-]*$"


def _distribution(method: str, **contact: _Schema) -> _Schema:
    return _object(
        "method",
        "contact_information",
        method={"type": "string", "const": method},
        contact_information=_object(*contact, **contact),
        template=_ref("DistributionTemplate", optional=True),
    )


_DISTRIBUTIONS: dict[str, _Schema] = {
    "EmailDistribution": _distribution("email", email=_text(optional=False, pattern=_EMAIL)),
    "SmsDistribution": _distribution(
        "sms",
        phone=_text(optional=False, pattern=_PHONE),
        phone_country={**_enum(*sorted(COUNTRIES)), "description": "ISO 3166-1 alpha-2; which of them is chosen here."},
    ),
    "TokenDistribution": _distribution(
        "token",
        access_id=_text("The value of the QR code, unchanged; which are known is chosen here.", optional=False)
        | {"pattern": f"^({ACCESS_ID})$"},
    ),
}

_ANSWERS: dict[str, _Schema] = {
    "DistributionModule": _object(token=_ANSWERED, standalone_url=_PAGE, generation_url=_LINK),
    "Session": _object(
        "session_id",
        "redirect_url",
        session_id=_ANSWERED,
        redirect_url=_LINK,
        session_url=_LINK,
        distribution_url=_LINK,
        qr_code_url=_LINK,
        manual_identification_check_url=_LINK,
        expires_at=_DATE,
        distribution_module=_ref("DistributionModule"),
    ),
    "SessionStatus": _enum(
        "WAITING", "IN_PROGRESS", "BACK", "FAILED", "ERROR", "MANUAL_ID_CHECK", "COMPLETED", "CANCELLED", "DISABLED"
    ),
    "Customer": _object(
        date_of_birth=_ANSWERED,
        family_name=_ANSWERED,
        given_name=_ANSWERED,
        national_identification_number=_ANSWERED,
        title=_ANSWERED,
    ),
    "ManualIdentification": _object(
        challenge=_ANSWERED, customer=_ref("Customer"), customer_obfuscated=_ref("Customer"), expires_at=_DATE
    ),
    "SessionDetails": _object(
        "session_id",
        session_id=_ANSWERED,
        status=_ref("SessionStatus"),
        updated_at=_DATE,
        expires_at=_DATE,
        authorization_token=_ANSWERED,
        order_id=_ANSWERED,
        klarna_reference=_ANSWERED,
        customer=_ref("Customer"),
        manual_identification=_ref("ManualIdentification"),
    ),
    "StatusUpdate": _object(event_id=_ANSWERED, session=_ref("SessionDetails")),
    "Error": _object(
        "error_code",
        "error_messages",
        "correlation_id",
        error_code=_ANSWERED,
        error_messages={"type": "array", "items": _ANSWERED},
        correlation_id=_ANSWERED,
    ),
}

SCHEMAS: dict[str, _Schema] = {
    **_REQUESTS,
    **_DISTRIBUTIONS,
    "Distribution": {"oneOf": [_ref(name) for name in _DISTRIBUTIONS]},
    **_ANSWERS,
}
"""Every object and enum, by the name of its model."""

_HEADERS = {"Klarna-Correlation-Id": {"schema": _ANSWERED}}
_REFUSALS = {
    400: "A field is wrong, or the session's status forbids it",
    401: "The credentials are missing or wrong",
    403: "The credentials may not do this",
    404: "The session or payment session is unknown, expired or completed",
    413: "The body has more than 1,000,000 bytes",
    415: "The body does not say that it is JSON",
    429: "The merchant's quota is used up",
}
_NO_BODY = (400, 401, 403, 404, 413)


_ORDER = "https://api.kustom.co/checkout/v3/orders/92d97f60-7a78-46a5-8f68-c56fe52dc4af"
_EXAMPLES: dict[str, _Schema] = {
    "CreateSessionRequest": {
        "payment_session_url": _ORDER,
        "merchant_urls": {
            "success": "https://shop.example/thanks?hpp={{session_id}}",
            "status_update": "https://shop.example/status?secret=4b6a1f0c9d7e2a53",
        },
        "options": {"page_title": "Complete your purchase", "purchase_type": "BUY"},
    },
    "Distribution": {"method": "email", "contact_information": {"email": "customer@shop.example"}},
}


def _json(name: str) -> _Schema:
    example = {"example": _EXAMPLES[name]} if name in _EXAMPLES else {}
    return {"content": {"application/json": {"schema": _ref(name), **example}}}


def _answers(status: int, about: str, name: str = "", refusals: tuple[int, ...] = _NO_BODY, **more: Any) -> _Schema:
    healthy = {"description": about, "headers": _HEADERS, **(_json(name) if name else {}), **more}
    refused = {str(code): {"description": _REFUSALS[code], "headers": _HEADERS, **_json("Error")} for code in refusals}
    return {str(status): healthy, **refused}


def _operation(name: str, about: str, responses: _Schema, body: str = "", **more: Any) -> _Schema:
    request = {"requestBody": {"required": True, **_json(body)}} if body else {}
    return {"operationId": name, "summary": about, **request, "responses": responses, **more}


def _link(name: str) -> _Schema:
    return {"operationId": name, "parameters": {"session_id": "$response.body#/session_id"}}


_SESSION = "/hpp/v1/sessions/{session_id}"
_OF_SESSION = {
    "parameters": [
        {
            "name": "session_id",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "example": "9cbc9884-1fdb-45a8-9694-9340340d0436",
        }
    ]
}
_ON_A_SESSION = (
    "read_session", "disable_session", "distribute_session", "check_identity", "renew_distribution_token",
)  # fmt: skip

PATHS: dict[str, _Schema] = {
    "/hpp/v1/sessions": {
        "post": _operation(
            "create_session",
            "Create an HPP session for a payment session.",
            _answers(
                201, "Created", "Session", (*_NO_BODY, 415, 429), links={name: _link(name) for name in _ON_A_SESSION}
            ),
            "CreateSessionRequest",
            callbacks={
                "status_update": {
                    "{$request.body#/merchant_urls/status_update}": {
                        "post": _operation(
                            "status_update",
                            "The session's status has changed. No answer within 3 s: up to 3 more calls.",
                            {"2XX": {"description": "Taken"}},
                            "StatusUpdate",
                            security=[],
                        )
                    }
                }
            },
        )
    },
    _SESSION: {
        **_OF_SESSION,
        "get": _operation("read_session", "Read a session.", _answers(200, "How it stands", "SessionDetails")),
        "delete": _operation("disable_session", "Disable a session for good.", _answers(204, "Disabled")),
    },
    f"{_SESSION}/distribution": {
        **_OF_SESSION,
        "post": _operation(
            "distribute_session",
            "Send the session's link to the consumer.",
            _answers(204, "Will be sent", "", (*_NO_BODY, 415)),
            "Distribution",
        ),
    },
    f"{_SESSION}/manual-id-check": {
        **_OF_SESSION,
        "post": _operation(
            "check_identity", "Begin an identity check in the store.", _answers(200, "Begun", "SessionDetails")
        ),
    },
    f"{_SESSION}/distribution-module/token": {
        **_OF_SESSION,
        "post": _operation(
            "renew_distribution_token",
            "Make a new token for the distribution module.",
            _answers(201, "Made", "DistributionModule"),
        ),
    },
}
"""Every operation by its path."""


def description(base_url: str) -> dict[str, Any]:
    """The whole description, for a sandbox at this base URL."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hosted Payment Page (sandbox)", "version": "1.1"},
        "servers": [{"url": base_url}],
        "security": [{"key": []}],
        "paths": PATHS,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The API key as it is after 'Basic ', or base64 of username:key.",
                }
            },
        },
    }


def add_routes(app: web.Application, server: Server) -> None:
    """Serve the description."""

    async def described(request: web.Request) -> web.Response:
        return web.Response(body=dumps(description(server.base_url_for(request))), content_type="application/json")

    app.router.add_get("/openapi.json", described)
