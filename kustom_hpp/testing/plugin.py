"""The pytest plugin: it is there as soon as the package is installed.

    async def test_a_customer_pays(kustom_sandbox, kustom_client):
        async with kustom_client() as client:
            session = await client.create_session(...)
        assert kustom_sandbox.act(session, "pay") == "https://shop.example/thanks"

Implementation note: every pytest run on the machine loads this module, those too that have nothing to do with payments. So
nothing but pytest is imported before a fixture is asked for; `kustom_hpp` itself waits for the first name that somebody
takes from it.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kustom_hpp.client import HPPClient
    from kustom_hpp.sandbox.threaded import ThreadedSandbox

_MARKER = "kustom_sandbox"


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**options): how the sandbox of kustom_sandbox is made, as for kustom_hpp.sandbox.Sandbox: "
        "quota=40, faults=['status_503~nth=2'], latency=0.1, ... What stands nearer to the test wins.",
    )


@pytest.fixture
def kustom_sandbox(request: pytest.FixtureRequest) -> Iterator["ThreadedSandbox"]:
    """A Kustom HPP of this test's own, in a thread: a `kustom_hpp.sandbox.threaded.ThreadedSandbox`.

    It has base_url and api_key; fault(...), faults, expire(...) and clock misbehave; act(session, "pay") is the consumer;
    record tells what it saw. For sync and async tests alike. `@pytest.mark.kustom_sandbox(quota=40)` gives it options.
    """
    from kustom_hpp.sandbox.threaded import ThreadedSandbox

    options: dict[str, Any] = {}
    for mark in request.node.iter_markers(_MARKER):
        if mark.args:
            pytest.fail(f"@pytest.mark.{_MARKER} takes its options by name, got {mark.args!r}", pytrace=False)
        options = mark.kwargs | options
    try:
        sandbox = ThreadedSandbox(**options)
    except (TypeError, ValueError) as error:
        pytest.fail(f"@pytest.mark.{_MARKER}: {error}", pytrace=False)
    with sandbox:
        yield sandbox


@pytest.fixture
def kustom_client(kustom_sandbox: "ThreadedSandbox") -> Iterator[Callable[..., "HPPClient"]]:
    """A factory of clients of kustom_sandbox, to be opened with `async with` in the test's own event loop.

    It takes the arguments of `HPPClient`. A client has base_url and key of the sandbox, and its random waits between
    attempts are of hundredths of a second where a shop's own has tenths; retry=hpp.RetrySettings() brings the usual ones. A
    Retry-After is waited for in full. A client that made calls and was not closed fails the test.
    """
    from kustom_hpp.testing.client_factory import Clients

    clients = Clients(kustom_sandbox.base_url, kustom_sandbox.api_key)
    yield clients.make
    if complaint := clients.close():
        pytest.fail(complaint, pytrace=False)
