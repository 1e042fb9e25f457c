"""The thread that reads rows for the event loop: a pipe or a disk may block."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable

from kustom_hpp.cli.batch.input_rows import InputRow

_AHEAD = 64
"""Rows that the thread reads ahead of the iteration."""


class RowThread:
    """Iterates over rows that a thread reads. The thread starts with the iteration.

    Implementation note: a daemon thread, because a thread that waits for stdin cannot be woken; an executor's would keep
    the command from ending.
    """

    def __init__(self, rows: Iterable[InputRow]) -> None:
        self._input = iter(rows)
        self._rows: deque[InputRow] = deque()
        self._room = threading.Semaphore(_AHEAD)
        self._changed = asyncio.Event()
        """Cleared only without rows: waking the loop costs more than a row."""
        self._ended = False
        self._error: Exception | None = None
        self.stopped = False

    def stop(self) -> None:
        """End the iteration now, from the loop's thread. Idempotent."""
        self.stopped = True
        self._room.release()
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[InputRow]:
        """Yield every row, until the end or `stop`. An error of the input is raised after the rows before it."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="rows", daemon=True).start()
        while not self.stopped:
            if self._rows:
                yield self._rows.popleft()
                self._room.release()
            elif self._ended:
                break
            else:
                self._changed.clear()
                if not self._rows and not self._ended:
                    await self._changed.wait()
        if self._error is not None and not self.stopped:
            raise self._error

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run in the thread."""
        try:
            for row in self._input:
                self._rows.append(row)
                self._wake(loop)
                self._room.acquire()
                if self.stopped:
                    return
        except Exception as error:  # noqa: BLE001 - raised in the loop
            self._error = error
        self._ended = True
        self._wake(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._changed.is_set():
            # The loop may have ended, perhaps because of an interruption; it needs no rows then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._changed.set)
