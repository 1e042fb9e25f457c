"""The merchant's rate limit, a token bucket, and the latency."""

import math
import random
import time
from typing import Literal, TypeAlias

from attrs import Attribute, converters, field, frozen, validators

Announcement: TypeAlias = Literal["headers", "retry_after", "bare"]

_SLOWEST, _MOST = 0.00001, 1_000_000_000


def _rate(instance: object, attribute: "Attribute[float]", rate: float) -> None:  # noqa: ARG001 - attrs' shape
    # The headers have whole seconds: without a minimum they would be endless.
    if not _SLOWEST <= rate <= _MOST:
        raise ValueError(
            f"rate must be from 0.00001 (one create in a day or so) to {_MOST:,} a second, got {rate!r:.40}"
        )


def _burst(instance: object, attribute: "Attribute[int | None]", burst: int | None) -> None:  # noqa: ARG001 - the same
    if burst is not None and not 1 <= burst <= _MOST:
        raise ValueError(f"burst must be from 1 to {_MOST:,} creates, got {burst!r:.40}")


@frozen
class MerchantRateLimit:
    """How many creates the sandbox allows its key.

    Source of the default: docs.klarna.com/api-reference/rate-limit, 40 a second and `x-ratelimit-limit: 40, 40;w=1`.
    """

    rate: float = field(default=40.0, validator=_rate)
    """Creates per second, from 0.00001 on."""
    burst: int | None = field(default=None, validator=_burst)
    """Creates at once after a pause; None: one second's worth, at least 1."""
    announce: Announcement = field(default="headers", validator=validators.in_(("headers", "retry_after", "bare")))
    """`headers`: x-ratelimit-limit, -remaining and -reset in every response to a create; `retry_after`: Retry-After in each
    429; `bare`: the 429 alone. Other operations have a rate limit of their own at the API, and none here."""

    @property
    def size(self) -> int:
        """The bucket's size in creates."""
        return max(1, math.floor(self.rate)) if self.burst is None else self.burst

    def __str__(self) -> str:
        return f"{self.rate:g} creates a second, {self.size:,} at once"


class TokenBucket:
    """A rate limit in use. A create takes a token; a refused one takes none."""

    def __init__(self, limit: MerchantRateLimit) -> None:
        self.limit = limit
        self._tokens = float(limit.size)
        self._at = time.monotonic()
        self._other_rate = 0.0

    @property
    def other_client_rate(self) -> float:
        """Creates per second of another client of this merchant; can be set."""
        return self._other_rate

    @other_client_rate.setter
    def other_client_rate(self, rate: float) -> None:
        self._fill()
        self._other_rate = rate

    def take(self) -> bool:
        """Take a token; return False if there is none."""
        self._fill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def headers(self, status: int) -> tuple[tuple[str, str], ...]:
        """Return the headers that announce the limit in a response."""
        self._fill()
        announce = self.limit.announce
        if announce == "headers":
            # Whole creates and whole seconds: the shortest window of at least a second that has one create.
            window = 1 if self.limit.rate >= 1 else math.ceil(1 / self.limit.rate)
            creates = math.floor(self.limit.rate * window)
            return (
                ("x-ratelimit-limit", f"{creates}, {creates};w={window}"),
                ("x-ratelimit-remaining", str(math.floor(self._tokens))),
                ("x-ratelimit-reset", str(self._seconds_until(self.limit.size))),
            )
        if announce == "retry_after" and status == 429:  # noqa: PLR2004
            return (("Retry-After", str(max(1, self._seconds_until(1)))),)
        return ()

    def _seconds_until(self, tokens: int) -> int:
        """Return the whole seconds until there are so many tokens."""
        return math.ceil(max(0.0, tokens - self._tokens) / self.limit.rate)

    def _fill(self) -> None:
        now = time.monotonic()
        tokens = self._tokens + (now - self._at) * (self.limit.rate - self._other_rate)
        self._tokens, self._at = min(float(self.limit.size), max(0.0, tokens)), now


RateLimitOption: TypeAlias = "float | MerchantRateLimit | TokenBucket | None"


def bucket_of(option: RateLimitOption) -> TokenBucket | None:
    """Return the bucket of an option: a rate, a rate limit, a bucket, or none."""
    if option is None or isinstance(option, TokenBucket):
        return option
    return TokenBucket(option if isinstance(option, MerchantRateLimit) else MerchantRateLimit(option))


def _not_below_low(instance: "Latency", attribute: "Attribute[float | None]", high: float | None) -> None:  # noqa: ARG001
    if high is not None and high < instance.low:
        raise ValueError(f"a latency goes from a lower number of seconds to a higher one, got {instance.low} to {high}")


@frozen
class Latency:
    """Seconds between processing a request and its response."""

    low: float = field(converter=float, validator=(validators.ge(0.0), validators.lt(math.inf)))
    """The minimum in seconds."""
    high: float | None = field(
        default=None,
        converter=converters.optional(float),
        validator=(validators.optional(validators.lt(math.inf)), _not_below_low),
    )
    """The maximum in seconds; None: always `low`."""
    seed: int = 0
    """The same seed gives the same delays to the first, the second, ... request."""

    def delay_for(self, number: int) -> float:
        """Return the delay in seconds of the request with a number in the record."""
        if self.high is None:
            return self.low
        # Drawn from the number, so that it does not depend on the order of responses.
        return random.Random(f"{self.seed}/{number}").uniform(self.low, self.high)  # noqa: S311

    def __str__(self) -> str:
        return f"{self.low:g} s" if self.high is None else f"{self.low:g} to {self.high:g} s"


LatencyOption: TypeAlias = "float | tuple[float, float] | Latency | None"


def latency_of(option: LatencyOption) -> Latency | None:
    """Return the latency of an option: seconds, a pair of them, or none."""
    if option is None or isinstance(option, Latency):
        return option
    return Latency(*option) if isinstance(option, tuple) else Latency(option)
