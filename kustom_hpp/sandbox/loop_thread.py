"""An event loop in a thread of its own, and how other threads ask for what happens in it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 10.0
"""Seconds until a loop that neither answers nor ends counts as stuck."""


class LoopThread:
    """Keeps an async context manager open in the loop of a thread of its own.

    Every call comes back: where the thread has died, or dies meanwhile, it raises.

    Args:
        name: of the thread.
        life: what is entered at the start and left at the end.

    """

    def __init__(self, name: str, life: AbstractAsyncContextManager[object]) -> None:
        self._name = name
        self._life = life
        self._lock = threading.Lock()
        """Held for a few lines: nobody is added to the waiting once the thread has told all of them that it ends."""
        self._waiting: set[Future[Any]] = set()
        self._opened: Future[None] = Future()
        self._running = False
        self._failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        # A daemon: whoever forgets to close it can still end the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; comes back when the life has begun.

        Raises:
            Exception: what its beginning raised.
            RuntimeError: it was started before.

        """
        if self._thread.ident is not None:
            raise RuntimeError(f"{self._name} was opened before: make a new one")
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self._thread.join(_PATIENCE)
            raise

    def stop(self) -> None:
        """End the life and the thread; comes back when both are over.

        Raises:
            RuntimeError: the thread had died before, or does not end.

        """
        if self._thread.ident is None or self._opened.exception() is not None:
            return
        with self._lock:
            if self._running:
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            raise RuntimeError(f"the thread of {self._name} does not end: something blocks its event loop")
        if self._failed is not None:
            raise self._end() from self._failed

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Let a coroutine run in the loop; its result. What it raises is raised here.

        Raises:
            RuntimeError: the thread has ended, or ends before the coroutine does; or this is the loop's own thread,
                which cannot wait for itself.

        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError(f"called in the event loop of {self._name} itself, which cannot wait for its own answer")
        future = self._submit(coroutine)
        if future is not None:
            try:
                return future.result()
            except CancelledError:
                if self._running:
                    raise
            finally:
                with self._lock:
                    self._waiting.discard(future)
        # Only when it is over it is known why.
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)
        raise self._end() from self._failed

    def call(self, function: Callable[[], T]) -> T:
        """Let a function run in the loop; its result. What it raises is raised here.

        Raises:
            RuntimeError: the thread has ended.

        """
        if threading.current_thread() is self._thread:
            return function()

        async def once() -> T:
            return function()

        return self.run(once())

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T] | None":
        with self._lock:
            if not self._running:
                coroutine.close()
                return None
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._waiting.add(future)
            return future

    def _end(self) -> RuntimeError:
        if self._failed is None:
            return RuntimeError(f"{self._name} is closed")
        return RuntimeError(f"the thread of {self._name} has died: {self._failed!r}")

    # What happens in the thread.

    def _run(self) -> None:
        # The stdlib's own loop, whatever loop the process uses elsewhere: that one may be made for its main thread alone.
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - told to whoever asks next
            self._over(error)
        else:
            self._over(None)

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._life:
            with self._lock:
                self._running = True
            self._opened.set_result(None)
            try:
                await self._stop.wait()
            finally:
                with self._lock:
                    self._running = False

    def _over(self, error: BaseException | None) -> None:
        with self._lock:
            self._failed = error
            waiting = list(self._waiting)
        for future in waiting:
            # Those that the loop could not end any more.
            if not future.done():
                future.set_exception(self._end())
        if error is not None and not self._opened.done():
            self._opened.set_exception(error)
