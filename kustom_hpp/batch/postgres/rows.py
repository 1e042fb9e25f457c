"""The ledger's rows: one at a time by the general rules, and many at a time in two statements."""

# ruff: noqa: S608 - the statements are made of constants; every value is a parameter

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import psycopg
from attrs import define, field, frozen

from kustom_hpp.batch.journal import Claim, Claimed, ClaimedElsewhere
from kustom_hpp.batch.journal_row import CLAIMED, COLUMNS, JournalRow, apply_outcome, row_values
from kustom_hpp.batch.journal_rules import ClaimRow, SettleRow
from kustom_hpp.batch.lease import Lease
from kustom_hpp.batch.outcomes import OutcomeState
from kustom_hpp.errors import InvalidRequestError

Connection = psycopg.Connection[Any]
_REMEMBERED: Final = 5_000
"""Settled rows that a run remembers, so that it can put back what a failover lost."""
_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM kustom_hpp.rows"
_INSERT: Final = f"""INSERT INTO kustom_hpp.rows (scope, {", ".join(COLUMNS)})
    VALUES ({", ".join(["%s"] * (len(COLUMNS) + 1))}) ON CONFLICT DO NOTHING"""
_UPDATE: Final = f"""UPDATE kustom_hpp.rows SET {", ".join(f"{name} = %s" for name in COLUMNS)}
    WHERE scope = %s AND key = %s"""
_SETTLED: Final = {
    "state": "text", "delivery": "text", "attempts": "integer", "session_id": "text", "session": "text", "info": "text",
    "error": "text", "at": "bigint",
}  # fmt: skip
"""The columns that a settlement changes, and their types."""
_CLAIM_MANY: Final = """INSERT INTO kustom_hpp.rows (scope, run, key, payment_session, digest, state, at)
    SELECT t.scope, t.run, t.key, t.payment_session, t.digest, 'claimed', t.at
    FROM unnest(%s::smallint[], %s::text[], %s::bytea[], %s::text[], %s::bytea[], %s::bigint[])
        AS t(scope, run, key, payment_session, digest, at)
    ON CONFLICT DO NOTHING RETURNING scope, key"""
_SETTLE_MANY: Final = f"""UPDATE kustom_hpp.rows r SET {", ".join(f"{name} = t.{name}" for name in _SETTLED)}
    FROM unnest(%s::smallint[], %s::text[], %s::bytea[], {", ".join(f"%s::{kind}[]" for kind in _SETTLED.values())})
        AS t(scope, run, key, {", ".join(_SETTLED)})
    WHERE r.scope = t.scope AND r.key = t.key AND r.run = t.run AND r.state = 'claimed'
    RETURNING r.scope, r.key"""


class RacedError(Exception):
    """Another run wrote the same row at the same moment. Read it again."""


@define(eq=False)
class Run:
    """One opened journal, as the ledger's thread knows it."""

    run: str
    scope: str
    lease: Lease
    scope_id: int = 0
    """The scope's number in the database; 0 until the run is registered there."""
    ended: bool = False
    open: dict[str, JournalRow] = field(factory=dict)
    """Rows that this run claimed and has not settled, as they are in the database."""
    settled: dict[str, JournalRow] = field(factory=dict)
    """The newest rows that it settled."""

    def remember(self, row: JournalRow) -> None:
        """Remember a row of this run that is durable now."""
        self.open.pop(row.key, None)
        if row.state == CLAIMED:
            self.open[row.key] = row
            return
        self.settled.pop(row.key, None)  # the newest ones stand last
        self.settled[row.key] = row
        if len(self.settled) > _REMEMBERED:
            del self.settled[next(iter(self.settled))]

    def claimed(self) -> Claimed:
        """Return a claim under the present lease."""
        return Claimed(may_send=self.lease.may_send)


class LedgerRows:
    """The rows of one scope, within one transaction: a `RowStore` of `journal_rules`."""

    def __init__(self, connection: Connection, run: Run) -> None:
        self.connection, self.run = connection, run
        self.written: list[JournalRow] = []
        """The rows of this run as they are once the transaction is committed."""
        self.lock_leases = False
        """True if `live_holder` locks the lease: a renewal then comes before this transaction or after it."""

    def get(self, key: str) -> JournalRow | None:
        """Return the row of a key, and lock it."""
        query = f"{_SELECT} WHERE scope = %s AND key = %s FOR UPDATE"
        found = self.connection.execute(query.encode(), (self.run.scope_id, key.encode())).fetchone()
        return None if found is None else _row_from(found)

    def order_holder(self, payment_session: str, key: str) -> str | None:
        """Return another key whose row has, or may have, a session for this KCO order."""
        return self._other_key("payment_session = %s AND state <> 'failed'", payment_session, key)

    def session_holder(self, session_id: str, key: str) -> str | None:
        """Return another key that has this session."""
        return self._other_key("session_id = %s", session_id, key)

    def live_holder(self, run: str) -> ClaimedElsewhere | None:
        """Return who holds the claims of another run, if its lease has not ended."""
        if self.lock_leases:
            self.connection.execute("SELECT 1 FROM kustom_hpp.runs WHERE run = %s FOR UPDATE", (run,))
        query = "SELECT host, pid, lease_until, lease_until > clock_timestamp() FROM kustom_hpp.runs WHERE run = %s"
        found = self.connection.execute(query, (run,)).fetchone()
        if found is None or not found[3]:
            return None
        host, pid, until, _ = found
        return ClaimedElsewhere(f"the run {run} (process {pid} on {host})", until)

    def insert(self, row: JournalRow) -> None:
        """Add the row of a new key.

        Raises:
            RacedError: another run has just claimed the key or its order.

        """
        values = (self.run.scope_id, *_stored_row(row))
        if not self.connection.execute(_INSERT.encode(), values).rowcount:
            raise RacedError
        self._wrote(row)

    def update(self, row: JournalRow) -> bool:
        """Replace the row of its key; return False, and change nothing, if another key has its session.

        Raises:
            RacedError: another run has just claimed its order.

        """
        values = (*_stored_row(row), self.run.scope_id, row.key.encode())
        try:
            with self.connection.transaction():  # a savepoint: an error must not end the transaction around it
                self.connection.execute(_UPDATE.encode(), values)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.constraint_name != "rows_session":
                raise RacedError from None
            return False
        self._wrote(row)
        return True

    def doubts(self) -> list[JournalRow]:
        """Return every row in doubt, without the claims of other live runs."""
        query = f"""{_SELECT} WHERE scope = %s AND (state = 'in_doubt' OR state = 'claimed' AND (run = %s OR NOT EXISTS (
            SELECT 1 FROM kustom_hpp.runs u WHERE u.run = rows.run AND u.lease_until > clock_timestamp()))) ORDER BY id"""
        found = self.connection.execute(query.encode(), (self.run.scope_id, self.run.run))
        return [_row_from(values) for values in found]

    def page(self, after: int, count: int) -> list[tuple[int, JournalRow]]:
        """Return some rows, each with its number, in the order of their first claims."""
        query = (
            f"SELECT id, {', '.join(COLUMNS)} FROM kustom_hpp.rows WHERE scope = %s AND id > %s ORDER BY id LIMIT %s"
        )
        found = self.connection.execute(query.encode(), (self.run.scope_id, after, count))
        return [(number, _row_from(values)) for number, *values in found]

    def surplus(self) -> list[tuple[str, str | None]]:
        """Return key and session id of each surplus session, in the order of their recording."""
        query = "SELECT key, session_id FROM kustom_hpp.surplus WHERE scope = %s ORDER BY id"
        return [
            (bytes(key).decode(), session_id)
            for key, session_id in self.connection.execute(query, (self.run.scope_id,))
        ]

    def read_many(self, keys: Sequence[str]) -> dict[str, JournalRow]:
        """Return the rows of these keys, without a lock."""
        query = f"{_SELECT} WHERE scope = %s AND key = ANY(%s)"
        found = self.connection.execute(query.encode(), (self.run.scope_id, [key.encode() for key in keys]))
        return {row.key: row for row in map(_row_from, found)}

    def _other_key(self, condition: str, value: str, key: str) -> str | None:
        query = f"SELECT key FROM kustom_hpp.rows WHERE scope = %s AND {condition} AND key <> %s LIMIT 1"
        found = self.connection.execute(query.encode(), (self.run.scope_id, _stored(value), key.encode())).fetchone()
        return None if found is None else bytes(found[0]).decode()

    def _wrote(self, row: JournalRow) -> None:
        if row.run == self.run.run:
            self.written.append(row)


# The operations of the thread


@frozen(eq=False)
class InRun:
    """An operation of one run: a claim, a settlement, or any function of the rows."""

    run: Run
    work: Callable[[LedgerRows], Any]

    def __call__(self, table: LedgerRows) -> Any:
        """Do it within a transaction."""
        if isinstance(self.work, ClaimRow):
            return _claim(table, self.work)
        if isinstance(self.work, SettleRow):
            return _settle(table, self.work)
        return self.work(table)


def _claim(table: LedgerRows, claim: ClaimRow) -> Claim:
    row = table.get(claim.key)
    if row is not None and row.state == CLAIMED and row.run == claim.run and claim.key not in table.run.open:
        # This very claim was committed, and the response to it was lost with the connection.
        table.written.append(row)
        return table.run.claimed()
    result = claim(table)
    return table.run.claimed() if isinstance(result, Claimed) else result


def _settle(table: LedgerRows, settle: SettleRow) -> ClaimedElsewhere | None:
    result = settle(table)
    if not table.written:  # the row is another run's now, or has a verdict: nothing to put back after a failover
        table.run.open.pop(settle.key, None)
    if result is not None and settle.outcome.state is not OutcomeState.FAILED:
        record_surplus(table, settle)
    return result


def record_surplus(table: LedgerRows, settle: SettleRow) -> None:
    """Record a request that has, or may have, a session besides the one of the run that took over its row."""
    row = JournalRow(key=settle.key, payment_session=None, digest=b"", state=CLAIMED, run=settle.run, at=0)
    ended = apply_outcome(row, settle.outcome, 0)
    # Repeated after a lost response, it is recorded once.
    statement = """INSERT INTO kustom_hpp.surplus (scope, key, session_id, session, error, run)
        SELECT %s::smallint, %s::bytea, %s::text, %s::text, %s::text, %s::text
        WHERE NOT EXISTS (SELECT 1 FROM kustom_hpp.surplus
            WHERE scope = %s AND key = %s AND run = %s AND session_id IS NOT DISTINCT FROM %s)"""
    scope_and_key = (table.run.scope_id, settle.key.encode())
    session_id = _stored(ended.session_id)
    values = (session_id, ended.session, ended.error, settle.run)
    table.connection.execute(statement, (*scope_and_key, *values, *scope_and_key, settle.run, session_id))


# Many rows in one statement


def claim_many(connection: Connection, claims: Sequence[tuple[Run, JournalRow]]) -> set[tuple[int, str]]:
    """Claim new rows; return scope and key of each that was new."""
    # In one order in every process: two that claim the same rows wait for each other instead of blocking each other.
    claims = sorted(claims, key=lambda claim: (claim[0].scope_id, claim[1].key))
    columns = (
        [run.scope_id for run, _ in claims],
        [run.run for run, _ in claims],
        [row.key.encode() for _, row in claims],
        [row.payment_session for _, row in claims],
        [row.digest for _, row in claims],
        [row.at for _, row in claims],
    )
    return _keys(connection.execute(_CLAIM_MANY, columns).fetchall())


def settle_many(connection: Connection, settled: Sequence[tuple[Run, JournalRow]]) -> set[tuple[int, str]]:
    """Settle claims; return scope and key of each that was still claimed.

    Raises:
        psycopg.errors.UniqueViolation: one of the sessions is another key's; nothing was written.

    """
    columns: list[list[Any]] = [
        [run.scope_id for run, _ in settled],
        [run.run for run, _ in settled],
        [row.key.encode() for _, row in settled],
    ]
    columns += [[_stored(getattr(row, name)) for _, row in settled] for name in _SETTLED]
    return _keys(connection.execute(_SETTLE_MANY.encode(), columns).fetchall())


def _keys(found: Iterable[tuple[Any, ...]]) -> set[tuple[int, str]]:
    return {(scope, bytes(key).decode()) for scope, key in found}


# What a failover lost


def put_back(table: LedgerRows, key: str, *, failed_over: bool) -> bool:
    """Restore a row that this run knows to have been durable.

    Args:
        table: the rows.
        key: the row's key.
        failed_over: True if the database has another timeline than before. Only then may a row of another run be older than
            the row of this one. Without it, that run took the row over, and a failed row may be a person's verdict.

    Returns:
        False if the row belongs to another run now, or a person has resolved it.

    """
    run = table.run
    mine = run.open.get(key) or run.settled[key]
    row = table.get(key)
    if row is None:
        table.insert(mine)
        return True
    if is_as_known(row, mine):
        return True
    if row.state == OutcomeState.CREATED:
        return row.run == run.run or row.session_id == mine.session_id
    resolved = row.run == run.run and row.note != mine.note
    replaceable = mine.state == OutcomeState.CREATED or (
        not resolved and (row.run == run.run or (failed_over and row.state == OutcomeState.FAILED))
    )
    return replaceable and table.update(mine)


def is_as_known(row: JournalRow, mine: JournalRow) -> bool:
    """Return whether the database has a row as this run knows it."""
    return (row.state, row.run, row.session_id) == (mine.state, mine.run, mine.session_id)


# Columns


def check_storable(claim: ClaimRow) -> None:
    """Refuse an order that PostgreSQL cannot store.

    Raises:
        InvalidRequestError: it contains a NUL character.

    """
    if claim.order is not None and "\x00" in claim.order:
        problem = ("payment_session_url", "has a NUL character: PostgreSQL cannot store it")
        raise InvalidRequestError(problems=(problem,))


def _row_from(found: Sequence[Any]) -> JournalRow:
    values = dict(zip(COLUMNS, found, strict=True))
    return JournalRow(**{**values, "key": bytes(values["key"]).decode(), "digest": bytes(values["digest"])})


def _stored_row(row: JournalRow) -> tuple[Any, ...]:
    return (row.key.encode(), *map(_stored, row_values(row)[1:]))


def _stored(value: Any) -> Any:
    """Return a text without NUL, which PostgreSQL cannot store: of the API, or of a person."""
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}") if type(value) is str else value
