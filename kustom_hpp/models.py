"""Requests and answers as the API reference spells them: frozen values, no I/O, no codec.

Source: docs.kustom.co, "Create an HPP session" (API version 1.1) for every field and enum, unless a line says otherwise.

A request tells what is wrong with it (`problems()`: all of it at once, each with its JSON path) and what is odd but may be
meant (`warnings()`). Neither ever shows a value: merchant URLs carry secrets. An answer is tolerant: fields newer than
this release are in `extra`, enum values newer than this release stay text.
"""

import datetime as dt
import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from attrs import field, fields_dict, frozen

from yarl import URL

from kustom_hpp.wire import CallInfo

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


def mask_url(url: object) -> str:
    """A URL for people's eyes: user info, query and fragment masked, as they may carry secrets."""
    if not isinstance(url, str):
        return repr(url) if url is None else f"<{type(url).__name__}>"
    shown, mark, _ = url.partition("?")
    shown, hash_mark, _ = shown.partition("#")
    scheme, slashes, rest = shown.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = "***@" + authority.rpartition("@")[2]
    shown = scheme + slashes + authority + slash + path
    return repr(shown + ("?***" if mark else "") + ("#***" if hash_mark else ""))


def _mask(value: object) -> str:
    return "None" if value is None else "'***'"


def _mask_extra(extra: object) -> str:
    """The names of the extra fields; their values may be anything, secrets too."""
    return "{" + ", ".join(f"{key!r}: ..." for key in extra) + "}" if isinstance(extra, dict) else _shape(extra)


def _shape(value: object) -> str:
    """What a value looks like, for an error text: never the value itself."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, int):
        return f"a number of {len(str(abs(value))) if abs(value) < 10**18 else 'many'} digits"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return f"an object of {len(value)} fields"
    return f"a {type(value).__name__}"


def _copied(value: Any) -> Any:
    """`extra` belongs to the value alone: a plain dict (it pickles, copies and compares), copied at the border."""
    return dict(value) if isinstance(value, Mapping) else value


def _extra() -> Any:
    return field(factory=dict, converter=_copied, repr=_mask_extra, hash=False)


# attrs takes the type of the constructor's argument from the converter's annotation. What is no list stays what it is, so
# that problems() can name it.
def _images(value: "Sequence[BackgroundImage] | None") -> "tuple[BackgroundImage, ...] | None":
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


def _categories(
    value: Sequence[PaymentMethodCategory] | None,
) -> tuple[PaymentMethodCategory, ...] | None:
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


def _url_field() -> Any:
    return field(default=None, repr=mask_url)


@frozen(kw_only=True, slots=True)
class MerchantUrls:
    """Where the page sends the consumer, and where the API reports: each optional, each text.

    Build them as text: placeholders go out byte for byte, and a `yarl.URL` or `urlencode` turns `{{session_id}}` into
    `%7B%7Bsession_id%7D%7D`, which is no placeholder any more. `{{session_id}}` works in each URL, `{{order_id}}` for KCO
    orders (and KP sessions that place the order), `{{authorization_token}}` only in `success` of a KP session.

    An empty text is sent as such; None is left out; either way the API shows a generic page. The `repr` masks queries.
    """

    success: str | None = _url_field()
    """After the payment was authorised."""
    cancel: str | None = _url_field()
    """After the consumer cancelled. Only shown where `back` is not given."""
    back: str | None = _url_field()
    """Where the Back button leads; it keeps the session open."""
    failure: str | None = _url_field()
    """After a declined payment."""
    error: str | None = _url_field()
    """After a technical error; `failure` stands in where it is empty."""
    status_update: str | None = _url_field()
    """Where status callbacks are posted. https only (http on loopback is let through for the sandbox)."""
    extra: dict[str, Any] = _extra()
    """Fields newer than this release, sent as they are."""


@frozen(kw_only=True, slots=True)
class BackgroundImage:
    """One of `options.background_images`."""

    url: str = field(repr=mask_url)
    """https only. Source: docs.klarna.com, HPP customization."""
    width: int | None = None
    """The screen width in pixels that the image suits; the best match is used."""
    extra: dict[str, Any] = _extra()
    """Fields newer than this release, sent as they are."""


@frozen(kw_only=True, slots=True)
class Options:
    """How the page looks and what it offers; each field optional."""

    background_images: tuple[BackgroundImage, ...] | None = field(default=None, converter=_images)
    """Best match by width is used; a list is taken too."""
    logo_url: str | None = _url_field()
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
    extra: dict[str, Any] = _extra()
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
    merchant_urls: MerchantUrls | None = None
    options: Options | None = None
    extra: dict[str, Any] = _extra()
    """Fields newer than this release, sent as they are."""

    def problems(self) -> tuple[tuple[str, str], ...]:
        """All that the documents forbid, as (JSON path, sentence); empty where the request may be sent.

        The sentences tell the shape of a value and the way out, never the value.
        """
        found: _Found = []
        _check_request(found, self)
        # A body that cannot be written has no size.
        if not found and (size := _wire_size(self)) > MAX_BODY:
            found.append(("$", f"is {size:,} bytes of JSON; the API takes at most {MAX_BODY:,}: shorten its texts"))
        return tuple(found)

    def warnings(self) -> tuple[tuple[str, str], ...]:
        """All that is odd but may be meant, as (JSON path, sentence). Nothing here keeps the request from being sent."""
        found: _Found = []
        _warn_request(found, self)
        return tuple(found)


# ---------------------------------------------------------------------------------------------------------- answers


@frozen(kw_only=True, slots=True)
class DistributionModule:
    """`distribution_module` of a session: a link for in-store use."""

    token: str | None = field(default=None, repr=_mask)
    standalone_url: str | None = _url_field()
    """A public page; contains `{{profile_id}}` and `{{view_id}}` for the caller to fill."""
    generation_url: str | None = _url_field()
    extra: dict[str, Any] = _extra()
    """Fields newer than this release, and known fields that came with another JSON type."""


@frozen(kw_only=True, slots=True)
class Session:
    """A created HPP session: the answer to POST /hpp/v1/sessions.

    Keep `session_id` beside your order: there is no way to look a session up by order. Follow the returned URLs, do not
    rebuild them: their structure may change.
    """

    session_id: str
    redirect_url: str = field(repr=mask_url)
    """The page to send the consumer to."""
    session_url: str | None = _url_field()
    """API URL of the session (needs credentials)."""
    distribution_url: str | None = _url_field()
    """API URL to send the link by e-mail or SMS (needs credentials)."""
    qr_code_url: str | None = _url_field()
    """Public URL of a QR code image of the page."""
    manual_identification_check_url: str | None = _url_field()
    expires_at: dt.datetime | None = None
    """When the session ends (aware). A KCO order lives 48 hours, its HPP session one hour less."""
    distribution_module: DistributionModule | None = None
    extra: dict[str, Any] = _extra()
    """Fields newer than this release, and known fields that came with another JSON type."""
    info: CallInfo = field(factory=CallInfo, eq=False)
    """How the call went; not part of the wire shape and not compared."""

    @property
    def payment_page(self) -> str:
        """The page to send the consumer to: `redirect_url` under the name that says what it is for."""
        return self.redirect_url


# --------------------------------------------------------------------------------------------------------- problems
# Written for the path of every request: plain calls that append, one regular expression for each text, paths put
# together only where there is something to say.

_Found = list[tuple[str, str]]

# An authority, then anything but blanks, control characters and what a URL may not hold raw. Braces are wanted:
# placeholders have them. The classes are plain ASCII, which is what makes them quick; _NOT_IN_URL looks at the rest.
_URL = re.compile(r"(https?)://([^/?#\x00-\x20\x7f\"<>\\^`{}]+)([/?#][^\x00-\x20\x7f\"<>\\^`]*)?")
_NOT_IN_URL = re.compile(r"[\s\u0080-\u009f\ud800-\udfff]")
_ENCODED_BRACES = re.compile(r"%7[bB](?:%7[bB]|\{)|\{%7[bB]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LOOPBACK = re.compile(r"(?:[^@]*@)?(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(?::\d+)?")
_ENUMS: dict[type[StrEnum], frozenset[str]] = {
    kind: frozenset(kind) for kind in (PaymentMethodCategory, PlaceOrderMode, PurchaseType, ShowSubtotalDetail)
}


def _check_request(found: _Found, request: CreateSessionRequest) -> None:
    _check_url(found, "", "payment_session_url", request.payment_session_url, required=True)
    _check_text(found, "", "profile_id", request.profile_id)
    urls, options = request.merchant_urls, request.options
    if type(urls) is MerchantUrls:
        _check_merchant_urls(found, urls)
    elif urls is not None:
        found.append(("merchant_urls", f"must be a MerchantUrls, got {_shape(urls)}"))
    if type(options) is Options:
        _check_options(found, options)
    elif options is not None:
        found.append(("options", f"must be an Options, got {_shape(options)}"))
    if request.extra:
        _check_extra(found, "", request.extra, CreateSessionRequest)


def _check_merchant_urls(found: _Found, urls: MerchantUrls) -> None:
    at = "merchant_urls."
    _check_url(found, at, "success", urls.success)
    _check_url(found, at, "cancel", urls.cancel)
    _check_url(found, at, "back", urls.back)
    _check_url(found, at, "failure", urls.failure)
    _check_url(found, at, "error", urls.error)
    _check_url(found, at, "status_update", urls.status_update, https="the API posts callbacks over https only")
    if urls.extra:
        _check_extra(found, at, urls.extra, MerchantUrls)


def _check_options(found: _Found, options: Options) -> None:
    at = "options."
    if options.background_images is not None:
        _check_list(found, "options.background_images", options.background_images, _check_image)
    _check_url(found, at, "logo_url", options.logo_url)
    _check_text(found, at, "page_title", options.page_title)
    if options.payment_method_categories is not None:
        if options.payment_method_category is not None:
            found.append(("options.payment_method_category", "stands beside payment_method_categories: give only one"))
        _check_list(found, "options.payment_method_categories", options.payment_method_categories, _check_category)
    _check_enum(found, at, "payment_method_category", options.payment_method_category, PaymentMethodCategory)
    _check_enum(found, at, "place_order_mode", options.place_order_mode, PlaceOrderMode)
    _check_enum(found, at, "purchase_type", options.purchase_type, PurchaseType)
    _check_enum(found, at, "show_subtotal_detail", options.show_subtotal_detail, ShowSubtotalDetail)
    if options.extra:
        _check_extra(found, at, options.extra, Options)


def _check_image(found: _Found, path: str, image: object) -> None:
    if type(image) is not BackgroundImage:
        found.append((path, f"must be a BackgroundImage, got {_shape(image)}"))
        return
    _check_url(found, f"{path}.", "url", image.url, required=True, https="the page loads images over https only")
    if image.width is not None and (type(image.width) is not int or not 0 <= image.width < 1 << 63):
        found.append((f"{path}.width", f"must be a whole number of pixels, got {_shape(image.width)}"))
    if image.extra:
        _check_extra(found, f"{path}.", image.extra, BackgroundImage)


def _check_category(found: _Found, path: str, value: object) -> None:
    _check_enum(found, "", path, value, PaymentMethodCategory, required=True)


def _check_list(found: _Found, path: str, value: object, check: Callable[[_Found, str, object], None]) -> None:
    if not isinstance(value, tuple):
        found.append((path, f"must be a list or tuple, got {_shape(value)}"))
        return
    for index, item in enumerate(value):
        check(found, f"{path}[{index}]", item)


def _check_url(found: _Found, at: str, name: str, value: object, *, required: bool = False, https: str = "") -> None:
    if not value and value is not False and value != 0:
        # "" means "show a generic page" where a URL may be left out.
        if not required and (value is None or value == ""):
            return
        found.append((at + name, f"is required, got {_shape(value)}"))
    elif not isinstance(value, str):
        way_out = ": build it as text, so that placeholders stay as they are" if isinstance(value, URL) else ""
        found.append((at + name, f"must be text, got {_shape(value)}{way_out}"))
    elif "%7" in value and _ENCODED_BRACES.search(value):
        found.append((at + name, "has percent-encoded braces (%7B%7B), which are no placeholder: build it as text"))
    elif (match := _URL.fullmatch(value)) is None or not (value.isascii() or _NOT_IN_URL.search(value) is None):
        found.append((at + name, f"must be an absolute http(s) URL without blanks, got {_shape(value)}"))
    elif https and match[1] == "http" and not _LOOPBACK.fullmatch(match[2]):
        found.append((at + name, f"must be https: {https} (http is for loopback)"))


def _check_text(found: _Found, at: str, name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        found.append((at + name, f"must be text, got {_shape(value)}"))
    elif not value.isascii() and _SURROGATE.search(value):
        found.append((at + name, "has half a surrogate pair, which is no character"))


def _check_enum(
    found: _Found, at: str, name: str, value: object, kind: type[StrEnum], *, required: bool = False
) -> None:
    if value is None and not required:
        return
    allowed = _ENUMS[kind]
    if not isinstance(value, str):
        found.append((at + name, f"must be one of {', '.join(kind)}, got {_shape(value)}"))
    elif value not in allowed:
        hint = f"; did you mean {value.upper()}?" if value.upper() in allowed else ""
        found.append((at + name, f"must be one of {', '.join(kind)}, got {_shape(value)}{hint}"))


def _check_extra(found: _Found, at: str, extra: object, kind: type) -> None:
    if not isinstance(extra, dict):
        found.append((f"{at}extra", f"must be a dict of field names to JSON values, got {_shape(extra)}"))
        return
    for key, value in extra.items():
        if not isinstance(key, str):
            found.append((f"{at}extra", f"has a field name that is no text: {_shape(key)}"))
        elif key in fields_dict(kind):
            found.append((f"{at}extra.{key}", f"is a field of this release: give it as {kind.__name__}({key}=...)"))
        else:
            _check_json(found, f"{at}extra.{key}", value, 0)


_DEEPEST = 32
"""Levels of nesting that an extra field may have: far more than any field of this API, far less than a parser's end."""


def _check_json(found: _Found, path: str, value: object, depth: int) -> None:
    """An extra field must be plain JSON: what we write has to be what was meant, whichever JSON library writes it."""
    if depth > _DEEPEST:
        found.append((path, f"is nested deeper than {_DEEPEST} levels"))
    elif isinstance(value, str):
        _check_text(found, "", path, value)
    elif type(value) is dict:
        for key, item in value.items():
            if isinstance(key, str) and not _SURROGATE.search(key):
                _check_json(found, f"{path}.{key}", item, depth + 1)
            else:
                found.append((path, f"has a field name that is no text: {_shape(key)}"))
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):  # type: ignore[arg-type,var-annotated]
            _check_json(found, f"{path}[{index}]", item, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        found.append((path, "is not a finite number, which JSON cannot say"))
    elif type(value) is int and not -(1 << 63) <= value < 1 << 64:
        found.append((path, "is a whole number of more than 64 bits: send it as text"))
    elif value is not None and type(value) not in (bool, int, float):
        found.append((path, f"must be a JSON value, got {_shape(value)}"))


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

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}")
_KNOWN_PLACEHOLDERS = frozenset({"session_id", "order_id", "authorization_token"})
_KCO_PATH, _KP_PATH = "/checkout/v3/orders/", "/payments/v1/sessions/"
_PLACEHOLDER_TEXT = {"sid": "'sid' is the name of a query parameter in the documents' examples; "}


def _warn_request(found: _Found, request: CreateSessionRequest) -> None:
    session_url = request.payment_session_url if isinstance(request.payment_session_url, str) else ""
    is_kco = _KCO_PATH in session_url
    if (match := _URL.fullmatch(session_url)) is not None:
        if match[1] == "http" and not _LOOPBACK.fullmatch(match[2]):
            found.append(("payment_session_url", "is http: the API's own URLs are https"))
        if _KP_PATH in session_url:
            if match[2].endswith("kustom.co"):
                found.append(("payment_session_url", "is a KP session at Kustom, where only KCO orders are known to work"))
        elif not is_kco:
            found.append(("payment_session_url", f"is neither a KCO order ({_KCO_PATH}…) nor a KP session ({_KP_PATH}…)"))
    for path, url in _urls_of(request):
        _warn_url(found, path, url, is_kco=is_kco)
    for at, part in (("", request), ("merchant_urls.", request.merchant_urls), ("options.", request.options)):
        if isinstance(part, (CreateSessionRequest, MerchantUrls, Options)) and isinstance(part.extra, dict):
            for key in part.extra:
                close = difflib.get_close_matches(str(key), fields_dict(type(part)), n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                found.append((f"{at}{key}", f"is not a field that this release knows, and is sent as it is{hint}"))


def _warn_url(found: _Found, path: str, url: str, *, is_kco: bool) -> None:
    match = _URL.fullmatch(url)
    if match is not None and match[1] == "http" and not _LOOPBACK.fullmatch(match[2]):
        found.append((path, "is http: consumers and browsers expect https"))
    for name in _PLACEHOLDER.findall(url):
        if name not in _KNOWN_PLACEHOLDERS:
            why = _PLACEHOLDER_TEXT.get(name, "")
            found.append((path, f"has a placeholder that the API does not document: {why}known are {{{{session_id}}}}, "
                                "{{order_id}} and {{authorization_token}}"))
        elif name == "authorization_token" and (is_kco or path != "merchant_urls.success"):
            found.append((path, "has {{authorization_token}}, which is filled in only in success and only for KP sessions"))


def _urls_of(request: CreateSessionRequest) -> Iterator[tuple[str, str]]:
    """Every URL of the request but the payment session's, with its JSON path."""
    if isinstance(urls := request.merchant_urls, MerchantUrls):
        for name in ("success", "cancel", "back", "failure", "error", "status_update"):
            if isinstance(url := getattr(urls, name), str):
                yield f"merchant_urls.{name}", url
    if isinstance(options := request.options, Options):
        if isinstance(options.logo_url, str):
            yield "options.logo_url", options.logo_url
        if isinstance(options.background_images, tuple):
            for index, image in enumerate(options.background_images):
                if isinstance(image, BackgroundImage) and isinstance(image.url, str):
                    yield f"options.background_images[{index}].url", image.url


def secrets_of(request: CreateSessionRequest) -> Iterator[str]:
    """The parts of a request that must not show up again in an error: queries of its URLs."""
    for _, url in (("payment_session_url", request.payment_session_url), *_urls_of(request)):
        query = url.partition("?")[2] if isinstance(url, str) else ""
        if query:
            yield query
            for pair in query.partition("#")[0].split("&"):
                value = pair.partition("=")[2]
                if len(value) >= _SECRET_LENGTH and not _PLACEHOLDER.fullmatch(value):
                    yield value


_SECRET_LENGTH = 8
"""Shorter values of a query are no secrets; hiding them would make error texts unreadable."""
