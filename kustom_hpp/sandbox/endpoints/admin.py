"""The admin endpoints, for tests in other processes: JSON at /_sandbox/.

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
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeAlias

import attrs
from aiohttp import web
from attrs import field, frozen

from kustom_hpp._redaction import describe_shape, masked_url
from kustom_hpp.sandbox.endpoints.request_body import NUMBER, TEXT, WHOLE_NUMBER, JsonType, type_problems
from kustom_hpp.sandbox.faults.rules import Rule
from kustom_hpp.sandbox.http import raw_response
from kustom_hpp.sandbox.http.request_context import ApiRefusal
from kustom_hpp.sandbox.http.server import Handler, Server, respond_and_drain
from kustom_hpp.sandbox.limits import Latency, MerchantRateLimit, TokenBucket
from kustom_hpp.sandbox.record import RecordedCallback, RecordedRequest
from kustom_hpp.sandbox.stored_session import Action, SessionClosedError, StoredSession, date_text, new_id

ROOT = "/_sandbox"
_NEWEST = 100
"""Entries of each kind in the response with the record."""

JsonObject: TypeAlias = "dict[str, Any] | None"
"""The body of the response; None: a 204."""


def _faults(server: Server) -> JsonObject:
    return {"faults": [_rule(rule) for rule in server.rules.rules]}


def _add_fault(server: Server, fault: Any, **conditions: Any) -> JsonObject:
    if isinstance(fault, list) and not all(one is None or isinstance(one, str) for one in fault):
        raise ValueError("fault: a list must contain faults as text, and nulls for normal responses")
    return _rule(server.rules.add(fault, **conditions))


def _remove_fault(server: Server, number: str) -> None:
    try:
        server.rules.remove(server.rules.find(number))
    except LookupError:
        raise ApiRefusal(404, "NOT_FOUND", "no rule has this number. GET /_sandbox/faults lists them") from None


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


def _act(server: Server, session_id: str, action: str) -> JsonObject:
    if action not in [*Action]:
        raise ApiRefusal(404, "NOT_FOUND", f"there is no such action. Use one of {', '.join(Action)}")
    session = server.state.find(session_id)
    if session is None:
        raise ApiRefusal(404, "NOT_FOUND", "the session has expired or does not exist")
    location = server.state.act(session, Action(action))
    return {"location": location, "session": _session(session)}


@frozen
class AdminRoute:
    """A method, a path, and the function that serves it."""

    method: str
    path: str
    do: Callable[..., JsonObject]
    """Gets the server, and the path's placeholders and the body's fields as keywords. A ValueError becomes a 400."""
    fields: Mapping[str, JsonType] = field(factory=dict)
    """The fields of the body; empty: no body."""
    required: str = ""
    """The required field, if there is one."""
    status: int = 200


_FAULT: JsonType = ("a fault as text, or a list of faults and nulls", (str, list))
_FAULT_FIELDS = MappingProxyType(
    {
        "fault": _FAULT, "nth": WHOLE_NUMBER, "times": WHOLE_NUMBER, "skip": WHOLE_NUMBER, "probability": NUMBER,
        "seed": WHOLE_NUMBER, "operation": TEXT, "payment_session_url": TEXT,
    }
)  # fmt: skip


def _setting_routes(
    name: str, build: Callable[..., Any], show: Callable[[Any], Any], required: str, fields: Mapping[str, JsonType]
) -> tuple[AdminRoute, ...]:
    """Return the routes that read, set and remove a setting of the server."""

    def read(server: Server) -> JsonObject:
        value = getattr(server, name)
        return {name: None if value is None else show(value)}

    def set_(server: Server, **settings: Any) -> JsonObject:
        setattr(server, name, build(**settings))
        return read(server)

    return (
        AdminRoute("GET", f"/{name}", read),
        AdminRoute("POST", f"/{name}", set_, {required: NUMBER, **fields}, required),
        AdminRoute("DELETE", f"/{name}", lambda server: setattr(server, name, None)),
    )


ROUTES = (
    AdminRoute("GET", "/faults", _faults),
    AdminRoute("POST", "/faults", _add_fault, _FAULT_FIELDS, "fault", status=201),
    AdminRoute("DELETE", "/faults", lambda server: server.rules.clear()),
    AdminRoute("DELETE", "/faults/{number}", _remove_fault),
    *_setting_routes(
        "rate_limit",
        lambda **settings: TokenBucket(MerchantRateLimit(**settings)),
        lambda bucket: attrs.asdict(bucket.limit) | {"burst": bucket.limit.size},
        "rate",
        {"burst": WHOLE_NUMBER, "announce": TEXT},
    ),
    *_setting_routes("latency", Latency, attrs.asdict, "low", {"high": NUMBER, "seed": WHOLE_NUMBER}),
    AdminRoute("GET", "/clock", _clock),
    AdminRoute("POST", "/clock", _advance, MappingProxyType({"seconds": NUMBER, "hours": NUMBER})),
    AdminRoute("GET", "/record", _record),
    AdminRoute("DELETE", "/record", lambda server: server.record.clear()),
    AdminRoute("POST", "/sessions/{session_id}/{action}", _act),
)
"""Every admin endpoint."""


def _not_found(server: Server, rest: str) -> JsonObject:  # noqa: ARG001 - a route's shape
    served = ", ".join(f"{route.method} {ROOT}{route.path}" for route in ROUTES)
    raise ApiRefusal(404, "NOT_FOUND", f"the sandbox does not serve this path. It serves {served}")


def add_routes(app: web.Application, server: Server) -> None:
    """Add all routes, and a 404 that lists them for other paths below ROOT."""
    for route in (*ROUTES, AdminRoute("*", "/{rest:.*}", _not_found)):
        app.router.add_route(route.method, ROOT + route.path, _handler(server, route))


def _handler(server: Server, route: AdminRoute) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        correlation_id = new_id()
        try:
            raw = raw_response.of_value(route.status, await _dispatch(server, route, request), correlation_id)
        except ApiRefusal as refused:
            raw = refused.response(correlation_id)
        return await respond_and_drain(request, raw.for_aiohttp())

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
    problems += type_problems(fields, route.fields)
    if problems:
        raise ApiRefusal(400, "BAD_VALUE", *problems)
    return fields


_REQUEST_FIELDS = ("number", "method", "path", "operation", "status", "fault", "created", "correlation_id")
_RULE_FIELDS = ("payment_session_url", "operation", "skip", "times", "probability", "seed")
_CALLBACK_FIELDS = ("session_id", "event_id", "attempt", "url", "status", "error")


def _newest(newest_first: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest ones, oldest first."""
    return list(islice(newest_first, _NEWEST))[::-1]


def _rule(rule: Rule) -> dict[str, Any]:
    names = [None if fault is None else str(fault) for fault in rule.faults]
    fault = names[0] if len(names) == 1 and not rule.in_order else names
    url = None if rule.payment_session_url is None else masked_url(rule.payment_session_url)
    conditions = {name: getattr(rule, name) for name in _RULE_FIELDS} | {"payment_session_url": url}
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
