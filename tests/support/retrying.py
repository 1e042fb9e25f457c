"""What the tests of retrying share: a scripted attempt, and one call with its story."""

import asyncio
from collections.abc import Callable
from typing import Any

from attrs import define, field

import kustom_hpp as hpp
from kustom_hpp import retry
from kustom_hpp._protocol.operations import Operation

NO_JITTER = hpp.RetrySettings(initial=0.0)
"""Every wait is exactly what the answer asks for, or none."""


def settings(**changes: Any) -> hpp.RetrySettings:
    options: dict[str, Any] = {"initial": 0.0} | changes
    return hpp.RetrySettings(**options)


def operation(**facts: Any) -> Operation:
    return Operation(**{"name": "x", "method": "POST", "path": "/x"} | facts)


@define(kw_only=True)
class Story:
    """One call: what it shall meet, and what came of it."""

    steps: list[Any]
    """For each attempt what it raises or returns; a callable is called, and what it gives is awaited."""
    settings: hpp.RetrySettings = NO_JITTER
    idempotent: bool = False
    facts: dict[str, Any] = field(factory=dict)
    """What else the operation's row says."""
    deadline: float | None = None
    """In seconds from the call's beginning."""
    quota: retry.RetryQuota = field(factory=retry.RetryQuota)
    state: retry.CallState = field(factory=retry.CallState)
    failed: hpp.HPPError | None = None
    """What the first attempt ended with, where it was made before the call."""
    turn: float = 0.0
    """Seconds until the first attempt has its turn."""
    lasting: float = 0.0
    """Seconds that each attempt takes."""
    began: list[float] = field(factory=list)
    """When each attempt began, in seconds from the call's beginning."""
    retried: list[tuple[int, float, hpp.HPPError]] = field(factory=list)
    """What on_retry was told."""
    retried_at: list[float] = field(factory=list)
    """When it was told, in seconds from the call's beginning."""
    value: Any = None
    error: Any = None
    """The error of ours that ended it."""
    elapsed: float = 0.0

    async def attempt(self) -> Any:
        loop = asyncio.get_running_loop()
        if self.state.started_at is None:
            await asyncio.sleep(self.turn)
            self.state.started_at = loop.time()
        self.began.append(loop.time() - self._start)
        await asyncio.sleep(self.lasting)
        step = self.steps.pop(0)
        if isinstance(step, Callable):
            step = await step()
        if isinstance(step, BaseException):
            raise step
        return step

    def on_retry(self, attempt: int, wait: float, error: hpp.HPPError) -> None:
        self.retried.append((attempt, wait, error))
        self.retried_at.append(asyncio.get_running_loop().time() - self._start)

    async def run(self) -> "Story":
        """Make the call; our errors end in `error`, all others are raised."""
        loop = asyncio.get_running_loop()
        self._start = loop.time()
        deadline = None if self.deadline is None else self._start + self.deadline
        policy = retry.RetryPolicy(operation(idempotent=self.idempotent, **self.facts), self.settings, deadline)
        try:
            self.value = await self._call(policy)
        except hpp.HPPError as error:
            self.error = error
        self.elapsed = loop.time() - self._start
        return self

    async def _call(self, policy: retry.RetryPolicy) -> Any:
        failure = self.failed
        if failure is None:
            try:
                value = await self.attempt()
            except hpp.HPPError as error:
                failure = error
            else:
                self.state.attempts = 1
                self.quota.release()
                return value
        value = await retry.run_with_retries(
            self.attempt, failure, policy=policy, quota=self.quota, state=self.state, on_retry=self.on_retry
        )
        self.quota.release()
        return value

    _start: float = field(default=0.0, init=False)


async def story(*steps: Any, **options: Any) -> Story:
    return await Story(steps=list(steps), **options).run()


def connect() -> hpp.HPPError:
    return hpp.ConnectError("no connection")


def lost() -> hpp.HPPError:
    return hpp.LostResponseError("no answer")


def throttled(retry_after: float | None = None) -> hpp.HPPError:
    return hpp.RateLimitError("slow down", status=429, retry_after=retry_after)


def unavailable(retry_after: float | None = None) -> hpp.HPPError:
    return hpp.ServerError("not now", status=503, retry_after=retry_after)
