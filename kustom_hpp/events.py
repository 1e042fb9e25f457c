"""What happens during a call, as plain facts for hooks: logging, metrics, tracing.

A hook is any callable that takes an event. It is called in the call's own task, must not block, and can never change or
eat an answer: one that raises is logged once and not called again by that client.
"""

import logging
from collections.abc import Callable, Iterable

from attrs import frozen

from kustom_hpp._messages import Delivery
from kustom_hpp.errors import HPPError

_log = logging.getLogger("kustom_hpp")


@frozen(kw_only=True, slots=True)
class Started:
    """A call began; nothing was sent yet."""

    call: str
    """The call's own name: random hexadecimal digits, the same in all its events and in those of no other call."""
    operation: str
    """As the client's method is called, for example "create_session"."""
    method: str
    """The HTTP method."""
    url: str
    """The request's URL, without query, user and password."""
    host: str
    """The API's host."""
    port: int
    path: str
    """The operation's path below the base URL, the same for all its calls: an id in it stands as "{session_id}"."""


@frozen(kw_only=True, slots=True)
class Retrying:
    """An attempt failed, and another one follows after a wait."""

    call: str
    operation: str
    attempt: int
    """The number of the attempt that failed, from 1."""
    wait: float
    """Seconds until the next one."""
    error: HPPError
    """What the attempt ended with."""


@frozen(kw_only=True, slots=True)
class Finished:
    """A call ended: with an answer, with an error, or from outside (then `error` is None and `cancelled` True)."""

    call: str
    operation: str
    attempts: int
    elapsed: float
    """Seconds from the call's beginning, all waits included."""
    delivery: Delivery | None
    """What is known about the whole call; None where nothing was attempted."""
    status: int | None
    """HTTP status of the last answer; None where none came."""
    correlation_id: str | None
    error: HPPError | None
    cancelled: bool = False
    """True where the call was cancelled, or its program interrupted."""
    repeatable: bool = False
    """True where doing it twice does no harm, so that an unknown outcome costs nothing: a read."""

    @property
    def succeeded(self) -> bool:
        """True where it ended with an answer that could be read."""
        return self.error is None and not self.cancelled and self.delivery is Delivery.ACCEPTED


Event = Started | Retrying | Finished
Hook = Callable[[Event], None]
"""What `hooks=` takes."""


class Hooks:
    """The hooks of a client. False where there are none, so that nobody makes an event that nobody hears."""

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._hooks = list(hooks)

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def emit(self, event: Event) -> None:
        """Tell every hook; drop the one that raises."""
        for hook in tuple(self._hooks):
            try:
                hook(event)
            except Exception:  # noqa: BLE001 - whatever it is, the call goes on
                self._hooks.remove(hook)
                _log.exception("a hook raised and is not called again; the call goes on")


def log_events(event: Event) -> None:
    """A hook that writes one line for each call and for each retry to the logger "kustom_hpp".

    DEBUG for an answer and for a cancellation, WARNING for a retry and a failure, ERROR where something may exist that
    nobody knows of. No URL, no body, no secret. The digits after the operation are the call's own name.
    """
    if isinstance(event, Retrying):
        _log.warning(
            "%s %s: attempt %d failed, next in %.2f s: %s",
            event.operation,
            event.call,
            event.attempt,
            event.wait,
            event.error,
        )
    elif isinstance(event, Finished):
        _log.log(
            _level(event),
            "%s %s: %s after %d attempt(s) in %.3f s, delivery %s, correlation id %s%s",
            event.operation,
            event.call,
            _ending(event),
            event.attempts,
            event.elapsed,
            event.delivery,
            event.correlation_id,
            f": {event.error}" if event.error else "",
        )


def _level(event: Finished) -> int:
    if event.succeeded:
        return logging.DEBUG
    if event.delivery is not None and event.delivery.may_have_taken_effect and not event.repeatable:
        return logging.ERROR
    return logging.DEBUG if event.cancelled else logging.WARNING


def _ending(event: Finished) -> object:
    """What a call ended with, in one word; a foreign exception is not ours to name."""
    if event.cancelled:
        return "cancelled"
    return event.status or (type(event.error).__name__ if event.error else "an exception")
