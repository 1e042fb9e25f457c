"""The sandbox from outside, for tests in other processes and other languages: JSON in, JSON out, below /_sandbox/.

    GET    /_sandbox/faults            the rules, with how often each was asked and how often it bit
    POST   /_sandbox/faults            {"fault": "hang~seconds=2"}, beside it any of nth, times, skip, probability, seed,
                                       operation, only; a list of faults and nulls is met in its order
    DELETE /_sandbox/faults            back to normal
    DELETE /_sandbox/faults/{number}   one rule less
    GET, POST, DELETE /_sandbox/quota      {"rate": 40, "burst": 80, "tell": "headers"}
    GET, POST, DELETE /_sandbox/latency    {"low": 0.1, "high": 0.5, "seed": 0}, in seconds
    GET    /_sandbox/clock             the time by which sessions expire
    POST   /_sandbox/clock             {"hours": 48}, {"seconds": 60}: moves it
    GET    /_sandbox/record            counts, and the newest requests, sessions and status callbacks
    DELETE /_sandbox/record            forgets requests and callbacks, and counts from 0; the sessions live on
    POST   /_sandbox/sessions/{session_id}/{action}    what the consumer does: open, pay, decline, back, cancel, error

All of it needs the sandbox's key, in Authorization as for the API. None of it is in the record, meets a fault, or is kept
back. What is refused has the API's error shape, with every problem named. No answer holds a secret: of URLs the query is
masked, tokens are left out.
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
from kustom_hpp.sandbox.http import raw_response as answer
from kustom_hpp.sandbox.http.raw_response import Answer
from kustom_hpp.sandbox.http.request_context import RefusedError
from kustom_hpp.sandbox.http.server import Handler, Server
from kustom_hpp.sandbox.latency import Latency
from kustom_hpp.sandbox.limits import Bucket, Quota
from kustom_hpp.sandbox.pages.site import respond_and_drain
from kustom_hpp.sandbox.recorded import Callback, RequestSeen
from kustom_hpp.sandbox.stored_session import Action, ClosedError, StoredSession, date_text

ROOT = "/_sandbox"
_NEWEST = 100
"""So many of each kind a record tells."""

Told: TypeAlias = "dict[str, Any] | None"
"""What is answered; None for 204."""

# What a field may be: the types that JSON gives, and how people call them.
_NUMBER = ((int, float), "a number")
_WHOLE = ((int,), "a whole number")
_TEXT = ((str,), "text")
_FAULTS = ((str, list), "the spelling of a fault, or a list of such and nulls")


@frozen(kw_only=True)
class Deed:
    """One row of the table: what a method on a path does."""

    method: str
    path: str
    do: Callable[..., Told]
    """Gets the parts of the path and the body's fields by their names. ValueError is a 400."""
    fields: Mapping[str, tuple[tuple[type, ...], str]] = field(factory=dict)
    """What the body may have; without any there is no body."""
    needs: tuple[str, ...] = ()
    """What it must have."""
    status: int = 200


class Admin:
    """What can be done."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def faults(self) -> Told:
        """All rules."""
        return {"faults": [_rule(rule) for rule in self._server.script.rules]}

    def add_fault(self, fault: Any, **where: Any) -> Told:
        """One rule more."""
        if isinstance(fault, list) and not all(one is None or isinstance(one, str) for one in fault):
            raise ValueError("fault: a list holds spellings of faults, and nulls for normal answers")
        return _rule(self._server.script.add(fault, **where))

    def clear_faults(self) -> Told:
        """No rules."""
        self._server.script.clear()
        return None

    def remove_fault(self, number: str) -> Told:
        """One rule less."""
        script = self._server.script
        found = next((rule for rule in script.rules if str(rule.number) == number), None)
        if found is None:
            raise RefusedError(404, "NOT_FOUND", "no fault has this number: GET /_sandbox/faults tells them")
        script.remove(found)
        return None

    def quota(self) -> Told:
        """The quota in use."""
        bucket = self._server.quota
        return {"quota": None if bucket is None else attrs.asdict(bucket.quota) | {"burst": bucket.quota.size}}

    def set_quota(self, **quota: Any) -> Told:
        """Another quota, its bucket full."""
        self._server.quota = Bucket(Quota(**quota))
        return self.quota()

    def drop_quota(self) -> Told:
        """No quota."""
        self._server.quota = None
        return None

    def latency(self) -> Told:
        """The latency in use."""
        latency = self._server.latency
        return {"latency": None if latency is None else attrs.asdict(latency)}

    def set_latency(self, **latency: Any) -> Told:
        """Another latency."""
        self._server.latency = Latency(**latency)
        return self.latency()

    def drop_latency(self) -> Told:
        """No latency."""
        self._server.latency = None
        return None

    def clock(self) -> Told:
        """The time."""
        return {"now": date_text(self._server.state.clock.now())}

    def advance(self, **by: float) -> Told:
        """Another time."""
        self._server.state.clock.advance(**by)
        return self.clock()

    def record(self) -> Told:
        """What it saw."""
        record, sessions = self._server.record, self._server.state.sessions
        return {
            "counts": attrs.asdict(record.counts),
            "requests": _newest(map(_request, reversed(record.requests))),
            "sessions": _newest(map(_session, reversed(sessions.values()))),
            "callbacks": _newest(map(_callback, reversed(record.callbacks))),
        }

    def clear_record(self) -> Told:
        """Nothing seen."""
        self._server.record.clear()
        return None

    def act(self, session_id: str, action: str) -> Told:
        """What the consumer does."""
        if action not in [*Action]:
            raise RefusedError(404, "NOT_FOUND", f"no action is called so: it is one of {', '.join(Action)}")
        session = self._server.state.find(session_id)
        if session is None:
            raise RefusedError(404, "NOT_FOUND", "the session has expired or never was")
        try:
            location = self._server.state.act(session, Action(action))
        except ClosedError as closed:
            raise RefusedError(400, "SESSION_CLOSED", str(closed)) from None
        return {"location": location, "session": _session(session)}


def table(admin: Admin) -> tuple[Deed, ...]:
    """Everything that can be done."""
    where = {
        "nth": _WHOLE, "times": _WHOLE, "skip": _WHOLE, "probability": _NUMBER, "seed": _WHOLE, "operation": _TEXT,
        "only": _TEXT,
    }  # fmt: skip
    quota = {"rate": _NUMBER, "burst": _WHOLE, "tell": _TEXT}
    latency = {"low": _NUMBER, "high": _NUMBER, "seed": _WHOLE}
    return (
        Deed(method="GET", path="/faults", do=admin.faults),
        Deed(
            method="POST",
            path="/faults",
            do=admin.add_fault,
            fields={"fault": _FAULTS, **where},
            needs=("fault",),
            status=201,
        ),
        Deed(method="DELETE", path="/faults", do=admin.clear_faults),
        Deed(method="DELETE", path="/faults/{number}", do=admin.remove_fault),
        Deed(method="GET", path="/quota", do=admin.quota),
        Deed(method="POST", path="/quota", do=admin.set_quota, fields=quota, needs=("rate",)),
        Deed(method="DELETE", path="/quota", do=admin.drop_quota),
        Deed(method="GET", path="/latency", do=admin.latency),
        Deed(method="POST", path="/latency", do=admin.set_latency, fields=latency, needs=("low",)),
        Deed(method="DELETE", path="/latency", do=admin.drop_latency),
        Deed(method="GET", path="/clock", do=admin.clock),
        Deed(method="POST", path="/clock", do=admin.advance, fields={"seconds": _NUMBER, "hours": _NUMBER}),
        Deed(method="GET", path="/record", do=admin.record),
        Deed(method="DELETE", path="/record", do=admin.clear_record),
        Deed(method="POST", path="/sessions/{session_id}/{action}", do=admin.act),
    )


def add_routes(app: web.Application, server: Server) -> None:
    """Serve all of the table; whatever else is asked for below it is told what there is."""
    deeds = table(Admin(server))
    for deed in deeds:
        app.router.add_route(deed.method, ROOT + deed.path, _handler(server, deed))
    there_is = "; ".join(f"{deed.method} {ROOT}{deed.path}" for deed in deeds)

    def nothing(**path: str) -> Told:  # noqa: ARG001 - a deed's shape
        raise RefusedError(404, "NOT_FOUND", f"there is no such thing here, but: {there_is}")

    unknown = Deed(method="*", path="/{rest:.*}", do=nothing)
    app.router.add_route(unknown.method, ROOT + unknown.path, _handler(server, unknown))


def _handler(server: Server, deed: Deed) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        correlation_id = str(uuid.uuid4())
        try:
            what = await _done(server, deed, request, correlation_id)
        except RefusedError as refused:
            what = answer.error(refused.status, refused.code, refused.messages, correlation_id)
        response = web.Response(status=what.status, headers=dict(what.headers), body=what.body or None)
        return await respond_and_drain(request, response)

    return handle


async def _done(server: Server, deed: Deed, request: web.Request, correlation_id: str) -> Answer:
    if not server.credentials.fit(request.headers.get("Authorization")):
        raise RefusedError(
            401, "UNAUTHORIZED", "the credentials are missing or wrong: the sandbox told its key at its start"
        )
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise RefusedError(413, "REQUEST_TOO_LARGE", "the body is too large") from None
    given = _fields(deed, body) if deed.fields else {}
    try:
        told = deed.do(**request.match_info, **given)
    except (ValueError, OverflowError) as error:
        raise RefusedError(400, "BAD_VALUE", str(error.args[0])) from None
    return answer.empty(correlation_id) if told is None else answer.json_answer(deed.status, told, correlation_id)


def _fields(deed: Deed, body: bytes) -> dict[str, Any]:
    """The fields of a body, as far as they are of the right types; null is as if it were not there."""
    try:
        given = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise RefusedError(400, "BAD_VALUE", "the body must be JSON") from None
    if not isinstance(given, dict):
        raise RefusedError(400, "BAD_VALUE", f"the body must be a JSON object, got a {type(given).__name__}")
    given = {name: value for name, value in given.items() if value is not None}
    known = ", ".join(deed.fields)
    problems = [f"{name}: there is no such field; there are {known}" for name in given if name not in deed.fields]
    problems += [f"{name}: is needed" for name in deed.needs if name not in given]
    for name, (kinds, called) in deed.fields.items():
        if name in given and (not isinstance(given[name], kinds) or isinstance(given[name], bool)):
            problems.append(f"{name}: must be {called}, got {describe_shape(given[name])}")
    if problems:
        raise RefusedError(400, "BAD_VALUE", *problems)
    return given


# --------------------------------------------------------------------------------------------------------- as JSON values


def _newest(newest_first: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest of them, oldest first."""
    return list(islice(newest_first, _NEWEST))[::-1]


def _rule(rule: Rule) -> dict[str, Any]:
    names = [None if fault is None else str(fault) for fault in rule.faults]
    where = attrs.asdict(rule.where)
    if rule.where.only is not None:
        where["only"] = masked_url(rule.where.only)
    fault = names[0] if len(names) == 1 and not rule.in_order else names
    return {"number": rule.number, "fault": fault, **where, "seen": rule.seen, "bitten": rule.bitten}


def _request(seen: RequestSeen) -> dict[str, Any]:
    return {
        "number": seen.number,
        "method": seen.method,
        "path": seen.path,
        "operation": seen.operation,
        "status": seen.status,
        "fault": None if seen.fault is None else str(seen.fault),
        "created": seen.created,
        "correlation_id": seen.correlation_id,
    }


def _session(session: StoredSession) -> dict[str, Any]:
    details = session.details()
    details.pop("authorization_token", None)
    timeline = [
        {"at": date_text(moment.at), "what": moment.what, "detail": moment.detail, "status": moment.status}
        for moment in session.timeline
    ]
    return {**details, "payment_session_url": masked_url(session.request.payment_session_url), "timeline": timeline}


def _callback(made: Callback) -> dict[str, Any]:
    return {
        "session_id": made.session_id,
        "event_id": made.event_id,
        "attempt": made.attempt,
        "url": masked_url(made.url),
        "status": made.status,
        "error": made.error,
    }
