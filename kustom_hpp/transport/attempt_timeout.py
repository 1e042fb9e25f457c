"""The two waits of an attempt: for its turn at the gate, and, once it runs, for its end."""

import asyncio
from collections import deque

from kustom_hpp.errors import DeadlineExceededError


class Gate:
    """As many at once as there are connections, in the order of their coming.

    Implementation note: asyncio.Semaphore with a fast path. Passing a gate that is open costs no coroutine.
    """

    __slots__ = ("_waiters", "free", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.free = width
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def wait(self, deadline: float | None) -> None:
        """Wait for a place; only where none is free.

        Raises:
            DeadlineExceededError: none came free before the deadline (on the event loop's clock).

        """
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.release()  # the place was given, and nobody is here to take it
            else:
                turn.cancel()
            if not isinstance(error, TimeoutError):
                raise
        else:
            return
        msg = f"the deadline passed while all {self.width} connections were busy: nothing was sent"
        raise DeadlineExceededError(msg)

    def release(self) -> None:
        """Give a place to whoever has waited longest, or back."""
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


class Clock:
    """The end of one attempt, moved from phase to phase: asyncio.timeout, but moving it on costs no timer.

    To be stopped exactly once. As with asyncio.timeout, the task is cancelled when the time is up, and the cancellation
    is this clock's own only where nobody else has cancelled the task too.
    """

    __slots__ = ("_asked", "_deadline", "_handle", "_loop", "_task", "_until", "expired")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, deadline: float | None) -> None:
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._loop = loop
        self._deadline = deadline
        self._task = task
        self._asked = task.cancelling()
        until = loop.time() + seconds
        self._until = until if deadline is None or until < deadline else deadline
        self._handle = loop.call_at(self._until, self._ring)
        self.expired = False
        """True once the time was up."""

    def phase(self, seconds: float) -> None:
        """Begin a phase that may take so many seconds, yet not past the deadline."""
        until = self._loop.time() + seconds
        if self._deadline is not None and self._deadline < until:
            until = self._deadline
        self._until = until
        if until < self._handle.when():
            self._handle.cancel()
            self._handle = self._loop.call_at(until, self._ring)

    def _ring(self) -> None:
        if self._loop.time() < self._until:
            self._handle = self._loop.call_at(self._until, self._ring)
        else:
            self.expired = True
            self._task.cancel()

    def stop(self) -> bool:
        """Stop; True where a cancellation that arrived is this clock's own, and so no cancellation of the caller."""
        self._handle.cancel()
        return self.expired and self._task.uncancel() <= self._asked
