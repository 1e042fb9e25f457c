"""Which keys an input has had, in a few megabytes however many they are: what tells a repeated row from a new one."""

import contextlib
import hashlib
import sqlite3
from types import TracebackType
from typing import Self

from kustom_hpp.errors import JournalError


class Seen:
    """Texts, each with the line that had it first. One thread at a time may ask.

    Implementation note: a set of a million keys takes 100 MB and more. This is a database without a name, which SQLite
    keeps in 2 MB of memory and, beyond that, in a temporary file that no one can see and that goes when it is closed.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # It is read by nobody after a crash: no rollback, no fsync.
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-2000;"
            "CREATE TABLE seen (digest BLOB PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID; BEGIN"
        )

    def first(self, text: str, line: int) -> int:
        """The line that had this text first: `line` itself where it is new.

        Args:
            text: a key; kinds of keys are kept apart by a prefix.
            line: where it is now.

        Raises:
            JournalError: there is no room for the temporary file.

        """
        # 16 bytes of a hash: among a billion rows, two alike by chance are not to be feared.
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        try:
            new = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, line)).rowcount
            if new:
                return line
            [[earlier]] = self._database.execute("SELECT line FROM seen WHERE digest = ?", (digest,))
        except sqlite3.OperationalError as error:
            msg = f"the keys of this input do not fit into the folder for temporary files ({error}): free some, or set TMPDIR"
            raise JournalError(msg) from None
        return int(earlier)

    def close(self) -> None:
        """Forget them all. Idempotent."""
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
