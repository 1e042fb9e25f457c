"""Whose sessions a journal remembers."""

from attrs import frozen

from kustom_hpp.config import Settings


@frozen(slots=True)
class Scope:
    """The place and the merchant that a journal belongs to: one made at the playground says nothing about live orders."""

    origin: str
    """Scheme, host and port of the base URL."""
    environment: str | None = None
    """"live" or "playground"; None where the client has an explicit base URL."""
    merchant: str = ""
    """The merchant's name or id, as you call it. Not a credential: it is written down."""

    @classmethod
    def of(cls, settings: Settings, merchant: str = "") -> "Scope":
        """The scope of a client.

        Args:
            settings: the client's (`client.settings`).
            merchant: the merchant's name or id, as you call it.

        """
        return cls(
            origin=str(settings.base_url.origin()),
            environment=None if settings.environment is None else str(settings.environment),
            merchant=merchant,
        )

    def __str__(self) -> str:
        """As it is recorded in the file and told in errors."""
        return " ".join(
            [self.origin, self.environment or "without environment", *([self.merchant] if self.merchant else [])]
        )
