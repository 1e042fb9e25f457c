"""Pages without a payment form: the generic result page, and those of closed sessions. No I/O.

Where the documents are silent, chosen here: a final or expired session gets a page that says so, with 200 if it is completed
and 410 if it is expired, disabled or cancelled; a page that never existed is a 404. Each links back to the shop if a
merchant URL shows where that is.
"""

import datetime as dt
from typing import Any

import attrs
from attrs import frozen

from kustom_hpp.models import SessionStatus
from kustom_hpp.sandbox.pages.security_headers import origin_of
from kustom_hpp.sandbox.sample_orders import Order
from kustom_hpp.sandbox.stored_session import StoredSession


@frozen
class Ending:
    """The texts of a page without a payment form."""

    http_status: int
    tone: str
    """`success`, `failure` or `quiet`."""
    heading: str
    text: str
    again: str = ""
    """Label of the link back to the payment page; empty if the session allows no other attempt."""
    hint: str = ""
    """Why the sandbox shows this page."""


_UNKNOWN = Ending(
    404,
    "quiet",
    "There is no such page",
    "The link may be incomplete, or the sandbox has been restarted since.",
    hint="Sessions live only in the sandbox's memory. Create a new one.",
)
_EXPIRED = Ending(
    410,
    "quiet",
    "This payment link has expired",
    "Nothing was charged. Return to the shop to order again.",
    hint="A session expires one hour before its payment session, 47 hours after its creation. A read now returns 404.",
)
_ENDINGS = {
    SessionStatus.COMPLETED: Ending(200, "success", "Payment complete", "Thank you. The shop has your order."),
    SessionStatus.FAILED: Ending(200, "failure", "Payment declined", "Nothing was charged.", again="Try again"),
    SessionStatus.ERROR: Ending(
        200,
        "failure",
        "Something went wrong",
        "A technical error stopped the payment. Nothing was charged.",
        again="Try again",
    ),
    SessionStatus.BACK: Ending(
        200,
        "quiet",
        "Not paid yet",
        "You left the payment. Your order is still waiting for you.",
        again="Return to the payment",
    ),
    SessionStatus.CANCELLED: Ending(410, "quiet", "Purchase cancelled", "Nothing was charged. This link stays closed."),
    SessionStatus.DISABLED: Ending(
        410,
        "quiet",
        "This payment link is no longer active",
        "The shop has closed it. Nothing was charged.",
        hint="The session was disabled through the API. That is final.",
    ),
}
_URL_OF_ENDING = {
    SessionStatus.COMPLETED: "success",
    SessionStatus.FAILED: "failure",
    SessionStatus.ERROR: "error",
    SessionStatus.BACK: "back",
    SessionStatus.CANCELLED: "cancel",
}


def has_ending(session: StoredSession, now: dt.datetime) -> bool:
    """Return True if the session has a result to show."""
    return session.status in _ENDINGS or session.is_expired(now)


def ending(
    session: StoredSession | None, order: Order | None, now: dt.datetime, *, just_now: bool = False
) -> dict[str, Any]:
    """Return the page of a session that cannot be paid now; without a session, that of an unknown page.

    `just_now` is for the result page: a cancellation that just succeeded is a 200.
    """
    if session is None or order is None:
        return {**attrs.asdict(_UNKNOWN), "paid": None, "reference": None, "onward": None, "path": "", "session_id": ""}
    is_completed = session.status is SessionStatus.COMPLETED
    is_expired = session.is_expired(now) and not is_completed
    shown = _EXPIRED if is_expired else _ENDINGS[session.status]
    name = None if is_expired else _URL_OF_ENDING.get(session.status)
    onward, hint = None if name is None else session.merchant_url(name), shown.hint
    if name is not None and onward is None:
        names = "error or failure" if name == "error" else name
        hint = f"The session has no {names} URL, so the browser stays on this generic page."
    is_success = just_now and shown is _ENDINGS[SessionStatus.CANCELLED]
    return {
        **attrs.asdict(shown),
        "http_status": 200 if is_success else shown.http_status,
        "hint": hint,
        "paid": order if is_completed else None,
        "reference": None if is_expired else session.klarna_reference,
        "onward": onward or _shop(session),
        "path": session.page_url(""),
        "session_id": session.session_id,
    }


def _shop(session: StoredSession) -> str | None:
    """Return a URL of the shop that does not report a payment: its cart, or the first page of its site."""
    urls = session.merchant_urls
    if (cart := session.merchant_url("back") or session.merchant_url("cancel")) is not None:
        return cart
    origin = origin_of(urls.success or urls.failure or urls.error or "")
    return None if origin is None else f"{origin}/"
