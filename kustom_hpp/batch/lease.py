"""The lease of a run on its claims: arithmetic on the run's own clock, no I/O."""

import time
from collections.abc import Callable


def suspend_aware_clock() -> float:
    """Return monotonic seconds that also count while the machine is suspended, if the system has such a clock."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Lease:
    """One uninterrupted lease. Once it has ended it never comes back: a new lease is a new object.

    Args:
        seconds: the length of the lease.
        requested: when the request for the lease was sent, by `clock`. The store counts from a later moment, so this
            side's lease ends first.
        clock: monotonic seconds.

    """

    def __init__(self, seconds: float, requested: float, clock: Callable[[], float] = suspend_aware_clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until = requested + seconds
        self._ended = False

    @property
    def remaining(self) -> float:
        """Seconds until the lease ends; 0 if it has ended."""
        return 0.0 if self._ended else max(0.0, self._until - self._clock())

    def may_send(self) -> bool:
        """Return whether the lease still holds; after one False always False."""
        if not self._ended and self._clock() >= self._until:
            self._ended = True
        return not self._ended

    def renew(self, requested: float) -> bool:
        """Extend the lease after a successful renewal.

        Args:
            requested: when the renewal was sent, by the lease's clock.

        Returns:
            False if the lease ended before the renewal: rows must be claimed again under a new lease.

        """
        if not self.may_send():
            return False
        self._until = max(self._until, requested + self._seconds)
        return True

    def end(self) -> None:
        """End the lease now."""
        self._ended = True
