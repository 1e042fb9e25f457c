"""What the headers of a response say. No header value can make a function here raise."""

import re
import time
from collections.abc import Mapping

from yarl import URL

from kustom_hpp._messages import HttpResponse, RateLimit
from kustom_hpp.errors import clean_text

MAX_CORRELATION_ID = 128
"""Characters of a correlation id that the client shows."""
_WHITESPACE = " \t"
"""The whitespace around a header's value (RFC 9110, section 5.6.3). str.strip() would remove more than int() accepts."""
_SECONDS = r"(?a)[0-9]{1,9}"
_LIMIT = r"(?a)\s*([0-9]{1,9})(?![0-9])(?:.*?;\s*w=([0-9]{1,9})(?![0-9]))?"
_ID_SUFFIXES = frozenset({"-Id", "-id", "-ID", "-iD"})
_TOO_MANY_REQUESTS = 429


def correlation_id(headers: Mapping[str, str]) -> str | None:
    """Return the API's id for a request, from Klarna-Correlation-Id or another header that ends in "correlation-id"."""
    known = headers.get("klarna-correlation-id")
    if known:
        return clean_text(known, MAX_CORRELATION_ID)
    for name in headers:
        if name[-3:] in _ID_SUFFIXES and name.lower().endswith("correlation-id"):
            return clean_text(headers[name], MAX_CORRELATION_ID) or None
    return None


def rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Return the merchant's rate limit; None if the headers do not state it.

    The headers are `x-ratelimit-limit: 40, 40;w=1`, `x-ratelimit-remaining` and `x-ratelimit-reset` (seconds).
    """
    limit, remaining = headers.get("x-ratelimit-limit"), headers.get("x-ratelimit-remaining")
    reset = headers.get("x-ratelimit-reset")
    if limit is None and remaining is None and reset is None:
        return None
    match = re.match(_LIMIT, limit) if limit else None
    return RateLimit(
        limit=int(match[1]) if match else None,
        window=float(match[2]) if match and match[2] else None,
        remaining=_whole_number(remaining),
        reset=_whole_number(reset),
    )


def retry_after_seconds(response: HttpResponse) -> float | None:
    """Return how long the API asks to wait; None if it does not ask.

    That is Retry-After (RFC 9110, section 10.2.3), else x-ratelimit-reset of a 429. A Retry-After that is neither 1 to 9
    digits nor a date with a time zone is ignored.
    """
    headers = response.headers
    retry_after = headers.get("Retry-After")
    if retry_after is not None:
        if (seconds := _whole_number(retry_after)) is not None:
            return float(seconds)
        if (moment := _parse_http_date(retry_after)) is not None:
            # Measured by the server's clock if it sends one: the local clock may be wrong.
            now = _parse_http_date(headers.get("Date"))
            return max(0.0, moment - (time.time() if now is None else now))
    if response.status == _TOO_MANY_REQUESTS:
        return _whole_number(headers.get("x-ratelimit-reset"))
    return None


def redirect_origin(headers: Mapping[str, str]) -> str | None:
    """Return scheme and host of a redirect's target, as text; None if there is no redirect.

    The rest of the URL may contain anything.
    """
    location = headers.get("Location")
    if not location:
        return None
    try:
        return clean_text(str(URL(location).origin()), MAX_CORRELATION_ID)
    except ValueError:
        return "a path on the same host"


def _whole_number(text: str | None) -> int | None:
    digits = (text or "").strip(_WHITESPACE)
    return int(digits) if re.fullmatch(_SECONDS, digits) else None


def _parse_http_date(date: str | None) -> float | None:
    """Return an HTTP date in seconds since the epoch; None if it is invalid or has no time zone."""
    import email.utils  # slow to import, and few responses need it

    try:
        moment = email.utils.parsedate_to_datetime(date) if date else None
        return moment.timestamp() if moment is not None and moment.tzinfo is not None else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
