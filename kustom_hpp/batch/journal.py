"""What a batch remembers, so that a run that was killed is resumed with nothing lost and nothing created twice.

The rule: an intent is durable before its request leaves, an outcome is durable before it is handed out. A claim without an
outcome is in doubt, never free.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from attrs import frozen

from kustom_hpp.batch.outcomes import Outcome


@frozen(slots=True)
class Claimed:
    """The row is the caller's: its intent is durable, and it may be sent."""


@frozen(slots=True)
class AlreadyRecorded:
    """The row has a past; nothing was written, and it must not be sent unless it is claimed `again`."""

    outcome: Outcome
    """As an earlier run recorded it (`earlier_run` is True). A claim without an outcome comes as IN_DOUBT, UNKNOWN."""
    changed: bool
    """True where the payload is another one than then."""


@frozen(slots=True)
class ClaimedElsewhere:
    """Somebody else has claimed the row and may still be sending it, or another key has claimed its order."""

    holder: str
    """Who, in words for an error."""


Claim = Claimed | AlreadyRecorded | ClaimedElsewhere


class Journal(Protocol):
    """A batch's memory. What a method did is durable when it has been awaited.

    Each may be an `async def`. Where `claim` and `settle` return futures instead, begun in the order of the calls, a run
    claims its next rows while it settles the last ones, and one sync of the disk does for both.
    """

    def claim(self, key: str, order: str | None, digest: bytes, *, again: bool = False) -> Awaitable[Claim]:
        """Claim a row.

        Args:
            key: of the row.
            order: the KCO order's URL, which may have one session only; None for another payment session.
            digest: of the payload (SHA-256 of the JSON).
            again: claim it whatever its past: the caller has decided to send it. Not where it is CREATED, and of rows
                in doubt not what was ACCEPTED, what has another payload now, and what this run itself claimed (a doubt
                is sent once per run). The earlier outcome is overwritten by IN_DOUBT until the row is settled.

        Returns:
            Fresh for a row that is new, or that failed without being processed (NOT_SENT, or a 429 or 401, which are not
            about the row), or that failed with another payload; AlreadyRecorded for every other known row; ClaimedElsewhere.

        Raises:
            InvalidRequestError: the key or the order is no text that UTF-8 can hold: this row cannot be sent.
            JournalError: the journal cannot keep it: send nothing.

        """
        ...

    def settle(self, key: str, outcome: Outcome) -> Awaitable[None]:
        """Keep the outcome of a row that this run claimed.

        A row that was in doubt when it was claimed `again` stays in doubt unless it is CREATED: how the second request
        ended says nothing about the first.

        Raises:
            DuplicateSessionError: another key has its session id already. The error names both; the row stays in doubt.
            JournalError: the journal cannot keep it.

        """
        ...

    async def doubts(self) -> Sequence[Outcome]:
        """Every row that is in doubt, claims without an outcome included."""
        ...

    async def aclose(self) -> None:
        """Close. Idempotent."""
        ...
