"""A run of a batch: workers pull rows, send them, and hand outcomes out as fast as the caller takes them.

`row_processor` decides what happens to a row, `circuit_breaker` when a run pauses or stops. This module schedules.
"""

import asyncio
import math
from collections import deque
from types import TracebackType
from typing import Self

from attrs import define, field

from kustom_hpp.batch.circuit_breaker import CircuitBreaker
from kustom_hpp.batch.outcome_queue import OutcomeQueue
from kustom_hpp.batch.outcomes import Outcome, OutcomeState, RunCounts
from kustom_hpp.batch.row_processor import RowProcessor
from kustom_hpp.batch.rows import Row, RowSource
from kustom_hpp.batch.stop_signal import StopSignal
from kustom_hpp.errors import BatchStoppedError, DuplicateSessionError, JournalError

GRACE = 10.0
"""Seconds that rows in flight get to end when a run is closed."""
_JOURNAL_GRACE = 5.0
"""Seconds that the journal gets after that to finish its writes."""


@define(kw_only=True, eq=False)
class BatchRun:
    """A run of a batch. `run` creates it and documents what its iteration yields and raises."""

    _processor: RowProcessor = field(alias="processor")
    _source: RowSource = field(alias="source")
    _breaker: CircuitBreaker = field(alias="breaker")
    _signal: StopSignal = field(alias="signal")
    _outcomes: OutcomeQueue = field(alias="outcomes")
    _concurrency: int = field(alias="concurrency")
    _interval: float = field(alias="interval")
    _next_start: float = field(default=-math.inf, init=False)
    """The earliest time for the next row at `rate`."""
    _queue: deque[Row] = field(factory=deque, init=False)
    """Rows that were pulled, and are sent before any new one."""
    _input_lock: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _tasks: "list[asyncio.Task[None]]" = field(factory=list, init=False)
    _active: int = field(default=0, init=False)
    """Workers that have not ended."""
    _in_flight: int = field(default=0, init=False)

    # For the caller

    @property
    def counts(self) -> RunCounts:
        """The progress of the run."""
        ended = self._processor.ended
        return RunCounts(
            pulled=self._source.pulled,
            created=ended[OutcomeState.CREATED],
            failed=ended[OutcomeState.FAILED],
            in_doubt=ended[OutcomeState.IN_DOUBT],
            elsewhere=ended[OutcomeState.CLAIMED_ELSEWHERE],
            earlier=self._processor.earlier,
            in_flight=self._in_flight,
        )

    def drain(self) -> None:
        """Take no more rows. Iterating goes on with the outcomes of the rows in flight, and then ends."""
        self._signal.stop(None)

    async def aclose(self, grace: float = GRACE) -> None:
        """End the run: take no more rows, let rows in flight end, and cancel the rest.

        A cancelled row is in doubt, in the journal too. Outcomes that were not taken can still be taken. No task of the run
        is left afterwards. Idempotent; a second call with a shorter grace shortens that of the first.

        Args:
            grace: seconds that rows in flight get.

        """
        self._signal.stop(None)
        try:
            await self._wait_for_workers(grace)
        finally:
            # Only rows in flight are cancelled; the journal finishes the writes that it has begun.
            for worker in tuple(self._processor.sending):
                worker.cancel()
            await self._wait_for_workers(_JOURNAL_GRACE)
            # Twice, for the last worker: it releases claims at its end, and a journal that hangs would never respond.
            for seconds in (_JOURNAL_GRACE, None):
                for worker in self._tasks:
                    worker.cancel()
                await self._wait_for_workers(seconds)

    async def __aenter__(self) -> Self:
        if self._tasks or self._signal.stopped:
            msg = "a run can be entered once; make a new one with batch.run"
            raise RuntimeError(msg)
        self._active = self._concurrency
        name = "kustom_hpp batch worker {}"
        self._tasks = [asyncio.create_task(self._work(), name=name.format(n)) for n in range(self._concurrency)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
        # Leaving early is not an error, but a lost outcome or a duplicate session must not go unnoticed.
        unreported = self._take_error()
        if error is None and isinstance(unreported, (JournalError, DuplicateSessionError)):
            raise unreported

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        queue = self._outcomes
        while (outcome := queue.get_nowait()) is None:
            if not self._tasks:
                msg = "enter a run before you iterate over it: async with batch.run(...) as outcomes"
                raise RuntimeError(msg)
            if not self._active:
                error = self._take_error()
                raise StopAsyncIteration if error is None else error
            await queue.wait()
        return outcome

    # The workers

    async def _work(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - for the type checker
        cancelled = False
        try:
            while (row := await self._next(worker)) is not None:
                await self._run(row, worker)
        except Exception as error:  # noqa: BLE001 - a fault of this module must not look like the end of the input
            self._signal.stop(error)
        except asyncio.CancelledError:  # also if `create` raised it, and nobody cancelled the worker
            cancelled = True
            raise
        finally:
            if (cancelled or worker.cancelling()) and not self._signal.stopped:
                self._signal.stop(BatchStoppedError("the batch stopped: other code cancelled one of its workers"))
            try:
                if self._active == 1:
                    await self._finish()
            finally:
                self._active -= 1
                self._outcomes.notify()

    async def _run(self, row: Row, worker: "asyncio.Task[None]") -> None:
        breaker = self._breaker
        row.generation = breaker.begin()
        self._in_flight += 1
        try:
            outcome = await self._processor.run(row, worker)
        except asyncio.CancelledError:
            if (cancelled := self._processor.outcome_of_cancelled(row)) is not None:
                self._outcomes.put(row.number, cancelled)
            else:
                self._queue.appendleft(row)  # nothing was sent: the last worker releases its claim
            raise
        finally:
            self._in_flight -= 1
            breaker.end(row.generation)
            if breaker.half_open:
                self._signal.notify()
        if outcome is None:
            self._queue.appendleft(row)
        else:
            self._outcomes.put(row.number, outcome)

    async def _next(self, worker: "asyncio.Task[None]") -> Row | None:
        """Return the next row that may be sent; None at the end of the input or of the run."""
        breaker, signal, queue = self._breaker, self._signal, self._queue
        while not signal.stopped and (queue or not self._source.exhausted):
            if breaker.half_open and not breaker.allows(_now()):
                await signal.wait_for_change(None if breaker.in_flight else breaker.until)
                continue
            if not queue:
                await (signal.wait_for_change() if self._outcomes.full else self._pull(worker))
                continue
            row = queue.popleft()
            if not self._interval or row.problem is not None or await self._wait_for_rate(row):
                return row
        return None

    async def _pull(self, worker: "asyncio.Task[None]") -> None:
        """Put a new row into the queue."""
        source, signal = self._source, self._signal
        async with self._input_lock:
            # The worker that had the input before may have waited for long.
            if signal.stopped or source.exhausted or self._queue or self._outcomes.full:
                return
            signal.input_task = worker
            try:
                row = await source.take()
            except Exception as error:  # noqa: BLE001 - of the caller's iterable: raised when all rows in flight have ended
                signal.stop(error)
                return
            finally:
                signal.input_task = None
        if row is None:
            signal.notify()
        else:
            self._queue.append(row)

    async def _wait_for_rate(self, row: Row) -> bool:
        """Wait until `rate` allows a row; return False, with the row in the queue, if it may not be sent then."""
        now = _now()
        start = max(self._next_start, now)
        self._next_start = start + self._interval
        allowed = False
        try:
            if start > now:
                await self._signal.sleep_until(start)
            allowed = not self._signal.stopped and self._breaker.allows(_now())
        finally:
            if not allowed:
                self._queue.appendleft(row)
        return allowed

    async def _finish(self) -> None:
        """Finish the run, in its last worker."""
        self._signal.stop(None)
        try:
            await self._processor.release_claims(self._queue, self._outcomes.put)
        finally:
            self._outcomes.flush()
            try:
                await self._source.aclose()
            except Exception as error:  # noqa: BLE001 - of the caller's generator
                self._signal.stop(error)

    def _take_error(self) -> BaseException | None:
        error, self._signal.error = self._signal.error, None
        return error

    async def _wait_for_workers(self, seconds: float | None) -> None:
        if any(not worker.done() for worker in self._tasks):
            await asyncio.wait(self._tasks, timeout=seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
