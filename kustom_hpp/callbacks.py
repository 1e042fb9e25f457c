"""Status updates: what Kustom posts to `MerchantUrls.status_update` when a session changes. Parses, checks, does no I/O.

A callback is a hint and never the only signal: it is called at most four times and then no more, carries no signature,
and may come twice, late or not at all. Read the session before you act on it, de-duplicate by `event_id`, and keep a poll
as back-up.

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
"""Bytes of a body that is read; a real one has less than two thousand."""
_DEPTH = 32
"""Levels of nesting; a real body has four. What is nested deeper could not be copied or pickled by everyone."""


@frozen(kw_only=True, slots=False)
class StatusUpdate:
    """A status callback.

    Wire shape: `{"event_id": "...", "session": {... as the answer to a read ...}}`.
    """

    event_id: str | None = None
    """The event's id: a repeated call has the same one. None where there is none to de-duplicate by."""
    session: SessionDetails | None = None
    """How the session stood; None says only that something changed: read the session."""
    extra: dict[str, Any] = fields.response_extra()
    """Fields newer than this release, and known fields that came with another JSON type."""


def parse(body: bytes, *, max_size: int = MAX_BODY) -> StatusUpdate:
    """A status update from the body of a callback.

    No body, `{}` and `null` are one: something changed, read the session. So is a `session` that does not say which one it
    is. Otherwise it is read as tolerantly as an answer of the API: what is not as expected stands in `extra`.

    Args:
        body: as it came. Its content type is not documented and does not matter.
        max_size: in bytes.

    Raises:
        CallbackError: it is no JSON object in UTF-8, too long, or nested too deep; the text shows nothing of it.

    """
    try:
        value = _object(body, max_size)
    except ValueError as error:
        why = str(error)
    else:
        return _update(value)
    del body  # out of the traceback's locals: it may hold the consumer's data
    msg = f"the callback's body {why}"
    raise CallbackError(msg)


def _object(body: bytes, max_size: int) -> dict[str, Any]:
    """The JSON object in a body, an empty one where there is none.

    Raises:
        ValueError: the text says what is wrong.

    """
    if not isinstance(body, (bytes, bytearray)):
        raise ValueError(f"must be bytes, as they came; got a {type(body).__name__}")  # noqa: TRY004 - one kind for all
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
    # Two cheap looks at the bytes, so that the costly ones at the value are taken by few.
    if body.count(b"{") + body.count(b"[") > _DEPTH and _is_deep(value):
        raise ValueError(f"is nested deeper than {_DEPTH} levels")
    if re.search(rb"\\u[dD]", body) and not _is_text(value):
        raise ValueError("is not Unicode: it holds half of a surrogate pair")
    return value


def _update(value: dict[str, Any]) -> StatusUpdate:
    event_id, session = value.pop("event_id", None), value.pop("session", None)
    # What is empty or cannot be written to a database must not become the key of a unique index.
    told = isinstance(event_id, str) and event_id != "" and event_id.isprintable()
    details = _details(session)
    if event_id is not None and not told:
        value["event_id"] = event_id
    if session is not None and details is None:
        value["session"] = session
    return StatusUpdate(event_id=event_id if told else None, session=details, extra=value)


def _details(session: Any) -> SessionDetails | None:
    try:
        return codec().structure_response(session, SessionDetails)
    except ValueError:
        return None


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = inner
    return any(isinstance(item, (dict, list)) for item in level)


def _is_text(value: Any) -> bool:
    """Whether all texts can be written as UTF-8; the standard library's reader takes half a pair, orjson's does not."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_secret(given: object, expected: str | bytes) -> bool:
    """Whether the secret of a callback's URL is the one that was put there; takes as long whatever is wrong with it.

    Args:
        given: as it came in the query; anything but text and bytes is wrong.
        expected: as it was kept beside the order, see `with_secret`.

    Raises:
        ConfigError: there is nothing to expect: every call without a secret would pass.

    """
    wanted = _as_bytes(expected)
    if not wanted:
        msg = f"expected must be the session's secret, got {'an empty' if wanted == b'' else 'a'} {type(expected).__name__}"
        raise ConfigError(msg)
    got = _as_bytes(given)
    return got is not None and hmac.compare_digest(got, wanted)


def _as_bytes(secret: object) -> bytes | None:
    if isinstance(secret, str):
        return secret.encode(errors="surrogatepass")
    return bytes(secret) if isinstance(secret, (bytes, bytearray)) else None
