"""What happens to one row: claimed, sent and settled; or replayed from the journal; or returned to the queue.

The rule of the journal: an intent is durable before its request leaves, an outcome is durable before it is handed out.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
from attrs import define, field

from kustom_hpp._messages import Delivery
from kustom_hpp.batch.circuit_breaker import CircuitBreaker, fatal_stop, is_fatal, is_not_processed
from kustom_hpp.batch.journal import AlreadyRecorded, Claim, Claimed, ClaimedElsewhere, Journal
from kustom_hpp.batch.outcomes import Outcome, OutcomeState
from kustom_hpp.batch.rows import RecentKeys, Row, digest_of, order_of
from kustom_hpp.batch.stop_signal import StopSignal
from kustom_hpp.errors import (
    AuthenticationError,
    BatchStoppedError,
    DuplicateSessionError,
    HPPError,
    InvalidRequestError,
    JournalError,
    LeaseLostError,
    LostResponseError,
    OutcomeUnknownError,
)
from kustom_hpp.models import Session

Create = Callable[..., Awaitable[Session]]
"""Creates one session: `HPPClient.create_session`, or a function with its arguments."""


@define(kw_only=True, eq=False)
class RowProcessor:
    """What the workers do with a row; counts the outcomes."""

    _create: Create = field(alias="create")
    _journal: Journal | None = field(alias="journal")
    _breaker: CircuitBreaker = field(alias="breaker")
    _signal: StopSignal = field(alias="signal")
    _resend: bool = field(alias="resend")
    _retry_failed: bool = field(alias="retry_failed")
    _session_ids: RecentKeys = field(factory=RecentKeys, init=False)
    _journal_failed: bool = field(default=False, init=False)
    sending: "set[asyncio.Task[None]]" = field(factory=set, init=False)
    """The workers whose rows are with `create`."""
    ended: dict[OutcomeState, int] = field(factory=lambda: dict.fromkeys(OutcomeState, 0), init=False)
    earlier: int = field(default=0, init=False)

    async def run(self, row: Row, worker: "asyncio.Task[None]") -> Outcome | None:
        """Return the row's outcome; None if the row returns to the queue."""
        if row.problem is not None:
            return self._invalid(row, row.problem)
        if self._journal is not None:
            outcome = await self._claim(row, self._journal)
            if row.claim is None:
                return outcome
        # The run may have stopped while the journal was writing.
        if self._signal.stopped or row.generation != self._breaker.generation:
            return None
        options = {} if row.claim is None or row.claim.may_send is None else {"may_send": row.claim.may_send}
        result: Any
        row.in_flight = True
        self.sending.add(worker)
        try:
            result = await self._create(row.request, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is becomes an outcome, or stops the run
            result = error
        finally:
            self.sending.discard(worker)
        row.in_flight = False  # after a cancellation it stays True: the request may have been processed
        # Outside of an except block, so that later errors hold nothing of this one.
        if isinstance(result, Session):
            return await self._success(row, result)
        if isinstance(result, HPPError):
            result.__traceback__ = None  # an outcome holds no frames, and no request in them
        elif not isinstance(result, Exception):
            result = TypeError(f"create must return a Session, got a {type(result).__name__}")
        return await self._failure(row, result)

    def outcome_of_cancelled(self, row: Row) -> Outcome | None:
        """Return the outcome of a row whose worker was cancelled; None if nothing was sent for it."""
        if row.unsettled is not None:
            return self._count(attrs.evolve(row.unsettled, recorded=False))
        if not row.in_flight:
            return None
        # The journal has its claim, and a claim without an outcome is in doubt.
        lost = LostResponseError("the run ended while the request was in flight: the session may exist", attempts=1)
        return self._ended(row, OutcomeState.IN_DOUBT, lost)

    async def release_claims(self, queue: deque[Row], put: Callable[[int, Outcome], None]) -> None:
        """Release the claims of rows that will not be sent; `put` gets the outcomes that the journal cannot record."""
        try:
            while queue:
                row = queue[0]
                if row.pending_claim is not None:
                    claim = await self._call_claim(row, partial(asyncio.ensure_future, row.pending_claim))
                    row.claim = claim if isinstance(claim, Claimed) else None
                if row.claim is not None and not (settled := await self._settle(row, self._unsent(row))).recorded:
                    put(row.number, self._count(settled))
                queue.popleft()
        finally:
            for row in queue:  # cancelled: the journal did not respond in time
                if row.pending_claim is not None:
                    row.pending_claim.cancel()
                if row.claim is not None:
                    put(row.number, self._count(attrs.evolve(self._unsent(row), recorded=False)))
            queue.clear()

    async def _release(self, row: Row) -> None:
        """Release a claim whose lease is lost. The row must be claimed again before it is sent."""
        try:
            settled = await self._settle(row, self._unsent(row))
        except asyncio.CancelledError:
            row.unsettled = None  # nothing was sent: the row returns to the queue
            raise
        if settled.recorded:
            row.claim = None

    @staticmethod
    def _unsent(row: Row) -> Outcome:
        """Return what the journal is to record about a claimed row that was not sent."""
        error: HPPError = BatchStoppedError("the batch stopped before this row was sent", delivery=Delivery.NOT_SENT)
        if row.last_error is not None and is_not_processed(row.last_error):
            error = row.last_error
        outcome = Outcome(key=row.key, state=OutcomeState.FAILED, error=error, attempts=row.attempts)
        if row.earlier_doubt is not None:
            outcome = attrs.evolve(row.earlier_doubt, attempts=row.attempts)
        return outcome

    # The journal

    async def _claim(self, row: Row, journal: Journal) -> Outcome | None:
        """Claim a row unless this run has its claim; return its outcome if it is not to be sent."""
        if row.claim is not None and row.claim.may_send is not None and not row.claim.may_send():
            await self._release(row)
        if row.claim is not None:
            return None
        try:
            digest, order = digest_of(row.request), order_of(row.request)
        except InvalidRequestError as error:
            return self._invalid(row, error)
        call = partial(journal.claim, row.key, order, digest)
        claim = await self._call_claim(row, call)
        if isinstance(claim, AlreadyRecorded) and self._should_resend(claim):
            if claim.outcome.state is OutcomeState.IN_DOUBT:
                row.earlier_doubt = claim.outcome
            claim = await self._call_claim(row, partial(call, force=True))
        if isinstance(claim, Claimed):
            row.claim = claim
            return None
        row.earlier_doubt = None
        if isinstance(claim, AlreadyRecorded):
            return self._replay_outcome(claim)
        if isinstance(claim, ClaimedElsewhere):
            held = HPPError(f"{claim.holder} has claimed the row: this run sent nothing", delivery=Delivery.NOT_SENT)
            return self._ended(row, OutcomeState.CLAIMED_ELSEWHERE, held)
        return None if claim is None else self._invalid(row, claim)

    async def _call_claim(self, row: Row, call: Callable[[], Awaitable[Claim]]) -> Claim | InvalidRequestError | None:
        """Return the journal's response; None if the journal has failed, and then the run stops."""
        claim: Claim | InvalidRequestError | None
        try:
            # Shielded: if the worker is cancelled, the response still decides whether the claim must be released.
            row.pending_claim = asyncio.ensure_future(call())
            claim = await asyncio.shield(row.pending_claim)
        except InvalidRequestError as error:
            claim = error
        except Exception as error:  # noqa: BLE001 - of any journal
            self._stop_journal(error)
            claim = None
        row.pending_claim = None
        return claim

    def _should_resend(self, claim: AlreadyRecorded) -> bool:
        outcome, error = claim.outcome, claim.outcome.error
        if outcome.state is OutcomeState.FAILED:
            return self._retry_failed
        # Not an accepted request, not a duplicate session, and not a changed payload.
        unknown = error is not None and error.delivery is Delivery.UNKNOWN
        return outcome.state is OutcomeState.IN_DOUBT and self._resend and unknown and not claim.changed

    def _replay_outcome(self, claim: AlreadyRecorded) -> Outcome:
        outcome = attrs.evolve(claim.outcome, attempts=0, earlier_run=True)
        if claim.changed and outcome.state is OutcomeState.CREATED:
            conflict = InvalidRequestError(
                "an earlier run created this row's session with another payload. Nothing was sent, and that session stays. "
                "Use a new key and a new payment session for the new payload"
            )
            outcome = attrs.evolve(outcome, error=conflict)
        self.earlier += 1
        return self._count(outcome)

    async def _settle(self, row: Row, outcome: Outcome) -> Outcome:
        """Return the outcome once it is durable; with `recorded` False if the journal has failed."""
        if self._journal is None:
            return outcome
        if self._journal_failed:
            return attrs.evolve(outcome, recorded=False)
        row.unsettled = outcome
        try:
            elsewhere = await self._journal.settle(row.key, outcome)
            if elsewhere is not None:
                outcome = _taken_over(outcome, elsewhere)
        except DuplicateSessionError as error:
            error.__traceback__ = None
            self._signal.stop(error)
            outcome = attrs.evolve(outcome, state=OutcomeState.IN_DOUBT, session=None, error=error)
        except Exception as error:  # noqa: BLE001 - of any journal
            self._stop_journal(error)
            outcome = attrs.evolve(outcome, recorded=False)
        row.unsettled = None
        return outcome

    def _stop_journal(self, error: Exception) -> None:
        # A journal that failed once is not used again: after an error, what a disk says cannot be trusted.
        self._journal_failed = True
        if not isinstance(error, JournalError):
            text = f"the journal raised {type(error).__name__}, which is not a JournalError"
            error = JournalError(text, cause=repr(type(error)))
        self._signal.stop(error)

    # The end of a row that was sent

    async def _success(self, row: Row, session: Session) -> Outcome:
        if self._breaker.created(row.generation):
            self._signal.notify()
        attempts = row.attempts + session.info.attempts
        outcome = Outcome(key=row.key, state=OutcomeState.CREATED, session=session, attempts=attempts)
        if self._journal is not None:
            return self._count(await self._settle(row, outcome))
        other = self._session_ids.add(session.session_id, row.key)
        if other is not None:
            duplicate = DuplicateSessionError(
                f"the API gave the session of row {other!r} to row {row.key!r} too. Show neither payment page"
            )
            self._signal.stop(duplicate)
            outcome = attrs.evolve(outcome, state=OutcomeState.IN_DOUBT, session=None, error=duplicate)
        return self._count(outcome)

    async def _failure(self, row: Row, failure: Exception) -> Outcome | None:
        breaker, signal = self._breaker, self._signal
        now = asyncio.get_running_loop().time()
        if not isinstance(failure, HPPError):
            signal.stop(failure)
            text = "create raised an exception that is not an HPPError: the session may exist"
            failure = LostResponseError(text, cause=type(failure).__name__, attempts=1)
        row.attempts += failure.attempts
        if isinstance(failure, LeaseLostError) and row.claim is not None and row.claim.may_send is not None:
            return None  # claimed again before it is sent
        if is_fatal(failure):
            signal.stop(fatal_stop(failure))
            if not isinstance(failure, AuthenticationError):
                row.last_error = failure
                return None
        elif is_not_processed(failure):
            row.last_error = failure
            signal.stop_if(breaker.not_processed(row.generation, failure, now))
            return None
        if isinstance(failure, OutcomeUnknownError):
            signal.stop_if(breaker.in_doubt(row.generation, failure, now))
            return self._count(await self._settle(row, self._outcome(row, OutcomeState.IN_DOUBT, failure)))
        half_open = breaker.half_open
        signal.stop_if(breaker.failed(row.generation, failure))
        if half_open and not breaker.half_open:
            signal.notify()
        state = OutcomeState.FAILED
        if row.earlier_doubt is not None:
            # The API refused the row this time; it may still have processed the first request.
            state, failure = OutcomeState.IN_DOUBT, _still_in_doubt(failure)
        return self._count(await self._settle(row, self._outcome(row, state, failure)))

    def _invalid(self, row: Row, error: HPPError) -> Outcome:
        self._signal.stop_if(self._breaker.failed(row.generation, error))
        error.__traceback__ = None
        return self._ended(row, OutcomeState.FAILED, error)

    def _ended(self, row: Row, state: OutcomeState, error: HPPError) -> Outcome:
        return self._count(self._outcome(row, state, error))

    @staticmethod
    def _outcome(row: Row, state: OutcomeState, error: HPPError) -> Outcome:
        return Outcome(key=row.key, state=state, error=error, attempts=row.attempts)

    def _count(self, outcome: Outcome) -> Outcome:
        self.ended[outcome.state] += 1
        return outcome


def _taken_over(outcome: Outcome, elsewhere: ClaimedElsewhere) -> Outcome:
    """Return the outcome of a row that another run took before this one could settle it."""
    text = f"{elsewhere.holder} took over the row after the lease of this run had ended"
    error: HPPError
    if outcome.session is not None:
        text += f". The session {outcome.session.session_id!r} is surplus: disable it"
        error = OutcomeUnknownError(text, delivery=Delivery.ACCEPTED, attempts=outcome.attempts)
    elif isinstance(outcome.error, OutcomeUnknownError):
        error = OutcomeUnknownError(f"{text}. Outcome of this run: {outcome.error}", attempts=outcome.attempts)
    else:
        delivery = None if outcome.error is None else outcome.error.delivery
        error = HPPError(f"{text}. Outcome of this run: {outcome.error}", delivery=delivery, attempts=outcome.attempts)
    return attrs.evolve(outcome, state=OutcomeState.CLAIMED_ELSEWHERE, error=error)


def _still_in_doubt(error: HPPError) -> LostResponseError:
    return LostResponseError(
        f"the API may have processed the request of an earlier run. Do not send the row again. Last error: {error}",
        last_error=error,
        attempts=error.attempts,
        correlation_id=error.correlation_id,
        cause=error.cause,
    )
