"""One call: its attempts, its hooks, its CallInfo. The layers below decide; this one composes them."""

import asyncio
import os
import time
from collections.abc import Coroutine
from typing import Any

from attrs import frozen

from kustom_hpp import retry
from kustom_hpp._messages import CallInfo, Delivery, HttpRequest, HttpResponse, RateLimit, SendMarker
from kustom_hpp._protocol.request_builder import CallInput, RequestDefaults, build_request
from kustom_hpp._protocol.response_headers import correlation_id, rate_limit
from kustom_hpp._protocol.response_reader import NoContent, attach_call_info, read_response
from kustom_hpp.errors import DeadlineExceededError, HPPError, NotFoundError, RateLimitError
from kustom_hpp.events import Finished, Hooks, Retrying, Started
from kustom_hpp.pace import Pace
from kustom_hpp.transport import Transport


@frozen(kw_only=True, slots=True)
class CallContext:
    """The parts that the calls of a client share."""

    defaults: RequestDefaults
    transport: Transport
    pace: Pace
    retry_quota: retry.RetryQuota
    hooks: Hooks


def execute(context: CallContext, call: CallInput, policy: retry.RetryPolicy) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that makes a call and returns its value.

    This function builds the request, so that an invalid one raises before any event.

    Raises:
        HPPError: with the delivery and the number of attempts of the whole call.

    """
    execution = CallExecution(context, call, policy)
    return execution.run_with_hooks() if context.hooks else execution.run()


class CallExecution(retry.CallState):
    """A call while it runs. Its attempts share the encoded request, the deadline and this object's counters."""

    __slots__ = ("call", "context", "http_request", "in_flight_marker", "last_rate_limit", "now", "policy", "response")

    def __init__(self, context: CallContext, call: CallInput, policy: retry.RetryPolicy) -> None:
        super().__init__()
        self.context = context
        self.call = call
        self.policy = policy
        self.http_request: HttpRequest = build_request(context.defaults, call, policy.deadline)
        self.now = asyncio.get_running_loop().time
        self.in_flight_marker: SendMarker | None = None
        """The marker of the attempt in flight, or of the one that succeeded; None between attempts."""
        self.response: HttpResponse | None = None
        self.last_rate_limit: RateLimit | None = None
        """The rate limit in the last response."""

    async def attempt(self) -> Any:
        """Wait for the rate limiter, send the request, and read the response."""
        context, deadline = self.context, self.policy.deadline
        pace = context.pace
        # The rate limiter counts on time.monotonic, the same for all event loops of the process.
        if pace.rate is None:
            acquired = time.monotonic()
        else:
            acquired = await pace.acquire(None if deadline is None else deadline - self.now() + time.monotonic())
        started = self.now()
        if deadline is not None and started >= deadline:
            raise DeadlineExceededError("the deadline passed before the request could be sent")
        if self.started_at is None:
            self.started_at = started
        marker = self.in_flight_marker = SendMarker()
        response = self.response = None
        try:
            response = self.response = await context.transport.send(self.http_request, marker)
            self.last_rate_limit = rate_limit(response.headers)
            value = read_response(context.defaults.settings, self.call, response)
        except HPPError as error:
            self.in_flight_marker = None
            if response is not None:
                pace.record_response(
                    acquired,
                    throttled=isinstance(error, RateLimitError),
                    limit=self.last_rate_limit,
                    retry_after=error.retry_after if isinstance(error, RateLimitError) else None,
                )
            if self._already_done(error):
                return NoContent()
            raise
        pace.record_response(acquired, limit=self.last_rate_limit)
        return value

    def _already_done(self, error: HPPError) -> bool:
        """Return True if an error shows that an earlier attempt, whose response was lost, succeeded."""
        return (
            self.call.operation.not_found_means_done
            and self.earlier_delivery is Delivery.UNKNOWN
            and isinstance(error, NotFoundError)
        )

    async def run(self, on_retry: retry.OnRetry | None = None) -> Any:
        """Make the attempts and return the value with its CallInfo. A cancellation gets a `delivery`, as errors have."""
        quota = self.context.retry_quota
        failure: HPPError | None = None
        value: Any = None
        # The first attempt runs without tenacity. Only its failure starts the retry loop.
        try:
            value = await self.attempt()
        except HPPError as error:
            failure = error
        except asyncio.CancelledError as error:
            self._attach_delivery(error)
            raise
        else:
            self.attempts = 1
        if failure is not None:
            # Outside of the except block, so that a later error does not carry this one as its context.
            try:
                value = await retry.run_with_retries(
                    self.attempt, failure, policy=self.policy, quota=quota, state=self, on_retry=on_retry
                )
            except asyncio.CancelledError as error:
                self._attach_delivery(error)
                raise
            finally:
                del failure  # otherwise error, traceback and frame refer to each other until the collector runs
        quota.release()
        response, started_at = self.response, self.started_at
        assert response is not None  # noqa: S101 - a value was read from it
        assert started_at is not None  # noqa: S101
        info = CallInfo(
            attempts=self.attempts,
            elapsed=self.now() - started_at,
            status=response.status,
            correlation_id=correlation_id(response.headers),
            rate_limit=self.last_rate_limit,
            earlier_unknown=self.earlier_delivery is Delivery.UNKNOWN,
        )
        return attach_call_info(value, info)

    def _attach_delivery(self, cancellation: asyncio.CancelledError) -> None:
        cancellation.delivery = self._delivery_now()  # type: ignore[attr-defined]

    def _delivery_now(self) -> Delivery | None:
        """Return what is known about the call if it is cancelled now."""
        in_flight = self.in_flight_marker.delivery if self.in_flight_marker is not None else None
        return Delivery.worst(self.earlier_delivery, in_flight)

    async def run_with_hooks(self) -> Any:
        """Do what `run` does, and report it to the hooks."""
        hooks, operation, started = self.context.hooks, self.call.operation.name, self.now()
        call_id = os.urandom(8).hex()
        hooks.emit(self._started(call_id))

        def on_retry(attempt: int, wait: float, error: HPPError) -> None:
            hooks.emit(Retrying(call_id=call_id, operation=operation, attempt=attempt, wait=wait, error=error))

        try:
            value = await self.run(on_retry)
        except HPPError as error:
            hooks.emit(self._finished(call_id, started, error.delivery, error=error))
            raise
        except BaseException as error:
            cancelled = not isinstance(error, Exception)
            hooks.emit(self._finished(call_id, started, self._delivery_now(), cancelled=cancelled))
            raise
        hooks.emit(self._finished(call_id, started, Delivery.ACCEPTED))
        return value

    def _started(self, call_id: str) -> Started:
        url = self.http_request.url
        return Started(
            call_id=call_id,
            operation=self.call.operation.name,
            method=self.http_request.method,
            url=str(url.with_user(None).with_query(None).with_fragment(None)),
            host=url.host or "",
            port=url.port or 0,
            path=self.call.operation.path,
        )

    def _finished(
        self,
        call_id: str,
        started: float,
        delivery: Delivery | None,
        *,
        error: HPPError | None = None,
        cancelled: bool = False,
    ) -> Finished:
        response = self.response
        identity = error.correlation_id if error is not None else None
        # After a cancellation the attempt in flight counts too; with a value or an error it is counted already.
        in_flight = error is None and delivery is not Delivery.ACCEPTED and self.in_flight_marker is not None
        return Finished(
            call_id=call_id,
            operation=self.call.operation.name,
            attempts=self.attempts + in_flight,
            elapsed=self.now() - started,
            delivery=delivery,
            status=response.status if response is not None else None,
            correlation_id=identity or (correlation_id(response.headers) if response is not None else None),
            error=error,
            cancelled=cancelled,
            idempotent=self.call.operation.idempotent,
        )
