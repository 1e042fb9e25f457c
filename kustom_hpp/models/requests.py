"""The body of a create: what the consumer pays, where the page leads, how it looks.

A new field is one line here, made by a function of `fields`; a new enum is also a name in `__all__`. Then extend the golden
request of the tests.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from kustom_hpp._redaction import mask_model, mask_url
from kustom_hpp.models import fields
from kustom_hpp.models.field_kinds import EnumKind, UrlKind
from kustom_hpp.models.urls import KCO_ORDER_PATH, KP_SESSION_PATH, split_url
from kustom_hpp.models.validation import Problems

__all__ = [
    "BackgroundImage", "CreateSessionRequest", "MerchantUrls", "Options", "PaymentMethodCategory", "PlaceOrderMode",
    "PurchaseType", "ShowSubtotalDetail",
]  # fmt: skip


class PaymentMethodCategory(StrEnum):
    """`options.payment_method_category` and `_categories`; ignored for KCO orders."""

    DIRECT_DEBIT = "DIRECT_DEBIT"
    DIRECT_BANK_TRANSFER = "DIRECT_BANK_TRANSFER"
    PAY_NOW = "PAY_NOW"
    PAY_LATER = "PAY_LATER"
    PAY_OVER_TIME = "PAY_OVER_TIME"
    KLARNA = "KLARNA"


class PlaceOrderMode(StrEnum):
    """`options.place_order_mode`: who places the order of a KP session. The API's default is NONE."""

    PLACE_ORDER = "PLACE_ORDER"
    CAPTURE_ORDER = "CAPTURE_ORDER"
    NONE = "NONE"


class PurchaseType(StrEnum):
    """`options.purchase_type`: the label of the buy button. The API's default is BUY."""

    BUY = "BUY"
    RENT = "RENT"
    BOOK = "BOOK"
    SUBSCRIBE = "SUBSCRIBE"
    DOWNLOAD = "DOWNLOAD"
    ORDER = "ORDER"
    CONTINUE = "CONTINUE"


class ShowSubtotalDetail(StrEnum):
    """`options.show_subtotal_detail`."""

    HIDE = "HIDE"


def _as_tuple(value: Any) -> Any:
    """Return a list as a tuple, and anything else unchanged, so that `problems()` can name it."""
    return tuple(value) if isinstance(value, list) else value


# mypy takes the type of the constructor's argument from the converter's annotation, which cannot be generic.
def _as_images(value: "Sequence[BackgroundImage] | None") -> "tuple[BackgroundImage, ...] | None":
    return _as_tuple(value)  # type: ignore[no-any-return]


def _as_categories(value: Sequence[PaymentMethodCategory] | None) -> tuple[PaymentMethodCategory, ...] | None:
    return _as_tuple(value)  # type: ignore[no-any-return]


class _PaymentSessionUrlKind(UrlKind):
    """The URL of a KCO order or a KP session."""

    def warn(self, warnings: Problems, path: str, value: Any, *, is_kco: bool) -> None:
        """Append what is suspicious about the payment session's URL."""
        if (parts := split_url(value)) is None:
            return
        if parts.is_plain_http:
            warnings.append((path, "is http: the API's own URLs are https"))
        if KP_SESSION_PATH in value:
            if parts.authority.endswith("kustom.co"):
                warnings.append((path, "is a KP session at Kustom, where only KCO orders are known to work"))
        elif not is_kco:
            known = f"a KCO order ({KCO_ORDER_PATH}...) nor a KP session ({KP_SESSION_PATH}...)"
            warnings.append((path, f"is neither {known}"))


@frozen(kw_only=True, slots=True)
class MerchantUrls:
    """Where the page sends the consumer, and where the API reports: each optional, each text.

    Build them as text: the client sends placeholders byte for byte, and a `yarl.URL` or `urlencode` turns `{{session_id}}`
    into `%7B%7Bsession_id%7D%7D`, which is no longer a placeholder. `{{session_id}}` works in each URL, `{{order_id}}` for
    KCO orders (and KP sessions that place the order), `{{authorization_token}}` only in `success` of a KP session. An f-string
    halves braces, so use the constants: `f"https://shop.example/thanks?hpp={hpp.SESSION_ID}"`.

    All but `status_update` may be app links (`myshop://paid`), with a warning: the API does not document them.

    An empty text is sent; None is left out. In both cases the API shows a generic page. The `repr` masks queries.
    """

    success: str | None = fields.url(app_link=True, has_token=True)
    """After the payment was authorised."""
    cancel: str | None = fields.url(app_link=True)
    """After the consumer cancelled. The page offers it only if `back` is not given."""
    back: str | None = fields.url(app_link=True)
    """The target of the Back button; the session stays open."""
    failure: str | None = fields.url(app_link=True)
    """After a declined payment."""
    error: str | None = fields.url(app_link=True)
    """After a technical error; the API uses `failure` if it is empty."""
    status_update: str | None = fields.url(https="the API posts callbacks over https only", private_http=True)
    """Where the API posts status callbacks. https only; http on loopback is for the sandbox.

    http to a private host (a name without a dot, a private address) is for a sandbox in the same network; a client sends it
    only with `insecure_http`."""
    extra: dict[str, Any] = fields.extra()
    """Fields newer than this release, sent unchanged."""


@frozen(kw_only=True, slots=True)
class BackgroundImage:
    """One of `options.background_images`."""

    url: str = field(repr=mask_url, metadata=fields.kind(UrlKind(https="the page loads images over https only")))
    """https only. Source: docs.klarna.com, HPP customization."""
    width: int | None = fields.pixels()
    """The screen width in pixels that the image is for; the page shows the best match."""
    extra: dict[str, Any] = fields.extra()
    """Fields newer than this release, sent unchanged."""


@frozen(kw_only=True, slots=True)
class Options:
    """How the page looks and what it offers; each field optional."""

    background_images: tuple[BackgroundImage, ...] | None = field(
        default=None,
        converter=_as_images,
        repr=mask_model,
        metadata=fields.kind(fields.ItemsKind(fields.ModelKind(BackgroundImage))),
    )
    """The page shows the best match by width. A list or a tuple."""
    logo_url: str | None = fields.url()
    """The logo to show."""
    page_title: str | None = fields.text()
    """Title of the page and of the browser window; the API's default is "Complete your purchase"."""
    payment_method_categories: tuple[PaymentMethodCategory, ...] | None = field(
        default=None,
        converter=_as_categories,
        metadata=fields.kind(fields.ItemsKind(EnumKind(PaymentMethodCategory))),
    )
    """Ignored for KCO orders. Not together with `payment_method_category`."""
    payment_method_category: PaymentMethodCategory | None = fields.enum(
        PaymentMethodCategory, replaces="payment_method_categories"
    )
    """Ignored for KCO orders. Not together with `payment_method_categories`."""
    place_order_mode: PlaceOrderMode | None = fields.enum(PlaceOrderMode)
    purchase_type: PurchaseType | None = fields.enum(PurchaseType)
    show_subtotal_detail: ShowSubtotalDetail | None = fields.enum(ShowSubtotalDetail)
    extra: dict[str, Any] = fields.extra()
    """Fields newer than this release, sent unchanged."""


@frozen(kw_only=True, slots=True)
class CreateSessionRequest:
    """The body of POST /hpp/v1/sessions.

    Wire shape: `{"payment_session_url": ..., "profile_id": ..., "merchant_urls": {...}, "options": {...}}`; fields that
    are None are left out.
    """

    payment_session_url: str = field(repr=mask_url, metadata=fields.kind(_PaymentSessionUrlKind()))
    """The payment session to host: a KCO order (`{base}/checkout/v3/orders/{id}`, see `HPPClient.order_url`) or, at
    Klarna's time, a KP session (`{base}/payments/v1/sessions/{id}`)."""
    profile_id: str | None = fields.text()
    """A profile with default options, from the merchant portal."""
    merchant_urls: MerchantUrls | None = fields.model(MerchantUrls)
    options: Options | None = fields.model(Options)
    extra: dict[str, Any] = fields.extra()
    """Fields newer than this release, sent unchanged."""

    def problems(self) -> tuple[tuple[str, str], ...]:
        """Return everything that the API's documents forbid, as (JSON path, sentence); empty if the request is valid.

        A sentence describes the shape of a value and the remedy. It never contains the value.
        """
        problems: Problems = []
        fields.check_model(problems, "", self)
        if not problems:  # a body that JSON cannot express has no size
            fields.check_size(problems, fields.to_json(self))
        return tuple(problems)

    def warnings(self) -> tuple[tuple[str, str], ...]:
        """Return everything that is legal but suspicious, as (JSON path, sentence). The client sends such a request."""
        warnings: Problems = []
        url = self.payment_session_url
        fields.warn_model(warnings, self, is_kco=isinstance(url, str) and KCO_ORDER_PATH in url)
        return tuple(warnings)


def private_http_problems(request: CreateSessionRequest) -> tuple[tuple[str, str], ...]:
    """Return a problem of an otherwise valid request: http callbacks to a private host, for test networks only."""
    urls = request.merchant_urls
    parts = split_url(urls.status_update) if urls is not None and urls.status_update else None
    if parts is None or not parts.is_plain_http:
        return ()
    remedy = "use https, or in a test network a client with insecure_http=True (a sandbox with --expose)"
    return (("merchant_urls.status_update", f"is http to a private host: {remedy}"),)


def secrets_in_request(request: CreateSessionRequest) -> Iterator[str]:
    """Yield the texts in a request that an error must not show: queries of URLs, and texts of extra fields."""
    return fields.secrets_in_model(request)
