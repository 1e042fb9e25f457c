"""Responses of the API. Fields newer than this release are in `extra`; unknown enum values stay text.

Implementation note: without slots, because attrs then creates a frozen value three times as fast.
"""

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from attrs import field, frozen

from kustom_hpp._messages import CallInfo
from kustom_hpp.models import fields
from kustom_hpp.models.conversion import response_from_dict, response_to_dict

__all__ = ["Customer", "DistributionModule", "ManualIdentification", "Session", "SessionDetails", "SessionStatus"]


class SessionStatus(StrEnum):
    """`status` of a session. Source: docs.kustom.co, "Read an HPP session" and "Tracking session status"."""

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
    """An identity check in the store is under way. Treated as not final: the documentation does not say."""
    COMPLETED = "COMPLETED"
    """Paid. Final."""
    CANCELLED = "CANCELLED"
    """The consumer cancelled. Final."""
    DISABLED = "DISABLED"
    """Disabled through the API. Final."""

    @property
    def is_final(self) -> bool:
        """True if the status cannot change any more."""
        return self in _FINAL


_FINAL = (SessionStatus.COMPLETED, SessionStatus.CANCELLED, SessionStatus.DISABLED)


@frozen(kw_only=True, slots=False)
class DistributionModule:
    """`distribution_module` of a session: a link for in-store use."""

    token: str | None = fields.sensitive()
    standalone_url: str | None = fields.response_url(template=True)
    """A public page; contains `{{profile_id}}` and `{{view_id}}` for the caller to fill."""
    generation_url: str | None = fields.response_url()
    extra: dict[str, Any] = fields.response_extra()
    """Fields newer than this release, and known fields that came with another JSON type."""


class _StorableResponse:
    """A response as a dict and back."""

    def to_dict(self) -> dict[str, Any]:
        """Return the response as plain JSON values with the API's field names, for a database or a web framework.

        The result omits `info` and fields that are None, and includes `extra`. It contains what the `repr` hides, such as
        tokens: store it like a password.
        """
        return response_to_dict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the response from the result of `to_dict`, also of another release. `info` has its defaults.

        Raises:
            ValueError: the value is not an object, or has no session_id.

        """
        return response_from_dict(value, cls)


@frozen(kw_only=True, slots=False)
class Session(_StorableResponse):
    """A created HPP session: the response to POST /hpp/v1/sessions.

    Store `session_id` with your order: the API cannot find a session by its order. Use the returned URLs as they are, and
    do not build them yourself: their structure may change.
    """

    session_id: str
    redirect_url: str | None = fields.response_url()
    """The payment page to send the consumer to; None for an in-store session ("ECOMMERCE only" in the API's reference)."""
    session_url: str | None = fields.response_url()
    """API URL of the session (needs credentials)."""
    distribution_url: str | None = fields.response_url()
    """API URL to send the link by e-mail or SMS (needs credentials)."""
    qr_code_url: str | None = fields.response_url()
    """Public URL of a QR code image of the page."""
    manual_identification_check_url: str | None = fields.response_url()
    expires_at: dt.datetime | None = None
    """When the session ends (aware). A KCO order lives 48 hours, its HPP session one hour less."""
    distribution_module: DistributionModule | None = None
    extra: dict[str, Any] = fields.response_extra()
    """Fields newer than this release, and known fields that came with another JSON type."""
    info: CallInfo = field(default=CallInfo(), eq=False)
    """Facts about the call; not a field of the API, and not compared."""

    @property
    def payment_page(self) -> str:
        """The page to send the consumer to: `redirect_url`, but never None.

        Raises:
            ValueError: the session has none, such as an in-store session.

        """
        if self.redirect_url is None:
            raise ValueError(
                "the session has no payment page (the API returns redirect_url for e-commerce sessions only). Use "
                "distribute_session, qr_code_url or distribution_module"
            )
        return self.redirect_url


@frozen(kw_only=True, slots=False)
class Customer:
    """The consumer who paid. Personal data: the `repr` shows only which fields have a value. Do not log it."""

    date_of_birth: str | None = fields.sensitive()
    """YYYY-MM-DD. Text, because `customer_obfuscated` has stars in it."""
    family_name: str | None = fields.sensitive()
    given_name: str | None = fields.sensitive()
    national_identification_number: str | None = fields.sensitive()
    title: str | None = fields.sensitive()
    extra: dict[str, Any] = fields.response_extra()
    """Fields newer than this release, and known fields that came with another JSON type."""


@frozen(kw_only=True, slots=False)
class ManualIdentification:
    """`manual_identification` of a session: an identity check in the store (status MANUAL_ID_CHECK)."""

    challenge: str | None = fields.sensitive()
    """What the consumer shows, for example "A78"."""
    customer: Customer | None = None
    """Only in the older reference of the API."""
    customer_obfuscated: Customer | None = None
    """The consumer with most letters replaced by stars; not every field is there."""
    expires_at: dt.datetime | None = None
    """When the check ends (aware)."""
    extra: dict[str, Any] = fields.response_extra()
    """Fields newer than this release, and known fields that came with another JSON type."""


@frozen(kw_only=True, slots=False)
class SessionDetails(_StorableResponse):
    """The state of a session: the response to GET /hpp/v1/sessions/{session_id}, and `session` of a status callback.

    The API's reference makes every field optional. Only `session_id` is required here, and `read_session` knows it without
    the response. A `status` that is None is not final.

    Source: docs.kustom.co, "Read an HPP session".
    """

    session_id: str
    status: SessionStatus | str | None = None
    """Text if it is newer than this release ("TIMEOUT" was observed): compare with `==`, end with an `else`."""
    updated_at: dt.datetime | None = None
    """When the status changed last (aware)."""
    expires_at: dt.datetime | None = None
    """When the session ends (aware). After that a read raises `NotFoundError`."""
    authorization_token: str | None = fields.sensitive()
    """The token that places the order of a KP session with `place_order_mode` NONE, within 60 minutes."""
    order_id: str | None = None
    """The paid order: of a KCO session, or of a KP session that places the order."""
    klarna_reference: str | None = None
    """A short reference of the order, for people."""
    customer: Customer | None = None
    manual_identification: ManualIdentification | None = None
    extra: dict[str, Any] = fields.response_extra()
    """Fields newer than this release, and known fields that came with another JSON type."""
    info: CallInfo = field(default=CallInfo(), eq=False)
    """Facts about the call; not a field of the API, and not compared."""

    @property
    def is_final(self) -> bool:
        """True if the status cannot change any more: COMPLETED, CANCELLED or DISABLED. Only COMPLETED is paid."""
        return self.status in _FINAL
