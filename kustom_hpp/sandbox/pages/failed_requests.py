"""Requests that were refused or met a fault, as the console shows them. No I/O."""

import datetime as dt
from collections.abc import Iterator

from attrs import frozen

from kustom_hpp._redaction import masked_url
from kustom_hpp.sandbox.faults import Fault
from kustom_hpp.sandbox.pages.http_text import Problem, error_code_of, problems_of, request_text, response_text
from kustom_hpp.sandbox.pages.payment_views import LabeledValue
from kustom_hpp.sandbox.record import RecordedRequest
from kustom_hpp.sandbox.stored_session import StoredSession

REFUSED = "refused"
EPOCH = dt.datetime.min.replace(tzinfo=dt.UTC)
_BAD_REQUEST = 400
_MAX_ID = 200


@frozen(kw_only=True)
class Time:
    """A point in time; the page's script writes it in the browser's time zone."""

    iso: str
    text: str

    @classmethod
    def of(cls, at: dt.datetime) -> "Time":
        """Return a time in UTC, to the second."""
        utc = at.astimezone(dt.UTC)
        return cls(iso=utc.isoformat(), text=f"{utc:%Y-%m-%d %H:%M:%S} UTC")


@frozen(kw_only=True)
class RequestView:
    """The row of a request that was refused or met a fault."""

    key: str
    group: str
    """`refused`, or `fault` if a fault met it."""
    badge: str
    """The status of its response."""
    title: str
    subtitle: str
    summary: str
    """Why, in one line."""
    time: Time
    correlation_id: str
    problems: tuple[Problem, ...]
    error_code: str
    fault: str
    """The fault that met it; empty without one."""
    about: str
    """What that fault does."""
    rule: str
    """The rule that chose the fault."""
    effect: str
    """What became of what it asked for."""
    facts: tuple[LabeledValue, ...]
    session_id: str
    request: str
    response: str


def is_failed(seen: RecordedRequest) -> bool:
    """Return True for a request that was refused or met a fault."""
    return seen.fault is not None or (seen.status or 0) >= _BAD_REQUEST


def request_view(seen: RecordedRequest, session: StoredSession | None) -> RequestView:
    """Return the row of a request that was refused or met a fault.

    Args:
        seen: the request.
        session: the session that it created, if the sandbox still has it.

    """
    fault = seen.fault if isinstance(seen.fault, Fault) else None
    problems = problems_of(seen)
    tokens = () if session is None else (session.token, session.authorization_token)
    first = f"{problems[0].path}: {problems[0].sentence}".removeprefix(": ") if problems else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return RequestView(
        key=f"r-{seen.number}",
        group=REFUSED if fault is None else "fault",
        badge=str(seen.status) if seen.status is not None else "no response" if seen.done else "in flight",
        title=(seen.operation or "unknown endpoint").replace("_", " ").capitalize(),
        subtitle=f"{seen.method} {seen.path}",
        summary=f"met {fault}" if fault is not None else first + more,
        time=Time.of(seen.received_at or EPOCH),
        correlation_id=seen.correlation_id,
        problems=problems,
        error_code=error_code_of(seen),
        fault="" if fault is None else str(fault),
        about="" if fault is None else fault.type.about.replace("`", ""),
        rule=seen.rule,
        effect=_effect(seen),
        facts=tuple(_request_facts(seen)),
        session_id="" if session is None else session.session_id,
        request=request_text(seen),
        response=response_text(seen, [token for token in tokens if token]),
    )


def _effect(seen: RecordedRequest) -> str:
    if seen.created is not None:
        return "The session exists."
    return "The request was processed." if seen.processed else "The request was not processed."


def _request_facts(seen: RecordedRequest) -> Iterator[LabeledValue]:
    yield LabeledValue("Correlation id", seen.correlation_id)
    if seen.created is not None:
        yield LabeledValue("Session", seen.created)
    if seen.is_create and seen.payment_session_url is not None:
        yield LabeledValue("Payment", id_of(seen.payment_session_url))
    yield LabeledValue("Request", f"number {seen.number:,}, on connection {seen.connection:,}")


def id_of(payment_session_url: str) -> str:
    """Return the id of a payment session, by which people know it."""
    path = masked_url(payment_session_url).partition("?")[0].partition("#")[0]
    return path.rstrip("/").rpartition("/")[2][:_MAX_ID]
