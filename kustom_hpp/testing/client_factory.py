"""Creates the clients of `kustom_client`, and closes those that a test left open."""

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

_CLOSE_TIMEOUT = 5.0
"""Seconds in which the attempts of a leaked client may end."""
_LOOP_TIMEOUT = 1.0
"""Seconds more after which the loop of another thread counts as blocked."""


class ClientFactory:
    """Creates clients of one sandbox, and finds those that are still open.

    Args:
        base_url: the sandbox's base URL.
        api_key: the sandbox's API key.

    """

    def __init__(self, base_url: str, api_key: str) -> None:
        # As many retries as usual, but sooner: a test of an outage must not sleep for seconds.
        self._defaults: dict[str, Any] = {
            "base_url": base_url,
            "api_key": api_key,
            "retry": RetrySettings(initial=0.01, maximum=0.05),
        }
        self._made: list[HPPClient] = []

    def create(self, **options: Any) -> HPPClient:
        """Return a client; the arguments are those of `HPPClient` and override the defaults.

        Raises:
            ConfigError: as for `HPPClient`.

        """
        client = HPPClient(**(self._defaults | options))
        self._made.append(client)
        return client

    def close(self) -> str:
        """Close the clients that the test left open, and return an error message; empty if there were none.

        Implementation note: if the loop of such a client is closed, as it usually is by now, the client cannot be closed.
        It is collected here with its warnings, which would otherwise fail an unrelated test. If another thread runs the
        loop, such as that of a live server, the client is closed there.
        """
        left_open = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            while self._made:
                left_open += _close_leaked(self._made.pop())
            if not left_open:
                return ""
            gc.collect()
        return (
            f"{left_open} client(s) of kustom_client were left open: write `async with kustom_client() as client:`, or "
            "`await client.aclose()` at the end of the test, in its event loop"
        )


def _close_leaked(client: HPPClient) -> bool:
    """Close a client if its loop allows it; return True if the client was open."""
    transport = client._create_context.transport  # noqa: SLF001 - of our own package; shops do not need it
    loop = transport.bound_loop if isinstance(transport, HTTPSessionManager) else None
    if loop is None:
        return False
    # Whatever fails here, the client is counted, and the next one is closed. A loop may end during these checks.
    with contextlib.suppress(Exception):
        if loop.is_running():
            _close_in_its_loop(client, loop)
        elif not loop.is_closed() and not _is_in_a_loop():
            loop.run_until_complete(_close(client))
    return True


async def _close(client: HPPClient) -> None:
    """Close a client; attempts that are still in flight after some seconds are cancelled."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await client.aclose()


def _close_in_its_loop(client: HPPClient, loop: asyncio.AbstractEventLoop) -> None:
    """Close a client in its loop, which another thread runs, such as that of a shop's server."""
    ended = threading.Event()

    def begin() -> None:
        # The loop itself creates the coroutine: a loop that never gets here leaves none behind.
        loop.create_task(_close(client)).add_done_callback(lambda _: ended.set())

    if _is_in_a_loop() and loop is asyncio.get_running_loop():
        return  # this thread runs the loop: it would wait for itself
    loop.call_soon_threadsafe(begin)
    deadline = time.monotonic() + _CLOSE_TIMEOUT + _LOOP_TIMEOUT
    while not ended.wait(0.05) and not loop.is_closed() and time.monotonic() < deadline:
        pass


def _is_in_a_loop() -> bool:
    """Return True if this thread runs an event loop, so that it cannot run another one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
