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
from typing import Any, TypeAlias

import attrs
from aiohttp import web
from attrs import field, frozen

from kustom_hpp._redaction import describe_shape, masked_url
from kustom_hpp.sandbox.faults.rules import Rule
from kustom_hpp.sandbox.http import raw_response
from kustom_hpp.sandbox.http.raw_response import RawResponse
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


@frozen(kw_only=True)
class AdminRoute:
    """One row of the table: a method, a path, and the function that serves it."""

    method: str
    path: str
    do: Callable[..., JsonObject]
    """Gets the path's placeholders and the body's fields as keywords. A ValueError becomes a 400."""
    fields: Mapping[str, tuple[tuple[type, ...], str]] = field(factory=dict)
    """The fields of the body; empty: no body."""
    required: tuple[str, ...] = ()
    """The required fields."""
    status: int = 200


class Admin:
    """The functions behind the routes."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def faults(self) -> JsonObject:
        """Return all rules."""
        return {"faults": [_rule(rule) for rule in self._server.rules.rules]}

    def add_fault(self, fault: Any, **conditions: Any) -> JsonObject:
        """Add a rule."""
        if isinstance(fault, list) and not all(one is None or isinstance(one, str) for one in fault):
            raise ValueError("fault: a list must contain faults as text, and nulls for normal responses")
        return _rule(self._server.rules.add(fault, **conditions))

    def clear_faults(self) -> JsonObject:
        """Remove all rules."""
        self._server.rules.clear()
        return None

    def remove_fault(self, number: str) -> JsonObject:
        """Remove a rule."""
        rules = self._server.rules
        found = next((rule for rule in rules.rules if str(rule.number) == number), None)
        if found is None:
            raise ApiRefusal(404, "NOT_FOUND", "no rule has this number. GET /_sandbox/faults lists them")
        rules.remove(found)
        return None

    def rate_limit(self) -> JsonObject:
        """Return the rate limit in use."""
        bucket = self._server.rate_limit
        return {"rate_limit": None if bucket is None else attrs.asdict(bucket.limit) | {"burst": bucket.limit.size}}

    def set_rate_limit(self, **settings: Any) -> JsonObject:
        """Set the rate limit, with a full bucket."""
        self._server.rate_limit = TokenBucket(MerchantRateLimit(**settings))
        return self.rate_limit()

    def drop_rate_limit(self) -> JsonObject:
        """Remove the rate limit."""
        self._server.rate_limit = None
        return None

    def latency(self) -> JsonObject:
        """Return the latency in use."""
        latency = self._server.latency
        return {"latency": None if latency is None else attrs.asdict(latency)}

    def set_latency(self, **latency: Any) -> JsonObject:
        """Set the latency."""
        self._server.latency = Latency(**latency)
        return self.latency()

    def drop_latency(self) -> JsonObject:
        """Remove the latency."""
        self._server.latency = None
        return None

    def clock(self) -> JsonObject:
        """Return the time."""
        return {"now": date_text(self._server.state.clock.now())}

    def advance(self, **by: float) -> JsonObject:
        """Move the clock."""
        self._server.state.clock.advance(**by)
        return self.clock()

    def record(self) -> JsonObject:
        """Return the counts, and the newest entries of the record."""
        record, sessions = self._server.record, self._server.state.sessions
        return {
            "counts": attrs.asdict(record.counts),
            "requests": _newest(map(_request, reversed(record.requests))),
            "sessions": _newest(map(_session, reversed(sessions.values()))),
            "callbacks": _newest(map(_callback, reversed(record.callbacks))),
        }

    def clear_record(self) -> JsonObject:
        """Clear the record."""
        self._server.record.clear()
        return None

    def act(self, session_id: str, action: str) -> JsonObject:
        """Act as the consumer."""
        if action not in [*Action]:
            raise ApiRefusal(404, "NOT_FOUND", f"there is no such action. Use one of {', '.join(Action)}")
        session = self._server.state.find(session_id)
        if session is None:
            raise ApiRefusal(404, "NOT_FOUND", "the session has expired or does not exist")
        try:
            location = self._server.state.act(session, Action(action))
        except SessionClosedError as closed:
            raise ApiRefusal(400, "SESSION_CLOSED", str(closed)) from None
        return {"location": location, "session": _session(session)}


def routes(admin: Admin) -> tuple[AdminRoute, ...]:
    """Return all routes."""
    conditions = {
        "nth": _WHOLE, "times": _WHOLE, "skip": _WHOLE, "probability": _NUMBER, "seed": _WHOLE, "operation": _TEXT,
        "payment_session_url": _TEXT,
    }  # fmt: skip
    rate_limit = {"rate": _NUMBER, "burst": _WHOLE, "announce": _TEXT}
    latency = {"low": _NUMBER, "high": _NUMBER, "seed": _WHOLE}
    return (
        AdminRoute(method="GET", path="/faults", do=admin.faults),
        AdminRoute(
            method="POST",
            path="/faults",
            do=admin.add_fault,
            fields={"fault": _FAULTS, **conditions},
            required=("fault",),
            status=201,
        ),
        AdminRoute(method="DELETE", path="/faults", do=admin.clear_faults),
        AdminRoute(method="DELETE", path="/faults/{number}", do=admin.remove_fault),
        AdminRoute(method="GET", path="/rate_limit", do=admin.rate_limit),
        AdminRoute(method="POST", path="/rate_limit", do=admin.set_rate_limit, fields=rate_limit, required=("rate",)),
        AdminRoute(method="DELETE", path="/rate_limit", do=admin.drop_rate_limit),
        AdminRoute(method="GET", path="/latency", do=admin.latency),
        AdminRoute(method="POST", path="/latency", do=admin.set_latency, fields=latency, required=("low",)),
        AdminRoute(method="DELETE", path="/latency", do=admin.drop_latency),
        AdminRoute(method="GET", path="/clock", do=admin.clock),
        AdminRoute(method="POST", path="/clock", do=admin.advance, fields={"seconds": _NUMBER, "hours": _NUMBER}),
        AdminRoute(method="GET", path="/record", do=admin.record),
        AdminRoute(method="DELETE", path="/record", do=admin.clear_record),
        AdminRoute(method="POST", path="/sessions/{session_id}/{action}", do=admin.act),
    )


def add_routes(app: web.Application, server: Server) -> None:
    """Add all routes; any other path below /_sandbox/ gets a 404 that lists them."""
    table = routes(Admin(server))
    for route in table:
        app.router.add_route(route.method, ROOT + route.path, _handler(server, route))
    there_is = ", ".join(f"{route.method} {ROOT}{route.path}" for route in table)

    def nothing(**path: str) -> JsonObject:  # noqa: ARG001 - a route's shape
        raise ApiRefusal(404, "NOT_FOUND", f"the sandbox does not serve this path. It serves {there_is}")

    unknown = AdminRoute(method="*", path="/{rest:.*}", do=nothing)
    app.router.add_route(unknown.method, ROOT + unknown.path, _handler(server, unknown))


def _handler(server: Server, route: AdminRoute) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        correlation_id = str(uuid.uuid4())
        try:
            what = await _dispatch(server, route, request, correlation_id)
        except ApiRefusal as refused:
            what = raw_response.error(refused.status, refused.code, refused.messages, correlation_id)
        response = web.Response(status=what.status, headers=dict(what.headers), body=what.body or None)
        return await respond_and_drain(request, response)

    return handle


async def _dispatch(server: Server, route: AdminRoute, request: web.Request, correlation_id: str) -> RawResponse:
    server.credentials.check(request.headers.get("Authorization"))
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiRefusal(413, "REQUEST_TOO_LARGE", "the body is too large") from None
    fields = _fields(route, body) if route.fields else {}
    try:
        value = route.do(**request.match_info, **fields)
    except (ValueError, OverflowError) as error:
        raise ApiRefusal(400, "BAD_VALUE", str(error.args[0])) from None
    return (
        raw_response.no_content(correlation_id)
        if value is None
        else raw_response.json_response(route.status, value, correlation_id)
    )


def _fields(route: AdminRoute, body: bytes) -> dict[str, Any]:
    """Return the fields of a body, checked; null counts as missing."""
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise ApiRefusal(400, "BAD_VALUE", "the body must be JSON") from None
    if not isinstance(fields, dict):
        raise ApiRefusal(400, "BAD_VALUE", f"the body must be a JSON object, got {describe_shape(fields)}")
    fields = {name: value for name, value in fields.items() if value is not None}
    known = ", ".join(route.fields)
    problems = [f"{name}: unknown field, use {known}" for name in fields if name not in route.fields]
    problems += [f"{name}: is required" for name in route.required if name not in fields]
    for name, (types, type_name) in route.fields.items():
        if name in fields and (not isinstance(fields[name], types) or isinstance(fields[name], bool)):
            problems.append(f"{name}: must be {type_name}, got {describe_shape(fields[name])}")
    if problems:
        raise ApiRefusal(400, "BAD_VALUE", *problems)
    return fields


# --------------------------------------------------------------------------------------------------------- as JSON values


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
    return {
        "number": recorded.number,
        "method": recorded.method,
        "path": recorded.path,
        "operation": recorded.operation,
        "status": recorded.status,
        "fault": None if recorded.fault is None else str(recorded.fault),
        "created": recorded.created,
        "correlation_id": recorded.correlation_id,
    }


def _session(session: StoredSession) -> dict[str, Any]:
    details = session.read_json()
    details.pop("authorization_token", None)
    timeline = [
        {"at": date_text(entry.at), "what": entry.what, "detail": entry.detail, "status": entry.status}
        for entry in session.timeline
    ]
    return {**details, "payment_session_url": masked_url(session.request.payment_session_url), "timeline": timeline}


def _callback(callback: RecordedCallback) -> dict[str, Any]:
    return {
        "session_id": callback.session_id,
        "event_id": callback.event_id,
        "attempt": callback.attempt,
        "url": masked_url(callback.url),
        "status": callback.status,
        "error": callback.error,
    }
