"""What a person asks a ledger: its scopes, its counts, its surplus sessions; and pruning old rows."""

from collections import Counter
from typing import Final

from attrs import field, frozen

from kustom_hpp.batch.postgres.rows import Connection, LedgerRows

PRUNE_CHUNK: Final = 2_000
"""Rows that one transaction prunes, so that it locks none of them for long."""
_STATUS: Final = """SELECT s.scope,
        (SELECT count(*) FROM kustom_hpp.runs u WHERE u.scope = s.id AND u.lease_until > clock_timestamp()),
        (SELECT count(*) FROM kustom_hpp.surplus x WHERE x.scope = s.id)
    FROM kustom_hpp.scopes s ORDER BY s.scope"""
_STATES: Final = """SELECT s.scope, CASE WHEN r.state = 'claimed' AND u.run IS NULL THEN 'in_doubt' ELSE r.state END, count(*)
    FROM kustom_hpp.rows r JOIN kustom_hpp.scopes s ON s.id = r.scope
    LEFT JOIN kustom_hpp.runs u ON u.run = r.run AND u.lease_until > clock_timestamp()
    GROUP BY 1, 2"""
# The key, the order and the session's id stay: the ledger still refuses to send the row.
_PRUNE: Final = """UPDATE kustom_hpp.rows SET session = json_build_object('session_id', session_id)::text, info = NULL
    WHERE scope = %s AND id IN (SELECT id FROM kustom_hpp.rows
        WHERE scope = %s AND state = 'created' AND info IS NOT NULL AND at < %s ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)"""
_PRUNE_RUNS: Final = """DELETE FROM kustom_hpp.runs u WHERE scope = %s AND lease_until < to_timestamp(%s / 1000.0)
    AND NOT EXISTS (SELECT 1 FROM kustom_hpp.rows r WHERE r.scope = u.scope AND r.run = u.run AND r.state = 'claimed')"""


@frozen(kw_only=True, slots=True)
class ScopeStatus:
    """The counts of one scope of a ledger."""

    scope: str
    rows: Counter[str] = field(factory=Counter)
    """Rows by state: created, failed, in_doubt, and claimed for those that a live run is sending."""
    live_runs: int
    surplus: int
    """Surplus sessions, and requests that may have made one; see `PostgresJournal.surplus`."""


def read_scopes(connection: Connection) -> list[str]:
    """Return the scopes, sorted."""
    return [scope for (scope,) in connection.execute("SELECT scope FROM kustom_hpp.scopes ORDER BY scope")]


def read_status(connection: Connection) -> list[ScopeStatus]:
    """Return the counts of every scope."""
    found = connection.execute(_STATUS).fetchall()
    lines = {scope: ScopeStatus(scope=scope, live_runs=live, surplus=surplus) for scope, live, surplus in found}
    for scope, state, count in connection.execute(_STATES):
        if scope in lines:  # else it was made between the two statements
            lines[scope].rows[state] = count
    return [*lines.values()]


def prune(before: int, rows: LedgerRows) -> int:
    """Shorten some CREATED rows that were last changed before a time, in milliseconds; return how many.

    When there are none left, forget the runs that ended before that time.
    """
    scope = rows.run.scope_id
    count = rows.connection.execute(_PRUNE, (scope, scope, before, PRUNE_CHUNK)).rowcount
    if not count:
        rows.connection.execute(_PRUNE_RUNS, (scope, before))
    return count
