"""Requests: what is wrong with one is told at once and by path, and never by value: merchant URLs carry secrets."""

import json
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

from attrs import field, fields_dict, frozen

from kustom_hpp._redaction import describe_shape, mask_model, mask_url, secrets_in_extra, secrets_in_url
from kustom_hpp.models.fields import extra_field, url_field
from kustom_hpp.models.validation import (
    LOOPBACK,
    URL_PATTERN,
    Problems,
    check_enum,
    check_extra,
    check_list,
    check_text,
    check_url,
    warn_extra,
    warn_url,
)

MAX_BODY = 1_000_000
"""Bytes that a request's JSON may have. Source: docs.klarna.com, request limits (1 MB, else 413)."""


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


# attrs takes the type of the constructor's argument from the converter's annotation. What is no list stays what it is, so
# that problems() can name it.
def _images(value: "Sequence[BackgroundImage] | None") -> "tuple[BackgroundImage, ...] | None":
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


def _categories(
    value: Sequence[PaymentMethodCategory] | None,
) -> tuple[PaymentMethodCategory, ...] | None:
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


@frozen(kw_only=True, slots=True)
class MerchantUrls:
    """Where the page sends the consumer, and where the API reports: each optional, each text.

    Build them as text: placeholders go out byte for byte, and a `yarl.URL` or `urlencode` turns `{{session_id}}` into
    `%7B%7Bsession_id%7D%7D`, which is no placeholder any more. `{{session_id}}` works in each URL, `{{order_id}}` for KCO
    orders (and KP sessions that place the order), `{{authorization_token}}` only in `success` of a KP session.

    An empty text is sent as such; None is left out; either way the API shows a generic page. The `repr` masks queries.
    """

    success: str | None = url_field()
    """After the payment was authorised."""
    cancel: str | None = url_field()
    """After the consumer cancelled. Only shown where `back` is not given."""
    back: str | None = url_field()
    """Where the Back button leads; it keeps the session open."""
    failure: str | None = url_field()
    """After a declined payment."""
    error: str | None = url_field()
    """After a technical error; `failure` stands in where it is empty."""
    status_update: str | None = url_field()
    """Where status callbacks are posted. https only (http on loopback is let through for the sandbox)."""
    extra: dict[str, Any] = extra_field()
    """Fields newer than this release, sent as they are."""


@frozen(kw_only=True, slots=True)
class BackgroundImage:
    """One of `options.background_images`."""

    url: str = field(repr=mask_url)
    """https only. Source: docs.klarna.com, HPP customization."""
    width: int | None = None
    """The screen width in pixels that the image suits; the best match is used."""
    extra: dict[str, Any] = extra_field()
    """Fields newer than this release, sent as they are."""


@frozen(kw_only=True, slots=True)
class Options:
    """How the page looks and what it offers; each field optional."""

    background_images: tuple[BackgroundImage, ...] | None = field(default=None, converter=_images, repr=mask_model)
    """Best match by width is used; a list is taken too."""
    logo_url: str | None = url_field()
    """URL of the logo to be displayed."""
    page_title: str | None = None
    """Title of the page and of the browser window; the API's default is "Complete your purchase"."""
    payment_method_categories: tuple[PaymentMethodCategory, ...] | None = field(default=None, converter=_categories)
    """Ignored for KCO orders. Not together with `payment_method_category`."""
    payment_method_category: PaymentMethodCategory | None = None
    """Ignored for KCO orders. Not together with `payment_method_categories`."""
    place_order_mode: PlaceOrderMode | None = None
    purchase_type: PurchaseType | None = None
    show_subtotal_detail: ShowSubtotalDetail | None = None
    extra: dict[str, Any] = extra_field()
    """Fields newer than this release, sent as they are."""


@frozen(kw_only=True, slots=True)
class CreateSessionRequest:
    """The body of POST /hpp/v1/sessions.

    Wire shape: `{"payment_session_url": ..., "profile_id": ..., "merchant_urls": {...}, "options": {...}}`; fields that
    are None are left out.
    """

    payment_session_url: str = field(repr=mask_url)
    """The payment session to host: a KCO order (`{base}/checkout/v3/orders/{id}`, see `HPPClient.order_url`) or, at
    Klarna's time, a KP session (`{base}/payments/v1/sessions/{id}`)."""
    profile_id: str | None = None
    """A profile with default options, made in the merchant portal."""
    merchant_urls: MerchantUrls | None = field(default=None, repr=mask_model)
    options: Options | None = field(default=None, repr=mask_model)
    extra: dict[str, Any] = extra_field()
    """Fields newer than this release, sent as they are."""

    def problems(self) -> tuple[tuple[str, str], ...]:
        """All that the documents forbid, as (JSON path, sentence); empty where the request may be sent.

        The sentences tell the shape of a value and the way out, never the value.
        """
        found: Problems = []
        _check_request(found, self)
        # A body that cannot be written has no size.
        if not found and (size := _wire_size(self)) > MAX_BODY:
            found.append(("$", f"is {size:,} bytes of JSON; the API takes at most {MAX_BODY:,}: shorten its texts"))
        return tuple(found)

    def warnings(self) -> tuple[tuple[str, str], ...]:
        """All that is odd but may be meant, as (JSON path, sentence). Nothing here keeps the request from being sent."""
        found: Problems = []
        _warn_request(found, self)
        return tuple(found)


# --------------------------------------------------------------------------------------------------------- problems
# Written for the path of every request: plain calls that append, one regular expression for each text, paths put
# together only where there is something to say.


def _check_request(found: Problems, request: CreateSessionRequest) -> None:
    check_url(found, "", "payment_session_url", request.payment_session_url, required=True)
    check_text(found, "", "profile_id", request.profile_id)
    urls, options = request.merchant_urls, request.options
    if type(urls) is MerchantUrls:
        _check_merchant_urls(found, urls)
    elif urls is not None:
        found.append(("merchant_urls", f"must be a MerchantUrls, got {describe_shape(urls)}"))
    if type(options) is Options:
        _check_options(found, options)
    elif options is not None:
        found.append(("options", f"must be an Options, got {describe_shape(options)}"))
    if request.extra:
        check_extra(found, "", request.extra, fields_dict(CreateSessionRequest), "CreateSessionRequest")


def _check_merchant_urls(found: Problems, urls: MerchantUrls) -> None:
    at = "merchant_urls."
    check_url(found, at, "success", urls.success)
    check_url(found, at, "cancel", urls.cancel)
    check_url(found, at, "back", urls.back)
    check_url(found, at, "failure", urls.failure)
    check_url(found, at, "error", urls.error)
    check_url(found, at, "status_update", urls.status_update, https="the API posts callbacks over https only")
    if urls.extra:
        check_extra(found, at, urls.extra, fields_dict(MerchantUrls), "MerchantUrls")


def _check_options(found: Problems, options: Options) -> None:
    at = "options."
    if options.background_images is not None:
        check_list(found, "options.background_images", options.background_images, _check_image)
    check_url(found, at, "logo_url", options.logo_url)
    check_text(found, at, "page_title", options.page_title)
    if options.payment_method_categories is not None:
        if options.payment_method_category is not None:
            found.append(("options.payment_method_category", "stands beside payment_method_categories: give only one"))
        check_list(found, "options.payment_method_categories", options.payment_method_categories, _check_category)
    check_enum(found, at, "payment_method_category", options.payment_method_category, PaymentMethodCategory)
    check_enum(found, at, "place_order_mode", options.place_order_mode, PlaceOrderMode)
    check_enum(found, at, "purchase_type", options.purchase_type, PurchaseType)
    check_enum(found, at, "show_subtotal_detail", options.show_subtotal_detail, ShowSubtotalDetail)
    if options.extra:
        check_extra(found, at, options.extra, fields_dict(Options), "Options")


def _check_image(found: Problems, path: str, image: object) -> None:
    if type(image) is not BackgroundImage:
        found.append((path, f"must be a BackgroundImage, got {describe_shape(image)}"))
        return
    check_url(found, f"{path}.", "url", image.url, required=True, https="the page loads images over https only")
    if image.width is not None and (type(image.width) is not int or not 0 <= image.width < 1 << 63):
        found.append((f"{path}.width", f"must be a whole number of pixels, got {describe_shape(image.width)}"))
    if image.extra:
        check_extra(found, f"{path}.", image.extra, fields_dict(BackgroundImage), "BackgroundImage")


def _check_category(found: Problems, path: str, value: object) -> None:
    check_enum(found, "", path, value, PaymentMethodCategory, required=True)


def _wire_size(request: CreateSessionRequest) -> int:
    """Bytes of the request as JSON; measured only where it may pass the limit, else an upper bound."""
    characters, unmeasured = len(request.payment_session_url) + len(request.profile_id or ""), bool(request.extra)
    if urls := request.merchant_urls:
        for url in (urls.success, urls.cancel, urls.back, urls.failure, urls.error, urls.status_update):
            characters += len(url or "")
        unmeasured = unmeasured or bool(urls.extra)
    if options := request.options:
        characters += len(options.logo_url or "") + len(options.page_title or "")
        characters += 30 * len(options.payment_method_categories or ())
        for image in options.background_images or ():
            characters += 30 + len(image.url)
            unmeasured = unmeasured or bool(image.extra)
        unmeasured = unmeasured or bool(options.extra)
    # A character takes at most six bytes ("\u001f"), all names and punctuation together less than 2,000.
    bound = 2_000 + 6 * characters
    if bound <= MAX_BODY and not unmeasured:
        return bound
    return len(json.dumps(_plain(request), ensure_ascii=False, separators=(",", ":")).encode())


def _plain(value: Any) -> Any:
    """The wire shape as plain JSON values, for measuring only: `_codec` writes what is sent."""
    if isinstance(value, (CreateSessionRequest, MerchantUrls, Options, BackgroundImage)):
        shown = {name: getattr(value, name) for name in fields_dict(type(value)) if name != "extra"}
        return {name: _plain(item) for name, item in shown.items() if item is not None} | value.extra
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


# --------------------------------------------------------------------------------------------------------- warnings

_KCO_PATH, _KP_PATH = "/checkout/v3/orders/", "/payments/v1/sessions/"


def _warn_request(found: Problems, request: CreateSessionRequest) -> None:
    session_url = request.payment_session_url if isinstance(request.payment_session_url, str) else ""
    is_kco = _KCO_PATH in session_url
    if (match := re.fullmatch(URL_PATTERN, session_url)) is not None:
        if match[1] == "http" and not re.fullmatch(LOOPBACK, match[2]):
            found.append(("payment_session_url", "is http: the API's own URLs are https"))
        if _KP_PATH in session_url:
            if match[2].endswith("kustom.co"):
                at_kustom = "is a KP session at Kustom, where only KCO orders are known to work"
                found.append(("payment_session_url", at_kustom))
        elif not is_kco:
            found.append(
                ("payment_session_url", f"is neither a KCO order ({_KCO_PATH}…) nor a KP session ({_KP_PATH}…)")
            )
    for path, url in _urls_of(request):
        warn_url(found, path, url, is_kco=is_kco)
    for at, part in _parts_of(request):
        if isinstance(part.extra, dict):
            warn_extra(found, at, part.extra, fields_dict(type(part)))


def _parts_of(request: CreateSessionRequest) -> Iterator[tuple[str, Any]]:
    """All that has fields, with what stands before them in a JSON path."""
    yield "", request
    if isinstance(urls := request.merchant_urls, MerchantUrls):
        yield "merchant_urls.", urls
    if isinstance(options := request.options, Options):
        yield "options.", options
        images = options.background_images
        for index, image in enumerate(images if isinstance(images, tuple) else ()):
            if isinstance(image, BackgroundImage):
                yield f"options.background_images[{index}].", image


def _urls_of(request: CreateSessionRequest) -> Iterator[tuple[str, str]]:
    """Every URL of the request but the payment session's, with its JSON path."""
    for at, part in _parts_of(request):
        for name in _URL_FIELDS.get(type(part), ()):
            if isinstance(url := getattr(part, name), str):
                yield at + name, url


_URL_FIELDS: dict[type, tuple[str, ...]] = {
    MerchantUrls: ("success", "cancel", "back", "failure", "error", "status_update"),
    Options: ("logo_url",),
    BackgroundImage: ("url",),
}


def secrets_in_request(request: CreateSessionRequest) -> Iterator[str]:
    """The parts of a request that must not show up again in an error: queries of its URLs, texts of extra fields."""
    for _, url in (("payment_session_url", request.payment_session_url), *_urls_of(request)):
        if isinstance(url, str):
            yield from secrets_in_url(url)
    for _, part in _parts_of(request):
        yield from secrets_in_extra(part.extra)
