"""The messages that cross the I/O boundary, and what is known about their delivery.

This module does no I/O and makes no decisions. A transport turns an `HttpRequest` into an `HttpResponse` or raises one of
this library's errors. The layers above interpret the result.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from attrs import field, frozen
from yarl import URL

__all__ = ["CallInfo", "Delivery", "HttpRequest", "HttpResponse", "RateLimit", "SendMarker"]

UNKNOWN_OUTCOME_ADVICE = "the API may have processed the request. Do not retry; create a new order and session"
"""The end of an error's text when the outcome of a create is unknown."""


class Delivery(StrEnum):
    """What is known about whether the API received and processed a call.

    The members are ordered from least to most serious.
    """

    NOT_SENT = "not_sent"
    """Nothing reached the API."""
    REJECTED = "rejected"
    """The API refused the request."""
    UNKNOWN = "unknown"
    """The API may have processed the request. Never repeat it silently."""
    ACCEPTED = "accepted"
    """The API returned 2xx. The session exists, even if the response is unreadable."""

    @property
    def may_have_taken_effect(self) -> bool:
        """True if the call may have had its effect (UNKNOWN or ACCEPTED)."""
        return self is Delivery.UNKNOWN or self is Delivery.ACCEPTED

    @staticmethod
    def worst(*deliveries: "Delivery | None") -> "Delivery | None":
        """Return the delivery of a whole call: the most serious one of its attempts."""
        known = [delivery for delivery in deliveries if delivery is not None]
        return max(known, key=_SEVERITY.__getitem__) if known else None


_SEVERITY = {delivery: rank for rank, delivery in enumerate(Delivery)}


# The client creates the values below for every attempt. attrs fills a frozen class without slots three times as fast.


@frozen(kw_only=True, slots=False)
class RateLimit:
    """The merchant's rate limit, from the `x-ratelimit-*` headers of a response.

    Source: docs.klarna.com/api-reference/rate-limit ("40, 40;w=1": 40 requests in a window of 1 second).
    """

    limit: int | None = None
    """Requests allowed in a window."""
    remaining: int | None = None
    """Requests left in this window."""
    reset: float | None = None
    """Seconds until the next window starts."""
    window: float | None = None
    """Length of the window in seconds; None if the header does not say."""


@frozen(kw_only=True, slots=False)
class CallInfo:
    """How a call went. Every response object carries one as `.info`."""

    attempts: int = 1
    """Number of attempts, including the successful one."""
    elapsed: float = 0.0
    """Seconds from the start of the first attempt to the response, including waits between attempts."""
    status: int = 0
    """HTTP status of the response."""
    correlation_id: str | None = None
    """The API's id for the request. Quote it when you write to Kustom's support."""
    rate_limit: RateLimit | None = None
    """The merchant's rate limit; None if the response has no such headers."""
    earlier_unknown: bool = False
    """True if the API may have processed an earlier attempt of this call too: after a retry of an unknown outcome."""


class SendMarker:
    """A flag that the transport sets just before the first byte of an attempt's request.

    It separates "nothing was sent" from "it may have been processed", also for an attempt that is cancelled.
    """

    __slots__ = ("refused", "sent")

    def __init__(self) -> None:
        self.sent = False
        self.refused = False
        """True if the request's `may_send` returned False."""

    @property
    def delivery(self) -> Delivery:
        """The delivery of an attempt without a response: UNKNOWN if sending began, else NOT_SENT."""
        return Delivery.UNKNOWN if self.sent else Delivery.NOT_SENT


@frozen(kw_only=True, slots=False)
class HttpRequest:
    """One HTTP request, ready to be sent once or several times.

    Its `repr` shows neither headers nor body, because both contain secrets.
    """

    method: str
    url: URL = field(repr=lambda url: repr(str(url.with_query(None).with_user(None))))
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    connect_timeout: float
    """Seconds for DNS, TCP, TLS and a proxy's CONNECT together."""
    read_timeout: float
    """Seconds from the last byte sent to the last byte received. It also limits the sending itself."""
    deadline: float | None = None
    """The time on the event loop's clock after which the caller no longer waits; None for no limit."""
    may_send: Callable[[], bool] | None = field(default=None, repr=False)
    """Called directly before the first byte is sent; False stops the request. None to send without a check."""
    unknown_outcome_advice: str = field(default=UNKNOWN_OUTCOME_ADVICE, repr=False)
    """The end of an error's text if the outcome is unknown."""


@frozen(kw_only=True, slots=False)
class HttpResponse:
    """One HTTP response. Its `repr` shows neither headers nor body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Case-insensitive."""
    body: bytes = field(default=b"", repr=False)
    """The received part of the body, decompressed, up to the transport's limit."""
    body_error: str | None = None
    """Why the body is incomplete, as text; None if it is complete."""
    timed_out: bool = False
    """True if the body is incomplete because of a timeout."""
    body_too_long: bool = False
    """True if the body is incomplete because it exceeds the transport's limit. A new attempt would not help."""
