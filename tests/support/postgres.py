"""A PostgreSQL of our own: made in a temporary folder, started, crashed, copied and stopped.

Tests take it from the fixture `cluster`, which starts one for each test process. Where the machine has no PostgreSQL such
tests are skipped, unless KUSTOM_HPP_REQUIRE_SERVERS is set: then they fail.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from kustom_hpp.batch import PostgresLedger

BINARIES = Path("/usr/lib/postgresql/15/bin")
CONNECT_TIMEOUT = 5
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "fsync": "on",
}


def require(what: str, *, present: bool) -> None:
    """Skip the test without a server; fail it where KUSTOM_HPP_REQUIRE_SERVERS is set."""
    if present:
        return
    reason = f"needs {what}, which this machine does not have"
    if os.environ.get("KUSTOM_HPP_REQUIRE_SERVERS"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Cluster:
    """One PostgreSQL server and its folder.

    Args:
        primary: become its standby; None for a new cluster.
        settings: of the server.

    """

    def __init__(self, primary: "Cluster | None" = None, **settings: Any) -> None:
        self._primary = primary
        self.folder = Path(tempfile.mkdtemp(prefix="kustom_hpp-postgres-"))
        self.port = free_port()
        self.settings = {**_SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, "postgres", "postgres")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}?connect_timeout={CONNECT_TIMEOUT}"

    def initialize(self) -> None:
        self._run(
            "initdb", "-D", self.data, "-A", "trust", "-U", "tests", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"
        )

    def copy(self, primary: "Cluster") -> None:
        address = f"host=127.0.0.1 port={primary.port} user=tests application_name=standby"
        self._run("pg_basebackup", "-R", "-c", "fast", "-D", self.data, "-d", address)

    def start(self) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in self.settings.items())
        self._run(
            "pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "-o", f"-p {self.port} {options}", "start"
        )

    def stop(self, mode: str = "immediate") -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "20", "stop")

    def crash(self) -> None:
        """Kill the postmaster and every backend at once, as a power cut does."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(Path(f"/proc/{each}").exists() for each in (str(pid), *children)):
            time.sleep(0.02)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def promote(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "promote")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> str:
        """Create a database; return its DSN."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.dsn(name)

    def __enter__(self) -> Self:
        if self._primary is None:
            self.initialize()
        else:
            self.copy(self._primary)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(BINARIES / program), *map(str, arguments)]
        user: dict[str, Any] = {}
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        # Files instead of pipes: the server would hold a pipe open, and reading it would never end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder, timeout=60, **user,
            )  # fmt: skip
            if done.returncode:
                output.seek(0)
                raise subprocess.CalledProcessError(done.returncode, command, output.read().decode())


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server for the tests of this process."""
    require("PostgreSQL 15 (apt-get install postgresql-15)", present=(BINARIES / "initdb").exists())
    with Cluster() as running:
        yield running


@pytest.fixture(scope="session")
def ledger_dsn(cluster: Cluster) -> str:
    """A database with a ledger, for all tests of this process: each uses a scope of its own."""
    dsn = cluster.create_database("ledger")
    assert asyncio.run(PostgresLedger(dsn).create_schema())
    return dsn
