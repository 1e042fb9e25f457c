"""The durable journal in one SQLite file, for one run at a time."""

import asyncio
import contextlib
import os
import secrets
import warnings
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kustom_hpp.batch.journal import Claim, ClaimedElsewhere
from kustom_hpp.batch.journal_row import JournalEntry, entry_of, outcome_of
from kustom_hpp.batch.journal_rules import ClaimRow, SettleRow, Verdict, resolve_row
from kustom_hpp.batch.outcomes import Outcome
from kustom_hpp.batch.scope import Scope
from kustom_hpp.batch.writer_thread import WriterThread
from kustom_hpp.errors import JournalError
from kustom_hpp.models import Session

if TYPE_CHECKING:
    from kustom_hpp.batch.sqlite.rows import RowTable

_PAGE = 500


class SqliteJournal:
    """A journal in an SQLite file that one run at a time can open.

    Every method returns when its effect is durable (write-ahead log, one sync for all calls that wait together). The file
    has mode 0600. It contains keys, payment sessions' URLs, digests, responses and errors; no credentials, no merchant
    URLs, no requests. Next to it are `-wal`, while it is open or after a crash, and `-watermark`: keep the three together.

    A second journal on the file, in this process or another, fails at once. So the lease of a claim does not end while the
    file is open, and the claim is in doubt when the next run opens it.

    Opening (the first use, or `async with`) checks the whole file: SQLite's own check, a checksum for each row, and the
    watermark. A file that is damaged, or of another scope, version or application, is refused and left unchanged. A write
    error ends the journal: every later call raises JournalError, and nothing is tried again.
    """

    shared = False
    """One run at a time uses the journal."""

    def __init__(self, path: str | os.PathLike[str], *, scope: Scope | str) -> None:
        """Create a journal. The first use opens the file.

        Args:
            path: the file; it is created if there is none.
            scope: whose sessions the journal remembers: `Scope.of(client.settings, "merchant")`. It is recorded in a new
                file; a file with another scope is refused.

        """
        self._path = str(Path(path).absolute())  # the same file, whatever becomes of the working directory
        self._run = secrets.token_hex(8)
        self._thread = _writer_thread(self._path, str(scope))

    def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> asyncio.Future[Claim]:
        """Claim a row; see `Journal.claim`. A cancelled call may have claimed it: the row is in doubt then."""
        return self._thread.submit(ClaimRow(self._run, key, order, digest, force))

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[ClaimedElsewhere | None]:
        """Record the outcome of a row; see `Journal.settle`."""
        return self._thread.submit(SettleRow(self._run, key, outcome))

    async def resolve(self, key: str, verdict: Verdict, *, session: Session | None = None, note: str = "") -> Outcome:
        """End a doubt, because a person found out how the row ended.

        Args:
            key: the key of a row in doubt.
            verdict: CREATED (with the session), FAILED (later runs report it and do not send it), or SEND_AGAIN (the next
                run sends it).
            session: the row's session, with at least its id and redirect_url; for CREATED only.
            note: who decided this and why; recorded with the row.

        Returns:
            The row's outcome as later runs report it.

        Raises:
            DuplicateSessionError: the session belongs to another key. Nothing was changed.
            JournalError: there is no such row, it is not in doubt, a live run is sending it, or the journal cannot record
                the verdict.

        """
        operation = partial(resolve_row, run=self._run, key=key, verdict=verdict, session=session, note=note)
        return await self._thread.submit(operation)

    async def doubts(self) -> Sequence[Outcome]:
        """Return every row in doubt, claims without an outcome included, in the order of their first claims."""
        return await self._thread.submit(lambda rows: [outcome_of(row) for row in rows.doubts()])

    async def rows(self) -> AsyncIterator[JournalEntry]:
        """Iterate over all rows, in the order of their first claims; a few hundred are in memory at a time."""
        last = 0
        while page := await self._thread.submit(partial(_page, last)):
            for last, entry in page:  # noqa: B007 - the next page begins after the last number
                yield entry

    async def aclose(self) -> None:
        """Close the file after all waiting calls. Idempotent."""
        await self._thread.aclose()

    async def __aenter__(self) -> Self:
        """Open and check the file now.

        Raises:
            JournalError: the file is in use, refused, or cannot be created.

        """
        await self._thread.aopen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Also called if __init__ has raised.
        thread = vars(self).get("_thread")
        if thread is not None and thread.is_open:
            thread.request_stop()
            warnings.warn(f"unclosed journal {self._path}", ResourceWarning, stacklevel=1, source=self)


def _writer_thread(path: str, scope: str) -> "WriterThread[RowTable]":
    from kustom_hpp.batch.sqlite.database import JournalDatabase, describe  # loads sqlite3

    return WriterThread(f"the journal {path}", partial(JournalDatabase, path, scope), describe)


def _page(after: int, rows: "RowTable") -> list[tuple[int, JournalEntry]]:
    return [(number, entry_of(row)) for number, row in rows.page(after, _PAGE)]


def read_scope(path: str) -> str:
    """Return the scope in a journal's file, without creating, locking or changing anything.

    Args:
        path: the journal's file.

    Raises:
        JournalError: there is no such file, or it is not a journal.

    """
    import sqlite3

    file = Path(path).resolve()
    if not file.is_file():
        msg = f"there is no journal {path}"
        raise JournalError(msg)
    try:
        # Immutable: without the write-ahead log, which would leave traces. The scope is older than any log.
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)) as database:
            [[scope]] = database.execute("SELECT scope FROM about")
    except (sqlite3.Error, ValueError) as error:
        cause = f"{type(error).__name__}: {error}"
    else:
        return str(scope)
    msg = f"{path} is not a journal of this library, or it is damaged ({cause})"
    raise JournalError(msg, cause=cause)
