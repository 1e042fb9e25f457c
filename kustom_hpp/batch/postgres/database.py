"""The ledger's connection, used by one thread: opened, watched, reconnected; leases renewed; operations grouped.

A group of operations is repeated after a lost connection. Every operation may be repeated: a claim of this run whose
response was lost is found by its run, and a settlement that is repeated changes nothing.
"""

import contextlib
import logging
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import psycopg

from kustom_hpp.batch.journal_row import JournalRow, apply_outcome
from kustom_hpp.batch.journal_rules import ClaimRow, SettleRow, wall_clock_ms
from kustom_hpp.batch.lease import Lease, suspend_aware_clock
from kustom_hpp.batch.postgres.rows import (
    Connection,
    InRun,
    LedgerRows,
    RacedError,
    Run,
    check_storable,
    claim_many,
    is_as_known,
    put_back,
    settle_many,
)
from kustom_hpp.batch.postgres.schema import check, connect, describe_dsn, explain
from kustom_hpp.batch.writer_thread import LATER
from kustom_hpp.errors import HPPError, InvalidRequestError, JournalError

_MAX_RACES: Final = 10
_TEMPORARY: Final = ("08", "40", "53", "55", "57", "58")
"""SQLSTATE classes of failures that pass: connection, transaction rollback, resources, locks, operator, system."""
_READ_ONLY: Final = "25006"
"""A primary that has become a standby."""
_MAX_PAUSE: Final = 0.5
_CHUNK: Final = 500
_RENEW: Final = """UPDATE kustom_hpp.runs SET lease_until = clock_timestamp() + make_interval(secs => %s), timeline = %s
    WHERE run = ANY(%s) AND lease_until > clock_timestamp() RETURNING run"""
_TAKE_LEASE: Final = """INSERT INTO kustom_hpp.runs (run, scope, host, pid, lease_until, timeline)
    VALUES (%s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s), %s)
    ON CONFLICT (run) DO UPDATE SET lease_until = excluded.lease_until, timeline = excluded.timeline, ended = NULL"""
_END: Final = """UPDATE kustom_hpp.runs SET lease_until = clock_timestamp(), ended = clock_timestamp()
    WHERE run = ANY(%s) AND ended IS NULL"""
_log: Final = logging.getLogger("kustom_hpp")


class LedgerDatabase:
    """The connection of one process, for all its journals: a `Database` of `writer_thread`.

    Args:
        dsn: where the ledger is.
        lease: seconds that a run has its claims without a renewal.
        beat: seconds between two renewals.
        patience: seconds that operations wait for a database that does not respond.

    Raises:
        JournalError: the database cannot be reached, or has no valid ledger.

    """

    def __init__(self, dsn: str, *, lease: float, beat: float, patience: float) -> None:
        self._dsn, self._address = dsn, describe_dsn(dsn)
        self._lease, self._beat, self._patience = lease, beat, patience
        self._runs: dict[str, Run] = {}
        self._next_beat = 0.0
        self._timeline = 0
        self._quiet = False
        """True while a run may still put back claims that a failover lost: nothing new is claimed until then."""
        self._connection: Connection | None = None
        self.round_trips = 0
        """Statements of claims and settlements, for measurements."""
        self._open()

    max_idle: float | None = 1.0
    """Seconds without operations after which the connection is looked at."""

    @property
    def connection(self) -> Connection:
        """The open connection, for operations of no run."""
        return self._connection or self._open()

    def execute(self, operations: Sequence[Any]) -> list[Any]:
        """Run operations, and repeat them while the database does not respond; see `writer_thread.Database.execute`."""
        results: dict[int, Any] = {}
        give_up = time.monotonic() + self._patience
        pause = 0.0
        while True:
            failure: Exception
            try:
                connection = self.connection
                self._renew_leases(connection)
                self._run(connection, operations, results)
                return [results.get(number, LATER) for number in range(len(operations))]
            except psycopg.Error as error:
                if not is_temporary(error):
                    raise JournalError(explain(error, self._address), cause=type(error).__name__) from None
                failure = error
                self._forget_broken_connection(error)
            except JournalError as error:  # of a check: the server is a standby that has not been promoted yet
                failure = error
            if time.monotonic() > give_up:
                text = f"{self._address} did not respond for {self._patience:g} s: {explain(failure, self._address)}"
                raise JournalError(text, cause=type(failure).__name__)
            pause = min(_MAX_PAUSE, pause * 2 + 0.02)
            time.sleep(pause)

    def maintain(self) -> None:
        """Renew the leases, and notice a lost connection although nothing is sent."""
        connection = self._connection
        try:
            if connection is not None and select.select([connection.fileno()], [], [], 0)[0]:
                connection.execute("SELECT 1")  # the server has said something: a notice, or that it ends
            self._renew_leases(self.connection)
        except (psycopg.Error, JournalError, OSError, ValueError) as error:
            # The next operation meets the same, and has the patience to wait.
            self._forget_broken_connection(error)

    def close(self) -> None:
        """End the runs of this process, so that their rows in doubt are in doubt at once."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.execute(_END, ([*self._runs],))
        self.close_without_writing()

    def close_without_writing(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def end(self, run: Run) -> None:
        """End one run."""
        run.lease.end()
        run.ended = True
        if self._runs.pop(run.run, None) is not None and self._connection is not None:
            self._connection.execute(_END, ([run.run],))

    # The connection

    def _open(self) -> Connection:
        try:
            connection = connect(self._dsn)
        except psycopg.Error as error:
            raise JournalError(explain(error, self._address), cause=type(error).__name__) from None
        try:
            self._take_up(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error) and not self._runs:
                raise JournalError(explain(error, self._address), cause=type(error).__name__) from None
            raise
        self._connection = connection
        return connection

    def _take_up(self, connection: Connection) -> None:
        """Check a new connection, and put back what a failover may have lost before anybody claims anything."""
        check(connection, self._address)
        query = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"
        [[timeline]] = connection.execute(query).fetchall()
        for run in self._runs.values():
            self._reassert(connection, run, failed_over=timeline != self._timeline)
        self._timeline = timeline  # only now: a connection that is lost before asks for all of it again
        self._next_beat = 0.0
        self._renew_leases(connection)
        self._quiet = self._others_are_behind(connection)

    def _reassert(self, connection: Connection, run: Run, *, failed_over: bool) -> None:
        keys = sorted({*run.open, *run.settled})
        restored = lost = 0
        for first in range(0, len(keys), _CHUNK):
            chunk = keys[first : first + _CHUNK]
            found = LedgerRows(connection, run).read_many(chunk)
            for key in chunk:
                mine = run.open.get(key) or run.settled[key]
                if (row := found.get(key)) is not None and is_as_known(row, mine):
                    continue
                if self._transact(connection, InRun(run, partial(put_back, key=key, failed_over=failed_over))):
                    restored += 1
                else:
                    lost += 1
        if lost:
            run.lease.end()  # unsent rows are claimed again: some of them belong to other runs
        if restored or lost:
            _log.warning("%s: put back %d rows; %d belong to other runs now", self._address, restored, lost)

    def _others_are_behind(self, connection: Connection) -> bool:
        """Return whether a live run has not taken up this timeline yet: it may still put back claims."""
        query = "SELECT 1 FROM kustom_hpp.runs WHERE lease_until > clock_timestamp() AND timeline <> %s LIMIT 1"
        return connection.execute(query, (self._timeline,)).fetchone() is not None

    def _forget_broken_connection(self, error: Exception) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.broken or connection.closed or getattr(error, "sqlstate", None) == _READ_ONLY:
            self.close_without_writing()

    # Leases

    def _renew_leases(self, connection: Connection) -> None:
        requested = suspend_aware_clock()
        is_due = requested >= self._next_beat or not all(run.lease.may_send() for run in self._runs.values())
        if not self._runs or not is_due:
            return
        values = (self._lease, self._timeline, [*self._runs])
        renewed = {name for (name,) in connection.execute(_RENEW, values)}
        for run in self._runs.values():
            if run.run not in renewed:
                self._take_lease(connection, run)
            elif not run.lease.renew(requested):
                run.lease = Lease(self._lease, requested)
        self._next_beat = requested + self._beat

    def _take_lease(self, connection: Connection, run: Run) -> None:
        """Take a new lease: claims under the old one are claimed again before they are sent."""
        run.lease.end()
        requested = suspend_aware_clock()
        host, pid = socket.gethostname(), os.getpid()
        connection.execute(_TAKE_LEASE, (run.run, run.scope_id, host, pid, self._lease, self._timeline))
        run.lease = Lease(self._lease, requested)

    def _register(self, connection: Connection, run: Run) -> None:
        """Record a new run."""
        connection.execute("INSERT INTO kustom_hpp.scopes (scope) VALUES (%s) ON CONFLICT DO NOTHING", (run.scope,))
        query = "SELECT id FROM kustom_hpp.scopes WHERE scope = %s"
        [[run.scope_id]] = connection.execute(query, (run.scope,)).fetchall()
        self._take_lease(connection, run)
        self._runs[run.run] = run

    # Operations

    def _run(self, connection: Connection, operations: Sequence[Any], results: dict[int, Any]) -> None:
        """Run the operations that have no result yet. In a quiet time claims get none."""
        waiting = [n for n, each in enumerate(operations) if n not in results and isinstance(each, InRun)]
        for number in waiting:
            run = operations[number].run
            if run.ended:
                results[number] = JournalError("the journal is closed")
            elif run.run not in self._runs:  # also if the connection was lost while it was recorded
                self._register(connection, run)
        if self._quiet:
            self._quiet = self._others_are_behind(connection)
        waiting = [n for n in waiting if n not in results and not (self._quiet and _is_claim(operations[n]))]
        self._run_many(connection, {number: operations[number] for number in waiting}, results)
        for number in waiting:
            if number not in results:
                results[number] = self._run_one(connection, operations[number])
        for number, operation in enumerate(operations):
            if number not in results and not isinstance(operation, InRun):
                results[number] = operation(self)

    def _run_many(self, connection: Connection, operations: dict[int, InRun], results: dict[int, Any]) -> None:
        """Do what is plain: new keys, and rows that this run has claimed. The rest is left to the general rules."""
        keys = Counter((each.run.scope_id, getattr(each.work, "key", None)) for each in operations.values())
        claims: dict[int, tuple[Run, JournalRow]] = {}
        settled: dict[int, tuple[Run, JournalRow]] = {}
        for number, (run, work) in ((number, (each.run, each.work)) for number, each in operations.items()):
            if not isinstance(work, (ClaimRow, SettleRow)) or keys[run.scope_id, work.key] > 1:
                continue
            try:
                if isinstance(work, ClaimRow):
                    check_storable(work)
                    claims[number] = (run, work.new_row())
                elif (row := run.open.get(work.key)) is not None:
                    settled[number] = (run, apply_outcome(row, work.outcome, wall_clock_ms()))
            except InvalidRequestError as error:
                results[number] = error
            except JournalError:
                continue  # the general rules say the same
        if settled:
            with contextlib.suppress(psycopg.errors.UniqueViolation):
                self._remember(settle_many(connection, [*settled.values()]), settled, results)
            self.round_trips += 1
        if claims:
            self._remember(claim_many(connection, [*claims.values()]), claims, results)
            self.round_trips += 1

    @staticmethod
    def _remember(
        written: set[tuple[int, str]], rows: dict[int, tuple[Run, JournalRow]], results: dict[int, Any]
    ) -> None:
        for number, (run, row) in rows.items():
            if (run.scope_id, row.key) in written:
                run.remember(row)
                results[number] = run.claimed() if row.key in run.open else None

    def _run_one(self, connection: Connection, operation: InRun) -> Any:
        try:
            return self._transact(connection, operation)
        except psycopg.Error as error:
            if is_temporary(error):
                raise
            return JournalError(explain(error, self._address), cause=type(error).__name__)

    def _transact(self, connection: Connection, operation: InRun) -> Any:
        """Return the result of an operation, or its HPPError; what it wrote is durable in both cases."""
        for _ in range(_MAX_RACES):
            result: Any
            table = LedgerRows(connection, operation.run)
            with contextlib.suppress(RacedError):
                with connection.transaction():
                    self.round_trips += 4
                    try:
                        result = operation(table)
                    except HPPError as error:
                        result = error
                for row in table.written:
                    operation.run.remember(row)
                return result
        return JournalError(
            f"{self._address}: other runs changed the row at the same moment {_MAX_RACES} times. Try again"
        )


def is_temporary(error: psycopg.Error) -> bool:
    """Return whether an operation that failed so may succeed when it is repeated."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    # 25P03, of a worker that was stopped inside a transaction, also ends the connection.
    return state[:2] in _TEMPORARY or state in (_READ_ONLY, "25P03", "25P02")


def _is_claim(operation: InRun) -> bool:
    return isinstance(operation.work, ClaimRow)
