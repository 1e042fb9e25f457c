"""The journal's SQLite file, used by one thread: made, checked, read, written. Everything here blocks.

Implementation note: `with sqlite3.connect(...)` commits but does not close, and closing writes a checkpoint. A file that is
refused, or that could not be written to, is let go by `_let_go` instead: nothing is written, nothing synced.
"""

import contextlib
import os
import secrets
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kustom_hpp.batch.kept import COLUMNS, DOUBTFUL, Kept, values_of
from kustom_hpp.batch.outcome import OutcomeState
from kustom_hpp.batch.seal import Seal
from kustom_hpp.errors import JournalError

APPLICATION: Final = 0x4B485050
"""SQLite's application_id of our files: "KHPP"."""
VERSION: Final = 1
"""SQLite's user_version of our files: the layout below."""
_LEAST_BYTES: Final = 512
"""The smallest page that SQLite knows."""
_WAL_BYTES: Final = 4 * 1024 * 1024
"""The write-ahead log is put into the file and emptied when it is longer."""

_ROWS: Final = (
    "CREATE TABLE rows(id INTEGER PRIMARY KEY, key TEXT NOT NULL, payment_session TEXT, digest BLOB NOT NULL, "
    "state TEXT NOT NULL, delivery TEXT, doubted INTEGER NOT NULL, attempts INTEGER NOT NULL, session_id TEXT, "
    "session TEXT, info TEXT, error TEXT, note TEXT, run TEXT NOT NULL, at INTEGER NOT NULL, turn INTEGER NOT NULL, "
    "crc INTEGER NOT NULL)"
)
_TABLES: Final = (
    "CREATE TABLE about(identity BLOB NOT NULL, scope TEXT NOT NULL, crc INTEGER NOT NULL)",
    _ROWS,
    "CREATE UNIQUE INDEX rows_key ON rows(key)",
    "CREATE INDEX rows_payment_session ON rows(payment_session)",
    "CREATE UNIQUE INDEX rows_session_id ON rows(session_id)",
)
_ALL: Final = (*COLUMNS, "turn", "crc")
_SELECT: Final = f"SELECT {', '.join(_ALL)} FROM rows"  # noqa: S608 - our own names
_INSERT: Final = f"INSERT INTO rows({', '.join(_ALL)}) VALUES({', '.join('?' * len(_ALL))})"
_ADD: Final = f"{_INSERT} ON CONFLICT(key) DO NOTHING"
_UPDATE: Final = f"UPDATE rows SET {', '.join(f'{name}=?' for name in _ALL[1:])} WHERE key=?"  # noqa: S608
_SETTLED: Final = slice(COLUMNS.index("state"), len(_ALL))
_SETTLE: Final = f"UPDATE rows SET {', '.join(f'{name}=?' for name in _ALL[_SETTLED])} WHERE id=?"  # noqa: S608
"""What settling leaves alone, and first of all two of the three indexes, SQLite need not look at."""


def _crc(values: tuple[Any, ...]) -> int:
    # ascii() tells apart what JSON or str() would not (None and "None", 1 and "1", bytes and text), and is the same in
    # every Python.
    return zlib.crc32(ascii(values).encode())


class JournalFile:
    """A journal's file, open, whole and ours alone."""

    def __init__(self, path: str, scope: str) -> None:
        """Open the file, or make it.

        Raises:
            JournalError: it is in use, damaged, of another scope, version or application, or cannot be made; it is as
                it was.

        """
        self._path = Path(path).resolve()  # SQLite too follows links before it names its other files
        self._wal, self._seal_path = Path(f"{self._path}-wal"), Path(f"{self._path}-seal")
        self._seal = Seal(self._seal_path)
        self._turn = 0
        self._claimed: dict[str, tuple[int, Kept]] = {}
        """Rows that were added and are not settled yet, each with its number: as they stand in the file."""
        told: JournalError | None = None
        try:
            self._refuse_leftovers()
            if not self._path.exists():
                self._make(scope)
            if self._wal.exists() and self._wal.stat().st_size:
                self._check_from_afar(scope)
            self._open(scope)
        except JournalError as error:
            told = error
        except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
            told = _refusal(self._path, error)
        if told is not None:
            raise told

    # ------------------------------------------------------------------------------------------------- made and checked

    def _refuse_leftovers(self) -> None:
        """Refuse what SQLite would take for a part of the file, and would write into it."""
        if Path(f"{self._path}-journal").exists():
            raise JournalError(f"{self._path} is not a journal of this library: it has a rollback journal beside it")
        # SQLite takes a file of no byte, or one, for new, and deletes the log of what it was.
        if self._path.exists() and self._path.stat().st_size < _LEAST_BYTES:
            raise JournalError(f"{self._path} is not a journal: it is empty or was cut")
        for left in (self._wal, self._seal_path):
            if left.exists() and left.stat().st_size and not self._path.exists():
                raise JournalError(
                    f"there is no journal {self._path}, but {left}: put the journal back; or, if its rows may be "
                    "forgotten (they would be sent again), remove what is left of it"
                )

    def _make(self, scope: str) -> None:
        """Make a file that is whole from the moment that it has its name: a cut or empty one is never ours."""
        # With mode 0600, and the files that SQLite puts beside it get the same.
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        new = Path(name)
        os.close(handle)
        try:
            self._furnish(new, scope)
            with contextlib.suppress(FileExistsError):  # somebody was faster: then theirs is checked
                self._path.hardlink_to(new)
        finally:
            new.unlink()
        _sync_folder(self._path.parent)

    @staticmethod
    def _furnish(path: Path, scope: str) -> None:
        identity = secrets.token_bytes(16)
        # Without SQLite's care: until the file has its name, nothing is lost with it. Then one sync, whose result counts;
        # that of the checkpoint which closing makes would not, so the log comes last, and is empty.
        with contextlib.closing(_connect(path, "rw", "journal_mode=MEMORY", "synchronous=OFF")) as db:
            db.execute("BEGIN")
            db.execute(f"PRAGMA application_id={APPLICATION}")
            db.execute(f"PRAGMA user_version={VERSION}")
            for statement in _TABLES:
                db.execute(statement)
            db.execute("INSERT INTO about VALUES(?, ?, ?)", (identity, scope, _crc((identity, scope))))
            db.execute("COMMIT")
            db.execute("PRAGMA journal_mode=WAL").fetchall()
        with path.open("r+b") as file:
            os.fsync(file.fileno())

    def _check_from_afar(self, scope: str) -> None:
        """Check a file that a crash left, read-only: who may write deletes a log in which nothing good is found."""
        shared = Path(f"{self._path}-shm")
        was_there = shared.exists()
        db = _connect(self._path, "ro")
        try:
            self._check(db, scope)
        finally:
            db.close()
            if not was_there:
                shared.unlink(missing_ok=True)

    def _open(self, scope: str) -> None:
        self._db = _connect(self._path, "rw", "locking_mode=EXCLUSIVE", "synchronous=FULL", "wal_autocheckpoint=0")
        try:
            self._check(self._db, scope)
            self._seal.open(self._identity, self._turn)
            _sync_folder(self._path.parent)  # for the log's name: SQLite does so too, and does not look at the result
        except BaseException:
            self.let_go()
            raise

    def _check(self, db: sqlite3.Connection, scope: str) -> None:
        """Read the whole file once, and refuse it unless everything is as it was written."""
        path = self._path
        application, version = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != APPLICATION:
            raise JournalError(f"{path} is not a journal of this library (application_id {application:#x})")
        if version != VERSION:
            raise JournalError(f"the journal {path} has version {version}, this release reads version {VERSION}")
        schema = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema ORDER BY rowid")]
        if schema != list(_TABLES) or db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            raise JournalError(f"the journal {path} is damaged: its tables are not as they were made")
        [(identity, recorded, crc)] = db.execute("SELECT identity, scope, crc FROM about").fetchall()
        if crc != _crc((identity, recorded)):
            raise JournalError(f"the journal {path} is damaged: what it says about itself is not what was written")
        if recorded != scope:
            raise JournalError(f"the journal {path} is of another scope: of {recorded!r}, and this run is of {scope!r}")
        if (found := db.execute("PRAGMA integrity_check(1)").fetchone()) != ("ok",):
            raise JournalError(f"the journal {path} is damaged: {found[0]}")
        for number, (*values, crc) in enumerate(db.execute(f"{_SELECT} ORDER BY id"), 1):
            if crc != _crc(tuple(values)):
                raise JournalError(f"the journal {path} is damaged: its row number {number} is not what was written")
            self._turn = max(self._turn, values[-1])
        self._identity: bytes = identity
        self._seal.check(identity, self._turn)

    # --------------------------------------------------------------------------------------------------- transactions

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is put within is durable after it, all of it or nothing."""
        db = self._db
        before = db.total_changes
        self._turn += 1
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
        if db.total_changes != before:
            self._seal.write(self._identity, self._turn)

    def tidy(self) -> None:
        """Empty a write-ahead log that has grown long.

        Implementation note: not left to SQLite, which keeps quiet about a checkpoint that fails, and tries it again.
        """
        if self._wal.stat().st_size > _WAL_BYTES:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    # ------------------------------------------------------------------------------------------------------ the store

    def get(self, key: str) -> Kept | None:
        """The row of a key."""
        if key in self._claimed:
            return self._claimed[key][1]
        found = self._db.execute(f"{_SELECT} WHERE key=?", (key,)).fetchone()
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

    def add(self, row: Kept) -> bool:
        """Keep a row with a key that is new; False, and nothing is kept, where it is known."""
        values = (*values_of(row), self._turn)
        cursor = self._db.execute(_ADD, (*values, _crc(values)))
        if not cursor.rowcount:
            return False
        assert cursor.lastrowid is not None  # noqa: S101 - for the type checker
        self._claimed[row.key] = cursor.lastrowid, row
        return True

    def put(self, row: Kept) -> bool:
        """Keep a row instead of the one with its key; False, and nothing is kept, where its session is another key's."""
        values = (*values_of(row), self._turn)
        values = (*values, _crc(values))
        number, _ = self._claimed.pop(row.key, (None, None))
        try:
            if number is None:
                self._db.execute(_UPDATE, (*values[1:], row.key))
            else:
                self._db.execute(_SETTLE, (*values[_SETTLED], number))
        except sqlite3.IntegrityError:
            if row.session_id is None or self.holder_of_session(row.session_id, row.key) is None:
                raise
            return False
        return True

    def doubts(self) -> list[Kept]:
        """Every row that is in doubt."""
        marks = ", ".join("?" * len(DOUBTFUL))
        return [_row(found) for found in self._db.execute(f"{_SELECT} WHERE state IN ({marks}) ORDER BY id", DOUBTFUL)]

    def page(self, after: int, count: int) -> list[tuple[int, Kept]]:
        """Some rows, each with its number, in the order of their first claims."""
        query = f"SELECT id, {', '.join(_ALL)} FROM rows WHERE id>? ORDER BY id LIMIT ?"  # noqa: S608
        return [(found[0], _row(found[1:])) for found in self._db.execute(query, (after, count))]

    # --------------------------------------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Put the write-ahead log into the file, and close.

        Where that fails, nothing is lost and nobody need know: the log stays, and the next opening reads it.
        """
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            self.let_go()  # which, unlike closing, does not try the sync again
        else:
            self._seal.close()
            self._db.close()

    def let_go(self) -> None:
        """Close a file that is refused or broken: it stays as it is, and no sync is tried again."""
        self._seal.close()
        _let_go(self._db)


def _connect(path: Path, mode: str, *pragmas: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=0, isolation_level=None)
    try:
        for pragma in ("trusted_schema=OFF", *pragmas):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        _let_go(db)
        raise
    return db


def _let_go(db: sqlite3.Connection) -> None:
    # Where the connection was interrupted, the checkpoint that closing makes stops before its first page. (Python 3.12
    # could also be told to make none.)
    for last in (db.rollback, lambda: db.execute("PRAGMA synchronous=OFF"), db.interrupt, db.close):
        with contextlib.suppress(sqlite3.Error, ValueError):  # ValueError: a message made of damaged text
            last()


def _row(found: tuple[Any, ...]) -> Kept:
    return Kept(**dict(zip(COLUMNS, found, strict=False)))  # behind them are turn and crc


def _sync_folder(folder: Path) -> None:
    """Make a new name durable."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def why(error: BaseException) -> str:
    """What went wrong below, as text."""
    name = getattr(error, "sqlite_errorname", None) or getattr(error, "errno", None)
    return f"{type(error).__name__}{f' {name}' if name else ''}: {error}"


def _refusal(path: Path, error: BaseException) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds to tell more
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        told = "is in use: by another process, or by another SqliteJournal"
    elif code == sqlite3.SQLITE_NOTADB:
        told = "is not a journal: it is no SQLite file, or its head is damaged"
    elif isinstance(error, OSError) or code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        told = "cannot be made or opened"
    else:
        told = "is damaged"
    return JournalError(f"the journal {path} {told} ({why(error)})", cause=why(error))
