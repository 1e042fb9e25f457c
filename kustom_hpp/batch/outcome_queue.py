"""Where outcomes wait to be taken."""

import asyncio
from collections import deque
from collections.abc import Callable

from kustom_hpp.batch.outcomes import Outcome

ORDERED_WINDOW = 8
"""Outcomes that may wait in ordered mode, for each worker."""


class Outlet:
    """Outcomes between the workers and the one who takes them. It refuses none; `full` says that no more rows are due.

    Args:
        workers: how many there are.
        ordered: whether outcomes come out in the order of their numbers, which count from 1.
        on_room: called when there is room for more rows again.

    """

    def __init__(self, workers: int, *, ordered: bool, on_room: Callable[[], None]) -> None:
        self._on_room = on_room
        self._room = workers * (ORDERED_WINDOW if ordered else 1)
        self._ready: deque[Outcome] = deque()
        self._early: dict[int, Outcome] | None = {} if ordered else None
        """In ordered mode: outcomes whose turn has not come."""
        self._next = 1
        self._waiting = 0
        self._taker: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether so many wait that no new row shall be begun."""
        return self._waiting >= self._room

    def put(self, number: int, outcome: Outcome) -> None:
        """Let an outcome wait."""
        self._waiting += 1
        early = self._early
        if early is None:
            self._ready.append(outcome)
        else:
            early[number] = outcome
            while (following := early.pop(self._next, None)) is not None:
                self._ready.append(following)
                self._next += 1
        if self._ready:
            self.wake()

    def flush(self) -> None:
        """No more numbers will come: let go those that waited for one."""
        if self._early:
            self._ready.extend(self._early[number] for number in sorted(self._early))
            self._early.clear()

    def take(self) -> Outcome | None:
        """The next outcome; None where none is ready."""
        if not self._ready:
            return None
        if self._waiting == self._room:
            self._on_room()
        self._waiting -= 1
        return self._ready.popleft()

    async def wait(self) -> None:
        """Wait until one is ready, or until somebody wakes the taker."""
        if self._taker is not None:
            msg = "a run is iterated by one task at a time"
            raise RuntimeError(msg)
        self._taker = asyncio.get_running_loop().create_future()
        try:
            await self._taker
        finally:
            self._taker = None

    def wake(self) -> None:
        """Let the taker look again."""
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
