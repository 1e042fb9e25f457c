"""The queue between the workers of a run and the caller, who takes the outcomes."""

import asyncio
from collections import deque
from collections.abc import Callable

from kustom_hpp.batch.outcomes import Outcome

ORDERED_WINDOW = 8
"""Outcomes that may wait in ordered mode, for each worker."""


class OutcomeQueue:
    """Outcomes that wait to be taken. It accepts all of them; `full` says that no new row should be started.

    Args:
        workers: the number of workers.
        ordered: whether outcomes come out in the order of their numbers, which start at 1.
        on_space: called when the queue is no longer full.

    """

    def __init__(self, workers: int, *, ordered: bool, on_space: Callable[[], None]) -> None:
        self._on_space = on_space
        self._capacity = workers * (ORDERED_WINDOW if ordered else 1)
        self._ready: deque[Outcome] = deque()
        self._out_of_order: dict[int, Outcome] | None = {} if ordered else None
        """In ordered mode: outcomes that wait for an earlier number."""
        self._next = 1
        self._waiting = 0
        self._taker: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether so many outcomes wait that no new row should be started."""
        return self._waiting >= self._capacity

    def put(self, number: int, outcome: Outcome) -> None:
        """Add an outcome."""
        self._waiting += 1
        waiting = self._out_of_order
        if waiting is None:
            self._ready.append(outcome)
        else:
            waiting[number] = outcome
            while (following := waiting.pop(self._next, None)) is not None:
                self._ready.append(following)
                self._next += 1
        if self._ready:
            self.notify()

    def flush(self) -> None:
        """Release the outcomes that wait for a number which will not come."""
        if self._out_of_order:
            self._ready.extend(self._out_of_order[number] for number in sorted(self._out_of_order))
            self._out_of_order.clear()

    def get_nowait(self) -> Outcome | None:
        """Return the next outcome; None if none is ready."""
        if not self._ready:
            return None
        if self._waiting == self._capacity:
            self._on_space()
        self._waiting -= 1
        return self._ready.popleft()

    async def wait(self) -> None:
        """Wait until an outcome is ready, or for `notify`."""
        if self._taker is not None:
            msg = "one task at a time can iterate over a run"
            raise RuntimeError(msg)
        self._taker = asyncio.get_running_loop().create_future()
        try:
            await self._taker
        finally:
            self._taker = None

    def notify(self) -> None:
        """Wake the task that waits for an outcome."""
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
