"""The input and the output of a batch: frozen values.

Implementation note: an `Outcome` has no slots, because attrs then creates a frozen value three times as fast.
"""

from enum import StrEnum

from attrs import frozen

from kustom_hpp.errors import HPPError, InvalidRequestError
from kustom_hpp.models import CreateSessionRequest, Session


class OutcomeState(StrEnum):
    """How a row ended."""

    CREATED = "created"
    """The row has exactly one session."""
    FAILED = "failed"
    """The row has no session."""
    IN_DOUBT = "in_doubt"
    """The row may have a session. It is never sent again automatically."""
    CLAIMED_ELSEWHERE = "claimed_elsewhere"
    """Another live run has the row, and reports how it ends. This run sent nothing for it, or sent it too late."""


@frozen(kw_only=False, slots=True)
class BatchItem:
    """One row of the input: a key that is unique in the batch, and a request.

    Pass a request without a key to use its `payment_session_url` as the key.
    """

    key: str
    request: CreateSessionRequest | InvalidRequestError
    """An error is a row that the caller could not read: the run reports it as FAILED, and the key may be empty."""


@frozen(kw_only=True, slots=False)
class Outcome:
    """How a row ended."""

    key: str
    state: OutcomeState
    session: Session | None = None
    """The session of a CREATED row. Of a row that is CLAIMED_ELSEWHERE, a surplus session: disable it. Else None."""
    error: HPPError | None = None
    """Why the row is not CREATED. Also set if an earlier run created the session for another payload (a conflict): then
    `session` is the earlier one and the error says so."""
    attempts: int = 0
    """Requests that this run made for the row."""
    earlier_run: bool = False
    """True if the outcome comes from the journal and this run sent nothing."""
    recorded: bool = True
    """False if the journal could not record the outcome. Record it yourself; the run stops."""


@frozen(kw_only=True, slots=True)
class RunCounts:
    """The progress of a run."""

    pulled: int
    """Rows taken from the input."""
    created: int
    failed: int
    in_doubt: int
    """Rows with this state, from this run or an earlier one, whether their outcomes have been taken or not."""
    elsewhere: int = 0
    """Rows that another live run has (CLAIMED_ELSEWHERE)."""
    earlier: int
    """Rows of the counts above whose outcome comes from the journal."""
    in_flight: int
    """Rows that are being sent or recorded now."""
