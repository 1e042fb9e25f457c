"""What a journal keeps of a key, as plain columns; what that means to a new claim; and answers and errors to JSON and back.

Kept are the answer and the error, never the request: no merchant URLs, no credentials; of the payload only its digest.
"""

import json
from operator import attrgetter
from typing import Any, Final

import attrs
from attrs import frozen

from kustom_hpp import errors
from kustom_hpp._messages import CallInfo, Delivery
from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch.journal import AlreadyRecorded, Claim, Claimed, ClaimedElsewhere
from kustom_hpp.batch.outcomes import Outcome, OutcomeState
from kustom_hpp.errors import HPPError, JournalError, OutcomeUnknownError
from kustom_hpp.models import Session

CLAIMED: Final = "claimed"
"""The state of a row whose outcome is not known yet; the others are those of `OutcomeState`."""
DOUBTFUL: Final = (CLAIMED, str(OutcomeState.IN_DOUBT))
_CREATED: Final = str(OutcomeState.CREATED)
_NOT_ABOUT_THE_ROW: Final = (401, 429)
"""What the API says no to whatever the row: with the right key, or a little later, it may well take it."""
_FACTS: Final = ("status", "code", "messages", "retry_after", "timed_out", "session_id", "problems")
"""What an error may tell beyond what all errors tell. Not its body: that may hold anything."""


@frozen(kw_only=True, slots=True)
class Kept:
    """All that a journal keeps of one key: plain values, as they stand in the file."""

    key: str
    payment_session: str | None
    """The KCO order's URL; None for another payment session."""
    digest: bytes
    """SHA-256 of the payload."""
    state: str
    delivery: str | None = None
    """What is known about the call of a row without a session."""
    doubted: int = 0
    """1 where it was in doubt when it was claimed again: only a session, or a human, ends that doubt. Else 0."""
    attempts: int = 0
    session_id: str | None = None
    session: str | None = None
    """JSON, in the wire's spelling."""
    info: str | None = None
    """JSON: how the session's call went."""
    error: str | None = None
    """JSON."""
    note: str | None = None
    """What a human said who resolved it."""
    run: str
    """The opening of the journal that claimed it."""
    at: int
    """When it was last changed: milliseconds since 1970, by the wall clock."""


COLUMNS: Final = tuple(field.name for field in attrs.fields(Kept))


values_of: Final = attrgetter(*COLUMNS)
"""A row's columns, in their order, as SQLite gives them back."""


# ---------------------------------------------------------------------------------------------------- what a row means


def judge(row: Kept | None, digest: bytes, run: str, *, again: bool) -> Claim:
    """The resume table: what a claim of a key gets, given what is known of the key."""
    if row is None:
        return Claimed()
    if row.state == CLAIMED and row.run == run:
        return ClaimedElsewhere("this run itself: it has claimed the same key before, and not settled it")
    changed = row.digest != digest
    if row.state == OutcomeState.CREATED:
        fresh = False
    elif row.state == OutcomeState.FAILED:
        refused = _refused(row.delivery, json.loads(row.error).get("status") if row.error else None)
        fresh = changed or again or not refused
    else:
        # In doubt. Sent at most once per run, and never with another payload: which of the two would the session be for?
        fresh = again and not changed and row.run != run and row.delivery != Delivery.ACCEPTED
    return Claimed() if fresh else AlreadyRecorded(outcome_of(row), changed)


def is_refusal(error: HPPError | None) -> bool:
    """True for a no of the API that is about the row: a FAILED row that ended so is sent again where that is asked for.

    Every other FAILED row that a journal keeps was not sent, or was turned away for now: the next run sends it.
    """
    return error is not None and _refused(error.delivery, getattr(error, "status", None))


def _refused(delivery: str | None, status: int | None) -> bool:
    return delivery not in (None, Delivery.NOT_SENT) and status not in _NOT_ABOUT_THE_ROW


def outcome_of(row: Kept) -> Outcome:
    """A row's outcome, as a later run tells it."""
    state = OutcomeState.IN_DOUBT if row.state == CLAIMED else OutcomeState(row.state)
    error = _error_from(row.error) if row.error else None
    if error is None and state is OutcomeState.IN_DOUBT:
        error = OutcomeUnknownError("it was claimed, and the run ended before its outcome was kept: it may exist")
    session = _session_from(row) if row.session else None
    return Outcome(key=row.key, state=state, session=session, error=error, attempts=row.attempts, earlier_run=True)


# ------------------------------------------------------------------------------------------------ what an outcome leaves


def settled(row: Kept, outcome: Outcome, at: int) -> Kept:
    """The row with its outcome."""
    if outcome.state is OutcomeState.CREATED:
        return _created(row, outcome, at)
    state, error = outcome.state, outcome.error
    delivery = None if error is None else error.delivery
    if delivery is not None and delivery.may_have_taken_effect:
        state = OutcomeState.IN_DOUBT  # whatever the caller calls it
    elif row.doubted:
        # The second request failed; the first one, of an earlier run, may still have been processed.
        state, delivery = OutcomeState.IN_DOUBT, Delivery.UNKNOWN
        told = f"an earlier request may have been processed; sent again, it ended with: {error}"
        error = OutcomeUnknownError(told, attempts=outcome.attempts)
    elif state is OutcomeState.IN_DOUBT:
        delivery = Delivery.UNKNOWN
    return attrs.evolve(
        row,
        state=str(state),
        delivery=None if delivery is None else str(delivery),
        attempts=outcome.attempts,
        error=None if error is None else _json(_error_plain(error)),
        at=at,
    )


def _created(row: Kept, outcome: Outcome, at: int) -> Kept:
    session = outcome.session
    if session is None:
        raise JournalError(f"the outcome of {row.key!r} is CREATED, but it has no session")
    info = session.info
    how = {
        "attempts": info.attempts,
        "elapsed": info.elapsed,
        "status": info.status,
        "correlation_id": info.correlation_id,
        "earlier_unknown": info.earlier_unknown,
    }
    # Spelled out: this is on the path of every row, and attrs.evolve takes three times as long.
    return Kept(
        key=row.key,
        payment_session=row.payment_session,
        digest=row.digest,
        state=_CREATED,
        attempts=outcome.attempts,
        session_id=clean(session.session_id),
        session=_json(codec().to_plain(session)),
        info=_json(how),
        note=row.note,
        run=row.run,
        at=at,
    )


def clean(text: str) -> str:
    """A server's text as UTF-8 can hold it: a lone surrogate (an escape that JSON lets pass) becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _json(value: Any) -> str:
    try:
        return codec().write(value).decode()
    except (TypeError, ValueError):  # a lone surrogate, or a number that this writer cannot hold
        return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _session_from(row: Kept) -> Session:
    try:
        session = codec().decode((row.session or "").encode(), Session)
        return attrs.evolve(session, info=CallInfo(**json.loads(row.info or "{}")))
    except (ValueError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
    raise JournalError(f"the session of {row.key!r} in the journal cannot be read", cause=why)


def _error_plain(error: HPPError) -> dict[str, Any]:
    facts = {name: getattr(error, name) for name in _FACTS if getattr(error, name, None) not in (None, ())}
    return {
        "class": type(error).__name__,
        "message": str(error),
        "delivery": error.delivery,
        "attempts": error.attempts,
        "correlation_id": error.correlation_id,
        "cause": error.cause,
        **facts,
    }


def _error_from(text: str) -> HPPError:
    """The error again; one of a class that this release does not know becomes the nearest that it does."""
    plain: dict[str, Any] = json.loads(text)
    delivery = Delivery(plain["delivery"]) if plain["delivery"] else None
    kind = getattr(errors, plain["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, HPPError)):
        kind = OutcomeUnknownError if delivery is not None and delivery.may_have_taken_effect else HPPError
    error = kind(
        plain["message"],
        delivery=delivery,
        attempts=plain["attempts"],
        correlation_id=plain["correlation_id"],
        cause=plain["cause"],
    )
    error.delivery = delivery  # None stays None, whatever the class would say by itself
    for name in _FACTS:
        if name in plain and hasattr(kind, name):
            setattr(error, name, _untangled(name, plain[name]))
    return error


def _untangled(name: str, value: Any) -> Any:
    """JSON has no tuples."""
    if name == "problems":
        return tuple((path, sentence) for path, sentence in value)
    return tuple(value) if name == "messages" else value
