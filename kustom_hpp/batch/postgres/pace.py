"""`SharedPace`: a rate limit that many processes share, as one row of the ledger's database."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg

from kustom_hpp._messages import RateLimit
from kustom_hpp.batch.postgres.schema import connect, describe_dsn, explain
from kustom_hpp.batch.writer_thread import WriterThread
from kustom_hpp.errors import JournalError
from kustom_hpp.pace import Pace

BURST: Final = 0.25
"""Seconds' worth of starts that may happen at once after a pause: the processes' own delays are caught up."""
MAX_STARTS: Final = 4
"""Starts that one statement reserves at most. More would wait in a process that does not need them."""
_LOCAL_SECONDS: Final = 2.0
"""Seconds after a failure in which the database is not asked."""
_PATIENCE: Final = 1.0
"""Seconds to wait for the database's response."""
_SHARE_SECONDS: Final = 4.0
"""Seconds whose reserved starts say which share of the rate limit this process takes."""
_LEAST_SHARE: Final = 1.0
"""Starts per second without the database, for a process that had fewer."""
_STALE: Final = 1.0
"""Seconds after which a reserved start is dropped, if no caller took it."""
# full_at is the time at which the bucket is full again (the "generic cell rate algorithm"), by the database's clock.
_TAKE: Final = """INSERT INTO kustom_hpp.rate_limits AS t (merchant, full_at)
    VALUES (%(merchant)s, extract(epoch FROM clock_timestamp())::float8 + %(seconds)s)
    ON CONFLICT (merchant) DO UPDATE
        SET full_at = greatest(t.full_at, extract(epoch FROM clock_timestamp())::float8) + %(seconds)s
    RETURNING full_at - %(seconds)s - %(burst)s - extract(epoch FROM clock_timestamp())::float8"""


class SharedPace(Pace):
    """A rate limit shared by all processes that use one ledger; made by `PostgresLedger.pace`.

    The start of each attempt is reserved in one row, a few starts with one statement, by the database's clock. A 429 and its
    Retry-After slow this process down as with every `Pace`. If the database does not respond, each process continues at the
    share of the rate that it took before, and at least one start per second, until it does.

    Args:
        reservations: the thread with the connection on which starts are reserved.
        rate: requests per second of all processes together.
        merchant: whose rate limit it is.

    """

    def __init__(self, reservations: WriterThread[Any], rate: float, merchant: str = "") -> None:
        super().__init__(rate)
        self._shared_rate = rate
        self._merchant = merchant
        self._thread = reservations
        self._starts = deque[float]()
        """Reserved starts for the next callers, on the clock of time.monotonic."""
        self._waiting = 0
        """Callers of `acquire`."""
        self._reservations: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}
        self._taken = deque[float]()
        """Reserved starts that callers took during the last seconds."""
        self._local_until = -math.inf
        """Until then the database is not asked."""
        self._share = 0.0
        """Starts per second without the database; 0 while it responds."""
        self._next_local = -math.inf
        self.statements = 0
        """Statements sent to the database, for measurements."""

    async def acquire(self, deadline: float | None = None) -> float:
        """Wait until an attempt may start; see `Pace.acquire`."""
        self._waiting += 1
        try:
            start = await self._reserved_start(deadline)
            now = time.monotonic()
            if start > now:
                if deadline is not None and start > deadline:
                    raise self._deadline_error()
                await asyncio.sleep(start - now)
        finally:
            self._waiting -= 1
        return await super().acquire(deadline)

    def record_response(
        self, sent: float, *, throttled: bool = False, limit: RateLimit | None = None, retry_after: float | None = None
    ) -> None:
        """Record the response to an attempt; see `Pace.record_response`."""
        # Not what the headers say is left: the other processes take it, and the database gives each its part.
        del limit
        super().record_response(sent, throttled=throttled, retry_after=retry_after)

    async def _reserved_start(self, deadline: float | None) -> float:
        """Return the next reserved start; without the database, the next one of this process's share."""
        loop = asyncio.get_running_loop()
        while True:
            now = time.monotonic()
            with contextlib.suppress(IndexError):
                while (start := self._starts.popleft()) < now - _STALE:
                    continue  # reserved for an attempt that was cancelled
                self._record_start(start)
                return start
            if now < self._local_until:
                if (local_start := self._local_start(now)) is not None:
                    return local_start
                if deadline is not None and deadline < self._local_until:
                    raise self._deadline_error()
                await asyncio.sleep(self._local_until - now)
                continue
            reservation = self._reservations.get(loop)
            try:
                if reservation is None:
                    # Those who wait for their starts come back soon: with many of them, none of these starts is wasted.
                    reservation = self._reservations[loop] = self._reserve(min(MAX_STARTS, self._waiting))
                async with asyncio.timeout(_PATIENCE):
                    await asyncio.shield(reservation)
                self._share = 0.0
            except (TimeoutError, JournalError):
                self._use_share(now)
            finally:
                if reservation is not None and reservation.done() and self._reservations.get(loop) is reservation:
                    del self._reservations[loop]

    def _record_start(self, start: float) -> None:
        self._taken.append(start)
        while self._taken[0] < start - _SHARE_SECONDS:
            self._taken.popleft()

    def _use_share(self, before: float) -> None:
        """Continue without the database, at the rate of the last seconds in which it responded."""
        self._local_until = time.monotonic() + _LOCAL_SECONDS
        if not self._share:
            taken = sum(start > before - _SHARE_SECONDS for start in self._taken.copy())
            # What all processes took together is the rate for these seconds, and one burst.
            self._share = max(taken / (_SHARE_SECONDS + BURST), min(_LEAST_SHARE, self._shared_rate))

    def _local_start(self, now: float) -> float | None:
        """Take the next start of this process's share; None if it comes after the database is asked again."""
        with self._lock:
            start = max(now, self._next_local)
            if start >= self._local_until or not self._share:
                return None
            self._next_local = start + 1 / self._share
            return start

    def _reserve(self, count: int) -> "asyncio.Future[None]":
        def take(connection: "psycopg.Connection[Any]") -> None:
            values = {"merchant": self._merchant, "seconds": count / self._shared_rate, "burst": BURST}
            [[wait]] = connection.execute(_TAKE, values).fetchall()
            first = time.monotonic() + wait
            self.statements += 1
            self._starts.extend(first + number / self._shared_rate for number in range(count))

        return self._thread.submit(take)


class Reservations:
    """The connection on which starts are reserved: a `Database` of `writer_thread`."""

    max_idle: float | None = None

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None

    def execute(self, operations: Sequence[Callable[[Any], Any]]) -> list[Any]:
        """Run operations; after a failure the next call connects again."""
        results: list[Any] = []
        for operation in operations:
            try:
                if self._connection is None:
                    # A start that a crash forgets does no harm.
                    self._connection = connect(self._dsn, synchronous_commit=False)
                results.append(operation(self._connection))
            except psycopg.Error as error:
                self.close()
                results.append(JournalError(explain(error, describe_dsn(self._dsn)), cause=type(error).__name__))
        return results

    def maintain(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    close_without_writing = close
