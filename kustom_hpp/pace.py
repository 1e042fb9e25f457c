"""The rate limiter: one `Pace` for each merchant, shared by all clients that use the merchant's rate limit.

A configured rate is a maximum. Below it, or without one, the rate follows the API: a 429 decreases it at once, each later
response increases it a little, the x-ratelimit headers state the limit and what is left of it, and no attempt starts
before the moment that a Retry-After names.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections import deque

from kustom_hpp._messages import RateLimit
from kustom_hpp.config.options import check_positive, check_positive_int
from kustom_hpp.errors import ConfigError, DeadlineExceededError

__all__ = ["Pace"]

_DECREASE_FACTOR = 0.7
"""Factor that a 429 applies to the rate. CUBIC and the adaptive mode of the AWS SDKs use the same."""
_INCREASE = 0.1
"""Increase per second of full use, as a part of the maximum rate, or of the rate itself if no maximum is known."""
_WINDOW = 0.25
"""Seconds after a decrease in which further 429s are ignored. A limit counted by the second refuses every request until
the second is over. Those refusals are one fact; how long they last shows how far the rate was too high."""
_QUARTER = 0.25
"""Part of a window: the burst of a learned rate, and what must be left of the limit before the rate gives way."""
_IN_USE = 0.8
"""Part of the burst that must be used before the rate may increase. Less than 1, because timers fire late."""
_MIN_SHARE = 0.25
"""Part of the maximum rate that remains if the headers say that nothing is left. 429s can decrease it further."""
_MAX_HOLD = 60.0
"""Seconds. The client probes again after this time, even if a Retry-After asks for an absurdly long wait."""
_MIN_RATE = 0.1
"""Attempts per second below which a learned rate does not fall: keep probing so that recovery is noticed."""
_INITIAL_RATE = 10.0
"""Attempts per second that the first 429 decreases, unless more succeeded: few responses say little about a rate."""
_MAX_SUCCESSES = 1000
_TIMER_TOLERANCE = 1e-9
"""Seconds by which a sleep may end early."""


class _LoopQueue:
    """The callers that wait in one event loop, first come, first served."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        """Held by the first caller in the queue."""
        self.length = 0


class Pace:
    """The rate limiter of a merchant. Every attempt acquires from it, retries included.

    Share one among all clients of a merchant in a process, also across event loops and threads. All loops together keep
    the rate. Within a loop, callers are served in order; between loops the order is not defined.

    The API limits creates separately from all other operations, and so does a client: it uses the given pace for creates
    only, and a second one that learns for everything else. (Source: docs.klarna.com/api-reference/rate-limit: 40 creates
    and 200 others a second at the live API, 5 and 50 at the playground.)

    The client never exceeds a configured rate, and goes below it while another client uses part of the limit. Without a
    configured rate, the pace delays nothing until the API sends x-ratelimit headers or a 429. It then starts at 0.7 of
    the rate that succeeded during the last second, and increases from there.

    Args:
        rate: maximum attempts per second; None to learn it.
        burst: attempts that may start at once after a pause. Default: one second's worth, at least 1.

    Raises:
        ConfigError: rate is not a finite number above 0, burst is not a whole number from 1, or burst has no rate.

    """

    def __init__(self, rate: float | None = None, burst: int | None = None) -> None:
        if rate is not None:
            check_positive("Pace.rate", rate, "attempts per second")
        if burst is not None:
            check_positive_int("Pace.burst", burst)
            if rate is None:
                raise ConfigError(f"Pace.burst needs a rate, got {burst!r} without one")
        self.rate = rate
        """Current attempts per second; None while nothing is known."""
        self.burst = burst if burst is not None else max(1, math.floor(rate or 1))
        """Attempts that may start at once at a configured rate. The burst of a learned rate is a quarter of a second's."""
        self._successes = deque[float](maxlen=_MAX_SUCCESSES)
        self._configured_rate = rate
        self._max_rate = rate
        self._learned_rate = rate  # 429s decrease it, other responses increase it
        self._free_share = 1.0  # part of the maximum rate that other clients leave, by the headers
        # The generic cell rate algorithm: when the bucket is full again, and how many seconds' worth it holds in addition
        # to the next attempt. On time.monotonic's clock, which all event loops share.
        self._full_at = -math.inf
        self._burst_tolerance = (self.burst - 1) / rate if rate else _QUARTER
        self._idle_since = -math.inf  # when an attempt last found the bucket full
        self._not_before = -math.inf
        self._decreased_at = -math.inf
        self._queues: dict[asyncio.AbstractEventLoop, _LoopQueue] = {}
        self._lock = threading.Lock()  # held for arithmetic only, never across an await

    async def acquire(self, deadline: float | None = None) -> float:
        """Wait until the next attempt may start.

        Args:
            deadline: the time on time.monotonic's clock after which the caller no longer waits; None for no limit.

        Returns:
            The start of the attempt on time.monotonic's clock, for `record_response`.

        Raises:
            DeadlineExceededError: the attempt could only start after the deadline.

        """
        if self.rate is None:
            return time.monotonic()
        loop, now = asyncio.get_running_loop(), time.monotonic()
        queue = self._queues.get(loop) or _LoopQueue()
        if deadline is not None and now + max(0.0, self._wait(now, queue.length)) > deadline:
            raise self._deadline_error()
        # Removed when empty: a lock refers to its event loop, and a pace may outlive many of them.
        self._queues[loop] = queue
        queue.length += 1
        try:
            return await self._wait_in_queue(queue, math.inf if deadline is None else deadline)
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[loop]

    def record_response(
        self, sent: float, *, throttled: bool = False, limit: RateLimit | None = None, retry_after: float | None = None
    ) -> None:
        """Record the response to an attempt.

        Args:
            sent: the start of the attempt, as `acquire` returned it.
            throttled: True for a 429.
            limit: the rate limit in the response's headers.
            retry_after: seconds that a 429 asks to wait.

        """
        now = time.monotonic()
        if self.rate is None and not throttled:
            self._successes.append(now)
            if limit is None:
                return  # the usual case: nothing to learn
        with self._lock:
            if sent == self._idle_since:
                # The API's bucket started to refill when this request arrived, perhaps after a new connection. The
                # response proves the arrival, so a count from here is never ahead of the API.
                self._full_at += now - sent
                self._idle_since = -math.inf
            if limit is not None and limit.limit:
                self._apply_limit_headers(limit.limit, limit.window, limit.remaining)
            if throttled:
                if retry_after is not None:
                    self._free_share = 1.0  # nothing is left now, and everything at that moment
                    self._not_before = max(self._not_before, now + min(retry_after, _MAX_HOLD))
                if sent >= self._decreased_at + _WINDOW:
                    self._decrease(now)
            elif self._learned_rate is not None:
                self._increase(self._learned_rate, now)
            if self._learned_rate is not None:
                shared = math.inf if self._max_rate is None else self._max_rate * self._free_share
                self.rate = max(min(self._learned_rate, shared), min(self._learned_rate, _MIN_RATE))

    async def _wait_in_queue(self, queue: _LoopQueue, deadline: float) -> float:
        # The rate may decrease while this caller waits for those in front of it.
        first = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if deadline == math.inf else deadline - time.monotonic()):
                first = await queue.lock.acquire()
        if not first:
            raise self._deadline_error()
        try:
            while (wait := self._take(now := time.monotonic())) > _TIMER_TOLERANCE:
                if now + wait > deadline:
                    raise self._deadline_error()
                await asyncio.sleep(wait)
        finally:
            queue.lock.release()
        return now

    def _deadline_error(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"the deadline is too early for the rate limit of {self.rate:g} attempts per second: nothing was sent"
        )

    def _take(self, now: float) -> float:
        """Take the next start if it is now; return the seconds until then."""
        with self._lock:
            wait = self._wait(now)
            if wait <= _TIMER_TOLERANCE and self.rate is not None:
                if self._full_at <= now:
                    self._idle_since = now
                self._full_at = max(self._full_at, now) + 1 / self.rate
            return wait

    def _wait(self, now: float, ahead: int = 0) -> float:
        """Return the seconds until the next start, behind a number of other callers; 0 or less for now."""
        if self.rate is None:
            return 0.0
        return max(max(self._full_at, now) + ahead / self.rate - self._burst_tolerance, self._not_before) - now

    def _apply_limit_headers(self, limit: int, window: float | None, remaining: int | None) -> None:
        if window:
            limit_rate = limit / window
            if self._configured_rate is None:
                self._max_rate, self._burst_tolerance = limit_rate, window * _QUARTER
            else:
                self._max_rate = min(limit_rate, self._configured_rate)
            self._learned_rate = (
                self._max_rate if self._learned_rate is None else min(self._learned_rate, self._max_rate)
            )
        if remaining is not None:
            # One client at the right rate never uses up the limit. If little is left, other clients use it too: the
            # less is left, the lower the rate, until usage and refill are equal.
            self._free_share = min(1.0, max(_MIN_SHARE, remaining / (_QUARTER * limit)))

    def _decrease(self, now: float) -> None:
        # Counted over a whole second: a limit lets a burst pass, which says nothing about its rate.
        rate = self._learned_rate or max(_INITIAL_RATE, sum(moment > now - 1.0 for moment in self._successes))
        self._learned_rate = max(_DECREASE_FACTOR * rate, min(rate, _MIN_RATE))
        self._decreased_at = now
        # The API's bucket is empty, whatever this one says.
        self._full_at = max(self._full_at, now + self._burst_tolerance + 1 / self._learned_rate)

    def _increase(self, rate: float, now: float) -> None:
        if self._full_at - now <= _IN_USE * self._burst_tolerance:
            return  # the rate is not fully used, so there is no evidence that more would be allowed
        if self._max_rate is None:
            self._learned_rate = rate + _INCREASE  # per response, so a tenth of the rate in a second
        else:
            self._learned_rate = min(self._max_rate, rate + _INCREASE * self._max_rate / rate)
