"""When a batch goes on, pauses, tries with one row, or stops: judged by how rows ended. No I/O, no clock of its own."""

import random

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
LONGEST_PAUSE = 8.0
DOUBT_PAUSE = 2.0
"""Seconds of the pause after `max_doubts` rows in a row whose outcome is unknown."""
ALL_FORBIDDEN = 10
"""So many first rows that all end with 403 say that it is not about the row."""

_FOR_EVERY_ROW = (AuthenticationError, CertificateError, ClientClosedError, ConfigError, WrongLoopError)
"""What no waiting would mend."""


def not_processed(error: HPPError) -> bool:
    """True where nothing reached the API, or it said "not now": the row may be sent again, and loses nothing by it."""
    if isinstance(error, RateLimitError):
        return error.delivery is Delivery.REJECTED
    return error.delivery is Delivery.NOT_SENT


def for_every_row(error: HPPError) -> bool:
    """True for what every further row would meet too: it is not about the row."""
    return isinstance(error, _FOR_EVERY_ROW)


def stop_for_every_row(error: HPPError) -> BatchStoppedError:
    """The stop that goes with it."""
    return _stop("every further row would meet the same", error)


class Stops:
    """The rules of a run.

    A row belongs to the `wave` in which it was sent. Trouble ends a wave: rows of an earlier one that fail later tell
    nothing new. While the run is `careful`, one row of the new wave flies alone, after the pause.
    """

    __slots__ = (
        "_doubts", "_failures", "_forbidden", "_level", "_max_doubts", "_max_failures", "_patience", "_since",
        "_trips", "careful", "flying", "tripped", "until", "wave",
    )  # fmt: skip

    def __init__(self, *, patience: float, max_doubts: int, max_failures: int | None) -> None:
        self.wave = 0
        self.flying = 0
        """Rows of this wave that fly."""
        self.careful = False
        """True while rows go one at a time, not before `until`."""
        self.tripped = False
        """True while a row has to succeed before the next ones go."""
        self.until = 0.0
        self._patience = patience
        self._max_doubts = max_doubts
        self._max_failures = max_failures
        self._doubts = 0
        self._trips = 0
        self._failures = 0
        self._forbidden: int | None = 0
        self._level = 0
        self._since: float | None = None

    def may_go(self, now: float) -> bool:
        """Whether a row may be sent now."""
        return not self.careful or (not self.flying and now >= self.until)

    def begin(self) -> int:
        """A row is sent; its wave."""
        self.flying += 1
        return self.wave

    def end(self, wave: int) -> None:
        """It is not on its way any more."""
        if wave == self.wave:
            self.flying -= 1

    def created(self, wave: int) -> bool:
        """A row succeeded; True where that ends the carefulness."""
        self._forbidden = None
        if not self.careful:
            self._doubts = 0
            self._since = None
            return False
        return wave == self.wave and self._all_clear()

    def failed(self, wave: int, error: HPPError) -> BatchStoppedError | None:
        """A row was refused, or was no good."""
        if self.careful and not self.tripped and wave == self.wave and isinstance(error, ApiError):
            self._all_clear()  # the API answers, and it is not too much for it
        if not self.tripped:
            self._doubts = 0
        self._failures += 1
        if self._max_failures is not None and self._failures >= self._max_failures:
            return _stop(f"{self._failures} rows failed, which is max_failures", error)
        if self._forbidden is not None:
            self._forbidden = self._forbidden + 1 if isinstance(error, PermissionDeniedError) else None
            if self._forbidden == ALL_FORBIDDEN:
                return _stop(
                    f"the first {ALL_FORBIDDEN} rows were all refused with 403: these credentials may not", error
                )
        return None

    def in_doubt(self, wave: int, error: HPPError, now: float) -> BatchStoppedError | None:
        """A row ended with an unknown outcome."""
        self._forbidden = None
        late = wave != self.wave
        if self.tripped:
            if late:
                return None  # sent before the breaker tripped: known trouble
            return _stop(f"{self._doubts} rows in a row ended with an unknown outcome, and so did the next one", error)
        self._doubts += 1
        if self._doubts < self._max_doubts:
            if self.careful and not late:
                self._pause(self._backoff(), now)
            return None
        self._trips += 1
        if self._trips > 1:
            return _stop(f"{self._doubts} rows in a row ended with an unknown outcome, for the second time", error)
        self.tripped = True
        self._pause(DOUBT_PAUSE * _jitter(), now)
        return None

    def held_back(self, wave: int, error: HPPError, now: float) -> BatchStoppedError | None:
        """A row was not processed, and goes back to the head of the line."""
        asked = error.retry_after if isinstance(error, ApiError) else None
        since = self._since = now if self._since is None else self._since
        left = since + self._patience - now
        if left <= 0 or (asked is not None and asked > left):
            waits = f", and the API asks to wait {asked:g} s more" if asked is not None else ""
            return _stop(f"no row succeeded for {now - since:.0f} s (patience is {self._patience:g} s){waits}", error)
        if wave == self.wave:
            wait = self._backoff()
            self._pause(min(wait, left) if asked is None else asked + FIRST_PAUSE * _jitter(), now)
        elif asked is not None:
            self.until = max(self.until, now + asked)
        return None

    def _pause(self, seconds: float, now: float) -> None:
        self.careful = True
        self.until = max(self.until, now + seconds)
        self.wave += 1
        self.flying = 0

    def _backoff(self) -> float:
        wait = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._level) * _jitter()
        self._level = min(self._level + 1, 16)
        return wait

    def _all_clear(self) -> bool:
        self.careful = self.tripped = False
        self._doubts = self._level = 0
        self._since = None
        return True


def _jitter() -> float:
    # Half of the time is fixed: a pause is never next to nothing.
    return random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret


def _stop(why: str, error: HPPError) -> BatchStoppedError:
    stop = BatchStoppedError(
        f"the batch stopped: {why}; rows that were not begun are untouched. The last one ended so: {error}",
        correlation_id=error.correlation_id,
        cause=type(error).__name__,
    )
    stop.last_error = error
    return stop
