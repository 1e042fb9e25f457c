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
        raise DeadlineExceededError(
            f"the deadline passed while all {self.width} connections were busy: nothing was sent. Use a larger Pool"
        )

    def release(self) -> None:
        """Hand the slot to the caller that has waited longest, or free it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1


class AttemptTimer:
    """One timer of the event loop for all attempts in flight.

    Nearly every attempt ends before its timeout. A timer of its own for each would cost more than looking at all of them
    when the earliest timeout is due.
    """

    __slots__ = ("_attempts", "_handle")

    def __init__(self) -> None:
        self._attempts: set[AttemptTimeout] = set()
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, attempt: "AttemptTimeout") -> None:
        """Expire an attempt when its time is up; call this again when it has less time than before."""
        self._attempts.add(attempt)
        if self._handle is None or attempt.until < self._handle.when():
            self.stop()
            self._handle = attempt.loop.call_at(attempt.until, self._on_timer, attempt.loop)

    def forget(self, attempt: "AttemptTimeout") -> None:
        """Watch an attempt no longer."""
        self._attempts.discard(attempt)

    def stop(self) -> None:
        """Cancel the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = None
        now = loop.time()
        for attempt in [attempt for attempt in self._attempts if attempt.until <= now]:
            self.forget(attempt)
            attempt.expire()
        if self._attempts:
            earliest = min(attempt.until for attempt in self._attempts)
            self._handle = loop.call_at(earliest, self._on_timer, loop)


class AttemptTimeout:
    """The timeout of one attempt: asyncio.timeout, but neither an attempt nor a new phase of it needs a new timer.

    Call `finish` exactly once. As with asyncio.timeout, the timeout cancels the task, and `finish` tells that cancellation
    from one of the caller's.
    """

    __slots__ = ("_cancellations", "_deadline", "_task", "_timer", "expired", "loop", "until")

    def __init__(
        self, timer: AttemptTimer, loop: asyncio.AbstractEventLoop, seconds: float, deadline: float | None
    ) -> None:
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self.loop = loop
        self._timer = timer
        self._deadline = deadline
        self._task = task
        self._cancellations = task.cancelling()
        until = loop.time() + seconds
        self.until = until if deadline is None or until < deadline else deadline
        """When the attempt expires, on the event loop's clock."""
        self.expired = False
        """True after the timeout ended the attempt."""
        timer.watch(self)

    def restart(self, seconds: float) -> None:
        """Start a phase that may take this many seconds, but not past the deadline."""
        until = self.loop.time() + seconds
        if self._deadline is not None and self._deadline < until:
            until = self._deadline
        is_earlier = until < self.until
        self.until = until
        if is_earlier and not self.expired:
            self._timer.watch(self)

    def expire(self) -> None:
        """End the attempt. The timer calls this."""
        self.expired = True
        self._task.cancel()

    def finish(self) -> bool:
        """Stop the timeout; return True if the cancellation that arrived was its own and not the caller's."""
        self._timer.forget(self)
        return self.expired and self._task.uncancel() <= self._cancellations
