"""The contents of the console, as frozen values for the templates. No I/O.

No value here holds a secret: queries of URLs, credentials, tokens and undocumented fields are masked.
"""

import datetime as dt
import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlencode

import attrs
from attrs import frozen

from kustom_hpp._redaction import masked_url
from kustom_hpp.models import SessionStatus
from kustom_hpp.sandbox.faults.rules import Rule
from kustom_hpp.sandbox.limits import Latency, TokenBucket
from kustom_hpp.sandbox.pages.failed_requests import EPOCH, REFUSED, Time, id_of
from kustom_hpp.sandbox.pages.http_text import error_code_of, json_text, problems_of
from kustom_hpp.sandbox.pages.payment_views import LabeledValue, path_of
from kustom_hpp.sandbox.record import RecordedRequest
from kustom_hpp.sandbox.stored_session import Action, StoredSession, TimelineEntry

Row: TypeAlias = StoredSession | RecordedRequest
"""What has a row on the console: a session, or a request that was refused or met a fault."""
MAX_ROWS = 100
"""Rows on the console: the newest that match its filter."""
MAX_RULES = 20
_MAX_DETAIL = 500
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
_ACTIONS = {
    Action.PAY: "Pay",
    Action.DECLINE: "Decline",
    Action.ERROR: "Technical error",
    Action.BACK: "Back",
    Action.CANCEL: "Cancel",
}


@frozen(kw_only=True)
class TimelineView:
    """One line of a timeline."""

    time: Time
    what: str
    detail: str
    group: str
    """Of the status that it brought, `failed` for a callback that failed, or `warning`; empty if it changed nothing."""


@frozen(kw_only=True)
class SessionView:
    """The row of a session."""

    key: str
    """Id of its element."""
    session_id: str
    group: str
    badge: str
    """Its status as the API spells it, or EXPIRED."""
    title: str
    """Its page title, or the id of its payment session."""
    subtitle: str
    warnings: int
    """How often the sandbox accepted what the API would refuse."""
    last: TimelineView
    timeline: tuple[TimelineView, ...]
    request: str
    """The request as JSON, masked."""
    facts: tuple[LabeledValue, ...]
    page: str
    """Path of its page."""
    qr: str
    """Path of its QR code; empty if it has none any more."""
    actions: tuple[LabeledValue, ...]
    """What can be done with it: the action's name on the button, and in the path."""


@frozen(kw_only=True)
class StatusCount:
    """A filter with the number of its rows."""

    group: str
    label: str
    count: int
    href: str
    chosen: bool


@frozen(kw_only=True)
class RuleView:
    """A rule by which requests meet faults."""

    number: int
    what: str
    when: str
    """To which requests it applies."""
    triggered: str
    exhausted: bool


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
    """Return the filter to which a row belongs. An expired session that is not paid is closed."""
    if isinstance(row, RecordedRequest):
        return REFUSED
    group = _GROUPS[row.status]
    return "closed" if group != "paid" and row.is_expired(now) else group


def newest_matching(rows: Iterable[Row], wanted: Filter, now: dt.datetime) -> list[Row]:
    """Return the rows with the newest events that match a filter, newest first."""
    return heapq.nlargest(MAX_ROWS, (row for row in rows if wanted.matches(row, now)), key=_last_event)


def _last_event(row: Row) -> tuple[dt.datetime, int]:
    if isinstance(row, RecordedRequest):
        return row.received_at or EPOCH, row.number
    return row.timeline[-1].at, 0


def version_of(row: Row, now: dt.datetime) -> tuple[object, ...]:
    """Return a value that differs if the row has changed."""
    if isinstance(row, RecordedRequest):
        return row.correlation_id, row.status, row.done
    return row.timeline[-1], len(row.timeline), row.is_expired(now)


def key_of(row: Row) -> str:
    """Return the id of a row's element."""
    return f"r-{row.number}" if isinstance(row, RecordedRequest) else f"s-{row.session_id}"


def status_counts(rows: Iterable[Row], wanted: Filter, now: dt.datetime) -> tuple[StatusCount, ...]:
    """Return the filters, and how many rows each has."""
    counts = dict.fromkeys(_LABELS, 0)
    for row in rows:
        counts[group_of(row, now)] += 1
    counts[""] = sum(counts.values())
    return tuple(
        StatusCount(
            group=group or "all",
            label=label,
            count=counts[group],
            href=wanted.address(status=group),
            chosen=group == wanted.group,
        )
        for group, label in _LABELS.items()
    )


def session_view(session: StoredSession, now: dt.datetime) -> SessionView:
    """Return the row of a session."""
    timeline = tuple(_timeline_view(moment) for moment in session.timeline)
    payment_id = id_of(session.payment_session_url)
    kind = "KP session" if session.is_kp else "KCO order"
    title = (session.request.options.page_title if session.request.options else None) or ""
    return SessionView(
        key=key_of(session),
        session_id=session.session_id,
        group=group_of(session, now),
        badge=_status(session, now),
        title=title or payment_id or kind,
        subtitle=f"{kind} {payment_id}" if title else kind,
        warnings=sum(entry.group == "warning" for entry in timeline),
        last=timeline[-1],
        timeline=timeline,
        request=json_text(_plain(session.request)),
        facts=tuple(_facts(session)),
        page=path_of(session),
        qr="" if session.is_expired(now) else f"/eu/hpp/payments/{session.session_id}/qr",
        actions=tuple(_actions(session, now)),
    )


def _actions(session: StoredSession, now: dt.datetime) -> Iterator[LabeledValue]:
    if not session.status.is_final and not session.is_expired(now):
        for action in (Action.PAY, Action.DECLINE, Action.ERROR, session.secondary_action):
            yield LabeledValue(_ACTIONS[action], str(action))
        yield LabeledValue("Expire", "expire")
    if any(moment.what == "callback" for moment in session.timeline):
        yield LabeledValue("Repeat callback", "repeat_callback")


def rule_views(rules: Iterable[Rule]) -> tuple[RuleView, ...]:
    """Return the rules; exhausted ones come last."""
    ordered = sorted(rules, key=lambda rule: rule.exhausted)
    return tuple(_rule(rule) for rule in ordered[:MAX_RULES])


def _rule(rule: Rule) -> RuleView:
    names = ["none" if fault is None else str(fault) for fault in rule.faults[:_MAX_FAULTS_TEXT]]
    what = (", then " if rule.in_order else " or ").join(names)
    return RuleView(
        number=rule.number,
        what=what if len(what) <= _MAX_FAULTS_TEXT else what[:_MAX_FAULTS_TEXT] + "…",
        when=rule.when,
        triggered=f"{rule.triggered:,} of {rule.checked:,}",
        exhausted=rule.exhausted,
    )


def limits_text(bucket: TokenBucket | None, latency: Latency | None) -> str:
    """Return the rate limit and the latency in words."""
    limit, delay = "No rate limit", "no latency"
    if bucket is not None:
        limit = f"Rate limit {bucket.limit.rate:g} creates a second, {bucket.limit.size:,} at once"
    if latency is not None:
        seconds = f"{latency.low:g} s" if latency.high is None else f"{latency.low:g} to {latency.high:g} s"
        delay = f"latency {seconds}"
    return f"{limit}; {delay}."


def _timeline_view(moment: TimelineEntry) -> TimelineView:
    group = "" if moment.status is None else _GROUPS[moment.status]
    return TimelineView(
        time=Time.of(moment.at),
        what=moment.what,
        detail=moment.detail[:_MAX_DETAIL],
        group="failed" if moment.failed else "warning" if moment.what == "warning" else group,
    )


def _status(session: StoredSession, now: dt.datetime) -> str:
    return "EXPIRED" if session.is_expired(now) and not session.status.is_final else str(session.status)


def _facts(session: StoredSession) -> Iterator[LabeledValue]:
    yield LabeledValue("Session", session.session_id)
    yield LabeledValue("Expires", Time.of(session.expires_at).text)
    if session.order_id is not None:
        yield LabeledValue("Order", session.order_id)
    if session.klarna_reference is not None:
        yield LabeledValue("Reference", session.klarna_reference)


def _searched(row: Row, now: dt.datetime) -> Iterator[str]:
    """Yield the texts of a row in which the search looks."""
    if isinstance(row, RecordedRequest):
        yield from (row.path, row.correlation_id, row.operation or "", str(row.status), str(row.fault or ""))
        yield masked_url(row.payment_session_url or "") if row.is_create else ""
        yield error_code_of(row)
        yield from (f"{problem.path}: {problem.sentence}" for problem in problems_of(row))
        return
    options = row.request.options
    yield from (row.session_id, row.page_id, masked_url(row.payment_session_url), _status(row, now))
    yield from (row.order_id or "", row.klarna_reference or "", (options.page_title if options else None) or "")


def _plain(value: Any) -> Any:
    """Return a part of a request as JSON values; what it does not document is masked."""
    if attrs.has(type(value)):
        fields = {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
        extra = fields.pop("extra", {})
        shown = {name: _plain(item) for name, item in fields.items() if item is not None}
        return shown | dict.fromkeys(extra, "***")
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
