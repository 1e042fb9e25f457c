"""The durable journal: one SQLite file, for one run at a time."""

import asyncio
import os
import secrets
import warnings
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kustom_hpp.batch import journal_rules as ledger
from kustom_hpp.batch.journal import Claim
from kustom_hpp.batch.journal_rules import Claiming, Record, Settling, Verdict
from kustom_hpp.batch.kept import outcome_of
from kustom_hpp.batch.outcomes import Outcome
from kustom_hpp.batch.scope import Scope
from kustom_hpp.models import Session

if TYPE_CHECKING:
    from kustom_hpp.batch.sqlite.rows import Table

_PAGE = 500


class SqliteJournal:
    """A batch's memory in an SQLite file that is this run's alone.

    Every method returns when what it did is durable (write-ahead log, one sync for all that wait together). The file
    has mode 0600; in it are keys, payment sessions' URLs, digests, answers and errors, and no credentials, no merchant
    URLs, no request. Beside it lie `-wal`, while it is open or after a crash, and `-seal`: keep the three together.

    A second journal on the file, in this process or another, fails at once. So a claim needs no lease: it is this run's
    while the file is open, and in doubt when the next run opens it.

    At its opening (the first use, or `async with`) the whole file is checked: SQLite's own check, a checksum for each row
    and the seal. A file that is damaged, of another scope, version or application is refused, and left as it is. An error in
    writing ends the journal: every call from then on raises JournalError, and nothing is tried again.
    """

    def __init__(self, path: str | os.PathLike[str], *, scope: Scope | str, allow_same_order: bool = False) -> None:
        """Make a journal; the file is touched at the first use.

        Args:
            path: the file; made where there is none.
            scope: whose sessions it remembers: `Scope.of(client.settings, "merchant")`. Recorded when the file is made;
                a file of another scope is refused.
            allow_same_order: True where several keys may have a session for the same KCO order.

        """
        from kustom_hpp.batch.sqlite.writer_thread import Writer  # loads sqlite3

        self._path = str(Path(path).absolute())  # the same file, whatever becomes of the working directory
        self._run = secrets.token_hex(8)
        self._allow_same_order = allow_same_order
        self._writer = Writer(self._path, str(scope))

    def claim(self, key: str, order: str | None, digest: bytes, *, again: bool = False) -> asyncio.Future[Claim]:
        """Claim a row: see `Journal.claim`. A call that is cancelled may have claimed it: then it is in doubt.

        Raises:
            InvalidRequestError: the key or the order cannot be written as UTF-8.
            JournalError: the journal cannot keep it: send nothing.

        """
        return self._writer.do(Claiming(self._run, key, order, digest, again, not self._allow_same_order))

    def settle(self, key: str, outcome: Outcome) -> asyncio.Future[None]:
        """Keep the outcome of a row: see `Journal.settle`.

        A row that was in doubt before it was claimed `again` stays in doubt unless it is CREATED now: that the second
        request failed says nothing about the first.

        Raises:
            DuplicateSessionError: another key has its session id already. The error names both; the row stays in doubt.
            JournalError: the journal cannot keep it; or this run has not claimed the row.

        """
        return self._writer.do(Settling(self._run, key, outcome))

    async def resolve(self, key: str, verdict: Verdict, *, session: Session | None = None, note: str = "") -> Outcome:
        """End a doubt, because a human found out how the row ended.

        Args:
            key: of a row in doubt.
            verdict: CREATED (with its session), FAILED (it has none; told by later runs, not sent), or SEND_AGAIN (it has
                none; the next run sends it).
            session: the row's session, with at least its id and redirect_url; for CREATED only.
            note: who said so and why; kept with the row.

        Returns:
            The row's outcome, as later runs will tell it.

        Raises:
            DuplicateSessionError: the session belongs to another key; nothing was changed.
            JournalError: there is no such row, or it is not in doubt, or the journal cannot keep it.

        """
        return await self._writer.do(
            partial(ledger.resolve, run=self._run, key=key, verdict=verdict, session=session, note=note)
        )

    async def doubts(self) -> Sequence[Outcome]:
        """Every row that is in doubt, claims without an outcome included, in the order of their first claims."""
        return await self._writer.do(lambda rows: [outcome_of(row) for row in rows.doubts()])

    async def rows(self) -> AsyncIterator[Record]:
        """Every row, in the order of their first claims; a few hundred are held at a time."""
        last = 0
        while page := await self._writer.do(partial(_page, last)):
            for last, record in page:  # noqa: B007 - the last one's number is where the next page begins
                yield record

    async def aclose(self) -> None:
        """Close the file when all that waits for it is done. Idempotent."""
        await self._writer.aclose()

    async def __aenter__(self) -> Self:
        """Open and check the file now.

        Raises:
            JournalError: it is in use, refused, or cannot be made.

        """
        try:
            await self._writer.do(lambda _: None)
        except Exception:
            await self.aclose()
            raise
        except BaseException:  # cancelled: the thread ends by itself when it has read the file
            self._writer.dismiss()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Also called where __init__ did not come to its end.
        writer = vars(self).get("_writer")
        if writer is not None and writer.is_open:
            writer.dismiss()
            warnings.warn(f"unclosed journal {self._path}", ResourceWarning, stacklevel=1, source=self)


def _page(after: int, rows: "Table") -> list[tuple[int, Record]]:
    return [(number, ledger.record(row)) for number, row in rows.page(after, _PAGE)]
