"""The one thread that uses a journal's database. Operations that wait together share one transaction.

So a hundred workers cost one sync of the disk, not a hundred, and the event loop never waits for a disk.
"""

import asyncio
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from kustom_hpp.errors import HPPError, JournalError

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")
MAX_GROUP = 512
"""Operations in one transaction at most, so that no caller waits for too many others."""
LATER: Final = object()
"""The result of an operation that must wait: the database gets it again after `RETRY_DELAY` seconds."""
RETRY_DELAY: Final = 0.05


class Database(Protocol[S_co]):
    """An open database, used by the thread alone. Every method may block."""

    @property
    def max_idle(self) -> float | None:
        """Seconds without operations after which `maintain` is called; None for never."""
        ...

    def execute(self, operations: Sequence[Callable[[S_co], Any]]) -> list[Any]:
        """Run operations in one transaction, in their order.

        Returns:
            The result of each operation, or the HPPError that it raised, or LATER. All results are durable.

        Raises:
            Exception: the database has failed. The thread calls `close_without_writing` and uses it no more.

        """
        ...

    def maintain(self) -> None:
        """Do what has to be done between transactions; called after the results have been delivered."""
        ...

    def close(self) -> None:
        """Close after the last operation."""
        ...

    def close_without_writing(self) -> None:
        """Close a database that has failed."""
        ...


class _Job(NamedTuple):
    operation: Callable[[Any], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class WriterThread(Generic[S]):
    """A thread and its queue. The first `submit` starts the thread, which opens the database.

    Args:
        name: the database, for errors.
        open_database: opens it, in the thread.
        describe: makes the text of an error that the database raised.

    """

    def __init__(
        self, name: str, open_database: Callable[[], Database[S]], describe: Callable[[BaseException], str]
    ) -> None:
        self._name = name
        self._open = open_database
        self._describe = describe
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._process = os.getpid()

    @property
    def is_open(self) -> bool:
        """True from the first `submit` until the thread is asked to stop."""
        return self._thread is not None and not self._closed

    def submit(self, operation: Callable[[S], T]) -> "asyncio.Future[T]":
        """Run an operation in the thread, even if the caller does not wait for it.

        Returns:
            A future of the running loop, done when the result is durable. It fails with the HPPError that the operation
            raised (what the operation wrote before stays), or with a JournalError if the database cannot be opened or has
            failed.

        Raises:
            JournalError: the journal is closed, or belongs to another process.

        """
        if self._closed:
            raise JournalError("the journal is closed")
        if os.getpid() != self._process:
            raise JournalError("the journal belongs to the parent process. Open a journal after the fork")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(operation, future, loop))
        if self._thread is None:
            # A daemon: a program that forgets to close its journal can still end. What is durable stays so.
            self._thread = threading.Thread(target=self._run, name="kustom_hpp journal", daemon=True)
            self._thread.start()
        return future

    async def aopen(self) -> None:
        """Open the database now.

        Raises:
            JournalError: the database cannot be opened; the thread has ended.

        """
        try:
            await self.submit(lambda _: None)
        except Exception:
            await self.aclose()
            raise
        except BaseException:  # cancelled: the thread ends when it has opened the database
            self.request_stop()
            raise

    async def aclose(self) -> None:
        """Close the database after all waiting operations, and end the thread. Idempotent."""
        self.request_stop()
        if self._thread is None or os.getpid() != self._process:
            return
        # Polled: a thread that ends has no loop left to call. Closing the database is the last thing that it does.
        pause = 0.0
        while self._thread.is_alive():
            await asyncio.sleep(pause)
            pause = min(0.02, pause + 0.001)

    def request_stop(self) -> None:
        """Let the thread end after all waiting operations."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)

    # In the thread.

    def _run(self) -> None:
        database: Database[S] | None = None
        failure: JournalError | None = None
        try:
            database = self._open()
        except Exception as error:  # noqa: BLE001 - every caller that waits gets it
            failure = JournalError(str(error), cause=getattr(error, "cause", None) or self._describe(error))
        jobs: list[_Job] = []
        while self._collect(jobs, None if database is None else database.max_idle):
            if database is not None:
                try:
                    if jobs:
                        results = database.execute([job.operation for job in jobs])
                        jobs = _deliver(jobs, results)
                    database.maintain()
                except Exception as error:  # noqa: BLE001 - the same
                    cause = self._describe(error)
                    text = f"{self._name} cannot be written to ({cause}): rows without a recorded outcome are in doubt"
                    failure = JournalError(text, cause=cause)
                    database.close_without_writing()
                    database = None
            if database is None and failure is not None:
                jobs = _deliver(jobs, [JournalError(str(failure), cause=failure.cause) for _ in jobs])
        if database is not None:
            database.close()

    def _collect(self, jobs: list[_Job], max_idle: float | None) -> bool:
        """Add the operations that wait to those that must be repeated; wait if there are none. False at the end."""
        repeated = bool(jobs)
        timeout = RETRY_DELAY if repeated else max_idle
        try:
            while len(jobs) < MAX_GROUP:
                job = self._jobs.get(timeout=timeout) if not jobs or repeated else self._jobs.get(block=False)
                if job is None:
                    if not jobs:
                        return False
                    self._jobs.put(None)  # the end comes after the operations before it
                    if repeated:
                        time.sleep(RETRY_DELAY)
                    break
                jobs.append(job)
                repeated = False
        except queue.Empty:
            pass
        return True


def run_each(operations: Sequence[Callable[[S], Any]], store: S) -> list[Any]:
    """Run operations one after the other; an HPPError concerns its operation alone and becomes its result."""
    results: list[Any] = []
    for operation in operations:
        try:
            results.append(operation(store))
        except HPPError as error:
            results.append(error)
    return results


def _deliver(jobs: list[_Job], results: list[Any]) -> list[_Job]:
    """Complete the futures, each in its loop, with one call for each loop; return the jobs whose result is LATER."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = defaultdict(list)
    waiting: list[_Job] = []
    for job, result in zip(jobs, results, strict=True):
        if result is LATER:
            waiting.append(job)
        else:
            by_loop[job.loop].append((job.future, result))
    for loop, ends in by_loop.items():
        try:
            loop.call_soon_threadsafe(_complete, ends)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            continue
    return waiting


def _complete(ends: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, result in ends:
        if future.done():  # cancelled
            continue
        if isinstance(result, HPPError):
            future.set_exception(result)
        else:
            future.set_result(result)
