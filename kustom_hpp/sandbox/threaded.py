"""The sandbox for code without an event loop: the same sandbox in a thread of its own, asked by plain calls.

    with ThreadedSandbox(faults=["status_429~nth=1"]) as sandbox:
        ...                                          # any client, sync or async, at sandbox.base_url with sandbox.api_key
        [made] = sandbox.record.created
        sandbox.act(made.session_id, "pay")

Every call is a short round trip to the thread and may be made from any thread, a coroutine's too: the server does not
depend on the loop that waits for it. Where a call waits for requests that the same loop is making (`settled`,
`wait_for`), a coroutine writes `await asyncio.to_thread(sandbox.settled)`.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from kustom_hpp.models import Session
from kustom_hpp.sandbox import Action, Fault, Order, OrderLine, Record, Rule, Sandbox, StoredSession
from kustom_hpp.sandbox.loop_thread import LoopThread

T = TypeVar("T")


class ThreadedSandbox:
    """A sandbox in a thread: `with ThreadedSandbox() as sandbox`.

    Args:
        **options: as for `Sandbox`.

    """

    def __init__(self, **options: Any) -> None:
        self._sandbox = Sandbox(**options)
        self._thread = LoopThread("the sandbox", self._sandbox)
        self.clock = ThreadedClock(self)
        """The clock by which sessions expire: `clock.advance(hours=48)`."""
        self.faults = ThreadedScript(self)
        """The rules by which requests meet faults: `rules`, `add`, `chaos`, `remove`, `clear`."""

    @property
    def base_url(self) -> str:
        """Where it listens, as a client's base URL; empty until it is open."""
        return self._sandbox.base_url

    @property
    def api_key(self) -> str:
        """The key that it takes."""
        return self._sandbox.api_key

    @property
    def username(self) -> str:
        """The user name that goes with the key."""
        return self._sandbox.username

    @property
    def record(self) -> Record:
        """What it saw and what it made up to now: a copy, which changes no more. Each reading makes a new one.

        Raises:
            RuntimeError: the sandbox is closed, or its thread has died. So do all the methods below.

        """
        return self.call(lambda sandbox: sandbox.record.copy())

    def fault(self, what: str | Fault | Sequence[str | Fault | None], **where: Any) -> Rule:
        """Let requests meet a fault, or a sequence of them; see `Sandbox.fault`.

        Raises:
            ValueError: an unknown fault or parameter.

        """
        return self.call(lambda sandbox: sandbox.fault(what, **where))

    def expire(self, payment_session_url: str) -> None:
        """Let a payment session be expired: creates for it are answered 404, and its HPP sessions are gone."""
        self.call(lambda sandbox: sandbox.expire(payment_session_url))

    def act(self, session: Session | StoredSession | str, action: Action | str) -> str | None:
        """Do what a consumer does on the page: `sandbox.act(session, "pay")`; see `Sandbox.act`.

        Returns:
            The merchant URL to which the browser goes, its placeholders filled in; None where it stays on the page.

        Raises:
            LookupError: there is no such session here.
            ValueError: there is no such action, or the session is closed for good.

        """
        return self.call(lambda sandbox: sandbox.act(session, action))

    def order(
        self, payment_session_url: str, *lines: OrderLine, currency: str = "SEK", shop: str | None = None
    ) -> Order:
        """Say what the payment page shows as the order; see `Sandbox.order`.

        Raises:
            ValueError: there are no lines, or the currency is none.

        """
        return self.call(lambda sandbox: sandbox.order(payment_session_url, *lines, currency=currency, shop=shop))

    def settled(self, timeout: float = 5.0) -> None:
        """Wait until everything that was sent to the sandbox so far has been read, processed and written down.

        Args:
            timeout: in seconds.

        Raises:
            TimeoutError: requests are still being served.

        """
        self._thread.run(self._sandbox.settled(timeout))

    def wait_for(self, predicate: Callable[[Record], object], timeout: float = 5.0) -> Record:
        """Wait until the record fulfils a condition, which is asked again at every change.

        Args:
            predicate: gets the record, in the sandbox's thread; it must not block.
            timeout: in seconds.

        Returns:
            A copy of the record as it was at the end.

        Raises:
            TimeoutError: it did not; the text tells what was seen instead.

        """

        async def wait() -> Record:
            await self._sandbox.record.wait_for(predicate, timeout)
            return self._sandbox.record.copy()

        return self._thread.run(wait())

    def call(self, function: Callable[[Sandbox], T]) -> T:
        """Let a function run in the sandbox's own loop, and wait for its result: for all that has no method here.

        Args:
            function: gets the `Sandbox`; it must not block.

        Examples:
            >>> with ThreadedSandbox(quota=40) as sandbox:
            ...     sandbox.call(lambda inner: inner.quota.take())
            True

        """
        return self._thread.call(lambda: function(self._sandbox))

    def open(self) -> Self:
        """Start the thread and listen.

        Raises:
            OSError: the port cannot be had.
            RuntimeError: it is open already, or was: a closed one is not opened again.

        """
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop at once; nothing of it is left. Idempotent.

        Raises:
            RuntimeError: its thread has died before.

        """
        self._thread.stop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.base_url or 'no port yet'}>"


class ThreadedClock:
    """The sandbox's clock, asked from another thread."""

    def __init__(self, sandbox: ThreadedSandbox) -> None:
        self._sandbox = sandbox

    def now(self) -> dt.datetime:
        """The time by this clock, in UTC."""
        return self._sandbox.call(lambda sandbox: sandbox.clock.now())

    def advance(self, seconds: float = 0.0, *, hours: float = 0.0) -> None:
        """Move the clock, back where it is negative."""
        self._sandbox.call(lambda sandbox: sandbox.clock.advance(seconds, hours=hours))


class ThreadedScript:
    """The sandbox's rules, asked from another thread; see `Script`."""

    def __init__(self, sandbox: ThreadedSandbox) -> None:
        self._sandbox = sandbox

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All of them, the first one first; each tells how often it was asked and how often it bit."""
        return self._sandbox.call(lambda sandbox: tuple(sandbox.faults.rules))

    def add(self, what: str | Fault | Sequence[str | Fault | None], **where: Any) -> Rule:
        """Add a rule; `ThreadedSandbox.fault` does the same."""
        return self._sandbox.fault(what, **where)

    def chaos(self, faults: Iterable[str | Fault], probability: float, seed: int, **where: Any) -> Rule:
        """Let each request meet one of these faults with a probability; the same in every run with this seed."""
        return self._sandbox.call(lambda sandbox: sandbox.faults.chaos(faults, probability, seed, **where))

    def remove(self, rule: Rule) -> None:
        """Take one rule out."""
        self._sandbox.call(lambda sandbox: sandbox.faults.remove(rule))

    def clear(self) -> None:
        """Back to normal."""
        self._sandbox.call(lambda sandbox: sandbox.faults.clear())
