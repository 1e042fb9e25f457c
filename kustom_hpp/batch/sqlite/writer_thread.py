"""The one thread that touches a journal's file. What waits for it is done in one transaction, and told when that is durable.

So a hundred workers cost one sync of the disk, not a hundred; and the event loop never waits for a disk.
"""

import asyncio
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from kustom_hpp.batch.journal_rules import Settling
from kustom_hpp.batch.sqlite.bulk import together
from kustom_hpp.batch.sqlite.database import JournalFile, why
from kustom_hpp.batch.sqlite.rows import Table
from kustom_hpp.errors import HPPError, JournalError

T = TypeVar("T")
_MOST = 512
"""Operations in one transaction, at most: who waits shall not wait for too many others."""
_LINGER = 0.001
"""Seconds that a transaction waits for others that are due: a sync costs the CPU as much as three calls of the API do."""

Ends = list[tuple["asyncio.Future[Any]", Any, BaseException | None]]


class _Job(NamedTuple):
    work: Callable[[Table], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Writer:
    """The thread, and the line before it. It is started by the first `do`, and opens the file then."""

    def __init__(self, path: str, scope: str) -> None:
        self._path, self._scope = path, scope
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._process = os.getpid()

    @property
    def is_open(self) -> bool:
        """True from the first use to `aclose`."""
        return self._thread is not None and not self._closed

    def do(self, work: Callable[[Table], T]) -> "asyncio.Future[T]":
        """Have something done in the thread. It is done even if nobody waits for it.

        Returns:
            A future that is done when the work is durable; of the running loop. It ends with an HPPError as `work` raises it
            (what it wrote before that is kept), or with a JournalError where the file cannot be opened, or could not be
            written to (then or earlier).

        Raises:
            JournalError: the journal was closed, or belongs to another process.

        """
        if self._closed:
            raise JournalError("the journal was closed")
        if os.getpid() != self._process:
            raise JournalError("the journal belongs to the process that this one was forked from: open it anew")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, future, loop))
        if self._thread is None:
            # A daemon: a program that forgets to close its journal can still end. What is durable stays so.
            self._thread = threading.Thread(
                target=_run, args=(self._path, self._scope, self._jobs), name="kustom_hpp journal", daemon=True
            )
            self._thread.start()
        return future

    async def aclose(self) -> None:
        """Close the file when all that waits is done, and end the thread. Idempotent."""
        self.dismiss()
        if self._thread is None or os.getpid() != self._process:
            return
        # Asked, not waited for: a thread that ends has no loop to call any more. Its last act is closing the file.
        pause = 0.0
        while self._thread.is_alive():
            await asyncio.sleep(pause)
            pause = min(0.02, pause + 0.001)

    def dismiss(self) -> None:
        """Let the thread end by itself when all that waits is done."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)


def _run(path: str, scope: str, jobs: "queue.SimpleQueue[_Job | None]") -> None:
    """The thread."""
    file: JournalFile | None = None
    broken: str | None = None
    cause: str | None = None
    try:
        file = JournalFile(path, scope)
    except Exception as error:  # noqa: BLE001 - everybody who waits must hear of it
        broken, cause = str(error), getattr(error, "cause", None) or why(error)
    while waiting := _more(jobs, []):
        if file is not None:
            ends: Ends = []
            try:
                if file.rows.unsettled > sum(isinstance(job.work, Settling) for job in waiting):
                    time.sleep(_LINGER)
                    waiting = _more(jobs, waiting)
                _transact(file, waiting, ends)
                _tell(waiting, ends)
                waiting = []
                file.tidy()
                continue
            except Exception as error:  # noqa: BLE001
                cause = why(error)
                broken = f"the journal {path} cannot be written to ({cause}): what is not settled there is in doubt"
                file.let_go()
                file = None
        _tell(waiting, [(job.future, None, JournalError(broken or "", cause=cause)) for job in waiting])
    if file is not None:
        file.close()


def _more(jobs: "queue.SimpleQueue[_Job | None]", waiting: list[_Job]) -> list[_Job]:
    """All that waits now, behind what was taken before. Without that the next that comes; nothing at the end."""
    try:
        while len(waiting) < _MOST:
            job = jobs.get(block=not waiting)
            if job is None:
                if waiting:
                    jobs.put(None)  # the end comes after what was there before it
                break
            waiting.append(job)
    except queue.Empty:
        pass
    return waiting


def _transact(file: JournalFile, waiting: list[_Job], ends: Ends) -> None:
    with file.transaction():
        done = together(file.rows, [job.work for job in waiting])
        for number, job in enumerate(waiting):
            try:
                result = done[number] if number in done else job.work(file.rows)
                ends.append((job.future, result, None))
            except HPPError as error:  # it is about this row alone, and each writes last
                ends.append((job.future, None, error))


def _tell(waiting: list[_Job], ends: Ends) -> None:
    """Resolve the futures, each in its loop: one call for all of a loop's."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, Ends] = defaultdict(list)
    for job, end in zip(waiting, ends, strict=True):
        by_loop[job.loop].append(end)
    for loop, its_ends in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, its_ends)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            continue


def _resolve(ends: Ends) -> None:
    for future, value, error in ends:
        if future.done():  # cancelled
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
