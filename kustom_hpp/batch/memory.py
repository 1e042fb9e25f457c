"""A journal that forgets: for tests, and for batches that are small enough to be done once."""

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Self

from kustom_hpp.batch import journal_rules as ledger
from kustom_hpp.batch.journal import Claim
from kustom_hpp.batch.journal_rules import Record, Verdict
from kustom_hpp.batch.kept import DOUBTFUL, Kept, outcome_of
from kustom_hpp.batch.outcomes import Outcome, OutcomeState
from kustom_hpp.errors import JournalError
from kustom_hpp.models import Session


class MemoryJournal:
    """A batch's memory that ends with the process: no key is sent twice in a run, but a run that was killed is lost."""

    def __init__(self, earlier: "MemoryJournal | None" = None, *, allow_same_order: bool = False) -> None:
        """Make a journal.

        Args:
            earlier: a journal whose memory this one takes over, as a new run would: its claims without an outcome are in
                doubt.
            allow_same_order: True where several keys may have a session for the same KCO order.

        """
        self._store: _Rows = _Rows() if earlier is None else earlier._store  # noqa: SLF001 - of our own class
        self._run = secrets.token_hex(8)
        self._allow_same_order = allow_same_order
        self._closed = False

    async def claim(self, key: str, order: str | None, digest: bytes, *, again: bool = False) -> Claim:
        """Claim a row: see `Journal.claim`."""
        return ledger.Claiming(self._run, key, order, digest, again, not self._allow_same_order)(self._rows())

    async def settle(self, key: str, outcome: Outcome) -> None:
        """Keep the outcome of a row: see `Journal.settle`."""
        ledger.Settling(self._run, key, outcome)(self._rows())

    async def resolve(self, key: str, verdict: Verdict, *, session: Session | None = None, note: str = "") -> Outcome:
        """End a doubt: see `SqliteJournal.resolve`."""
        return ledger.resolve(self._rows(), self._run, key, verdict, session=session, note=note)

    async def doubts(self) -> Sequence[Outcome]:
        """Every row that is in doubt, claims without an outcome included."""
        return [outcome_of(row) for row in self._rows().by_key.values() if row.state in DOUBTFUL]

    async def rows(self) -> AsyncIterator[Record]:
        """Every row, in the order of their first claims."""
        for row in list(self._rows().by_key.values()):
            yield ledger.record(row)

    async def aclose(self) -> None:
        """Close. Idempotent."""
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _rows(self) -> "_Rows":
        if self._closed:
            raise JournalError("the journal was closed")
        return self._store


class _Rows:
    """A store in two dictionaries and a half: orders may have several keys."""

    def __init__(self) -> None:
        self.by_key: dict[str, Kept] = {}
        self._by_session: dict[str, str] = {}
        self._by_order: dict[str, set[str]] = {}

    def get(self, key: str) -> Kept | None:
        return self.by_key.get(key)

    def holder_of_order(self, payment_session: str, key: str) -> str | None:
        keys = self._by_order.get(payment_session, set()) - {key}
        holders = (key for key in keys if self.by_key[key].payment_session == payment_session)
        return next((key for key in holders if self.by_key[key].state != OutcomeState.FAILED), None)

    def holder_of_session(self, session_id: str, key: str) -> str | None:
        holder = self._by_session.get(session_id)
        return holder if holder != key else None

    def add(self, rows: Sequence[Kept]) -> int:
        for kept, row in enumerate(rows):
            if row.key in self.by_key:
                return kept
            self.put(row)
        return len(rows)

    def put(self, row: Kept) -> bool:
        if row.session_id is not None and self.holder_of_session(row.session_id, row.key) is not None:
            return False
        self.by_key[row.key] = row
        if row.session_id is not None:
            self._by_session[row.session_id] = row.key
        if row.payment_session is not None:
            self._by_order.setdefault(row.payment_session, set()).add(row.key)
        return True
