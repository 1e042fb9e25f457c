"""`PostgresLedger`: one journal and one rate limit for many machines."""

import asyncio
import contextlib
import datetime as dt
import math
import secrets
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from kustom_hpp.batch.journal import Claim, ClaimedElsewhere
from kustom_hpp.batch.journal_row import CLAIMED, JournalEntry, entry_of, outcome_of
from kustom_hpp.batch.journal_rules import ClaimRow, SettleRow, Verdict, resolve_row, wall_clock_ms
from kustom_hpp.batch.lease import Lease
from kustom_hpp.batch.outcomes import Outcome
from kustom_hpp.batch.scope import Scope
from kustom_hpp.batch.writer_thread import WriterThread
from kustom_hpp.errors import ConfigError, JournalError
from kustom_hpp.models import Session

if TYPE_CHECKING:
    from kustom_hpp.batch.postgres.overview import ScopeStatus
    from kustom_hpp.batch.postgres.pace import SharedPace
    from kustom_hpp.batch.postgres.rows import LedgerRows

PATIENCE = 60.0
"""Seconds that a call waits for a database that does not respond, by default."""
_PAGE: Final = 500
MIN_AGE: Final = dt.timedelta(days=3)
"""The age of the youngest rows that `PostgresJournal.prune` may shorten."""


class PostgresLedger:
    """The journals of many processes in one PostgreSQL database. Needs the extra `postgres`.

        async with PostgresLedger("postgresql://shop@db/shop") as ledger:
            journal = ledger.journal(Scope.of(client.settings, "merchant"))
            async with batch.run(client.create_session, items, journal=journal) as outcomes:
                ...

    Any number of processes on any number of machines may use one ledger, and one scope of it, at the same time: the
    database lets one of them claim a row. Open one ledger in each process, after a fork. It has one thread with one
    connection for all its journals (and one for all its paces), and groups what its callers do at the same moment.

    A journal opened from the ledger is a run: it holds a lease on its claims and renews it. A run that is killed, or that is
    stopped for longer than its lease, sends nothing more; its claims are in doubt then. Lost connections are repaired for
    `patience` seconds. A session is durable when the database has committed it: keep fsync on, and for a failover that
    loses nothing use a synchronous standby. After a failover to an asynchronous one, every live run puts back what it
    knows before anybody claims a new row.

    The schema `kustom_hpp` is created once, by `create_schema` or `kustom-hpp journal init`. Its rows contain keys, payment
    sessions' URLs, digests, responses and errors; no credentials, no merchant URLs, no requests.
    """

    def __init__(self, dsn: str, *, lease: float = 150.0, beat: float = 30.0, patience: float = PATIENCE) -> None:
        """Create a ledger. The first use connects.

        Args:
            dsn: a URL (postgresql://user@host/database) or another connection string of libpq. Leave the password to
                PGPASSWORD or a service file. Give all hosts of a cluster that can fail over.
            lease: seconds that a run has its claims without a renewal. Keep it longer than a call can take: the retry
                budget, the connect and read timeouts, and a minute.
            beat: seconds between two renewals; at most a third of the lease.
            patience: seconds that a call waits for a database that does not respond.

        Raises:
            ConfigError: a number is invalid.
            ImportError: the extra `postgres` is not installed.

        """
        for name, seconds in (("lease", lease), ("beat", beat), ("patience", patience)):
            if not 0 < seconds < math.inf:
                raise ConfigError(f"PostgresLedger.{name} must be a number of seconds above 0, got {seconds!r}")
        if beat > lease / 3:
            raise ConfigError(
                f"PostgresLedger.beat must be at most a third of the lease ({lease:g} s), got {beat!r}. A renewal may be late"
            )
        try:
            from kustom_hpp.batch.postgres.database import LedgerDatabase
            from kustom_hpp.batch.postgres.pace import Reservations
            from kustom_hpp.batch.postgres.schema import describe_dsn
        except ImportError as error:
            msg = "PostgresLedger needs psycopg 3: pip install 'kustom_hpp[postgres]'"
            raise ImportError(msg, name=error.name) from None
        self._dsn = dsn
        self._address = describe_dsn(dsn)
        open_database = partial(LedgerDatabase, dsn, lease=lease, beat=beat, patience=patience)
        self._thread: WriterThread[Any] = WriterThread(self._address, open_database, str)
        self._reservations = WriterThread(self._address, partial(Reservations, dsn), str)

    def journal(self, scope: Scope | str) -> "PostgresJournal":
        """Return a new journal of a scope: one run, for one `batch.run` after another.

        Args:
            scope: whose sessions the journal remembers: `Scope.of(client.settings, "merchant")`.

        """
        return PostgresJournal(self._thread, str(scope))

    def pace(self, rate: float, *, merchant: str = "") -> "SharedPace":
        """Return a pace that all processes with this ledger share: `HPPClient(pace=ledger.pace(40))`.

        If the database does not respond, the pace of this process alone holds, at the same rate.

        Args:
            rate: requests per second of all processes together.
            merchant: whose rate limit it is, by your own name; each has its own.

        """
        from kustom_hpp.batch.postgres.pace import SharedPace

        return SharedPace(self._reservations, rate, merchant)

    async def create_schema(self) -> bool:
        """Create the ledger's tables if there are none.

        Returns:
            True if they were created, False if they were there.

        Raises:
            JournalError: the database cannot be reached, has another schema of that name, or refuses.

        """
        from kustom_hpp.batch.postgres.schema import create_schema

        return await asyncio.to_thread(create_schema, self._dsn, self._address)

    async def scopes(self) -> list[str]:
        """Return the scopes in the ledger, sorted."""
        from kustom_hpp.batch.postgres.overview import read_scopes

        return await self._thread.submit(lambda database: read_scopes(database.connection))

    async def status(self) -> "list[ScopeStatus]":
        """Return the counts of every scope: rows by state, live runs, surplus sessions."""
        from kustom_hpp.batch.postgres.overview import read_status

        return await self._thread.submit(lambda database: read_status(database.connection))

    async def aclose(self) -> None:
        """Close the connections, after all waiting calls, and end the runs. Idempotent."""
        await self._thread.aclose()
        await self._reservations.aclose()

    async def __aenter__(self) -> Self:
        """Connect and check the database now.

        Raises:
            JournalError: it cannot be reached, or has no valid ledger. The error names the command that mends it.

        """
        await self._thread.aopen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Also called if __init__ failed.
        threads = [vars(self).get(name) for name in ("_thread", "_reservations")]
        if open_threads := [thread for thread in threads if thread is not None and thread.is_open]:
            for thread in open_threads:
                thread.request_stop()
            warnings.warn(f"unclosed ledger {self._address}", ResourceWarning, stacklevel=1, source=self)


class PostgresJournal:
    """A journal in a ledger, made by `PostgresLedger.journal`: one run of one scope.

    Closing it ends the run: what it claimed and did not settle is in doubt at once.
    """

    shared = True
    """Several runs use it at the same time; see `Journal.shared`."""

    def __init__(self, thread: "WriterThread[Any]", scope: str) -> None:
        from kustom_hpp.batch.postgres.rows import InRun, Run

        self._thread = thread
        self._run = Run(secrets.token_hex(8), scope, Lease(0.0, 0.0))
        self._in_run: Callable[..., Any] = partial(InRun, self._run)
        self._closed = False

    @property
    def run_id(self) -> str:
        """The name of this run in the tables and in errors."""
        return self._run.run

    def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> asyncio.Future[Claim]:
        """Claim a row; see `Journal.claim`. A cancelled call may have claimed it: the row is in doubt then."""
        return self._submit(ClaimRow(self._run.run, key, order, digest, force, shared=True))

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[ClaimedElsewhere | None]:
        """Record the outcome of a row; see `Journal.settle`.

        If another run has taken the row over, a session of this outcome is recorded in `kustom_hpp.surplus`.
        """
        return self._submit(SettleRow(self._run.run, key, outcome, shared=True))

    async def resolve(self, key: str, verdict: Verdict, *, session: Session | None = None, note: str = "") -> Outcome:
        """End a doubt; see `SqliteJournal.resolve`. A row that a live run holds is refused."""
        outcome: Outcome = await self._submit(
            partial(_resolve, run=self._run.run, key=key, verdict=verdict, session=session, note=note)
        )
        return outcome

    async def doubts(self) -> Sequence[Outcome]:
        """Return every row in doubt, in the order of their first claims, without the claims of other live runs."""
        outcomes: list[Outcome] = await self._submit(lambda rows: [outcome_of(row) for row in rows.doubts()])
        return outcomes

    async def rows(self) -> AsyncIterator[JournalEntry]:
        """Iterate over all rows, in the order of their first claims; a few hundred are in memory at a time.

        Rows that other runs claim meanwhile may be missing.
        """
        last = 0
        while page := await self._submit(partial(_page, last)):
            for last, entry in page:  # noqa: B007 - the next page begins after the last number
                yield entry

    async def outcomes(self, keys: Sequence[str]) -> dict[str, Outcome | None]:
        """Return the outcomes of some keys as later runs report them.

        None stands for a row that a live run is sending; keys without a row are left out.
        """
        found: dict[str, Outcome | None] = await self._submit(partial(_outcomes, list(keys)))
        return found

    async def surplus(self) -> Sequence[tuple[str, str | None]]:
        """Return key and session id of each surplus session, and of requests that may have made one (None).

        A run left it behind that had lost its row to another one. Disable the session.
        """
        found: list[tuple[str, str | None]] = await self._submit(lambda rows: rows.surplus())
        return found

    async def prune(self, older_than: dt.timedelta) -> int:
        """Shorten CREATED rows that were last changed so long ago, and forget runs that ended before; return their number.

        A row keeps its key, its order and its session's id, so that it is never sent again. Its outcome then has a session
        with an id and nothing else.

        Raises:
            ConfigError: `older_than` is less than three days; a session lives for two.

        """
        if older_than < MIN_AGE:
            raise ConfigError(f"older_than must be at least {MIN_AGE.days} days: a session lives for two")
        from kustom_hpp.batch.postgres.overview import prune

        before = wall_clock_ms() - int(older_than.total_seconds() * 1000)
        total = 0
        while count := await self._submit(partial(prune, before)):
            total += count
        return total

    async def aclose(self) -> None:
        """End the run, after all waiting calls. Idempotent."""
        if self._closed:
            return
        self._closed = True
        run = self._run
        if self._thread.is_open:
            # Without a database the lease ends by its clock.
            with contextlib.suppress(JournalError):
                await self._thread.submit(lambda database: database.end(run))

    async def __aenter__(self) -> Self:
        """Connect, check the database and record the run.

        Raises:
            JournalError: the database cannot be reached or has no valid ledger.

        """
        await self._submit(lambda _: None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _submit(self, work: Callable[["LedgerRows"], Any]) -> "asyncio.Future[Any]":
        if self._closed:
            raise JournalError("the journal is closed")
        return self._thread.submit(self._in_run(work))


def _resolve(rows: "LedgerRows", **arguments: Any) -> Outcome:
    rows.lock_leases = True
    return resolve_row(rows, **arguments)


def _page(after: int, rows: "LedgerRows") -> list[tuple[int, JournalEntry]]:
    entries: list[tuple[int, JournalEntry]] = []
    for number, row in rows.page(after, _PAGE):
        is_elsewhere = row.state == CLAIMED and row.run != rows.run.run
        entries.append((number, entry_of(row, rows.live_holder(row.run) if is_elsewhere else None)))
    return entries


def _outcomes(keys: list[str], rows: "LedgerRows") -> dict[str, Outcome | None]:
    found: dict[str, Outcome | None] = {}
    holders: dict[str, bool] = {}
    for key, row in rows.read_many(keys).items():
        if row.state == CLAIMED and row.run not in holders:
            holders[row.run] = rows.live_holder(row.run) is not None
        found[key] = None if row.state == CLAIMED and holders[row.run] else outcome_of(row)
    return found
