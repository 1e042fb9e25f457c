"""The nouns that cross the I/O line: what goes to a transport, what comes back, and what is known about it.

Nothing here does I/O and nothing here judges: a transport turns an `HttpRequest` into an `HttpResponse` or one of our
errors, the layers above decide what that means.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from attrs import field, frozen
from yarl import URL

IN_DOUBT = "it may have been processed, never repeat it. Make a new order and a session for it"
"""What an unknown outcome means for whoever creates a session: the end of that error's text."""


class Delivery(StrEnum):
    """What is known about whether the API got a call and acted on it; ordered from least to most serious."""

    NOT_SENT = "not_sent"
    """Nothing reached the API."""
    REJECTED = "rejected"
    """The API answered no."""
    UNKNOWN = "unknown"
    """It may have been processed: never repeat it silently."""
    ACCEPTED = "accepted"
    """The API answered 2xx: the session exists, even where its answer could not be read."""

    @property
    def may_have_taken_effect(self) -> bool:
        """True where the call may have had its effect (UNKNOWN or ACCEPTED)."""
        return self is Delivery.UNKNOWN or self is Delivery.ACCEPTED

    @staticmethod
    def worst(*deliveries: "Delivery | None") -> "Delivery | None":
        """The fact about a whole call, from the facts about its attempts: ACCEPTED if any was, else UNKNOWN, ..."""
        known = [delivery for delivery in deliveries if delivery is not None]
        return max(known, key=_SEVERITY.__getitem__) if known else None


_SEVERITY = {delivery: rank for rank, delivery in enumerate(Delivery)}


# The values below are made for every attempt: attrs fills a frozen value without slots three times as fast.


@frozen(kw_only=True, slots=False)
class RateLimit:
    """What the API says about the merchant's quota, from its `x-ratelimit-*` headers.

    Source: docs.klarna.com/api-reference/rate-limit ("40, 40;w=1": 40 requests in a window of 1 second).
    """

    limit: int | None = None
    """Requests allowed in a window."""
    remaining: int | None = None
    """Requests left in this window."""
    reset: float | None = None
    """Seconds until the window starts anew."""
    window: float | None = None
    """Length of the window in seconds; None where the header names none."""


@frozen(kw_only=True, slots=False)
class CallInfo:
    """How a call went: carried by every answer as `.info`."""

    attempts: int = 1
    """How many requests were made, the successful one included."""
    elapsed: float = 0.0
    """Seconds from the first attempt's turn to the answer, waits between attempts included."""
    status: int = 0
    """HTTP status of the answer."""
    correlation_id: str | None = None
    """The API's id for the request; quote it when you write to Kustom's support."""
    rate_limit: RateLimit | None = None
    """The merchant's quota as the answer told it; None where it told nothing."""
    earlier_unknown: bool = False
    """True where an earlier attempt of this call may have been processed too (only with `on_unknown="resend"`)."""


class SendMarker:
    """Whether one attempt's request has begun to leave: set by the transport just before the first byte.

    It is what tells "nothing was sent" from "it may have been processed", also for an attempt that was cancelled.
    """

    __slots__ = ("refused", "sent")

    def __init__(self) -> None:
        self.sent = False
        self.refused = False
        """True if the request's `may_send` did not let the first byte go."""

    @property
    def delivery(self) -> Delivery:
        """What the mark alone says about an attempt that came to no answer."""
        return Delivery.UNKNOWN if self.sent else Delivery.NOT_SENT


@frozen(kw_only=True, slots=False)
class HttpRequest:
    """One HTTP request, ready to be sent as often as the rules allow.

    Its `repr` shows neither headers nor body: both carry secrets.
    """

    method: str
    url: URL = field(repr=lambda url: repr(str(url.with_query(None).with_user(None))))
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    connect_timeout: float
    """Seconds for DNS, TCP, TLS and a proxy's CONNECT together."""
    read_timeout: float
    """Seconds from the last byte sent to the last byte received; it also bounds the sending itself."""
    deadline: float | None = None
    """The time, on the event loop's clock, after which the caller no longer waits; None for no end."""
    may_send: Callable[[], bool] | None = field(default=None, repr=False)
    """Called just before the first byte; False means that nothing may be sent any more. None for no such check."""
    in_doubt: str = field(default=IN_DOUBT, repr=False)
    """What an unknown outcome means for the caller: the end of that error's text."""


@frozen(kw_only=True, slots=False)
class HttpResponse:
    """One HTTP answer. Its `repr` shows neither headers nor body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Case-insensitive."""
    body: bytes = field(default=b"", repr=False)
    """What came of the body, decoded from gzip or deflate, at most the transport's cap."""
    broken: str | None = None
    """Why the body is not whole (class and phase of what went wrong, in words); None where it is whole."""
    timed_out: bool = False
    """True where the body is not whole because time ran out."""
    too_long: bool = False
    """True where the body is not whole because it is longer than the transport takes: that does not pass by itself."""
