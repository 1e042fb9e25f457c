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
    """Fail the test if the library blocks an event loop; for `python -m tests.prove`.

    The command's event loop serves the command only, and the sandbox is no part of a shop that is in use: both may read
    their own files.
    """
    with blockbuster_ctx("kustom_hpp", excluded_modules=["kustom_hpp.cli", "kustom_hpp.sandbox"]) as detector:
        for function, file, name in ALLOWED:
            detector.functions[function].can_block_in(file, name)
        yield


ALLOWED = (
    # A module that is loaded at its first use may be one that another thread loads at this moment.
    ("threading.Lock.acquire", "<frozen importlib._bootstrap>", "acquire"),
    # The kernel knows the working directory: no disk is read for it.
    ("os.getcwd", "kustom_hpp/batch/sqlite/journal.py", "__init__"),
    # Tables are made once, by hand: procrastinate reads its own statements for it.
    ("io.TextIOWrapper.read", "kustom_hpp/integrations/procrastinate.py", "create_schema"),
    # What tests do themselves.
    ("threading.Lock.acquire", "tests/transport/test_session_manager.py", "both_look"),
    ("io.BufferedReader.read", "kustom_hpp/cli/demo.py", "example_orders"),
    *(
        (f"sqlite3.{function}", f"kustom_hpp/integrations/{file}.py", name)
        for function in ("Connection.execute", "Cursor.fetchone", "Cursor.fetchall")
        for file, name in (("_status_endpoint", "handle"), ("_shared", "_log_failures"))
    ),
)
"""What may block, and where."""
