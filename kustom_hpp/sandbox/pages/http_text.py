"""Recorded requests and responses as text, secrets masked. No I/O.

Masked are: credentials, user info and queries of URLs, tokens, and the value of every field that the API does not document.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from typing import Any

import attrs
from attrs import frozen

from kustom_hpp._redaction import describe_shape, masked_url
from kustom_hpp.models import CreateSessionRequest, MerchantUrls, Options
from kustom_hpp.models.requests import BackgroundImage
from kustom_hpp.sandbox.record import RecordedRequest

MAX_TEXT = 20_000
"""Characters of a request or a response on the console."""
_MASK = "***"
_MIN_SECRET = 8
"""Characters: shorter texts are no secrets, and masking them would make the rest unreadable."""
# Characters that reverse the direction of the text after them, and control characters: shown as escapes.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_URL_IN_TEXT = re.compile(r"""(https?://)(?:[^\s/"'<>\\@]*@)?([^\s?#"'<>\\]*)([?#][^\s"<>\\]*)?""")
_CREDENTIALS = {"authorization", "proxy-authorization"}
_PLAIN_HEADERS = {
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "date", "expect",
    "host", "klarna-correlation-id", "retry-after", "server", "transfer-encoding", "user-agent", "www-authenticate",
    "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "allow",
}  # fmt: skip
_URL_FIELDS = {field.name for field in attrs.fields(MerchantUrls)}
_PLAIN_FIELDS = {
    "correlation_id", "error_code", "error_message", "error_messages", "expires_at", "klarna_reference", "method",
    "order_id", "phone_country", "session_id", "status", "updated_at",
    *(field.name for model in (CreateSessionRequest, Options, BackgroundImage) for field in attrs.fields(model)),
}  # fmt: skip
_PROBLEM = re.compile(r"([a-z_][\w.\[\]]*): (.+)", re.DOTALL)


@frozen
class Problem:
    """One reason why a request was refused."""

    path: str
    """Path of the field; empty if it is not about a field."""
    sentence: str


def request_text(seen: RecordedRequest) -> str:
    """Return the request: its line, headers and body."""
    target, query, _ = seen.target.partition("?")
    lines = [f"{seen.method} {target}{query and query + _MASK} HTTP/1.1"]
    lines += [_header(name.decode("latin-1"), value.decode("latin-1")) for name, value in seen.headers]
    return _printable("\n".join([*lines, "", _body(seen.body, secrets_of(seen))]))


def response_text(seen: RecordedRequest, secrets: Iterable[str] = ()) -> str:
    """Return the response: status line, headers and body; empty without one.

    `secrets` are texts to mask in addition to the request's own.
    """
    head, separator, body = seen.response.partition(b"\r\n\r\n")
    hidden = [*secrets_of(seen), *secrets]
    if not separator:
        return _printable(_masked_text(_decoded(seen.response), hidden))
    line, *headers = _decoded(head).split("\r\n")
    shown = [_header(*map(str.strip, header.split(":", 1))) for header in headers if ":" in header]
    return _printable("\n".join([_masked_text(line, hidden), *shown, "", _body(body, hidden)]))


def problems_of(seen: RecordedRequest) -> tuple[Problem, ...]:
    """Return every reason that the response gives, with the path of its field."""
    messages = _error_of(seen).get("error_messages")
    if not isinstance(messages, list):
        return ()
    texts = (_printable(_masked_text(text, secrets_of(seen))) for text in messages if isinstance(text, str))
    return tuple(
        Problem(*match.groups()) if (match := _PROBLEM.fullmatch(text)) else Problem("", text) for text in texts
    )


def error_code_of(seen: RecordedRequest) -> str:
    """Return the `error_code` of the response; empty without one."""
    code = _error_of(seen).get("error_code")
    return _printable(code[:100]) if isinstance(code, str) else ""


def _error_of(seen: RecordedRequest) -> dict[str, Any]:
    """Return the JSON of the response; empty if it is not an object."""
    try:
        value = json.loads(seen.response.partition(b"\r\n\r\n")[2])
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def json_text(value: Any) -> str:
    """Return a JSON value as indented text, its secrets masked."""
    return _printable(json.dumps(_masked(value), indent=2, ensure_ascii=False))


def secrets_of(seen: RecordedRequest) -> list[str]:
    """Return what nothing may repeat: the credentials, and the whole body."""
    credentials = (seen.header("authorization") or b"").decode("latin-1").partition(" ")[2].strip()
    found = [credentials]
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
        found += [decoded, decoded.partition(":")[2]]
    except (binascii.Error, ValueError):
        pass
    return [text for text in (_decoded(seen.body), *found) if len(text) >= _MIN_SECRET]


def _header(name: str, value: str) -> str:
    if name.lower() in _CREDENTIALS:
        scheme, space, _ = value.partition(" ")
        return f"{name}: {scheme} {_MASK}" if space else f"{name}: {_MASK}"
    if name.lower() == "location":
        return f"{name}: {masked_url(value)}"
    return f"{name}: {value if name.lower() in _PLAIN_HEADERS else _MASK}"


def _body(data: bytes, secrets: list[str]) -> str:
    try:
        value = json.loads(data)
        text = json.dumps(_masked(value, secrets=secrets), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return _masked_text(_decoded(data), [secret for secret in secrets if secret != _decoded(data)])
    return text


def _masked(value: Any, key: str = "", secrets: Iterable[str] = ()) -> Any:
    """Return a JSON value with its secrets masked."""
    if isinstance(value, dict):
        return {name: _masked(item, name, secrets) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, key, secrets) for item in value]
    if not isinstance(value, str):
        return value
    if re.match(r"[a-z][a-z0-9+.-]*://", value, re.IGNORECASE):
        return _without(secrets, masked_url(value))
    if key in _URL_FIELDS or key.endswith("url"):
        return f"<{describe_shape(value)}>" if value else value  # not a URL: perhaps a token in the wrong place
    return _masked_text(value, secrets) if key in _PLAIN_FIELDS else _MASK


def _masked_text(text: str, secrets: Iterable[str]) -> str:
    """Return a text without these secrets, and without those of its URLs."""
    text = _without(secrets, text)
    return _URL_IN_TEXT.sub(lambda url: f"{url[1]}{url[2]}{url[3][0] + _MASK if url[3] else ''}", text)


def _without(secrets: Iterable[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return text


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _printable(text: str) -> str:
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}\n… ({len(text) - MAX_TEXT:,} more characters)"
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
