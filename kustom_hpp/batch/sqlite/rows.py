"""The rows of a journal in SQLite: columns, checksum, reading and writing. Everything here blocks."""

import sqlite3
import zlib
from typing import Any, Final

from kustom_hpp.batch.journal import ClaimedElsewhere
from kustom_hpp.batch.journal_row import COLUMNS, UNRESOLVED, JournalRow, row_values
from kustom_hpp.batch.outcomes import OutcomeState
from kustom_hpp.errors import JournalError

_ROWS: Final = (
    "CREATE TABLE rows(id INTEGER PRIMARY KEY, key TEXT NOT NULL, payment_session TEXT, digest BLOB NOT NULL, "
    "state TEXT NOT NULL, delivery TEXT, had_unknown_attempt INTEGER NOT NULL, attempts INTEGER NOT NULL, "
    "session_id TEXT, session TEXT, info TEXT, error TEXT, note TEXT, run TEXT NOT NULL, at INTEGER NOT NULL, "
    "tx INTEGER NOT NULL, crc INTEGER NOT NULL)"
)
TABLES: Final = (
    "CREATE TABLE about(identity BLOB NOT NULL, scope TEXT NOT NULL, crc INTEGER NOT NULL)",
    _ROWS,
    "CREATE UNIQUE INDEX rows_key ON rows(key)",
    "CREATE INDEX rows_payment_session ON rows(payment_session)",
    "CREATE UNIQUE INDEX rows_session_id ON rows(session_id)",
)
_ALL: Final = (*COLUMNS, "tx", "crc")
SELECT: Final = f"SELECT {', '.join(_ALL)} FROM rows"  # noqa: S608 - our own names
_INSERT: Final = f"INSERT INTO rows({', '.join(_ALL)}) VALUES({', '.join('?' * len(_ALL))})"
_UPDATE: Final = f"UPDATE rows SET {', '.join(f'{name}=?' for name in _ALL[1:])} WHERE key=?"  # noqa: S608


def checksum(values: tuple[Any, ...]) -> int:
    """Return the checksum of a row's columns."""
    # ascii() tells apart what JSON or str() would not (None and "None", 1 and "1", bytes and text), and is the same in
    # every Python.
    return zlib.crc32(ascii(values).encode())


class RowTable:
    """A `RowStore` over the table, within the transaction that the caller has begun."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.transaction_id = 0
        """The transaction in which rows are written."""

    def get(self, key: str) -> JournalRow | None:
        """Return the row of a key."""
        found = self._db.execute(f"{SELECT} WHERE key=?", (key,)).fetchone()
        return None if found is None else _row(found)

    def order_holder(self, payment_session: str, key: str) -> str | None:
        """Return another key whose row has, or may have, a session for this KCO order."""
        query = "SELECT key FROM rows WHERE payment_session=? AND key<>? AND state<>? LIMIT 1"
        found = self._db.execute(query, (payment_session, key, str(OutcomeState.FAILED))).fetchone()
        return None if found is None else str(found[0])

    def session_holder(self, session_id: str, key: str) -> str | None:
        """Return another key that has this session."""
        found = self._db.execute("SELECT key FROM rows WHERE session_id=? AND key<>?", (session_id, key)).fetchone()
        return None if found is None else str(found[0])

    def live_holder(self, run: str) -> ClaimedElsewhere | None:  # noqa: ARG002
        """Return None: the lock on the file means that every other run has ended."""
        return None

    def insert(self, row: JournalRow) -> None:
        """Add the row of a new key.

        Raises:
            JournalError: a column has a value that the table does not accept.

        """
        try:
            self._db.execute(_INSERT, self._with_checksum(row))
        except sqlite3.IntegrityError:
            pass
        else:
            return
        raise JournalError(f"the row {row.key!r} cannot be recorded: a column has an invalid value")

    def update(self, row: JournalRow) -> bool:
        """Replace the row of its key; return False, and change nothing, if another key has its session."""
        try:
            self._db.execute(_UPDATE, (*self._with_checksum(row)[1:], row.key))
        except sqlite3.IntegrityError:
            if row.session_id is None or self.session_holder(row.session_id, row.key) is None:
                raise
            return False
        return True

    def _with_checksum(self, row: JournalRow) -> tuple[Any, ...]:
        values = (*row_values(row), self.transaction_id)
        return (*values, checksum(values))

    def doubts(self) -> list[JournalRow]:
        """Return every row in doubt, claims without an outcome included."""
        marks = ", ".join("?" * len(UNRESOLVED))
        return [_row(found) for found in self._db.execute(f"{SELECT} WHERE state IN ({marks}) ORDER BY id", UNRESOLVED)]

    def page(self, after: int, count: int) -> list[tuple[int, JournalRow]]:
        """Return some rows, each with its number, in the order of their first claims."""
        query = f"SELECT id, {', '.join(_ALL)} FROM rows WHERE id>? ORDER BY id LIMIT ?"  # noqa: S608
        return [(found[0], _row(found[1:])) for found in self._db.execute(query, (after, count))]


def _row(found: tuple[Any, ...]) -> JournalRow:
    return JournalRow(**dict(zip(COLUMNS, found, strict=False)))  # tx and crc follow the columns
