"""A field is declared once: whatever needs to know about it derives that from the declaration."""

import json
import re
from enum import StrEnum
from typing import Any

import pytest
from attrs import field, frozen

import kustom_hpp as hpp
from kustom_hpp.models import fields
from kustom_hpp.models.field_kinds import EnumKind, TextKind, UrlKind
from kustom_hpp.models.fields import MAX_BODY

ORDER = "https://api.kustom.co/checkout/v3/orders/1"
REQUESTS = (hpp.CreateSessionRequest, hpp.MerchantUrls, hpp.Options, hpp.BackgroundImage)


class Colour(StrEnum):
    RED = "RED"


@frozen(kw_only=True, slots=True)
class Inner:
    """A model that no module of the package knows."""

    name: str = field(metadata=fields.kind(TextKind()))
    link: str | None = fields.url(https="so it is")
    colour: Colour | None = fields.enum(Colour)
    width: int | None = fields.pixels()
    extra: dict[str, Any] = fields.extra()


@frozen(kw_only=True, slots=True)
class Outer:
    """Another one."""

    one: str | None = fields.text()
    other: str | None = field(default=None, metadata=fields.kind(TextKind(), replaces="one"))
    inner: Inner | None = fields.model(Inner)
    many: tuple[Inner, ...] | None = field(
        default=None, metadata=fields.kind(fields.ItemsKind(fields.ModelKind(Inner)))
    )
    extra: dict[str, Any] = fields.extra()


def problems(value: Outer) -> list[str]:
    found: list[tuple[str, str]] = []
    fields.check_model(found, "", value)
    return [path for path, _ in found]


VALID = [
    Outer(),
    Outer(one="é two", inner=Inner(name="", link="https://a/b?c=d", colour="RED", width=5)),
    Outer(other="x", many=(Inner(name="a"), Inner(name="b", link=""))),
    Outer(many=()),
]
INVALID = [
    (Outer(one=5), ["one"]),
    (Outer(one="x", other="y"), ["other"]),
    (Outer(inner=Inner(name=None)), ["inner.name"]),
    (
        Outer(inner=Inner(name="x", link="http://a", colour="BLUE", width=-1)),
        ["inner.link", "inner.colour", "inner.width"],
    ),
    (Outer(many=(Inner(name="x"), "no", Inner(name=7))), ["many[1]", "many[2].name"]),
    (Outer(many="x"), ["many"]),
    (Outer(inner={}), ["inner"]),
]


@pytest.mark.parametrize("value", VALID)
def test_a_valid_value_passes_every_check_that_follows_from_the_declaration(value: Outer) -> None:
    assert problems(value) == []
    written = json.dumps(fields.to_json(value), ensure_ascii=False, separators=(",", ":")).encode()
    assert re.fullmatch(fields.sure_json(Outer).encode(), written)


@pytest.mark.parametrize(("value", "paths"), INVALID)
def test_what_is_wrong_is_named_by_its_path(value: Outer, paths: list[str]) -> None:
    assert problems(value) == paths


@pytest.mark.parametrize(
    "body",
    [
        '{"one":5}', '{"one":"x","other":"y"}', '{"inner":{}}', '{"inner":{"name":"x","link":"http://a"}}',
        '{"inner":{"name":"x","colour":"BLUE"}}', '{"inner":{"name":"x","width":-1}}', '{"many":["no"]}', '{"many":"x"}',
        '{"inner":{"name":"x","newer":1}}', '{"one":"x","one":"x"}',
    ],
)  # fmt: skip
def test_the_pattern_matches_no_invalid_json(body: str) -> None:
    assert not re.fullmatch(fields.sure_json(Outer).encode(), body.encode())


def test_no_group_of_the_pattern_has_a_possessive_quantifier() -> None:
    """Python 3.11.0 to 3.11.4 matches `(?:...)?+` wrongly (gh-106052): an invalid request would pass."""
    assert re.findall(r"\)[*+?]\+", fields.sure_json(hpp.CreateSessionRequest)) == []


def test_a_schema_follows_too() -> None:
    inner, colour = {"$ref": "#/components/schemas/Inner"}, {"$ref": "#/components/schemas/Colour"}
    assert fields.schema(Outer) == {
        "type": "object",
        "properties": {
            "one": {"type": ["string", "null"]},
            "other": {"type": ["string", "null"]},
            "inner": {"anyOf": [inner, {"type": "null"}]},
            "many": {"type": ["array", "null"], "items": inner},
        },
        "not": {
            "properties": {"one": {"not": {"type": "null"}}, "other": {"not": {"type": "null"}}},
            "required": ["one", "other"],
        },
    }
    schema = fields.schema(Inner)
    pattern = schema["properties"]["link"].pop("pattern")
    assert [bool(re.fullmatch(pattern, url)) for url in ("", "https://a", "http://[::1]/x", "http://a")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert schema == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "link": {"type": ["string", "null"], "description": "Must be https: so it is. http is for loopback."},
            "colour": {"anyOf": [colour, {"type": "null"}]},
            "width": {"type": ["integer", "null"], "minimum": 0, "maximum": 2**63 - 1, "description": "In pixels."},
        },
        "required": ["name"],
    }


def test_secrets_and_warnings_follow_too() -> None:
    value = Outer(inner=Inner(name="x", link="https://a.example/?s=0123456789", extra={"nam": "abcdefghij"}))
    assert list(fields.secrets_in_model(value)) == ["s=0123456789", "0123456789", "abcdefghij"]
    found: list[tuple[str, str]] = []
    fields.warn_model(found, value, is_kco=True)
    assert found == [("inner.nam", "is not a field of this release, and is sent unchanged; did you mean name?")]
    assert "0123456789" not in repr(value)


def with_value(model: type, name: str, value: str) -> hpp.CreateSessionRequest:
    """A valid request but for this value."""
    part = {"url": "https://a/"} if model is hpp.BackgroundImage else {}
    if model is hpp.CreateSessionRequest:
        return hpp.CreateSessionRequest(**({"payment_session_url": ORDER} | {name: value}))
    made = model(**(part | {name: value}))
    if model is hpp.MerchantUrls:
        return hpp.CreateSessionRequest(payment_session_url=ORDER, merchant_urls=made)
    options = made if model is hpp.Options else hpp.Options(background_images=[made])
    return hpp.CreateSessionRequest(payment_session_url=ORDER, options=options)


TEXTS = [
    (model, item.name, "https://a/" if isinstance(item.kind, UrlKind) else "")
    for model in REQUESTS
    for item in fields.declared(model)
    if isinstance(item.kind, (UrlKind, TextKind))
]


@pytest.mark.parametrize(("model", "name", "start"), TEXTS)
def test_every_text_of_a_request_counts_for_its_size(model: type, name: str, start: str) -> None:
    assert with_value(model, name, start + "x" * (MAX_BODY // 2)).problems() == ()
    assert [path for path, _ in with_value(model, name, start + "x" * MAX_BODY).problems()] == ["$"]


@pytest.mark.parametrize("model", REQUESTS)
def test_every_field_of_a_request_is_declared(model: type) -> None:
    assert [item.name for item in fields.declared(model)] + ["extra"] == [item.name for item in model.__attrs_attrs__]


def test_an_enum_s_values_are_the_reference_s() -> None:
    kinds = [item.kind for model in REQUESTS for item in fields.declared(model) if isinstance(item.kind, EnumKind)]
    assert {kind.values for kind in kinds} == {
        hpp.PaymentMethodCategory, hpp.PlaceOrderMode, hpp.PurchaseType, hpp.ShowSubtotalDetail,
    }  # fmt: skip
