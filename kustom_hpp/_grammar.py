"""The grammar of a request's JSON that is good beyond doubt, as one regular expression.

`CreateSessionRequest.problems()` looks at one field after the other, in Python. That is the thorough way, and the one that
says what is wrong; for the path of every request it is too slow. So the bytes that are about to be sent are matched once,
in C: what matches has no problems, and whatever does not match gets the thorough look, which may well find it good (an
extra field, a URL in letters beyond ASCII, http on loopback). The test of this file holds the two against each other.
"""

import re
from collections.abc import Iterable

from kustom_hpp.models import MAX_BODY, PaymentMethodCategory, PlaceOrderMode, PurchaseType, ShowSubtotalDetail

# As _checks.URL_PATTERN, in bytes, ASCII only. No quantifier here can give back what it took, so no input is slow.
_REST = r'[^/?#\x00-\x20\x7f-\xff"<>\\^`{}]++(?:[/?#][^\x00-\x20\x7f-\xff"<>\\^`]*+)?+'
_URL = f'"(?:https?://{_REST})?+"'
_HTTPS = f'"(?:https://{_REST})?+"'
_TEXT = r'"[^"\\\x00-\x1f\x80-\xff]*+"'


def _one_of(values: Iterable[str]) -> str:
    return f'"(?:{"|".join(values)})"'


def _object(fields: dict[str, str]) -> str:
    """An object of these fields, each once at the most: our own writer repeats none."""
    return r"\{(?:(?:" + "|".join(f'"{name}":{value}' for name, value in fields.items()) + r"),?+)*+\}"


_IMAGE = rf'\{{"url":"https://{_REST}"(?:,"width":[0-9]{{1,18}})?+\}}'
_MERCHANT_URLS = _object({"(?:success|cancel|back|failure|error)": _URL, "status_update": _HTTPS})
_OPTIONS = _object(
    {
        "background_images": rf"\[(?:{_IMAGE},?+)*+\]",
        "logo_url": _URL,
        "page_title": _TEXT,
        # Not beside its singular, which our writer puts right behind it.
        "payment_method_categories": rf'\[(?:{_one_of(PaymentMethodCategory)},?+)*+\](?!,"payment_method_category")',
        "payment_method_category": _one_of(PaymentMethodCategory),
        "place_order_mode": _one_of(PlaceOrderMode),
        "purchase_type": _one_of(PurchaseType),
        "show_subtotal_detail": _one_of(ShowSubtotalDetail),
    }
)
_GOOD = re.compile(
    (
        rf'\{{"payment_session_url":"https?://{_REST}"'
        rf'(?:,"profile_id":{_TEXT})?+(?:,"merchant_urls":{_MERCHANT_URLS})?+(?:,"options":{_OPTIONS})?+\}}'
    ).encode()
)


def is_good(body: bytes) -> bool:
    """True where the JSON of a request, as our codec writes it, has no problems; False where a look is needed."""
    # "%7" may begin a percent-encoded brace.
    return len(body) <= MAX_BODY and b"%7" not in body and _GOOD.fullmatch(body) is not None
