"""Waiting for the end of a session: reads, one after the other, at a polite pace."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from kustom_hpp import retry
from kustom_hpp.errors import ApiError, ConfigError, DeadlineExceededError, HPPError, NotFoundError, clean_text
from kustom_hpp.models import SessionDetails

MIN_POLL_INTERVAL = 0.5
"""Seconds between two reads at least. A merchant's quota for reads is 200 a second at the live API and 50 at the
playground, and a shop waits for many sessions at once. Source: docs.klarna.com/api-reference/rate-limit."""
_SPREAD = 0.1
"""Of the poll, added at random: who began together does not stay together."""


def check_poll_interval(poll: Any) -> None:
    """Refuse what is no interval between reads.

    Raises:
        ConfigError: it is not a finite number of seconds from `MIN_POLL_INTERVAL`.

    """
    number = isinstance(poll, (int, float)) and not isinstance(poll, bool)
    if not number or not MIN_POLL_INTERVAL <= poll <= 1e9:  # noqa: PLR2004 - what a clock can add; NaN compares with nothing
        msg = f"poll must be a finite number of seconds from {MIN_POLL_INTERVAL}, got {poll!r}"
        raise ConfigError(msg)


async def wait(
    read: Callable[[float], Awaitable[SessionDetails]],
    rules: retry.Rules,
    *,
    deadline: float,
    poll: float,
    on_read: Callable[[SessionDetails], object] | None = None,
) -> SessionDetails:
    """Read until the status is final.

    Args:
        read: reads the session, within so many seconds.
        rules: of a read: what it would try again by itself, given time, does not end the wait.
        deadline: seconds for all of it.
        poll: seconds from the end of one read to the next.
        on_read: told the details of each read.

    Raises:
        NotFoundError: the session is gone, or never was; with the last details.
        DeadlineExceededError: the status is not final yet; with the last details.
        HPPError: a read ended with what does not pass by itself.

    """
    now = asyncio.get_running_loop().time
    until = now() + deadline
    details: SessionDetails | None = None
    last: HPPError | None = None
    attempts = 0
    while (left := until - now()) > 0:
        pause = poll
        try:
            details, last = await read(left), None
        except NotFoundError as error:
            error.details = details
            raise
        except DeadlineExceededError as error:
            # All reads share a pace, which refuses at once the turn that, as things stand, comes after the deadline. It
            # does so after a single 429 that another session's read was answered, and that may pass sooner.
            last = last or error.with_traceback(None)
        except HPPError as error:
            if not retry.worth_repeating(error, rules):
                raise
            # With its traceback it would hold this frame, and the frame it, until the collector comes.
            last = error.with_traceback(None)
            attempts += error.attempts
            pause = max(poll, (error.retry_after or 0.0) if isinstance(error, ApiError) else 0.0)
        else:
            attempts += details.info.attempts
            if on_read is not None:
                on_read(details)
            if details.is_final:
                return details
        await asyncio.sleep(min(pause * (1 + _SPREAD * random.random()), max(0.0, until - now())))  # noqa: S311 - a spread
    raise _too_late(details, last, deadline, attempts)


def _too_late(
    details: SessionDetails | None, last: HPPError | None, deadline: float, attempts: int
) -> DeadlineExceededError:
    status = clean_text(str(details.status or "not told")) if details is not None else ""
    stood = f"its status was {status}" if status else "no read told its status"
    failed = "" if last is None else f"; the last read failed: {last}"
    error = DeadlineExceededError(
        f"the session had not come to its end within {deadline:g} s: {stood}{failed}",
        attempts=attempts,
        correlation_id=last.correlation_id if last is not None else None,
        cause=last.cause if last is not None else None,
    )
    error.details = details
    return error
