"""One call: takes turns, sends, reads, tells the hooks. What decides stands in the rooms below."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from attrs import frozen

from kustom_hpp import retry
from kustom_hpp._messages import CallInfo, Delivery, HttpRequest, HttpResponse, RateLimit, SendMarker
from kustom_hpp._protocol.operations import Operation
from kustom_hpp._protocol.request_builder import Protocol, correlation_id, rate_limit, with_info
from kustom_hpp._protocol.session_requests import Done
from kustom_hpp.errors import DeadlineExceededError, HPPError, NotFoundError, RateLimitError
from kustom_hpp.events import Finished, Hooks, Retrying, Started
from kustom_hpp.pace import Pace
from kustom_hpp.transport import Transport


@frozen(kw_only=True, slots=True)
class Parts:
    """What all calls of a client share."""

    protocol: Protocol
    transport: Transport
    pace: Pace
    quota: retry.Quota
    hooks: Hooks


async def run(parts: Parts, operation: Operation, request: Any, http_request: HttpRequest, rules: retry.Rules) -> Any:
    """One call: its value, or one of our errors.

    Implementation note: with no deadline, no rate and no hooks there is nothing around the first attempt, so it runs as
    it is, and only its failure makes a `Call`. That saves a tenth of the CPU of a call that succeeds.
    """
    if rules.deadline is not None or parts.pace.rate is not None or parts.hooks:
        call = Call(parts, operation, request, http_request, rules)
        return await (call.run_with_hooks() if parts.hooks else call.run())
    answer, began = None, time.monotonic()
    try:
        answer = await parts.transport.send(http_request, SendMarker())
        value = parts.protocol.read(operation, request, answer)
    except HPPError as error:
        failed = error
    else:
        parts.quota.success()
        parts.pace.accepted(began)
        info = _info(answer, rate_limit(answer.headers), elapsed=time.monotonic() - began)
        if info.rate_limit is not None:
            parts.pace.heard(began, limit=info.rate_limit)
        return with_info(value, info)
    if answer is not None:
        _report(parts.pace, began, rate_limit(answer.headers), failed)
    call = Call(parts, operation, request, http_request, rules)
    call.began = call.now() - (time.monotonic() - began)
    return await call.run(failed=failed)


def _report(pace: Pace, sent: float, limit: RateLimit | None, error: HPPError | None = None) -> None:
    """Tell the pace what came of an attempt that was answered."""
    if isinstance(error, RateLimitError):
        pace.heard(sent, throttled=True, limit=limit, retry_after=error.retry_after)
    else:
        pace.heard(sent, limit=limit)


def _info(
    answer: HttpResponse, limit: RateLimit | None, *, elapsed: float, attempts: int = 1, earlier_unknown: bool = False
) -> CallInfo:
    return CallInfo(
        attempts=attempts,
        elapsed=elapsed,
        status=answer.status,
        correlation_id=correlation_id(answer.headers),
        rate_limit=limit,
        earlier_unknown=earlier_unknown,
    )


class Call(retry.Progress):
    """One call: its attempts share an encoded request, a deadline and a progress, which it is itself."""

    __slots__ = ("answer", "http_request", "limit", "mark", "now", "operation", "parts", "request", "rules")

    def __init__(
        self,
        parts: Parts,
        operation: Operation,
        request: Any,
        http_request: HttpRequest,
        rules: retry.Rules,
    ) -> None:
        super().__init__()
        self.parts = parts
        self.operation = operation
        self.request = request
        self.http_request = http_request
        self.rules = rules
        self.now = asyncio.get_running_loop().time
        self.mark: SendMarker | None = None
        """The attempt in flight; None between attempts."""
        self.answer: HttpResponse | None = None
        self.limit: RateLimit | None = None
        """The quota as the last answer told it."""

    async def attempt(self) -> Any:
        """Take a turn, send, read."""
        parts, until = self.parts, self.rules.deadline
        # Pace counts on one clock for all event loops of the process.
        sent = await parts.pace.turn(None if until is None else until - self.now() + time.monotonic())
        began = self.now()
        if until is not None and began >= until:
            msg = "the deadline had passed before the request's turn: nothing was sent"
            raise DeadlineExceededError(msg)
        if self.began is None:
            self.began = began
        self.mark, answer = SendMarker(), None
        try:
            answer = self.answer = await parts.transport.send(self.http_request, self.mark)
            self.limit = rate_limit(answer.headers)
            value = parts.protocol.read(self.operation, self.request, answer)
        except HPPError as error:
            self.mark = None
            if answer is not None:
                _report(parts.pace, sent, self.limit, error)
            if self._has_been_done(error):
                return Done()
            raise
        _report(parts.pace, sent, self.limit)
        return value

    def _has_been_done(self, error: HPPError) -> bool:
        """Whether an error says that an earlier attempt of this call, whose answer was lost, has done it."""
        return self.operation.gone_is_done and self.earlier is Delivery.UNKNOWN and isinstance(error, NotFoundError)

    async def run(
        self, on_retry: Callable[[int, float, HPPError], None] | None = None, failed: HPPError | None = None
    ) -> Any:
        """The value, with how the call went."""
        value = await retry.call(self.attempt, self.rules, self.parts.quota, self, on_retry, failed)
        answer, began = self.answer, self.began
        assert answer is not None  # noqa: S101 - a value was read from it
        assert began is not None  # noqa: S101
        earlier_unknown = self.earlier is Delivery.UNKNOWN
        elapsed = self.now() - began
        info = _info(answer, self.limit, elapsed=elapsed, attempts=self.attempts, earlier_unknown=earlier_unknown)
        return with_info(value, info)

    async def run_with_hooks(self) -> Any:
        """The same, told to the hooks."""
        hooks, name, started = self.parts.hooks, self.operation.name, self.now()
        call = os.urandom(8).hex()
        hooks.emit(self._started(call))

        def on_retry(attempt: int, wait: float, error: HPPError) -> None:
            hooks.emit(Retrying(call=call, operation=name, attempt=attempt, wait=wait, error=error))

        try:
            value = await self.run(on_retry)
        except HPPError as error:
            hooks.emit(self._finished(call, started, error.delivery, error=error))
            raise
        except BaseException as error:
            in_flight = self.mark.delivery if self.mark is not None else None
            delivery, ended = Delivery.worst(self.earlier, in_flight), not isinstance(error, Exception)
            hooks.emit(self._finished(call, started, delivery, cancelled=ended))
            raise
        hooks.emit(self._finished(call, started, Delivery.ACCEPTED))
        return value

    def _started(self, call: str) -> Started:
        url = self.http_request.url
        return Started(
            call=call,
            operation=self.operation.name,
            method=self.http_request.method,
            url=str(url.with_user(None).with_query(None).with_fragment(None)),
            host=url.host or "",
            port=url.port or 0,
            path=self.operation.path,
        )

    def _finished(
        self,
        call: str,
        started: float,
        delivery: Delivery | None,
        *,
        error: HPPError | None = None,
        cancelled: bool = False,
    ) -> Finished:
        answer = self.answer
        identity = error.correlation_id if error is not None else None
        return Finished(
            call=call,
            operation=self.operation.name,
            attempts=self.attempts
            + (1 if error is None and delivery is not Delivery.ACCEPTED and self.mark is not None else 0),
            elapsed=self.now() - started,
            delivery=delivery,
            status=answer.status if answer is not None else None,
            correlation_id=identity or (correlation_id(answer.headers) if answer is not None else None),
            error=error,
            cancelled=cancelled,
            repeatable=self.operation.repeatable,
        )
