"""The clients that `kustom_client` makes, and what becomes of one that a test left open."""

import gc
import warnings
from typing import Any

from kustom_hpp.client import HPPClient
from kustom_hpp.config import RetrySettings
from kustom_hpp.transport import HTTPSessionManager


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
        It is collected here, and its warnings with it: later they would hit a test that has nothing to do with it.
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
    """Close a client, as far as its loop is there; True where it was open."""
    transport = client._parts.transport  # noqa: SLF001 - of our own package; a shop has no use for it
    loop = transport.open_in if isinstance(transport, HTTPSessionManager) else None
    if loop is not None and not loop.is_closed():
        loop.run_until_complete(client.aclose())
    return loop is not None
