"""The scope of a journal: whose sessions it remembers."""

from attrs import frozen

from kustom_hpp.config import Settings


@frozen(slots=True)
class Scope:
    """The API environment and the merchant that a journal belongs to.

    A journal of the playground says nothing about live orders.
    """

    origin: str
    """Scheme, host and port of the base URL."""
    environment: str | None = None
    """"live" or "playground"; None if the client has an explicit base URL."""
    merchant: str = ""
    """The merchant's name or id in your system. Not a credential: the journal stores it."""

    @classmethod
    def of(cls, settings: Settings, merchant: str = "") -> "Scope":
        """Return the scope of a client.

        Args:
            settings: the client's settings (`client.settings`).
            merchant: the merchant's name or id in your system.

        """
        return cls(
            origin=str(settings.base_url.origin()),
            environment=None if settings.environment is None else str(settings.environment),
            merchant=merchant,
        )

    def __str__(self) -> str:
        """Return the scope as the journal stores it and errors show it."""
        return " ".join(
            [self.origin, self.environment or "without environment", *([self.merchant] if self.merchant else [])]
        )
