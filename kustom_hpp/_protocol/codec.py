"""Models to JSON bytes and back, with cattrs: exact for requests, tolerant for responses.

A request is sent as the caller wrote it: `None` is left out, `""` is not, texts go byte for byte, `extra` goes next to the
fields. No change of the API makes a response unreadable: unknown fields, and known fields of another JSON type, stay raw in
`extra`; `null` is None; an enum value newer than this release stays text.
"""

import datetime as dt
import functools
import json
from collections.abc import Callable
from enum import StrEnum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

import attrs

from kustom_hpp import models
from kustom_hpp._redaction import describe_shape
from kustom_hpp.errors import InvalidRequestError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
JsonObject = dict[str, Any]
StructureHook = Callable[[Any, Any], Any]

_BOM = b"\xef\xbb\xbf"
_CLIENT_ONLY_FIELDS = frozenset({"extra", "info"})
"""Fields of models that are not fields of the JSON."""


def _json_library() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """Return the writer and the reader of JSON: orjson if it is installed (extra `speed`), else the standard library."""
    try:
        import orjson
    except ImportError:
        encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return lambda value: encoder.encode(value).encode(), lambda body: json.loads(
            body.decode(), parse_constant=_refuse
        )
    return orjson.dumps, orjson.loads


def _refuse(constant: str) -> Any:
    msg = f"{constant} is not JSON"
    raise ValueError(msg)


class Codec:
    """The converters of cattrs, with their hooks looked up once. Use `codec()`: each instance compiles its functions."""

    def __init__(self) -> None:
        self._dumps, self._loads = _json_library()
        self._out = _unstructure_converter()
        self._responses = _structure_converter(tolerant=True)
        self._requests = _structure_converter(tolerant=False)
        # The hook of every create, looked up once.
        self._create_request = self._out.get_unstructure_hook(models.CreateSessionRequest)
        self._structure_hooks: dict[type, StructureHook] = {}

    def encode_request(self, request: models.CreateSessionRequest) -> bytes:
        """Return the JSON bytes of a request without problems."""
        return self._dumps(self._create_request(request))

    def unstructure(self, value: Any) -> Any:
        """Return a model as plain JSON values, spelled as the API spells them."""
        return self._out.unstructure(value)

    def dump_json(self, plain: Any) -> bytes:
        """Return plain JSON values as JSON bytes."""
        return self._dumps(plain)

    def encode_model(self, value: Any) -> bytes:
        """Return a model as JSON bytes, spelled as the API spells it."""
        return self._dumps(self._out.unstructure(value))

    def load_json(self, body: bytes) -> Any:
        """Return the value of JSON bytes.

        Raises:
            ValueError: the bytes are not JSON in UTF-8, or nested too deep; the text says where, never what.

        """
        try:
            return self._loads(body.removeprefix(_BOM))
        except UnicodeDecodeError as error:
            msg = f"not UTF-8 at byte {error.start}"
        except json.JSONDecodeError as error:  # orjson's is one too
            msg = f"not JSON at character {error.pos}" if body else "empty"
        except (ValueError, RecursionError) as error:
            msg = f"not JSON that can be read ({type(error).__name__})"
        raise ValueError(msg)

    def decode_response(self, body: bytes, kind: type[T]) -> T:
        """Return a response, read tolerantly.

        Args:
            body: the JSON bytes.
            kind: the model.

        Raises:
            ValueError: the bytes are not a JSON object, or a required field is missing; the text says which.

        """
        return self.structure_response(self.load_json(body), kind)

    def structure_response(self, value: Any, kind: type[T]) -> T:
        """Return a response from plain JSON values; see `decode_response`."""
        if not isinstance(value, dict):
            msg = f"not a JSON object but a {type(value).__name__}"
            raise ValueError(msg)  # noqa: TRY004 - it is the value that is wrong
        hook = self._structure_hooks.get(kind)
        if hook is None:
            hook = self._structure_hooks[kind] = self._responses.get_structure_hook(kind)
        response: T = hook(value, kind)
        return response

    def decode_request(self, body: bytes) -> models.CreateSessionRequest:
        """Return a request from JSON bytes, read strictly, as the sandbox and the command line do.

        Unknown fields go into `extra`.

        Raises:
            InvalidRequestError: with every problem and its path.

        """
        return self.structure_request(self._load_request(body))

    def decode_distribution(self, body: bytes) -> models.Distribution:
        """Return a distribution from JSON bytes, read strictly; see `decode_request`."""
        return models.distribution_from_json(self._load_request(body))

    def _load_request(self, body: bytes) -> Any:
        try:
            return self.load_json(body)
        except ValueError as error:
            problems = (("$", f"is {error}"),)
        raise InvalidRequestError(problems=problems)

    def structure_request(self, value: Any) -> models.CreateSessionRequest:
        """Return a request from plain JSON values; see `decode_request`."""
        if not isinstance(value, dict):
            raise InvalidRequestError(problems=(("$", f"must be a JSON object, got {describe_shape(value)}"),))
        request = self._requests.structure({"payment_session_url": None} | value, models.CreateSessionRequest)
        if problems := request.problems():
            raise InvalidRequestError(problems=problems)
        return request


@functools.cache
def codec() -> Codec:
    """Return the codec. The first call builds it: an import must not take that long."""
    return Codec()


# ------------------------------------------------------------------------------------------------------ model to JSON


def _unstructure_converter() -> "Converter":
    from cattrs import Converter
    from cattrs.fns import identity

    converter = Converter()
    converter.register_unstructure_hook(dt.datetime, _date_text)
    # An enum value may be given as text, and both JSON libraries write a member as its text.
    converter.register_unstructure_hook_func(_is_enum, identity)
    converter.register_unstructure_hook_factory(_is_tuple, functools.partial(_list_hook, converter))
    converter.register_unstructure_hook_factory(attrs.has, functools.partial(_object_hook, converter))
    for kind in get_args(models.Distribution):
        converter.register_unstructure_hook(kind, models.distribution_to_json)
    return converter


def _list_hook(converter: "Converter", kind: Any) -> Callable[[Any], list[Any]]:
    hook = converter.get_unstructure_hook(get_args(kind)[0])
    return lambda items: [hook(item) for item in items]


def _object_hook(converter: "Converter", kind: type) -> Callable[[Any], dict[str, Any]]:
    """Return cattrs' function for the fields that are not None, and add `extra`, which cattrs has no notion of."""
    from cattrs.gen import make_dict_unstructure_fn, override

    fields = attrs.fields_dict(attrs.resolve_types(kind))
    left_out: dict[str, Any] = {name: override(omit=True) for name in _CLIENT_ONLY_FIELDS if name in fields}
    convert: Callable[[Any], JsonObject] = make_dict_unstructure_fn(
        kind, converter, _cattrs_omit_if_default=True, **left_out
    )
    # In a response, `extra` may hold a known field of another type, raw. In a request that would be a second field.
    taken = fields.keys() - _CLIENT_ONLY_FIELDS if kind in _REQUESTS else frozenset[str]()

    def unstructure(value: Any) -> dict[str, Any]:
        plain = convert(value)
        if value.extra:
            if not taken.isdisjoint(value.extra):
                msg = "extra holds a field of this release"
                raise ValueError(msg)
            plain.update(value.extra)
        return plain

    return unstructure


_REQUESTS = (models.CreateSessionRequest, models.MerchantUrls, models.Options, models.BackgroundImage)


def _date_text(value: dt.datetime) -> str:
    """Return a date as the API writes it: UTC with milliseconds and Z; microseconds only if the value has some."""
    precision = "microseconds" if value.microsecond % 1000 else "milliseconds"
    return value.astimezone(dt.UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


# ------------------------------------------------------------------------------------------------------ JSON to model


class _WrongTypeError(Exception):
    """A known field has a JSON type that it should not have."""


def _structure_converter(*, tolerant: bool) -> "Converter":
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
            msg = f"without {name} ({reason})"
            raise ValueError(msg)
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


def _strip_optional(kind: Any) -> Any:
    """Return the type inside an optional one."""
    if get_origin(kind) not in (UnionType, Union):
        return kind
    return next(arg for arg in get_args(kind) if arg is not NoneType)


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
        return cls(**known, extra=extra)

    return structure


def _field_reader(converter: "Converter", cls: type) -> Callable[[JsonObject], tuple[JsonObject, JsonObject]]:
    """Return a function that splits a JSON object into the fields of a class, structured, and all others, raw."""
    fields = {}
    for item in attrs.fields(attrs.resolve_types(cls)):
        if item.name not in _CLIENT_ONLY_FIELDS:
            kind = _strip_optional(item.type)
            # The name is the class's own and not the response's: it is interned, which makes the call of the class cheap.
            fields[item.name] = (item.name, converter.get_structure_hook(kind), kind, kind is not item.type)

    def read_fields(value: JsonObject) -> tuple[JsonObject, JsonObject]:
        known: JsonObject = {}
        extra: JsonObject = {}
        for key, raw in value.items():
            if (field := fields.get(key)) is None:
                extra[key] = raw
                continue
            name, hook, kind, is_optional = field
            if kind is str and type(raw) is str:  # most fields, without a call
                known[name] = raw
            elif raw is not None or not is_optional:
                try:
                    known[name] = hook(raw, kind)
                except _WrongTypeError:
                    extra[name] = raw
        return known, extra

    return read_fields
