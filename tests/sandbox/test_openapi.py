"""The description of the API says what the models, the operations and the endpoints say: nothing more, nothing less."""

import datetime as dt
import json
import re
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import aiohttp
import attrs
import pytest

from kustom_hpp import models
from kustom_hpp._protocol.codec import codec
from kustom_hpp._protocol.operations import OPERATIONS
from kustom_hpp.callbacks import StatusUpdate
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models.distributions import contact_fields, distribution_from_json
from kustom_hpp.models.urls import check_url
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.endpoints.openapi import description
from kustom_hpp.sandbox.endpoints.sessions import ENDPOINTS

PATHS = description("")["paths"]
SCHEMAS = description("")["components"]["schemas"]
REQUESTS = (models.CreateSessionRequest, models.MerchantUrls, models.Options, models.BackgroundImage)
DISTRIBUTIONS = (models.EmailDistribution, models.SmsDistribution, models.TokenDistribution)
ANSWERS = (
    models.Session, models.DistributionModule, models.SessionDetails, models.Customer, models.ManualIdentification,
    StatusUpdate,
)  # fmt: skip
ENUMS = (
    models.PaymentMethodCategory, models.PlaceOrderMode, models.PurchaseType, models.ShowSubtotalDetail,
    models.DistributionTemplate, models.SessionStatus,
)  # fmt: skip
SANDBOX_ALONE = {"check_identity", "renew_distribution_token"}
"""Operations whose URLs the API tells, and about which nothing else is documented: the client has no method for them."""
NOT_ON_THE_WIRE = {"extra", "info"}


def test_every_object_and_enum_is_described_by_the_name_of_its_model() -> None:
    names = {kind.__name__ for kind in (*REQUESTS, *DISTRIBUTIONS, *ANSWERS, *ENUMS)}
    assert set(SCHEMAS) == names | {"Distribution", "Error"}


@pytest.mark.parametrize("kind", ENUMS, ids=lambda kind: kind.__name__)
def test_enums(kind: type[StrEnum]) -> None:
    assert SCHEMAS[kind.__name__] == {"type": "string", "enum": [str(value) for value in kind]}


def fields(kind: type) -> "dict[str, attrs.Attribute[Any]]":
    attrs.resolve_types(kind)
    return {field.name: field for field in attrs.fields(kind) if field.name not in NOT_ON_THE_WIRE}


@pytest.mark.parametrize("kind", [*REQUESTS, *ANSWERS], ids=lambda kind: kind.__name__)
def test_fields_and_what_is_required(kind: type) -> None:
    schema = SCHEMAS[kind.__name__]
    assert set(schema["properties"]) == set(fields(kind))
    required = {name for name, field in fields(kind).items() if field.default is attrs.NOTHING}
    assert set(schema.get("required", ())) == required
    # Newer fields are taken, and come.
    assert "additionalProperties" not in schema


@pytest.mark.parametrize("kind", [*REQUESTS, *ANSWERS], ids=lambda kind: kind.__name__)
def test_types(kind: type) -> None:
    is_request = kind in REQUESTS
    for name, field in fields(kind).items():
        wanted = {json.dumps(one, sort_keys=True) for one in types_of(field.type, nullable=is_request)}
        assert {json.dumps(one, sort_keys=True) for one in shapes(SCHEMAS[kind.__name__]["properties"][name])} == wanted


def types_of(annotation: Any, *, nullable: bool) -> list[Any]:
    """What an annotation says, as a list of the types that JSON may have there."""
    if get_origin(annotation) is UnionType:
        args = [arg for arg in get_args(annotation) if arg is not NoneType]
        # An answer's enum is open: text where it is newer. The sandbox knows no newer one.
        args = [arg for arg in args if arg is not str] or args
        found = [one for arg in args for one in types_of(arg, nullable=nullable)]
        return [*found, "null"] if nullable and NoneType in get_args(annotation) else found
    if get_origin(annotation) is tuple:
        return [["array", *types_of(get_args(annotation)[0], nullable=False)]]
    if attrs.has(annotation) or issubclass(annotation, StrEnum):
        return [f"#/components/schemas/{annotation.__name__}"]
    return [{str: "string", int: "integer", dt.datetime: "string date-time"}[annotation]]


def shapes(schema: dict[str, Any]) -> list[Any]:
    """What a schema says, in the same words."""
    if "anyOf" in schema:
        return [one for part in schema["anyOf"] for one in shapes(part)]
    if "$ref" in schema:
        return [schema["$ref"]]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    words = {"array": ["array", *shapes(schema["items"])]} if "array" in kinds else {}
    date = {"string": "string date-time"} if schema.get("format") == "date-time" else {}
    return [(words | date).get(kind, kind) for kind in kinds]


@pytest.mark.parametrize("kind", DISTRIBUTIONS, ids=lambda kind: kind.__name__)
def test_distributions(kind: type[models.EmailDistribution]) -> None:
    schema = SCHEMAS[kind.__name__]
    contact = schema["properties"]["contact_information"]
    assert {*schema["properties"]} == {"method", "contact_information", "template"}
    assert schema["properties"]["method"] == {"type": "string", "const": kind.method}
    assert set(contact["properties"]) == set(contact["required"]) == set(contact_fields(kind))
    assert {*contact["properties"], "template"} == set(fields(kind))
    assert schema["required"] == ["method", "contact_information"]
    assert {"$ref": f"#/components/schemas/{kind.__name__}"} in SCHEMAS["Distribution"]["oneOf"]


def described() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and operation by its name."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, item in PATHS.items()
        for method, operation in item.items()
        if method != "parameters"
    }


def test_what_is_described_is_what_is_served_and_what_the_client_calls() -> None:
    rows = {name: (method, path) for name, (method, path, _) in described().items()}
    assert rows == {endpoint.name: (endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    called = {operation.name: (operation.method, operation.path) for operation in OPERATIONS}
    assert called == {name: row for name, row in rows.items() if name not in SANDBOX_ALONE}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_s_answer_is_that_of_its_row(operation: Any) -> None:
    _, _, told = described()[operation.name]
    [(status, answer)] = [item for item in told["responses"].items() if item[0].startswith("2")]
    if status == "204":
        assert "content" not in answer
    else:
        name = operation.response_model.__name__
        assert answer["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}


async def test_it_is_served_without_credentials_and_is_no_operation(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as client, client.get(f"{sandbox.base_url}/openapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        told = await response.json()
    assert told == json.loads(json.dumps(description(sandbox.base_url)))
    assert told["servers"] == [{"url": sandbox.base_url}]
    assert sandbox.record.requests == ()


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(description("http://127.0.0.1"))
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) | {"Session"} <= set(SCHEMAS)


# The patterns: a validator of JSON schemas accepts the texts that the models accept.

TEXTS = [
    "https://shop.example", "https://shop.example/", "https://shop.example/a?b={{session_id}}#c", "http://shop.example/ä",
    "https://shop.example?x", "https://u:p@shop.example:8443/", "http://127.0.0.1:80/x", "http://localhost", "http://[::1]:5/",
    "http://127.0.0.1.evil.example/", "http://localhost.evil.example/", "https://", "https:///path", "ftp://shop.example",
    "shop.example", "//shop.example", "javascript:alert(1)", "https://shop.example/%7B%7Bsession_id%7D%7D",
    "https://shop.example/{%7bx", "https://shop.example/%7b%7", "https://shop.example/a b", "https://shop.example/\n",
    "https://shop.example\n", "\nhttps://shop.example", "https://shop.example/\x00", "https://shop.example/\x85",
    *(f"https://shop.example/{character}" for character in "\u1680\u2000\u200a\u200b\u202f\u205f\u3000\ufeff"),
    "https://shop.example/\u2028", "https://shop.example/\xa0", "https://shop.example/<", 'https://shop.example/"',
    "https://sh{op.example/", "https://shop.example/`", "HTTPS://shop.example/", "https://shop.example/\\", "", " ",
    "https://shop.example/{session_id}", "https://a/{}{{x}}",
    "https://a/%7Bsession_id%7D", "https://a/%7Bx%7D", "{x}", "myshop://paid", "myshop://{order_id}", "MYSHOP://{{order_id}}",
    "JavaScript://x", "data://x", "ftp://x", "http://shop/x", "http://10.0.0.1", "http://a.internal:80/x", "http://[fd00::1]/",
    "http://11.0.0.1/", "HTTP://localhost/", "HTTP://shop.example/",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("at", "options", "required"),
    [
        (("MerchantUrls", "success"), {"app_link": True}, False),
        # As the API has it: only a sandbox in a test network accepts http to private hosts.
        (("MerchantUrls", "status_update"), {"https": "only"}, False),
        (("BackgroundImage", "url"), {"https": "only"}, True),
        (("CreateSessionRequest", "payment_session_url"), {}, True),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_urls(text: str, at: tuple[str, str], options: dict[str, Any], *, required: bool) -> None:
    found: list[tuple[str, str]] = []
    if text or required:
        check_url(found, "url", text, **options)
    assert matches(SCHEMAS[at[0]]["properties"][at[1]]["pattern"], text) == (not found)


def matches(pattern: str, text: str) -> bool:
    """As ECMA 262 reads a pattern: `$` is the end, not the place before a last line break."""
    return re.search(re.sub(r"\$$", r"\\Z", pattern), text) is not None


EMAILS = ("a@b", "a@b\n", "@b", "a@", "a b@c", "a@b@c", "ä@ö", "", "a\x85@b", "\u3000@b", "\ufeff@b", "a@\x84")
PHONES = ("070 1", "+46-70", "+", "(0)", "7x", "1\n", "٣", "++1")


@pytest.mark.parametrize(
    ("name", "method", "contact", "text"),
    [
        *(("EmailDistribution", "email", "email", text) for text in EMAILS),
        *(("SmsDistribution", "sms", "phone", text) for text in PHONES),
    ],
)
def test_contacts(name: str, method: str, contact: str, text: str) -> None:
    more = {"phone_country": "SE"} if method == "sms" else {}
    try:
        distribution_from_json({"method": method, "contact_information": {contact: text, **more}})
        good = True
    except InvalidRequestError:
        good = False
    assert matches(SCHEMAS[name]["properties"]["contact_information"]["properties"][contact]["pattern"], text) == good


def test_its_examples_are_good() -> None:
    for name, decode in (
        ("create_session", codec().structure_request),
        ("distribute_session", distribution_from_json),
    ):
        content = described()[name][2]["requestBody"]["content"]["application/json"]
        assert decode(content["example"])
