"""The API's description in OpenAPI 3.1, served without credentials.

The operations are in openapi.json; the schemas of requests and responses follow from the declarations of the models. Any
object may have fields that are not described: they are newer. `python -m tests.sandbox.contract` holds the sandbox against it.
"""

import datetime as dt
import json
from collections.abc import Iterator
from enum import EnumType
from importlib import resources
from types import NoneType
from typing import Any, get_args, get_origin

import attrs
from aiohttp import web

from kustom_hpp import models
from kustom_hpp._protocol.operations import OPERATIONS
from kustom_hpp.callbacks import StatusUpdate
from kustom_hpp.models import fields
from kustom_hpp.models.distributions import CONTACT, METHODS
from kustom_hpp.models.field_kinds import JsonObject, reference
from kustom_hpp.sandbox.endpoints.sessions import ACCESS_ID, COUNTRIES
from kustom_hpp.sandbox.http.raw_response import dumps
from kustom_hpp.sandbox.http.server import Server

_TEXT = {"type": "string"}
_CLIENT_ONLY_FIELDS = ("extra", "info")


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield every model and enum in an annotation and in its models."""
    for part in get_args(annotation):
        yield from _parts(part)
    if attrs.has(annotation):
        yield annotation
        for item in attrs.fields(attrs.resolve_types(annotation)):
            yield from _parts(item.type) if item.name not in _CLIENT_ONLY_FIELDS else ()
    elif isinstance(annotation, EnumType):
        yield annotation


def _response_schema(model: type) -> JsonObject:
    """Return the schema of a response. A missing field is not null."""
    declared = [item for item in attrs.fields(attrs.resolve_types(model)) if item.name not in _CLIENT_ONLY_FIELDS]
    required = [item.name for item in declared if item.default is attrs.NOTHING]
    properties = {item.name: _type_schema(item.type) | item.metadata for item in declared}
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _type_schema(annotation: Any) -> JsonObject:
    # An enum of a response is open: text if it is newer. The sandbox knows no newer value.
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
    if kinds == [str]:
        return _TEXT
    if get_origin(annotation) is tuple:
        return {"type": "array", "items": _type_schema(kinds[0])}
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


def _schemas() -> dict[str, JsonObject]:
    """Return the schema of every object and enum, by the name of its model."""
    roots = (
        models.CreateSessionRequest,
        models.Distribution,
        StatusUpdate,
        *(row.response_model for row in OPERATIONS),
    )
    schemas = {kind.__name__: _schema(kind) for root in roots for kind in _parts(root)}
    return schemas | {"Distribution": {"oneOf": [reference(model) for model in METHODS.values()]}}


def _schema(kind: Any) -> JsonObject:
    if isinstance(kind, EnumType):
        return {"type": "string", "enum": [*kind]}
    if kind in METHODS.values():
        return _distribution_schema(kind)
    return fields.schema(kind) if fields.declared(kind) else _response_schema(kind)


def description(base_url: str) -> JsonObject:
    """Return the description of a sandbox at this base URL."""
    document: JsonObject = json.loads((resources.files("kustom_hpp.sandbox.endpoints") / "openapi.json").read_bytes())
    document["servers"] = [{"url": base_url}]
    # In the file an operation names its refusals by their statuses.
    refusals = document.pop("refusals")
    for path in document["paths"].values():
        for method in path.keys() - {"parameters"}:
            statuses = path[method].pop("refusals")
            path[method]["responses"] |= {status: refusals[status] for status in statuses}
    components = document["components"]
    components["schemas"] = _schemas() | components["schemas"]
    return document


def add_routes(app: web.Application, server: Server) -> None:
    """Add the route of the description."""

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=dumps(description(server.base_url_for(request))), content_type="application/json")

    app.router.add_get("/openapi.json", serve)
