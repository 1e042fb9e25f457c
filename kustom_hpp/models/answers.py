"""Answers: tolerant by construction. Fields newer than this release are in `extra`, unknown enum values stay text.

Implementation note: without slots, as attrs fills a frozen value then three times as fast.
"""

import datetime as dt
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from kustom_hpp._checks import mask, mask_url
from kustom_hpp.models.shared import raw_field, url_field
from kustom_hpp.wire import CallInfo


class SessionStatus(StrEnum):
    """`status` of a session. Source: docs.kustom.co, "Read an HPP session"; what ends it: "Tracking session status"."""

    WAITING = "WAITING"
    """Created; the consumer has not been on the page."""
    IN_PROGRESS = "IN_PROGRESS"
    """The consumer has entered the page."""
    BACK = "BACK"
    """Back was pressed; the consumer may return."""
    FAILED = "FAILED"
    """Declined; the consumer may try again."""
    ERROR = "ERROR"
    """An error while paying; the consumer may try again."""
    MANUAL_ID_CHECK = "MANUAL_ID_CHECK"
    """An identity check in the store is under way. Not documented whether it ends anything: taken as not final."""
    COMPLETED = "COMPLETED"
    """Paid. Final."""
    CANCELLED = "CANCELLED"
    """The consumer cancelled. Final."""
    DISABLED = "DISABLED"
    """Disabled through the API. Final."""

    @property
    def is_final(self) -> bool:
        """True where the session's status will not change any more."""
        return self in (SessionStatus.COMPLETED, SessionStatus.CANCELLED, SessionStatus.DISABLED)


@frozen(kw_only=True, slots=False)
class DistributionModule:
    """`distribution_module` of a session: a link for in-store use."""

    token: str | None = field(default=None, repr=mask)
    standalone_url: str | None = url_field()
    """A public page; contains `{{profile_id}}` and `{{view_id}}` for the caller to fill."""
    generation_url: str | None = url_field()
    extra: dict[str, Any] = raw_field()
    """Fields newer than this release, and known fields that came with another JSON type."""


@frozen(kw_only=True, slots=False)
class Session:
    """A created HPP session: the answer to POST /hpp/v1/sessions.

    Keep `session_id` beside your order: there is no way to look a session up by order. Follow the returned URLs, do not
    rebuild them: their structure may change.
    """

    session_id: str
    redirect_url: str = field(repr=mask_url)
    """The page to send the consumer to."""
    session_url: str | None = url_field()
    """API URL of the session (needs credentials)."""
    distribution_url: str | None = url_field()
    """API URL to send the link by e-mail or SMS (needs credentials)."""
    qr_code_url: str | None = url_field()
    """Public URL of a QR code image of the page."""
    manual_identification_check_url: str | None = url_field()
    expires_at: dt.datetime | None = None
    """When the session ends (aware). A KCO order lives 48 hours, its HPP session one hour less."""
    distribution_module: DistributionModule | None = None
    extra: dict[str, Any] = raw_field()
    """Fields newer than this release, and known fields that came with another JSON type."""
    info: CallInfo = field(default=CallInfo(), eq=False)
    """How the call went; not part of the wire shape and not compared."""

    @property
    def payment_page(self) -> str:
        """The page to send the consumer to: `redirect_url` under the name that says what it is for."""
        return self.redirect_url
