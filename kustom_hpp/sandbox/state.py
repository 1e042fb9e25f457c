"""What the sandbox remembers: payment sessions and their HPP sessions, on a clock that can be moved. No I/O.

Where the documents are silent, chosen here: a payment session that was never seen exists and is new (the sandbox makes
no orders); creating an HPP session is a client interaction, so it gives its payment session 48 hours anew; a second HPP
session for one payment session is made like the first.
"""

import datetime as dt
import secrets
import string
import uuid
from typing import Any

from attrs import define, field, frozen

from kustom_hpp.models import CreateSessionRequest

ORDER_LIFE = dt.timedelta(hours=48)
"""How long a payment session lives. Source: docs.kustom.co, errors in checkout."""
SESSION_ENDS_BEFORE = dt.timedelta(hours=1)
"""An HPP session ends this long before its payment session. Source: docs.kustom.co, create session."""
_BASE62 = string.ascii_letters + string.digits


class Clock:
    """The sandbox's clock: the machine's, moved by what `advance` added up to."""

    def __init__(self) -> None:
        self._ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        """The time by this clock, in UTC."""
        return dt.datetime.now(dt.UTC) + self._ahead

    def advance(self, seconds: float = 0.0, *, hours: float = 0.0) -> None:
        """Move the clock, back where it is negative."""
        self._ahead += dt.timedelta(seconds=seconds, hours=hours)


@frozen(kw_only=True)
class StoredSession:
    """An HPP session as the sandbox keeps it."""

    session_id: str
    page_id: str
    """What stands at the end of `redirect_url`."""
    request: CreateSessionRequest
    created_at: dt.datetime
    expires_at: dt.datetime
    token: str = field(repr=False)
    """Of `distribution_module`."""

    def wire(self, base_url: str) -> dict[str, Any]:
        """The answer to its creation, all fields of the API reference in their order."""
        session_url = f"{base_url}/hpp/v1/sessions/{self.session_id}"
        page = f"{base_url}/eu/hpp"
        return {
            "distribution_module": {
                "generation_url": f"{session_url}/distribution-module/token",
                "standalone_url": f"{page}/distribution/{self.token}?profile={{{{profile_id}}}}&view={{{{view_id}}}}",
                "token": self.token,
            },
            "distribution_url": f"{session_url}/distribution",
            "expires_at": date_text(self.expires_at),
            "manual_identification_check_url": f"{session_url}/manual-id-check",
            "qr_code_url": f"{page}/payments/{self.session_id}/qr",
            "redirect_url": f"{page}/payments/{self.page_id}",
            "session_id": self.session_id,
            "session_url": session_url,
        }


@define(kw_only=True)
class PaymentSession:
    """A KCO order or KP session, as far as HPP needs to know it."""

    expires_at: dt.datetime
    session_ids: list[str] = field(factory=list)
    """Its HPP sessions, oldest first."""


def date_text(when: dt.datetime) -> str:
    """A time as the API writes it: UTC, milliseconds, Z."""
    return when.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_session(request: CreateSessionRequest, now: dt.datetime) -> StoredSession:
    """A session with new ids, which nothing remembers yet."""
    return StoredSession(
        session_id=str(uuid.uuid4()),
        page_id="".join(secrets.choice(_BASE62) for _ in range(10)),
        request=request,
        created_at=now,
        expires_at=now + ORDER_LIFE - SESSION_ENDS_BEFORE,
        token=secrets.token_urlsafe(24),
    )


class State:
    """Everything that the sandbox remembers between requests.

    Args:
        remember: how many sessions and payment sessions are kept, the newest of each; None keeps all.

    """

    def __init__(self, *, remember: int | None = None) -> None:
        self.clock = Clock()
        self.sessions: dict[str, StoredSession] = {}
        self.payment_sessions: dict[str, PaymentSession] = {}
        self._remember = remember

    def create(self, request: CreateSessionRequest) -> StoredSession | None:
        """Make and keep an HPP session; None where its payment session has expired."""
        now = self.clock.now()
        url = request.payment_session_url
        known = self.payment_sessions.get(url)
        if known is not None and known.expires_at <= now:
            return None
        session = new_session(request, now)
        self.sessions[session.session_id] = session
        if known is None:
            known = self.payment_sessions[url] = PaymentSession(expires_at=now)
        known.expires_at = now + ORDER_LIFE
        known.session_ids.append(session.session_id)
        self._forget()
        return session

    def expire(self, payment_session_url: str) -> None:
        """Let a payment session be expired from now on, whether it was seen before or not."""
        now = self.clock.now()
        known = self.payment_sessions.setdefault(payment_session_url, PaymentSession(expires_at=now))
        known.expires_at = now

    def _forget(self) -> None:
        for kept in (self.sessions, self.payment_sessions):
            while self._remember is not None and len(kept) > self._remember:
                del kept[next(iter(kept))]
