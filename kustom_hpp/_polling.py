"""Waits for the end of a session by reading it again and again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from kustom_hpp import retry
from kustom_hpp.config.options import check_positive
from kustom_hpp.errors import ApiError, DeadlineExceededError, HPPError, NotFoundError, clean_text
from kustom_hpp.models import SessionDetails

MIN_POLL_INTERVAL = 0.5
"""Seconds between two reads at least. The rate limit for reads is 200 a second at the live API and 50 at the playground,
and a shop waits for many sessions at once. Source: docs.klarna.com/api-reference/rate-limit."""
_JITTER = 0.1
"""Part of the interval that is added at random, so that waits that start together do not stay together."""


def check_poll_interval(poll: Any) -> None:
    """Check the interval between two reads.

    Raises:
        ConfigError: it is not a finite number of seconds from `MIN_POLL_INTERVAL`.

    """
    check_positive("poll", poll, minimum=MIN_POLL_INTERVAL)


async def poll_until_final(
    read: Callable[[float], Awaitable[SessionDetails]],
    policy: retry.RetryPolicy,
    *,
    deadline: float,
    poll: float,
    on_read: Callable[[SessionDetails], object] | None = None,
) -> SessionDetails:
    """Read a session until its status is final.

    Args:
        read: reads the session within a number of seconds.
        policy: the read's. An error that it would retry does not end the wait.
        deadline: seconds for the whole wait.
        poll: seconds from the end of one read to the start of the next.
        on_read: called with the details of each read.

    Raises:
        NotFoundError: the session expired or never existed; with the last details.
        DeadlineExceededError: the status is not final yet; with the last details.
        HPPError: a read failed, and a retry would not help.

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
            # The reads of a client share a rate limiter. It refuses at once if the read could only start after the
            # deadline; a 429 for another session may cause that, and may pass sooner than it looks.
            last = last or error.with_traceback(None)
        except HPPError as error:
            if not retry.is_retryable(error, policy):
                raise
            # With its traceback, the error and this frame would refer to each other until the collector runs.
            last = error.with_traceback(None)
            attempts += error.attempts
            pause = max(poll, (error.retry_after or 0.0) if isinstance(error, ApiError) else 0.0)
        else:
            attempts += details.info.attempts
            if on_read is not None:
                on_read(details)
            if details.is_final:
                return details
        await asyncio.sleep(min(pause * (1 + _JITTER * random.random()), max(0.0, until - now())))  # noqa: S311 - jitter
    raise _deadline_error(details, last, deadline, attempts)


def _deadline_error(
    details: SessionDetails | None, last: HPPError | None, deadline: float, attempts: int
) -> DeadlineExceededError:
    status = clean_text(str(details.status or "absent")) if details is not None else ""
    state = f"its last status was {status}" if status else "no read succeeded"
    failed = "" if last is None else f"; the last read failed: {last}"
    error = DeadlineExceededError(
        f"the session did not reach a final status within {deadline:g} s: {state}{failed}",
        attempts=attempts,
        correlation_id=last.correlation_id if last is not None else None,
        cause=last.cause if last is not None else None,
    )
    error.details = details
    return error
