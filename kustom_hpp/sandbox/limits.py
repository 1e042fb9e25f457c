"""The merchant's quota: a token bucket, and the three ways in which an API tells of it."""

import math
import time
from typing import Literal, TypeAlias

from attrs import Attribute, field, frozen, validators

Tell: TypeAlias = Literal["headers", "retry_after", "bare"]

_SLOWEST, _MOST = 0.00001, 1_000_000_000


def _rate(instance: object, attribute: "Attribute[float]", rate: float) -> None:  # noqa: ARG001 - attrs' shape
    # Times that follow from it are told in whole seconds: without a floor they would be endless.
    if not _SLOWEST <= rate <= _MOST:
        raise ValueError(
            f"rate must be from 0.00001 (one create in a day or so) to {_MOST:,} a second, got {rate!r:.40}"
        )


def _burst(instance: object, attribute: "Attribute[int | None]", burst: int | None) -> None:  # noqa: ARG001 - the same
    if burst is not None and not 1 <= burst <= _MOST:
        raise ValueError(f"burst must be from 1 to {_MOST:,} creates, got {burst!r:.40}")


@frozen
class Quota:
    """How much the sandbox lets its key create.

    Source of the default: docs.klarna.com/api-reference/rate-limit, 40 a second and `x-ratelimit-limit: 40, 40;w=1`.
    """

    rate: float = field(default=40.0, validator=_rate)
    """Creates per second, from 0.00001 on."""
    burst: int | None = field(default=None, validator=_burst)
    """Creates that may come at once after a pause; None for one second's worth, at least 1."""
    tell: Tell = field(default="headers", validator=validators.in_(("headers", "retry_after", "bare")))
    """`headers`: x-ratelimit-limit, -remaining and -reset on every answer to a create; `retry_after`: that header on each 429;
    `bare`: nothing beside the 429. Other operations than creates have a quota of their own at the API, and none here."""

    @property
    def size(self) -> int:
        """The bucket's size in creates."""
        return max(1, math.floor(self.rate)) if self.burst is None else self.burst


class Bucket:
    """A quota in use. A create takes a token out of the bucket, one that is refused takes none."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._tokens = float(quota.size)
        self._at = time.monotonic()
        self._taken = 0.0

    @property
    def taken(self) -> float:
        """Creates per second that another client of this merchant makes from now on; set it at any time."""
        return self._taken

    @taken.setter
    def taken(self, rate: float) -> None:
        self._fill()
        self._taken = rate

    def take(self) -> bool:
        """Take a token; False where there is none."""
        self._fill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def headers(self, status: int) -> tuple[tuple[str, str], ...]:
        """What an answer with this status tells of the quota."""
        self._fill()
        tell = self.quota.tell
        if tell == "headers":
            # The limit in whole creates and whole seconds: the shortest window from a second on that has one create.
            window = 1 if self.quota.rate >= 1 else math.ceil(1 / self.quota.rate)
            limit = math.floor(self.quota.rate * window)
            return (
                ("x-ratelimit-limit", f"{limit}, {limit};w={window}"),
                ("x-ratelimit-remaining", str(math.floor(self._tokens))),
                ("x-ratelimit-reset", str(self._seconds_until(self.quota.size))),
            )
        if tell == "retry_after" and status == 429:  # noqa: PLR2004
            return (("Retry-After", str(max(1, self._seconds_until(1)))),)
        return ()

    def _seconds_until(self, tokens: int) -> int:
        """Whole seconds until there are so many, as if nobody took any: the API cannot know who will."""
        return math.ceil(max(0.0, tokens - self._tokens) / self.quota.rate)

    def _fill(self) -> None:
        now = time.monotonic()
        filled = self._tokens + (now - self._at) * (self.quota.rate - self._taken)
        self._tokens, self._at = min(float(self.quota.size), max(0.0, filled)), now
