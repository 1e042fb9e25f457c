"""The journal's SQLite file, used by one thread: made, checked, read, written. Everything here blocks.

Implementation note: `with sqlite3.connect(...)` commits but does not close, and closing writes a checkpoint. A file that is
refused, or that could not be written to, is let go by `_let_go` instead: nothing is written, nothing synced.
"""

import contextlib
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kustom_hpp.batch.sqlite.rows import SELECT, TABLES, Table, crc_of
from kustom_hpp.batch.sqlite.watermark import Seal
from kustom_hpp.errors import JournalError

APPLICATION: Final = 0x4B485050
"""SQLite's application_id of our files: "KHPP"."""
VERSION: Final = 1
"""SQLite's user_version of our files: the layout below."""
_LEAST_BYTES: Final = 512
"""The smallest page that SQLite knows."""
_WAL_BYTES: Final = 4 * 1024 * 1024
"""The write-ahead log is put into the file and emptied when it is longer."""
_LOOK_AFTER: Final = 256
"""Changes of rows until its length is looked at again: each call of the system may cost the thread its turn."""


class JournalFile:
    """A journal's file, open, whole and ours alone."""

    rows: Table
    """What is in it, to be read and written within a `transaction`."""

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
        self._looked = 0
        """The changes of rows up to which the log's length is known."""
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
        if not self._path.parent.is_dir():
            raise JournalError(f"the journal {self._path} cannot be made: there is no folder {self._path.parent}")
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
            for statement in TABLES:
                db.execute(statement)
            db.execute("INSERT INTO about VALUES(?, ?, ?)", (identity, scope, crc_of((identity, scope))))
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
            self.rows = Table(self._db)
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
        if schema != list(TABLES) or db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            raise JournalError(f"the journal {path} is damaged: its tables are not as they were made")
        [(identity, recorded, crc)] = db.execute("SELECT identity, scope, crc FROM about").fetchall()
        if crc != crc_of((identity, recorded)):
            raise JournalError(f"the journal {path} is damaged: what it says about itself is not what was written")
        if recorded != scope:
            raise JournalError(f"the journal {path} is of another scope: of {recorded!r}, and this run is of {scope!r}")
        if (found := db.execute("PRAGMA integrity_check(1)").fetchone()) != ("ok",):
            raise JournalError(f"the journal {path} is damaged: {found[0]}")
        for number, (*values, crc) in enumerate(db.execute(f"{SELECT} ORDER BY id"), 1):
            if crc != crc_of(tuple(values)):
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
        self.rows.turn = self._turn
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
        if db.total_changes != before:
            self._seal.write(self._identity, self._turn)

    def tidy(self) -> None:
        """Empty a write-ahead log that has grown long.

        Implementation note: not left to SQLite, which keeps quiet about a checkpoint that fails, and tries it again.
        """
        changes = self._db.total_changes
        if changes - self._looked < _LOOK_AFTER:
            return
        self._looked = changes
        if self._wal.stat().st_size > _WAL_BYTES:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

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
    # A file that it names stands beside it already, or is one that nobody knows of.
    text = error.strerror if isinstance(error, OSError) and error.filename else error
    return f"{type(error).__name__}{f' {name}' if name else ''}: {text}"


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
