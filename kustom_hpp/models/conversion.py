"""Models to plain JSON values and back, with cattrs: exact for requests, tolerant for responses.

The converters know nothing of a particular model. cattrs generates their functions at the first use, not at import.
"""

import copy
import datetime as dt
import functools
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

import attrs

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
JsonObject = dict[str, Any]
StructureHook = Callable[[Any, Any], Any]

_CLIENT_ONLY_FIELDS = frozenset({"extra", "info"})
"""Fields of models that are not fields of the JSON."""


def response_to_dict(response: Any) -> JsonObject:
    """Return a response as plain JSON values that share nothing with it."""
    plain: JsonObject = copy.deepcopy(_response_converters()[0].unstructure(response))
    return plain


def response_from_dict(value: Any, kind: type[T]) -> T:
    """Return a response from plain JSON values, read tolerantly. It shares nothing with them.

    Raises:
        ValueError: the value is not an object, or a required field is missing; the text says which.

    """
    if not isinstance(value, Mapping):
        raise ValueError(f"a stored {kind.__name__} must be a JSON object, got a {type(value).__name__}")  # noqa: TRY004 - it is the value that is wrong
    try:
        return _response_converters()[1].structure(copy.deepcopy(dict(value)), kind)
    except ValueError as error:
        msg = f"a stored {kind.__name__} is invalid: it is {error}"
    raise ValueError(msg)


@functools.cache
def _response_converters() -> tuple["Converter", "Converter"]:
    return unstructure_converter(), structure_converter(tolerant=True)


# ------------------------------------------------------------------------------------------------------ model to JSON


def unstructure_converter(exact: Collection[type] = ()) -> "Converter":
    """Return a converter of models to plain JSON values, spelled as the API spells them.

    Args:
        exact: models whose `extra` must not contain a known field: in a request that would be a second field. In a
            response, `extra` may hold a known field of another type.

    """
    from cattrs import Converter

    converter = Converter()
    converter.register_unstructure_hook(dt.datetime, _date_text)
    # An optional field that is None is left out, so its hook is that of the value: one call less for each field.
    converter.register_unstructure_hook_factory(
        _is_optional, lambda kind: converter.get_unstructure_hook(_strip_optional(kind))
    )
    converter.register_unstructure_hook_func(_is_enum, _enum_text)
    converter.register_unstructure_hook_factory(_is_tuple, functools.partial(_list_hook, converter))
    converter.register_unstructure_hook_factory(attrs.has, functools.partial(_object_hook, converter, exact))
    return converter


def _list_hook(converter: "Converter", kind: Any) -> Callable[[Any], list[Any]]:
    hook = converter.get_unstructure_hook(get_args(kind)[0])
    return lambda items: [hook(item) for item in items]


def _object_hook(converter: "Converter", exact: Collection[type], kind: type) -> Callable[[Any], JsonObject]:
    """Return cattrs' function for the fields that are not None, and add `extra`, which cattrs has no notion of."""
    from cattrs.gen import make_dict_unstructure_fn, override

    fields = attrs.fields_dict(attrs.resolve_types(kind))
    left_out: dict[str, Any] = {name: override(omit=True) for name in _CLIENT_ONLY_FIELDS if name in fields}
    convert: Callable[[Any], JsonObject] = make_dict_unstructure_fn(
        kind, converter, _cattrs_omit_if_default=True, **left_out
    )
    taken = fields.keys() - _CLIENT_ONLY_FIELDS if kind in exact else frozenset[str]()

    def unstructure(value: Any) -> JsonObject:
        plain = convert(value)
        if value.extra:
            if not taken.isdisjoint(value.extra):
                raise ValueError("extra holds a field of this release")
            plain.update(value.extra)
        return plain

    return unstructure


def _date_text(value: dt.datetime) -> str:
    """Return a date as the API writes it: UTC with milliseconds and Z; microseconds only if the value has some."""
    precision = "microseconds" if value.microsecond % 1000 else "milliseconds"
    return value.astimezone(dt.UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _enum_text(value: Any) -> Any:
    """Return the text of a member; a value may be given as text, or be invalid."""
    return str(value) if isinstance(value, StrEnum) else value


def _is_enum(kind: Any) -> bool:
    """Return True for an enum, and for a union with one: most fields accept a text that is newer than the enum."""
    kinds = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
    return any(isinstance(each, type) and issubclass(each, StrEnum) for each in kinds)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


# ------------------------------------------------------------------------------------------------------ JSON to model


class _WrongTypeError(Exception):
    """A known field has a JSON type that it should not have."""


def structure_converter(*, tolerant: bool) -> "Converter":
    """Return a converter that never coerces: cattrs' own hooks would make "None" of null and "5" of 5.

    If it is tolerant, a value of the wrong type raises _WrongTypeError, and the object that contains it keeps it raw in
    `extra`. Else the value stays in its field, for `problems()` to name.
    """
    from cattrs import Converter

    converter = Converter()

    def on_wrong_type(value: Any) -> Any:
        if tolerant:
            raise _WrongTypeError
        return value

    def on_missing(name: str, value: Any, *, has_wrong_type: bool) -> Any:
        if tolerant:
            reason = "empty" if value == "" else "null or of another type" if has_wrong_type else "missing"
            raise ValueError(f"without {name} ({reason})")
        return value

    _register_values(converter, on_wrong_type)
    converter.register_structure_hook_factory(
        attrs.has, lambda kind: _structure_hook(converter, kind, on_wrong_type, on_missing)
    )
    return converter


def _register_values(converter: "Converter", on_wrong_type: Callable[[Any], Any]) -> None:
    """Register the hooks for the values in an object."""

    def whole(value: Any, _: Any) -> Any:  # JSON has one kind of numbers: 1280.0 is 1280
        is_whole = type(value) is int or (type(value) is float and value.is_integer())
        return int(value) if is_whole else on_wrong_type(value)

    def enum(value: Any, kind: type[StrEnum]) -> Any:
        if not isinstance(value, str):
            return on_wrong_type(value)
        return kind._value2member_map_.get(value, value)

    def date(value: Any, _: Any) -> Any:
        try:
            parsed = dt.datetime.fromisoformat(value)
            # A time without a zone is not a point in time, so it stays text. A time in the first or the last year may not
            # exist in UTC: it could be neither compared nor written.
            return parsed if parsed.tzinfo is not None and 1 < parsed.year < dt.MAXYEAR else on_wrong_type(value)
        except (TypeError, ValueError, OverflowError):
            return on_wrong_type(value)

    def many(kind: Any) -> StructureHook:
        of = get_args(kind)[0]
        hook = converter.get_structure_hook(of)
        return lambda value, _: tuple(hook(v, of) for v in value) if isinstance(value, list) else on_wrong_type(value)

    converter.register_structure_hook(str, lambda value, _: value if type(value) is str else on_wrong_type(value))
    converter.register_structure_hook(int, whole)
    converter.register_structure_hook(dt.datetime, date)
    # By class and not by a predicate: cattrs asks predicates last, and the hook of str would serve every StrEnum too.
    converter.register_structure_hook(StrEnum, enum)
    converter.register_structure_hook_factory(_is_tuple, many)


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in (UnionType, Union) and NoneType in get_args(kind)


def _strip_optional(kind: Any) -> Any:
    """Return the type inside an optional one."""
    return next(arg for arg in get_args(kind) if arg is not NoneType) if _is_optional(kind) else kind


def _structure_hook(
    converter: "Converter", cls: type, on_wrong_type: Callable[[Any], Any], on_missing: Callable[..., Any]
) -> StructureHook:
    """Return a hook that keeps unknown fields, and fields of the wrong type, in `extra`: cattrs' own can only drop them."""
    read_fields = _field_reader(converter, cls)
    required = [item.name for item in attrs.fields(cls) if item.default is attrs.NOTHING]

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            return on_wrong_type(value)
        known, extra = read_fields(value)
        for name in required:
            if not known.get(name):
                known[name] = on_missing(name, known.get(name), has_wrong_type=name in extra)
        known["extra"] = extra
        return cls(**known)

    return structure


def _field_reader(converter: "Converter", cls: type) -> Callable[[JsonObject], tuple[JsonObject, JsonObject]]:
    """Return a function that splits a JSON object into the fields of a class, structured, and all others, raw."""
    # The names are the class's own and not the response's: those are interned, which makes the call of the class cheap.
    texts: dict[str, str] = {}
    hooks: dict[str, tuple[str, StructureHook, Any, bool]] = {}
    for item in attrs.fields(attrs.resolve_types(cls)):
        if item.name not in _CLIENT_ONLY_FIELDS:
            kind = _strip_optional(item.type)
            hooks[item.name] = (item.name, converter.get_structure_hook(kind), kind, kind is not item.type)
            if kind is str:
                texts[item.name] = item.name

    def read_fields(value: JsonObject) -> tuple[JsonObject, JsonObject]:
        known: JsonObject = {}
        extra: JsonObject = {}
        for key, raw in value.items():
            if type(raw) is str and key in texts:  # most fields, without a call
                known[texts[key]] = raw
            elif key not in hooks:
                extra[key] = raw
            else:
                name, hook, kind, is_optional = hooks[key]
                if raw is not None or not is_optional:
                    try:
                        known[name] = hook(raw, kind)
                    except _WrongTypeError:
                        extra[name] = raw
        return known, extra

    return read_fields
