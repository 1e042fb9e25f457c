"""How fast: one `Pace` for each merchant, shared by all who spend that merchant's quota.

This version keeps a rate that it is told; without one it lets every attempt pass.
"""

import asyncio
import math
import sys
import time

from kustom_hpp.errors import ConfigError, DeadlineExceededError


class Pace:
    """A plain rate: every attempt, a repeated one too, takes a turn.

    Args:
        rate: attempts per second; None for no limit.
        burst: attempts that may go at once after a pause; by default one second's worth, at least 1.

    Raises:
        ConfigError: rate is not a finite number above 0, or burst not a whole number from 1, or burst without rate.

    """

    def __init__(self, rate: float | None = None, burst: int | None = None) -> None:
        number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
        # Compared rather than asked with math.isfinite, which cannot take an int beyond all floats.
        if rate is not None and not (number and 0 < rate <= sys.float_info.max):
            msg = f"Pace.rate must be a finite number above 0, in attempts per second, got {rate!r}"
            raise ConfigError(msg)
        if burst is not None and (type(burst) is not int or burst < 1 or rate is None):
            msg = f"Pace.burst must be a whole number from 1 beside a rate, got {burst!r}"
            raise ConfigError(msg)
        self.rate = rate
        self.burst = burst if burst is not None else max(1, math.floor(rate or 1))
        # The time at which the bucket was last known to be full, seen from the turns given since: one number is the
        # whole state (the "generic cell rate algorithm"). Monotonic, and of no event loop, so that loops may share it.
        self._full_at = -math.inf

    async def turn(self, deadline: float | None = None) -> None:
        """Wait for a turn.

        Args:
            deadline: the time on time.monotonic's clock after which nobody waits; None for no end.

        Raises:
            DeadlineExceededError: the turn would come after the deadline; it is not taken.

        """
        if self.rate is None:
            return
        now = time.monotonic()
        spacing = 1 / self.rate
        full_at = max(self._full_at, now)
        wait = full_at - now - (self.burst - 1) * spacing
        if deadline is not None and now + max(0.0, wait) > deadline:
            msg = f"the deadline comes before this call's turn at {self.rate:g} per second: nothing was sent"
            raise DeadlineExceededError(msg)
        self._full_at = full_at + spacing
        if wait > 0:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                self._full_at -= spacing  # a turn that nobody takes goes back
                raise
