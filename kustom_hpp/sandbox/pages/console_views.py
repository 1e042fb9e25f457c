"""What the console shows, as plain frozen values that the templates write down. No I/O.

Nothing here holds a secret: of a request's URLs the query is masked, as in its repr, and of fields newer than this release
the value. The API key is in no value of this module.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import attrs
from attrs import frozen

from kustom_hpp._redaction import masked_url
from kustom_hpp.models import SessionStatus
from kustom_hpp.sandbox.faults.rules import Rule
from kustom_hpp.sandbox.limits import Bucket
from kustom_hpp.sandbox.pages.payment_views import path_of
from kustom_hpp.sandbox.recorded import RequestSeen
from kustom_hpp.sandbox.stored_session import Moment, StoredSession

MAX_SHOWN = 100
"""Sessions on the console, the newest that fit its filter."""
MAX_FAILED_REQUESTS = 6
"""Refused requests on the console, the newest."""
MAX_RULES = 8
_MAX_EXAMINED = 500
_MAX_REQUEST_TEXT = 20_000
_MAX_DETAIL = 500
_MAX_QUERY = 200
_MAX_RULE_FAULTS = 200
_BAD_REQUEST = 400

# Characters that turn the direction of what follows them: shown as what they are.
_BIDI_CONTROLS = r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
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
_LABELS = {"open": "Open", "paid": "Paid", "failed": "Failed", "closed": "Closed"}


@frozen(kw_only=True)
class TimelineView:
    """One line of a timeline."""

    at: str
    """ISO 8601, UTC."""
    time: str
    what: str
    detail: str
    group: str
    """Of the status that it brought: `open`, `paid`, `failed`, `closed`; empty where it brought none."""


@frozen(kw_only=True)
class SessionView:
    """One session."""

    session_id: str
    group: str
    status: str
    """As the API spells it, or EXPIRED."""
    title: str
    """The id of its payment session."""
    kind: str
    """KCO or KP."""
    last: TimelineView
    created: TimelineView
    moments: tuple[TimelineView, ...]
    request: str
    """The request as JSON, masked."""
    facts: tuple[tuple[str, str], ...]
    page: str
    """The path of its page."""
    qr: str
    """The path of its QR code; empty where it has none any more."""


@frozen(kw_only=True)
class StatusCount:
    """A number, and the link that shows what it counts."""

    group: str
    label: str
    count: int
    href: str
    chosen: bool


@frozen(kw_only=True)
class RuleView:
    """A rule, or the quota."""

    what: str
    when: str
    """To which requests it applies."""
    met: str
    spent: bool = False
    """True where it has bitten as often as it may."""


@frozen(kw_only=True)
class FailedRequest:
    """A request that was refused, or met a fault."""

    at: str
    time: str
    request: str
    outcome: str


@frozen(kw_only=True)
class Filter:
    """Which sessions the console shows."""

    query: str = ""
    """Part of an id, of the payment session's URL, of the title, or of a status; upper and lower case are one."""
    group: str = ""
    """`open`, `paid`, `failed`, `closed`; empty for all."""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Filter":
        """As the console's own address tells it; what it cannot mean is left out."""
        group = given.get("status", "")
        return cls(query=given.get("q", "").strip()[:_MAX_QUERY], group=group if group in _LABELS else "")

    def address(self, **other: str) -> str:
        """The console's address with this filter, or a changed one."""
        asked = {"q": self.query, "status": self.group} | other
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"/?{query}" if query else "/"

    def matches(self, session: StoredSession, now: dt.datetime) -> bool:
        """True for a session that the console shall show."""
        if self.group and group_of(session, now) != self.group:
            return False
        return not self.query or self.query.casefold() in _searched(session, now)


def group_of(session: StoredSession, now: dt.datetime) -> str:
    """`open`, `paid`, `failed` or `closed`. What is expired and unpaid is closed."""
    group = _GROUPS[session.status]
    return "closed" if group != "paid" and session.is_expired(now) else group


def newest_matching(sessions: Iterable[StoredSession], wanted: Filter, now: dt.datetime) -> list[StoredSession]:
    """The newest sessions that fit.

    Args:
        sessions: newest first.
        wanted: the filter.
        now: by the sandbox's clock.

    """
    return list(islice((session for session in sessions if wanted.matches(session, now)), MAX_SHOWN))


def status_counts(sessions: Iterable[StoredSession], wanted: Filter, now: dt.datetime) -> tuple[StatusCount, ...]:
    """The numbers at the top: how many sessions there are, and how they stand."""
    counts = dict.fromkeys(_LABELS, 0)
    for session in sessions:
        counts[group_of(session, now)] += 1
    rows = [("", "Created", sum(counts.values())), *((group, _LABELS[group], counts[group]) for group in _LABELS)]
    return tuple(
        StatusCount(
            group=group or "created",
            label=label,
            count=count,
            href=wanted.address(status=group),
            chosen=group == wanted.group,
        )
        for group, label, count in rows
    )


def session_view(session: StoredSession, now: dt.datetime) -> SessionView:
    """One session."""
    moments = tuple(_timeline_view(moment) for moment in session.timeline)
    return SessionView(
        session_id=session.session_id,
        group=group_of(session, now),
        status=_status(session, now),
        title=_id_of(session.request.payment_session_url),
        kind="KP" if session.is_kp else "KCO",
        created=moments[0],
        last=moments[-1],
        moments=moments,
        request=_json(session),
        facts=tuple(_facts(session)),
        page=path_of(session),
        qr="" if session.is_expired(now) else f"/eu/hpp/payments/{session.session_id}/qr",
    )


def rule_views(rules: Iterable[Rule], quota: Bucket | None) -> tuple[RuleView, ...]:
    """The quota and the faults in force, in a few words each; those that are spent come last."""
    ordered = sorted(rules, key=lambda rule: rule.spent)
    told = [_rule(rule) for rule in ordered[:MAX_RULES]]
    more = len(ordered) - len(told)
    if quota is not None:
        size = f"{quota.quota.rate:g} creates a second, {quota.quota.size:,} at once"
        told.insert(0, RuleView(what="quota", when=size, met=""))
    return (*told, RuleView(what=f"and {more} more", when="", met="")) if more else tuple(told)


def _rule(rule: Rule) -> RuleView:
    names = ["none" if fault is None else str(fault) for fault in rule.faults[:_MAX_RULE_FAULTS]]
    what = (", then " if rule.in_order else " or ").join(names)
    return RuleView(
        what=what if len(what) <= _MAX_RULE_FAULTS else what[:_MAX_RULE_FAULTS] + "…",
        when=rule.when,
        met=f"met {rule.bitten:,} of {rule.seen:,}",
        spent=rule.spent,
    )


def failed_requests(requests: Iterable[RequestSeen], when: Callable[[float], dt.datetime]) -> tuple[FailedRequest, ...]:
    """The newest requests that were refused or met a fault, newest first.

    Args:
        requests: newest first.
        when: turns a monotonic time into one of a clock.

    """
    looked_at = islice(requests, _MAX_EXAMINED)
    found = (seen for seen in looked_at if seen.fault is not None or (seen.status or 0) >= _BAD_REQUEST)
    return tuple(_failed_request(seen, when(seen.at)) for seen in islice(found, MAX_FAILED_REQUESTS))


def _failed_request(seen: RequestSeen, at: dt.datetime) -> FailedRequest:
    told = [] if seen.fault is None else [f"met {seen.fault}"]
    if seen.status is not None:
        told.append(f"answered {seen.status}")
    elif seen.fault is None or not seen.done:
        told.append("not answered yet")
    return FailedRequest(
        at=at.isoformat(), time=f"{at:%H:%M:%S}", request=f"{seen.method} {seen.path}", outcome=", ".join(told)
    )


def _timeline_view(moment: Moment) -> TimelineView:
    at = moment.at.astimezone(dt.UTC)
    return TimelineView(
        at=at.isoformat(),
        time=f"{at:%H:%M:%S}",
        what=moment.what,
        detail=moment.detail[:_MAX_DETAIL],
        group="" if moment.status is None else _GROUPS[moment.status],
    )


def _status(session: StoredSession, now: dt.datetime) -> str:
    return "EXPIRED" if session.is_expired(now) and not session.status.is_final else str(session.status)


def _id_of(payment_session_url: str) -> str:
    """The id of a payment session: how people call it."""
    path = masked_url(payment_session_url).partition("?")[0].partition("#")[0]
    return path.rstrip("/").rpartition("/")[2][:_MAX_QUERY]


def _facts(session: StoredSession) -> Iterator[tuple[str, str]]:
    yield "Session", session.session_id
    yield "Expires", f"{session.expires_at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    if session.order_id is not None:
        yield "Order", session.order_id
    if session.klarna_reference is not None:
        yield "Reference", session.klarna_reference


def _searched(session: StoredSession, now: dt.datetime) -> str:
    options = session.request.options
    title = "" if options is None else options.page_title or ""
    url = masked_url(session.request.payment_session_url)
    texts = (session.session_id, session.page_id, url, title, session.order_id, session.klarna_reference)
    return "\n".join([*(text for text in texts if text), _status(session, now)]).casefold()


def _json(session: StoredSession) -> str:
    text = json.dumps(_shown(session.request), indent=2, ensure_ascii=False)
    text = re.sub(_BIDI_CONTROLS, lambda found: f"\\u{ord(found[0]):04x}", text)
    return text if len(text) <= _MAX_REQUEST_TEXT else text[:_MAX_REQUEST_TEXT] + "\n… (cut)"


def _shown(value: Any) -> Any:
    """A part of a request as plain JSON values, with its secrets masked."""
    if attrs.has(type(value)):
        fields = {
            field.name: getattr(value, field.name) for field in attrs.fields(type(value)) if field.name != "extra"
        }
        shown = {name: _shown(item) for name, item in fields.items() if item is not None}
        return shown | dict.fromkeys(value.extra, "***")
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    return masked_url(value) if isinstance(value, str) and "://" in value else value
