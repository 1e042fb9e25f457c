"""The bodies of requests, read as the API reads them; a tolerant sandbox accepts more, and says what.

Beyond the API a sandbox accepts, each with a warning in the session's timeline:

- with `strict=False`: enum values in another case, as older SDK examples send them (`buy` for `BUY`).
- on a host that other machines reach: status callbacks over http to private hosts, such as the shop's container.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

from attrs import evolve
from yarl import URL

from kustom_hpp._protocol.codec import codec
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import CreateSessionRequest, DistributionTemplate
from kustom_hpp.models.distributions import METHODS, Distribution
from kustom_hpp.models.field_kinds import EnumKind
from kustom_hpp.models.fields import ItemsKind, ModelKind, declared
from kustom_hpp.sandbox.http.request_context import ApiRefusal, RequestContext

_CALLBACK = "merchant_urls.status_update"


def check_content_type(context: RequestContext) -> None:
    """Check that a body is announced as JSON.

    Raises:
        ApiRefusal: it is not.

    """
    if context.request.content_type != "application/json":
        raise ApiRefusal(415, "UNSUPPORTED_MEDIA_TYPE", "the body must have Content-Type: application/json")


def read_create(body: bytes, *, strict: bool, private_callbacks: bool) -> tuple[CreateSessionRequest, list[str]]:
    """Return the request in a create's body, and the warnings about it.

    Args:
        body: as it came.
        strict: False accepts enum values in another case.
        private_callbacks: True accepts status callbacks over http to private hosts.

    Raises:
        InvalidRequestError: with every problem and its path.

    """
    value, warnings = _load(body, CreateSessionRequest, strict=strict)
    callback = _private_callback(value) if private_callbacks else None
    if callback is None:
        return codec().structure_request(value), warnings
    # The model refuses http to other machines: it checks all but the scheme of this URL.
    urls = {**value["merchant_urls"], "status_update": "https" + callback.removeprefix("http")}
    request = codec().structure_request({**value, "merchant_urls": urls})
    assert request.merchant_urls is not None  # noqa: S101 - for the type checker
    warnings.append(f"{_CALLBACK}: http to a private host; the API accepts https only")
    return evolve(request, merchant_urls=evolve(request.merchant_urls, status_update=callback)), warnings


def read_distribution(body: bytes, *, strict: bool) -> tuple[Distribution, list[str]]:
    """Return the request in a distribution's body, and the warnings about it; else as `read_create`."""
    if strict:
        return codec().decode_distribution(body), []
    value, warnings = _load(body, None, strict=False)
    if isinstance(value, dict):
        _accept_case(value, "method", METHODS, "", warnings)
        _accept_case(value, "template", DistributionTemplate, "", warnings)
    return codec().decode_distribution(codec().dump_json(value)), warnings


def _load(body: bytes, model: type | None, *, strict: bool) -> tuple[Any, list[str]]:
    try:
        value = codec().load_json(body)
    except ValueError as error:
        raise InvalidRequestError(problems=(("$", f"is {error}"),)) from None
    warnings: list[str] = []
    if not strict and model is not None:
        _accept_cases(value, model, "", warnings)
    return value, warnings


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


def _private_callback(value: Any) -> str | None:
    """Return the http URL to a private host to which status callbacks shall go, or None."""
    urls = value.get("merchant_urls") if isinstance(value, dict) else None
    url = urls.get("status_update") if isinstance(urls, dict) else None
    if not isinstance(url, str) or not url.lower().startswith("http://"):
        return None
    try:
        return url if is_private_host(URL(url).host or "") else None
    except ValueError:
        return None


def is_private_host(host: str) -> bool:
    """Return True for a private address, and for a name without a dot, such as a container's."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return bool(host) and "." not in host
