"""Pages without a payment form: results and closed sessions. No I/O.

Where the documents are silent, chosen here: a final or expired session gets a page that says so, with 200 if it is completed
and 410 if it is expired, disabled or cancelled; a page that never existed is a 404. Each links back to the shop if a
merchant URL shows where that is. `ending.html` has the texts.
"""

import datetime as dt
from types import MappingProxyType
from typing import Any

from kustom_hpp.models import SessionStatus
from kustom_hpp.sandbox.pages.security_headers import origin_of
from kustom_hpp.sandbox.sample_orders import Order
from kustom_hpp.sandbox.stored_session import StoredSession

_URLS = MappingProxyType(
    {
        SessionStatus.COMPLETED: "success",
        SessionStatus.FAILED: "failure",
        SessionStatus.ERROR: "error",
        SessionStatus.BACK: "back",
        SessionStatus.CANCELLED: "cancel",
        SessionStatus.DISABLED: "",
    }
)
"""The statuses with a page here, and the merchant URL of each."""


def has_ending(session: StoredSession, now: dt.datetime) -> bool:
    """Return True if the session has a result to show."""
    return session.status in _URLS or session.is_expired(now)


def ending(
    session: StoredSession | None, order: Order | None, now: dt.datetime, *, just_now: bool = False
) -> dict[str, Any]:
    """Return the page of a session that cannot be paid now, or does not exist.

    `just_now` is for the result page: a cancellation that just succeeded is a 200.
    """
    if session is None or order is None:
        nothing = dict.fromkeys(("missing_url", "paid", "reference", "onward", "path", "session_id"))
        return {"kind": "UNKNOWN", "http_status": 404, **nothing}
    is_completed = session.status is SessionStatus.COMPLETED
    is_expired = session.is_expired(now) and not is_completed
    is_closed = is_expired or (session.status.is_final and not is_completed)
    is_cancelled_now = just_now and not is_expired and session.status is SessionStatus.CANCELLED
    name = "" if is_expired else _URLS[session.status]
    onward = session.merchant_url(name) if name else None
    return {
        "kind": "EXPIRED" if is_expired else str(session.status),
        "http_status": 410 if is_closed and not is_cancelled_now else 200,
        "missing_url": "" if onward else name,
        "paid": order if is_completed else None,
        "reference": None if is_expired else session.klarna_reference,
        "onward": onward or _shop(session),
        "path": session.page_url(""),
        "session_id": session.session_id,
    }


def _shop(session: StoredSession) -> str | None:
    """Return the shop's cart, or the first page of its site."""
    urls = session.merchant_urls
    if (cart := session.merchant_url("back") or session.merchant_url("cancel")) is not None:
        return cart
    origin = origin_of(urls.success or urls.failure or urls.error or "")
    return None if origin is None else f"{origin}/"
