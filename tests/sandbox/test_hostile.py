"""Hostile input at the API: it stays up, answers right, reads no file, and nobody else has to wait."""

import asyncio
import contextlib
import gzip
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.sandbox.support import ORDER, PATH, Reply, Wire, ask, call, request
from tests.sandbox.test_operations import EMAIL, LINES

MIB = 1 << 20


@pytest.fixture
async def healthy(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Sandbox]:
    """A sandbox that must be as well after the test as it was before, and must have logged nothing."""
    with caplog.at_level(logging.WARNING):
        yield sandbox
        assert (await ask(sandbox)).status == 201
        await sandbox.wait_until_idle()
    assert caplog.records == []


def refused(reply: Reply, status: int) -> None:
    """It is a refusal in the API's shape."""
    assert reply.status == status
    assert reply.header("content-type") == "application/json"
    assert set(reply.json) == {"error_code", "error_messages", "correlation_id"}
    assert reply.json["correlation_id"]


# Bodies.


@pytest.mark.parametrize("operation", ["create_session", *LINES])
async def test_ten_megabytes(healthy: Sandbox, operation: str) -> None:
    session_id = (await ask(healthy)).json["session_id"]
    line = ({"create_session": "POST {path}"} | LINES)[operation].format(
        path=PATH if operation == "create_session" else f"{PATH}/{session_id}"
    )
    async with await Wire.open(healthy.base_url) as wire:
        wire.writer.write(call(healthy, line, b'{"a":"' + bytes(10 * MIB) + b'"}'))
        reply = await wire.rest()
    refused(reply, 413)
    assert reply.end == "fin"
    assert len(healthy.record.requests[-1].body) == 1_000_000


@pytest.mark.slow
async def test_ten_megabytes_in_chunks_of_a_byte_each(healthy: Sandbox) -> None:
    """A few bytes of framing for each byte, and as many reads as the sender likes."""
    head = request(healthy).partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    async with await Wire.open(healthy.base_url) as wire:
        wire.writer.write(head + b"1\r\na\r\n" * (2 * MIB) + b"0\r\n\r\n")
        reply = await wire.rest(20)
    refused(reply, 413)


@pytest.mark.parametrize(
    "body",
    [
        b'{"payment_session_url":"' + ORDER.encode() + b'","profile_id":"\xff\xfe"}',
        b"\xed\xa0\x80", b"\x00" * 100, b'{"payment_session_url":"\\ud800"}', b'{"a":' * 100_000, b"[" * 500_000,
        b'{"payment_session_url":"x","n":' + b"9" * 5_000 + b"}", b'{"payment_session_url":"x","n":NaN}',
        b'{"payment_session_url":"x","n":1e999}', gzip.compress(b"{}" * 100, mtime=0), b"\xff\xfe{\x00}\x00",
        b'{"__proto__":{"a":1},"payment_session_url":{"$ne":null}}',
    ],
    ids=lambda body: repr(body[:30]),
)  # fmt: skip
@pytest.mark.parametrize("operation", ["create_session", "distribute_session"])
async def test_bodies_that_are_not_what_they_should_be(healthy: Sandbox, operation: str, body: bytes) -> None:
    if operation == "create_session":
        reply = await ask(healthy, request(healthy, body=body))
    else:
        session_id = (await ask(healthy)).json["session_id"]
        reply = await ask(healthy, call(healthy, f"POST {PATH}/{session_id}/distribution", body))
    refused(reply, 400)
    assert len(reply.body) < 10_000


@pytest.mark.parametrize("depth", [50, 400, 900, 5_000])
async def test_fields_of_any_depth(healthy: Sandbox, depth: int) -> None:
    body = b'{"payment_session_url":"' + ORDER.encode() + b'","newer":' + b"[" * depth + b"]" * depth + b"}"
    reply = await ask(healthy, request(healthy, body=body))
    assert reply.status in {201, 400}
    if reply.status == 201:
        session = healthy.state.sessions[reply.json["session_id"]]
        assert session.request.payment_session_url == ORDER


# Paths.


@pytest.mark.parametrize(
    "target",
    [
        f"{PATH}/../../etc/passwd", f"{PATH}/..%2f..%2fetc%2fpasswd", f"{PATH}/%2e%2e/%2e%2e/etc/passwd",
        f"{PATH}/..\\..\\etc\\passwd", f"{PATH}/%00", f"{PATH}/a%00b", f"{PATH}/%c0%ae%c0%ae", f"{PATH}/%ff%fe",
        f"{PATH}/....//....//etc/passwd", f"{PATH}//", f"//{PATH}/x", f"{PATH}/;x=1", f"{PATH}/%", f"{PATH}/%zz",
        f"{PATH}/{'a' * 4_000}", f"{PATH}/file:%2f%2f%2fetc%2fpasswd", "/etc/passwd", "/hpp/v1/sessions/{session_id}",
        f"{PATH}/$%7Bjndi%7D", f"{PATH}/'%20or%201=1", f"{PATH}/x/distribution/../..", "/hpp/../hpp/v1/sessions/x", "*",
        "http://elsewhere.example/hpp/v1/sessions/x", f"{PATH}/x?a=%00&b=../../etc/passwd",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_paths_lead_nowhere(healthy: Sandbox, method: str, target: str) -> None:
    reply = await ask(healthy, call(healthy, f"{method} {target}"))
    assert reply.status in {400, 404, 405}
    refused(reply, reply.status)
    assert b"root:" not in reply.data


async def test_a_path_that_leads_to_a_session_by_a_detour_is_none(healthy: Sandbox) -> None:
    """aiohttp takes out dots as RFC 3986 says; what is left names the session, and nothing else."""
    session_id = (await ask(healthy)).json["session_id"]
    for target in (
        f"{PATH}/x/../{session_id}",
        f"{PATH}/{session_id}/",
        f"{PATH}/{session_id}%20",
        f"{PATH}/{session_id[:-1]}",
    ):
        reply = await ask(healthy, call(healthy, f"GET {target}"))
        assert reply.status == 404 or reply.json["session_id"] == session_id


@pytest.mark.parametrize("size", [8_000, 9_000, 100_000])
async def test_ids_of_any_length(healthy: Sandbox, size: int) -> None:
    async with await Wire.open(healthy.base_url) as wire:
        wire.writer.write(call(healthy, f"GET {PATH}/{'a' * size}"))
        reply = await wire.answer()
    refused(reply, 404 if size < 8_190 else 400)


# Heads.


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n", b"GET /nowhere\r\n\r\n", b"G\xffT / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n",
        b"POST /hpp/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /hpp/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /hpp/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /hpp/v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200_000 + b"\r\n",
    ],
    ids=lambda head: repr(head[:60]),
)  # fmt: skip
async def test_what_is_no_http(healthy: Sandbox, head: bytes) -> None:
    async with await Wire.open(healthy.base_url) as wire:
        wire.writer.write(head)
        reply = await wire.rest()
    assert reply.end in {"fin", "rst"}
    if reply.data:
        refused(reply, reply.status)
        assert reply.status in {400, 401}
    assert healthy.record.created == ()


async def test_a_malformed_head_tells_nothing_of_what_came(healthy: Sandbox) -> None:
    data = request(healthy, authorization="Basic s3cret-\x00-key")
    async with await Wire.open(healthy.base_url) as wire:
        wire.writer.write(data)
        reply = await wire.rest()
    refused(reply, 400)
    assert b"s3cret" not in reply.data


async def test_a_failure_of_its_own_is_told_in_the_shape_of_the_api(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a text that nobody should read")

    monkeypatch.setattr(sandbox.state, "create", broken)
    reply = await ask(sandbox)
    refused(reply, 500)
    assert b"nobody should read" not in reply.data
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    monkeypatch.undo()
    assert (await ask(sandbox)).status == 201


@pytest.mark.parametrize(
    "header", ["Expect: 100-continue", "Expect: nothing", "Connection: close, upgrade", "Upgrade: h2c"]
)
async def test_headers_that_ask_for_something_odd(healthy: Sandbox, header: str) -> None:
    data = request(healthy).replace(b"Content-Type", header.encode() + b"\r\nContent-Type")
    async with await Wire.open(healthy.base_url) as wire:
        wire.writer.write(data)
        reply = await wire.answer()
        if reply.status == 100:
            reply = await wire.answer()
    assert reply.status in {201, 400, 417}


# Slow ones, and many.


@contextlib.asynccontextmanager
async def slow_senders(sandbox: Sandbox, count: int) -> AsyncIterator[list[Wire]]:
    """Connections whose requests do not come whole: the pieces are from half a head to nearly the whole body."""
    whole = request(sandbox)
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(await Wire.open(sandbox.base_url)) for _ in range(count)]
        for number, wire in enumerate(wires):
            wire.writer.write(whole[: len(whole) * (number % 10 + 1) // 11])
        await sandbox.record.wait_for(
            lambda record: sum(bool(one.bytes_received) for one in record.connections) == count, timeout=20
        )
        yield wires


async def test_slow_senders_hold_up_nobody(healthy: Sandbox) -> None:
    async with slow_senders(healthy, 200) as wires:
        for _ in range(20):
            assert (await ask(healthy)).status == 201
            for wire in wires[:20]:
                wire.writer.write(b"x")
        assert len(healthy.record.created) == 20
    await healthy.record.wait_for(lambda record: all(one.closed_at is not None for one in record.connections))


async def test_slow_senders_do_not_keep_it_open() -> None:
    sandbox = await Sandbox().open()
    async with slow_senders(sandbox, 50):
        before = asyncio.get_running_loop().time()
        await sandbox.aclose()
        # Nobody was waited for: not for the seconds that an unfinished body may take, let alone for ever.
        assert asyncio.get_running_loop().time() - before < 5
    assert sandbox.record.created == ()


async def test_a_reader_that_never_reads_holds_up_nobody(healthy: Sandbox) -> None:
    async with await Wire.open(healthy.base_url) as wire:
        wire.writer.transport.pause_reading()
        wire.writer.write(request(healthy) * 3_000)
        await healthy.record.wait_for(lambda record: len(record.created) > 500)
        assert (await ask(healthy)).status == 201


async def test_many_requests_in_one_write_are_answered_in_their_order(healthy: Sandbox) -> None:
    session_id = (await ask(healthy)).json["session_id"]
    path = f"{PATH}/{session_id}"
    lines = [("GET", 200), ("DELETE", 204), ("GET", 200), ("PATCH", 405)] * 50
    async with await Wire.open(healthy.base_url) as wire:
        wire.writer.write(b"".join(call(healthy, f"{method} {path}") for method, _ in lines))
        assert [(await wire.answer()).status for _ in lines] == [status for _, status in lines]


async def test_noise(healthy: Sandbox) -> None:
    """Whole requests with bytes flipped at random, the same in every run: never a 5xx, never silence."""
    import random

    dice = random.Random(4)
    body = json.dumps(EMAIL).encode()
    session_id = (await ask(healthy)).json["session_id"]
    whole = [request(healthy), call(healthy, f"POST {PATH}/{session_id}/distribution", body)]
    for _ in range(300):
        data = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        async with await Wire.open(healthy.base_url) as wire:
            wire.writer.write(bytes(data))
            wire.writer.write_eof()
            reply = await wire.rest()
        assert reply.end in {"fin", "rst"}
        assert not reply.data or reply.status < 500, data
