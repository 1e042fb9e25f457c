"""The rules of a journal, whatever stores its rows: what claim, settle and resolve do.

Every operation reads the row, decides once, and writes at most once.
"""

import json
import time
from enum import StrEnum
from typing import Final, Protocol

import attrs
from attrs import frozen

from kustom_hpp._messages import CallInfo, Delivery
from kustom_hpp.batch.journal import AlreadyRecorded, Claim, Claimed, ClaimedElsewhere
from kustom_hpp.batch.journal_row import CLAIMED, UNRESOLVED, JournalRow, apply_outcome, outcome_of, replace_surrogates
from kustom_hpp.batch.outcomes import Outcome, OutcomeState
from kustom_hpp.errors import DuplicateSessionError, HPPError, InvalidRequestError, JournalError, OutcomeUnknownError
from kustom_hpp.models import Session

_NOT_ABOUT_THE_ROW: Final = (401, 429)
"""The API refuses any row with these statuses: with the right key, or later, it may accept the same row."""


class Verdict(StrEnum):
    """What a person found out about a row in doubt."""

    CREATED = "created"
    """It has a session, which is given."""
    FAILED = "failed"
    """It has no session, and must not be sent again."""
    SEND_AGAIN = "send_again"
    """It has no session, and the next run sends it once."""


class RowStore(Protocol):
    """The rows of one journal, within one transaction."""

    def get(self, key: str) -> JournalRow | None:
        """Return the row of a key."""
        ...

    def order_holder(self, payment_session: str, key: str) -> str | None:
        """Return another key whose row has, or may have, a session for this KCO order."""
        ...

    def session_holder(self, session_id: str, key: str) -> str | None:
        """Return another key that has this session."""
        ...

    def live_holder(self, run: str) -> ClaimedElsewhere | None:
        """Return who holds the claims of another run, if that run's lease has not ended."""
        ...

    def insert(self, row: JournalRow) -> None:
        """Add the row of a new key.

        Raises:
            JournalError: the store cannot represent the row.

        """
        ...

    def update(self, row: JournalRow) -> bool:
        """Replace the row of its key; return False, and change nothing, if another key has its session."""
        ...


def wall_clock_ms() -> int:
    """Return the time that a row is stamped with: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@frozen(slots=True)
class ClaimRow:
    """The claim of one row; see `Journal.claim`."""

    run: str
    key: str
    order: str | None
    digest: bytes
    force: bool
    shared: bool = False
    """True in a shared journal, which never lets a doubt be sent again without `resolve`."""

    def new_row(self) -> JournalRow:
        """Return the row that this claim writes.

        Raises:
            InvalidRequestError: UTF-8 cannot represent the key or the order.

        """
        order = None if self.order is None else _utf8_text("payment_session_url", self.order)
        return JournalRow(
            key=_utf8_text("key", self.key),
            payment_session=order,
            digest=self.digest,
            state=CLAIMED,
            run=self.run,
            at=wall_clock_ms(),
        )

    def __call__(self, store: RowStore) -> Claim:
        """Claim the row."""
        new, row = self.new_row(), store.get(self.key)
        if row is not None and (claim := self._decide_known(row, store)) is not None:
            return claim
        if self.order is not None and (holder := store.order_holder(self.order, self.key)):
            sentence = f"has, or may have, a session already: the row {holder!r} is for the same KCO order"
            raise InvalidRequestError(problems=(("payment_session_url", sentence),))
        if row is None:
            store.insert(new)
        else:
            store.update(attrs.evolve(new, had_unknown_attempt=int(row.state in UNRESOLVED)))
        return Claimed()

    def _decide_known(self, row: JournalRow, store: RowStore) -> Claim | None:
        if row.state == CLAIMED and row.run == self.run:
            raise InvalidRequestError(problems=(("key", "is repeated: this run is sending another row with it"),))
        if row.state == CLAIMED and (holder := store.live_holder(row.run)) is not None:
            return holder
        if can_be_sent(row, self):
            return None
        return AlreadyRecorded(outcome_of(row), row.digest != self.digest)


def can_be_sent(row: JournalRow, claim: ClaimRow) -> bool:
    """Return whether a claim gets a row that the journal knows and no live run holds: the resume table."""
    changed = row.digest != claim.digest
    if row.state == OutcomeState.CREATED:
        return False
    if row.state == OutcomeState.FAILED:
        status = json.loads(row.error).get("status") if row.error else None
        return changed or claim.force or not _is_refusal(row.delivery, status)
    # In doubt: sent at most once per run, and never with another payload (which of the two would the session be for?).
    resendable = row.delivery != Delivery.ACCEPTED and row.run != claim.run and not changed
    return claim.force and resendable and not claim.shared


@frozen(slots=True)
class SettleRow:
    """The settlement of one row; see `Journal.settle`."""

    run: str
    key: str
    outcome: Outcome
    shared: bool = False

    def __call__(self, store: RowStore) -> ClaimedElsewhere | None:
        """Record the outcome.

        In a shared journal the lease may have ended before. Another run may have taken the row then, or a person may have
        resolved it.
        """
        row = store.get(self.key)
        if row is None or (row.run != self.run and not self.shared):
            raise JournalError(f"the row {self.key!r} cannot be settled: this run has not claimed it")
        if row.run != self.run:
            return store.live_holder(row.run) or ClaimedElsewhere(f"the run {row.run}")
        new = apply_outcome(row, self.outcome, wall_clock_ms())
        created = new.state == OutcomeState.CREATED
        if created and row.state == OutcomeState.CREATED and new.session_id == row.session_id:
            return None
        if self.shared and row.note is not None and not (created and row.state != OutcomeState.CREATED):
            return ClaimedElsewhere("the person who resolved it") if created else None  # the verdict stays
        if row.state == OutcomeState.CREATED:
            raise JournalError(f"the row {self.key!r} cannot be settled: it has a session already")
        if self.shared and created and row.state == OutcomeState.FAILED and row.payment_session is not None:
            # A person resolved the row, and another key may have claimed its order since.
            holder = store.order_holder(row.payment_session, self.key)
            if holder is not None:
                return ClaimedElsewhere(f"the row {holder!r}, which is for the same KCO order")
        if store.update(new):
            return None
        # Another row has the session: this one is in doubt, and stays so.
        error = DuplicateSessionError(_duplicate_text(store, new))
        doubt = OutcomeUnknownError(str(error), delivery=Delivery.ACCEPTED, attempts=new.attempts)
        outcome = Outcome(key=self.key, state=OutcomeState.IN_DOUBT, error=doubt, attempts=new.attempts)
        store.update(apply_outcome(row, outcome, new.at))
        raise error


def resolve_row(
    store: RowStore, run: str, key: str, verdict: Verdict, *, session: Session | None, note: str
) -> Outcome:
    """End a doubt; see `SqliteJournal.resolve`."""
    row = store.get(key)
    if row is None:
        raise JournalError(f"the journal has no row {key!r}")
    if row.state not in UNRESOLVED:
        raise JournalError(f"the row {key!r} is not in doubt, it is {row.state}")
    if row.state == CLAIMED and row.run == run:
        raise JournalError(f"the row {key!r} cannot be resolved: this run is sending it")
    if row.state == CLAIMED and (holder := store.live_holder(row.run)) is not None:
        raise JournalError(f"the row {key!r} cannot be resolved: {holder.holder} is sending it. {_wait_for(holder)}")
    if (session is not None) is not (verdict is Verdict.CREATED):
        raise JournalError("a session is required for the verdict CREATED, and for no other")
    note = replace_surrogates(f"{verdict} (by hand){': ' + note if note else ''}")
    if session is not None:
        outcome = Outcome(key=key, state=OutcomeState.CREATED, session=attrs.evolve(session, info=CallInfo()))
    else:
        delivery = Delivery.REJECTED if verdict is Verdict.FAILED else Delivery.NOT_SENT
        outcome = Outcome(key=key, state=OutcomeState.FAILED, error=HPPError(f"resolved as {note}", delivery=delivery))
    new = apply_outcome(attrs.evolve(row, had_unknown_attempt=0, note=note), outcome, wall_clock_ms())
    if not store.update(new):
        raise DuplicateSessionError(_duplicate_text(store, new))  # the row is unchanged
    return outcome_of(new)


def _wait_for(holder: ClaimedElsewhere) -> str:
    until = f", at {holder.until:%H:%M:%S} UTC" if holder.until else ""
    return f"Wait until it ends, or until its lease does{until}"


def _duplicate_text(store: RowStore, new: JournalRow) -> str:
    holder = store.session_holder(new.session_id or "", new.key)
    return f"the API gave the session {new.session_id!r} to {new.key!r}, but it belongs to {holder!r}"


def is_refusal(error: HPPError | None) -> bool:
    """Return whether the API refused the row itself: such a FAILED row is sent again only with `retry_failed`.

    Every other FAILED row was not sent, or refused for now: the next run sends it.
    """
    return error is not None and _is_refusal(error.delivery, getattr(error, "status", None))


def _is_refusal(delivery: str | None, status: int | None) -> bool:
    return delivery not in (None, Delivery.NOT_SENT) and status not in _NOT_ABOUT_THE_ROW


def _utf8_text(name: str, text: str) -> str:
    # A plain str, also from a subclass: that might be stored as another text than it is read, with a wrong checksum.
    try:
        return text.encode().decode()
    except UnicodeEncodeError:
        problem = (name, "has a lone surrogate: UTF-8 cannot represent it")
    raise InvalidRequestError(problems=(problem,))
