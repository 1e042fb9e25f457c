"""The sandbox for code without an event loop: a `Sandbox` in a thread.

    with ThreadedSandbox(faults=["status_429~nth=1"]) as sandbox:
        ...                                          # any client, sync or async, at sandbox.base_url with sandbox.api_key
        [created] = sandbox.record.created
        sandbox.act(created.session_id, "pay")

Every thread may call it, a coroutine too: a call is a short round trip to the sandbox's thread. For a call that waits for
requests of the same event loop, a coroutine uses `await asyncio.to_thread(sandbox.wait_until_idle)`.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from kustom_hpp.sandbox import Record, Sandbox

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from kustom_hpp.sandbox import FaultRules, MovableClock

P = ParamSpec("P")
T = TypeVar("T")


def _in_thread(
    method: Callable[Concatenate[Sandbox, P], T],
) -> "Callable[Concatenate[ThreadedSandbox, P], T]":
    """Return a method that calls one of `Sandbox` in the sandbox's thread."""

    @functools.wraps(method)
    def call(self: "ThreadedSandbox", /, *args: P.args, **options: P.kwargs) -> T:
        return self.call(lambda sandbox: method(sandbox, *args, **options))

    return call


class ThreadedSandbox:
    """A sandbox in a thread: `with ThreadedSandbox() as sandbox`.

    Args:
        **options: as for `Sandbox`.

    """

    def __init__(self, **options: Any) -> None:
        try:
            from anyio.from_thread import start_blocking_portal
        except ImportError:
            raise ImportError("ThreadedSandbox needs anyio: pip install 'kustom_hpp[sandbox]'") from None
        self._sandbox = Sandbox(**options)
        self.api_key, self.username = self._sandbox.api_key, self._sandbox.username
        # The standard loop: another one may be made for the main thread alone.
        self._start = functools.partial(
            start_blocking_portal, "asyncio", {"loop_factory": asyncio.SelectorEventLoop}, name="kustom_hpp sandbox"
        )
        self._portal: BlockingPortal | None = None
        self._stack = contextlib.ExitStack()
        self.clock = cast("MovableClock", _InSandboxThread(self, self._sandbox.clock))
        """The clock by which sessions expire: `clock.advance(hours=48)`."""
        self.faults = cast("FaultRules", _InSandboxThread(self, self._sandbox.faults))
        """The rules that say which requests get a fault: `rules`, `add`, `add_random`, `remove`, `clear`."""

    @property
    def base_url(self) -> str:
        """The base URL for a client; empty until the sandbox is open."""
        return self._sandbox.base_url

    @property
    def record(self) -> Record:
        """A copy of the record as it is now.

        Raises:
            RuntimeError: the sandbox is not open. All methods below raise this.

        """
        return self.call(lambda sandbox: sandbox.record.copy())

    fault = _in_thread(Sandbox.fault)
    expire = _in_thread(Sandbox.expire)
    act = _in_thread(Sandbox.act)
    order = _in_thread(Sandbox.order)

    def wait_until_idle(self, timeout: float = 5.0) -> None:
        """Wait until everything is processed; see `Sandbox.wait_until_idle`."""
        self._open_portal().call(self._sandbox.wait_until_idle, timeout)

    def wait_for(self, predicate: Callable[[Record], object], timeout: float = 5.0) -> Record:
        """Wait until the record meets a condition, checked at every change.

        Args:
            predicate: gets the record in the sandbox's thread. It must not block.
            timeout: in seconds.

        Returns:
            A copy of the record at that moment.

        Raises:
            TimeoutError: the record did not meet it; the text has its counts.

        """

        async def wait() -> Record:
            await self._sandbox.record.wait_for(predicate, timeout)
            return self._sandbox.record.copy()

        return self._open_portal().call(wait)

    def call(self, function: Callable[[Sandbox], T]) -> T:
        """Call a function in the sandbox's event loop and return its result.

        Args:
            function: gets the `Sandbox`. It must not block.

        Examples:
            >>> with ThreadedSandbox(rate_limit=40) as sandbox:
            ...     sandbox.call(lambda inner: inner.rate_limit.take())
            True

        """
        return self._open_portal().call(function, self._sandbox)

    def open(self) -> Self:
        """Start the thread and listen.

        Raises:
            OSError: the port is not available.
            RuntimeError: it is open already.

        """
        if self._portal is not None:
            raise RuntimeError("the sandbox is open already")
        with contextlib.ExitStack() as stack:
            portal = stack.enter_context(self._start())
            stack.enter_context(portal.wrap_async_context_manager(self._sandbox))
            self._stack, self._portal = stack.pop_all(), portal
        # Before the interpreter exits: afterwards the thread no longer runs, and nothing could wait for it.
        weakref.finalize(self, self._stack.close)
        return self

    def close(self) -> None:
        """Stop at once. Idempotent; a RuntimeError if the thread has died."""
        self._portal = None
        try:
            self._stack.close()
        except (concurrent.futures.CancelledError, RuntimeError):
            raise RuntimeError("the thread of the sandbox has died") from None

    def _open_portal(self) -> "BlockingPortal":
        if self._portal is None:
            raise RuntimeError("the sandbox is not open")
        return self._portal

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.base_url or 'no port yet'}>"


class _InSandboxThread:
    """Another object of a sandbox, which is used in the sandbox's thread."""

    def __init__(self, sandbox: ThreadedSandbox, inner: object) -> None:
        self._sandbox = sandbox
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        value = self._sandbox.call(lambda _: getattr(self._inner, name))
        if not callable(value):
            return value
        return lambda *args, **options: self._sandbox.call(lambda _: value(*args, **options))
