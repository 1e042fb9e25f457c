"""The frozen values that settings are made of."""

from enum import StrEnum
from typing import Any, Literal, TypeGuard, get_args

from attrs import evolve, frozen

from kustom_hpp.errors import ConfigError

OnUnknown = Literal["raise", "resend"]
"""When an attempt may have been processed: tell the caller, or send it again at the risk of a second session."""


class Environment(StrEnum):
    """Which of Kustom's two worlds. Source: Kustom's endpoint switch guide (api.kustom.co, ".co, not .com")."""

    LIVE = "live"
    PLAYGROUND = "playground"

    @property
    def base_url(self) -> str:
        """The API's base URL in this environment, without a slash at its end."""
        return "https://api.kustom.co" if self is Environment.LIVE else "https://api.playground.kustom.co"


def _positive(name: str, value: object, *, zero: bool = False) -> None:
    """Seconds and the like: a finite number above zero."""
    if not _is_number(value) or value < 0 or (value == 0 and not zero):
        msg = f"{name} must be a finite number {'from' if zero else 'above'} 0, got {value!r}"
        raise ConfigError(msg)


def _is_number(value: object) -> TypeGuard[float]:
    """A number of seconds that a clock can add: neither NaN nor beyond thirty years."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MAX_SECONDS <= value <= MAX_SECONDS


MAX_SECONDS = 1e9
"""Seconds that a wait can be told to take."""


def _whole(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        msg = f"{name} must be a whole number from 1, got {value!r}"
        raise ConfigError(msg)


@frozen(kw_only=True, slots=True)
class Timeouts:
    """How long one attempt may take, in seconds. The wait for a free connection counts into neither.

    Raises:
        ConfigError: a value is not a finite number above 0.

    """

    connect: float = 5.0
    """DNS, TCP, TLS and a proxy's CONNECT together. When it ends, nothing was sent."""
    read: float = 35.0
    """From the last byte sent to the last byte received. The API answers 504 after 30 seconds, so less than that turns
    its answers into unknown outcomes. Source: docs.kustom.co, errors in checkout."""

    def __attrs_post_init__(self) -> None:
        _positive("Timeouts.connect", self.connect)
        _positive("Timeouts.read", self.read)


@frozen(kw_only=True, slots=True)
class Pool:
    """The connections that a client keeps.

    Raises:
        ConfigError: a value is out of its range.

    """

    connections: int = 100
    """At most so many at once; further calls wait for their turn, outside of every timeout but the deadline."""
    keepalive: float = 4.0
    """Seconds that an idle connection is kept. Below the usual 5 seconds of servers: a request that meets the server's
    closing of the connection is lost, and nobody can say whether it was processed."""

    def __attrs_post_init__(self) -> None:
        _whole("Pool.connections", self.connections)
        _positive("Pool.keepalive", self.keepalive)


@frozen(kw_only=True, slots=True)
class RetrySettings:
    """When a call is tried again: only after "nothing was sent" and after 429, unless `on_unknown` says otherwise.

    Raises:
        ConfigError: a value is out of its range.

    """

    max_attempts: int = 4
    """The first one included; 1 means never again."""
    budget: float = 30.0
    """Seconds from the first attempt's turn in which further attempts may begin; cuts none that has begun."""
    initial: float = 0.5
    """Upper end of the first random wait, in seconds; doubles with each attempt (full jitter)."""
    maximum: float = 8.0
    """Upper end of every random wait, in seconds."""
    retry_after_cap: float = 30.0
    """The longest wait, in seconds, that an answer may ask for; a longer one ends the call with its error."""
    on_unknown: OnUnknown = "raise"
    """"resend" sends again what may have been processed: for callers who prefer two sessions to none."""

    def __attrs_post_init__(self) -> None:
        _whole("RetrySettings.max_attempts", self.max_attempts)
        _positive("RetrySettings.budget", self.budget, zero=True)
        _positive("RetrySettings.initial", self.initial, zero=True)
        _positive("RetrySettings.maximum", self.maximum, zero=True)
        _positive("RetrySettings.retry_after_cap", self.retry_after_cap, zero=True)
        check_on_unknown(self.on_unknown)


def check_on_unknown(value: object) -> None:
    """Refuse anything but "raise" and "resend" with a ConfigError."""
    if value not in get_args(OnUnknown):
        msg = f"on_unknown must be 'raise' or 'resend', got {value!r}"
        raise ConfigError(msg)


def check_deadline(seconds: object, *, required: bool = False) -> float:
    """A caller's deadline in seconds from now. What has run out already is no mistake: the call says so itself.

    Args:
        seconds: what was given.
        required: whether None is no way out.

    Raises:
        ConfigError: it is no finite number.

    """
    if _is_number(seconds):
        return seconds
    msg = f"deadline must be a finite number of seconds from now{'' if required else ', or None'}, got {seconds!r}"
    raise ConfigError(msg)


def check_options(
    *, retry: RetrySettings, timeouts: Timeouts | None = None, on_unknown: OnUnknown | None = None
) -> dict[str, Any]:
    """Changes to Settings from the options of one call or view.

    Raises:
        ConfigError: an option cannot work.

    """
    changes: dict[str, Any] = {}
    for name, value, kind in (("timeouts", timeouts, Timeouts), ("retry", retry, RetrySettings)):
        if value is not None:
            if not isinstance(value, kind):
                msg = f"{name} must be a {kind.__name__}, got a {type(value).__name__}"
                raise ConfigError(msg)
            changes[name] = value
    if on_unknown is not None:
        changes["retry"] = evolve(retry, on_unknown=on_unknown)
    return changes
