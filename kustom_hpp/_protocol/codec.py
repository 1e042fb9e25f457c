"""Models to JSON bytes and back, with cattrs: exact for requests, tolerant for answers.

A request goes out as it was given: `None` left out, `""` kept, texts byte for byte, `extra` beside the known fields. An
answer is read so that nothing which the API may add or change makes it unreadable: unknown fields, and known fields of
another JSON type, are kept raw in `extra`; `null` is None; an enum value newer than this release stays text.
"""

import datetime as dt
import functools
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

import attrs

from kustom_hpp import models
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
    """The writer and the reader of JSON: orjson where it is installed (extra `speed`), else the standard library."""
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
    """A cattrs converter with its hooks fetched once. Make it with `codec()`: building one compiles its functions."""

    def __init__(self) -> None:
        self._dumps, self._loads = _json_library()
        self._out = _unstructure_converter()
        self._answers = _structure_converter(tolerant=True)
        self._requests = _structure_converter(tolerant=False)
        # The two hooks of the path of every call, looked up once.
        self._create_request = self._out.get_unstructure_hook(models.CreateSessionRequest)
        self._structure_hooks: dict[type, StructureHook] = {}

    def encode(self, request: models.CreateSessionRequest) -> bytes:
        """The JSON bytes of a request that has no problems."""
        return self._dumps(self._create_request(request))

    def to_plain(self, value: Any) -> Any:
        """Any of the models as plain JSON values, in the wire's spelling."""
        return self._out.unstructure(value)

    def write(self, plain: Any) -> bytes:
        """Plain JSON values as JSON bytes."""
        return self._dumps(plain)

    def dumps(self, value: Any) -> bytes:
        """Any of the models as JSON bytes, in the wire's spelling."""
        return self._dumps(self._out.unstructure(value))

    def load(self, body: bytes) -> Any:
        """The value that JSON bytes hold.

        Raises:
            ValueError: the bytes are no JSON in UTF-8, or nested too deep; the text tells where, never what.

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

    def decode(self, body: bytes, kind: type[T], known: Mapping[str, str] | None = None) -> T:
        """An answer, read tolerantly.

        Args:
            body: its bytes.
            kind: its model.
            known: what is known of texts that it may leave out, by name.

        Raises:
            ValueError: the bytes are no JSON object, or a required field is missing; the text tells which.

        """
        return self.answer_from(self.load(body), kind, known)

    def answer_from(self, value: Any, kind: type[T], known: Mapping[str, str] | None = None) -> T:
        """An answer from plain JSON values; else as `decode`."""
        if not isinstance(value, dict):
            msg = f"not a JSON object but a {type(value).__name__}"
            raise ValueError(msg)  # noqa: TRY004 - it is the value that is wrong
        if known is not None:
            value = value | {name: text for name, text in known.items() if not value.get(name)}
        hook = self._structure_hooks.get(kind)
        if hook is None:
            hook = self._structure_hooks[kind] = self._answers.get_structure_hook(kind)
        answer: T = hook(value, kind)
        return answer

    def decode_request(self, body: bytes) -> models.CreateSessionRequest:
        """A request from JSON bytes, strictly: as the sandbox and the command line read it.

        Unknown fields are kept in `extra`.

        Raises:
            InvalidRequestError: with every problem and its path.

        """
        return self.request_from(self._load_request(body))

    def decode_distribution(self, body: bytes) -> models.Distribution:
        """What sends a session's link, from JSON bytes, strictly; else as `decode_request`."""
        return models.distribution_from_json(self._load_request(body))

    def _load_request(self, body: bytes) -> Any:
        try:
            return self.load(body)
        except ValueError as error:
            problems = (("$", f"is {error}"),)
        raise InvalidRequestError(problems=problems)

    def request_from(self, value: Any) -> models.CreateSessionRequest:
        """A request from plain JSON values; else as `decode_request`."""
        if not isinstance(value, dict):
            raise InvalidRequestError(problems=(("$", f"must be a JSON object, got a {type(value).__name__}"),))
        request = self._requests.structure({"payment_session_url": None} | value, models.CreateSessionRequest)
        if problems := request.problems():
            raise InvalidRequestError(problems=problems)
        return request


@functools.cache
def codec() -> Codec:
    """The codec; built at the first use, as compiling its functions costs more than importing the package may."""
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
