"""The values of the console's templates. No I/O.

No value here holds a secret: queries of URLs, credentials, tokens and undocumented fields are masked.
"""

import datetime as dt
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlencode

import attrs
from attrs import frozen

from kustom_hpp._redaction import masked_url
from kustom_hpp.models import SessionStatus
from kustom_hpp.sandbox.faults import Fault
from kustom_hpp.sandbox.faults.rules import Rule
from kustom_hpp.sandbox.limits import Latency, TokenBucket
from kustom_hpp.sandbox.pages.http_text import error_code_of, json_text, problems_of, request_text, response_text
from kustom_hpp.sandbox.record import RecordedRequest
from kustom_hpp.sandbox.sample_orders import payment_id
from kustom_hpp.sandbox.stored_session import Action, StoredSession, TimelineEntry

Row: TypeAlias = StoredSession | RecordedRequest
"""What has a row on the console: a session, or a request that was refused or met a fault."""
Version: TypeAlias = tuple[object, ...]
"""A value that differs if a row has changed."""
REFUSED = "refused"
MAX_ROWS = 100
"""Rows on the console: the newest that match its filter."""
MAX_RULES = 20
_MAX_DETAIL = 500
_EPOCH = dt.datetime.min.replace(tzinfo=dt.UTC)
_BAD_REQUEST = 400
_MAX_QUERY = 200
_MAX_FAULTS_TEXT = 200

_GROUPS: Mapping[SessionStatus, str] = {
    SessionStatus.WAITING: "open",
    SessionStatus.IN_PROGRESS: "open",
    SessionStatus.BACK: "open",
    SessionStatus.MANUAL_ID_CHECK: "open",
    SessionStatus.COMPLETED: "paid",
    SessionStatus.FAILED: "failed",
    SessionStatus.ERROR: "failed",
    SessionStatus.CANCELLED: "closed",
    SessionStatus.DISABLED: "closed",
}
_LABELS = {"": "All", "open": "Open", "paid": "Paid", "failed": "Failed", "closed": "Closed", REFUSED: "Refused"}


@frozen(kw_only=True)
class Filter:
    """Which rows the console shows."""

    query: str = ""
    """Part of an id, a URL, a title, a status or a problem, in upper or lower case."""
    group: str = ""
    """A key of the filters; empty for all."""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filter":
        """Return the filter in the console's URL; unknown values are ignored."""
        group = query.get("status", "")
        return cls(query=query.get("q", "").strip()[:_MAX_QUERY], group=group if group in _LABELS else "")

    def address(self, **other: str) -> str:
        """Return the console's URL with this filter, or with a changed one."""
        values = {"q": self.query, "status": self.group} | other
        query = urlencode({name: value for name, value in values.items() if value})
        return f"/?{query}" if query else "/"

    def matches(self, row: Row, now: dt.datetime) -> bool:
        """Return True if the console shows this session or request."""
        if self.group and group_of(row, now) != self.group:
            return False
        return not self.query or self.query.casefold() in "\n".join(_searched(row, now)).casefold()


def group_of(row: Row, now: dt.datetime) -> str:
    """Return a row's filter. An expired session is paid or closed."""
    if isinstance(row, RecordedRequest):
        return REFUSED
    group = _GROUPS[row.status]
    return "closed" if group != "paid" and row.is_expired(now) else group


def newest_matching(rows: Iterable[Row], wanted: Filter, now: dt.datetime) -> list[Row]:
    """Return the rows that match a filter, the newest events first."""
    return heapq.nlargest(MAX_ROWS, (row for row in rows if wanted.matches(row, now)), key=_last_event)


def _last_event(row: Row) -> tuple[dt.datetime, int]:
    if isinstance(row, RecordedRequest):
        return row.received_at or _EPOCH, row.number
    return row.timeline[-1].at, 0


def version_of(row: Row, now: dt.datetime) -> Version:
    """Return the version of a row."""
    if isinstance(row, RecordedRequest):
        return row.correlation_id, row.status, row.done
    return row.timeline[-1], len(row.timeline), row.is_expired(now)


def key_of(row: Row) -> str:
    """Return the id of a row's element."""
    return f"r-{row.number}" if isinstance(row, RecordedRequest) else f"s-{row.session_id}"


def status_counts(rows: Iterable[Row], wanted: Filter, now: dt.datetime) -> list[dict[str, Any]]:
    """Return the filters, and how many rows each has."""
    counts = Counter(group_of(row, now) for row in rows)
    counts[""] = counts.total()
    return [
        {
            "group": group or "all",
            "label": label,
            "count": counts[group],
            "href": wanted.address(status=group),
            "chosen": group == wanted.group,
        }
        for group, label in _LABELS.items()
    ]


def session_view(session: StoredSession, now: dt.datetime) -> dict[str, Any]:
    """Return the row of a session."""
    timeline = [_timeline_view(entry) for entry in session.timeline]
    payment = payment_id(session.payment_session_url)
    kind = "KP session" if session.is_kp else "KCO order"
    title = session.options.page_title or ""
    return {
        "key": key_of(session),
        "session_id": session.session_id,
        "group": group_of(session, now),
        "badge": _status(session, now),
        "title": title or payment or kind,
        "subtitle": f"{kind} {payment}" if title else kind,
        "warnings": sum(entry["group"] == "warning" for entry in timeline),
        "last": timeline[-1],
        "timeline": timeline,
        "request": json_text(_plain(session.request)),
        "facts": {
            "Session": session.session_id,
            "Expires": f"{session.expires_at:%Y-%m-%d %H:%M:%S} UTC",
            "Order": session.order_id,
            "Reference": session.klarna_reference,
        },
        "page": session.page_url(""),
        "qr": "" if session.is_expired(now) else f"/eu/hpp/payments/{session.session_id}/qr",
        "actions": list(_actions(session, now)),
    }


def _timeline_view(entry: TimelineEntry) -> dict[str, Any]:
    group = "" if entry.status is None else _GROUPS[entry.status]
    return {
        "time": entry.at,
        "what": entry.what,
        "detail": entry.detail[:_MAX_DETAIL],
        "group": "failed" if entry.failed else "warning" if entry.what == "warning" else group,
    }


def _status(session: StoredSession, now: dt.datetime) -> str:
    return "EXPIRED" if session.is_expired(now) and not session.status.is_final else str(session.status)


def _actions(session: StoredSession, now: dt.datetime) -> Iterator[str]:
    """Yield the actions on a session, as in the paths of the console."""
    if session.is_open(now):
        yield from (Action.PAY, Action.DECLINE, Action.ERROR, session.secondary_action, "expire")
    if any(entry.what == "callback" for entry in session.timeline):
        yield "repeat_callback"


def is_failed(seen: RecordedRequest) -> bool:
    """Return True for a request that was refused or got a fault."""
    return seen.fault is not None or (seen.status or 0) >= _BAD_REQUEST


def request_view(seen: RecordedRequest, session: StoredSession | None) -> dict[str, Any]:
    """Return the row of a request; `session` is the one that it created."""
    fault = seen.fault if isinstance(seen.fault, Fault) else None
    problems = problems_of(seen)
    tokens = () if session is None else (session.token, session.authorization_token)
    first = f"{problems[0].path}: {problems[0].sentence}".removeprefix(": ") if problems else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return {
        "key": key_of(seen),
        "group": REFUSED if fault is None else "fault",
        "badge": str(seen.status) if seen.status is not None else "no response" if seen.done else "in flight",
        "title": (seen.operation or "unknown endpoint").replace("_", " ").capitalize(),
        "subtitle": f"{seen.method} {seen.path}",
        "summary": f"met {fault}" if fault is not None else first + more,
        "time": seen.received_at or _EPOCH,
        "correlation_id": seen.correlation_id,
        "problems": problems,
        "error_code": error_code_of(seen),
        "fault": "" if fault is None else str(fault),
        "about": "" if fault is None else fault.type.about.replace("`", ""),
        "rule": seen.rule,
        "effect": _effect(seen),
        "facts": {
            "Correlation id": seen.correlation_id,
            "Session": seen.created,
            "Payment": payment_id(seen.payment_session_url) if seen.is_create and seen.payment_session_url else None,
            "Request": f"number {seen.number:,}, on connection {seen.connection:,}",
        },
        "session_id": "" if session is None else session.session_id,
        "request": request_text(seen),
        "response": response_text(seen, [token for token in tokens if token]),
    }


def _effect(seen: RecordedRequest) -> str:
    if seen.created is not None:
        return "The session exists."
    return "The request was processed." if seen.processed else "The request was not processed."


def rule_views(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Return the rules; exhausted ones come last."""
    ordered = sorted(rules, key=lambda rule: rule.exhausted)
    return [{"rule": rule, "faults": _faults_text(rule)} for rule in ordered[:MAX_RULES]]


def _faults_text(rule: Rule) -> str:
    names = ["none" if fault is None else str(fault) for fault in rule.faults[:_MAX_FAULTS_TEXT]]
    text = (", then " if rule.in_order else " or ").join(names)
    return text if len(text) <= _MAX_FAULTS_TEXT else text[:_MAX_FAULTS_TEXT] + "…"


def limits_text(bucket: TokenBucket | None, latency: Latency | None) -> str:
    """Return the rate limit and the latency in words."""
    limit = "No rate limit" if bucket is None else f"Rate limit {bucket.limit}"
    delay = "no latency" if latency is None else f"latency {latency}"
    return f"{limit}; {delay}."


def _searched(row: Row, now: dt.datetime) -> Iterator[str]:
    """Yield the texts of a row in which the search looks."""
    if isinstance(row, RecordedRequest):
        yield from (row.path, row.correlation_id, row.operation or "", str(row.status), str(row.fault or ""))
        yield masked_url(row.payment_session_url or "") if row.is_create else ""
        yield error_code_of(row)
        yield from (f"{problem.path}: {problem.sentence}" for problem in problems_of(row))
        return
    yield from (row.session_id, row.page_id, masked_url(row.payment_session_url), _status(row, now))
    yield from (row.order_id or "", row.klarna_reference or "", row.options.page_title or "")


def _plain(value: Any) -> Any:
    """Return a part of a request as JSON; undocumented fields are masked."""
    if attrs.has(type(value)):
        fields = {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
        extra = fields.pop("extra", {})
        shown = {name: _plain(item) for name, item in fields.items() if item is not None}
        return shown | dict.fromkeys(extra, "***")
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
