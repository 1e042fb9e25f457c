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
Hook = Callable[[Any, Any], Any]

_BOM = b"\xef\xbb\xbf"
_NOT_ON_THE_WIRE = ("extra", "info")


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
        self._out = _unstructuring()
        self._answers = _structuring(tolerant=True)
        self._requests = _structuring(tolerant=False)
        # The two hooks of the path of every call, looked up once.
        self._create_request = self._out.get_unstructure_hook(models.CreateSessionRequest)
        self._structure_hooks: dict[type, Hook] = {}

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


# ------------------------------------------------------------------------------------------------------ to the wire


def _unstructuring() -> "Converter":
    from cattrs import Converter

    converter = Converter()
    converter.register_unstructure_hook(dt.datetime, _date_text)
    converter.register_unstructure_hook_factory(attrs.has, functools.partial(_unstructure_hook, converter))
    for kind in get_args(models.Distribution):
        converter.register_unstructure_hook(kind, models.distribution_to_json)
    return converter


def _unstructure_hook(converter: "Converter", cls: type) -> Callable[[Any], dict[str, Any]]:
    """The fields that are not None, in the order of the class, and `extra` beside them.

    Implementation note: cattrs' own generator compares each field with its default, which for a nested object is a call of
    its `__eq__`; on the path of every request that shows.
    """
    fields = [field for field in attrs.fields(attrs.resolve_types(cls)) if field.name not in _NOT_ON_THE_WIRE]
    hooks = [(field.name, _hook_or_none(converter, field.type)) for field in fields]
    has_extra = "extra" in attrs.fields_dict(cls)
    # In an answer `extra` may hold a known field, raw, of another type; in a request that would be a second one.
    taken = frozenset(name for name, _ in hooks) if cls in _REQUESTS else frozenset[str]()

    def unstructure(value: Any) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for name, hook in hooks:
            item = getattr(value, name)
            if item is not None:
                plain[name] = item if hook is None else hook(item)
        if has_extra and value.extra:
            if not taken.isdisjoint(value.extra):
                msg = "extra holds a field of this release"
                raise ValueError(msg)
            plain.update(value.extra)
        return plain

    return unstructure


_REQUESTS = (models.CreateSessionRequest, models.MerchantUrls, models.Options, models.BackgroundImage)


def _hook_or_none(converter: "Converter", kind: Any) -> Callable[[Any], Any] | None:
    kind = _inner(kind)
    if _is_plain(kind):
        return None
    return list if _is_tuple(kind) and _is_plain(get_args(kind)[0]) else converter.get_unstructure_hook(kind)


def _date_text(value: dt.datetime) -> str:
    """As the API writes dates: UTC with milliseconds and Z; finer only where the value is finer."""
    precision = "microseconds" if value.microsecond % 1000 else "milliseconds"
    return value.astimezone(dt.UTC).isoformat(timespec=precision).replace("+00:00", "Z")


# ---------------------------------------------------------------------------------------------------- from the wire


_PLAIN = frozenset({str, int, bool, NoneType})


def _is_plain(cls: Any) -> bool:
    kinds = get_args(cls) if _is_optional(cls) else (cls,)
    return all(kind in _PLAIN or (isinstance(kind, type) and issubclass(kind, StrEnum)) for kind in kinds)


def _is_tuple(cls: Any) -> bool:
    return get_origin(cls) is tuple


def _is_optional(cls: Any) -> bool:
    return get_origin(cls) in (UnionType, Union)


class _OtherTypeError(Exception):
    """A known field came with a JSON type that it should not have."""


def _structuring(*, tolerant: bool) -> "Converter":
    """A converter whose hooks never coerce: cattrs' own would make "None" of null and "5" of 5.

    Tolerant: what does not fit raises _OtherTypeError, and the object that holds it keeps it raw in `extra`. Else it
    stays where it is, for `problems()` to name.
    """
    from cattrs import Converter

    converter = Converter()

    def misfit(value: Any) -> Any:
        if tolerant:
            raise _OtherTypeError
        return value

    def absent(name: str, value: Any, misfitting: bool) -> Any:  # noqa: FBT001 - called in one place
        if tolerant:
            why = "empty" if value == "" else "null or of another type" if misfitting else "missing"
            msg = f"without {name} ({why})"
            raise ValueError(msg)
        return value

    _register_values(converter, misfit)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _structure_hook(converter, cls, misfit, absent))
    return converter


def _register_values(converter: "Converter", misfit: Callable[[Any], Any]) -> None:
    """The hooks for what objects are made of."""

    def whole(value: Any, _: Any) -> Any:  # JSON has one kind of numbers: 1280.0 is 1280
        is_whole = type(value) is int or (type(value) is float and value.is_integer())
        return int(value) if is_whole else misfit(value)

    def enum(value: Any, kind: type[StrEnum]) -> Any:
        if not isinstance(value, str):
            return misfit(value)
        return kind._value2member_map_.get(value, value)

    def date(value: Any, _: Any) -> Any:
        try:
            parsed = dt.datetime.fromisoformat(value)
            # A time without its zone is no point in time: kept as text rather than guessed. One that UTC may not be able
            # to say (in the first and the last year) could be neither compared nor written.
            return parsed if parsed.tzinfo is not None and 1 < parsed.year < dt.MAXYEAR else misfit(value)
        except (TypeError, ValueError, OverflowError):
            return misfit(value)

    def many(cls: Any) -> Hook:
        item_kind = get_args(cls)[0]
        hook = converter.get_structure_hook(item_kind)
        return lambda value, _: tuple(hook(v, item_kind) for v in value) if isinstance(value, list) else misfit(value)

    converter.register_structure_hook(str, lambda value, _: value if type(value) is str else misfit(value))
    converter.register_structure_hook(int, whole)
    converter.register_structure_hook(dt.datetime, date)
    # By class and not by a predicate: cattrs asks predicates last, and the hook of str would be that of every StrEnum too.
    converter.register_structure_hook(StrEnum, enum)
    converter.register_structure_hook_factory(_is_tuple, many)


def _inner(kind: Any) -> Any:
    """The type inside of an optional one."""
    return next(arg for arg in get_args(kind) if arg is not NoneType) if _is_optional(kind) else kind


def _structure_hook(  # noqa: C901 - closures over what is known of the class: asking again for each answer would cost more
    converter: "Converter", cls: type, misfit: Callable[[Any], Any], absent: Callable[[str, Any, bool], Any]
) -> Hook:
    fields = [field for field in attrs.fields(attrs.resolve_types(cls)) if field.name not in _NOT_ON_THE_WIRE]
    hooks = {field.name: (converter.get_structure_hook(kind := _inner(field.type)), kind) for field in fields}
    optional = frozenset(field.name for field in fields if _is_optional(field.type))
    required = [field.name for field in fields if field.default is attrs.NOTHING]
    # Most fields are texts, and their hooks would only look at the type: looked at here, without a call. The names are
    # ours and not the answer's: those are interned, which makes the call of the class cheap.
    texts = tuple(field.name for field in fields if field.type in (str, str | None))
    others = tuple(name for name in hooks if name not in texts)

    def read(name: str, raw: Any, known: dict[str, Any], extra: dict[str, Any]) -> None:
        if name not in hooks:
            extra[name] = raw
        elif raw is not None or name not in optional:
            hook, kind = hooks[name]
            try:
                known[name] = hook(raw, kind)
            except _OtherTypeError:
                extra[name] = raw

    def structure(value: Any, _: Any) -> Any:  # noqa: C901 - the same
        if not isinstance(value, dict):
            return misfit(value)
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        found = 0
        for name in texts:
            if type(raw := value.get(name)) is str:
                known[name] = raw
                found += 1
        for name in others:
            if name in value:
                read(name, value[name], known, extra)
                found += 1
        if found < len(value):  # a null, another type, or a newer field
            for name, raw in value.items():
                if name not in known and name not in others:
                    read(name, raw, known, extra)
        for name in required:
            if not known.get(name):
                known[name] = absent(name, known.get(name), name in extra)
        return cls(**known, extra=extra)

    return structure
