"""The rows of a journal in SQLite: how they are laid out, sealed with a checksum, read and written. Everything here blocks."""

import contextlib
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any, Final

from kustom_hpp.batch.kept import COLUMNS, DOUBTFUL, Kept, values_of
from kustom_hpp.batch.outcomes import OutcomeState

_ROWS: Final = (
    "CREATE TABLE rows(id INTEGER PRIMARY KEY, key TEXT NOT NULL, payment_session TEXT, digest BLOB NOT NULL, "
    "state TEXT NOT NULL, delivery TEXT, doubted INTEGER NOT NULL, attempts INTEGER NOT NULL, session_id TEXT, "
    "session TEXT, info TEXT, error TEXT, note TEXT, run TEXT NOT NULL, at INTEGER NOT NULL, turn INTEGER NOT NULL, "
    "crc INTEGER NOT NULL)"
)
TABLES: Final = (
    "CREATE TABLE about(identity BLOB NOT NULL, scope TEXT NOT NULL, crc INTEGER NOT NULL)",
    _ROWS,
    "CREATE UNIQUE INDEX rows_key ON rows(key)",
    "CREATE INDEX rows_payment_session ON rows(payment_session)",
    "CREATE UNIQUE INDEX rows_session_id ON rows(session_id)",
)
_ALL: Final = (*COLUMNS, "turn", "crc")
SELECT: Final = f"SELECT {', '.join(_ALL)} FROM rows"  # noqa: S608 - our own names
_INSERT: Final = f"INSERT INTO rows(id, {', '.join(_ALL)}) VALUES({', '.join('?' * (len(_ALL) + 1))})"
_UPDATE: Final = f"UPDATE rows SET {', '.join(f'{name}=?' for name in _ALL[1:])} WHERE key=?"  # noqa: S608
_SETTLED: Final = slice(COLUMNS.index("state"), len(_ALL))
"""What settling leaves alone, and first of all two of the three indexes, SQLite need not look at."""
_SETTLE: Final = f"UPDATE rows SET {', '.join(f'{name}=?' for name in _ALL[_SETTLED])} WHERE id=?"  # noqa: S608


def crc_of(values: tuple[Any, ...]) -> int:
    """The checksum of a row's columns."""
    # ascii() tells apart what JSON or str() would not (None and "None", 1 and "1", bytes and text), and is the same in
    # every Python.
    return zlib.crc32(ascii(values).encode())


class Table:
    """The rows, as one opening of the file sees them."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._last: int = db.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()[0]
        self._claimed: dict[str, tuple[int, Kept]] = {}
        """Rows that were added and are not settled yet, each with its number: as they stand in the file."""
        self.turn = 0
        """The transaction that what is written belongs to."""

    def get(self, key: str) -> Kept | None:
        """The row of a key."""
        if key in self._claimed:
            return self._claimed[key][1]
        found = self._db.execute(f"{SELECT} WHERE key=?", (key,)).fetchone()
        return None if found is None else _row(found)

    def holder_of_order(self, payment_session: str, key: str) -> str | None:
        """Another key than this one whose row has, or may have, a session for a KCO order."""
        query = "SELECT key FROM rows WHERE payment_session=? AND key<>? AND state<>? LIMIT 1"
        found = self._db.execute(query, (payment_session, key, str(OutcomeState.FAILED))).fetchone()
        return None if found is None else str(found[0])

    def holder_of_session(self, session_id: str, key: str) -> str | None:
        """Another key than this one that has this session."""
        found = self._db.execute("SELECT key FROM rows WHERE session_id=? AND key<>?", (session_id, key)).fetchone()
        return None if found is None else str(found[0])

    def claimed(self, key: str) -> Kept | None:
        """The row of a key that was added since the file was opened, and is not settled; None for every other one."""
        return self._claimed[key][1] if key in self._claimed else None

    @property
    def unsettled(self) -> int:
        """How many such rows there are."""
        return len(self._claimed)

    def add(self, rows: Sequence[Kept]) -> int:
        """Keep rows with keys that are new.

        Returns:
            How many of them, from the first one on, are kept. Fewer than there are where a key is known already.

        """
        first = self._last + 1
        kept = self._at_once(_INSERT, [(number, *self._sealed(row)) for number, row in enumerate(rows, first)])
        self._claimed.update((row.key, (number, row)) for number, row in enumerate(rows[:kept], first))
        self._last += kept
        return kept

    def settle(self, rows: Sequence[Kept]) -> int:
        """Keep rows that were claimed since the file was opened, with how they ended.

        Returns:
            How many of them, from the first one on, are kept. Fewer than there are where a session is another key's.

        """
        values = [(*self._sealed(row)[_SETTLED], self._claimed[row.key][0]) for row in rows]
        kept = self._at_once(_SETTLE, values)
        for row in rows[:kept]:
            del self._claimed[row.key]
        return kept

    def _sealed(self, row: Kept) -> tuple[Any, ...]:
        values = (*values_of(row), self.turn)
        return (*values, crc_of(values))

    def _at_once(self, statement: str, rows: list[tuple[Any, ...]]) -> int:
        """How many rows were written before one that is no longer unique."""
        before = self._db.total_changes
        with contextlib.suppress(sqlite3.IntegrityError):  # that row has left nothing
            self._db.executemany(statement, rows)
        return self._db.total_changes - before

    def put(self, row: Kept) -> bool:
        """Keep a row instead of the one with its key; False, and nothing is kept, where its session is another key's."""
        try:
            self._db.execute(_UPDATE, (*self._sealed(row)[1:], row.key))
        except sqlite3.IntegrityError:
            if row.session_id is None or self.holder_of_session(row.session_id, row.key) is None:
                raise
            return False
        self._claimed.pop(row.key, None)
        return True

    def doubts(self) -> list[Kept]:
        """Every row that is in doubt."""
        marks = ", ".join("?" * len(DOUBTFUL))
        return [_row(found) for found in self._db.execute(f"{SELECT} WHERE state IN ({marks}) ORDER BY id", DOUBTFUL)]

    def page(self, after: int, count: int) -> list[tuple[int, Kept]]:
        """Some rows, each with its number, in the order of their first claims."""
        query = f"SELECT id, {', '.join(_ALL)} FROM rows WHERE id>? ORDER BY id LIMIT ?"  # noqa: S608
        return [(found[0], _row(found[1:])) for found in self._db.execute(query, (after, count))]


def _row(found: tuple[Any, ...]) -> Kept:
    return Kept(**dict(zip(COLUMNS, found, strict=False)))  # behind them are turn and crc
