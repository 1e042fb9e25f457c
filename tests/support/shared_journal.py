"""A shared journal in memory: several runs over one store, with leases that a test can end and a link that it can cut."""

import datetime as dt
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self, TypeVar

from kustom_hpp.batch import Claim, Claimed, ClaimedElsewhere, JournalEntry, Outcome, Verdict
from kustom_hpp.batch.journal_row import CLAIMED, UNRESOLVED, entry_of, outcome_of
from kustom_hpp.batch.journal_rules import ClaimRow, SettleRow, resolve_row
from kustom_hpp.batch.lease import Lease
from kustom_hpp.errors import JournalError
from kustom_hpp.models import Session
from tests.support.memory_journal import MemoryStore

T = TypeVar("T")
LEASE = 150.0


class SharedStore(MemoryStore):
    """The rows, and which runs are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.live: set[str] = set()
        self.surplus: list[str] = []

    def live_holder(self, run: str) -> ClaimedElsewhere | None:
        if run not in self.live:
            return None
        return ClaimedElsewhere(f"the run {run}", dt.datetime.now(dt.UTC) + dt.timedelta(seconds=LEASE))


class SharedMemoryJournal:
    """One run's journal over a `SharedStore`."""

    shared = True

    def __init__(self, store: SharedStore) -> None:
        self.store = store
        self.now = 0.0
        """The run's clock."""
        self.link_is_cut = False
        self._run = secrets.token_hex(8)
        self._lease: Lease | None = None
        self._claimed: set[str] = set()
        """Keys whose claims were acknowledged and which are not settled."""
        self._closed = False

    async def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> Claim:
        operation = ClaimRow(self._run, key, order, digest, force, shared=True)

        def take() -> Claim:
            row = self.store.get(key)
            if row is None or (row.run, row.state) != (self._run, CLAIMED):
                self._claimed.discard(key)  # a verdict, or another run, has ended the earlier claim
            elif key not in self._claimed:
                return Claimed()  # this claim, whose response was lost
            return operation(self.store)

        claim = self._write(take)
        if not isinstance(claim, Claimed):
            return claim
        self._claimed.add(key)
        assert self._lease is not None
        return Claimed(may_send=self._lease.may_send)

    async def settle(self, key: str, outcome: Outcome) -> ClaimedElsewhere | None:
        operation = SettleRow(self._run, key, outcome, shared=True)
        elsewhere = self._write(lambda: operation(self.store))
        self._claimed.discard(key)
        if elsewhere is not None and outcome.session is not None:
            self.store.surplus.append(outcome.session.session_id)
        return elsewhere

    async def resolve(self, key: str, verdict: Verdict, *, session: Session | None = None, note: str = "") -> Outcome:
        return self._write(lambda: resolve_row(self.store, self._run, key, verdict, session=session, note=note))

    async def doubts(self) -> Sequence[Outcome]:
        self._check_open()
        rows = [row for row in self.store.by_key.values() if row.state in UNRESOLVED]
        others = self.store.live - {self._run}
        return [outcome_of(row) for row in rows if row.state != CLAIMED or row.run not in others]

    async def rows(self) -> AsyncIterator[JournalEntry]:
        self._check_open()
        for row in list(self.store.by_key.values()):
            held = row.state == CLAIMED and row.run != self._run
            yield entry_of(row, self.store.live_holder(row.run) if held else None)

    async def aclose(self) -> None:
        self._closed = True
        self._end_lease()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _write(self, operation: Callable[[], T]) -> T:
        self._check_open()
        if self._lease is None or not self._lease.may_send():
            self._lease = Lease(LEASE, self.now, lambda: self.now)
            self.store.live.add(self._run)
        if self.link_is_cut:
            self.link_is_cut = False
            operation()
        return operation()

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed")

    def _end_lease(self) -> None:
        self.store.live.discard(self._run)
        self.now += LEASE


class SharedRuns:
    """The fixture `shared` of the contract."""

    def __init__(self) -> None:
        self.store = SharedStore()

    async def open(self) -> SharedMemoryJournal:
        return SharedMemoryJournal(self.store)

    async def expire(self, journal: SharedMemoryJournal) -> None:
        journal._end_lease()

    def cut_link(self, journal: SharedMemoryJournal) -> None:
        journal.link_is_cut = True

    async def surplus(self) -> list[str]:
        return self.store.surplus
