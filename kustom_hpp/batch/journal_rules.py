"""What a journal does, apart from where it keeps it: claim, settle and resolve over a store of rows.

Every step is one read of the past, one decision, at most one write.
"""

import datetime as dt
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import NoReturn, Protocol

import attrs
from attrs import frozen

from kustom_hpp._messages import CallInfo, Delivery
from kustom_hpp.batch.journal import Claim, Claimed, ClaimedElsewhere
from kustom_hpp.batch.kept import CLAIMED, DOUBTFUL, Kept, clean, judge, outcome_of, settled
from kustom_hpp.batch.outcomes import Outcome, OutcomeState
from kustom_hpp.errors import DuplicateSessionError, HPPError, InvalidRequestError, JournalError, OutcomeUnknownError
from kustom_hpp.models import Session


class Store(Protocol):
    """Where rows are kept."""

    def get(self, key: str) -> Kept | None:
        """The row of a key."""
        ...

    def holder_of_order(self, payment_session: str, key: str) -> str | None:
        """Another key than this one whose row has, or may have, a session for a KCO order."""
        ...

    def holder_of_session(self, session_id: str, key: str) -> str | None:
        """Another key than this one that has this session."""
        ...

    def add(self, rows: Sequence[Kept]) -> int:
        """Keep rows with keys that are new; how many of them, from the first one on, before a key that is known."""
        ...

    def put(self, row: Kept) -> bool:
        """Keep a row instead of the one with its key; False, and nothing is kept, where its session is another key's."""
        ...


class Verdict(StrEnum):
    """What a human found out about a row in doubt."""

    CREATED = "created"
    """It has a session, and here it is."""
    FAILED = "failed"
    """It has none, and shall not be sent again."""
    SEND_AGAIN = "send_again"
    """It has none, and the next run shall send it."""


@frozen(kw_only=True, slots=True)
class Record:
    """A journal's row, to be shown to a human."""

    key: str
    order: str | None
    """The KCO order's URL; None for another payment session."""
    outcome: Outcome
    unsettled: bool
    """True where it was claimed, and its outcome never came."""
    changed_at: dt.datetime
    """When it was last changed (aware, UTC)."""
    note: str | None
    """What a human said who resolved it; None where nobody did."""


def now() -> int:
    """The time that a row is stamped with: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@frozen(slots=True)
class Claiming:
    """The claim of a row: as `Journal.claim`."""

    run: str
    key: str
    order: str | None
    digest: bytes
    again: bool
    alone: bool
    """True where no other key may have a session for the same KCO order."""

    def row(self) -> Kept:
        """The row of a key that is new.

        Raises:
            InvalidRequestError: a text that UTF-8 cannot hold.

        """
        key = _text("key", self.key)
        order = None if self.order is None else _text("payment_session_url", self.order)
        return Kept(key=key, payment_session=order, digest=self.digest, state=CLAIMED, run=self.run, at=now())

    def __call__(self, store: Store) -> Claim:
        """Claim it."""
        new, row = self.row(), store.get(self.key)
        claim = judge(row, self.digest, self.run, again=self.again)
        if not isinstance(claim, Claimed):
            return claim
        holder = store.holder_of_order(self.order, self.key) if self.order is not None and self.alone else None
        if holder is not None:
            return ClaimedElsewhere(f"the row {holder!r}: it has, or may have, a session for the same KCO order")
        if row is None:
            if not store.add([new]):
                raise JournalError(f"the row {self.key!r} cannot be kept: its columns are not what they must be")
        else:
            store.put(attrs.evolve(new, doubted=int(row.state in DOUBTFUL)))
        return claim


def _text(name: str, text: str) -> str:
    # A plain str also of a subclass, which may be written another way than it is read: then the checksum would be wrong.
    try:
        return text.encode().decode()
    except UnicodeEncodeError:
        problem = (name, "has a lone surrogate: no UTF-8 text can hold it")
    raise InvalidRequestError(problems=(problem,))


@frozen(slots=True)
class Settling:
    """The settling of a row: as `Journal.settle`."""

    run: str
    key: str
    outcome: Outcome

    def __call__(self, store: Store) -> None:
        """Keep its outcome."""
        row = store.get(self.key)
        if row is None or row.run != self.run:
            raise JournalError(f"the row {self.key!r} cannot be settled: it was not claimed by this run")
        new = settled(row, self.outcome, now())
        if row.state == OutcomeState.CREATED:
            if new.state == OutcomeState.CREATED and new.session_id == row.session_id:
                return
            raise JournalError(f"the row {self.key!r} cannot be settled: it has a session already")
        if not store.put(new):
            _mixed_up(store, new)


def resolve(store: Store, run: str, key: str, verdict: Verdict, *, session: Session | None, note: str) -> Outcome:
    """End a doubt: as `SqliteJournal.resolve`."""
    row = store.get(key)
    if row is None:
        raise JournalError(f"the journal has no row {key!r}")
    if row.state not in DOUBTFUL:
        raise JournalError(f"the row {key!r} is not in doubt, it is {row.state}")
    if row.state == CLAIMED and row.run == run:
        raise JournalError(f"the row {key!r} cannot be resolved: this run is at it")
    if (session is not None) is not (verdict is Verdict.CREATED):
        raise JournalError("a session is given for a row that was created, and for no other")
    note = clean(f"{verdict} (by hand){': ' + note if note else ''}")
    bare = attrs.evolve(row, doubted=0, note=note)
    if session is not None:
        outcome = Outcome(key=key, state=OutcomeState.CREATED, session=attrs.evolve(session, info=CallInfo()))
    else:
        delivery = Delivery.REJECTED if verdict is Verdict.FAILED else Delivery.NOT_SENT
        outcome = Outcome(key=key, state=OutcomeState.FAILED, error=HPPError(f"resolved as {note}", delivery=delivery))
    new = settled(bare, outcome, now())
    if not store.put(new):
        raise DuplicateSessionError(_mix_up(store, new))  # the doubt stays as it was
    return outcome_of(new)


def _mixed_up(store: Store, new: Kept) -> NoReturn:
    """A settled row's session belongs to another one: it is in doubt, and stays so."""
    told = _mix_up(store, new)
    doubt = OutcomeUnknownError(told, delivery=Delivery.ACCEPTED, attempts=new.attempts)
    bare = attrs.evolve(new, session_id=None, session=None, info=None)
    store.put(
        settled(bare, Outcome(key=new.key, state=OutcomeState.IN_DOUBT, error=doubt, attempts=new.attempts), new.at)
    )
    raise DuplicateSessionError(told)


def _mix_up(store: Store, new: Kept) -> str:
    holder = store.holder_of_session(new.session_id or "", new.key)
    return f"the API gave the session {new.session_id!r} to {new.key!r}, but it belongs to {holder!r}"


def record(row: Kept) -> Record:
    """A row as a human wants to see it."""
    return Record(
        key=row.key,
        order=row.payment_session,
        outcome=outcome_of(row),
        unsettled=row.state == CLAIMED,
        changed_at=dt.datetime.fromtimestamp(row.at / 1000, dt.UTC),
        note=row.note,
    )
