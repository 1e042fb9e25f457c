"""The frozen values that settings are made of, and the checks of their numbers."""

from enum import StrEnum
from typing import Any, Literal, TypeGuard, get_args

from attrs import evolve, frozen

from kustom_hpp.errors import ConfigError

__all__ = ["Environment", "Pool", "RetrySettings", "Timeouts"]

OnUnknown = Literal["raise", "resend"]
"""After an attempt that the API may have processed: raise its error, or send again at the risk of a second session."""
MAX_SECONDS = 1e9
"""The longest time of an option, in seconds: thirty years, which every clock can add."""


class Environment(StrEnum):
    """Kustom environment. Source: Kustom's endpoint switch guide (api.kustom.co, ".co, not .com")."""

    LIVE = "live"
    PLAYGROUND = "playground"

    @property
    def base_url(self) -> str:
        """The API's base URL in this environment, without a slash at its end."""
        return "https://api.kustom.co" if self is Environment.LIVE else "https://api.playground.kustom.co"


def check_positive(
    name: str, value: object, unit: str = "seconds", *, minimum: float = 0.0, zero: bool = False
) -> None:
    """Refuse everything but a finite number above 0.

    Args:
        name: the option's name, for the error.
        value: what the caller gave.
        unit: the number's unit, for the error.
        minimum: the least number, if it is more than 0.
        zero: whether 0 is valid too.

    Raises:
        ConfigError: the value is not such a number.

    """
    if not is_number(value) or value < minimum or (value == 0 and not zero):
        limit = f"of at least {minimum:g}" if minimum or zero else "above 0"
        if isinstance(value, (int, float)) and value > MAX_SECONDS:
            limit += f" and at most {MAX_SECONDS:,.0f}"
        raise ConfigError(f"{name} must be a finite number {limit}, in {unit}, got {value!r}")


def check_positive_int(name: str, value: object) -> None:
    """Refuse everything but a whole number of at least 1.

    Raises:
        ConfigError: the value is not such a number.

    """
    if type(value) is not int or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")


def is_number(value: object) -> TypeGuard[float]:
    """Return True for a number that a clock can add: not NaN, and not beyond thirty years of seconds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MAX_SECONDS <= value <= MAX_SECONDS


@frozen(kw_only=True, slots=True)
class Timeouts:
    """How long one attempt may take, in seconds. The wait for a free connection counts towards neither.

    Raises:
        ConfigError: a value is not a finite number above 0.

    """

    connect: float = 5.0
    """DNS, TCP, TLS and a proxy's CONNECT together. When it ends, nothing was sent."""
    read: float = 35.0
    """From the last byte sent to the last byte received. The API responds with 504 after 30 seconds, so less than that
    turns its responses into unknown outcomes. Source: docs.kustom.co, errors in checkout."""

    def __attrs_post_init__(self) -> None:
        check_positive("Timeouts.connect", self.connect)
        check_positive("Timeouts.read", self.read)


@frozen(kw_only=True, slots=True)
class Pool:
    """The connections of a client.

    Raises:
        ConfigError: a value is out of its range.

    """

    connections: int = 100
    """The most connections at once. Further calls wait; only their deadline limits that wait."""
    keepalive: float = 4.0
    """Seconds that an idle connection stays open. Less than the usual 5 seconds of servers: a request that meets the
    server's close of the connection is lost, and its outcome is unknown."""

    def __attrs_post_init__(self) -> None:
        check_positive_int("Pool.connections", self.connections)
        check_positive("Pool.keepalive", self.keepalive)


@frozen(kw_only=True, slots=True)
class RetrySettings:
    """When the client sends a call again: only if nothing was sent and after 429, unless `on_unknown` says otherwise.

    Raises:
        ConfigError: a value is out of its range.

    """

    max_attempts: int = 4
    """The first attempt included; 1 means no retry."""
    budget: float = 30.0
    """Seconds from the first attempt in which further attempts may start; no attempt is cut off."""
    initial: float = 0.5
    """Upper end of the first random wait, in seconds; doubles with each attempt (full jitter)."""
    maximum: float = 8.0
    """Upper end of every random wait, in seconds."""
    retry_after_cap: float = 30.0
    """The longest wait, in seconds, that a response may ask for; a longer one ends the call with its error."""
    on_unknown: OnUnknown = "raise"
    """"resend" sends again what the API may have processed: for callers who prefer two sessions to none."""

    def __attrs_post_init__(self) -> None:
        check_positive_int("RetrySettings.max_attempts", self.max_attempts)
        for name in ("budget", "initial", "maximum", "retry_after_cap"):
            check_positive(f"RetrySettings.{name}", getattr(self, name), zero=True)
        check_on_unknown(self.on_unknown)


def check_on_unknown(value: object) -> None:
    """Refuse everything but "raise" and "resend" with a ConfigError."""
    if value not in get_args(OnUnknown):
        raise ConfigError(f"on_unknown must be 'raise' or 'resend', got {value!r}")


def check_deadline(seconds: object, *, required: bool = False) -> float:
    """Return a caller's deadline in seconds from now. One that has passed is valid: the call reports it.

    Args:
        seconds: what the caller gave.
        required: whether None is invalid, for the error.

    Raises:
        ConfigError: it is not a finite number.

    """
    if is_number(seconds):
        return seconds
    raise ConfigError(
        f"deadline must be a finite number of seconds from now{'' if required else ', or None'}, got {seconds!r}"
    )


def check_options(
    *, retry: RetrySettings, timeouts: Timeouts | None = None, on_unknown: OnUnknown | None = None
) -> dict[str, Any]:
    """Return changes to Settings from the options of one call or view.

    Raises:
        ConfigError: an option is invalid.

    """
    changes: dict[str, Any] = {}
    for name, value, kind in (("timeouts", timeouts, Timeouts), ("retry", retry, RetrySettings)):
        if value is not None:
            if not isinstance(value, kind):
                raise ConfigError(f"{name} must be a {kind.__name__}, got a {type(value).__name__}")
            changes[name] = value
    if on_unknown is not None:
        changes["retry"] = evolve(retry, on_unknown=on_unknown)
    return changes
