"""Whether a run goes on, and the condition on which its tasks wait for a change."""

import asyncio
import contextlib

from kustom_hpp.errors import DuplicateSessionError, JournalError


class StopSignal:
    """A run's stop, which is final, and the notification of its tasks. Belongs to one event loop."""

    def __init__(self) -> None:
        self.stopped = False
        self.error: BaseException | None = None
        """Why the run stopped; None if it was only closed."""
        self.input_task: asyncio.Task[None] | None = None
        """The task that waits for the input, possibly for ever: a stop cancels it."""
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self, error: BaseException | None) -> None:
        """Stop the run. The first error stays, unless the new one is about integrity and the first is not."""
        if error is not None and (self.error is None or _is_integrity_error(error) > _is_integrity_error(self.error)):
            self.error = error
        if not self.stopped:
            self.stopped = True
            self._stop.set()
            self.notify()
            # The input itself may stop the run: its task runs then, and waits for nothing.
            if self.input_task is not None and self.input_task is not asyncio.current_task():
                self.input_task.cancel()

    def stop_if(self, error: BaseException | None) -> None:
        """Stop the run if there is an error."""
        if error is not None:
            self.stop(error)

    def notify(self) -> None:
        """Wake all tasks that wait for a change."""
        self._changed.set()
        self._changed.clear()

    async def wait_for_change(self, at: float | None = None) -> None:
        """Wait for the next `notify`.

        Args:
            at: a time on the loop's clock at which the wait ends at the latest.

        """
        await _wait(self._changed, at)

    async def sleep_until(self, at: float) -> None:
        """Wait until a time on the loop's clock, or until the run stops."""
        await _wait(self._stop, at)


async def _wait(event: asyncio.Event, at: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(at):
            await event.wait()


def _is_integrity_error(error: BaseException) -> bool:
    """Return whether an error may mean a lost or mixed-up session: no other error hides it."""
    return isinstance(error, (JournalError, DuplicateSessionError))
