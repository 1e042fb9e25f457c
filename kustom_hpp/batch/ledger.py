"""What a journal does, apart from where it keeps it: claim, settle and resolve over a store of rows.

Every step is one read of the past, one decision, at most one write.
"""

import datetime as dt
import time
from enum import StrEnum
from typing import Protocol

import attrs
from attrs import frozen

from kustom_hpp.batch.journal import Busy, Claim, Fresh
from kustom_hpp.batch.kept import CLAIMED, DOUBTFUL, Kept, clean, judge, outcome_of, settled
from kustom_hpp.batch.outcome import Outcome, OutcomeState
from kustom_hpp.errors import HPPError, InvalidRequestError, JournalError, MixUpError, OutcomeUnknownError
from kustom_hpp.models import Session
from kustom_hpp.wire import CallInfo, Delivery


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

    def put(self, row: Kept) -> None:
        """Keep a row: a new one, or instead of the one with its key."""
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


def claim(
    store: Store, run: str, key: str, order: str | None, digest: bytes, *, again: bool, allow_same_order: bool
) -> Claim:
    """Claim a row: as `Journal.claim`."""
    for name, text in (("key", key), ("payment_session_url", order or "")):
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise InvalidRequestError(problems=((name, "has a lone surrogate: no UTF-8 text can hold it"),))
    row = store.get(key)
    claim = judge(row, digest, run, again=again)
    if not isinstance(claim, Fresh):
        return claim
    if order is not None and not allow_same_order and (holder := store.holder_of_order(order, key)) is not None:
        return Busy(f"the row {holder!r}: it has, or may have, a session for the same KCO order")
    doubted = row is not None and row.state in DOUBTFUL
    store.put(Kept(key=key, payment_session=order, digest=digest, state=CLAIMED, doubted=doubted, run=run, at=now()))
    return claim


def settle(store: Store, run: str, key: str, outcome: Outcome) -> None:
    """Keep an outcome: as `Journal.settle`."""
    row = store.get(key)
    if row is None or row.run != run:
        raise JournalError(f"the row {key!r} cannot be settled: it was not claimed by this run")
    new = settled(row, outcome, now())
    if row.state == OutcomeState.CREATED:
        if new.state == OutcomeState.CREATED and new.session_id == row.session_id:
            return
        raise JournalError(f"the row {key!r} cannot be settled: it has a session already")
    _put(store, new)


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
    bare = attrs.evolve(row, doubted=False, note=note)
    if session is not None:
        outcome = Outcome(key=key, state=OutcomeState.CREATED, session=attrs.evolve(session, info=CallInfo()))
    else:
        delivery = Delivery.REJECTED if verdict is Verdict.FAILED else Delivery.NOT_SENT
        outcome = Outcome(key=key, state=OutcomeState.FAILED, error=HPPError(f"resolved as {note}", delivery=delivery))
    new = settled(bare, outcome, now())
    if new.session_id is not None and (holder := store.holder_of_session(new.session_id, key)) is not None:
        raise MixUpError(_mix_up(new.session_id, key, holder))  # the doubt stays as it was
    store.put(new)
    return outcome_of(new)


def _put(store: Store, new: Kept) -> None:
    """Keep a settled row, unless its session belongs to another one: then it is in doubt, and stays so."""
    holder = None if new.session_id is None else store.holder_of_session(new.session_id, new.key)
    if new.session_id is None or holder is None:
        store.put(new)
        return
    told = _mix_up(new.session_id, new.key, holder)
    doubt = OutcomeUnknownError(told, delivery=Delivery.ACCEPTED, attempts=new.attempts)
    bare = attrs.evolve(new, session_id=None, session=None, info=None)
    store.put(
        settled(bare, Outcome(key=new.key, state=OutcomeState.IN_DOUBT, error=doubt, attempts=new.attempts), new.at)
    )
    raise MixUpError(told)


def _mix_up(session_id: str, key: str, holder: str) -> str:
    return f"the API gave the session {session_id!r} to {key!r}, but it belongs to {holder!r}"


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
