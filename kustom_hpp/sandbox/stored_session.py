"""One HPP session: its JSON, its timeline, and its URLs. No I/O.

If the documents say nothing:

- A payment session whose URL is not that of a KP session is a KCO order, with the last part of the path as its id.
- A placeholder without a value stays in the URL, so that it can be seen. A percent-encoded one is not a placeholder. Values
  are percent-encoded.
- `{{order_id}}` of a KCO order is known from the start and replaced everywhere; that of a KP session once it is placed.
  A read has the field `order_id` once the session is completed, for both.
- `place_order_mode` does nothing for a KCO order.
"""

import datetime as dt
import re
import secrets
import string
import uuid
from enum import StrEnum
from typing import Any
from urllib.parse import quote, unquote

from attrs import define, field, frozen

from kustom_hpp.models import CreateSessionRequest, MerchantUrls, Options, PlaceOrderMode, SessionStatus
from kustom_hpp.models.urls import KP_SESSION_PATH
from kustom_hpp.sandbox.sample_orders import order_path

ORDER_LIFETIME = dt.timedelta(hours=48)
"""Lifetime of a payment session. Source: docs.kustom.co, errors in checkout."""
SESSION_ENDS_BEFORE = dt.timedelta(hours=1)
"""An HPP session ends this long before its payment session. Source: docs.kustom.co, create session."""
_LIFETIME = ORDER_LIFETIME - SESSION_ENDS_BEFORE
MAX_TIMELINE = 200
"""Entries of a session's timeline: its creation and the newest."""
_BASE62 = (string.ascii_letters + string.digits + "aZ").encode() * 4
"""A letter or digit for each byte."""
_REFERENCE = string.ascii_uppercase + string.digits
_PLACEHOLDER = r"\{\{(session_id|order_id|authorization_token)\}\}"


class Action(StrEnum):
    """An action of the consumer on the page."""

    OPEN = "open"
    PAY = "pay"
    DECLINE = "decline"
    """Try to pay, and be declined."""
    BACK = "back"
    CANCEL = "cancel"
    ERROR = "error"
    """Try to pay, and get a technical error."""


class SessionClosedError(ValueError):
    """The session is expired, disabled, completed or cancelled."""

    def __init__(self, message: str, code: str = "SESSION_CLOSED") -> None:
        super().__init__(message)
        self.code = code


@frozen(kw_only=True)
class TimelineEntry:
    """One entry in the timeline of a session."""

    at: dt.datetime
    """By the sandbox's clock, in UTC."""
    what: str
    """`created`, `opened`, `paid`, `declined`, `went back`, `cancelled`, `error`, `identity check`, `disabled`, `expired`,
    `distributed`, `warning`, `fault` or `callback`."""
    detail: str = ""
    """Plain text without a secret."""
    status: SessionStatus | None = None
    """The new status; None if it did not change."""
    failed: bool = False
    """True for a status callback that the shop did not accept."""


@define(kw_only=True, eq=False)
class StoredSession:
    """An HPP session. Only `SandboxState` changes it."""

    session_id: str
    page_id: str
    """The end of `redirect_url`."""
    request: CreateSessionRequest = field(repr=False)
    """The create request."""
    created_at: dt.datetime
    expires_at: dt.datetime
    token: str = field(repr=False)
    """The token of `distribution_module`."""
    status: SessionStatus = SessionStatus.WAITING
    updated_at: dt.datetime
    """When its status last changed."""
    order_id: str | None = None
    """The order that it became; None until it is completed, and for a KP session that places no order."""
    klarna_reference: str | None = None
    """A short reference to the order for people, if `order_id` is given."""
    authorization_token: str | None = field(default=None, repr=False)
    """The token of a paid KP session that places no order itself."""
    manual_identification: dict[str, Any] | None = field(default=None, repr=False)
    """The identity check in the store, as in the response to a read."""
    timeline: list[TimelineEntry] = field(factory=list, repr=False)
    """Its timeline, oldest first; of very many entries the creation and the newest."""

    @property
    def payment_session_url(self) -> str:
        """The KCO order or KP session that it hosts."""
        return self.request.payment_session_url

    @property
    def is_kp(self) -> bool:
        """True for a KP session, False for a KCO order."""
        return KP_SESSION_PATH in self.payment_session_url

    @property
    def places_order(self) -> bool:
        """True if a payment makes an order: KCO always, KP by its options."""
        if not self.is_kp:
            return True
        return self.options.place_order_mode in (PlaceOrderMode.PLACE_ORDER, PlaceOrderMode.CAPTURE_ORDER)

    @property
    def merchant_urls(self) -> MerchantUrls:
        """The merchant URLs of the request, or empty ones."""
        return self.request.merchant_urls or MerchantUrls()

    @property
    def options(self) -> Options:
        """The options of the request, or empty ones."""
        return self.request.options or Options()

    @property
    def secondary_action(self) -> Action:
        """The second button: BACK if `merchant_urls.back` is given, else CANCEL."""
        return Action.BACK if self.merchant_urls.back else Action.CANCEL

    def is_expired(self, now: dt.datetime) -> bool:
        """Return True if it has expired, whatever its status."""
        return self.expires_at <= now

    def is_open(self, now: dt.datetime) -> bool:
        """Return True if the consumer can still act on it."""
        return not self.status.is_final and not self.is_expired(now)

    def created_json(self, base_url: str) -> dict[str, Any]:
        """Return the response to its creation, with all documented fields."""
        session_url = f"{base_url}/hpp/v1/sessions/{self.session_id}"
        page = f"{base_url}/eu/hpp"
        return {
            "distribution_module": self.distribution_module(base_url),
            "distribution_url": f"{session_url}/distribution",
            "expires_at": date_text(self.expires_at),
            "manual_identification_check_url": f"{session_url}/manual-id-check",
            "qr_code_url": f"{page}/payments/{self.session_id}/qr",
            "redirect_url": self.page_url(base_url),
            "session_id": self.session_id,
            "session_url": session_url,
        }

    def page_url(self, base_url: str) -> str:
        """Return its `redirect_url`."""
        return f"{base_url}/eu/hpp/payments/{self.page_id}"

    def distribution_module(self, base_url: str) -> dict[str, Any]:
        """Return `distribution_module` of the response to its creation."""
        return {
            "generation_url": f"{base_url}/hpp/v1/sessions/{self.session_id}/distribution-module/token",
            "standalone_url": f"{base_url}/eu/hpp/distribution/{self.token}"
            "?profile={{profile_id}}&view={{view_id}}",
            "token": self.token,
        }

    def read_json(self) -> dict[str, Any]:
        """Return a read's response, also `session` in a status callback."""
        known = {
            "authorization_token": self.authorization_token,
            "expires_at": date_text(self.expires_at),
            "klarna_reference": self.klarna_reference,
            "manual_identification": self.manual_identification,
            "order_id": self.order_id,
            "session_id": self.session_id,
            "status": str(self.status),
            "updated_at": date_text(self.updated_at),
        }
        return {name: value for name, value in known.items() if value is not None}

    def merchant_url(self, name: str) -> str | None:
        """Return a merchant URL with its placeholders replaced, or None.

        None: it is empty or missing. An error without a URL of its own goes to `failure`. `{{session_id}}` is replaced
        everywhere, `{{order_id}}` once the order is known, `{{authorization_token}}` only in `success`. Source:
        docs.kustom.co, create session.
        """
        url = getattr(self.merchant_urls, name) or (self.merchant_urls.failure if name == "error" else None)
        if not url:
            return None
        values = {
            "session_id": self.session_id,
            "order_id": self.order_id or (None if self.is_kp else order_id_of(self.payment_session_url)),
            "authorization_token": self.authorization_token if name == "success" else None,
        }

        def value(found: re.Match[str]) -> str:
            known = values[found[1]]
            return found[0] if known is None else quote(known, safe="")

        return re.sub(_PLACEHOLDER, value, url)

    def complete(self) -> None:
        """Set the order or the authorization token of a paid session."""
        if not self.places_order:
            self.authorization_token = new_id()
            return
        self.order_id = new_id() if self.is_kp else order_id_of(self.payment_session_url)
        self.klarna_reference = "".join(secrets.choice(_REFERENCE) for _ in range(8))


def order_id_of(payment_session_url: str) -> str | None:
    """Return the id at the end of a payment session's URL, if there is one."""
    return unquote(order_path(payment_session_url).rstrip("/").rpartition("/")[2]) or None


def date_text(when: dt.datetime) -> str:
    """Return a time as the API writes it: UTC, milliseconds, Z."""
    return when.astimezone(dt.UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def new_id() -> str:
    """Return a random UUID as text."""
    return str(uuid.uuid4())


def new_token(length: int = 32) -> str:
    """Return random letters and digits, for a token or the id of a page."""
    return secrets.token_bytes(length).translate(_BASE62).decode()


def new_session(request: CreateSessionRequest, now: dt.datetime) -> StoredSession:
    """Return a session with new ids, which is not stored yet."""
    return StoredSession(
        session_id=new_id(),
        page_id=new_token(10),
        request=request,
        created_at=now,
        updated_at=now,
        expires_at=now + _LIFETIME,
        token=new_token(),
    )
