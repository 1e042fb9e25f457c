"""The two waits of an attempt: for a free connection, and for its end."""

import asyncio
from collections import deque

from kustom_hpp.errors import DeadlineExceededError


class ConnectionSlots:
    """A semaphore with one slot for each connection, first come, first served.

    Unlike asyncio.Semaphore, a caller takes a free slot without a coroutine (`free -= 1`).
    """

    __slots__ = ("_waiters", "free", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.free = width
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def wait(self, deadline: float | None) -> None:
        """Wait for a slot. Call this only if none is free.

        Raises:
            DeadlineExceededError: no slot became free before the deadline (on the event loop's clock).

        """
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self.release()  # the slot was handed over, but this caller no longer waits
            else:
                waiter.cancel()
            if not isinstance(error, TimeoutError):
                raise
        else:
            return
        msg = f"the deadline passed while all {self.width} connections were busy: nothing was sent. Use a larger Pool"
        raise DeadlineExceededError(msg)

    def release(self) -> None:
        """Hand the slot to the caller that has waited longest, or free it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1


class AttemptTimeout:
    """The timeout of one attempt: asyncio.timeout, but a new phase of the attempt needs no new timer.

    Call `finish` exactly once. As with asyncio.timeout, the timer cancels the task, and `finish` tells that cancellation
    from one of the caller's.
    """

    __slots__ = ("_cancellations", "_deadline", "_handle", "_loop", "_task", "_until", "expired")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, deadline: float | None) -> None:
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._loop = loop
        self._deadline = deadline
        self._task = task
        self._cancellations = task.cancelling()
        until = loop.time() + seconds
        self._until = until if deadline is None or until < deadline else deadline
        self._handle = loop.call_at(self._until, self._on_timer)
        self.expired = False
        """True after the timer ended the attempt."""

    def restart(self, seconds: float) -> None:
        """Start a phase that may take this many seconds, but not past the deadline."""
        until = self._loop.time() + seconds
        if self._deadline is not None and self._deadline < until:
            until = self._deadline
        self._until = until
        if until < self._handle.when():
            self._handle.cancel()
            self._handle = self._loop.call_at(until, self._on_timer)

    def _on_timer(self) -> None:
        if self._loop.time() < self._until:
            self._handle = self._loop.call_at(self._until, self._on_timer)
        else:
            self.expired = True
            self._task.cancel()

    def finish(self) -> bool:
        """Stop the timer; return True if the cancellation that arrived was the timer's and not the caller's."""
        self._handle.cancel()
        return self.expired and self._task.uncancel() <= self._cancellations
