"""What a field may be.

A request's model declares each field once: `success: str | None = fields.url()`. Everything else follows from the kind in the
declaration: `problems()`, `warnings()`, what error texts hide, `fast_validation`, the sandbox's checks and `openapi.json`.

A field with a default is optional. A required field, or one with a converter, is written with attrs' own `field`, which type
checkers know: `url: str = field(repr=mask_url, metadata=fields.kind(fields.UrlKind()))`.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import attrs
from attrs import field, frozen

from kustom_hpp._redaction import describe_shape, mask, mask_extra_fields, mask_model, mask_url, secrets_in_extra
from kustom_hpp.models.field_kinds import (
    ContactKind,
    EnumKind,
    FieldKind,
    JsonObject,
    PixelsKind,
    TextKind,
    UrlKind,
    reference,
)
from kustom_hpp.models.validation import Problems, check_extra, warn_extra

MAX_BODY = 1_000_000
"""Bytes of a request's JSON at most. Source: docs.klarna.com, request limits (1 MB, else 413)."""

_KIND = "kustom_hpp.kind"


@frozen(slots=True)
class ModelKind(FieldKind):
    """A model of ours: its own fields say what it may be."""

    model: type

    def check(self, problems: Problems, path: str, value: object) -> None:
        """Append what is wrong with the model's fields."""
        if type(value) is self.model:
            check_model(problems, f"{path}.", value)
        else:
            name = self.model.__name__
            article = "an" if name[0] in "AEIOU" else "a"
            problems.append((path, f"must be {article} {name}, got {describe_shape(value)}"))

    def to_json(self, value: Any) -> JsonObject:
        """Return the model's fields."""
        return to_json(value)

    def sure_json(self, *, required: bool) -> str:  # noqa: ARG002 - the same for both
        """Return the pattern of the model's fields."""
        return sure_json(self.model)

    def schema(self, *, required: bool) -> JsonObject:
        """Return a reference to the model's schema."""
        return reference(self.model, optional=not required)


@frozen(slots=True)
class ItemsKind(FieldKind):
    """A list; the model stores it as a tuple."""

    kind: FieldKind

    def check(self, problems: Problems, path: str, value: object) -> None:
        """Append what is wrong with each item."""
        if not isinstance(value, tuple):
            problems.append((path, f"must be a list or tuple, got {describe_shape(value)}"))
            return
        for index, item in enumerate(value):
            self.kind.check(problems, f"{path}[{index}]", item)

    def to_json(self, value: Any) -> list[Any]:
        """Return the items."""
        return [self.kind.to_json(item) for item in value]

    def sure_json(self, *, required: bool) -> str:  # noqa: ARG002 - the same for both
        """Return the pattern of a list of valid items."""
        return rf"\[(?:{self.kind.sure_json(required=True)},?+)*\]"

    def schema(self, *, required: bool) -> JsonObject:
        """Return the schema of the list."""
        kind = "array" if required else ["array", "null"]
        return {"type": kind, "items": self.kind.schema(required=True)}


# ------------------------------------------------------------------------------------------------------ declarations


def kind(of: FieldKind, *, replaces: str = "") -> dict[str, Any]:
    """Return the metadata that declares a field's kind.

    Args:
        of: the kind.
        replaces: the name of an earlier field that must not be given together with this one.

    """
    return {_KIND: (of, replaces)}


def url(**options: Any) -> Any:
    """Declare an optional URL; the options are those of `UrlKind`."""
    return field(default=None, repr=mask_url, metadata=kind(UrlKind(**options)))


def text() -> Any:
    """Declare an optional text."""
    return field(default=None, metadata=kind(TextKind()))


def enum(values: type[StrEnum], *, replaces: str = "", kw_only: bool | None = None) -> Any:
    """Declare an optional value of an enum."""
    return field(default=None, metadata=kind(EnumKind(values), replaces=replaces), kw_only=kw_only)


def pixels() -> Any:
    """Declare an optional number of pixels."""
    return field(default=None, metadata=kind(PixelsKind()))


def model(of: type) -> Any:
    """Declare an optional part that is a model of its own."""
    return field(default=None, repr=mask_model, metadata=kind(ModelKind(of)))


def extra() -> Any:
    """Declare `extra`: fields newer than this release. Its repr shows their names only."""
    return field(factory=dict, converter=_copied, repr=mask_extra_fields, hash=False, kw_only=True)


def _copied(value: Any) -> Any:
    """Return a plain dict of the model's own: it pickles, copies and compares."""
    if type(value) is dict:  # nearly always; a check for Mapping takes ten times as long
        return value.copy()
    return dict(value) if isinstance(value, Mapping) else value


# Responses are tolerant: their fields say only what they are.


def response_extra() -> Any:
    """Declare `extra` of a response: the codec makes the dict, so it is not copied."""
    return field(factory=dict, repr=mask_extra_fields, hash=False)


def response_url(*, template: bool = False) -> Any:
    """Declare a URL of a response; `template` if it has placeholders for the caller. The repr masks the query."""
    return field(default=None, repr=mask_url, metadata={} if template else {"format": "uri"})


def sensitive() -> Any:
    """Declare a token or personal data of a response; the repr shows only whether there is a value."""
    return field(default=None, repr=mask)


# ------------------------------------------------------------------------- what follows from a model's declarations


@frozen(slots=True)
class Declared:
    """A field of a request's model, as it was declared."""

    name: str
    kind: FieldKind
    replaces: str
    required: bool


def declared(model: type) -> tuple[Declared, ...]:
    """Return the fields of a request's model, in their order."""
    return _declared(model)


@functools.cache
def _declared(model: type) -> tuple[Declared, ...]:
    found = []
    for item in attrs.fields(model):
        if _KIND in item.metadata:
            kind, replaces = item.metadata[_KIND]
            found.append(Declared(item.name, kind, replaces, item.default is attrs.NOTHING))
    return tuple(found)


def check_model(problems: Problems, at: str, value: Any) -> None:
    """Append what is wrong with a model, each with its JSON path below `at`."""
    check_fields(problems, at, value, declared(type(value)))
    if value.extra:
        check_extra(problems, at, value.extra, attrs.fields_dict(type(value)), type(value).__name__)


def check_fields(problems: Problems, at: str, value: Any, fields: Iterable[Declared]) -> None:
    """Append what is wrong with some fields of a model."""
    for item in fields:
        found = getattr(value, item.name)
        if found is None or (found == "" and isinstance(item.kind, (UrlKind, ContactKind))):
            if item.required:
                problems.append((at + item.name, "is required"))
            continue
        if item.replaces and getattr(value, item.replaces) is not None:
            problems.append((at + item.name, f"is given together with {item.replaces}: give only one of them"))
        item.kind.check(problems, at + item.name, found)


def check_size(problems: Problems, body: JsonObject) -> None:
    """Append that a body without problems is too long."""
    if (size := len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())) > MAX_BODY:
        problems.append(("$", f"is {size:,} bytes of JSON; the API takes at most {MAX_BODY:,}: shorten its texts"))


def walk(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a model and every model in it, each with what precedes its fields in a JSON path."""
    yield at, value
    for item in declared(type(value)):
        found = getattr(value, item.name)
        for index, part in enumerate(found if isinstance(found, tuple) else [found]):
            of = item.kind.kind if isinstance(item.kind, ItemsKind) else item.kind
            if isinstance(of, ModelKind) and isinstance(part, of.model):
                yield from walk(part, f"{at}{item.name}[{index}]." if isinstance(found, tuple) else f"{at}{item.name}.")


def warn_model(warnings: Problems, value: Any, *, is_kco: bool) -> None:
    """Append what is suspicious about a request."""
    for at, part in walk(value):
        for item in declared(type(part)):
            if isinstance(found := getattr(part, item.name), str):
                item.kind.warn(warnings, at + item.name, found, is_kco=is_kco)
        if isinstance(part.extra, dict):
            warn_extra(warnings, at, part.extra, attrs.fields_dict(type(part)))


def secrets_in_model(value: Any) -> Iterator[str]:
    """Yield the texts in a request that an error must not show."""
    parts = [part for _, part in walk(value)]
    for part in parts:
        for item in declared(type(part)):
            yield from item.kind.secrets(getattr(part, item.name))
    for part in parts:
        yield from secrets_in_extra(part.extra)


def to_json(value: Any) -> JsonObject:
    """Return a request without problems as plain JSON values."""
    known = {item.name: (item.kind, getattr(value, item.name)) for item in declared(type(value))}
    extra: JsonObject = value.extra
    return {name: kind.to_json(item) for name, (kind, item) in known.items() if item is not None} | extra


def sure_json(model: type) -> str:
    """Return a pattern that matches only valid JSON of a model, with its fields in their order."""
    groups: dict[str, list[str]] = {}
    for item in declared(model):
        field_json = f'"{item.name}":{item.kind.sure_json(required=item.required)},?+'
        groups.setdefault(item.replaces or item.name, []).append(field_json)
    optional = {item.name: "" if item.required else "?" for item in declared(model)}
    return r"\{" + "".join(f"(?:{'|'.join(fields)}){optional[name]}" for name, fields in groups.items()) + r"\}"


def schema(model: type) -> JsonObject:
    """Return the schema of a request's model. Fields that it does not describe are newer."""
    fields = declared(model)
    required = [item.name for item in fields if item.required]
    pairs = [(item.replaces, item.name) for item in fields if item.replaces]
    return {
        "type": "object",
        "properties": {item.name: item.kind.schema(required=item.required) for item in fields},
        **({"required": required} if required else {}),
        **({"not": _both_present(pairs[0])} if pairs else {}),
    }


def _both_present(names: tuple[str, str]) -> JsonObject:
    return {"properties": {name: {"not": {"type": "null"}} for name in names}, "required": list(names)}
