"""What the hosted page shows, as plain frozen values that the templates write down. No I/O.

Where the documents are silent, chosen here:

- A session in any status that is not final is open, and its page offers to pay again.
- Final and expired sessions get a page that says so: 200 for a completed one, with the way to the shop; 410 for one that
  is expired, disabled or cancelled; 404 for a page that was never there.
- Of `background_images` the browser takes the best match by width; one without a width stands in where it cannot. The page
  takes the first twenty.
- The page speaks English; `page_title` and the texts of the order stand as they were given.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Iterator

from attrs import evolve, frozen
from yarl import URL

from kustom_hpp.models import PaymentMethodCategory, PurchaseType, SessionStatus, ShowSubtotalDetail
from kustom_hpp.models.requests import BackgroundImage, Options
from kustom_hpp.sandbox.orders import Order, money, percent
from kustom_hpp.sandbox.pages.security_headers import origin_of
from kustom_hpp.sandbox.stored_session import Action, StoredSession

DEFAULT_TITLE = "Complete your purchase"
"""Source: docs.klarna.com, HPP customization."""
MAX_IMAGES = 20
_MAX_ADDRESS = 120
_SHORT, _LONG = 15, 22
"""Letters of a total in the largest figures, and in the next smaller ones."""
_NO_NAME = r"[\d.]+|.*:.*|.*\.localhost"


@frozen
class LabeledValue:
    """A label and what stands beside it."""

    label: str
    value: str


@frozen(kw_only=True)
class LineView:
    """A line of the order."""

    quantity: str
    name: str
    amount: str


@frozen(kw_only=True)
class Backdrop:
    """The background image: what goes into `src` and `srcset`."""

    src: str
    srcset: str


@frozen(kw_only=True)
class Frame:
    """What stands around every page of a session."""

    title: str
    """Of the page and of the browser's window."""
    shop: str
    logo: str | None = None
    backdrop: Backdrop | None = None
    images: tuple[str, ...] = ()
    """The URLs of all images, for the policy."""


UNKNOWN_PAGE = Frame(title="No such page", shop="Payment")
"""Around a page that belongs to no session."""


@frozen(kw_only=True)
class PageView:
    """The page of an open session."""

    path: str
    """Where the page is; its forms go below."""
    session_id: str
    lines: tuple[LineView, ...]
    subtotals: tuple[LabeledValue, ...]
    """Empty where `show_subtotal_detail` is HIDE."""
    total: str
    total_size: str
    """`long` or `longer` where it needs smaller figures to stand in one line, else empty."""
    button: str
    categories: tuple[LabeledValue, ...]
    """The payment methods to choose from: value and name. Empty for a KCO order, which has a choice of its own."""
    notice: str
    """What became of an earlier attempt; empty where there was none."""
    way_out: Action
    destinations: tuple[LabeledValue, ...]
    """Where each ending leads the browser."""
    open_until: str


@frozen(kw_only=True)
class EndingView:
    """A page that says how things stand: the generic page, or that of a session that is over."""

    status: int
    """Of HTTP."""
    tone: str
    """`good`, `bad` or `quiet`."""
    heading: str
    text: str
    again: str = ""
    """The label of the link back to the payment page; empty where there is no way back."""
    onward: str | None = None
    """A merchant URL to go on to."""
    hint: str = ""
    """Why the sandbox shows this."""
    path: str = ""
    session_id: str = ""


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
_UNKNOWN = EndingView(
    status=404,
    tone="quiet",
    heading="There is no such page",
    text="The link may have been cut off, or the sandbox was started anew since it was made.",
    hint="Sessions live in the sandbox's memory only: create a new one.",
)
_EXPIRED = EndingView(
    status=410,
    tone="quiet",
    heading="This payment link has expired",
    text="Nothing was charged. Go back to the shop to order again.",
    hint="A session ends an hour before its payment session, 47 hours after it was made. A read is answered 404.",
)
_ENDINGS = {
    SessionStatus.COMPLETED: EndingView(
        status=200, tone="good", heading="Payment complete", text="Thank you. The shop has your order."
    ),
    SessionStatus.FAILED: EndingView(
        status=200, tone="bad", heading="Payment declined", text="Nothing was charged.", again="Try again"
    ),
    SessionStatus.ERROR: EndingView(
        status=200,
        tone="bad",
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
        status=410,
        tone="quiet",
        heading="Purchase cancelled",
        text="Nothing was charged. This link is closed for good.",
    ),
    SessionStatus.DISABLED: EndingView(
        status=410,
        tone="quiet",
        heading="This payment link is no longer active",
        text="The shop has closed it. Nothing was charged.",
        hint="The session was disabled through the API, which is for good.",
    ),
}
_URL_OF_ENDING = {
    SessionStatus.COMPLETED: "success",
    SessionStatus.FAILED: "failure",
    SessionStatus.ERROR: "error",
    SessionStatus.BACK: "back",
    SessionStatus.CANCELLED: "cancel",
}


def path_of(session: StoredSession) -> str:
    """Where a session's page is."""
    return f"/eu/hpp/payments/{session.page_id}"


def is_open(session: StoredSession, now: dt.datetime) -> bool:
    """True where there is something to pay."""
    return not session.status.is_final and not session.is_expired(now)


def has_ending(session: StoredSession, now: dt.datetime) -> bool:
    """True where there is something to say beside the page."""
    return session.status in _ENDINGS or session.is_expired(now)


def frame(session: StoredSession, order: Order) -> Frame:
    """What stands around every page of a session."""
    options = session.request.options or Options()
    backdrop = _backdrop(options.background_images or ())
    logo = options.logo_url or None
    if logo is not None and origin_of(logo) is None:
        logo = None  # the policy cannot let it through
    return Frame(
        title=options.page_title or DEFAULT_TITLE,
        shop=order.shop or _host(session) or "Your shop",
        logo=logo,
        backdrop=backdrop[0] if backdrop else None,
        images=(*((logo,) if logo else ()), *(backdrop[1] if backdrop else ())),
    )


def page(session: StoredSession, order: Order) -> PageView:
    """The page of an open session, as it is before it is opened."""
    options = session.request.options or Options()
    hidden = options.show_subtotal_detail is ShowSubtotalDetail.HIDE
    total = money(order.order_amount, order.currency)
    return PageView(
        path=path_of(session),
        session_id=session.session_id,
        lines=tuple(
            LineView(quantity=f"{line.quantity:,}", name=line.name, amount=money(line.total_amount, order.currency))
            for line in order.lines
        ),
        subtotals=() if hidden else tuple(_subtotals(order)),
        total=total,
        total_size="" if len(total) <= _SHORT else "long" if len(total) <= _LONG else "longer",
        button=_BUTTONS[options.purchase_type or PurchaseType.BUY],
        categories=_categories(options) if session.is_kp else (),
        notice=_NOTICES.get(session.status, ""),
        way_out=session.way_out,
        destinations=tuple(_destinations_of(session)),
        open_until=_until(session.expires_at.astimezone(dt.UTC)),
    )


def ending(session: StoredSession | None, now: dt.datetime, *, just_now: bool = False) -> EndingView:
    """How things stand with a session that has nothing to pay now; None for one that was never there.

    `just_now` is for the generic page: cancelling has worked, though the page is gone.
    """
    if session is None:
        return _UNKNOWN
    path, session_id = path_of(session), session.session_id
    if session.is_expired(now) and session.status is not SessionStatus.COMPLETED:
        return evolve(_EXPIRED, path=path, session_id=session_id)
    shown = _ENDINGS[session.status]
    name = _URL_OF_ENDING.get(session.status)
    onward = None
    if name is not None:
        onward = session.filled(name) or (session.filled("failure") if name == "error" else None)
    hint = shown.hint
    if name is not None and onward is None:
        names = "error or failure" if name == "error" else name
        hint = f"The session gives no {names} URL, so the browser stays on this generic page."
    status = 200 if just_now and session.status is SessionStatus.CANCELLED else shown.status
    return evolve(shown, status=status, onward=onward, hint=hint, path=path, session_id=session_id)


def _until(when: dt.datetime) -> str:
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def _subtotals(order: Order) -> Iterator[LabeledValue]:
    yield LabeledValue("Subtotal", money(order.order_amount - order.order_tax_amount, order.currency))
    for rate in sorted({line.tax_rate for line in order.lines}, reverse=True):
        tax = sum(line.total_tax_amount for line in order.lines if line.tax_rate == rate)
        yield LabeledValue(f"VAT {percent(rate)}", money(tax, order.currency))


def _categories(options: Options) -> tuple[LabeledValue, ...]:
    one, several = options.payment_method_category, options.payment_method_categories
    chosen = (one,) if one is not None else several or tuple(_CATEGORIES)
    return tuple(LabeledValue(str(category), _CATEGORIES[category]) for category in dict.fromkeys(chosen))


def _destinations_of(session: StoredSession) -> Iterator[LabeledValue]:
    way_out = ("Back", "back") if session.way_out is Action.BACK else ("Cancel", "cancel")
    for label, name in (("Paid", "success"), way_out, ("Declined", "failure"), ("Error", "error")):
        url = session.filled(name) or (session.filled("failure") if name == "error" else None)
        yield LabeledValue(label, "the generic page" if url is None else _address(url))


def _address(url: str) -> str:
    """A URL for people: host and path. The query may hold a secret."""
    shown = url.partition("://")[2].partition("?")[0].partition("#")[0].rpartition("@")[2]
    return shown if len(shown) <= _MAX_ADDRESS else shown[:_MAX_ADDRESS] + "…"


def _host(session: StoredSession) -> str | None:
    """The host of the first merchant URL that is given, where it is one that people would know."""
    urls = session.merchant_urls
    url = urls.success or urls.back or urls.cancel or urls.failure or urls.error or ""
    with contextlib.suppress(ValueError):
        host = URL(url).host or ""
        if "." in host and not re.fullmatch(_NO_NAME, host):
            return host
    return None


def _backdrop(images: tuple[BackgroundImage, ...]) -> tuple[Backdrop, tuple[str, ...]] | None:
    shown = [image for image in images[:MAX_IMAGES] if origin_of(image.url) is not None]
    if not shown:
        return None
    # In srcset a comma ends a candidate; encoded it is the same address.
    wide = [f"{image.url.replace(',', '%2C')} {image.width}w" for image in shown if image.width]
    plain = next((image.url for image in shown if not image.width), shown[0].url)
    return Backdrop(src=plain, srcset=", ".join(wide)), tuple(image.url for image in shown)
