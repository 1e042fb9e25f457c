"""The pytest plugin: pytest finds it as soon as the package is installed.

    async def test_a_customer_pays(kustom_sandbox, kustom_client):
        async with kustom_client() as client:
            session = await client.create_session(...)
        assert kustom_sandbox.act(session, "pay") == "https://shop.example/thanks"

Implementation note: every pytest run on the machine loads this module, also one that has nothing to do with payments. So it
imports only pytest until a test uses a fixture; `kustom_hpp` itself imports nothing before the first use of a name.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kustom_hpp.client import HPPClient
    from kustom_hpp.sandbox.threaded import ThreadedSandbox

_MARKER = "kustom_sandbox"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**options): options of kustom_sandbox, as for kustom_hpp.sandbox.Sandbox: "
        "rate_limit=40, faults=['status_503~nth=2'], latency=0.1, ... The marker nearest to the test wins.",
    )


@pytest.fixture
def kustom_sandbox(request: pytest.FixtureRequest) -> Iterator["ThreadedSandbox"]:
    """A local HPP server for this test, in a thread: a `kustom_hpp.sandbox.threaded.ThreadedSandbox`.

    It has base_url and api_key. fault(...), faults, expire(...) and clock inject faults, act(session, "pay") plays the
    consumer, record has the requests. It serves sync and async tests.
    `@pytest.mark.kustom_sandbox(rate_limit=40)` gives it options.
    """
    from kustom_hpp.sandbox.threaded import ThreadedSandbox

    options: dict[str, Any] = {}
    for mark in request.node.iter_markers(_MARKER):
        if mark.args:
            pytest.fail(f"@pytest.mark.{_MARKER} takes keyword options only, got {mark.args!r}", pytrace=False)
        options = mark.kwargs | options
    try:
        sandbox = ThreadedSandbox(**options)
    except (TypeError, ValueError) as error:
        pytest.fail(f"@pytest.mark.{_MARKER}: {error}", pytrace=False)
    with sandbox:
        yield sandbox


@pytest.fixture
def kustom_client(kustom_sandbox: "ThreadedSandbox") -> Iterator[Callable[..., "HPPClient"]]:
    """A factory of clients of kustom_sandbox; open a client with `async with` in the test's event loop.

    It takes the arguments of `HPPClient`. A client has the base URL and the key of the sandbox, and waits hundredths of a
    second between attempts; retry=hpp.RetrySettings() restores the usual waits. It waits for a whole Retry-After. A client
    that made calls and was not closed fails the test.
    """
    from kustom_hpp.testing.client_factory import ClientFactory

    clients = ClientFactory(kustom_sandbox.base_url, kustom_sandbox.api_key)
    yield clients.create
    if message := clients.close():
        pytest.fail(message, pytrace=False)
