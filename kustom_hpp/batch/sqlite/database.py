"""The SQLite file of a journal, used by one thread: creating, checking, transactions. Everything here blocks.

Implementation note: `with sqlite3.connect(...)` commits but does not close, and closing writes a checkpoint. A file that is
refused, or that has failed, is closed by `_close_without_checkpoint` instead, which writes and syncs nothing.
"""

import contextlib
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from kustom_hpp.batch.sqlite.rows import SELECT, TABLES, RowTable, checksum
from kustom_hpp.batch.sqlite.watermark import CommitWatermark
from kustom_hpp.batch.writer_thread import run_each
from kustom_hpp.errors import JournalError

APPLICATION: Final = 0x4B485050
"""SQLite's application_id of a journal: "KHPP"."""
VERSION: Final = 1
"""SQLite's user_version of a journal: the layout of its tables."""
_MIN_BYTES: Final = 512
"""The smallest page size of SQLite."""
_MAX_LOG_BYTES: Final = 4 * 1024 * 1024
"""A longer write-ahead log is copied into the file and emptied."""
_CHANGES_PER_CHECK: Final = 256
"""Changed rows between two looks at the log's length: each system call may make the thread lose the interpreter lock."""


class JournalDatabase:
    """The open file of a journal, checked and locked for this process.

    Args:
        path: the file, which is created if there is none.
        scope: the scope that the file must have.

    Raises:
        JournalError: the file is in use, damaged, of another scope, version or application, or cannot be created. It is
            unchanged.

    """

    rows: RowTable
    """The rows, to be used within a transaction."""

    def __init__(self, path: str, scope: str) -> None:
        self._path = Path(path).resolve()  # SQLite too follows links before it names its other files
        self._log, self._watermark_path = Path(f"{self._path}-wal"), Path(f"{self._path}-watermark")
        self._watermark = CommitWatermark(self._watermark_path)
        self._transaction_id = 0
        self._checked_changes = 0
        """The number of changed rows at the last look at the log's length."""
        refusal: JournalError | None = None
        try:
            self._refuse_leftovers()
            if not self._path.exists():
                self._create(scope)
            if self._log.exists() and self._log.stat().st_size:
                self._check_read_only(scope)
            self._open(scope)
        except JournalError as error:
            refusal = error
        except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
            refusal = _refusal(self._path, error)
        if refusal is not None:
            raise refusal

    # Creating and checking

    def _refuse_leftovers(self) -> None:
        """Refuse files that SQLite would take for a part of the journal and write into it."""
        if Path(f"{self._path}-journal").exists():
            raise JournalError(f"{self._path} is not a journal of this library: there is a rollback journal next to it")
        # SQLite takes a file of no byte, or one, for new, and deletes the log of what it was.
        if self._path.exists() and self._path.stat().st_size < _MIN_BYTES:
            raise JournalError(f"{self._path} is not a journal: it is empty or truncated")
        for left in (self._log, self._watermark_path):
            if left.exists() and left.stat().st_size and not self._path.exists():
                raise JournalError(
                    f"there is no journal {self._path}, but there is {left}. Put the journal back; or, if its rows may "
                    "be forgotten (they would be sent again), remove the file"
                )

    def _create(self, scope: str) -> None:
        """Create a file that is complete from the moment that it has its name: a cut or empty one is never a journal."""
        if not self._path.parent.is_dir():
            raise JournalError(f"the journal {self._path} cannot be created: there is no folder {self._path.parent}")
        # With mode 0600, which the files that SQLite puts next to it get too.
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        new = Path(name)
        os.close(handle)
        try:
            self._create_tables(new, scope)
            with contextlib.suppress(FileExistsError):  # another process was faster: its file is checked then
                self._path.hardlink_to(new)
        finally:
            new.unlink()
        _sync_folder(self._path.parent)

    @staticmethod
    def _create_tables(path: Path, scope: str) -> None:
        identity = secrets.token_bytes(16)
        # Without SQLite's safety: until the file has its name, nothing is lost with it. Then one sync, whose result is
        # checked; that of the checkpoint in closing would not be, so the log is switched on last, and is empty.
        with contextlib.closing(_connect(path, "rw", "journal_mode=MEMORY", "synchronous=OFF")) as db:
            db.execute("BEGIN")
            db.execute(f"PRAGMA application_id={APPLICATION}")
            db.execute(f"PRAGMA user_version={VERSION}")
            for statement in TABLES:
                db.execute(statement)
            db.execute("INSERT INTO about VALUES(?, ?, ?)", (identity, scope, checksum((identity, scope))))
            db.execute("COMMIT")
            db.execute("PRAGMA journal_mode=WAL").fetchall()
        with path.open("r+b") as file:
            os.fsync(file.fileno())

    def _check_read_only(self, scope: str) -> None:
        """Check a file after a crash, read-only: a connection that may write deletes a log that has no valid part."""
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
            self._watermark.open(self._identity, self._transaction_id)
            self.rows = RowTable(self._db)
            _sync_folder(self._path.parent)  # for the log's name: SQLite does so too, and ignores the result
        except BaseException:
            self.close_without_writing()
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
            raise JournalError(f"the journal {path} is damaged: its tables are not those of this version")
        [(identity, recorded, crc)] = db.execute("SELECT identity, scope, crc FROM about").fetchall()
        if crc != checksum((identity, recorded)):
            raise JournalError(f"the journal {path} is damaged: the checksum of its scope is wrong")
        if recorded != scope:
            raise JournalError(
                f"the journal {path} belongs to another scope: {recorded!r}, and this run has {scope!r}. Use another file"
            )
        if (found := db.execute("PRAGMA integrity_check(1)").fetchone()) != ("ok",):
            raise JournalError(f"the journal {path} is damaged: {found[0]}")
        for number, (*values, crc) in enumerate(db.execute(f"{SELECT} ORDER BY id"), 1):
            if crc != checksum(tuple(values)):
                raise JournalError(f"the journal {path} is damaged: the checksum of its row number {number} is wrong")
            self._transaction_id = max(self._transaction_id, values[-1])
        self._identity: bytes = identity
        self._watermark.check(identity, self._transaction_id)

    # Transactions

    max_idle: float | None = None

    def execute(self, operations: Sequence[Callable[[RowTable], Any]]) -> list[Any]:
        """Run operations in one transaction; see `writer_thread.Database.execute`."""
        db = self._db
        before = db.total_changes
        self._transaction_id += 1
        self.rows.transaction_id = self._transaction_id
        db.execute("BEGIN IMMEDIATE")
        results = run_each(operations, self.rows)
        db.execute("COMMIT")
        if db.total_changes != before:
            self._watermark.write(self._identity, self._transaction_id)
        return results

    def maintain(self) -> None:
        """Copy a long write-ahead log into the file, and empty it.

        Implementation note: SQLite would do this itself, but it ignores a checkpoint that fails, and tries it again.
        """
        changes = self._db.total_changes
        if changes - self._checked_changes < _CHANGES_PER_CHECK:
            return
        self._checked_changes = changes
        if self._log.stat().st_size > _MAX_LOG_BYTES:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    # Closing

    def close(self) -> None:
        """Copy the write-ahead log into the file, and close.

        If the copy fails, nothing is lost and the caller need not know: the next opening reads the log.
        """
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            self.close_without_writing()  # does not try the sync again, as a plain close would
        else:
            self._watermark.close()
            self._db.close()

    def close_without_writing(self) -> None:
        """Close a file that is refused or has failed. It stays as it is, and no sync is tried again."""
        self._watermark.close()
        _close_without_checkpoint(self._db)


def _connect(path: Path, mode: str, *pragmas: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=0, isolation_level=None)
    try:
        for pragma in ("trusted_schema=OFF", *pragmas):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        _close_without_checkpoint(db)
        raise
    return db


def _close_without_checkpoint(db: sqlite3.Connection) -> None:
    # After an interrupt, the checkpoint that closing makes stops before its first page. (Python 3.12 has a setting.)
    for last in (db.rollback, lambda: db.execute("PRAGMA synchronous=OFF"), db.interrupt, db.close):
        with contextlib.suppress(sqlite3.Error, ValueError):  # ValueError: a message with damaged text
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


def describe(error: BaseException) -> str:
    """Return the text of an error of SQLite or the system."""
    name = getattr(error, "sqlite_errorname", None) or getattr(error, "errno", None)
    # A file that an OSError names is the journal, which the message names already, or a temporary one.
    text = error.strerror if isinstance(error, OSError) and error.filename else error
    return f"{type(error).__name__}{f' {name}' if name else ''}: {text}"


def _refusal(path: Path, error: BaseException) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        problem = "is in use by another process, or by another SqliteJournal"
    elif code == sqlite3.SQLITE_NOTADB:
        problem = "is not a journal: it is no SQLite file, or its header is damaged"
    elif isinstance(error, OSError) or code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        problem = "cannot be created or opened"
    else:
        problem = "is damaged"
    cause = describe(error)
    return JournalError(f"the journal {path} {problem} ({cause})", cause=cause)
