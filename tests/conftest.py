"""What holds for every test: the same examples in each run, and random ones for whoever asks for them."""

import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from tests.support.postgres import cluster, ledger_dsn

__all__ = ["cluster", "ledger_dsn"]

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("same")


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes for `-n auto`: one more than cores, as most tests wait for sockets."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=bool(os.environ.get("KUSTOM_HPP_NO_BLOCKING")))
def no_blocking() -> Iterator[None]:
    """Fail the test if the library blocks an event loop; for `python -m tests.prove`."""
    # The command's event loop serves nothing but the command, which reads its own input before and after its batch.
    with blockbuster_ctx("kustom_hpp", excluded_modules=["kustom_hpp.cli"]) as detector:
        # A module that is loaded at its first use may be one that another thread loads at this moment.
        acquire = detector.functions["threading.Lock.acquire"]
        acquire.can_block_in("<frozen importlib._bootstrap>", "acquire")
        acquire.can_block_in("tests/transport/test_session_manager.py", "both_look")  # the test holds a call up
        detector.functions["io.BufferedReader.read"].can_block_in("kustom_hpp/cli/demo.py", "example_orders")
        # The kernel knows the working directory: no disk is read for it.
        detector.functions["os.getcwd"].can_block_in("kustom_hpp/batch/sqlite/journal.py", "__init__")
        yield
