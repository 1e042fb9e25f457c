"""What a journal stores about one row: plain columns, and outcomes to columns and back.

A journal stores the response and the error of a row, never the request: no merchant URLs, no credentials, and of the
payload only its digest.
"""

import datetime as dt
import json
from operator import attrgetter
from typing import Any, Final

import attrs
from attrs import frozen

from kustom_hpp import errors
from kustom_hpp._messages import CallInfo, Delivery
from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch.journal import ClaimedElsewhere
from kustom_hpp.batch.outcomes import Outcome, OutcomeState
from kustom_hpp.errors import HPPError, JournalError, OutcomeUnknownError
from kustom_hpp.models import Session

CLAIMED: Final = "claimed"
"""The state of a row without an outcome; the other states are those of `OutcomeState`."""
UNRESOLVED: Final = (CLAIMED, str(OutcomeState.IN_DOUBT))
"""The states of a row that may have a session which the journal does not know."""
_ERROR_FIELDS: Final = ("status", "code", "messages", "retry_after", "timed_out", "session_id", "problems")
"""The fields of some error classes that a journal stores. Not `body`, which may contain anything."""


@frozen(kw_only=True, slots=True)
class JournalRow:
    """Everything that a journal stores about one key, as plain column values."""

    key: str
    payment_session: str | None
    """The URL of the KCO order; None for another payment session."""
    digest: bytes
    """SHA-256 of the payload."""
    state: str
    delivery: str | None = None
    """What is known about the call of a row without a session."""
    had_unknown_attempt: int = 0
    """1 if the row was in doubt when it was claimed again: only a session, or a person, ends that doubt. Else 0."""
    attempts: int = 0
    session_id: str | None = None
    session: str | None = None
    """JSON, with the API's field names."""
    info: str | None = None
    """JSON: the session's `CallInfo`."""
    error: str | None = None
    """JSON."""
    note: str | None = None
    """What the person who resolved the row wrote."""
    run: str
    """The run that claimed the row."""
    at: int
    """When the row was last changed: milliseconds since 1970, wall clock."""


COLUMNS: Final = tuple(column.name for column in attrs.fields(JournalRow))
row_values: Final = attrgetter(*COLUMNS)
"""Return the columns of a row, in their order."""


@frozen(kw_only=True, slots=True)
class JournalEntry:
    """A row of a journal, as a person sees it."""

    key: str
    order: str | None
    """The URL of the KCO order; None for another payment session."""
    outcome: Outcome
    unsettled: bool
    """True if the row was claimed and has no outcome yet."""
    changed_at: dt.datetime
    """When the row was last changed (aware, UTC)."""
    note: str | None
    """What the person who resolved the row wrote; None if nobody did."""


def outcome_of(row: JournalRow) -> Outcome:
    """Return the outcome of a row as a later run reports it."""
    state = OutcomeState.IN_DOUBT if row.state == CLAIMED else OutcomeState(row.state)
    error = _load_error(row.error) if row.error else None
    if error is None and state is OutcomeState.IN_DOUBT:
        error = OutcomeUnknownError(
            "a run claimed the row and ended before it recorded an outcome: a session may exist"
        )
    session = _load_session(row) if row.session else None
    return Outcome(key=row.key, state=state, session=session, error=error, attempts=row.attempts, earlier_run=True)


def entry_of(row: JournalRow, holder: ClaimedElsewhere | None = None) -> JournalEntry:
    """Return a row as a person sees it; `holder` is the live run that has claimed it."""
    outcome = outcome_of(row)
    if holder is not None:
        error = HPPError(f"{holder.holder} is sending the row", delivery=None)
        outcome = attrs.evolve(outcome, state=OutcomeState.CLAIMED_ELSEWHERE, error=error)
    return JournalEntry(
        key=row.key,
        order=row.payment_session,
        outcome=outcome,
        unsettled=row.state == CLAIMED,
        changed_at=dt.datetime.fromtimestamp(row.at / 1000, dt.UTC),
        note=row.note,
    )


def apply_outcome(row: JournalRow, outcome: Outcome, at: int) -> JournalRow:
    """Return the row with its outcome."""
    if outcome.state is OutcomeState.CREATED:
        return _with_session(row, outcome, at)
    state, error = outcome.state, outcome.error
    delivery = None if error is None else error.delivery
    if delivery is not None and delivery.may_have_taken_effect:
        state = OutcomeState.IN_DOUBT  # whatever the caller says
    elif row.had_unknown_attempt:
        # The second request failed. The API may still have processed the first one, of an earlier run.
        state, delivery = OutcomeState.IN_DOUBT, Delivery.UNKNOWN
        text = f"the API may have processed an earlier request; the second one ended with: {error}"
        error = OutcomeUnknownError(text, attempts=outcome.attempts)
    elif state is OutcomeState.IN_DOUBT:
        delivery = Delivery.UNKNOWN
    return attrs.evolve(
        row,
        state=str(state),
        delivery=None if delivery is None else str(delivery),
        attempts=outcome.attempts,
        error=None if error is None else _json(_dump_error(error)),
        at=at,
    )


def _with_session(row: JournalRow, outcome: Outcome, at: int) -> JournalRow:
    session = outcome.session
    if session is None:
        raise JournalError(f"the outcome of {row.key!r} is CREATED, but it has no session")
    info = attrs.asdict(session.info, filter=lambda field, _: field.name != "rate_limit")
    return attrs.evolve(
        row,
        state=str(outcome.state),
        delivery=None,
        had_unknown_attempt=0,
        attempts=outcome.attempts,
        session_id=replace_surrogates(session.session_id),
        session=_json(codec().unstructure(session)),
        info=_json(info),
        error=None,
        at=at,
    )


# Text and JSON


def replace_surrogates(text: str) -> str:
    """Return a text from a server as UTF-8 can represent it, with "?" for each lone surrogate."""
    return text.encode("utf-8", "replace").decode()


def _json(value: Any) -> str:
    try:
        return codec().dump_json(value).decode()
    except (TypeError, ValueError):  # a lone surrogate, or a number that this encoder does not support
        return replace_surrogates(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _load_session(row: JournalRow) -> Session:
    try:
        session = codec().decode_response((row.session or "").encode(), Session)
        return attrs.evolve(session, info=CallInfo(**json.loads(row.info or "{}")))
    except (ValueError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
    raise JournalError(f"the session of {row.key!r} in the journal cannot be read", cause=why)


def _dump_error(error: HPPError) -> dict[str, Any]:
    fields = {name: getattr(error, name) for name in _ERROR_FIELDS if getattr(error, name, None) not in (None, ())}
    return {
        "class": type(error).__name__,
        "message": str(error),
        "delivery": error.delivery,
        "attempts": error.attempts,
        "correlation_id": error.correlation_id,
        "cause": error.cause,
        **fields,
    }


def _load_error(text: str) -> HPPError:
    """Return the error again; one of a class that this release does not have becomes the nearest that it has."""
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
    error.delivery = delivery  # None stays None, whatever the default of the class
    for name in _ERROR_FIELDS:
        if name in plain and hasattr(kind, name):
            setattr(error, name, _restore_tuples(name, plain[name]))
    return error


def _restore_tuples(name: str, value: Any) -> Any:
    """JSON has no tuples."""
    if name == "problems":
        return tuple((path, sentence) for path, sentence in value)
    return tuple(value) if name == "messages" else value
