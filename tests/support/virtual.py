"""Virtual time: a test that waits for minutes ends in milliseconds, and knows every moment exactly."""

import asyncio
import contextlib
import time
from collections.abc import Generator
from typing import Any
from unittest import mock


class VirtualClock:
    """The time that `time.monotonic` and the event loop tell. It moves when all tasks wait, and then at once."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def virtual_time() -> Generator[VirtualClock]:
    """Stop the running loop's clock, and let it leap to the next timer whenever nothing else is left to do.

    Not for loops with sockets: what happens outside of the process takes no virtual time.
    """
    clock = VirtualClock()
    loop: Any = asyncio.get_running_loop()
    selector = loop._selector
    really_select = selector.select

    def select(timeout: float | None = None) -> list[Any]:
        events = really_select(0)
        if not events:
            # Better a test that fails than one that hangs.
            assert timeout is not None, "every task waits for something that no timer brings"
            clock.now += max(0.0, timeout)
        return events

    # The loop's own time() is time.monotonic().
    with mock.patch.object(time, "monotonic", clock), mock.patch.object(selector, "select", select):
        yield clock
