"""The clients that `kustom_client` makes, and what becomes of one that a test left open."""

import asyncio
import contextlib
import gc
import threading
import time
import warnings
from typing import Any

from kustom_hpp.client import HPPClient
from kustom_hpp.config import RetrySettings
from kustom_hpp.transport import HTTPSessionManager

_PATIENCE = 5.0
"""Seconds that the attempts of a forgotten client may take to end."""
_STUCK = 1.0
"""Seconds more after which the loop of another thread is taken for one that does not turn."""


class Clients:
    """Makes clients of one sandbox, and knows which of them are open.

    Args:
        base_url: of the sandbox.
        api_key: of the sandbox.

    """

    def __init__(self, base_url: str, api_key: str) -> None:
        # As often as ever, but sooner: a test that plays an outage is not to sleep for seconds.
        self._defaults: dict[str, Any] = {
            "base_url": base_url,
            "api_key": api_key,
            "retry": RetrySettings(initial=0.01, maximum=0.05),
        }
        self._made: list[HPPClient] = []

    def make(self, **options: Any) -> HPPClient:
        """A client; arguments are those of `HPPClient` and win over the defaults.

        Raises:
            ConfigError: as for `HPPClient`.

        """
        client = HPPClient(**(self._defaults | options))
        self._made.append(client)
        return client

    def close(self) -> str:
        """The end of the test; what to tell of clients that it left open, empty where there are none.

        Implementation note: where the loop of such a client is gone, as it mostly is by now, nobody can close it any more.
        It is collected here, and its warnings with it: later they would hit a test that has nothing to do with it. Where
        another thread runs its loop, as that of a live server, it is closed there.
        """
        left_open = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            while self._made:
                left_open += _end(self._made.pop())
            if not left_open:
                return ""
            gc.collect()
        return (
            f"{left_open} client(s) of kustom_client were left open: write `async with kustom_client() as client:`, or "
            "`await client.aclose()` at the end of the test, in its event loop"
        )


def _end(client: HPPClient) -> bool:
    """Close a client, as far as its loop lets us; True where it was open."""
    transport = client._creates.transport  # noqa: SLF001 - of our own package; a shop has no use for it
    loop = transport.bound_loop if isinstance(transport, HTTPSessionManager) else None
    if loop is None:
        return False
    # Whatever goes wrong here, the client is counted, and the next one gets its turn. A loop may end while we ask it.
    with contextlib.suppress(Exception):
        if loop.is_running():
            _close_elsewhere(client, loop)
        elif not loop.is_closed() and not _in_a_loop():
            loop.run_until_complete(_close(client))
    return True


async def _close(client: HPPClient) -> None:
    """Close it; attempts that are still in flight after some seconds are cut."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            await client.aclose()


def _close_elsewhere(client: HPPClient, loop: asyncio.AbstractEventLoop) -> None:
    """Close it in its loop, which another thread runs, as that of a shop's server does."""
    ended = threading.Event()

    def begin() -> None:
        # The coroutine is made where it is run: a loop that never comes to this leaves none behind.
        loop.create_task(_close(client)).add_done_callback(lambda _: ended.set())

    if _in_a_loop() and loop is asyncio.get_running_loop():
        return  # our own thread runs it: it would wait for itself
    loop.call_soon_threadsafe(begin)
    late = time.monotonic() + _PATIENCE + _STUCK
    while not ended.wait(0.05) and not loop.is_closed() and time.monotonic() < late:
        pass


def _in_a_loop() -> bool:
    """True where this thread runs an event loop, and so cannot run another one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
