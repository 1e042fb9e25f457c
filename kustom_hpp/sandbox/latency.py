"""How long the sandbox keeps its answers back, as an API across a network does."""

import math
import random
from typing import TypeAlias

from attrs import Attribute, converters, field, frozen, validators


def _not_below_low(instance: "Latency", attribute: "Attribute[float | None]", high: float | None) -> None:  # noqa: ARG001
    if high is not None and high < instance.low:
        raise ValueError(f"a latency goes from a lower number of seconds to a higher one, got {instance.low} to {high}")


@frozen
class Latency:
    """Seconds between the end of an operation's work and its answer; drawn anew for each request."""

    low: float = field(converter=float, validator=(validators.ge(0.0), validators.lt(math.inf)))
    """At least so long, in seconds."""
    high: float | None = field(
        default=None,
        converter=converters.optional(float),
        validator=(validators.optional(validators.lt(math.inf)), _not_below_low),
    )
    """At most so long, in seconds; None for `low` each time."""
    seed: int = 0
    """The same seed gives the same latencies to the first, the second, ... request."""

    def of(self, number: int) -> float:
        """That of one request, in seconds.

        Args:
            number: of the request in the record.

        """
        if self.high is None:
            return self.low
        # Drawn from the number rather than from a stream of draws: whoever answers first, each request has its own.
        return random.Random(f"{self.seed}/{number}").uniform(self.low, self.high)  # noqa: S311


Given: TypeAlias = "float | tuple[float, float] | Latency | None"


def latency_of(given: Given) -> Latency | None:
    """What an option says: one number of seconds, a lower and a higher one, or none.

    Raises:
        ValueError: a number is negative or infinite, or the second is lower than the first.

    """
    if given is None or isinstance(given, Latency):
        return given
    return Latency(*given) if isinstance(given, tuple) else Latency(given)
