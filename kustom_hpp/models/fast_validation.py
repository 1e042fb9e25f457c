"""The grammar of a request's JSON that is good beyond doubt, as one regular expression.

`CreateSessionRequest.problems()` looks at one field after the other, in Python. That is the thorough way, and the one that
says what is wrong; for the path of every request it is too slow. So the bytes that are about to be sent are matched once,
in C: what matches has no problems, and whatever does not match gets the thorough look, which may well find it good (an
extra field, a URL in letters beyond ASCII, http on loopback). The test of this file holds the two against each other.
"""

import functools
import re
from collections.abc import Iterable

from kustom_hpp.models import MAX_BODY, PaymentMethodCategory, PlaceOrderMode, PurchaseType, ShowSubtotalDetail

# As _checks.URL_PATTERN, for the bytes of JSON. What no URL may hold is looked for in the whole body beforehand, so that
# here "everything up to the quote" will do: that is the one repetition which the matcher runs through at full speed. No
# quantifier can give back what it took, so no input is slow.
_REST = r'[^/?#"{}]++(?:[/?#][^"]*+)?+'
_URL = f'"(?:https?://{_REST})?+"'
_HTTPS = f'"(?:https://{_REST})?+"'
_TEXT = r'"[^"]*+"'
_NOT_IN_A_URL = bytes(range(0x21)) + b"<>\\^`\x7f"


def _one_of(values: Iterable[str]) -> str:
    return f'"(?:{"|".join(values)})"'


def _object(fields: dict[str, str]) -> str:
    """An object of these fields, each once at the most: our own writer repeats none."""
    return r"\{(?:(?:" + "|".join(f'"{name}":{value}' for name, value in fields.items()) + r"),?+)*+\}"


@functools.cache
def _good() -> re.Pattern[bytes]:
    """Compiled at the first request, not at import."""
    image = rf'\{{"url":"https://{_REST}"(?:,"width":[0-9]{{1,18}})?+\}}'
    merchant_urls = _object({"(?:success|cancel|back|failure|error)": _URL, "status_update": _HTTPS})
    options = _object(
        {
            "background_images": rf"\[(?:{image},?+)*+\]",
            "logo_url": _URL,
            "page_title": _TEXT,
            # Not beside its singular, which our writer puts right behind it.
            "payment_method_categories": (
                rf'\[(?:{_one_of(PaymentMethodCategory)},?+)*+\](?!,"payment_method_category")'
            ),
            "payment_method_category": _one_of(PaymentMethodCategory),
            "place_order_mode": _one_of(PlaceOrderMode),
            "purchase_type": _one_of(PurchaseType),
            "show_subtotal_detail": _one_of(ShowSubtotalDetail),
        }
    )
    whole = (
        rf'\{{"payment_session_url":"https?://{_REST}"'
        rf'(?:,"profile_id":{_TEXT})?+(?:,"merchant_urls":{merchant_urls})?+(?:,"options":{options})?+\}}'
    )
    return re.compile(whole.encode())


def is_surely_valid(body: bytes, texts: str) -> bool:
    """True where the JSON of a request, as our codec writes it, has no problems; False where a look is needed.

    Args:
        body: the JSON.
        texts: the texts in it that are no URLs, and may have blanks: all other blanks would be in URLs.

    """
    return (
        len(body) <= MAX_BODY
        and body.isascii()
        and (b"%" not in body or b"%7" not in body)  # may begin a percent-encoded brace; one byte is found sooner
        and len(body) - len(body.translate(None, _NOT_IN_A_URL)) == texts.count(" ")
        and _good().fullmatch(body) is not None
    )
