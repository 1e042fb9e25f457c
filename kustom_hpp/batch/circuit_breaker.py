"""The circuit breaker of a batch: when it continues, pauses, probes with one row, or stops. No I/O, no clock of its own."""

import random

from attrs import define, field

from kustom_hpp._messages import Delivery
from kustom_hpp.errors import (
    ApiError,
    AuthenticationError,
    BatchStoppedError,
    CertificateError,
    ClientClosedError,
    ConfigError,
    HPPError,
    PermissionDeniedError,
    RateLimitError,
    WrongLoopError,
)

FIRST_PAUSE = 0.5
"""Seconds of the first pause after a row that was not sent; each further one is twice as long."""
MAX_PAUSE = 8.0
DOUBT_PAUSE = 2.0
"""Seconds of the pause after `max_doubts` unknown outcomes in a row."""
MAX_FORBIDDEN = 10
"""If this many first rows all end with 403, the reason is not the rows."""

_FATAL = (AuthenticationError, CertificateError, ClientClosedError, ConfigError, WrongLoopError)


def is_not_processed(error: HPPError) -> bool:
    """Return whether nothing reached the API, or it refused for now: the row may be sent again without any risk."""
    if isinstance(error, RateLimitError):
        return error.delivery is Delivery.REJECTED
    return error.delivery is Delivery.NOT_SENT


def is_fatal(error: HPPError) -> bool:
    """Return whether every other row would fail the same way, however long the run waits."""
    return isinstance(error, _FATAL)


def fatal_stop(error: HPPError) -> BatchStoppedError:
    """Return the error that stops the run after a fatal one."""
    return _stop("every remaining row would fail the same way", error)


@define(kw_only=True, eq=False)
class CircuitBreaker:
    """Decides after each row whether the run continues, pauses or stops.

    A row belongs to the `generation` in which it was sent. A failure that pauses the run starts a new generation: rows of an
    earlier one that fail later are no news. While the breaker is `half_open`, one row of the new generation is sent alone
    after the pause.
    """

    _patience: float = field(alias="patience")
    _max_doubts: int = field(alias="max_doubts")
    _max_failures: int | None = field(alias="max_failures")
    generation: int = field(default=0, init=False)
    in_flight: int = field(default=0, init=False)
    """Rows of this generation in flight."""
    half_open: bool = field(default=False, init=False)
    """True while rows are sent one at a time, not before `until`."""
    open: bool = field(default=False, init=False)
    """True after too many doubts, until a row succeeds."""
    until: float = field(default=0.0, init=False)
    _doubts: int = field(default=0, init=False)
    _times_open: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)
    _forbidden: int | None = field(default=0, init=False)
    _level: int = field(default=0, init=False)
    _since: float | None = field(default=None, init=False)

    def allows(self, now: float) -> bool:
        """Return whether a row may be sent now."""
        return not self.half_open or (not self.in_flight and now >= self.until)

    def begin(self) -> int:
        """Record that a row is sent; return its generation."""
        self.in_flight += 1
        return self.generation

    def end(self, generation: int) -> None:
        """Record that a row is no longer in flight."""
        if generation == self.generation:
            self.in_flight -= 1

    def created(self, generation: int) -> bool:
        """Record a success; return True if it closes the breaker."""
        self._forbidden = None
        if not self.half_open:
            self._doubts = 0
            self._since = None
            return False
        return generation == self.generation and self._close()

    def failed(self, generation: int, error: HPPError) -> BatchStoppedError | None:
        """Record that the API refused a row, or that the row is invalid, which says nothing about the API."""
        refused = isinstance(error, ApiError)
        if refused and not self.open:
            if self.half_open and generation == self.generation:
                self._close()  # the API responds and has capacity
            self._doubts = 0
        self._failures += 1
        if self._max_failures is not None and self._failures >= self._max_failures:
            return _stop(f"{self._failures} rows failed, which is max_failures", error)
        if refused and self._forbidden is not None:
            self._forbidden = self._forbidden + 1 if isinstance(error, PermissionDeniedError) else None
            if self._forbidden == MAX_FORBIDDEN:
                return _stop(f"the API refused the first {MAX_FORBIDDEN} rows with 403; check the credentials", error)
        return None

    def in_doubt(self, generation: int, error: HPPError, now: float) -> BatchStoppedError | None:
        """Record an unknown outcome."""
        self._forbidden = None
        late = generation != self.generation
        if self.open:
            if late:
                return None  # sent before the breaker opened
            return _stop(f"{self._doubts} rows in a row ended with an unknown outcome, and so did the next one", error)
        self._doubts += 1
        if self._doubts < self._max_doubts:
            if self.half_open and not late:
                self._pause(self._backoff(), now)
            return None
        self._times_open += 1
        if self._times_open > 1:
            return _stop(f"{self._doubts} rows in a row ended with an unknown outcome, for the second time", error)
        self.open = True
        self._pause(DOUBT_PAUSE * _jitter(), now)
        return None

    def not_processed(self, generation: int, error: HPPError, now: float) -> BatchStoppedError | None:
        """Record that the API did not process a row, which returns to the head of the queue."""
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        since = self._since = now if self._since is None else self._since
        left = since + self._patience - now
        if left <= 0 or (retry_after is not None and retry_after > left):
            waits = f", and the API asks to wait {retry_after:g} s more" if retry_after is not None else ""
            return _stop(f"no row succeeded for {now - since:.0f} s (patience is {self._patience:g} s){waits}", error)
        if generation == self.generation:
            wait = self._backoff()
            self._pause(min(wait, left) if retry_after is None else retry_after + FIRST_PAUSE * _jitter(), now)
        elif retry_after is not None:
            self.until = max(self.until, now + retry_after)
        return None

    def _pause(self, seconds: float, now: float) -> None:
        self.half_open = True
        self.until = max(self.until, now + seconds)
        self.generation += 1
        self.in_flight = 0

    def _backoff(self) -> float:
        wait = min(MAX_PAUSE, FIRST_PAUSE * 2.0**self._level) * _jitter()
        self._level = min(self._level + 1, 16)
        return wait

    def _close(self) -> bool:
        self.half_open = self.open = False
        self._doubts = self._level = 0
        self._since = None
        return True


def _jitter() -> float:
    # Half of the time is fixed, so that a pause is never close to zero.
    return random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects no secret


def _stop(reason: str, error: HPPError) -> BatchStoppedError:
    stop = BatchStoppedError(
        f"the batch stopped: {reason}. Unstarted rows are unchanged. Last error: {error}",
        correlation_id=error.correlation_id,
        cause=type(error).__name__,
    )
    stop.last_error = error
    return stop
