"""A journal in memory, for tests of what a batch does with its journal."""

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Self

from kustom_hpp.batch.journal import Claim, ClaimedElsewhere
from kustom_hpp.batch.journal_row import UNRESOLVED, JournalEntry, JournalRow, entry_of, outcome_of
from kustom_hpp.batch.journal_rules import ClaimRow, SettleRow, Verdict, resolve_row
from kustom_hpp.batch.outcomes import Outcome, OutcomeState
from kustom_hpp.errors import JournalError
from kustom_hpp.models import Session


class MemoryJournal:
    """A journal that ends with the process: no key is sent twice in a run, but a crash loses everything."""

    shared = False
    """One run at a time uses the journal."""

    def __init__(self, earlier: "MemoryJournal | None" = None) -> None:
        """Create a journal.

        Args:
            earlier: a journal whose rows this one takes over, as the next run would. Its claims without an outcome are
                in doubt, and it can be written to no more.

        """
        self._store: MemoryStore = MemoryStore() if earlier is None else earlier._store
        self._run = self._store.owner = secrets.token_hex(8)
        self._closed = False

    async def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> Claim:
        """Claim a row; see `Journal.claim`."""
        return ClaimRow(self._run, key, order, digest, force)(self._own_store())

    async def settle(self, key: str, outcome: Outcome) -> ClaimedElsewhere | None:
        """Record the outcome of a row; see `Journal.settle`."""
        return SettleRow(self._run, key, outcome)(self._own_store())

    async def resolve(self, key: str, verdict: Verdict, *, session: Session | None = None, note: str = "") -> Outcome:
        """End a doubt; see `SqliteJournal.resolve`."""
        return resolve_row(self._own_store(), self._run, key, verdict, session=session, note=note)

    async def doubts(self) -> Sequence[Outcome]:
        """Return every row in doubt, claims without an outcome included."""
        return [outcome_of(row) for row in self._open_store().by_key.values() if row.state in UNRESOLVED]

    async def rows(self) -> AsyncIterator[JournalEntry]:
        """Iterate over all rows, in the order of their first claims."""
        for row in list(self._open_store().by_key.values()):
            yield entry_of(row)

    async def aclose(self) -> None:
        """Close. Idempotent."""
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _open_store(self) -> "MemoryStore":
        if self._closed:
            raise JournalError("the journal is closed")
        return self._store

    def _own_store(self) -> "MemoryStore":
        store = self._open_store()
        if store.owner != self._run:
            raise JournalError("another MemoryJournal has taken over the rows of this one. Use that one")
        return store


class MemoryStore:
    """A `RowStore` in three dictionaries."""

    def __init__(self) -> None:
        self.by_key: dict[str, JournalRow] = {}
        self.owner = ""
        """The run that may write."""
        self._by_session: dict[str, str] = {}
        self._by_order: dict[str, set[str]] = {}

    def get(self, key: str) -> JournalRow | None:
        """Return the row of a key."""
        return self.by_key.get(key)

    def order_holder(self, payment_session: str, key: str) -> str | None:
        """Return another key whose row has, or may have, a session for this KCO order."""
        others = [self.by_key[other] for other in self._by_order.get(payment_session, ()) if other != key]
        holders = (row for row in others if row.payment_session == payment_session)
        return next((row.key for row in holders if row.state != OutcomeState.FAILED), None)

    def session_holder(self, session_id: str, key: str) -> str | None:
        """Return another key that has this session."""
        holder = self._by_session.get(session_id)
        return holder if holder != key else None

    def live_holder(self, run: str) -> ClaimedElsewhere | None:
        """Return None: one run at a time has the rows."""
        return None

    def insert(self, row: JournalRow) -> None:
        """Add the row of a new key."""
        self.update(row)

    def update(self, row: JournalRow) -> bool:
        """Replace the row of its key; return False, and change nothing, if another key has its session."""
        if row.session_id is not None:
            if self.session_holder(row.session_id, row.key) is not None:
                return False
            self._by_session[row.session_id] = row.key
        self.by_key[row.key] = row
        if row.payment_session is not None:
            self._by_order.setdefault(row.payment_session, set()).add(row.key)
        return True
