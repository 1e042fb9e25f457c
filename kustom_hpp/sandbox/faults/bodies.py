"""Faults of a successful response: of its body, and of its framing."""

import gzip
from collections.abc import Callable
from typing import Any

from kustom_hpp.sandbox.faults.base import ConnectionAction, body_fault, fields_fault, raw_fault
from kustom_hpp.sandbox.http.raw_response import RawResponse, dumps

_NEVER_NULL = frozenset({"session_id", "redirect_url"})


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that removes a field."""
    return lambda session: {key: value for key, value in session.items() if key != name}


def with_urls(url: Callable[[str], str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that changes every URL."""
    return lambda session: {
        name: url(value) if name.endswith("_url") and isinstance(value, str) else value
        for name, value in session.items()
    }


BODY_FAULTS = (
    body_fault("body_empty", "no body", lambda _: b""),
    body_fault("body_html", "an HTML page", lambda _: b"<!doctype html><title>Created</title>", "text/html"),
    body_fault(
        "body_cut_json",
        "half of the JSON, with a correct Content-Length",
        lambda session: dumps(session)[: len(dumps(session)) // 2],
    ),
    fields_fault("no_session_id", "session_id is missing", without("session_id")),
    fields_fault("no_redirect_url", "redirect_url is missing, as for an in-store session", without("redirect_url")),
    fields_fault(
        "nulls",
        "every optional field is null",
        lambda session: {key: value if key in _NEVER_NULL else None for key, value in session.items()},
    ),
    fields_fault("new_fields", "an unknown field", lambda session: session | {"x_new": {"a": [1, None]}}),
    fields_fault(
        "url_other_host",
        "every URL points to another host",
        with_urls(lambda url: "https://elsewhere.invalid/" + url.split("/", 3)[-1]),
    ),
)


def _corrupt_gzip(response: RawResponse) -> bytes:
    packed = bytearray(gzip.compress(response.body, mtime=0))
    for at in range(len(packed) // 2, len(packed) // 2 + 8):
        packed[at] ^= 0xFF
    return response.with_body(bytes(packed), ("Content-Encoding", "gzip")).encode()


def _too_long(response: RawResponse) -> bytes:
    return response.head(("Content-Length", str(len(response.body) + 10))) + response.body


FRAMING_FAULTS = (
    raw_fault("half_status_line", "part of the status line, then FIN", lambda _: b"HTTP/1.1 20"),
    raw_fault("half_headers", "part of the headers, then FIN", lambda response: response.encode()[:60]),
    raw_fault("garbage", "bytes that are not HTTP", lambda _: bytes(range(256)) + b"\r\n\r\n"),
    raw_fault("length_too_long", "a Content-Length 10 bytes too large, then FIN", _too_long),
    raw_fault("gzip_corrupt", "gzip with flipped bytes", _corrupt_gzip, ConnectionAction.KEEP),
)
"""Bytes that are not HTTP, or HTTP that contradicts itself."""
