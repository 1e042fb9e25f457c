"""Models to JSON bytes and back: exact for requests, tolerant for responses.

A request is sent as the caller wrote it: `None` is left out, `""` is not, texts go byte for byte, `extra` goes next to the
fields. No change of the API makes a response unreadable: unknown fields, and known fields of another JSON type, stay raw in
`extra`; `null` is None; an enum value newer than this release stays text.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from kustom_hpp import models
from kustom_hpp._redaction import describe_shape
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models.conversion import StructureHook, structure_converter, unstructure_converter
from kustom_hpp.models.distributions import distribution_to_json

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"
_REQUESTS = (models.CreateSessionRequest, models.MerchantUrls, models.Options, models.BackgroundImage)


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
    raise ValueError(f"{constant} is not JSON")


class Codec:
    """The converters of cattrs, with their hooks looked up once. Use `codec()`: each instance compiles its functions."""

    def __init__(self) -> None:
        self._dumps, self._loads = _json_library()
        self._out = unstructure_converter(exact=_REQUESTS)
        for kind in get_args(models.Distribution):
            self._out.register_unstructure_hook(kind, distribution_to_json)
        self._responses = structure_converter(tolerant=True)
        self._requests = structure_converter(tolerant=False)
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
            raise ValueError(f"not a JSON object but a {type(value).__name__}")  # noqa: TRY004 - it is the value that is wrong
        hook = self._structure_hooks.get(kind)
        if hook is None:
            hook = self._structure_hooks[kind] = self._responses.get_structure_hook(kind)
        response: T = hook(value, kind)
        return response

    def structure_request(self, value: Any) -> models.CreateSessionRequest:
        """Return a request from plain JSON values, read strictly, as the sandbox and the command line do.

        Unknown fields go into `extra`.

        Raises:
            InvalidRequestError: with every problem and its path.

        """
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
