"""The state of a sandbox: sessions, orders, and a movable clock. No I/O.

The lifecycle is that of docs.kustom.co, "Tracking session status". If the documents say nothing, or contradict each other:

- A payment session exists from its first mention. It can have several HPP sessions. Creating one is a client interaction:
  the payment session then lives for another 48 hours, and the earlier HPP sessions end when they would have.
- The end of a payment session ends all its HPP sessions: a completed order completes the others with the same order, an
  expired one expires them. Payment does not end a KP session that places no order itself, as it may give several
  authorization tokens. A completed payment session gets no more HPP sessions.
- Every action on a session that is not in progress opens it first, so that the statuses follow each other as in a browser.
  Opening a session that is in progress changes nothing.
- With `merchant_urls.back`, cancelling goes back; otherwise it cancels the session. Going back without such a URL is
  possible (the browser's button) and leads to the generic page.
- Disabling a session twice, or one that is cancelled, changes nothing and is no error.
- An identity check in the store can start in every status that is not final, and ends with the next action.
"""

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from attrs import define, field

from kustom_hpp.models import CreateSessionRequest, SessionStatus
from kustom_hpp.sandbox.sample_orders import Order, SampleOrders, order_path
from kustom_hpp.sandbox.stored_session import (
    MAX_TIMELINE,
    ORDER_LIFETIME,
    Action,
    SessionClosedError,
    StoredSession,
    TimelineEntry,
    date_text,
    new_session,
    new_token,
)

_CHECK_LIFETIME = dt.timedelta(minutes=10)
"""How long an identity check lasts. Not documented."""
_ROOM = dt.timedelta(days=10_000)
"""The clock stays this far from the ends of the calendar, so that sums of its times are valid dates."""

_ENDINGS = MappingProxyType(
    {
        Action.DECLINE: (SessionStatus.FAILED, "declined", "failure"),
        Action.ERROR: (SessionStatus.ERROR, "error", "error"),
        Action.BACK: (SessionStatus.BACK, "went back", "back"),
        Action.CANCEL: (SessionStatus.CANCELLED, "cancelled", "cancel"),
    }
)
"""Of each action that does not pay: the status, the entry in the timeline, and the merchant URL."""

Listener = Callable[[StoredSession, TimelineEntry], None]


class MovableClock:
    """The sandbox's clock: the machine's clock, moved by `advance`."""

    def __init__(self) -> None:
        self._ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        """Return the time of this clock, in UTC."""
        return dt.datetime.now(dt.UTC) + self._ahead

    def advance(self, seconds: float = 0.0, *, hours: float = 0.0) -> None:
        """Move the clock; a negative number moves it back.

        Raises:
            ValueError: the new time is outside the calendar.

        """
        try:
            ahead = self._ahead + dt.timedelta(seconds=seconds, hours=hours)
            _ = [dt.datetime.now(dt.UTC) + ahead + room for room in (_ROOM, -_ROOM)]
        except (OverflowError, ValueError):
            raise ValueError("the new time would be outside the calendar. Move the clock less far") from None
        self._ahead = ahead


@define(kw_only=True)
class PaymentSession:
    """A KCO order or KP session, as far as HPP needs it."""

    expires_at: dt.datetime
    completed: bool = False
    """True once it became an order."""
    sessions: list[StoredSession] = field(factory=list)
    """Its HPP sessions that are still stored, oldest first."""


class SandboxState:
    """Everything that the sandbox stores between requests.

    Args:
        remember: how many sessions and payment sessions are stored, the newest of each; None: all.

    """

    def __init__(self, *, remember: int | None = None) -> None:
        self.clock = MovableClock()
        # Not plain dicts: finding the first key takes longer with every deleted one.
        self.sessions: OrderedDict[str, StoredSession] = OrderedDict()
        """By their ids, oldest first, with the expired ones."""
        self.payment_sessions: OrderedDict[str, PaymentSession] = OrderedDict()
        self.orders = SampleOrders(remember=remember)
        """The orders that the payment pages show."""
        self.order_bodies: OrderedDict[str, dict[str, Any]] = OrderedDict()
        """The KCO orders and KP sessions that were created here, as JSON, by their paths."""
        self._pages: dict[str, StoredSession] = {}
        self._remember = remember
        self._listeners: list[Listener] = []

    def create(self, request: CreateSessionRequest) -> StoredSession | None:
        """Create a session; None if the payment session is expired or completed."""
        now = self.clock.now()
        url = request.payment_session_url
        known = self.payment_sessions.get(url)
        if known is not None and (known.completed or known.expires_at <= now):
            return None
        session = new_session(request, now)
        self.sessions[session.session_id] = self._pages[session.page_id] = session
        if known is None:
            known = self.payment_sessions[url] = PaymentSession(expires_at=now)
        known.expires_at = now + ORDER_LIFETIME
        known.sessions.append(session)
        self._evict()
        self._notify(session, TimelineEntry(at=now, what="created", status=session.status))
        return session

    def add_order(self, path: str, body: dict[str, Any], order: Order) -> None:
        """Store a KCO order or KP session, and what the pages show of it."""
        self.order_bodies[path] = body
        while self._remember is not None and len(self.order_bodies) > self._remember:
            self.order_bodies.popitem(last=False)
        self.orders.set(path, order)

    def is_completed(self, path: str) -> bool:
        """Return True once the payment session with this path was paid."""
        return any(known.completed and order_path(url) == path for url, known in self.payment_sessions.items())

    def find(self, session_id: str) -> StoredSession | None:
        """Return the session with this id; None if it is expired or unknown."""
        session = self.sessions.get(session_id)
        return None if session is None or session.is_expired(self.clock.now()) else session

    def by_page(self, page_id: str) -> StoredSession | None:
        """Return the session whose `redirect_url` ends with this id, or None."""
        return self._pages.get(page_id)

    def act(self, session: StoredSession, action: Action) -> str | None:
        """Act as the consumer on the page.

        Returns:
            The merchant URL to which the page sends the browser, with its placeholders replaced. None if the browser stays:
            after opening, and if the URL is empty, which shows a generic page.

        Raises:
            SessionClosedError: the session is expired, disabled, completed or cancelled. Opening a completed session is
                not an error and changes nothing.

        """
        if session.is_expired(self.clock.now()):
            raise SessionClosedError("the session has expired")
        if not session.status.is_final:
            if session.status is not SessionStatus.IN_PROGRESS:
                self._set_status(session, SessionStatus.IN_PROGRESS, "opened")
        elif not (action is Action.OPEN and session.status is SessionStatus.COMPLETED):
            raise SessionClosedError(f"the session is {session.status}")
        if action is Action.OPEN:
            return None
        if action is Action.PAY:
            self._complete(session)
            return session.merchant_url("success")
        if action is Action.CANCEL:
            action = session.secondary_action
        status, what, url = _ENDINGS[action]
        self._set_status(session, status, what)
        return session.merchant_url(url)

    def disable(self, session: StoredSession) -> None:
        """Disable a session; a SessionClosedError if it is completed."""
        if session.status is SessionStatus.COMPLETED:
            raise SessionClosedError("the session has been completed already", code="SESSION_COMPLETED")
        if not session.status.is_final:
            self._set_status(session, SessionStatus.DISABLED, "disabled")

    def check_identity(self, session: StoredSession) -> None:
        """Start an identity check; a SessionClosedError if the status is final."""
        if session.status.is_final:
            raise SessionClosedError(f"the session is {session.status}")
        ends = date_text(self.clock.now() + _CHECK_LIFETIME)
        session.manual_identification = {"challenge": "A78", "expires_at": ends}
        self._set_status(session, SessionStatus.MANUAL_ID_CHECK, "identity check")

    def renew_token(self, session: StoredSession) -> None:
        """Replace the token; a SessionClosedError if the status is final."""
        if session.status.is_final:
            raise SessionClosedError(f"the session is {session.status}")
        session.token = new_token()

    def expire(self, payment_session_url: str) -> None:
        """Let a payment session, known or not, and its HPP sessions expire now."""
        now = self.clock.now()
        known = self.payment_sessions.setdefault(payment_session_url, PaymentSession(expires_at=now))
        known.expires_at = now
        for session in known.sessions:
            if not session.is_expired(now):
                session.expires_at = now
                self.record_event(session, "expired")

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Call a function with every timeline entry, in the event loop.

        Args:
            callback: gets the session and the entry. It must not block.

        Returns:
            A function that removes it; calling it twice is not an error.

        """
        self._listeners.append(callback)

        def remove() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return remove

    def record_event(
        self,
        session: StoredSession,
        what: str,
        detail: str = "",
        *,
        status: SessionStatus | None = None,
        failed: bool = False,
    ) -> None:
        """Add an entry to a timeline. `detail` must not contain a secret."""
        self._notify(
            session, TimelineEntry(at=self.clock.now(), what=what, detail=detail, status=status, failed=failed)
        )

    def _notify(self, session: StoredSession, entry: TimelineEntry) -> None:
        if len(session.timeline) >= MAX_TIMELINE:
            del session.timeline[1]
        session.timeline.append(entry)
        for listener in tuple(self._listeners):
            listener(session, entry)

    def _complete(self, session: StoredSession) -> None:
        session.complete()
        self._set_status(session, SessionStatus.COMPLETED, "paid")
        known = self.payment_sessions.get(session.payment_session_url)
        if known is None or session.order_id is None:
            return
        known.completed = True
        now = self.clock.now()
        for other in known.sessions:
            if other.is_open(now):
                other.order_id, other.klarna_reference = session.order_id, session.klarna_reference
                self._set_status(other, SessionStatus.COMPLETED, "paid", "on another page of this payment session")

    def _set_status(self, session: StoredSession, status: SessionStatus, what: str, detail: str = "") -> None:
        session.status, session.updated_at = status, self.clock.now()
        if status is not SessionStatus.MANUAL_ID_CHECK:
            session.manual_identification = None
        self.record_event(session, what, detail, status=status)

    def _evict(self) -> None:
        if self._remember is None:
            return
        while len(self.sessions) > self._remember:
            _, gone = self.sessions.popitem(last=False)
            del self._pages[gone.page_id]
            known = self.payment_sessions.get(gone.payment_session_url)
            if known is not None and gone in known.sessions:
                known.sessions.remove(gone)
        while len(self.payment_sessions) > self._remember:
            self.payment_sessions.popitem(last=False)
