"""The API's description in OpenAPI 3.1, which the sandbox serves at /openapi.json without credentials.

The schemas of requests and responses follow from the declarations of the models. `python -m tests.sandbox.contract` holds the
sandbox against the description. Any object may have fields that are not described: they are newer.
"""

import datetime as dt
from enum import StrEnum
from types import NoneType
from typing import Any, get_args

import attrs
from aiohttp import web

from kustom_hpp import models
from kustom_hpp.callbacks import StatusUpdate
from kustom_hpp.models import fields
from kustom_hpp.models.distributions import CONTACT, METHODS
from kustom_hpp.models.field_kinds import JsonObject, reference
from kustom_hpp.sandbox.endpoints.distribution import ACCESS_ID, COUNTRIES
from kustom_hpp.sandbox.faults.rules import CREATE, OPERATIONS
from kustom_hpp.sandbox.http.raw_response import dumps
from kustom_hpp.sandbox.http.server import Server
from kustom_hpp.sandbox.record import CREATE_PATH

_REQUESTS = (models.CreateSessionRequest, models.MerchantUrls, models.Options, models.BackgroundImage)
_RESPONSES = (
    models.Session, models.DistributionModule, models.SessionDetails, models.Customer, models.ManualIdentification,
    StatusUpdate,
)  # fmt: skip
_ENUMS = (
    models.PaymentMethodCategory, models.PlaceOrderMode, models.PurchaseType, models.ShowSubtotalDetail,
    models.DistributionTemplate, models.SessionStatus,
)  # fmt: skip
_TEXT = {"type": "string"}
_CLIENT_ONLY_FIELDS = ("extra", "info")


def _response_schema(model: type) -> JsonObject:
    """Return the schema of a response's model: a field that may be missing is not null."""
    declared = [item for item in attrs.fields(attrs.resolve_types(model)) if item.name not in _CLIENT_ONLY_FIELDS]
    required = [item.name for item in declared if item.default is attrs.NOTHING]
    properties = {item.name: _type_schema(item.type) | item.metadata for item in declared}
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _type_schema(annotation: Any) -> JsonObject:
    # An enum of a response is open: text if it is newer. The sandbox knows no newer value.
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
    if kinds == [str]:
        return _TEXT
    if kinds == [dt.datetime]:
        return _TEXT | {"format": "date-time"}
    return reference(next(kind for kind in kinds if kind is not str))


# The sandbox chose which access ids and countries it knows.
_SANDBOX_CHOICES: dict[str, JsonObject] = {
    "phone_country": {"enum": sorted(COUNTRIES), "description": "ISO 3166-1 alpha-2; the sandbox's own choice."},
    "access_id": {
        "pattern": f"^({ACCESS_ID})$",
        "description": "The content of the QR code; the sandbox's own choice of known ones.",
    },
}


def _distribution_schema(model: type[models.Distribution]) -> JsonObject:
    schema = fields.schema(model)
    template = schema["properties"].pop("template")
    contact = {name: value | _SANDBOX_CHOICES.get(name, {}) for name, value in schema["properties"].items()}
    method = {"type": "string", "const": model.method}
    return {
        "type": "object",
        "properties": {"method": method, CONTACT: schema | {"properties": contact}, "template": template},
        "required": ["method", CONTACT],
    }


def _enum_schema(enum: type[StrEnum]) -> JsonObject:
    return {"type": "string", "enum": [str(value) for value in enum]}


SCHEMAS: dict[str, JsonObject] = {
    **{model.__name__: fields.schema(model) for model in _REQUESTS},
    **{model.__name__: _distribution_schema(model) for model in METHODS.values()},
    "Distribution": {"oneOf": [reference(model) for model in METHODS.values()]},
    **{model.__name__: _response_schema(model) for model in _RESPONSES},
    **{enum.__name__: _enum_schema(enum) for enum in _ENUMS},
    "Error": {
        "type": "object",
        "properties": {
            "error_code": _TEXT,
            "error_messages": {"type": "array", "items": _TEXT},
            "correlation_id": _TEXT,
        },
        "required": ["error_code", "error_messages", "correlation_id"],
    },
}
"""Every object and enum, by the name of its model."""

_HEADERS = {"Klarna-Correlation-Id": {"schema": _TEXT}}
_REFUSALS = {
    400: "A field is invalid, or the session's status forbids it",
    401: "The credentials are missing or invalid",
    403: "The credentials lack the permission",
    404: "The session or payment session is unknown, expired or completed",
    413: "The body has more than 1,000,000 bytes",
    415: "The Content-Type is not JSON",
    429: "The merchant's rate limit is exceeded",
}
_COMMON_REFUSALS = (400, 401, 403, 404, 413)


_ORDER = "https://api.kustom.co/checkout/v3/orders/92d97f60-7a78-46a5-8f68-c56fe52dc4af"
_EXAMPLES: dict[str, JsonObject] = {
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


def _json(name: str) -> JsonObject:
    example = {"example": _EXAMPLES[name]} if name in _EXAMPLES else {}
    return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}, **example}}}


def _operation(
    name: str,
    about: str,
    success: tuple[int, str],
    *,
    response: str = "",
    body: str = "",
    refusals: tuple[int, ...] = (),
    **more: Any,
) -> JsonObject:
    """Return an operation; `response` and `body` name schemas, `more` has its links and callbacks."""
    status, result = success
    responses = {str(status): {"description": result, "headers": _HEADERS, **(_json(response) if response else {})}}
    responses[str(status)] |= {"links": more.pop("links")} if "links" in more else {}
    for code in (*_COMMON_REFUSALS, *refusals):
        responses[str(code)] = {"description": _REFUSALS[code], "headers": _HEADERS, **_json("Error")}
    request = {"requestBody": {"required": True, **_json(body)}} if body else {}
    return {"operationId": name, "summary": about, **request, "responses": responses, **more}


def _link(name: str) -> JsonObject:
    return {"operationId": name, "parameters": {"session_id": "$response.body#/session_id"}}


_STATUS_UPDATE = {
    "operationId": "status_update",
    "summary": "The session's status has changed. Without a response within 3 s there are up to 3 more calls.",
    "requestBody": {"required": True, **_json("StatusUpdate")},
    "responses": {"2XX": {"description": "Received"}},
    "security": [],
}
_SESSION = f"{CREATE_PATH}/{{session_id}}"
_SESSION_ID = {
    "name": "session_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "example": "9cbc9884-1fdb-45a8-9694-9340340d0436",
}

PATHS: dict[str, JsonObject] = {
    CREATE_PATH: {
        "post": _operation(
            "create_session",
            "Create an HPP session for a payment session.",
            (201, "Created"),
            response="Session",
            body="CreateSessionRequest",
            refusals=(415, 429),
            links={name: _link(name) for name in OPERATIONS if name != CREATE},
            callbacks={"status_update": {"{$request.body#/merchant_urls/status_update}": {"post": _STATUS_UPDATE}}},
        )
    },
    _SESSION: {
        "parameters": [_SESSION_ID],
        "get": _operation("read_session", "Read a session.", (200, "The session"), response="SessionDetails"),
        "delete": _operation("disable_session", "Disable a session permanently.", (204, "Disabled")),
    },
    f"{_SESSION}/distribution": {
        "parameters": [_SESSION_ID],
        "post": _operation(
            "distribute_session",
            "Send the session's link to the consumer.",
            (204, "The message will be sent"),
            body="Distribution",
            refusals=(415,),
        ),
    },
    f"{_SESSION}/manual-id-check": {
        "parameters": [_SESSION_ID],
        "post": _operation(
            "check_identity", "Start an identity check in the store.", (200, "Started"), response="SessionDetails"
        ),
    },
    f"{_SESSION}/distribution-module/token": {
        "parameters": [_SESSION_ID],
        "post": _operation(
            "renew_distribution_token",
            "Create a new token for the distribution module.",
            (201, "Created"),
            response="DistributionModule",
        ),
    },
}
"""Every operation by its path."""


def description(base_url: str) -> dict[str, Any]:
    """Return the description of a sandbox at this base URL."""
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
    """Add the route of the description."""

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=dumps(description(server.base_url_for(request))), content_type="application/json")

    app.router.add_get("/openapi.json", serve)
