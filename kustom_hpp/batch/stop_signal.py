"""Whether a run goes on, and the bell for all who wait for something to change."""

import asyncio

from kustom_hpp.errors import DuplicateSessionError, JournalError


class Switch:
    """On until somebody stops it, for good. Belongs to one event loop."""

    def __init__(self) -> None:
        self.stopped = False
        self.error: BaseException | None = None
        """Why; None where the run was merely closed."""
        self.puller: asyncio.Task[None] | None = None
        """Who waits for the input, which may take for ever: cut off by a stop."""
        self._bell = asyncio.Event()
        self._off = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    def stop(self, error: BaseException | None) -> None:
        """Stop. The first reason stays, unless a worse one comes."""
        if error is not None and (self.error is None or _is_grave(error) > _is_grave(self.error)):
            self.error = error
        if not self.stopped:
            self.stopped = True
            self._off.set()
            self.ring()
            if self.puller is not None:
                self.puller.cancel()
            if self._alarm is not None:
                self._alarm.cancel()

    def stop_if(self, error: BaseException | None) -> None:
        """Stop where there is a reason."""
        if error is not None:
            self.stop(error)

    def ring(self) -> None:
        """Let all who wait look again."""
        self._bell.set()
        self._bell.clear()

    async def change(self, at: float | None = None) -> None:
        """Wait until something changes.

        Args:
            at: a time on the loop's clock at which to look again at the latest.

        """
        if at is not None and not self.stopped and (self._alarm is None or self._alarm.when() != at):
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = asyncio.get_running_loop().call_at(at, self._ring_alarm)
        await self._bell.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond a stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._off.wait()
        except TimeoutError:
            pass

    def _ring_alarm(self) -> None:
        self._alarm = None
        self.ring()


def _is_grave(error: BaseException) -> bool:
    """True for what tells of harm: it is never hidden behind another reason."""
    return isinstance(error, (JournalError, DuplicateSessionError))
