"""The admin endpoints, for tests in other processes and other languages: JSON below /_sandbox/.

    GET    /_sandbox/faults            the fault rules, with how often each was checked and triggered
    POST   /_sandbox/faults            {"fault": "hang~seconds=2"}, with any of nth, times, skip, probability, seed,
                                       operation, payment_session_url; a list of faults and nulls is used in its order
    DELETE /_sandbox/faults            removes all rules
    DELETE /_sandbox/faults/{number}   removes one rule
    GET, POST, DELETE /_sandbox/rate_limit {"rate": 40, "burst": 80, "announce": "headers"}
    GET, POST, DELETE /_sandbox/latency    {"low": 0.1, "high": 0.5, "seed": 0}, in seconds
    GET    /_sandbox/clock             the time by which sessions expire
    POST   /_sandbox/clock             {"hours": 48}, {"seconds": 60}: moves it
    GET    /_sandbox/record            counts, and the newest requests, sessions and status callbacks
    DELETE /_sandbox/record            removes requests and callbacks, and counts from 0; the sessions stay
    POST   /_sandbox/sessions/{session_id}/{action}    acts as the consumer: open, pay, decline, back, cancel, error

All of them require the sandbox's key, as the API does. They are not recorded, and get no faults and no latency. An error has
the API's shape and names every problem. No response contains a secret: queries of URLs are masked, tokens left out.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeAlias

import attrs
from aiohttp import web
from attrs import field, frozen

from kustom_hpp._redaction import describe_shape, masked_url
from kustom_hpp.sandbox.faults.rules import Rule
from kustom_hpp.sandbox.http import raw_response
from kustom_hpp.sandbox.http.request_context import ApiRefusal
from kustom_hpp.sandbox.http.server import Handler, Server, respond_and_drain
from kustom_hpp.sandbox.limits import Latency, MerchantRateLimit, TokenBucket
from kustom_hpp.sandbox.record import RecordedCallback, RecordedRequest
from kustom_hpp.sandbox.stored_session import Action, SessionClosedError, StoredSession, date_text

ROOT = "/_sandbox"
_NEWEST = 100
"""Entries of each kind in the response with the record."""

JsonObject: TypeAlias = "dict[str, Any] | None"
"""The body of the response; None: a 204."""

# The JSON types of a field, and their name in messages.
_NUMBER = ((int, float), "a number")
_WHOLE = ((int,), "a whole number")
_TEXT = ((str,), "text")
_FAULTS = ((str, list), "a fault as text, or a list of faults and nulls")

# -------------------------------------------------------------------------------------------------------- what they do


def _faults(server: Server) -> JsonObject:
    return {"faults": [_rule(rule) for rule in server.rules.rules]}


def _add_fault(server: Server, fault: Any, **conditions: Any) -> JsonObject:
    if isinstance(fault, list) and not all(one is None or isinstance(one, str) for one in fault):
        raise ValueError("fault: a list must contain faults as text, and nulls for normal responses")
    return _rule(server.rules.add(fault, **conditions))


def _clear_faults(server: Server) -> None:
    server.rules.clear()


def _remove_fault(server: Server, number: str) -> None:
    try:
        server.rules.remove(server.rules.find(number))
    except LookupError:
        raise ApiRefusal(404, "NOT_FOUND", "no rule has this number. GET /_sandbox/faults lists them") from None


def _rate_limit(server: Server) -> JsonObject:
    bucket = server.rate_limit
    return {"rate_limit": None if bucket is None else attrs.asdict(bucket.limit) | {"burst": bucket.limit.size}}


def _set_rate_limit(server: Server, **settings: Any) -> JsonObject:
    server.rate_limit = TokenBucket(MerchantRateLimit(**settings))
    return _rate_limit(server)


def _remove_rate_limit(server: Server) -> None:
    server.rate_limit = None


def _latency(server: Server) -> JsonObject:
    return {"latency": None if server.latency is None else attrs.asdict(server.latency)}


def _set_latency(server: Server, **settings: Any) -> JsonObject:
    server.latency = Latency(**settings)
    return _latency(server)


def _remove_latency(server: Server) -> None:
    server.latency = None


def _clock(server: Server) -> JsonObject:
    return {"now": date_text(server.state.clock.now())}


def _advance(server: Server, **by: float) -> JsonObject:
    server.state.clock.advance(**by)
    return _clock(server)


def _record(server: Server) -> JsonObject:
    record, sessions = server.record, server.state.sessions
    return {
        "counts": attrs.asdict(record.counts),
        "requests": _newest(map(_request, reversed(record.requests))),
        "sessions": _newest(map(_session, reversed(sessions.values()))),
        "callbacks": _newest(map(_callback, reversed(record.callbacks))),
    }


def _clear_record(server: Server) -> None:
    server.record.clear()


def _act(server: Server, session_id: str, action: str) -> JsonObject:
    if action not in [*Action]:
        raise ApiRefusal(404, "NOT_FOUND", f"there is no such action. Use one of {', '.join(Action)}")
    session = server.state.find(session_id)
    if session is None:
        raise ApiRefusal(404, "NOT_FOUND", "the session has expired or does not exist")
    location = server.state.act(session, Action(action))
    return {"location": location, "session": _session(session)}


# ---------------------------------------------------------------------------------------------------------- the routes


@frozen
class AdminRoute:
    """A method, a path, and the function that serves it."""

    method: str
    path: str
    do: Callable[..., JsonObject]
    """Gets the server, and the path's placeholders and the body's fields as keywords. A ValueError becomes a 400."""
    fields: Mapping[str, tuple[tuple[type, ...], str]] = field(factory=dict)
    """The fields of the body; empty: no body."""
    required: str = ""
    """The required field, if there is one."""
    status: int = 200


_FAULT_FIELDS = MappingProxyType(
    {
        "fault": _FAULTS, "nth": _WHOLE, "times": _WHOLE, "skip": _WHOLE, "probability": _NUMBER, "seed": _WHOLE,
        "operation": _TEXT, "payment_session_url": _TEXT,
    }
)  # fmt: skip
_RATE_LIMIT_FIELDS = MappingProxyType({"rate": _NUMBER, "burst": _WHOLE, "announce": _TEXT})
_LATENCY_FIELDS = MappingProxyType({"low": _NUMBER, "high": _NUMBER, "seed": _WHOLE})
_CLOCK_FIELDS = MappingProxyType({"seconds": _NUMBER, "hours": _NUMBER})

ROUTES = (
    AdminRoute("GET", "/faults", _faults),
    AdminRoute("POST", "/faults", _add_fault, _FAULT_FIELDS, "fault", status=201),
    AdminRoute("DELETE", "/faults", _clear_faults),
    AdminRoute("DELETE", "/faults/{number}", _remove_fault),
    AdminRoute("GET", "/rate_limit", _rate_limit),
    AdminRoute("POST", "/rate_limit", _set_rate_limit, _RATE_LIMIT_FIELDS, "rate"),
    AdminRoute("DELETE", "/rate_limit", _remove_rate_limit),
    AdminRoute("GET", "/latency", _latency),
    AdminRoute("POST", "/latency", _set_latency, _LATENCY_FIELDS, "low"),
    AdminRoute("DELETE", "/latency", _remove_latency),
    AdminRoute("GET", "/clock", _clock),
    AdminRoute("POST", "/clock", _advance, _CLOCK_FIELDS),
    AdminRoute("GET", "/record", _record),
    AdminRoute("DELETE", "/record", _clear_record),
    AdminRoute("POST", "/sessions/{session_id}/{action}", _act),
)
"""Every admin endpoint."""


def _not_found(server: Server, rest: str) -> JsonObject:  # noqa: ARG001 - a route's shape
    served = ", ".join(f"{route.method} {ROOT}{route.path}" for route in ROUTES)
    raise ApiRefusal(404, "NOT_FOUND", f"the sandbox does not serve this path. It serves {served}")


def add_routes(app: web.Application, server: Server) -> None:
    """Add all routes; any other path below /_sandbox/ gets a 404 that lists them."""
    for route in (*ROUTES, AdminRoute("*", "/{rest:.*}", _not_found)):
        app.router.add_route(route.method, ROOT + route.path, _handler(server, route))


def _handler(server: Server, route: AdminRoute) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        correlation_id = str(uuid.uuid4())
        try:
            value = await _dispatch(server, route, request)
        except ApiRefusal as refused:
            raw = raw_response.error(refused.status, refused.code, refused.messages, correlation_id)
        else:
            raw = raw_response.of_value(route.status, value, correlation_id)
        response = web.Response(status=raw.status, headers=dict(raw.headers), body=raw.body or None)
        return await respond_and_drain(request, response)

    return handle


async def _dispatch(server: Server, route: AdminRoute, request: web.Request) -> JsonObject:
    server.credentials.check(request.headers.get("Authorization"))
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiRefusal(413, "REQUEST_TOO_LARGE", "the body is too large") from None
    fields = _read_fields(route, body) if route.fields else {}
    try:
        return route.do(server, **request.match_info, **fields)
    except SessionClosedError as closed:
        raise ApiRefusal(400, closed.code, str(closed)) from None
    except (ValueError, OverflowError) as error:
        raise ApiRefusal(400, "BAD_VALUE", str(error.args[0])) from None


def _read_fields(route: AdminRoute, body: bytes) -> dict[str, Any]:
    """Return the fields of a body, checked; null counts as missing."""
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise ApiRefusal(400, "BAD_VALUE", "the body must be JSON") from None
    if not isinstance(value, dict):
        raise ApiRefusal(400, "BAD_VALUE", f"the body must be a JSON object, got {describe_shape(value)}")
    fields = {name: item for name, item in value.items() if item is not None}
    known = ", ".join(route.fields)
    problems = [f"{name}: unknown field, use {known}" for name in fields if name not in route.fields]
    if route.required and route.required not in fields:
        problems.append(f"{route.required}: is required")
    for name, (types, type_name) in route.fields.items():
        if name in fields and (not isinstance(fields[name], types) or isinstance(fields[name], bool)):
            problems.append(f"{name}: must be {type_name}, got {describe_shape(fields[name])}")
    if problems:
        raise ApiRefusal(400, "BAD_VALUE", *problems)
    return fields


# ------------------------------------------------------------------------------------------------------ as JSON values

_REQUEST_FIELDS = ("number", "method", "path", "operation", "status", "fault", "created", "correlation_id")
_CALLBACK_FIELDS = ("session_id", "event_id", "attempt", "url", "status", "error")


def _newest(newest_first: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest ones, oldest first."""
    return list(islice(newest_first, _NEWEST))[::-1]


def _rule(rule: Rule) -> dict[str, Any]:
    names = [None if fault is None else str(fault) for fault in rule.faults]
    conditions = attrs.asdict(rule.matcher)
    if rule.matcher.payment_session_url is not None:
        conditions["payment_session_url"] = masked_url(rule.matcher.payment_session_url)
    fault = names[0] if len(names) == 1 and not rule.in_order else names
    return {"number": rule.number, "fault": fault, **conditions, "checked": rule.checked, "triggered": rule.triggered}


def _request(recorded: RecordedRequest) -> dict[str, Any]:
    fault = None if recorded.fault is None else str(recorded.fault)
    return {name: getattr(recorded, name) for name in _REQUEST_FIELDS} | {"fault": fault}


def _session(session: StoredSession) -> dict[str, Any]:
    details = session.read_json()
    details.pop("authorization_token", None)
    timeline = [
        {"at": date_text(entry.at), "what": entry.what, "detail": entry.detail, "status": entry.status}
        for entry in session.timeline
    ]
    return {**details, "payment_session_url": masked_url(session.payment_session_url), "timeline": timeline}


def _callback(callback: RecordedCallback) -> dict[str, Any]:
    return {name: getattr(callback, name) for name in _CALLBACK_FIELDS} | {"url": masked_url(callback.url)}
