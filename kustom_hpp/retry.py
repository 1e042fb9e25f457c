"""When to try again: judges our errors, and knows no HTTP.

A call is sent again after NOT_SENT and after 429, nothing else: those are known not to have been processed. What may have
been processed is sent again only for a repeatable operation, with `on_unknown="resend"`, or where the documents say so;
what was accepted, never, unless it was a read whose answer was cut off.

The first attempt runs bare. Only a failure wakes tenacity, which is fed that failure as its first attempt.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from attrs import frozen

from kustom_hpp._messages import IN_DOUBT, Delivery
from kustom_hpp.config import RetrySettings
from kustom_hpp.errors import (
    ApiError,
    CertificateError,
    ClientClosedError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    DecodeError,
    HPPError,
    LeaseLostError,
    LostResponseError,
    OutcomeUnknownError,
    RateLimitError,
    WrongLoopError,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

_NO_ATTEMPT = (ClientClosedError, ConfigError, DeadlineExceededError, LeaseLostError, WrongLoopError)
"""Errors of a turn that came to no request."""
_CODE = r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*"
"""The form of the API's own codes. Source: docs.kustom.co, errors in checkout and "Distribute an HPP session"."""


class Quota:
    """Tokens that further attempts cost, so that an outage does not multiply a client's requests.

    The numbers are those of the AWS SDKs' standard mode: 500 tokens, 14 for another attempt, 5 after a 429, 1 back for
    each success. One for each client.
    """

    CAPACITY = 500
    COST = 14
    THROTTLED_COST = 5

    def __init__(self) -> None:
        self.tokens = self.CAPACITY

    def take(self, error: HPPError) -> bool:
        """Pay for another attempt after this error; False, and nothing taken, where the tokens do not reach."""
        cost = self.THROTTLED_COST if isinstance(error, RateLimitError) else self.COST
        if cost > self.tokens:
            return False
        self.tokens -= cost
        return True

    def success(self) -> None:
        """Give a token back."""
        if self.tokens < self.CAPACITY:
            self.tokens += 1


@frozen(kw_only=True, slots=False)
class Rules:
    """What decides about further attempts of one call."""

    settings: RetrySettings
    repeatable: bool
    """True where doing it twice does no harm."""
    deadline: float | None
    """The time on the event loop's clock after which the caller no longer waits."""
    safe: bool = False
    """True where it changes nothing: a read. Then what came of earlier attempts does not matter."""
    try_again: frozenset[int] = frozenset()
    """Statuses that the documents answer with "try again", where they come in the API's own words."""
    in_doubt: str = IN_DOUBT
    """What an unknown outcome means for the caller: part of that error's text."""


class Progress:
    """How far one call has come."""

    __slots__ = ("attempts", "began", "earlier")

    def __init__(self) -> None:
        self.attempts = 0
        """Requests made so far."""
        self.began: float | None = None
        """When the first attempt got its turn, on the event loop's clock."""
        self.earlier: Delivery | None = None
        """What is known about all attempts but the last."""


def worth_repeating(error: BaseException, rules: Rules) -> bool:
    """Whether the rules allow another attempt after this error, time and quota aside."""
    if not isinstance(error, HPPError):
        return False  # cancellation above all
    if isinstance(error, RateLimitError):
        return True
    if isinstance(error, ConnectError):
        return not isinstance(error, CertificateError)
    if isinstance(error, OutcomeUnknownError) and error.resendable:
        return rules.repeatable or rules.settings.on_unknown == "resend" or _is_documented(error, rules)
    return rules.safe and isinstance(error, DecodeError) and error.cause is not None  # cut off on its way


def _is_documented(error: HPPError, rules: Rules) -> bool:
    """Whether the API itself asks to try again; a status alone, or a code of another form, may be some gateway's."""
    if not isinstance(error, ApiError) or error.status not in rules.try_again:
        return False
    return re.fullmatch(_CODE, error.code or "") is not None


async def call(  # noqa: PLR0917 - what one call is made of
    attempt: Callable[[], Awaitable[T]],
    rules: Rules,
    quota: Quota,
    progress: Progress,
    on_retry: Callable[[int, float, HPPError], None] | None = None,
    failed: HPPError | None = None,
) -> T:
    """Run an attempt, and again as far as the rules, the quota and the time allow.

    Args:
        attempt: one attempt; it takes its turn, sets `progress.began` at the first one, and raises one of our errors.
        rules: what decides.
        quota: the client's tokens.
        progress: how far the call has come; read it also after a failure or a cancellation.
        on_retry: told (number of the failed attempt, wait in seconds, its error) before each wait.
        failed: what the first attempt ended with, where the caller has made that one himself.

    Raises:
        HPPError: the last attempt's error, with the delivery of the whole call; a LostResponseError where an earlier
            attempt may have been processed.

    """
    if failed is None:
        try:
            result = await attempt()
        except HPPError as error:
            failed = error
        else:
            progress.attempts += 1
            quota.success()
            return result
    failure = failed
    # Out of the except block, so that nothing of the failure clings to what is raised later.
    _count(progress, failure)
    if worth_repeating(failure, rules):
        outcome = await _again(attempt, failure, rules=rules, quota=quota, progress=progress, on_retry=on_retry)
        if not isinstance(outcome, HPPError):
            quota.success()
            return outcome
        failure = outcome
    try:
        raise _of_the_whole_call(failure, rules, progress)
    finally:
        del failure, failed  # or error, traceback and frame would hold one another until the collector comes


async def _again(
    attempt: Callable[[], Awaitable[T]],
    first: HPPError,
    *,
    rules: Rules,
    quota: Quota,
    progress: Progress,
    on_retry: Callable[[int, float, HPPError], None] | None,
) -> T | HPPError:
    """Tenacity's part: the result, or the error that ends the call."""
    import tenacity

    policy = _Policy(rules, quota, progress, on_retry)
    replay = [first]

    async def run() -> T:
        if replay:
            raise replay.pop()
        try:
            result = await attempt()
        except HPPError as error:
            _count(progress, error)
            raise
        progress.attempts += 1
        return result

    retrying = tenacity.AsyncRetrying(
        sleep=asyncio.sleep,
        retry=tenacity.retry_if_exception(lambda error: worth_repeating(error, rules)),
        wait=policy.wait,
        stop=policy.stop,
        before_sleep=policy.before_sleep,
        reraise=True,
    )
    try:
        return await retrying(run)
    except HPPError as error:
        # tenacity raises inside its own handlers: what it hung on the error is not ours to show.
        if isinstance(error, DeadlineExceededError) and policy.last is not None:
            # A wait that does not fit ends with the error that caused it.
            error, progress.earlier = policy.last
        error.__cause__ = error.__context__ = None
        error.__traceback__ = None
        return error


class _Policy:
    """What tenacity asks after each failure: how long to wait, whether to stop, and what to do before the wait."""

    def __init__(
        self,
        rules: Rules,
        quota: Quota,
        progress: Progress,
        on_retry: Callable[[int, float, HPPError], None] | None,
    ) -> None:
        import tenacity

        settings = rules.settings
        self._rules = rules
        self._quota = quota
        self._progress = progress
        self._on_retry = on_retry
        self.last: tuple[HPPError, Delivery | None] | None = None
        """What the latest wait was for, and what was known of the attempts before that."""
        self._backoff = tenacity.wait_random_exponential(multiplier=settings.initial, max=settings.maximum)
        self._spread = tenacity.wait_random(0, settings.initial)

    def wait(self, state: "RetryCallState") -> float:
        """Seconds: what the answer asks for, else full jitter."""
        asked = _asked_for(_error_of(state))
        # A herd that was told the same moment spreads over the first backoff step, never before that moment.
        return self._backoff(state) if asked is None else asked + self._spread(state)

    def stop(self, state: "RetryCallState") -> bool:
        """Whether attempts, the answer's own wish, time or quota end it. The quota last: it is paid by asking."""
        error, settings = _error_of(state), self._rules.settings
        return (
            state.attempt_number >= settings.max_attempts
            or (_asked_for(error) or 0.0) > settings.retry_after_cap
            or not _fits(state.upcoming_sleep, self._rules, self._progress)
            or not self._quota.take(error)
        )

    def before_sleep(self, state: "RetryCallState") -> None:
        """Remember what is known of the attempt that ended, and tell the hooks."""
        error = _error_of(state)
        self.last = error, self._progress.earlier
        self._progress.earlier = Delivery.worst(self._progress.earlier, error.delivery)
        if self._on_retry is not None:
            self._on_retry(state.attempt_number, state.upcoming_sleep, error)


def _error_of(state: "RetryCallState") -> HPPError:
    outcome = state.outcome
    error = outcome.exception() if outcome is not None else None
    assert isinstance(error, HPPError)  # noqa: S101 - only our errors are repeated
    return error


def _asked_for(error: HPPError) -> float | None:
    return error.retry_after if isinstance(error, ApiError) else None


def _fits(wait: float, rules: Rules, progress: Progress) -> bool:
    """Whether an attempt after this wait begins within the budget and before the deadline."""
    now = asyncio.get_running_loop().time()
    began = now if progress.began is None else progress.began
    in_budget = now + wait - began <= rules.settings.budget
    return in_budget and (rules.deadline is None or now + wait < rules.deadline)


def _count(progress: Progress, error: HPPError) -> None:
    if not isinstance(error, _NO_ATTEMPT):
        progress.attempts += 1


def _of_the_whole_call(error: HPPError, rules: Rules, progress: Progress) -> HPPError:
    """The last attempt's error, made to tell about the whole call."""
    earlier = None if rules.safe else progress.earlier
    delivery = Delivery.worst(earlier, error.delivery)
    if earlier is Delivery.UNKNOWN:
        return LostResponseError(
            f"what came of an earlier attempt of this call is unknown: {rules.in_doubt}. The last one ended so: {error}",
            timed_out=getattr(error, "timed_out", False),
            last_error=error,
            delivery=delivery,
            attempts=progress.attempts,
            correlation_id=error.correlation_id,
            cause=error.cause,
        )
    error.delivery = delivery
    error.attempts = progress.attempts
    return error
