"""Rows for an event loop: read in a thread, as a pipe or a disk may keep its reader waiting."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Iterable, Iterator

from kustom_hpp.cli.batch.input_file import InputFile
from kustom_hpp.cli.batch.input_rows import InputRow

_CHUNK = 64
"""Rows that are read at once: what is handed over between threads costs more than a row."""


class RowThread:
    """Iterates over rows, one chunk ahead of nobody: nothing is read before it is asked for.

    Implementation note: a thread of its own and a daemon, because a thread that waits for stdin cannot be woken; an
    executor's would keep the command from ending.

    Args:
        rows: to be read in the thread, one after the other.
        source: where they come from.

    """

    def __init__(self, rows: Iterable[InputRow], source: InputFile) -> None:
        self._rows, self._source = iter(rows), source
        self._asked: queue.SimpleQueue[asyncio.Future[list[InputRow]] | None] = queue.SimpleQueue()
        self._pending: asyncio.Future[list[InputRow]] | None = None
        self._thread = threading.Thread(target=self._serve, name="rows", daemon=True)
        self.stopped = False

    def stop(self) -> None:
        """No more rows: whoever iterates, or waits for a row, is at the end. From the loop's thread. Idempotent."""
        self.stopped = True
        self._asked.put(None)
        if self._pending is not None and not self._pending.done():
            self._pending.set_result([])

    async def __aiter__(self) -> AsyncIterator[InputRow]:
        """Every row, until the end or `stop`."""
        loop = asyncio.get_running_loop()
        self._thread.start()
        while not self.stopped:
            self._pending = loop.create_future()
            self._asked.put(self._pending)
            rows = await self._pending
            if not rows:
                return
            for row in rows:
                if self.stopped:
                    return
                yield row

    def _serve(self) -> None:
        """The thread: a chunk for each future."""
        while (future := self._asked.get()) is not None:
            result: list[InputRow] | Exception
            try:
                result = list(self._chunk())
            except Exception as error:  # noqa: BLE001 - told in the loop
                result = error
            # A loop that has ended, perhaps because it was interrupted, needs no rows.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_settle, future, result)
            if not result or isinstance(result, Exception):
                return

    def _chunk(self) -> Iterator[InputRow]:
        """The rows that are there; at least one, unless it is the end."""
        for count, row in enumerate(self._rows, 1):
            yield row
            if count == _CHUNK or not self._source.has_buffered_line:
                return


def _settle(future: asyncio.Future[list[InputRow]], result: list[InputRow] | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
