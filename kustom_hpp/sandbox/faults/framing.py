"""Faults of the response's framing: bytes that are not HTTP, or HTTP that contradicts itself. All process the request."""

import gzip

from kustom_hpp.sandbox.faults.base import ConnectionAction, raw_fault
from kustom_hpp.sandbox.http.raw_response import RawResponse


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
