"""The bodies of requests, read as the API reads them.

Beyond the API a sandbox accepts, each with a warning in the session's timeline:

- with `strict=False`: enum values in another case, as older SDK examples send them (`buy` for `BUY`).
- on a host that other machines reach: status callbacks over http to private hosts, such as the shop's container.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from kustom_hpp._protocol.codec import codec
from kustom_hpp._redaction import describe_shape
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import CreateSessionRequest, DistributionTemplate
from kustom_hpp.models.distributions import METHODS, Distribution, distribution_from_json
from kustom_hpp.models.field_kinds import EnumKind
from kustom_hpp.models.fields import ItemsKind, ModelKind, declared
from kustom_hpp.models.requests import private_http_problems
from kustom_hpp.sandbox.http.request_context import ApiRefusal, RequestContext

JsonType: TypeAlias = tuple[str, tuple[type, ...]]
"""A type of JSON values: its name in messages, and Python's types."""
NUMBER: JsonType = ("a number", (int, float))
WHOLE_NUMBER: JsonType = ("a whole number", (int,))
TEXT: JsonType = ("text", (str,))


def type_problems(value: Mapping[str, Any], fields: Mapping[str, JsonType], at: str = "") -> list[str]:
    """Return the problems of fields that are given with another type."""
    return [
        f"{at}{name}: must be {type_name}, got {describe_shape(value[name])}"
        for name, (type_name, types) in fields.items()
        if name in value and (not isinstance(value[name], types) or isinstance(value[name], bool))
    ]


def check_content_type(context: RequestContext) -> None:
    """Raise a refusal unless a body is announced as JSON."""
    if context.request.content_type != "application/json":
        raise ApiRefusal(415, "UNSUPPORTED_MEDIA_TYPE", "the body must have Content-Type: application/json")


def read_create(body: bytes, *, strict: bool, private_callbacks: bool) -> tuple[CreateSessionRequest, list[str]]:
    """Return the request in a create's body, and the warnings about it.

    Args:
        body: as it arrived.
        strict: False accepts enum values in another case.
        private_callbacks: True accepts status callbacks over http to private hosts.

    Raises:
        InvalidRequestError: with every problem and its path.

    """
    value, warnings = load_json(body), list[str]()
    if not strict:
        _accept_cases(value, CreateSessionRequest, "", warnings)
    request = codec().structure_request(value)
    if problems := private_http_problems(request):
        if not private_callbacks:
            raise InvalidRequestError(problems=problems)
        warnings += [f"{path}: http to a private host; the API accepts https only" for path, _ in problems]
    return request, warnings


def read_distribution(body: bytes, *, strict: bool) -> tuple[Distribution, list[str]]:
    """Return the request in a distribution's body, and the warnings about it."""
    value, warnings = load_json(body), list[str]()
    if not strict and isinstance(value, dict):
        _accept_case(value, "method", METHODS, "", warnings)
        _accept_case(value, "template", DistributionTemplate, "", warnings)
    return distribution_from_json(value), warnings


def load_json(body: bytes) -> Any:
    """Return the value in a body; an InvalidRequestError if it is not JSON."""
    try:
        return codec().load_json(body)
    except ValueError as error:
        raise InvalidRequestError(problems=(("$", f"is {error}"),)) from None


def _accept_cases(value: Any, model: type, at: str, warnings: list[str]) -> None:
    """Correct the case of every enum value in a model's JSON."""
    if not isinstance(value, dict):
        return
    for item in declared(model):
        if isinstance(item.kind, ModelKind):
            _accept_cases(value.get(item.name), item.kind.model, f"{at}{item.name}.", warnings)
        elif isinstance(item.kind, EnumKind):
            _accept_case(value, item.name, item.kind.values, at, warnings)
        elif isinstance(item.kind, ItemsKind) and isinstance(item.kind.kind, EnumKind):
            items = value.get(item.name)
            for index in range(len(items)) if isinstance(items, list) else ():
                _accept_case(items, index, item.kind.kind.values, f"{at}{item.name}", warnings)


def _accept_case(parent: Any, key: Any, values: Iterable[str], at: str, warnings: list[str]) -> None:
    found = parent[key] if isinstance(parent, list) else parent.get(key)
    if not isinstance(found, str):
        return
    wanted = next((str(value) for value in values if value.lower() == found.lower()), found)
    if wanted != found:
        parent[key] = wanted
        path = f"{at}[{key}]" if isinstance(parent, list) else f"{at}{key}"
        warnings.append(f"{path}: {found} was accepted as {wanted}; the API documents {wanted} only")
