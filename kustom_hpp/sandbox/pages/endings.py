"""Pages without a payment form: the generic result page, and those of closed sessions. No I/O.

Where the documents are silent, chosen here: a final or expired session gets a page that says so, with 200 if it is completed
and 410 if it is expired, disabled or cancelled; a page that never existed is a 404. Each links back to the shop if a
merchant URL shows where that is.
"""

import datetime as dt

from attrs import evolve, frozen

from kustom_hpp.models import SessionStatus
from kustom_hpp.sandbox.pages.payment_views import Amount, merchant_url, path_of
from kustom_hpp.sandbox.pages.security_headers import origin_of
from kustom_hpp.sandbox.sample_orders import Order
from kustom_hpp.sandbox.stored_session import StoredSession


@frozen(kw_only=True)
class EndingView:
    """A page without a payment form: the generic result page, or that of a closed session."""

    status: int
    """HTTP status."""
    tone: str
    """`success`, `failure` or `quiet`."""
    heading: str
    text: str
    again: str = ""
    """Label of the link back to the payment page; empty if there is no way back."""
    onward: str | None = None
    """A URL of the shop to go on to."""
    amount: Amount | None = None
    """What was paid."""
    reference: str | None = None
    """A short reference to the order."""
    hint: str = ""
    """Why the sandbox shows this page."""
    path: str = ""
    session_id: str = ""


_UNKNOWN = EndingView(
    status=404,
    tone="quiet",
    heading="There is no such page",
    text="The link may be incomplete, or the sandbox has been restarted since.",
    hint="Sessions live only in the sandbox's memory. Create a new one.",
)
_EXPIRED = EndingView(
    status=410,
    tone="quiet",
    heading="This payment link has expired",
    text="Nothing was charged. Return to the shop to order again.",
    hint="A session expires one hour before its payment session, 47 hours after its creation. A read now returns 404.",
)
_ENDINGS = {
    SessionStatus.COMPLETED: EndingView(
        status=200, tone="success", heading="Payment complete", text="Thank you. The shop has your order."
    ),
    SessionStatus.FAILED: EndingView(
        status=200, tone="failure", heading="Payment declined", text="Nothing was charged.", again="Try again"
    ),
    SessionStatus.ERROR: EndingView(
        status=200,
        tone="failure",
        heading="Something went wrong",
        text="A technical error stopped the payment. Nothing was charged.",
        again="Try again",
    ),
    SessionStatus.BACK: EndingView(
        status=200,
        tone="quiet",
        heading="Not paid yet",
        text="You left the payment. Your order is still waiting for you.",
        again="Return to the payment",
    ),
    SessionStatus.CANCELLED: EndingView(
        status=410, tone="quiet", heading="Purchase cancelled", text="Nothing was charged. This link stays closed."
    ),
    SessionStatus.DISABLED: EndingView(
        status=410,
        tone="quiet",
        heading="This payment link is no longer active",
        text="The shop has closed it. Nothing was charged.",
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
) -> EndingView:
    """Return the page of a session that cannot be paid now; without a session, that of an unknown page.

    `just_now` is for the result page: a cancellation that just succeeded is a 200.
    """
    if session is None or order is None:
        return _UNKNOWN
    path, session_id = path_of(session), session.session_id
    if session.is_expired(now) and session.status is not SessionStatus.COMPLETED:
        return evolve(_EXPIRED, path=path, session_id=session_id, onward=_shop(session))
    shown = _ENDINGS[session.status]
    name = _URL_OF_ENDING.get(session.status)
    onward = _shop(session) if name is None else merchant_url(session, name)
    hint = shown.hint
    if name is not None and onward is None:
        names = "error or failure" if name == "error" else name
        hint = f"The session has no {names} URL, so the browser stays on this generic page."
        onward = _shop(session)
    paid = session.status is SessionStatus.COMPLETED
    return evolve(
        shown,
        status=200 if just_now and session.status is SessionStatus.CANCELLED else shown.status,
        onward=onward,
        amount=Amount(order.order_amount, order.currency) if paid else None,
        reference=session.klarna_reference,
        hint=hint,
        path=path,
        session_id=session_id,
    )


def _shop(session: StoredSession) -> str | None:
    """Return a URL of the shop that does not report a payment: its cart, or the first page of its site."""
    urls = session.merchant_urls
    if (cart := session.merchant_url("back") or session.merchant_url("cancel")) is not None:
        return cart
    origin = origin_of(urls.success or urls.failure or urls.error or "")
    return None if origin is None else f"{origin}/"
