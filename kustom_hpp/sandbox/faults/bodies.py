"""Faults inside a well-formed 201: bodies, types, URLs and headers that a client has to survive. All of them commit."""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from kustom_hpp.sandbox.faults.base import Args, Call, Kind, Then, answers
from kustom_hpp.sandbox.http.raw_response import LAST_CHUNK, Answer, chunk, dumps

Session = dict[str, Any]
_MIB = 1 << 20


def _body(name: str, about: str, build: Callable[[Session], bytes], content_type: str = "application/json") -> Kind:
    def answer(call: Call, args: Args) -> Answer:  # noqa: ARG001
        return call.full().with_headers(("Content-Type", content_type)).with_body(build(call.shown))

    return answers(name, about, answer, commits=True)


def _fields(name: str, about: str, change: Callable[[Session], Session]) -> Kind:
    return _body(name, about, lambda session: dumps(change(session)))


def _without(session: Session, name: str) -> Session:
    return {key: value for key, value in session.items() if key != name}


def _wrong_types(session: Session) -> Session:
    wrong: dict[str, Any] = {
        "distribution_module": "text", "distribution_url": 5, "expires_at": 1_700_000_000, "qr_code_url": [],
        "manual_identification_check_url": {}, "session_url": False,
        "status": 5, "updated_at": [], "order_id": {}, "klarna_reference": False, "authorization_token": 7,
        "manual_identification": "text", "token": 5, "standalone_url": [], "generation_url": {},
    }  # fmt: skip
    return {name: wrong.get(name, value) for name, value in session.items()}


def _urls(session: Session, url: Callable[[str], str]) -> Session:
    return {
        name: url(value) if name.endswith("_url") and isinstance(value, str) else value
        for name, value in session.items()
    }


def _set_cookie(call: Call, args: Args) -> Answer:  # noqa: ARG001
    return call.answer().with_headers(("Set-Cookie", "sid=from-the-sandbox; Path=/; Max-Age=3600"))


def _other_host(url: str) -> str:
    return "https://elsewhere.invalid/" + url.split("/", 3)[-1]


# ------------------------------------------------------------------------------- big ones, made while they are sent


def _padded(call: Call) -> tuple[bytes, bytes]:
    """The answer's JSON, cut open where padding of any size may stand: it stays valid JSON."""
    return call.full().body[:-1] + b',"padding":"', b'"}'


async def stream(call: Call, head: Answer, pieces: Iterator[bytes]) -> Then:
    """Send a chunked answer piece by piece; others get their turn between two pieces."""
    call.answered(head.status)
    await call.send(head.chunked_head())
    for piece in pieces:
        await call.send(chunk(piece))
        await asyncio.sleep(0)
    await call.send(LAST_CHUNK)
    return Then.KEEP


def plain(start: bytes, mib: int, end: bytes) -> Iterator[bytes]:
    """Bytes around `mib` MiB of padding."""
    yield start
    block = b"a" * _MIB
    for _ in range(mib):
        yield block
    yield end


def packed(start: bytes, mib: int, end: bytes, wbits: int) -> Iterator[bytes]:
    """The same as a gzip (wbits 31) or zlib (wbits 15) stream of about a thousandth of the size."""
    press = zlib.compressobj(6, zlib.DEFLATED, wbits)
    for piece in plain(start, mib, end):
        if out := press.compress(piece) + press.flush(zlib.Z_SYNC_FLUSH):
            yield out
    yield press.flush()


async def _big_body(call: Call, args: Args) -> Then:
    start, end = _padded(call)
    return await stream(call, call.full(), plain(start, args["mib"], end))


def _bomb(name: str, encoding: str, wbits: int) -> Kind:
    async def play(call: Call, args: Args) -> Then:
        start, end = _padded(call)
        head = call.full().with_headers(("Content-Encoding", encoding))
        return await stream(call, head, packed(start, args["mib"], end, wbits))

    about = f"a 201 that {encoding} has made a thousand times smaller: `mib` MiB decoded"
    return Kind(name=name, about=about, commits=True, defaults={"mib": 1024}, play=play)


BODIES = (
    _body("body_empty", "no body", lambda _: b""),
    _body("body_null", "null", lambda _: b"null"),
    _body("body_not_object", "a JSON list", lambda session: b"[" + dumps(session) + b"]"),
    _body("body_html", "an HTML page", lambda _: b"<!doctype html><title>Created</title>", "text/html; charset=utf-8"),
    _body(
        "body_deep", "100,000 levels of nesting", lambda _: b'{"session_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    ),
    _body(
        "body_bigint",
        "a number of 5,000 digits beside the fields",
        lambda session: dumps(session)[:-1] + b',"number":' + b"9" * 5_000 + b"}",
    ),
    _body(
        "body_cut_json",
        "half of the JSON, its Content-Length true",
        lambda session: dumps(session)[: len(dumps(session)) // 2],
    ),
    _body(
        "not_utf8",
        "a Latin-1 letter in a field",
        lambda session: dumps(session | {"session_url": "X"}).replace(b'"X"', b'"https://caf\xe9.example/"'),
    ),
    _body("bom", "a byte order mark before the JSON", lambda session: b"\xef\xbb\xbf" + dumps(session)),
    _body("charset_rot13", "a charset that is a codec and no charset", dumps, "application/json; charset=rot13"),
    _body("charset_zlib", "a charset that is a bytes codec", dumps, "application/json; charset=zlib"),
    _body("ct_text_plain", "JSON that says it is text", dumps, "text/plain; charset=utf-8"),
    _fields("no_session_id", "session_id is missing", lambda session: _without(session, "session_id")),
    _fields("no_redirect_url", "redirect_url is missing", lambda session: _without(session, "redirect_url")),
    _fields("null_session_id", "session_id is null", lambda session: session | {"session_id": None}),
    _fields("wrong_type_session_id", "session_id is a number", lambda session: session | {"session_id": 9_007}),
    _fields(
        "wrong_type_redirect_url",
        "redirect_url is an object",
        lambda session: session | {"redirect_url": {"href": session.get("redirect_url")}},
    ),
    _fields("wrong_types", "every optional field has another JSON type", _wrong_types),
    _fields(
        "nulls",
        "every optional field is null",
        lambda session: {key: session[key] if key in {"session_id", "redirect_url"} else None for key in session},
    ),
    _fields("new_fields", "fields that no release knows", lambda session: session | {"x_new": {"a": [1, None]}}),
    _fields("bad_expires_at", "expires_at is no date", lambda session: session | {"expires_at": "tomorrow"}),
    _fields("url_other_host", "every URL points to another host", lambda session: _urls(session, _other_host)),
    _fields(
        "url_evil",
        "every URL has the scheme javascript",
        lambda session: _urls(session, lambda _: "javascript:alert(1)"),
    ),
    _fields(
        "url_crlf",
        "every URL carries a line break and a header",
        lambda session: _urls(session, lambda url: url + "\r\nX-Injected: yes\r\n"),
    ),
    answers("set_cookie", "the 201 sets a cookie", _set_cookie, commits=True),
    Kind(name="big_body", about="a 201 of `mib` MiB", commits=True, defaults={"mib": 1024}, play=_big_body),
    _bomb("gzip_bomb", "gzip", 31),
    _bomb("deflate_bomb", "deflate", 15),
)
