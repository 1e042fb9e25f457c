"""The contents of the payment page, as frozen values for the templates. No I/O.

Where the documents are silent, chosen here:

- A session is open in every status that is not final; its page offers another attempt.
- The browser picks the background image by width; one without a width is the fallback. The page uses the first twenty.
- The page speaks English; `page_title` and the texts of the order are shown as given.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Iterator

from attrs import frozen
from yarl import URL

from kustom_hpp.models import PaymentMethodCategory, PurchaseType, SessionStatus, ShowSubtotalDetail
from kustom_hpp.models.requests import BackgroundImage, Options
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


@frozen
class LabeledValue:
    """A label and its text."""

    label: str
    value: str


@frozen
class Amount:
    """Money in minor units: the page's script writes it in the browser's language."""

    minor: int
    currency: str

    def __str__(self) -> str:
        return money(self.minor, self.currency)


@frozen
class LabeledAmount:
    """A label and an amount."""

    label: str
    amount: Amount


@frozen(kw_only=True)
class LineView:
    """A line of the order."""

    quantity: str
    name: str
    amount: Amount


@frozen(kw_only=True)
class Backdrop:
    """The background image: `src` and `srcset` of its element."""

    src: str
    srcset: str


@frozen(kw_only=True)
class Frame:
    """What surrounds every page of a session."""

    title: str
    """Title of the page and of the browser's window."""
    shop: str
    logo: str | None = None
    backdrop: Backdrop | None = None
    images: tuple[str, ...] = ()
    """URLs of all images, for the policy."""


UNKNOWN_PAGE = Frame(title="No such page", shop="Payment")
"""The frame of a page without a session."""


@frozen(kw_only=True)
class PageView:
    """The page of an open session."""

    path: str
    """Path of the page; its forms post below it."""
    session_id: str
    is_sample: bool
    """True if the sandbox made up the order of this payment session."""
    lines: tuple[LineView, ...]
    subtotals: tuple[LabeledAmount, ...]
    """Empty if `show_subtotal_detail` is HIDE."""
    total: Amount
    total_size: str
    """`long` or `longer` if it needs a smaller font to fit in one line, else empty."""
    button: str
    categories: tuple[LabeledValue, ...]
    """The payment methods to choose from: value and name. Empty for a KCO order, whose checkout has its own choice."""
    notice: str
    """The result of an earlier attempt; empty without one."""
    secondary_action: Action
    destinations: tuple[LabeledValue, ...]
    """Where each ending sends the browser."""
    open_until: str


_BUTTONS = {
    PurchaseType.BUY: "Buy",
    PurchaseType.RENT: "Rent",
    PurchaseType.BOOK: "Book",
    PurchaseType.SUBSCRIBE: "Subscribe",
    PurchaseType.DOWNLOAD: "Download",
    PurchaseType.ORDER: "Order",
    PurchaseType.CONTINUE: "Continue",
}
_CATEGORIES = {
    PaymentMethodCategory.PAY_NOW: "Pay now",
    PaymentMethodCategory.PAY_LATER: "Pay later",
    PaymentMethodCategory.PAY_OVER_TIME: "Pay over time",
    PaymentMethodCategory.DIRECT_DEBIT: "Direct debit",
    PaymentMethodCategory.DIRECT_BANK_TRANSFER: "Bank transfer",
    PaymentMethodCategory.KLARNA: "Klarna",
}
_NOTICES = {
    SessionStatus.FAILED: "The payment was declined. You can try again.",
    SessionStatus.ERROR: "Something went wrong with the payment. You can try again.",
    SessionStatus.MANUAL_ID_CHECK: "The store is checking your identity.",
}


def path_of(session: StoredSession) -> str:
    """Return the path of a session's page."""
    return f"/eu/hpp/payments/{session.page_id}"


def is_open(session: StoredSession, now: dt.datetime) -> bool:
    """Return True if the session can still be paid."""
    return not session.status.is_final and not session.is_expired(now)


def frame(session: StoredSession, order: Order) -> Frame:
    """Return what surrounds every page of a session."""
    options = session.request.options or Options()
    backdrop = _backdrop(options.background_images or ())
    logo = options.logo_url or None
    if logo is not None and origin_of(logo) is None:
        logo = None  # the policy cannot allow it
    return Frame(
        title=options.page_title or DEFAULT_TITLE,
        shop=order.shop or _domain(session) or "Your shop",
        logo=logo,
        backdrop=backdrop[0] if backdrop else None,
        images=(*((logo,) if logo else ()), *(backdrop[1] if backdrop else ())),
    )


def page(session: StoredSession, order: Order, *, is_sample: bool) -> PageView:
    """Return the page of an open session, as it is before it is opened."""
    options = session.request.options or Options()
    hidden = options.show_subtotal_detail is ShowSubtotalDetail.HIDE
    total = Amount(order.order_amount, order.currency)
    length = len(str(total))
    return PageView(
        path=path_of(session),
        session_id=session.session_id,
        is_sample=is_sample,
        lines=tuple(
            LineView(quantity=f"{line.quantity:,}", name=line.name, amount=Amount(line.total_amount, order.currency))
            for line in order.lines
        ),
        subtotals=() if hidden else tuple(_subtotals(order)),
        total=total,
        total_size="" if length <= _SHORT_TOTAL else "long" if length <= _LONG_TOTAL else "longer",
        button=_BUTTONS[options.purchase_type or PurchaseType.BUY],
        categories=_categories(options) if session.is_kp else (),
        notice=_NOTICES.get(session.status, ""),
        secondary_action=session.secondary_action,
        destinations=tuple(_destinations_of(session)),
        open_until=_until(session.expires_at.astimezone(dt.UTC)),
    )


def _until(when: dt.datetime) -> str:
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def _subtotals(order: Order) -> Iterator[LabeledAmount]:
    yield LabeledAmount("Subtotal", Amount(order.order_amount - order.order_tax_amount, order.currency))
    for rate in sorted({line.tax_rate for line in order.lines}, reverse=True):
        tax = sum(line.total_tax_amount for line in order.lines if line.tax_rate == rate)
        yield LabeledAmount(f"VAT {percent(rate)}", Amount(tax, order.currency))


def _categories(options: Options) -> tuple[LabeledValue, ...]:
    one, several = options.payment_method_category, options.payment_method_categories
    chosen = (one,) if one is not None else several or tuple(_CATEGORIES)
    return tuple(LabeledValue(str(category), _CATEGORIES[category]) for category in dict.fromkeys(chosen))


def merchant_url(session: StoredSession, name: str) -> str | None:
    """Return the merchant URL of an ending; an error without its own URL is a failure."""
    return session.merchant_url(name) or (session.merchant_url("failure") if name == "error" else None)


def _destinations_of(session: StoredSession) -> Iterator[LabeledValue]:
    secondary_action = ("Back", "back") if session.secondary_action is Action.BACK else ("Cancel", "cancel")
    for label, name in (("Paid", "success"), secondary_action, ("Declined", "failure"), ("Error", "error")):
        url = merchant_url(session, name)
        yield LabeledValue(label, "the generic page" if url is None else _address(url))


def _address(url: str) -> str:
    """Return host and path of a URL. The query may hold a secret."""
    shown = url.partition("://")[2].partition("?")[0].partition("#")[0].rpartition("@")[2]
    return shown if len(shown) <= _MAX_ADDRESS else shown[:_MAX_ADDRESS] + "…"


def _domain(session: StoredSession) -> str | None:
    """Return the domain of the first merchant URL, if it has one that people know."""
    urls = session.merchant_urls
    url = urls.success or urls.back or urls.cancel or urls.failure or urls.error or ""
    with contextlib.suppress(ValueError):
        host = URL(url).host or ""
        if "." in host and not re.fullmatch(_NOT_A_DOMAIN, host):
            return host
    return None


def _backdrop(images: tuple[BackgroundImage, ...]) -> tuple[Backdrop, tuple[str, ...]] | None:
    shown = [image for image in images[:MAX_IMAGES] if origin_of(image.url) is not None]
    if not shown:
        return None
    # A comma would end a candidate of srcset; percent-encoded it names the same resource.
    wide = [f"{image.url.replace(',', '%2C')} {image.width}w" for image in shown if image.width]
    plain = next((image.url for image in shown if not image.width), shown[0].url)
    return Backdrop(src=plain, srcset=", ".join(wide)), tuple(image.url for image in shown)
