"""How fast: one `Pace` for each merchant, shared by all who spend that merchant's quota.

A rate that was told is a ceiling. Below it, and without one, the pace follows what the API says: a 429 makes it slower at
once, every answer after that a little faster, the x-ratelimit headers tell the quota and how much of it others left, and
before the moment that a 429 named nobody goes.
"""

import asyncio
import contextlib
import math
import sys
import threading
import time
from collections import deque

from kustom_hpp._messages import RateLimit
from kustom_hpp.errors import ConfigError, DeadlineExceededError

_CUT = 0.7
"""What a 429 leaves of the rate; CUBIC's figure, and that of the AWS SDKs' adaptive mode."""
_RECOVERY = 0.1
"""What a second at full use gives back: this part of the ceiling, or of the rate itself where no ceiling is known."""
_WINDOW = 0.25
"""Seconds after a cut whose requests cut no more. A quota that is counted by the second refuses all that comes until the
second is over: those refusals are one fact, and how long they go on tells how much too fast we were."""
_QUARTER = 0.25
"""Of a window: what may go at once at a rate that was learned, and what is left when others are given way."""
_IN_USE = 0.8
"""Of the bucket: where this much is given out, the rate holds somebody back. Not all of it, for timers ring late."""
_LEAST_SHARE = 0.25
"""Of the ceiling, kept where the headers say that nothing is left. Where that is too much, 429s cut it further."""
_LONGEST_HOLD = 60.0
"""Seconds. A wait that is absurdly long must not lock a merchant out for good: after this time one asks again."""
_SLOWEST = 0.1
"""Attempts per second below which nothing learned slows a pace down: somebody has to find out that it is over."""
_FIRST = 10.0
"""Attempts per second from which the first 429 cuts where fewer were accepted: few answers tell little about a rate."""
_REMEMBERED = 1000
_ROUNDING = 1e-9
"""Seconds: a sleep may end this much early."""


class _Line:
    """Who waits for a turn in one event loop, first come, first served."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        """Held by the first in line, who alone looks at the clock."""
        self.length = 0


class Pace:
    """The rate at which a merchant's requests go out: every attempt, a repeated one too, takes a turn.

    The API counts the creates of a merchant apart from all other operations, and so does a client: the pace that it is given
    is for creates alone, and for the rest it has one of its own that learns. (Source: docs.klarna.com/api-reference/
    rate-limit: 40 creates and 200 others a second at the live API, 5 and 50 at the playground.)

    Give one to all clients of a merchant in a process: they may run in several event loops and threads. All loops
    together keep the rate; within a loop who comes first goes first, between loops nobody is promised to be first.

    A rate that is given is never exceeded; while another client takes part of the quota the pace goes below it.
    Without one nothing is held back until the API tells its quota in x-ratelimit headers, or answers 429: then the
    pace begins at 0.7 of what was accepted during the last second, and feels its way up.

    Args:
        rate: attempts per second at most; None to learn it.
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
        """Attempts per second at present; None while nothing is known."""
        self.burst = burst if burst is not None else max(1, math.floor(rate or 1))
        """Attempts that may go at once at the rate that was given; of a rate that was learned, a quarter of a second's."""
        self._accepted = deque[float](maxlen=_REMEMBERED)
        self.accepted = self._accepted.append
        """Tell that an answer other than 429 came for an attempt of this moment, on time.monotonic's clock. Cheaper than
        `heard`, and enough while no rate is known."""
        self._given = rate
        self._ceiling = rate
        self._found = rate  # the rate that 429s cut and answers raise
        self._share = 1.0  # of the ceiling: what others leave, by the headers
        # The time at which the bucket was last known to be full, seen from the turns given since, and how many seconds'
        # turns it holds beside the next one (the "generic cell rate algorithm"). Monotonic, and of no event loop.
        self._full_at = -math.inf
        self._slack = (self.burst - 1) / rate if rate else _QUARTER
        self._woken_at = -math.inf  # when a turn was taken out of a full bucket last
        self._not_before = -math.inf
        self._cut_at = -math.inf
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}
        self._lock = threading.Lock()  # held for a few lines of arithmetic, never across an await

    async def turn(self, deadline: float | None = None) -> float:
        """Wait for a turn.

        Args:
            deadline: the time on time.monotonic's clock after which nobody waits; None for no end.

        Returns:
            The moment of the turn on time.monotonic's clock, for `heard`.

        Raises:
            DeadlineExceededError: the turn would come after the deadline; it is not taken.

        """
        if self.rate is None:
            return time.monotonic()
        loop, now = asyncio.get_running_loop(), time.monotonic()
        line = self._lines.get(loop) or _Line()
        if deadline is not None and now + max(0.0, self._wait(now, line.length)) > deadline:
            raise self._too_late()
        # There only while somebody stands in it: a lock holds its loop, and a pace may live longer than many of them.
        self._lines[loop] = line
        line.length += 1
        try:
            return await self._stand_in(line, math.inf if deadline is None else deadline)
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[loop]

    def heard(
        self, sent: float, *, throttled: bool = False, limit: RateLimit | None = None, retry_after: float | None = None
    ) -> None:
        """Tell what an attempt was answered.

        Args:
            sent: the moment of its turn, on time.monotonic's clock.
            throttled: whether the answer was 429.
            limit: the quota, as the answer's x-ratelimit headers told it.
            retry_after: seconds that a 429 asked to wait.

        """
        now = time.monotonic()
        if self.rate is None and not throttled:
            self.accepted(now)
        with self._lock:
            if sent == self._woken_at:
                # The API's bucket began to fill again when this request came there, after a connection was made perhaps.
                # Now it has surely come: who counts from here on is never ahead of the API.
                self._full_at += now - sent
                self._woken_at = -math.inf
            if limit is not None and limit.limit:
                self._hear_limit(limit.limit, limit.window, limit.remaining)
            if throttled:
                if retry_after is not None:
                    self._share = 1.0  # nothing is left now; at that moment it begins anew
                    self._not_before = max(self._not_before, now + min(retry_after, _LONGEST_HOLD))
                if sent >= self._cut_at + _WINDOW:
                    self._cut(now)
            elif self._found is not None:
                self._recover(self._found, now)
            if self._found is not None:
                shared = math.inf if self._ceiling is None else self._ceiling * self._share
                self.rate = max(min(self._found, shared), min(self._found, _SLOWEST))

    async def _stand_in(self, line: _Line, deadline: float) -> float:
        # What is in front may become slower than it looked.
        first = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if deadline == math.inf else deadline - time.monotonic()):
                first = await line.lock.acquire()
        if not first:
            raise self._too_late()
        try:
            while (wait := self._take(now := time.monotonic())) > _ROUNDING:
                if now + wait > deadline:
                    raise self._too_late()
                await asyncio.sleep(wait)
        finally:
            line.lock.release()
        return now

    def _too_late(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"the deadline comes before this call's turn at {self.rate:g} per second: nothing was sent"
        )

    def _take(self, now: float) -> float:
        """Take a turn where there is one; else the seconds until there may be."""
        with self._lock:
            wait = self._wait(now)
            if wait <= _ROUNDING and self.rate is not None:
                if self._full_at <= now:
                    self._woken_at = now
                self._full_at = max(self._full_at, now) + 1 / self.rate
            return wait

    def _wait(self, now: float, ahead: int = 0) -> float:
        """Seconds until a turn, with so many others in front; none where it is not above 0."""
        if self.rate is None:
            return 0.0
        return max(max(self._full_at, now) + ahead / self.rate - self._slack, self._not_before) - now

    def _hear_limit(self, limit: int, window: float | None, remaining: int | None) -> None:
        if window:
            told = limit / window
            if self._given is None:
                self._ceiling, self._slack = told, window * _QUARTER
            else:
                self._ceiling = min(told, self._given)
            self._found = self._ceiling if self._found is None else min(self._found, self._ceiling)
        if remaining is not None:
            # Alone at the right rate, the quota never runs low. Where it does, others spend it too: the less is left,
            # the slower, until as much comes back as goes out.
            self._share = min(1.0, max(_LEAST_SHARE, remaining / (_QUARTER * limit)))

    def _cut(self, now: float) -> None:
        # Counted over a whole second: a quota lets a burst pass, and that tells nothing about its rate.
        rate = self._found or max(_FIRST, sum(moment > now - 1.0 for moment in self._accepted))
        self._found = max(_CUT * rate, min(rate, _SLOWEST))
        self._cut_at = now
        # The API's bucket is empty, whatever is left in ours.
        self._full_at = max(self._full_at, now + self._slack + 1 / self._found)

    def _recover(self, found: float, now: float) -> None:
        if self._full_at - now <= _IN_USE * self._slack:
            return  # the rate is not used up, so that nobody knows whether more would be allowed
        if self._ceiling is None:
            self._found = found + _RECOVERY  # for each answer, so that it is a tenth of the rate in a second
        else:
            self._found = min(self._ceiling, found + _RECOVERY * self._ceiling / found)
