"""What becomes of one row: claimed, sent, settled; or told from the journal; or sent back to the line.

The rule of the journal: an intent is durable before its request leaves, an outcome is durable before it is handed out.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from kustom_hpp._messages import Delivery
from kustom_hpp.batch.circuit_breaker import Stops, for_every_row, not_processed, stop_for_every_row
from kustom_hpp.batch.journal import AlreadyRecorded, Claim, Claimed, ClaimedElsewhere, Journal
from kustom_hpp.batch.outcomes import Outcome, OutcomeState
from kustom_hpp.batch.rows import Recent, Row, digest_of, order_of
from kustom_hpp.batch.stop_signal import Switch
from kustom_hpp.errors import (
    AuthenticationError,
    BatchStoppedError,
    DuplicateSessionError,
    HPPError,
    InvalidRequestError,
    JournalError,
    LostResponseError,
    OutcomeUnknownError,
)
from kustom_hpp.models import CreateSessionRequest, Session

Create = Callable[[CreateSessionRequest], Awaitable[Session]]
"""What makes one session: `HPPClient.create_session`, or anything around it."""


@attrs.frozen(kw_only=True)
class Rules:
    """Which rows of earlier runs are sent again."""

    resend: bool
    """Those in doubt."""
    retry_failed: bool
    """Those that the API refused."""


class Rows:
    """What workers do with a row. Counts what came of all."""

    def __init__(self, create: Create, journal: Journal | None, rules: Rules, stops: Stops, switch: Switch) -> None:
        self._create = create
        self._journal = journal
        self._rules = rules
        self._stops = stops
        self._switch = switch
        self._ids = Recent()
        self._broken = False
        self.ahead: Callable[[], Row | None] = lambda: None
        """Pulls a row that may be claimed before its turn, and puts it into the line; None where there is none."""
        self.flying: set[asyncio.Task[None]] = set()
        """The workers whose rows are with `create`."""
        self.ended = dict.fromkeys(OutcomeState, 0)
        self.earlier = 0

    async def run(self, row: Row, worker: "asyncio.Task[None]") -> Outcome | None:
        """The row's outcome; None where it goes back to the line."""
        if row.problem is not None:
            return self._invalid(row, row.problem)
        if self._journal is not None and not row.claimed:
            told = await self._claim(row)
            if told is not None or not row.claimed:
                return told
        # Since the row got its leave, the journal took its time.
        if self._switch.stopped or row.wave != self._stops.wave:
            return None
        row.flies = True
        self.flying.add(worker)
        session: Any = None
        failure: Exception | None = None
        try:
            session = await self._create(row.request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the row and the run hear of it
            failure = error
        finally:
            self.flying.discard(worker)
        row.flies = False
        if failure is None and not isinstance(session, Session):
            failure = TypeError(f"create must return a Session, got a {type(session).__name__}")
        # Out of the except block, so that nothing of the failure clings to what is raised later.
        if failure is None:
            return await self._success(row, session)
        if isinstance(failure, HPPError):
            failure.__traceback__ = None  # an outcome is a fact: it holds no frames, and no request in them
        return await self._failure(row, failure)

    def cut_off(self, row: Row) -> Outcome | None:
        """The outcome of a row whose worker was cancelled; None where nothing was sent for it."""
        if row.answered is not None:
            return self._count(attrs.evolve(row.answered, recorded=False))
        if not row.flies:
            return None
        # The journal has its claim: that is "in doubt" already.
        lost = LostResponseError("the run was ended while the request was under way: the session may exist", attempts=1)
        return self._ended(row, OutcomeState.IN_DOUBT, lost)

    async def give_back(self, line: deque[Row], put: Callable[[int, Outcome], None]) -> None:
        """Free the rows in a line that will not be sent; `put` gets what the journal cannot be told."""
        try:
            while line:
                if (outcome := await self._give_back(line[0])) is not None:
                    put(line[0].number, outcome)
                line.popleft()
        finally:
            for row in line:  # cancelled: the journal did not answer in time
                if (outcome := self._abandon(row)) is not None:
                    put(row.number, outcome)
            line.clear()

    async def _give_back(self, row: Row) -> Outcome | None:
        """Let the journal know that a row which it holds was not processed; its outcome where the journal cannot."""
        if row.asked is not None:
            row.claimed = isinstance(await self._ask(row), Claimed)
        if not row.claimed:
            return None
        settled = await self._settle(row, self._not_sent(row))
        return None if settled.recorded else self._count(settled)

    def _abandon(self, row: Row) -> Outcome | None:
        """The outcome of a row that was not given back in time; None where the journal has not said that it holds it."""
        if row.asked is not None and isinstance(row.asked, asyncio.Future):
            row.asked.cancel()  # nobody will take what it ends with
        if not row.claimed:
            return None
        return self._count(attrs.evolve(self._not_sent(row), recorded=False))

    @staticmethod
    def _not_sent(row: Row) -> Outcome:
        error: HPPError = BatchStoppedError("the batch stopped before this row was sent", delivery=Delivery.NOT_SENT)
        if row.sent is not None and not_processed(row.sent):
            error = row.sent
        outcome = Outcome(key=row.key, state=OutcomeState.FAILED, error=error, attempts=row.attempts)
        if row.doubt is not None:
            outcome = attrs.evolve(row.doubt, attempts=row.attempts)
        return outcome

    # The journal's part.

    async def _claim(self, row: Row) -> Outcome | None:
        """Claim a row: its outcome where it is not to be sent."""
        try:
            digest = digest_of(row.request)
        except InvalidRequestError as error:
            return self._invalid(row, error)
        told = await self._ask(row, digest, again=False)
        if isinstance(told, AlreadyRecorded) and self._goes_again(told):
            if told.outcome.state is OutcomeState.IN_DOUBT:
                row.doubt = told.outcome
            told = await self._ask(row, digest, again=True)
        if isinstance(told, AlreadyRecorded):
            return self._earlier(row, told)
        if isinstance(told, ClaimedElsewhere):
            return self._invalid(row, InvalidRequestError(f"nothing was sent for this row: {told.holder}"))
        if isinstance(told, InvalidRequestError):
            return self._invalid(row, told)
        row.claimed = told is not None
        return None

    async def _ask(self, row: Row, digest: bytes = b"", *, again: bool = False) -> Claim | InvalidRequestError | None:
        """What the journal says, or why it cannot hold the row; None where it is broken, and then the run stops."""
        assert self._journal is not None  # noqa: S101 - for the type checker
        told: Claim | InvalidRequestError | None = None
        try:
            begun, row.asked = row.asked, None
            asked = begun or self._journal.claim(row.key, order_of(row.request), digest, again=again)
            if isinstance(asked, asyncio.Future) and not asked.done():
                # The worker may be cancelled, and what the journal says then decides whether the row is given back.
                row.asked, asked = asked, asyncio.shield(asked)
            told = await asked
        except InvalidRequestError as error:
            told = error
        except JournalError as error:
            self._break(error)
        except Exception as error:  # noqa: BLE001 - a journal of somebody else's
            self._break(_journal_error(error))
        row.asked = None
        return told

    def _claim_ahead(self, journal: Journal) -> None:
        """While a row is settled, claim another: one hand-over and one sync for both. Its claim comes after the settling.

        So there are never more claims without an outcome than there are workers, whenever the process dies.
        """
        row = self.ahead()
        if row is None or row.problem is not None:
            return
        with contextlib.suppress(Exception):  # told when its turn comes
            row.asked = journal.claim(row.key, order_of(row.request), digest_of(row.request))

    def _goes_again(self, told: AlreadyRecorded) -> bool:
        outcome, error = told.outcome, told.outcome.error
        if outcome.state is OutcomeState.FAILED:
            return self._rules.retry_failed
        # Not what was accepted, not a mix-up, and not what is another payload now.
        unknown = error is not None and error.delivery is Delivery.UNKNOWN
        return outcome.state is OutcomeState.IN_DOUBT and self._rules.resend and unknown and not told.changed

    def _earlier(self, row: Row, told: AlreadyRecorded) -> Outcome:
        outcome = attrs.evolve(told.outcome, attempts=0, earlier_run=True)
        if told.changed and outcome.state is OutcomeState.CREATED:
            conflict = InvalidRequestError(
                "an earlier run created this row's session with another payload: nothing was sent, that session stays. "
                "Give the new payload a key and a payment session of its own"
            )
            outcome = attrs.evolve(outcome, error=conflict)
        self.earlier += 1
        row.claimed = False
        return self._count(outcome)

    async def _settle(self, row: Row, outcome: Outcome) -> Outcome:
        """The outcome once it is durable; with `recorded` False where it is not."""
        if self._journal is None:
            return outcome
        if self._broken:
            return attrs.evolve(outcome, recorded=False)
        row.answered = outcome
        try:
            settling = self._journal.settle(row.key, outcome)
            if isinstance(settling, asyncio.Future):
                self._claim_ahead(self._journal)
            await settling
        except DuplicateSessionError as error:
            error.__traceback__ = None
            self._switch.stop(error)
            outcome = attrs.evolve(outcome, state=OutcomeState.IN_DOUBT, session=None, error=error)
        except JournalError as error:
            self._break(error)
            outcome = attrs.evolve(outcome, recorded=False)
        except Exception as error:  # noqa: BLE001 - a journal of somebody else's
            self._break(_journal_error(error))
            outcome = attrs.evolve(outcome, recorded=False)
        row.answered = None
        return outcome

    def _break(self, error: JournalError) -> None:
        # A journal that failed once is not asked again: what a disk says after an error is not to be trusted.
        self._broken = True
        self._switch.stop(error)

    # How a row that was sent ended.

    async def _success(self, row: Row, session: Session) -> Outcome:
        if self._stops.created(row.wave):
            self._switch.ring()
        outcome = Outcome(
            key=row.key, state=OutcomeState.CREATED, session=session, attempts=row.attempts + session.info.attempts
        )
        if self._journal is not None:
            return self._count(await self._settle(row, outcome))
        other = self._ids.add(session.session_id, row.key)
        if other is not None:
            mixed = DuplicateSessionError(
                f"the API gave the session of row {other!r} to row {row.key!r} too: show neither page"
            )
            self._switch.stop(mixed)
            outcome = attrs.evolve(outcome, state=OutcomeState.IN_DOUBT, session=None, error=mixed)
        return self._count(outcome)

    async def _failure(self, row: Row, failure: BaseException) -> Outcome | None:
        now = asyncio.get_running_loop().time()
        if not isinstance(failure, HPPError):
            self._switch.stop(failure)
            failure = LostResponseError(
                "create raised what is no HPPError: the session may exist", cause=type(failure).__name__, attempts=1
            )
        row.attempts += failure.attempts
        if for_every_row(failure):
            self._switch.stop(stop_for_every_row(failure))
            if not isinstance(failure, AuthenticationError):
                row.sent = failure
                return None
        elif not_processed(failure):
            row.sent = failure
            self._switch.stop_if(self._stops.held_back(row.wave, failure, now))
            return None
        if isinstance(failure, OutcomeUnknownError):
            self._switch.stop_if(self._stops.in_doubt(row.wave, failure, now))
            return self._count(await self._settle(row, self._outcome(row, OutcomeState.IN_DOUBT, failure)))
        careful = self._stops.careful
        self._switch.stop_if(self._stops.failed(row.wave, failure))
        if careful and not self._stops.careful:
            self._switch.ring()
        if row.doubt is not None:
            # This time it was refused; the first time it may have been processed nevertheless.
            failure = _still_in_doubt(failure)
            return self._count(await self._settle(row, self._outcome(row, OutcomeState.IN_DOUBT, failure)))
        return self._count(await self._settle(row, self._outcome(row, OutcomeState.FAILED, failure)))

    def _invalid(self, row: Row, error: HPPError) -> Outcome:
        self._switch.stop_if(self._stops.failed(row.wave, error))
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


def _journal_error(error: Exception) -> JournalError:
    return JournalError(
        f"the journal failed with {type(error).__name__}, which is no JournalError", cause=repr(type(error))
    )


def _still_in_doubt(error: HPPError) -> LostResponseError:
    return LostResponseError(
        f"an earlier run's attempt may have been processed: never repeat it. This run's ended so: {error}",
        last_error=error,
        attempts=error.attempts,
        correlation_id=error.correlation_id,
        cause=error.cause,
    )
