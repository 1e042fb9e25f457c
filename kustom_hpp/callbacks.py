"""Status updates: Kustom posts one to `MerchantUrls.status_update` when a session changes. No I/O here.

A callback is a hint and never the only signal: Kustom tries at most four times, it carries no signature, and it may come
twice, late or not at all. Read the session before you act on it, de-duplicate by `event_id`, and poll as a back-up.

Source: docs.kustom.co, "Status callbacks".
"""

import hmac
import json
import re
from typing import Any

from attrs import frozen

from kustom_hpp._protocol.codec import codec
from kustom_hpp.errors import CallbackError, ConfigError
from kustom_hpp.models import SessionDetails, fields

MAX_BODY = 65_536
"""Bytes of a body at most; a real one has less than two thousand."""
_MAX_NESTING = 32
"""Levels of nesting; a real body has four. A deeper one may be too deep to copy or pickle."""


@frozen(kw_only=True, slots=False)
class StatusUpdate:
    """A status callback.

    Wire shape: `{"event_id": "...", "session": {... as the response to a read ...}}`.
    """

    event_id: str | None = None
    """The event's id: a repeated call has the same one. None if there is none to de-duplicate by."""
    session: SessionDetails | None = None
    """The session at that time; None means only that something changed: read the session."""
    extra: dict[str, Any] = fields.response_extra()
    """Fields newer than this release, and known fields with another JSON type."""


def parse(body: bytes, *, max_size: int = MAX_BODY) -> StatusUpdate:
    """Return the status update in the body of a callback.

    An empty body, `{}` and `null` are valid: something changed, read the session. So is a `session` without an id. Otherwise
    the body is read as tolerantly as a response of the API: unexpected fields go into `extra`.

    Args:
        body: the bytes as received. The content type is not documented and does not matter.
        max_size: the most bytes of a body.

    Raises:
        CallbackError: the body is not a JSON object in UTF-8, too long, or nested too deep; the text shows nothing of it.

    """
    try:
        value = _load_object(body, max_size)
    except ValueError as error:
        reason = str(error)
    else:
        return _build_update(value)
    del body  # the traceback's locals must not show the consumer's data
    raise CallbackError(f"the callback's body {reason}")


def _load_object(body: bytes, max_size: int) -> dict[str, Any]:
    """Return the JSON object in a body, an empty one if there is none.

    Raises:
        ValueError: the body is invalid; the text says why.

    """
    if not isinstance(body, (bytes, bytearray)):
        raise ValueError(f"must be bytes as received, got a {type(body).__name__}")  # noqa: TRY004 - one class for all
    if len(body) > max_size:
        raise ValueError(f"has {len(body)} bytes, more than {max_size}")
    if not body.strip():
        return {}
    try:
        value = codec().load_json(bytes(body))
    except ValueError as error:
        raise ValueError(f"is {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"is not a JSON object but a {type(value).__name__}")  # noqa: TRY004
    # Two cheap checks of the bytes; few bodies need the expensive ones of the value.
    if body.count(b"{") + body.count(b"[") > _MAX_NESTING and _is_deep(value):
        raise ValueError(f"is nested deeper than {_MAX_NESTING} levels")
    if re.search(rb"\\u[dD]", body) and not _is_valid_unicode(value):
        raise ValueError("is not Unicode: it holds half of a surrogate pair")
    return value


def _build_update(value: dict[str, Any]) -> StatusUpdate:
    event_id, session = value.pop("event_id", None), value.pop("session", None)
    # A text that is empty, or that a database cannot store, must not become the key of a unique index.
    has_event_id = isinstance(event_id, str) and event_id != "" and event_id.isprintable()
    details = _read_session(session)
    if event_id is not None and not has_event_id:
        value["event_id"] = event_id
    if session is not None and details is None:
        value["session"] = session
    return StatusUpdate(event_id=event_id if has_event_id else None, session=details, extra=value)


def _read_session(session: Any) -> SessionDetails | None:
    try:
        return codec().structure_response(session, SessionDetails)
    except ValueError:
        return None


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_NESTING):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = inner
    return any(isinstance(item, (dict, list)) for item in level)


def _is_valid_unicode(value: Any) -> bool:
    """Return True if UTF-8 can encode all texts; the standard library accepts half a surrogate pair, orjson does not."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_secret(received: object, expected: str | bytes) -> bool:
    """Return True if the secret in a callback's URL is the expected one, in a time that reveals nothing.

    Args:
        received: the secret in the query; anything but text and bytes is wrong.
        expected: the secret that you stored with the order, see `with_secret`.

    Raises:
        ConfigError: the expected secret is empty: every call without a secret would pass.

    """
    expected_bytes = _as_bytes(expected)
    if not expected_bytes:
        shape = f"{'an empty' if expected_bytes == b'' else 'a'} {type(expected).__name__}"
        raise ConfigError(f"expected must be the session's secret, got {shape}")
    received_bytes = _as_bytes(received)
    return received_bytes is not None and hmac.compare_digest(received_bytes, expected_bytes)


def _as_bytes(secret: object) -> bytes | None:
    if isinstance(secret, str):
        return secret.encode(errors="surrogatepass")
    return bytes(secret) if isinstance(secret, (bytes, bytearray)) else None
