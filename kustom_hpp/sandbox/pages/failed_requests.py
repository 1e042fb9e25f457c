"""Requests that were refused or got a fault, as the console shows them. No I/O."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from kustom_hpp.sandbox.faults import Fault
from kustom_hpp.sandbox.pages.http_text import error_code_of, problems_of, request_text, response_text
from kustom_hpp.sandbox.record import RecordedRequest
from kustom_hpp.sandbox.sample_orders import payment_id
from kustom_hpp.sandbox.stored_session import StoredSession

REFUSED = "refused"
EPOCH = dt.datetime.min.replace(tzinfo=dt.UTC)
_BAD_REQUEST = 400


def is_failed(seen: RecordedRequest) -> bool:
    """Return True for a request that was refused or got a fault."""
    return seen.fault is not None or (seen.status or 0) >= _BAD_REQUEST


def request_view(seen: RecordedRequest, session: StoredSession | None) -> dict[str, Any]:
    """Return the row of a request; `session` is the one that it created, if the sandbox still has it."""
    fault = seen.fault if isinstance(seen.fault, Fault) else None
    problems = problems_of(seen)
    tokens = () if session is None else (session.token, session.authorization_token)
    first = f"{problems[0].path}: {problems[0].sentence}".removeprefix(": ") if problems else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return {
        "key": f"r-{seen.number}",
        "group": REFUSED if fault is None else "fault",
        "badge": str(seen.status) if seen.status is not None else "no response" if seen.done else "in flight",
        "title": (seen.operation or "unknown endpoint").replace("_", " ").capitalize(),
        "subtitle": f"{seen.method} {seen.path}",
        "summary": f"met {fault}" if fault is not None else first + more,
        "time": seen.received_at or EPOCH,
        "correlation_id": seen.correlation_id,
        "problems": problems,
        "error_code": error_code_of(seen),
        "fault": "" if fault is None else str(fault),
        "about": "" if fault is None else fault.type.about.replace("`", ""),
        "rule": seen.rule,
        "effect": _effect(seen),
        "facts": dict(_request_facts(seen)),
        "session_id": "" if session is None else session.session_id,
        "request": request_text(seen),
        "response": response_text(seen, [token for token in tokens if token]),
    }


def _effect(seen: RecordedRequest) -> str:
    if seen.created is not None:
        return "The session exists."
    return "The request was processed." if seen.processed else "The request was not processed."


def _request_facts(seen: RecordedRequest) -> Iterator[tuple[str, str]]:
    yield "Correlation id", seen.correlation_id
    if seen.created is not None:
        yield "Session", seen.created
    if seen.is_create and seen.payment_session_url is not None:
        yield "Payment", payment_id(seen.payment_session_url)
    yield "Request", f"number {seen.number:,}, on connection {seen.connection:,}"
