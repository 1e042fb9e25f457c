"""Faults that only exercise the client's own parser, and `find_fault`, which finds them and the sandbox's own by name."""

import asyncio
import gzip
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import attrs

from kustom_hpp.sandbox.faults import FAULTS, ConnectionAction, Fault, FaultType, RequestContext, Stage, split_fault
from kustom_hpp.sandbox.faults.base import (
    Args,
    body_fault,
    error_body_fault,
    fields_fault,
    raw_fault,
    redirect_fault,
    response_fault,
    status_fault,
    wait_fault,
)
from kustom_hpp.sandbox.faults.bodies import with_urls
from kustom_hpp.sandbox.faults.slow import SILENCE, drip, hang
from kustom_hpp.sandbox.http.connection import Connection
from kustom_hpp.sandbox.http.raw_response import RawResponse, dumps

MIB = 1 << 20

# Connections and time


def _server_not_reading(connection: Connection, args: Args) -> None:
    # A small receive buffer, so that a body of some 200 KB does not fit into the system's buffers.
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    # asyncio before 3.11.3 adds the reader after this callback, whether the transport is paused or not.
    asyncio.get_running_loop().call_soon(connection.transport.pause_reading)
    connection.call_later(args["seconds"], connection.reset)


async def _drip_head(context: RequestContext, args: Args) -> ConnectionAction:
    whole = context.response_with_body()
    await drip(context, whole.encode()[: -len(whole.body)], args["interval"])
    await context.send(whole.body)
    context.recorded.status = whole.status
    return ConnectionAction.KEEP


async def _double_answer(context: RequestContext, args: Args) -> ConnectionAction:
    first, late = context.response_with_body(), args["late"]
    unrelated = first.with_body(dumps(context.unrelated_session())).encode()
    if late <= 0:
        context.recorded.status = first.status
        await context.send(first.encode() + unrelated)
        return ConnectionAction.KEEP
    await context.send(first)
    await context.connection.pause(late / 1000)
    await context.send(unrelated)
    return ConnectionAction.KEEP


async def _interim_flood(context: RequestContext, args: Args) -> ConnectionAction:
    while True:
        await context.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await context.connection.pause(args["interval"])


async def _interim_103(context: RequestContext, args: Args) -> ConnectionAction:
    await context.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    await context.send(context.healthy_response())
    return ConnectionAction.KEEP


async def _status_199(context: RequestContext, args: Args) -> ConnectionAction:
    await context.send(b"HTTP/1.1 199 Odd\r\nContent-Length: 0\r\n\r\n")
    return await hang(context, args)


_CONNECTIONS = (
    FaultType(
        name="server_not_reading",
        about="accepts and never reads; RST after `seconds`",
        stage=Stage.CONNECTION,
        defaults=SILENCE,
        apply_to_connection=_server_not_reading,
    ),
    FaultType(
        name="status_199",
        about="an odd interim response, then silence; nothing is processed",
        defaults=SILENCE,
        apply=_status_199,
    ),
    FaultType(
        name="interim_103", about="103 Early Hints, then the response", processes_request=True, apply=_interim_103
    ),
    FaultType(
        name="interim_flood",
        about="102 every `interval` seconds without end",
        processes_request=True,
        defaults={"interval": 0.05},
        apply=_interim_flood,
    ),
    FaultType(
        name="drip_head",
        about="the head byte by byte, one each `interval` seconds",
        processes_request=True,
        defaults={"interval": 0.1},
        apply=_drip_head,
    ),
    FaultType(
        name="double_answer",
        about="the response, and `late` milliseconds later one for a session that does not exist",
        processes_request=True,
        defaults={"late": 20.0},
        apply=_double_answer,
    ),
)

# Framing

_LAST_CHUNK = b"0\r\n\r\n"


def _chunked_head(response: RawResponse) -> bytes:
    return response.head(("Transfer-Encoding", "chunked"))


def _chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _framed(response: RawResponse, *framing: tuple[str, str]) -> bytes:
    return response.head(*framing) + response.body


def _both(response: RawResponse) -> bytes:
    framing = (("Content-Length", str(len(response.body))), ("Transfer-Encoding", "chunked"))
    return response.head(*framing) + _chunk(response.body) + _LAST_CHUNK


def _encoded(response: RawResponse, body: bytes, encoding: str = "gzip") -> bytes:
    return response.with_body(body, ("Content-Encoding", encoding)).encode()


def _cut_gzip(response: RawResponse) -> bytes:
    packed = gzip.compress(response.body, mtime=0)
    return _encoded(response, packed[: len(packed) // 2])


_SETTINGS_FRAME = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
_MANY_HEADERS = tuple((f"X-Header-{number}", "x") for number in range(5_000))

_FRAMING = (
    raw_fault("http09", "the body alone, as HTTP/0.9 would have it", lambda response: response.body),
    raw_fault(
        "bad_status_line",
        "a status line without a number",
        lambda response: b"HTTP/1.1 two-oh-one" + response.encode()[len(b"HTTP/1.1 201") :],
    ),
    raw_fault("http2_preface", "the SETTINGS frame of an HTTP/2 server", lambda _: _SETTINGS_FRAME),
    raw_fault(
        "header_ctl",
        "control characters in a header's value",
        lambda response: response.with_headers(("X-Evil", "a\x00b\x01c\x7fd")).encode(),
    ),
    raw_fault(
        "big_header",
        "one header of 256 KiB",
        lambda response: response.with_headers(("X-Big", "x" * 262_144)).encode(),
    ),
    raw_fault("many_headers", "5,000 headers", lambda response: response.with_headers(*_MANY_HEADERS).encode()),
    raw_fault(
        "two_lengths",
        "two different Content-Length headers",
        lambda response: _framed(
            response, ("Content-Length", str(len(response.body))), ("Content-Length", str(len(response.body) + 5))
        ),
    ),
    raw_fault("length_and_chunked", "Content-Length next to Transfer-Encoding: chunked", _both),
    raw_fault("length_negative", "Content-Length: -1", lambda response: _framed(response, ("Content-Length", "-1"))),
    raw_fault(
        "chunk_huge",
        "a chunk size of more than 64 bits",
        lambda response: _chunked_head(response) + b"f" * 20 + b"\r\n" + response.body,
    ),
    raw_fault(
        "length_too_short",
        "a Content-Length 10 bytes too small",
        lambda response: _framed(response, ("Content-Length", str(len(response.body) - 10))),
    ),
    raw_fault(
        "chunk_garbage",
        "a chunk size that is not a number",
        lambda response: _chunked_head(response) + b"zz\r\n" + response.body + b"\r\n" + _LAST_CHUNK,
    ),
    raw_fault(
        "chunk_cut",
        "a whole chunk, then FIN without the last one",
        lambda response: _chunked_head(response) + _chunk(response.body),
    ),
    raw_fault(
        "gzip_lie",
        "plain JSON labelled as gzip",
        lambda response: _encoded(response, response.body),
        ConnectionAction.KEEP,
    ),
    raw_fault("gzip_cut", "half of a gzip stream, with its Content-Length", _cut_gzip, ConnectionAction.KEEP),
    raw_fault(
        "gzip_double",
        "gzip in gzip, labelled as gzip once",
        lambda response: _encoded(response, gzip.compress(gzip.compress(response.body, mtime=0), mtime=0)),
        ConnectionAction.KEEP,
    ),
    raw_fault(
        "unknown_encoding",
        "an unknown Content-Encoding",
        lambda response: _encoded(response, bytes(byte ^ 0x80 for byte in response.body), "x-scrambled"),
        ConnectionAction.KEEP,
    ),
    raw_fault(
        "upgrade_101",
        "101 Switching Protocols, and nothing more",
        lambda _: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ),
)

# Bodies

Session = dict[str, Any]


def _wrong_types(session: Session) -> Session:
    wrong: dict[str, Any] = {
        "distribution_module": "text", "distribution_url": 5, "expires_at": 1_700_000_000, "qr_code_url": [],
        "manual_identification_check_url": {}, "session_url": False,
        "status": 5, "updated_at": [], "order_id": {}, "klarna_reference": False, "authorization_token": 7,
        "manual_identification": "text", "token": 5, "standalone_url": [], "generation_url": {},
    }  # fmt: skip
    return {name: wrong.get(name, value) for name, value in session.items()}


def _set_cookie(context: RequestContext, args: Args) -> RawResponse:
    return context.healthy_response().with_headers(("Set-Cookie", "sid=from-the-sandbox; Path=/; Max-Age=3600"))


def _padded(context: RequestContext) -> tuple[bytes, bytes]:
    """Return the response's JSON, cut where padding may be inserted."""
    return context.response_with_body().body[:-1] + b',"padding":"', b'"}'


async def _stream(context: RequestContext, head: RawResponse, pieces: Iterator[bytes]) -> ConnectionAction:
    """Send a chunked response piece by piece; other tasks run between two pieces."""
    context.recorded.status = head.status
    await context.send(_chunked_head(head))
    for piece in pieces:
        await context.send(_chunk(piece))
        await asyncio.sleep(0)
    await context.send(_LAST_CHUNK)
    return ConnectionAction.KEEP


def _plain(start: bytes, mib: int, end: bytes) -> Iterator[bytes]:
    yield start
    block = b"a" * MIB
    for _ in range(mib):
        yield block
    yield end


def _packed(start: bytes, mib: int, end: bytes, wbits: int) -> Iterator[bytes]:
    """Return the same as a gzip (wbits 31) or zlib (wbits 15) stream of about a thousandth of the size."""
    press = zlib.compressobj(6, zlib.DEFLATED, wbits)
    for piece in _plain(start, mib, end):
        if out := press.compress(piece) + press.flush(zlib.Z_SYNC_FLUSH):
            yield out
    yield press.flush()


async def _big_body(context: RequestContext, args: Args) -> ConnectionAction:
    start, end = _padded(context)
    return await _stream(context, context.response_with_body(), _plain(start, args["mib"], end))


def _bomb(name: str, encoding: str, wbits: int) -> FaultType:
    async def apply(context: RequestContext, args: Args) -> ConnectionAction:
        start, end = _padded(context)
        head = context.response_with_body().with_headers(("Content-Encoding", encoding))
        return await _stream(context, head, _packed(start, args["mib"], end, wbits))

    about = f"a response of `mib` MiB that {encoding} makes a thousand times smaller"
    return FaultType(name=name, about=about, processes_request=True, defaults={"mib": 1024}, apply=apply)


_BODIES = (
    body_fault("body_null", "null", lambda _: b"null"),
    body_fault("body_not_object", "a JSON list", lambda session: b"[" + dumps(session) + b"]"),
    body_fault(
        "body_deep",
        "100,000 levels of nesting",
        lambda _: b'{"session_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ),
    body_fault(
        "body_bigint",
        "a number of 5,000 digits",
        lambda session: dumps(session)[:-1] + b',"number":' + b"9" * 5_000 + b"}",
    ),
    body_fault(
        "not_utf8",
        "a Latin-1 letter in a field",
        lambda session: dumps(session | {"session_url": "X"}).replace(b'"X"', b'"https://caf\xe9.example/"'),
    ),
    body_fault("bom", "a byte order mark before the JSON", lambda session: b"\xef\xbb\xbf" + dumps(session)),
    body_fault("charset_rot13", "a charset that is a codec", dumps, "application/json; charset=rot13"),
    body_fault("charset_zlib", "a charset that is a bytes codec", dumps, "application/json; charset=zlib"),
    body_fault("ct_text_plain", "JSON labelled as text", dumps, "text/plain; charset=utf-8"),
    fields_fault("null_session_id", "session_id is null", lambda session: session | {"session_id": None}),
    fields_fault("wrong_type_session_id", "session_id is a number", lambda session: session | {"session_id": 9_007}),
    fields_fault(
        "wrong_type_redirect_url",
        "redirect_url is an object",
        lambda session: session | {"redirect_url": {"href": session.get("redirect_url")}},
    ),
    fields_fault("wrong_types", "every optional field has another JSON type", _wrong_types),
    fields_fault("bad_expires_at", "expires_at is not a date", lambda session: session | {"expires_at": "tomorrow"}),
    fields_fault("url_evil", "every URL has the scheme javascript", with_urls(lambda _: "javascript:alert(1)")),
    fields_fault(
        "url_crlf",
        "every URL has a line break and a header",
        with_urls(lambda url: url + "\r\nX-Injected: yes\r\n"),
    ),
    response_fault("set_cookie", "the response sets a cookie", _set_cookie, processes_request=True),
    FaultType(
        name="big_body",
        about="a response of `mib` MiB",
        processes_request=True,
        defaults={"mib": 1024},
        apply=_big_body,
    ),
    _bomb("gzip_bomb", "gzip", 31),
    _bomb("deflate_bomb", "deflate", 15),
)

# Statuses

_MORE_STATUSES = (
    402, 405, 406, 410, 411, 412, 414, 416, 417, 421, 423, 424, 425, 426, 428, 431, 451, 501, 505, 507, 508, 511, 599,
    305, 306, 600, 999,
)  # fmt: skip


def _not_modified(context: RequestContext, args: Args) -> RawResponse:
    return context.error(304).with_body(b"")


def _success(status: int) -> FaultType:
    def respond(context: RequestContext, args: Args) -> RawResponse:
        response = attrs.evolve(context.healthy_response(), status=status)
        return response.with_body(b"") if status == 205 else response

    return response_fault(f"status_{status}", f"{status} instead of 201", respond, processes_request=True)


def _redirect_same(status: int) -> FaultType:
    def respond(context: RequestContext, args: Args) -> RawResponse:
        return context.error(status).with_headers(("Location", context.base_url + context.recorded.path))

    processed = status == 303
    return response_fault(
        f"redirect_{status}_same",
        f"{status} to the same path of the same origin",
        respond,
        processes_request=processed,
        defaults={"commit": int(processed)},
    )


def _wrong_error(context: RequestContext) -> bytes:
    return dumps({"error_code": {"a": 1}, "error_messages": [None, 5, ["x"]], "correlation_id": 17})


def _singular(context: RequestContext) -> bytes:
    one = {"error_code": "BAD_VALUE", "error_message": "only one", "correlation_id": context.recorded.correlation_id}
    return dumps(one | {"service_version": 1, "fraud_status": None})


def _evil(context: RequestContext) -> bytes:
    evil = "\x1b[31mred\x07\x00\r\nINFO injected line\u202e\u2028" + "A" * 5_000
    return dumps({"error_code": "EVIL\r\n\x1b[0m", "error_messages": [evil, "\x9b0m"], "correlation_id": "id\r\n\x00"})


def _echo(context: RequestContext, args: Args) -> RawResponse:
    authorization = next((value for name, value in context.recorded.headers if name.lower() == b"authorization"), b"")
    text = authorization.decode("latin-1")
    body = {
        "error_code": "BAD_VALUE",
        "error_messages": [f"Authorization: {text}", context.recorded.body.decode("utf-8", "replace")],
        "correlation_id": context.recorded.correlation_id,
    }
    return attrs.evolve(context.error(args["status"]).with_body(dumps(body)), reason=f"Refused {text}")


_ERROR_START = b'{"error_code":"BAD_VALUE","error_messages":["'


async def _huge(context: RequestContext, args: Args) -> ConnectionAction:
    return await _stream(context, context.error(args["status"]), _plain(_ERROR_START, args["mib"], b'"]}'))


async def _error_bomb(context: RequestContext, args: Args) -> ConnectionAction:
    head = context.error(args["status"]).with_headers(("Content-Encoding", "gzip"))
    return await _stream(context, head, _packed(_ERROR_START, args["mib"], b'"]}', 31))


_STATUSES = (
    *map(status_fault, _MORE_STATUSES),
    response_fault("status_304", "304 without a body", _not_modified, defaults={"commit": 0}),
    *map(_success, (205, 299)),
    *map(redirect_fault, (300, 301, 308)),
    *map(_redirect_same, (300, 301, 302, 303, 307, 308)),
    wait_fault("retry_after_past", "an HTTP date in the past", lambda _: "Wed, 21 Oct 2015 07:28:00 GMT"),
    wait_fault("retry_after_naive", "a date without a zone", lambda _: "Wed, 21 Oct 2065 07:28:00"),
    wait_fault("retry_after_overflow", "an impossible date", lambda _: "Fri, 99 Dec 99999 99:99:99 GMT"),
    wait_fault("retry_after_garbage", "words", lambda _: "soon; very soon"),
    wait_fault("retry_after_empty", "nothing", lambda _: ""),
    wait_fault("retry_after_negative", "-5", lambda _: "-5"),
    wait_fault("retry_after_huge", "999999999", lambda _: "999999999"),
    wait_fault("retry_after_digits", "5,000 digits", lambda _: "9" * 5_000),
    wait_fault("retry_after_superscript", "²³", lambda _: "²³"),
    wait_fault("retry_after_nan", "nan", lambda _: "nan"),
    wait_fault("retry_after_inf", "inf", lambda _: "inf"),
    wait_fault("retry_after_exponent", "1e9", lambda _: "1e9"),
    wait_fault("retry_after_control", "a control character before the digits", lambda _: "\x1c5"),
    error_body_fault("error_cut", "half of a JSON object", lambda _: b'{"error_code":"BAD_VAL'),
    error_body_fault("error_list", "a JSON list", lambda _: b'["BAD_VALUE"]'),
    error_body_fault("error_null", "null", lambda _: b"null"),
    error_body_fault("error_deep", "100,000 levels of nesting", lambda _: b"[" * 100_000),
    error_body_fault("error_not_utf8", "Latin-1", lambda _: b'{"error_code":"caf\xe9"}'),
    error_body_fault("error_wrong_types", "an object with other JSON types", _wrong_error),
    error_body_fault("error_message_singular", "one with error_message instead of error_messages", _singular),
    error_body_fault("status_evil_error", "one whose texts hold control characters", _evil),
    response_fault(
        "echo_auth",
        "an error that repeats Authorization and the request's body, in its body and reason phrase",
        _echo,
        defaults={"status": 400, "commit": 0},
    ),
    FaultType(
        name="error_huge",
        about="an error whose body is `mib` MiB",
        apply=_huge,
        defaults={"status": 400, "mib": 256, "commit": 0},
    ),
    FaultType(
        name="error_bomb",
        about="an error whose body is a gzip bomb of `mib` MiB",
        apply=_error_bomb,
        defaults={"status": 500, "mib": 256, "commit": 0},
    ),
)

PARSER_FAULTS: dict[str, FaultType] = {
    each.name: each for group in (_CONNECTIONS, _FRAMING, _BODIES, _STATUSES) for each in group
}
"""Faults that only exercise the client's parser, by name."""
ALL_FAULTS: dict[str, FaultType] = {**FAULTS, **PARSER_FAULTS}
"""These and the sandbox's own."""


def find_fault(text: str | Fault, **given: object) -> Fault:
    """Return a fault of either kind: `name`, or `name~parameter=value,parameter=value`."""
    if isinstance(text, Fault):
        return text
    name, parameters = split_fault(text)
    return Fault.of(ALL_FAULTS[name], **(parameters | given))
