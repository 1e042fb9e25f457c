"""Each fault does on the wire what its name says, and the record tells the truth about it."""

import asyncio
import datetime as dt
import email.utils
import gzip
import json
import zlib
from collections.abc import Callable

import pytest

from kustom_hpp.sandbox import Fault, Sandbox, Stage
from tests.sandbox.support import ORDER, Reply, Wire, ask, exchange, request, short
from tests.support.faults import ALL_FAULTS as FAULTS
from tests.support.faults import find_fault

WELL_FORMED = {
    *(name for name in FAULTS if name.startswith(("status_", "redirect_", "retry_after_", "error_"))),
    "ratelimit", "echo_auth", "early_413", "set_cookie", "interim_103", "slow_head", "big_body", "gzip_bomb",
    "deflate_bomb", "unknown_encoding", "gzip_cut", "gzip_double", "gzip_corrupt", "gzip_lie",
    "body_empty", "body_null", "body_not_object", "body_html", "body_deep", "body_bigint", "body_cut_json", "not_utf8",
    "bom", "charset_rot13", "charset_zlib", "ct_text_plain", "no_session_id", "no_redirect_url", "null_session_id",
    "wrong_type_session_id", "wrong_type_redirect_url", "wrong_types", "nulls", "new_fields", "bad_expires_at",
    "url_other_host", "url_evil", "url_crlf", "keepalive_close", "double_answer",
} - {"status_199"}  # fmt: skip
"""Faults whose answer an HTTP client can read, whatever it makes of its content."""


async def meet(sandbox: Sandbox, name: str, patience: float = 5.0, **given: object) -> Reply:
    """One create that meets one fault, over a connection of its own; gives up after `patience` seconds."""
    sandbox.fault(short(name, **given))
    if name in WELL_FORMED and name != "interim_103":
        return await ask(sandbox)
    return await exchange(sandbox, seconds=patience)


@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_the_record_tells_the_truth(sandbox: Sandbox, name: str) -> None:
    """Every fault of the table: it bites, its answer comes or does not, and a session exists exactly as it says."""
    reply = await meet(sandbox, name, patience=0.3)
    await sandbox.wait_until_idle()

    fault = short(name)
    record = sandbox.record
    assert len(record.created) == len(record.created_for(ORDER)) == fault.processes_request
    if fault.stage is Stage.CONNECTION:
        [connection] = record.connections
        assert (connection.fault, record.requests) == (fault, ())
        return
    [seen] = record.requests
    assert (seen.fault, seen.done) == (fault, True)
    assert seen.complete is (fault.stage is Stage.REQUEST)
    assert seen.created == (record.created[0].session_id if fault.processes_request else None)
    if name in WELL_FORMED - {"interim_103"}:
        assert seen.status == reply.status


@pytest.mark.parametrize(
    "name",
    [
        "status_503", "redirect_302", "redirect_303", "redirect_303_same", "retry_after_seconds", "ratelimit", "error_html",
        "echo_auth", "status_304",
    ],
)  # fmt: skip
async def test_whether_it_commits_can_be_said(sandbox: Sandbox, name: str) -> None:
    for number, commit in enumerate((0, 1)):
        fault = short(name, commit=commit)
        assert fault.processes_request is bool(commit)
        rule = sandbox.fault(fault)
        await ask(sandbox)
        assert len(sandbox.record.created) == number
        sandbox.faults.remove(rule)


@pytest.mark.parametrize(
    "name", ["status_202", "redirect_303", "reset_after_request", "hang", "new_fields", "garbage", "big_body"]
)
async def test_a_request_that_is_refused_meets_no_fault_that_commits(sandbox: Sandbox, name: str) -> None:
    sandbox.fault(short(name))
    assert (await ask(sandbox, request(sandbox, body=b"{}"))).status == 400
    assert (await ask(sandbox, request(sandbox, authorization="Basic no"))).status == 401
    assert sandbox.record.created == ()


# Connections and time.


async def test_accept_rst(sandbox: Sandbox) -> None:
    sandbox.fault("accept_rst")
    try:
        async with await Wire.open(sandbox.base_url) as wire:
            assert (await wire.rest()) == Reply(b"", "rst")
    except ConnectionResetError:
        pass  # The RST may be quicker than the connecting side.


async def test_accept_close(sandbox: Sandbox) -> None:
    sandbox.fault("accept_close")
    async with await Wire.open(sandbox.base_url) as wire:
        assert await wire.rest() == Reply(b"", "fin")


async def test_server_not_reading(sandbox: Sandbox) -> None:
    sandbox.fault(find_fault("server_not_reading"))
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.transport.set_write_buffer_limits(high=0)
        wire.writer.write(request(sandbox, body=bytes(900_000)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await wire.writer.drain()
    assert sandbox.record.connections[0].bytes_received == 0


async def test_server_not_reading_ends_in_a_reset(sandbox: Sandbox) -> None:
    sandbox.fault(find_fault("server_not_reading~seconds=0.05"))
    assert await exchange(sandbox) == Reply(b"", "rst")


@pytest.mark.parametrize("name", ["close_on_head", "reset_on_head", "keepalive_race_rst"])
async def test_on_head(sandbox: Sandbox, name: str) -> None:
    """It bites though the body never comes."""
    sandbox.fault(name)
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        assert await wire.rest() == Reply(b"", "fin" if name == "close_on_head" else "rst")
    assert sandbox.record.requests[0].body == b""


async def test_keepalive_race(sandbox: Sandbox) -> None:
    sandbox.fault("keepalive_race_rst~skip=1")
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox))
        assert (await wire.answer()).status == 201
        wire.writer.write(request(sandbox))
        assert await wire.rest() == Reply(b"", "rst")
    assert [post.created is not None for post in sandbox.record.posts] == [True, False]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("close_before_processing", "fin"), ("close_after_request", "fin"), ("reset_after_request", "rst"),
        ("hang", "fin"), ("hang_uncommitted", "fin"),
    ],
)  # fmt: skip
async def test_no_answer(sandbox: Sandbox, name: str, end: str) -> None:
    assert await meet(sandbox, name) == Reply(b"", end)


@pytest.mark.parametrize("name", ["hang", "hang_uncommitted", "half_body_hang", "headers_then_hang", "status_199"])
async def test_silence_lasts_as_long_as_it_says(sandbox: Sandbox, name: str) -> None:
    loop = asyncio.get_running_loop()
    assert (await meet(sandbox, name, patience=0.1, seconds=5.0)).end == "open"
    sandbox.faults.clear()
    start = loop.time()
    assert (await meet(sandbox, name, seconds=0.2)).end == "fin"
    assert 0.2 <= loop.time() - start < 2


async def test_a_silent_handler_ends_when_its_client_goes(sandbox: Sandbox) -> None:
    sandbox.fault("hang~seconds=60")
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox))
        await sandbox.record.wait_for(lambda record: record.created)
        assert not sandbox.record.posts[0].done
        with pytest.raises(TimeoutError, match="still serving"):
            await sandbox.wait_until_idle(0.02)
    await sandbox.wait_until_idle()
    assert sandbox.record.posts[0].done


async def test_early_413_comes_before_the_body_and_survives_16_mib(sandbox: Sandbox) -> None:
    sandbox.fault("early_413")
    async with await Wire.open(sandbox.base_url) as wire:
        data = request(sandbox, body=bytes(16 << 20))
        wire.writer.write(data[:1000])
        reply = await wire.answer()
        assert (reply.status, reply.header("connection")) == (413, "close")
        wire.writer.write(data[1000:])
        assert (await wire.rest()).end == "fin"


async def test_status_199(sandbox: Sandbox) -> None:
    assert await meet(sandbox, "status_199") == Reply(b"HTTP/1.1 199 Odd\r\nContent-Length: 0\r\n\r\n", "fin")


async def test_interim_103(sandbox: Sandbox) -> None:
    reply = await meet(sandbox, "interim_103", patience=0.1)
    assert reply.status_line == b"HTTP/1.1 103 Early Hints"
    assert reply.body.startswith(b"HTTP/1.1 201 Created\r\n")


async def test_interim_flood(sandbox: Sandbox) -> None:
    reply = await meet(sandbox, "interim_flood", patience=0.4, interval=0.01)
    assert reply.end == "open"
    assert set(reply.data.split(b"\r\n\r\n")) == {b"HTTP/1.1 102 Processing", b""}
    assert reply.data.count(b"102") >= 5


async def test_slow_head(sandbox: Sandbox) -> None:
    start = asyncio.get_running_loop().time()
    assert (await meet(sandbox, "slow_head")).status == 201
    assert asyncio.get_running_loop().time() - start >= 0.1


@pytest.mark.parametrize("name", ["drip_head", pytest.param("drip_body", marks=pytest.mark.slow)])
async def test_drip(sandbox: Sandbox, name: str) -> None:
    sandbox.fault(short(name, interval=0.001))
    pieces = []
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox))
        while b'"session_url"' not in b"".join(pieces) or not pieces[-1].endswith(b"}"):
            pieces.append(await wire.reader.read(1 << 16))
    reply = Reply(b"".join(pieces))
    assert reply.json["session_id"] == sandbox.record.created[0].session_id
    dripped = len(reply.head) if name == "drip_head" else len(reply.body)
    assert len(pieces) > dripped / 4
    assert len(pieces[0]) < (4 if name == "drip_head" else 400)


@pytest.mark.parametrize(
    ("name", "end"), [("half_body_close", "fin"), ("half_body_reset", "rst"), ("half_body_hang", "fin")]
)
async def test_half_a_body(sandbox: Sandbox, name: str, end: str) -> None:
    reply = await meet(sandbox, name)
    length = int(reply.header("content-length") or 0)
    assert (reply.status, reply.end) == (201, end)
    assert abs(len(reply.body) - length / 2) < 1


async def test_headers_then_hang(sandbox: Sandbox) -> None:
    reply = await meet(sandbox, "headers_then_hang")
    assert (reply.status, reply.body, reply.end) == (201, b"", "fin")
    assert int(reply.header("content-length") or 0) > 500


async def test_keepalive_close(sandbox: Sandbox) -> None:
    sandbox.fault("keepalive_close~after=0.05")
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox))
        assert (await wire.answer()).status == 201
        start = asyncio.get_running_loop().time()
        assert await wire.rest() == Reply(b"", "fin")
        assert asyncio.get_running_loop().time() - start < 1


async def test_an_answer_and_its_double_come_in_one_segment(sandbox: Sandbox) -> None:
    sandbox.fault(find_fault("double_answer~late=0"))
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox))
        assert (await wire.reader.read(1 << 16)).count(b"HTTP/1.1 201 Created") == 2


@pytest.mark.parametrize("late", [0, 40])
async def test_double_answer(sandbox: Sandbox, late: int) -> None:
    sandbox.fault(find_fault(f"double_answer~late={late}"))
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox))
        first = await wire.answer()
        start = asyncio.get_running_loop().time()
        second = await wire.answer()
        took = asyncio.get_running_loop().time() - start
        assert first.head == second.head
        assert set(first.json) == set(second.json)
        assert first.json["session_id"] != second.json["session_id"]
        assert first.json["redirect_url"] != second.json["redirect_url"]
        assert took > late / 2_000
        # Only the first one's session exists, and the connection still serves.
        assert [made.session_id for made in sandbox.record.created] == [first.json["session_id"]]
        sandbox.faults.clear()
        wire.writer.write(request(sandbox))
        assert (await wire.answer()).status == 201


# Framing.


async def _sent(sandbox: Sandbox, name: str) -> Reply:
    """What a fault of the framing put on the wire; it must be all of it and then the end."""
    reply = await meet(sandbox, name)
    assert reply.end == "fin"
    return reply


FRAMING: dict[str, Callable[[Reply], bool]] = {
    "half_status_line": lambda reply: reply.data == b"HTTP/1.1 20",
    "half_headers": lambda reply: reply.data.startswith(b"HTTP/1.1 201 Created\r\nContent-") and len(reply.data) == 60,
    "garbage": lambda reply: reply.data.startswith(bytes(range(256))),
    "http09": lambda reply: "session_id" in json.loads(reply.data),
    "bad_status_line": lambda reply: reply.status_line == b"HTTP/1.1 two-oh-one Created",
    "http2_preface": lambda reply: (
        reply.data[3:9] == b"\x04\x00\x00\x00\x00\x00" and reply.data[2] == len(reply.data) - 9
    ),
    "header_ctl": lambda reply: b"\r\nX-Evil: a\x00b\x01c\x7fd\r\n" in reply.head,
    "big_header": lambda reply: len(reply.header("x-big") or "") == 262_144,
    "many_headers": lambda reply: reply.head.count(b"\r\nX-Header-") == 5_000,
    "two_lengths": lambda reply: _lengths(reply) == [len(reply.body), len(reply.body) + 5],
    "length_and_chunked": lambda reply: len(_lengths(reply)) == 1 and reply.header("transfer-encoding") == "chunked",
    "length_negative": lambda reply: _lengths(reply) == [-1],
    "chunk_huge": lambda reply: reply.body.startswith(b"f" * 20 + b"\r\n{"),
    "length_too_short": lambda reply: _lengths(reply) == [len(reply.body) - 10],
    "length_too_long": lambda reply: _lengths(reply) == [len(reply.body) + 10],
    "chunk_garbage": lambda reply: reply.body.startswith(b"zz\r\n{"),
    "chunk_cut": lambda reply: int(reply.body.partition(b"\r\n")[0], 16) == len(reply.body.partition(b"\r\n")[2]) - 2,
    "upgrade_101": lambda reply: reply.status == 101 and reply.body == b"" and reply.header("upgrade") == "websocket",
}


def _lengths(reply: Reply) -> list[int]:
    return [int(line[16:]) for line in reply.head.split(b"\r\n") if line.startswith(b"Content-Length: ")]


@pytest.mark.parametrize("name", FRAMING)
async def test_framing(sandbox: Sandbox, name: str) -> None:
    assert FRAMING[name](await _sent(sandbox, name))


@pytest.mark.parametrize("name", ["length_too_short", "chunk_garbage"])
async def test_head_and_what_is_wrong_come_in_one_segment(sandbox: Sandbox, name: str) -> None:
    """That is what makes a client throw the 201 away together with what is wrong."""
    sandbox.fault(find_fault(name))
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox))
        data = await wire.reader.read(1 << 16)
        assert await wire.rest() == Reply(b"", "fin")
    assert Reply(data).body.rstrip().endswith((b"}", b"0"))


async def test_gzip(sandbox: Sandbox) -> None:
    replies = {}
    for name in ("gzip_corrupt", "gzip_lie", "gzip_cut", "gzip_double", "unknown_encoding"):
        replies[name] = await meet(sandbox, name)
        sandbox.faults.clear()
        assert replies[name].header("content-encoding") == ("x-scrambled" if name == "unknown_encoding" else "gzip")
    with pytest.raises((zlib.error, gzip.BadGzipFile)):
        gzip.decompress(replies["gzip_corrupt"].body)
    assert "session_id" in replies["gzip_lie"].json
    with pytest.raises(EOFError):
        gzip.decompress(replies["gzip_cut"].body)
    assert b"session_id" not in gzip.decompress(replies["gzip_double"].body)
    assert b"session_id" in gzip.decompress(gzip.decompress(replies["gzip_double"].body))
    with pytest.raises(UnicodeDecodeError):
        replies["unknown_encoding"].body.decode()


# Bodies.


def _raises(error: type[Exception], do: Callable[[], object]) -> bool:
    try:
        do()
    except error:
        return True
    return False


def _optional(reply: Reply) -> list[object]:
    return [value for key, value in reply.json.items() if key not in {"session_id", "redirect_url"}]


def _urls(reply: Reply) -> list[str]:
    return [value for key, value in reply.json.items() if key.endswith("_url")]


BODY_FAULTS: dict[str, Callable[[Reply], bool]] = {
    "body_empty": lambda reply: reply.body == b"",
    "body_null": lambda reply: reply.body == b"null",
    "body_not_object": lambda reply: isinstance(reply.json, list),
    "body_html": lambda reply: reply.body.startswith(b"<!doctype") and "text/html" in (reply.header("content-type") or ""),
    "body_deep": lambda reply: _raises(RecursionError, lambda: reply.json),
    "body_bigint": lambda reply: b"9" * 5_000 in reply.body and b'"session_id"' in reply.body,
    "body_cut_json": lambda reply: _raises(json.JSONDecodeError, lambda: reply.json) and len(reply.body) > 100,
    "not_utf8": lambda reply: _raises(UnicodeDecodeError, reply.body.decode),
    "bom": lambda reply: reply.body.startswith(b"\xef\xbb\xbf{"),
    "charset_rot13": lambda reply: (reply.header("content-type") or "").endswith("charset=rot13") and bool(reply.json),
    "charset_zlib": lambda reply: (reply.header("content-type") or "").endswith("charset=zlib") and bool(reply.json),
    "ct_text_plain": lambda reply: (reply.header("content-type") or "").startswith("text/plain") and bool(reply.json),
    "no_session_id": lambda reply: "session_id" not in reply.json and "redirect_url" in reply.json,
    "no_redirect_url": lambda reply: "redirect_url" not in reply.json and "session_id" in reply.json,
    "null_session_id": lambda reply: reply.json["session_id"] is None,
    "wrong_type_session_id": lambda reply: isinstance(reply.json["session_id"], int),
    "wrong_type_redirect_url": lambda reply: isinstance(reply.json["redirect_url"], dict),
    "wrong_types": lambda reply: isinstance(reply.json["session_id"], str) and len(_optional(reply)) == 6
    and sum(isinstance(value, str) for value in _optional(reply)) == 1,
    "nulls": lambda reply: _optional(reply) == [None] * 6 and isinstance(reply.json["session_id"], str),
    "new_fields": lambda reply: reply.json["x_new"] == {"a": [1, None]},
    "bad_expires_at": lambda reply: reply.json["expires_at"] == "tomorrow",
    "url_other_host": lambda reply: all(url.startswith("https://elsewhere.invalid/") for url in _urls(reply)),
    "url_evil": lambda reply: all(url.startswith("javascript:") for url in _urls(reply)),
    "url_crlf": lambda reply: all("\r\nX-Injected: yes\r\n" in url for url in _urls(reply)),
    "set_cookie": lambda reply: (reply.header("set-cookie") or "").startswith("sid=") and "session_id" in reply.json,
}  # fmt: skip


@pytest.mark.parametrize("name", BODY_FAULTS)
async def test_body(sandbox: Sandbox, name: str) -> None:
    reply = await meet(sandbox, name)
    assert reply.status == 201
    assert BODY_FAULTS[name](reply)


@pytest.mark.parametrize(
    ("name", "unpack"),
    [
        ("big_body", bytes),
        ("gzip_bomb", gzip.decompress),
        ("deflate_bomb", zlib.decompress),
        ("error_huge", bytes),
        ("error_bomb", gzip.decompress),
    ],
)
async def test_big_answers_are_valid_json(sandbox: Sandbox, name: str, unpack: Callable[[bytes], bytes]) -> None:
    reply = await meet(sandbox, name)
    plain = unpack(reply.body)
    assert 2 << 20 < len(plain) < (2 << 20) + 2_000
    if "bomb" in name:
        assert len(reply.body) < 10_000
    value = json.loads(plain)
    assert "session_id" in value if FAULTS[name].processes_request else "error_code" in value


async def test_a_big_body_is_made_only_as_far_as_it_is_read(sandbox: Sandbox) -> None:
    sandbox.fault(find_fault("big_body", mib=1_000_000))
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox))
        assert len(await wire.reader.readexactly(3 << 20)) == 3 << 20
    await sandbox.wait_until_idle()
    assert sandbox.record.posts[0].done


# Statuses.


@pytest.mark.parametrize("name", sorted(name for name in FAULTS if name[:7] == "status_" and name[7:10].isdigit()))
async def test_status(sandbox: Sandbox, name: str) -> None:
    status = int(name[7:10])
    if status == 199:
        return  # It is none that an answer can have; see test_status_199.
    reply = await meet(sandbox, name)
    assert reply.status == status
    if status in {204, 205, 304}:
        assert reply.body == b""
    elif status < 300:
        assert reply.json["session_id"] == sandbox.record.created[0].session_id
    else:
        assert set(reply.json) == {"error_code", "error_messages", "correlation_id"}
    if "retry_after" in name:
        assert reply.header("retry-after") == "0.1"


@pytest.mark.parametrize("name", sorted(name for name in FAULTS if name.startswith("redirect_")))
async def test_redirect(sandbox: Sandbox, name: str) -> None:
    reply = await meet(sandbox, name)
    assert reply.status == int(name[9:12])
    location = reply.header("location") or ""
    assert (
        location
        == (sandbox.base_url if name.endswith("_same") else await sandbox.redirect_target()) + "/hpp/v1/sessions"
    )


async def test_the_sink_writes_down_what_comes(sandbox: Sandbox) -> None:
    assert await sandbox.redirect_target() == await sandbox.redirect_target() != sandbox.base_url
    sandbox.fault("status_500")
    async with await Wire.open(await sandbox.redirect_target()) as wire:
        wire.writer.write(request(sandbox))
        assert (await wire.answer()).status == 418
    [hit] = sandbox.record.sink
    assert (hit.method, hit.target) == ("POST", "/hpp/v1/sessions")
    assert hit.header("authorization") == f"Basic {sandbox.api_key}".encode()
    assert hit.payment_session_url == ORDER
    assert (sandbox.record.requests, sandbox.record.posts, sandbox.record.created) == ((), (), ())
    assert (sandbox.record.counts.sink, sandbox.record.counts.requests) == (1, 0)
    assert [connection.port for connection in sandbox.record.connections] == ["sink"]


RETRY_AFTER: dict[str, Callable[[str], bool]] = {
    "retry_after_seconds": lambda text: text == "3",
    "retry_after_date": lambda text: 1 <= _ahead(text) <= 3,
    "retry_after_past": lambda text: _ahead(text) < -1e8,
    "retry_after_naive": lambda text: email.utils.parsedate_to_datetime(text).tzinfo is None,
    "retry_after_overflow": lambda text: _raises(ValueError, lambda: email.utils.parsedate_to_datetime(text)),
    "retry_after_garbage": lambda text: _raises(ValueError, lambda: float(text)),
    "retry_after_empty": lambda text: text == "",
    "retry_after_negative": lambda text: text == "-5",
    "retry_after_huge": lambda text: text == "999999999",
    "retry_after_digits": lambda text: text == "9" * 5_000,
    "retry_after_superscript": lambda text: text.isdigit() and _raises(ValueError, lambda: int(text)),
    "retry_after_nan": lambda text: text == "nan",
    "retry_after_inf": lambda text: text == "inf",
    "retry_after_exponent": lambda text: text == "1e9",
    "retry_after_control": lambda text: text.endswith("5"),
}


def _ahead(text: str) -> float:
    return (email.utils.parsedate_to_datetime(text) - dt.datetime.now(dt.UTC)).total_seconds()


@pytest.mark.parametrize("name", RETRY_AFTER)
async def test_retry_after(sandbox: Sandbox, name: str) -> None:
    reply = await _with(sandbox, find_fault(name, seconds=3))
    assert reply.status == 429
    assert RETRY_AFTER[name](reply.header("retry-after") or "")
    sandbox.faults.clear()
    assert (await _with(sandbox, find_fault(name, status=503))).status == 503


async def _with(sandbox: Sandbox, fault: Fault) -> Reply:
    sandbox.fault(fault)
    return await ask(sandbox)


async def test_ratelimit(sandbox: Sandbox) -> None:
    reply = await _with(sandbox, find_fault("ratelimit", seconds=2))
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")
    assert [reply.header(name) for name in names] == ["40, 40;w=1", "0", "2", None]
    assert reply.status == 429


async def test_a_bare_429_has_no_hint(sandbox: Sandbox) -> None:
    reply = await meet(sandbox, "status_429")
    assert (reply.header("retry-after"), reply.header("x-ratelimit-reset")) == (None, None)


ERRORS: dict[str, Callable[[Reply], bool]] = {
    "error_empty": lambda reply: reply.body == b"",
    "error_text": lambda reply: reply.header("content-type") == "text/plain" and b"upstream" in reply.body,
    "error_html": lambda reply: reply.header("content-type") == "text/html" and reply.body.startswith(b"<html>"),
    "error_cut": lambda reply: _raises(json.JSONDecodeError, lambda: reply.json),
    "error_list": lambda reply: isinstance(reply.json, list),
    "error_null": lambda reply: reply.json is None,
    "error_deep": lambda reply: _raises(RecursionError, lambda: reply.json),
    "error_not_utf8": lambda reply: _raises(UnicodeDecodeError, reply.body.decode),
    "error_wrong_types": lambda reply: not any(isinstance(value, str) for value in reply.json.values()),
    "error_message_singular": lambda reply: (
        isinstance(reply.json["error_message"], str) and "error_messages" not in reply.json
    ),
    "status_evil_error": lambda reply: all(
        not text.isprintable()
        for text in (reply.json["error_code"], reply.json["correlation_id"], *reply.json["error_messages"])
    ),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_error_body(sandbox: Sandbox, name: str) -> None:
    reply = await meet(sandbox, name)
    assert reply.status == 400
    assert ERRORS[name](reply)
    sandbox.faults.clear()
    assert (await meet(sandbox, name, status=502)).status == 502


async def test_echo_auth(sandbox: Sandbox) -> None:
    reply = await meet(sandbox, "echo_auth")
    assert reply.status_line == f"HTTP/1.1 400 Refused Basic {sandbox.api_key}".encode()
    authorization, body = reply.json["error_messages"]
    assert authorization == f"Authorization: Basic {sandbox.api_key}"
    assert json.loads(body) == {"payment_session_url": ORDER}


# The table.


def test_every_fault_has_a_test_of_its_own() -> None:
    """Beside the one that all of them go through: what it puts on the wire was looked at."""
    by_name = {
        "accept_rst", "accept_close", "server_not_reading", "close_on_head", "reset_on_head", "keepalive_race_rst",
        "early_413", "close_before_processing", "close_after_request", "reset_after_request", "hang", "hang_uncommitted",
        "status_199", "interim_103", "interim_flood", "slow_head", "drip_head", "drip_body", "headers_then_hang",
        "half_body_hang", "half_body_close", "half_body_reset", "keepalive_close", "double_answer",
        "gzip_corrupt", "gzip_lie", "gzip_cut", "gzip_double", "unknown_encoding",
        "big_body", "gzip_bomb", "deflate_bomb", "error_huge", "error_bomb", "ratelimit", "echo_auth",
    }  # fmt: skip
    numbered = {name for name in FAULTS if name[:7] == "status_" and name[7:10].isdigit()}
    redirects = {name for name in FAULTS if name.startswith("redirect_")}
    looked_at = (
        by_name | FRAMING.keys() | BODY_FAULTS.keys() | RETRY_AFTER.keys() | ERRORS.keys() | numbered | redirects
    )
    assert looked_at == set(FAULTS)


@pytest.mark.parametrize(
    "name",
    """accept_rst accept_close close_on_head reset_on_head reset_after_request close_after_request
    close_before_processing keepalive_race_rst hang hang_uncommitted half_status_line half_headers garbage http09
    bad_status_line http2_preface header_ctl big_header many_headers two_lengths length_and_chunked length_negative
    chunk_huge length_too_short chunk_garbage half_body_close half_body_reset half_body_hang headers_then_hang drip_body
    length_too_long chunk_cut gzip_corrupt gzip_lie gzip_cut gzip_double unknown_encoding body_empty body_deep
    body_bigint charset_rot13 charset_zlib not_utf8 bom ct_text_plain body_html upgrade_101 status_199 early_413
    double_answer big_body gzip_bomb deflate_bomb echo_auth status_evil_error set_cookie url_other_host url_evil url_crlf
    server_not_reading""".split(),
)
def test_the_names_that_others_build_on_stand(name: str) -> None:
    assert FAULTS[name].name == name
    assert FAULTS[name].about
    assert str(find_fault(name)) == name


def test_which_faults_commit_is_as_it_was_decided() -> None:
    """The rest of this file takes the table at its word; here its word is checked."""
    nothing_done = {
        "accept_rst", "accept_close", "server_not_reading", "close_on_head", "reset_on_head", "keepalive_race_rst",
        "early_413", "close_before_processing", "hang_uncommitted", "ratelimit", "echo_auth",
    }  # fmt: skip
    done_nevertheless = {"redirect_303", "redirect_303_same"}
    done_nevertheless |= {f"status_{status}" for status in (200, 201, 202, 204, 205, 299)}
    refusals = {name for name in FAULTS if name.startswith(("status_", "redirect_", "retry_after_", "error_"))}
    assert {
        name for name in FAULTS if not FAULTS[name].processes_request
    } == nothing_done | refusals - done_nevertheless


async def test_the_record_has_the_response_and_the_rule_of_a_request_that_met_a_fault(sandbox: Sandbox) -> None:
    sandbox.fault("status_503", nth=2)
    sandbox.fault("garbage", skip=2)
    assert (await ask(sandbox)).status == 201
    reply = await ask(sandbox)
    raw = await exchange(sandbox)
    healthy, refused, broken = sandbox.record.requests
    assert (healthy.response, healthy.rule) == (b"", "")
    assert (refused.response, refused.rule) == (reply.data, "rule 1: create_session, from number 2 on, once")
    assert (broken.response, broken.rule) == (raw.data, "rule 2: create_session, from number 3 on")
    assert None not in (healthy.received_at, refused.received_at, broken.received_at)


async def test_the_record_has_the_response_of_a_refused_request_up_to_64_kib(sandbox: Sandbox) -> None:
    assert (await ask(sandbox, request(sandbox, authorization="Basic nonsense"))).status == 401
    sandbox.fault(find_fault("error_huge~mib=1"))
    await exchange(sandbox, request(sandbox).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    refused, huge = sandbox.record.requests
    assert refused.response.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b'"error_code":"UNAUTHORIZED"' in refused.response
    assert len(huge.response) == 65_536
