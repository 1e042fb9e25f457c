"""The values of the payment page's templates. No I/O.

Where the documents are silent, chosen here:

- A session is open in every status that is not final; its page offers another attempt.
- The browser picks the background image by width; one without a width is the fallback. The page uses the first twenty.
- The page speaks English; `page_title` and the texts of the order are shown as given.
- A final or expired session gets a page that says so, with 200 if it is completed and 410 if it is expired, disabled or
  cancelled; a page that never existed is a 404. Each links back to the shop if a merchant URL shows where that is.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from yarl import URL

from kustom_hpp.models import PaymentMethodCategory, PurchaseType, SessionStatus, ShowSubtotalDetail
from kustom_hpp.models.requests import Options
from kustom_hpp.sandbox.pages.security_headers import origin_of
from kustom_hpp.sandbox.sample_orders import Order, money, percent
from kustom_hpp.sandbox.stored_session import Action, StoredSession

DEFAULT_TITLE = "Complete your purchase"
"""Source: docs.klarna.com, HPP customization."""
MAX_IMAGES = 20
_MAX_ADDRESS = 120
_SHORT_TOTAL, _LONG_TOTAL = 15, 22
"""Characters of a total that fit in the largest font size, and in the next smaller one."""
_NOT_A_DOMAIN = r"[\d.]+|.*:.*|.*\.localhost"
_CATEGORIES = {
    PaymentMethodCategory.PAY_NOW: "Pay now",
    PaymentMethodCategory.PAY_LATER: "Pay later",
    PaymentMethodCategory.PAY_OVER_TIME: "Pay over time",
    PaymentMethodCategory.DIRECT_DEBIT: "Direct debit",
    PaymentMethodCategory.DIRECT_BANK_TRANSFER: "Bank transfer",
    PaymentMethodCategory.KLARNA: "Klarna",
}
_ENDINGS = MappingProxyType(
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


def frame(session: StoredSession | None, order: Order | None) -> dict[str, Any]:
    """Return what surrounds every page; `images` has the URLs for the policy."""
    if session is None or order is None:
        return {"title": "No such page", "shop": "Payment", "logo": None, "background": None, "images": []}
    options = session.options
    logo = options.logo_url if origin_of(options.logo_url or "") else None  # the policy must be able to allow it
    images = [image for image in (options.background_images or ())[:MAX_IMAGES] if origin_of(image.url)]
    return {
        "title": options.page_title or DEFAULT_TITLE,
        "shop": order.shop or _domain(session) or "Your shop",
        "logo": logo,
        "background": next((image.url for image in images if not image.width), images[0].url) if images else None,
        # A comma would end a candidate of srcset; percent-encoded it names the same resource.
        "srcset": ", ".join(f"{image.url.replace(',', '%2C')} {image.width}w" for image in images if image.width),
        "images": [url for url in (logo, *(image.url for image in images)) if url],
    }


def page(session: StoredSession, order: Order, *, is_sample: bool) -> dict[str, Any]:
    """Return the page of an open session, as it is before it is opened."""
    options = session.options
    length = len(money(order.order_amount, order.currency))
    expires = session.expires_at
    return {
        "path": session.page_url(""),
        "session_id": session.session_id,
        "order": order,
        "is_sample": is_sample,
        "subtotals": [] if options.show_subtotal_detail is ShowSubtotalDetail.HIDE else list(_subtotals(order)),
        "total_size": "" if length <= _SHORT_TOTAL else "long" if length <= _LONG_TOTAL else "longer",
        "button": str(options.purchase_type or PurchaseType.BUY).capitalize(),
        # A KCO order has none here: its checkout has its own choice.
        "categories": _categories(options) if session.is_kp else {},
        "status": session.status,
        "secondary_action": session.secondary_action,
        "destinations": dict(_destinations(session)),
        "open_until": f"{expires.day} {expires:%B %Y, %H:%M} UTC",
    }


def has_ending(session: StoredSession, now: dt.datetime) -> bool:
    """Return True if the session has a result to show."""
    return session.status in _ENDINGS or session.is_expired(now)


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
    name = "" if is_expired else _ENDINGS[session.status]
    onward = session.merchant_url(name) if name else None
    return {
        "kind": "EXPIRED" if is_expired else str(session.status),
        "http_status": 410 if is_closed and not is_cancelled_now else 200,
        "missing_url": "" if onward else name,
        "paid": order if is_completed else None,
        "reference": None if is_expired else session.klarna_reference,
        "onward": onward or _shop_url(session),
        "path": session.page_url(""),
        "session_id": session.session_id,
    }


def _shop_url(session: StoredSession) -> str | None:
    """Return the shop's cart, or the first page of its site."""
    urls = session.merchant_urls
    if (cart := session.merchant_url("back") or session.merchant_url("cancel")) is not None:
        return cart
    origin = origin_of(urls.success or urls.failure or urls.error or "")
    return None if origin is None else f"{origin}/"


def _subtotals(order: Order) -> Iterator[tuple[str, int]]:
    yield "Subtotal", order.order_amount - order.order_tax_amount
    for rate in sorted({line.tax_rate for line in order.lines}, reverse=True):
        yield f"VAT {percent(rate)}", sum(line.total_tax_amount for line in order.lines if line.tax_rate == rate)


def _categories(options: Options) -> dict[str, str]:
    """Return the payment methods to choose from: value and label."""
    one, several = options.payment_method_category, options.payment_method_categories
    chosen = (one,) if one is not None else several or tuple(_CATEGORIES)
    return {str(category): _CATEGORIES[category] for category in chosen}


def _destinations(session: StoredSession) -> Iterator[tuple[str, str]]:
    """Yield the label of each ending, and where it sends the browser."""
    secondary_action = ("Back", "back") if session.secondary_action is Action.BACK else ("Cancel", "cancel")
    for label, name in (("Paid", "success"), secondary_action, ("Declined", "failure"), ("Error", "error")):
        url = session.merchant_url(name)
        yield label, "the generic page" if url is None else _address(url)


def _address(url: str) -> str:
    """Return host and path of a URL. The query may hold a secret."""
    shown = url.partition("://")[2].partition("?")[0].partition("#")[0].rpartition("@")[2]
    return shown if len(shown) <= _MAX_ADDRESS else shown[:_MAX_ADDRESS] + "…"


def _domain(session: StoredSession) -> str | None:
    """Return the domain of the first merchant URL, if people know it."""
    urls = session.merchant_urls
    url = urls.success or urls.back or urls.cancel or urls.failure or urls.error or ""
    with contextlib.suppress(ValueError):
        host = URL(url).host or ""
        if "." in host and not re.fullmatch(_NOT_A_DOMAIN, host):
            return host
    return None
