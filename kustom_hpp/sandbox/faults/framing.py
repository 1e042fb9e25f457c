"""Faults of the answer's framing: bytes that are no HTTP, or HTTP that contradicts itself. All of them commit."""

import gzip

from kustom_hpp.sandbox.faults.base import Then, raw
from kustom_hpp.sandbox.http.raw_response import LAST_CHUNK, Answer, chunk


def _framed(answer: Answer, *framing: tuple[str, str]) -> bytes:
    return answer.head(*framing) + answer.body


def _length(answer: Answer, more: int) -> bytes:
    return _framed(answer, ("Content-Length", str(len(answer.body) + more)))


def _both(answer: Answer) -> bytes:
    length = str(len(answer.body))
    framing = (("Content-Length", length), ("Transfer-Encoding", "chunked"))
    return answer.head(*framing) + chunk(answer.body) + LAST_CHUNK


def _encoded(answer: Answer, body: bytes, encoding: str = "gzip") -> bytes:
    return answer.with_body(body, ("Content-Encoding", encoding)).encode()


def _corrupt(answer: Answer) -> bytes:
    packed = bytearray(gzip.compress(answer.body, mtime=0))
    for at in range(len(packed) // 2, len(packed) // 2 + 8):
        packed[at] ^= 0xFF
    return _encoded(answer, bytes(packed))


def _cut(answer: Answer) -> bytes:
    packed = gzip.compress(answer.body, mtime=0)
    return _encoded(answer, packed[: len(packed) // 2])


def _scrambled(body: bytes) -> bytes:
    return bytes(byte ^ 0x80 for byte in body)


_SETTINGS_FRAME = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
_MANY = tuple((f"X-Header-{number}", "x") for number in range(5_000))

BROKEN = (
    raw("half_status_line", "part of the status line, then FIN", lambda _: b"HTTP/1.1 20"),
    raw("half_headers", "part of the headers, then FIN", lambda answer: answer.encode()[:60]),
    raw("garbage", "bytes that are no HTTP", lambda _: bytes(range(256)) + b"\r\n\r\n"),
    raw("http09", "the body alone, as HTTP/0.9 would have it", lambda answer: answer.body),
    raw(
        "bad_status_line",
        "a status line without a number",
        lambda answer: b"HTTP/1.1 two-oh-one" + answer.encode()[len(b"HTTP/1.1 201") :],
    ),
    raw("http2_preface", "the SETTINGS frame with which an HTTP/2 server begins", lambda _: _SETTINGS_FRAME),
    raw(
        "header_ctl",
        "control characters in a header's value",
        lambda answer: answer.with_headers(("X-Evil", "a\x00b\x01c\x7fd")).encode(),
    ),
    raw("big_header", "one header of 256 KiB", lambda answer: answer.with_headers(("X-Big", "x" * 262_144)).encode()),
    raw("many_headers", "5,000 headers", lambda answer: answer.with_headers(*_MANY).encode()),
    raw(
        "two_lengths",
        "two Content-Length headers that differ",
        lambda answer: _framed(
            answer, ("Content-Length", str(len(answer.body))), ("Content-Length", str(len(answer.body) + 5))
        ),
    ),
    raw("length_and_chunked", "Content-Length beside Transfer-Encoding: chunked", _both),
    raw("length_negative", "Content-Length: -1", lambda answer: _framed(answer, ("Content-Length", "-1"))),
    raw(
        "chunk_huge",
        "a chunk size of more than 64 bits",
        lambda answer: answer.chunked_head() + b"f" * 20 + b"\r\n" + answer.body,
    ),
    raw("length_too_short", "a Content-Length 10 bytes too small", lambda answer: _length(answer, -10)),
    raw("length_too_long", "a Content-Length 10 bytes too big, then FIN", lambda answer: _length(answer, 10)),
    raw(
        "chunk_garbage",
        "a chunk size that is no number",
        lambda answer: answer.chunked_head() + b"zz\r\n" + answer.body + b"\r\n" + LAST_CHUNK,
    ),
    raw(
        "chunk_cut",
        "a whole chunk, then FIN without the last one",
        lambda answer: answer.chunked_head() + chunk(answer.body),
    ),
    raw("gzip_corrupt", "gzip with flipped bytes", _corrupt, Then.KEEP),
    raw("gzip_lie", "plain JSON that says it is gzip", lambda answer: _encoded(answer, answer.body), Then.KEEP),
    raw("gzip_cut", "half of a gzip stream, its Content-Length true", _cut, Then.KEEP),
    raw(
        "gzip_double",
        "gzip in gzip that says it is gzip once",
        lambda answer: _encoded(answer, gzip.compress(gzip.compress(answer.body, mtime=0), mtime=0)),
        Then.KEEP,
    ),
    raw(
        "unknown_encoding",
        "a Content-Encoding that nobody knows",
        lambda answer: _encoded(answer, _scrambled(answer.body), "x-scrambled"),
        Then.KEEP,
    ),
    raw(
        "upgrade_101",
        "101 Switching Protocols, nothing after it",
        lambda _: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ),
)
