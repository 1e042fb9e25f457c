"""Whether a run goes on, and the condition on which its tasks wait for a change."""

import asyncio

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
        self._timer: asyncio.TimerHandle | None = None

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
            if self._timer is not None:
                self._timer.cancel()

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
        if at is not None and not self.stopped and (self._timer is None or self._timer.when() != at):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(at, self._on_timer)
        await self._changed.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait, at most until the run stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    def _on_timer(self) -> None:
        self._timer = None
        self.notify()


def _is_integrity_error(error: BaseException) -> bool:
    """Return whether an error may mean a lost or mixed-up session: no other error hides it."""
    return isinstance(error, (JournalError, DuplicateSessionError))
