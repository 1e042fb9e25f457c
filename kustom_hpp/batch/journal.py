"""The journal protocol: what a batch remembers, so that a run can be resumed after a crash.

The rule: an intent is durable before its request leaves, an outcome is durable before it is handed out. A claim without an
outcome is in doubt, never free.

A claim has an owner and a lease. In an exclusive journal (a file) the owner is the opening and the lease does not
end. In a shared journal the owner is a run, and its lease ends unless the run renews it. A run whose lease may have ended
sends nothing: `Claimed.may_send` is asked directly before each request.
"""

import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from attrs import field, frozen

from kustom_hpp.batch.outcomes import Outcome


@frozen(kw_only=True, slots=True)
class Claimed:
    """The row belongs to this run. Its intent is durable, and it may be sent."""

    may_send: Callable[[], bool] | None = field(default=None, eq=False, repr=False)
    """Return False from the moment that the lease of this claim may have ended; None if the lease does not end.

    Must be cheap and must not raise. After False the run settles the row as NOT_SENT and claims it again.
    """


@frozen(slots=True)
class AlreadyRecorded:
    """The journal knows the row. Nothing was written; do not send the row unless you claim it with `force`."""

    outcome: Outcome
    """As an earlier run recorded it (`earlier_run` is True). A claim without an outcome is IN_DOUBT, UNKNOWN."""
    changed: bool
    """True if the payload differs from the recorded one."""


@frozen(slots=True)
class ClaimedElsewhere:
    """Another live run has claimed the row and may be sending it. Nothing was written; leave the row to that run."""

    holder: str
    """The other run, in words for a person."""
    until: dt.datetime | None = None
    """When its lease ends unless it is renewed (aware, UTC); None if that is not known."""


Claim = Claimed | AlreadyRecorded | ClaimedElsewhere


class Journal(Protocol):
    """A batch's memory. The effect of a method is durable when the call has been awaited.

    Calls for different keys may overlap. A cancelled call may have taken effect.
    """

    @property
    def shared(self) -> bool:
        """Whether other runs may use the journal at the same time, so that claims have a lease that ends."""
        ...

    def claim(self, key: str, order: str | None, digest: bytes, *, force: bool = False) -> Awaitable[Claim]:
        """Claim a row.

        Args:
            key: the row's key.
            order: the URL of the KCO order, which may have one session only; None for another payment session.
            digest: SHA-256 of the payload's JSON.
            force: claim the row although the journal knows it; the earlier outcome is overwritten. Has no effect on a
                CREATED row. Of rows in doubt it has no effect if the API accepted the request, if the payload differs, if
                this run claimed the row itself (a doubt is sent once per run), and in a shared journal: there only
                `resolve` with SEND_AGAIN frees a doubt.

        Returns:
            Claimed for a new row, for a row that failed without being processed (NOT_SENT, or a 429 or 401, which are not
            about the row), and for a row that failed with another payload. ClaimedElsewhere if another live run holds the
            row. AlreadyRecorded for every other known row.

        Raises:
            InvalidRequestError: this row cannot be sent: UTF-8 cannot represent its key or order, this run is sending
                another row with its key, or another key has, or may have, a session for its order.
            JournalError: the journal cannot record the claim. Send nothing.

        """
        ...

    def settle(self, key: str, outcome: Outcome) -> Awaitable[ClaimedElsewhere | None]:
        """Record the outcome of a row that this run claimed.

        A row that was in doubt when it was claimed with `force` stays in doubt unless it is CREATED: the result of the
        second request says nothing about the first.

        Returns:
            None if the outcome is recorded, also after the end of the lease if no other run took the row.
            ClaimedElsewhere if another run took it. A session of this outcome is then surplus, and the journal records
            it as such.

        Raises:
            DuplicateSessionError: another key has its session id already. The error names both; the row stays in doubt.
            JournalError: the journal cannot record it.

        """
        ...

    async def doubts(self) -> Sequence[Outcome]:
        """Return every row in doubt, claims without an outcome included, except the claims of other live runs."""
        ...

    async def aclose(self) -> None:
        """Close. Idempotent."""
        ...
