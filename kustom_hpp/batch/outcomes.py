"""What goes into a batch and what comes out of it: frozen values."""

from enum import StrEnum

from attrs import frozen

from kustom_hpp.errors import HPPError
from kustom_hpp.models import CreateSessionRequest, Session


class OutcomeState(StrEnum):
    """How a row ended."""

    CREATED = "created"
    """It has exactly one session."""
    FAILED = "failed"
    """It has none."""
    IN_DOUBT = "in_doubt"
    """It may have one: never sent again by itself."""


@frozen(kw_only=False, slots=True)
class BatchItem:
    """A row: a key that is unique in the batch, and its request.

    Without a key of your own, give the request alone: its key is then its `payment_session_url`.
    """

    key: str
    request: CreateSessionRequest


@frozen(kw_only=True, slots=True)
class Outcome:
    """How a row ended."""

    key: str
    state: OutcomeState
    session: Session | None = None
    """The session of a CREATED row; None for the others."""
    error: HPPError | None = None
    """Why a row is FAILED or IN_DOUBT; None for CREATED. Also set where an earlier run created the session for another
    payload (a conflict): then `session` is that earlier one and the error says so."""
    attempts: int = 0
    """Requests made for the row in this run."""
    earlier_run: bool = False
    """True where it is told from the journal, and nothing was sent in this run."""
    recorded: bool = True
    """False where the journal could not keep it: write it down yourself, the run stops."""


@frozen(kw_only=True, slots=True)
class Counts:
    """How far a run has come."""

    pulled: int
    """Items taken from the input."""
    created: int
    failed: int
    in_doubt: int
    """Rows that have ended so, by now or in an earlier run; whether their outcomes were taken yet or not."""
    earlier: int
    """How many of those were told from the journal, with nothing sent in this run."""
    in_flight: int
    """Rows that are being sent now, the journal's part included."""
