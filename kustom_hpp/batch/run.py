"""The engine of a batch: workers that pull rows, send them, and hand their outcomes out as fast as they are taken.

What becomes of a row stands in `walk`, when a run pauses or stops in `stops`; here is who waits for whom.
"""

import asyncio
import math
from collections import deque
from types import TracebackType
from typing import Literal, Self

from kustom_hpp.batch.circuit_breaker import Stops
from kustom_hpp.batch.flow import Flow
from kustom_hpp.batch.journal import Journal
from kustom_hpp.batch.outcome_queue import Outlet
from kustom_hpp.batch.outcomes import Counts, Outcome, OutcomeState
from kustom_hpp.batch.row_processor import Create, Rows, Rules
from kustom_hpp.batch.rows import Items, Row, Source
from kustom_hpp.batch.stop_signal import Switch
from kustom_hpp.errors import BatchStoppedError, ConfigError, DuplicateSessionError, JournalError

OnDoubt = Literal["report", "resend"]
GRACE = 10.0
"""Seconds that flying rows get to end by themselves when a run is closed."""
_JOURNAL_GRACE = 5.0
"""Seconds that the journal gets after that to finish what it is writing."""


def run(
    create: Create,
    items: Items,
    *,
    concurrency: int = 32,
    rate: float | None = None,
    journal: Journal | None = None,
    on_doubt: OnDoubt = "report",
    retry_failed: bool = False,
    ordered: bool = False,
    max_failures: int | None = None,
    max_doubts: int = 10,
    patience: float = 300.0,
) -> "BatchRun":
    """Create a session for each item: none lost, none created twice.

        async with batch.run(client.create_session, items, journal=journal) as outcomes:
            async for outcome in outcomes:
                ...

    Nothing is held in memory but what flies: the items may be endless. Who takes the outcomes slowly, slows the sending.
    An item that cannot be sent (no request, a request that the documents forbid, a key that was there already) is a
    FAILED row with an InvalidRequestError, and the rest goes on. A repeated key is found among the newest 10,000 keys;
    with a journal it never leads to a second session, however far apart the two are.

    Args:
        create: makes one session; normally `client.create_session`.
        items: requests (the key is then the payment_session_url) or `BatchItem`s, from any iterable or async iterable. It
            is read as the run goes on; an async generator is closed with the run.
        concurrency: rows in flight, from 1. No more than the client's `Pool.connections` is of use.
        rate: rows sent per second at most; None leaves that to the client's `Pace`.
        journal: the memory over runs; None for none. The run does not close it.
        on_doubt: "resend" sends rows again that an earlier run left in doubt, once in this run, at the risk of a second
            session; never those that the API accepted, nor those whose payload has changed.
        retry_failed: sends rows again that the API refused in an earlier run.
        ordered: outcomes come in the order of the items.
        max_failures: so many FAILED rows stop the run, from 1; None for any number.
        max_doubts: so many rows IN_DOUBT in a row let the run wait for one that succeeds; the second time it stops.
        patience: seconds without a success after which a run stops whose rows cannot be sent.

    Returns:
        The run. Entering it (`async with`) begins it, iterating takes its outcomes, leaving it ends it. Iterating raises,
        once the outcomes of all rows that were flying have been taken:

        - BatchStoppedError: the credentials are refused, nothing can be sent, too much is in doubt, or max_failures;
        - JournalError: the journal cannot keep what it is told; outcomes that it does not hold have `recorded=False`;
        - DuplicateSessionError: the API gave one session id to two keys (without a journal: of the newest 10,000 ids);
        - whatever the items or `create` raise that is no HPPError.

        A row without an outcome was not processed: it is sent by the next run.

    Raises:
        ConfigError: an argument cannot work.

    """
    if on_doubt not in ("report", "resend"):
        msg = f'on_doubt must be "report" or "resend", got {on_doubt!r}'
        raise ConfigError(msg)
    flow = Flow(
        concurrency=concurrency,
        rate=rate,
        ordered=ordered,
        max_failures=max_failures,
        max_doubts=max_doubts,
        patience=patience,
    )
    stops = Stops(patience=patience, max_doubts=max_doubts, max_failures=max_failures)
    switch = Switch()
    rules = Rules(resend=on_doubt == "resend", retry_failed=retry_failed)
    rows = Rows(create, journal, rules, stops, switch)
    return BatchRun(rows, Source(items), stops, switch, flow)


class BatchRun:
    """A run of a batch. Made by `run`, which tells what its iteration yields and raises."""

    def __init__(self, rows: Rows, source: Source, stops: Stops, switch: Switch, flow: Flow) -> None:
        self._rows = rows
        self._source = source
        self._stops = stops
        self._switch = switch
        self._spacing = flow.spacing
        self._next_turn = -math.inf
        self._line: deque[Row] = deque()
        """Rows that were pulled and are to be sent before any new one."""
        self._pulling = asyncio.Lock()
        self._outlet = Outlet(flow.concurrency, ordered=flow.ordered, on_room=switch.ring)
        self._concurrency = flow.concurrency
        self._tasks: list[asyncio.Task[None]] = []
        self._active = 0
        """Workers that have not ended."""
        self._in_flight = 0
        self._rows.ahead = self._ahead

    # What the caller does.

    @property
    def counts(self) -> Counts:
        """How far it has come."""
        ended = self._rows.ended
        return Counts(
            pulled=self._source.pulled,
            created=ended[OutcomeState.CREATED],
            failed=ended[OutcomeState.FAILED],
            in_doubt=ended[OutcomeState.IN_DOUBT],
            earlier=self._rows.earlier,
            in_flight=self._in_flight,
        )

    def drain(self) -> None:
        """Take no more rows. Iterating goes on with the outcomes of those that fly, and then ends."""
        self._switch.stop(None)

    async def aclose(self, grace: float = GRACE) -> None:
        """End the run: take no more rows, let flying ones end, cut off the rest. Nothing of it is left in the loop.

        What is cut off is in doubt, in the journal too. Outcomes that nobody took yet can still be taken. Idempotent; a
        second call with less grace ends the first one's patience.

        Args:
            grace: seconds that flying rows get.

        """
        self._switch.stop(None)
        try:
            await self._wait_for_workers(grace)
        finally:
            # A row is cut off where it flies; what the journal has begun to write, it ends.
            for worker in tuple(self._rows.flying):
                worker.cancel()
            await self._wait_for_workers(_JOURNAL_GRACE)
            # Once more for the last worker: what it gives back at its end, a journal that hangs would never take.
            for seconds in (_JOURNAL_GRACE, None):
                for worker in self._tasks:
                    worker.cancel()
                await self._wait_for_workers(seconds)

    async def __aenter__(self) -> Self:
        if self._tasks or self._switch.stopped:
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
        # Leaving early is no fault; but nobody shall miss that an answer was not kept, or that two were mixed up.
        untold = self._take_error()
        if error is None and isinstance(untold, (JournalError, DuplicateSessionError)):
            raise untold

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        outlet = self._outlet
        while (outcome := outlet.take()) is None:
            if not self._tasks:
                msg = "a run is entered before it is iterated: async with batch.run(...) as outcomes"
                raise RuntimeError(msg)
            if not self._active:
                error = self._take_error()
                raise StopAsyncIteration if error is None else error
            await outlet.wait()
        return outcome

    # What the workers do.

    async def _work(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - for the type checker
        cancelled = False
        try:
            while (row := await self._next(worker)) is not None:
                await self._run(row, worker)
        except Exception as error:  # noqa: BLE001 - a fault of our own shall not look like the end of the input
            self._switch.stop(error)
        except asyncio.CancelledError:  # also where what `create` waited for was cancelled, and not the worker itself
            cancelled = True
            raise
        finally:
            if (cancelled or worker.cancelling()) and not self._switch.stopped:
                self._switch.stop(BatchStoppedError("the batch stopped: one of its workers was cancelled from outside"))
            try:
                if self._active == 1:
                    await self._finish()
            finally:
                self._active -= 1
                self._outlet.wake()

    async def _run(self, row: Row, worker: "asyncio.Task[None]") -> None:
        stops = self._stops
        row.wave = stops.begin()
        self._in_flight += 1
        try:
            outcome = await self._rows.run(row, worker)
        except asyncio.CancelledError:
            if (cut := self._rows.cut_off(row)) is not None:
                self._outlet.put(row.number, cut)
            else:
                self._line.appendleft(row)  # nothing was sent: what the journal holds of it is given back at the end
            raise
        finally:
            self._in_flight -= 1
            stops.end(row.wave)
            if stops.careful:
                self._switch.ring()
        if outcome is None:
            self._line.appendleft(row)
        else:
            self._outlet.put(row.number, outcome)

    async def _next(self, worker: "asyncio.Task[None]") -> Row | None:
        """The next row that may be sent; None where there is none, or there shall be none."""
        stops, switch, line = self._stops, self._switch, self._line
        while not switch.stopped and (line or not self._source.exhausted):
            if stops.careful and not stops.may_go(_now()):
                await switch.change(None if stops.flying else stops.until)
                continue
            if line:
                row = line.popleft()
            elif self._outlet.full:
                await switch.change()
                continue
            elif (pulled := await self._pull(worker)) is None:
                continue
            else:
                row = pulled
            if not self._spacing or row.problem is not None or await self._turn(row):
                return row
        return None

    async def _pull(self, worker: "asyncio.Task[None]") -> Row | None:
        """A new row; None where there is none, or where the run has to be looked at again first."""
        source, switch = self._source, self._switch
        row = None
        try:
            if not source.is_async:
                row = source.take()
            else:
                async with self._pulling:
                    # Whoever had the input before may have waited for long.
                    if switch.stopped or source.exhausted or self._line or self._outlet.full:
                        return None
                    switch.puller = worker
                    try:
                        row = await source.take_later()
                    finally:
                        switch.puller = None
        except Exception as error:  # noqa: BLE001 - of the caller's iterable: told when all that flies has ended
            switch.stop(error)
            return None
        if row is None:
            switch.ring()
        elif source.is_async:
            self._line.append(row)
            return None
        return row

    def _ahead(self) -> Row | None:
        """The row that a worker will take up next when it has settled its last one; at the end of the line until then."""
        source, switch = self._source, self._switch
        if source.is_async or source.exhausted or switch.stopped or self._stops.careful:
            return None
        if self._outlet.full or self._spacing:
            return None
        try:
            row = source.take()
        except Exception as error:  # noqa: BLE001 - of the caller's iterable: told when all that flies has ended
            switch.stop(error)
            return None
        if row is None:
            switch.ring()
        else:
            self._line.append(row)
        return row

    async def _turn(self, row: Row) -> bool:
        """Wait for a turn at `rate`; False where the row may not be sent any more when it comes: it is in the line again."""
        now = _now()
        turn = max(self._next_turn, now)
        self._next_turn = turn + self._spacing
        may_go = False
        try:
            if turn > now:
                await self._switch.sleep(turn - now)
            may_go = not self._switch.stopped and self._stops.may_go(_now())
        finally:
            if not may_go:
                self._line.appendleft(row)
        return may_go

    async def _finish(self) -> None:
        """The last worker's duty."""
        self._switch.stop(None)
        try:
            await self._rows.give_back(self._line, self._outlet.put)
        finally:
            self._outlet.flush()
            try:
                await self._source.aclose()
            except Exception as error:  # noqa: BLE001 - of the caller's generator
                self._switch.stop(error)

    # Between them.

    def _take_error(self) -> BaseException | None:
        error, self._switch.error = self._switch.error, None
        return error

    async def _wait_for_workers(self, seconds: float | None) -> None:
        if any(not worker.done() for worker in self._tasks):
            await asyncio.wait(self._tasks, timeout=seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
