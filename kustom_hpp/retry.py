"""Decides when a call is retried. Works on the library's errors, without I/O.

The client retries a call after a ConnectError (not a CertificateError) and after a 429: the API did not process those
attempts. An attempt that the API may have processed is retried only for an idempotent operation, with
`on_unknown="resend"`, or where the API's documents ask for it. An accepted request is never retried, except a read whose
response the network cut off.

The first attempt runs without tenacity. Its failure loads tenacity, which counts that failure as attempt 1.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from attrs import frozen

from kustom_hpp._messages import Delivery
from kustom_hpp._protocol.operations import Operation
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

Attempt = Callable[[], Awaitable[Any]]
OnRetry = Callable[[int, float, HPPError], None]
"""Called with (number of the failed attempt, wait in seconds, its error) before each wait."""

_NO_ATTEMPT = (ClientClosedError, ConfigError, DeadlineExceededError, LeaseLostError, WrongLoopError)
"""Errors raised before an attempt begins. They do not count as one."""
_CODE = r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*"
"""The form of the API's own codes. Source: docs.kustom.co, errors in checkout and "Distribute an HPP session"."""


class RetryQuota:
    """Tokens that retries cost, so that an outage does not multiply a client's requests.

    The numbers are those of the AWS SDKs' standard mode: 500 tokens, 14 for a retry, 5 after a 429, 1 back for each
    success. One for each client.
    """

    CAPACITY = 500
    COST = 14
    THROTTLED_COST = 5

    def __init__(self) -> None:
        self.tokens = self.CAPACITY

    def acquire(self, error: HPPError) -> bool:
        """Pay for a retry after this error; return False and take nothing if there are too few tokens."""
        cost = self.THROTTLED_COST if isinstance(error, RateLimitError) else self.COST
        if cost > self.tokens:
            return False
        self.tokens -= cost
        return True

    def release(self) -> None:
        """Return one token, after a success."""
        if self.tokens < self.CAPACITY:
            self.tokens += 1


@frozen(slots=False)
class RetryPolicy:
    """What decides about the retries of one call."""

    operation: Operation
    settings: RetrySettings
    deadline: float | None = None
    """The time on the event loop's clock when the caller stops waiting; None for no deadline."""


class CallState:
    """The counters of one call."""

    __slots__ = ("attempts", "earlier_delivery", "started_at")

    def __init__(self) -> None:
        self.attempts = 0
        """Attempts so far. Each one tried to get a connection; not each one sent its request."""
        self.started_at: float | None = None
        """When the first attempt started, on the event loop's clock."""
        self.earlier_delivery: Delivery | None = None
        """The delivery of all attempts but the last."""


def is_retryable(error: BaseException, policy: RetryPolicy) -> bool:
    """Return True if the policy allows a retry after this error, time and quota aside."""
    if not isinstance(error, HPPError):
        return False  # above all a cancellation
    if isinstance(error, RateLimitError):
        return True
    if isinstance(error, ConnectError):
        return not isinstance(error, CertificateError)
    operation = policy.operation
    if isinstance(error, OutcomeUnknownError) and error.resendable:
        return operation.idempotent or policy.settings.on_unknown == "resend" or _is_documented_retry(error, operation)
    # Only a response that the network cut off has a cause: a retry of the others would end in the same way.
    return operation.safe and isinstance(error, DecodeError) and error.cause is not None


def _is_documented_retry(error: HPPError, operation: Operation) -> bool:
    """Return True if the API itself asks for a retry; without a code in its form the response may be a gateway's."""
    if not isinstance(error, ApiError) or error.status not in operation.retry_statuses:
        return False
    return re.fullmatch(_CODE, error.code or "") is not None


async def run_with_retries(
    attempt: Attempt,
    first: HPPError,
    *,
    policy: RetryPolicy,
    quota: RetryQuota,
    state: CallState,
    on_retry: OnRetry | None = None,
) -> Any:
    """Return the value of a retry, or raise the call's error.

    Args:
        attempt: makes one attempt, or raises one of the library's errors.
        first: the error of the first attempt.
        policy: what decides.
        quota: the client's tokens.
        state: the call's counters; valid also after a failure or a cancellation.
        on_retry: called before each wait.

    Raises:
        HPPError: the last attempt's error, with the delivery of the whole call; a LostResponseError if the API may have
            processed an earlier attempt.

    """
    failure = first
    _count_attempt(state, failure)
    if is_retryable(failure, policy):
        outcome = await _retry_with_tenacity(
            attempt, failure, policy=policy, quota=quota, state=state, on_retry=on_retry
        )
        if not isinstance(outcome, HPPError):
            return outcome
        failure = outcome
    try:
        raise _final_error(failure, policy, state)
    finally:
        del failure, first  # otherwise error, traceback and frame refer to each other until the collector runs


async def _retry_with_tenacity(
    attempt: Attempt,
    first: HPPError,
    *,
    policy: RetryPolicy,
    quota: RetryQuota,
    state: CallState,
    on_retry: OnRetry | None,
) -> Any:
    """Return the value, or the error that ends the call."""
    import tenacity

    callbacks = _TenacityCallbacks(policy, quota, state, on_retry)
    replay = [first]  # tenacity counts what it runs: its first call raises the first attempt's error again

    async def run() -> Any:
        if replay:
            raise replay.pop()
        try:
            value = await attempt()
        except HPPError as error:
            _count_attempt(state, error)
            raise
        state.attempts += 1
        return value

    retrying = tenacity.AsyncRetrying(
        sleep=asyncio.sleep,
        retry=tenacity.retry_if_exception(lambda error: is_retryable(error, policy)),
        wait=callbacks.wait,
        stop=callbacks.stop,
        before_sleep=callbacks.before_sleep,
        reraise=True,
    )
    try:
        return await retrying(run)
    except HPPError as error:
        # tenacity raises inside its own handlers: the context that it added is not the caller's.
        if isinstance(error, DeadlineExceededError) and callbacks.last is not None:
            # The rate limiter or busy connections used up the time. The caller gets the error that caused the retry.
            error, state.earlier_delivery = callbacks.last
        error.__cause__ = error.__context__ = None
        error.__traceback__ = None
        return error


class _TenacityCallbacks:
    """Tenacity's questions after each failure: how long to wait, and whether to stop."""

    def __init__(self, policy: RetryPolicy, quota: RetryQuota, state: CallState, on_retry: OnRetry | None) -> None:
        import tenacity

        settings = policy.settings
        self._policy = policy
        self._quota = quota
        self._state = state
        self._on_retry = on_retry
        self.last: tuple[HPPError, Delivery | None] | None = None
        """The error before the latest wait, and the delivery of the attempts before it."""
        self._backoff = tenacity.wait_random_exponential(multiplier=settings.initial, max=settings.maximum)
        self._spread = tenacity.wait_random(0, settings.initial)

    def wait(self, retry_state: "RetryCallState") -> float:
        """Return the seconds that the response asks for, else full jitter."""
        requested = _retry_after(_error_of(retry_state))
        # Many clients may get the same moment. They spread over the first backoff step after it, never before it.
        return self._backoff(retry_state) if requested is None else requested + self._spread(retry_state)

    def stop(self, retry_state: "RetryCallState") -> bool:
        """Return True if attempts, Retry-After, time or quota end the call. The quota last: asking it takes tokens.

        tenacity has called `wait` before, so `upcoming_sleep` is the wait of this retry.
        """
        error, settings = _error_of(retry_state), self._policy.settings
        return (
            retry_state.attempt_number >= settings.max_attempts
            or (_retry_after(error) or 0.0) > settings.retry_after_cap
            or not _fits_time_limits(retry_state.upcoming_sleep, self._policy, self._state)
            or not self._quota.acquire(error)
        )

    def before_sleep(self, retry_state: "RetryCallState") -> None:
        """Record the delivery of the failed attempt, and report the retry."""
        error, state = _error_of(retry_state), self._state
        self.last = error, state.earlier_delivery
        state.earlier_delivery = Delivery.worst(state.earlier_delivery, error.delivery)
        if self._on_retry is not None:
            self._on_retry(retry_state.attempt_number, retry_state.upcoming_sleep, error)


def _error_of(retry_state: "RetryCallState") -> HPPError:
    outcome = retry_state.outcome
    error = outcome.exception() if outcome is not None else None
    assert isinstance(error, HPPError)  # noqa: S101 - only the library's errors are retried
    return error


def _retry_after(error: HPPError) -> float | None:
    return error.retry_after if isinstance(error, ApiError) else None


def _fits_time_limits(wait: float, policy: RetryPolicy, state: CallState) -> bool:
    """Return True if an attempt after this wait starts within the budget and before the deadline."""
    now = asyncio.get_running_loop().time()
    started_at = now if state.started_at is None else state.started_at
    in_budget = now + wait - started_at <= policy.settings.budget
    return in_budget and (policy.deadline is None or now + wait < policy.deadline)


def _count_attempt(state: CallState, error: HPPError) -> None:
    if not isinstance(error, _NO_ATTEMPT):
        state.attempts += 1


def _final_error(error: HPPError, policy: RetryPolicy, state: CallState) -> HPPError:
    """Return the error of the whole call.

    It is the last attempt's error, or a LostResponseError around it if the API may have processed an earlier attempt. The
    earlier attempts of a read do not matter: they changed nothing.
    """
    earlier = None if policy.operation.safe else state.earlier_delivery
    delivery = Delivery.worst(earlier, error.delivery)
    if earlier is Delivery.UNKNOWN:
        return LostResponseError(
            f"the outcome of an earlier attempt is unknown: {policy.operation.unknown_outcome_advice}. "
            f"Last attempt: {error}",
            timed_out=getattr(error, "timed_out", False),
            last_error=error,
            delivery=delivery,
            attempts=state.attempts,
            correlation_id=error.correlation_id,
            cause=error.cause,
        )
    error.delivery = delivery
    error.attempts = state.attempts
    return error
