"""Events of a call, for hooks: logging, metrics, tracing.

A hook is a callable that takes an event. The client calls it in the call's task, so it must not block. A hook cannot change
a call: if it raises, the client logs the exception once and does not call the hook again.
"""

import logging
from collections.abc import Callable, Iterable

from attrs import frozen

from kustom_hpp._messages import Delivery
from kustom_hpp.errors import HPPError

__all__ = ["Finished", "Retrying", "Started", "log_events"]

_log = logging.getLogger("kustom_hpp")


@frozen(kw_only=True, slots=True)
class Started:
    """A call started; nothing was sent yet."""

    call_id: str
    """Random hexadecimal digits, the same in all events of one call."""
    operation: str
    """The name of the client's method, for example "create_session"."""
    method: str
    """The HTTP method."""
    url: str
    """The request's URL, without query, user and password."""
    host: str
    """The API's host."""
    port: int
    path: str
    """The operation's path below the base URL, the same for all its calls, with "{session_id}" in place of an id."""


@frozen(kw_only=True, slots=True)
class Retrying:
    """An attempt failed, and the client retries it after a wait."""

    call_id: str
    operation: str
    attempt: int
    """The number of the attempt that failed, from 1."""
    wait: float
    """Seconds until the next attempt."""
    error: HPPError
    """The error of the failed attempt."""


@frozen(kw_only=True, slots=True)
class Finished:
    """A call ended: with a response, with an error, or by cancellation (`error` is None and `cancelled` is True)."""

    call_id: str
    operation: str
    attempts: int
    elapsed: float
    """Seconds since the start of the call, all waits included."""
    delivery: Delivery | None
    """What is known about the whole call; None if nothing was attempted."""
    status: int | None
    """HTTP status of the last attempt's response; None if it got none."""
    correlation_id: str | None
    error: HPPError | None
    cancelled: bool = False
    """True if the call was cancelled, or the program interrupted."""
    idempotent: bool = False
    """True if the call can be repeated without harm, so that an unknown outcome does not matter."""

    @property
    def succeeded(self) -> bool:
        """True if the call returned a value."""
        return self.error is None and not self.cancelled and self.delivery is Delivery.ACCEPTED


Event = Started | Retrying | Finished
Hook = Callable[[Event], None]
"""The type of an element of `hooks=`."""


class Hooks:
    """The hooks of a client. False without hooks, so that a call without listeners creates no events."""

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = list(hooks)

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def emit(self, event: Event) -> None:
        """Call every hook; remove one that raises."""
        for hook in tuple(self._hooks):
            try:
                hook(event)
            except Exception:  # noqa: BLE001 - a hook must not end the call
                self._hooks.remove(hook)
                _log.exception("a hook raised an exception and is not called again; the call continues")


def log_events(event: Event) -> None:
    """Log one line for each call and each retry to the logger "kustom_hpp".

    The level is DEBUG for a success or a cancellation, WARNING for a retry or a failure, and ERROR if the outcome is
    unknown. A line has no URL, no body and no secret. The digits after the operation are the `call_id`.
    """
    if isinstance(event, Retrying):
        _log.warning(
            "%s %s: attempt %d failed, next in %.2f s: %s",
            event.operation,
            event.call_id,
            event.attempt,
            event.wait,
            event.error,
        )
    elif isinstance(event, Finished):
        _log.log(
            _level(event),
            "%s %s: %s after %d attempt(s) in %.3f s, delivery %s, correlation id %s%s",
            event.operation,
            event.call_id,
            _result_label(event),
            event.attempts,
            event.elapsed,
            event.delivery,
            event.correlation_id,
            f": {event.error}" if event.error else "",
        )


def _level(event: Finished) -> int:
    if event.succeeded:
        return logging.DEBUG
    if event.delivery is not None and event.delivery.may_have_taken_effect and not event.idempotent:
        return logging.ERROR
    return logging.DEBUG if event.cancelled else logging.WARNING


def _result_label(event: Finished) -> object:
    """Return the result of a call in one word; the class of a foreign exception is not shown."""
    if event.cancelled:
        return "cancelled"
    return event.status or (type(event.error).__name__ if event.error else "an exception")
