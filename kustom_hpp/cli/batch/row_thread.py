"""The thread that reads rows for the event loop: a pipe or a disk may block."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Iterable

from kustom_hpp.cli.batch.input_file import InputFile
from kustom_hpp.cli.batch.input_rows import InputRow

_CHUNK = 64
"""Rows read at once: passing between threads costs more than a row."""


class RowThread:
    """Iterates over rows that a thread reads. It reads nothing before it is asked for.

    Implementation note: a daemon thread, because a thread that waits for stdin cannot be woken; an executor's would keep
    the command from ending.
    """

    def __init__(self, rows: Iterable[InputRow], file: InputFile) -> None:
        self._rows, self._file = iter(rows), file
        self._error: Exception | None = None
        self._requests: queue.SimpleQueue[asyncio.Future[list[InputRow]] | None] = queue.SimpleQueue()
        self._pending: asyncio.Future[list[InputRow]] | None = None
        self._thread = threading.Thread(target=self._serve, name="rows", daemon=True)
        self.stopped = False

    def stop(self) -> None:
        """End the iteration now, from the loop's thread. Idempotent."""
        self.stopped = True
        self._requests.put(None)
        if self._pending is not None and not self._pending.done():
            self._pending.set_result([])

    async def __aiter__(self) -> AsyncIterator[InputRow]:
        """Yield every row, until the end or `stop`. An error of the input is raised after the rows before it."""
        loop = asyncio.get_running_loop()
        self._thread.start()
        while not self.stopped:
            self._pending = loop.create_future()
            self._requests.put(self._pending)
            rows = await self._pending
            if not rows:
                return
            for row in rows:
                if self.stopped:
                    return
                yield row

    def _serve(self) -> None:
        """Run in the thread: read a chunk for each future."""
        while (future := self._requests.get()) is not None:
            rows = self._read_chunk()
            # The loop may have ended, perhaps because of an interruption; it needs no rows then.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_settle, future, rows, None if rows else self._error)
            if not rows:
                return

    def _read_chunk(self) -> list[InputRow]:
        """Return the rows that are available; at least one, unless the input has ended."""
        rows: list[InputRow] = []
        try:
            while self._error is None and len(rows) < _CHUNK and (self._file.has_buffered_line or not rows):
                rows.append(next(self._rows))
        except StopIteration:
            pass
        except Exception as error:  # noqa: BLE001 - raised in the loop
            self._error = error
        return rows


def _settle(future: asyncio.Future[list[InputRow]], rows: list[InputRow], error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(rows)
