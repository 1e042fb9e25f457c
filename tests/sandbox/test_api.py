"""The sandbox as a healthy API: what it takes, what it answers, and what it writes down."""

import asyncio
import contextlib
import datetime as dt
import doctest
import json
import re
import socket
import string
import subprocess
import sys
import uuid

import aiohttp
import pytest
import yarl

import kustom_hpp.sandbox.faults
import kustom_hpp.sandbox.sandbox
from kustom_hpp import models
from kustom_hpp._protocol.codec import codec
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.stored_session import new_id, new_session
from tests.sandbox.support import ORDER, PATH, Wire, ask, basic, order, request

CARD = {
    "distribution_module", "distribution_url", "expires_at", "manual_identification_check_url", "qr_code_url",
    "redirect_url", "session_id", "session_url",
}  # fmt: skip


async def test_a_create_is_answered_with_every_field_of_the_card(sandbox: Sandbox) -> None:
    reply = await ask(sandbox)

    assert reply.status_line == b"HTTP/1.1 201 Created"
    assert reply.header("content-type") == "application/json"
    assert uuid.UUID(reply.header("Klarna-Correlation-Id"))
    answer = reply.json
    assert set(answer) == CARD
    session_id = answer["session_id"]
    assert str(uuid.UUID(session_id)) == session_id
    assert answer["session_url"] == f"{sandbox.base_url}{PATH}/{session_id}"
    assert answer["distribution_url"] == f"{sandbox.base_url}{PATH}/{session_id}/distribution"
    assert answer["manual_identification_check_url"] == f"{sandbox.base_url}{PATH}/{session_id}/manual-id-check"
    assert re.fullmatch(re.escape(sandbox.base_url) + r"/eu/hpp/payments/\w{10}", answer["redirect_url"])
    assert answer["qr_code_url"] == f"{sandbox.base_url}/eu/hpp/payments/{session_id}/qr"
    module = answer["distribution_module"]
    assert set(module) == {"generation_url", "standalone_url", "token"}
    assert "{{profile_id}}" in module["standalone_url"]
    assert "{{view_id}}" in module["standalone_url"]
    # And our own model finds nothing in it that it does not know.
    session = codec().decode_response(reply.body, models.Session)
    assert session.extra == {}
    assert session.distribution_module is not None
    assert session.distribution_module.extra == {}


async def test_a_session_expires_47_hours_ahead_in_the_spelling_of_the_api(sandbox: Sandbox) -> None:
    before = dt.datetime.now(dt.UTC)
    text = (await ask(sandbox)).json["expires_at"]
    after = dt.datetime.now(dt.UTC)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    made = dt.datetime.fromisoformat(text) - dt.timedelta(hours=47)
    assert before - dt.timedelta(milliseconds=1) <= made <= after


async def test_two_creates_share_nothing(sandbox: Sandbox) -> None:
    first, second = (await ask(sandbox)).json, (await ask(sandbox)).json
    assert not set(_leaves(first)) & set(_leaves(second)) - {first["expires_at"]}
    assert [made.session_id for made in sandbox.record.created_for(ORDER)] == [
        first["session_id"],
        second["session_id"],
    ]


def _leaves(value: object) -> list[object]:
    return [leaf for item in value.values() for leaf in _leaves(item)] if isinstance(value, dict) else [value]


# Who may.


@pytest.mark.parametrize("form", ["raw", "username", "empty username", "lower-case scheme"])
async def test_the_key_is_taken_in_three_forms(sandbox: Sandbox, form: str) -> None:
    authorization = {
        "raw": f"Basic {sandbox.api_key}",
        "username": basic(f"{sandbox.username}:{sandbox.api_key}"),
        "empty username": basic(f":{sandbox.api_key}"),
        "lower-case scheme": f"basic {sandbox.api_key}",
    }[form]
    assert (await ask(sandbox, request(sandbox, authorization=authorization))).status == 201


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("{key}", "the scheme of Authorization must be Basic"),
        ("Bearer {key}", "the scheme of Authorization must be Basic"),
        ("Basic {key}x", "the key is wrong, or not base64 of K000000_sandbox:<key>"),
        ("Basic", "the key is wrong, or not base64 of K000000_sandbox:<key>"),
        ("Basic x", "the key is wrong, or not base64 of K000000_sandbox:<key>"),
        ("Basic " + "é", "the key is wrong, or not base64 of K000000_sandbox:<key>"),
        (basic("other:key"), "the key is wrong: the sandbox shows its key when it starts"),
        ("", "the Authorization header is missing: send Basic with base64 of K000000_sandbox:<key>"),
    ],
    ids=["bare", "bearer", "longer", "empty", "other", "not ascii", "other in base64", "none"],
)
async def test_other_credentials_are_refused_and_the_message_says_why(
    sandbox: Sandbox, authorization: str, message: str
) -> None:
    data = request(sandbox, authorization=authorization.format(key=sandbox.api_key) or "-")
    if not authorization:
        data = re.sub(rb"Authorization: -\r\n", b"", data)
    reply = await ask(sandbox, data)
    assert reply.status == 401
    assert reply.json == {
        "error_code": "UNAUTHORIZED",
        "error_messages": [message],
        "correlation_id": reply.header("Klarna-Correlation-Id"),
    }
    assert reply.header("WWW-Authenticate") == 'Basic realm="Kustom HPP sandbox", charset="UTF-8"'
    assert sandbox.record.created == ()


async def test_the_username_must_match_if_it_is_sent(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, request(sandbox, authorization=basic(f"someone:{sandbox.api_key}")))
    expected = "the username is wrong, got text of 7 bytes: use K000000_sandbox, or none"
    assert (reply.status, reply.json["error_messages"]) == (401, [expected])


async def test_a_client_that_waits_for_the_challenge_gets_in(sandbox: Sandbox) -> None:
    """As .NET's HttpClient does: no credentials first, then Basic on the same connection."""
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(re.sub(rb"Authorization: [^\r]*\r\n", b"", request(sandbox)))
        first = await wire.answer()
        wire.writer.write(request(sandbox, authorization=basic(f"{sandbox.username}:{sandbox.api_key}")))
        second = await wire.answer()
    assert (first.status, second.status) == (401, 201)
    assert [seen.connection for seen in sandbox.record.requests] == [1, 1]


async def test_a_401_of_a_fault_has_the_challenge_too(sandbox: Sandbox) -> None:
    sandbox.fault("status_401")
    assert (await ask(sandbox)).header("WWW-Authenticate") == 'Basic realm="Kustom HPP sandbox", charset="UTF-8"'


async def test_key_and_user_name_can_be_chosen() -> None:
    async with Sandbox(api_key="my key", username="me") as sandbox:
        assert (await ask(sandbox, request(sandbox, authorization=basic("me:my key")))).status == 201
        assert (await ask(sandbox, request(sandbox, authorization="Basic my key"))).status == 201


def test_a_generated_key_is_a_test_key_and_another_one_each_time() -> None:
    first, second = Sandbox(), Sandbox()
    assert first.api_key.startswith("kco_test_api_")
    assert first.api_key != second.api_key


# What may be asked for.


async def test_a_bad_request_is_told_every_problem(sandbox: Sandbox) -> None:
    body = {
        "merchant_urls": {"status_update": "http://shop.example/", "success": 5},
        "options": {"purchase_type": "GIFT", "background_images": [{"url": "http://shop.example/a.png"}]},
    }
    reply = await ask(sandbox, request(sandbox, body=json.dumps(body).encode()))

    assert reply.status == 400
    assert reply.json["error_code"] == "BAD_VALUE"
    assert reply.json["correlation_id"] == reply.header("Klarna-Correlation-Id")
    paths = {message.partition(":")[0] for message in reply.json["error_messages"]}
    assert paths == {
        "payment_session_url", "merchant_urls.status_update", "merchant_urls.success", "options.purchase_type",
        "options.background_images[0].url",
    }  # fmt: skip
    assert sandbox.record.created == ()
    assert sandbox.record.posts[0].status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 50_000], ids=repr)
async def test_what_is_no_object_is_a_bad_request(sandbox: Sandbox, body: bytes) -> None:
    reply = await ask(sandbox, request(sandbox, body=body))
    assert (reply.status, reply.json["error_code"], len(reply.json["error_messages"])) == (400, "BAD_VALUE", 1)


async def test_fields_newer_than_this_release_are_taken(sandbox: Sandbox) -> None:
    body = {"payment_session_url": ORDER, "x_new": {"a": 1}, "options": {"x_new": True}}
    assert (await ask(sandbox, request(sandbox, body=json.dumps(body).encode()))).status == 201


def _sized(size: int) -> bytes:
    body = json.dumps({"payment_session_url": ORDER, "x": ""})
    return body.replace('""', '"' + "a" * (size - len(body)) + '"').encode()


async def test_a_million_bytes_are_taken_and_one_more_is_not(sandbox: Sandbox) -> None:
    assert (await ask(sandbox, request(sandbox, body=_sized(1_000_000)))).status == 201
    reply = await ask(sandbox, request(sandbox, body=_sized(1_000_001)))
    assert (reply.status, reply.json["error_code"]) == (413, "REQUEST_TOO_LARGE")
    assert [len(post.body) for post in sandbox.record.posts] == [1_000_000, 1_000_000]
    assert [post.complete for post in sandbox.record.posts] == [True, False]


async def test_a_413_arrives_though_the_body_goes_on(sandbox: Sandbox) -> None:
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox, body=bytes(32 << 20)))
        await wire.writer.drain()
        reply = await wire.rest()
    assert (reply.status, reply.end) == (413, "fin")


async def test_a_big_body_for_no_route_is_refused_as_such(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, request(sandbox, body=bytes(2_000_000)).replace(PATH.encode(), b"/elsewhere"))
    assert reply.status == 413


async def test_a_body_that_is_no_http_is_refused(sandbox: Sandbox) -> None:
    data = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", request(sandbox))
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(data[:-5])
        reply = await wire.rest()
    assert (reply.status, reply.end) == (400, "fin")
    assert sandbox.record.created == ()


async def test_a_refused_body_that_never_ends_is_not_waited_for_when_its_sender_goes(sandbox: Sandbox) -> None:
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox, body=bytes(3_000_000))[:-1])
        assert (await wire.answer()).status == 413
        assert not sandbox.record.posts[0].done
    await sandbox.wait_until_idle()
    assert sandbox.record.posts[0].done


async def test_a_body_in_chunks_is_read(sandbox: Sandbox) -> None:
    body = json.dumps({"payment_session_url": ORDER}).encode()
    data = request(sandbox, body=body).replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    data = data.replace(body, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    assert (await ask(sandbox, data)).status == 201
    assert sandbox.record.posts[0].body == body


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        ("GET /elsewhere", 404, "NOT_FOUND"),
        ("GET /hpp/v1/sessions/5d1d7f2a-5b3a-4f0f-9c3e-0d4a6b0c7a11", 404, "NOT_FOUND"),
        ("POST /hpp/v2/sessions", 404, "NOT_FOUND"),
        ("GET /hpp/v1/sessions", 405, "METHOD_NOT_ALLOWED"),
        ("PUT /hpp/v1/sessions", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_what_is_no_route_is_told_in_the_shape_of_the_api(
    sandbox: Sandbox, line: str, status: int, code: str
) -> None:
    data = request(sandbox).replace(f"POST {PATH}".encode(), line.encode())
    reply = await ask(sandbox, data)
    assert (reply.status, reply.json["error_code"]) == (status, code)
    assert reply.header("content-type") == "application/json"
    assert reply.json["correlation_id"] == reply.header("Klarna-Correlation-Id")
    strangers = await ask(sandbox, data.replace(b"Basic", b"Basic x"))
    assert (strangers.status, strangers.json["error_code"]) == (401, "UNAUTHORIZED")


# Time.


async def test_an_expired_payment_session_is_not_found(sandbox: Sandbox) -> None:
    sandbox.expire(order(1))
    reply = await ask(sandbox, request(sandbox, order(1)))
    assert (reply.status, reply.json["error_code"]) == (404, "NOT_FOUND")
    assert (await ask(sandbox, request(sandbox, order(2)))).status == 201
    assert sandbox.record.created_for(order(1)) == ()


async def test_a_payment_session_lives_48_hours_after_it_was_last_used(sandbox: Sandbox) -> None:
    assert (await ask(sandbox)).status == 201
    sandbox.clock.advance(hours=47.9)
    assert (await ask(sandbox)).status == 201
    sandbox.clock.advance(hours=47.9)
    assert (await ask(sandbox)).status == 201
    sandbox.clock.advance(hours=48, seconds=1)
    assert (await ask(sandbox)).status == 404


# The record.


async def test_the_record_has_every_byte_as_it_came(sandbox: Sandbox) -> None:
    data = (
        request(sandbox)
        .replace(b"Content-Type", b"conTENT-type")
        .replace(b"Host:", b"X-Twice: 1\r\nx-twice: 2\r\nHost:")
    )
    await ask(sandbox, data)

    [connection] = sandbox.record.connections
    assert bytes(connection.received) == data
    assert connection.bytes_received == len(data)
    assert connection.port == "api"
    [seen] = sandbox.record.requests
    head = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert [b"%b: %b" % header for header in seen.headers] == head
    assert (seen.method, seen.target, seen.connection, seen.status) == ("POST", PATH, connection.number, 201)
    assert seen.body == data.partition(b"\r\n\r\n")[2]
    assert seen.header("x-TWICE") == b"1"
    assert seen.header("cookie") is None
    [made] = sandbox.record.created
    assert (made.request, made.session_id) == (seen.number, seen.created)
    assert connection.opened_at <= seen.at <= made.at


async def test_the_record_of_a_connection_is_capped_and_its_count_is_not(sandbox: Sandbox) -> None:
    data = request(sandbox, body=_sized(200_000))
    await ask(sandbox, data)
    [connection] = sandbox.record.connections
    assert bytes(connection.received) == data[:65_536]
    assert connection.bytes_received == len(data)


async def test_the_record_shows_no_secret(sandbox: Sandbox) -> None:
    await ask(sandbox)
    seen = sandbox.record
    session_json = repr((seen.connections, seen.requests, seen.created, seen, sandbox, sandbox._server.credentials))
    assert sandbox.api_key not in session_json
    assert ORDER not in session_json


async def test_connections_and_their_requests_are_counted(sandbox: Sandbox) -> None:
    async with await Wire.open(sandbox.base_url) as wire:
        for _ in range(3):
            wire.writer.write(request(sandbox))
            await wire.answer()
    await ask(sandbox)
    await sandbox.record.wait_for(lambda record: all(one.closed_at is not None for one in record.connections))
    assert [one.requests for one in sandbox.record.connections] == [3, 1]
    assert [one.connection for one in sandbox.record.requests] == [1, 1, 1, 2]


async def test_half_a_head_is_a_connection_and_no_request(sandbox: Sandbox) -> None:
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox)[:40])
        await sandbox.record.wait_for(lambda record: [one.bytes_received for one in record.connections] == [40])
    await sandbox.wait_until_idle()
    assert (sandbox.record.requests, sandbox.record.counts.connections) == ((), 1)


async def test_half_a_body_makes_nothing(sandbox: Sandbox) -> None:
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(request(sandbox)[:-5])
        await sandbox.record.wait_for(lambda record: record.requests)
    await sandbox.wait_until_idle()
    [seen] = sandbox.record.requests
    assert (seen.complete, seen.created, seen.status, seen.done) == (False, None, None, True)


async def test_what_came_in_whole_is_processed_though_its_sender_is_gone(sandbox: Sandbox) -> None:
    for number, how in enumerate(("fin", "rst")):
        async with await Wire.open(sandbox.base_url) as wire:
            data = request(sandbox, order(number))
            wire.writer.write(data)
            if how == "rst":
                # An RST may overtake what the other side has not read yet: let it have the bytes first.
                size = len(data)
                await sandbox.record.wait_for(lambda record: record.connections[-1].bytes_received == size)  # noqa: B023
                wire.cut()
        await sandbox.wait_until_idle()
        assert len(sandbox.record.created_for(order(number))) == 1


async def test_waiting_in_vain_tells_what_was_seen(sandbox: Sandbox) -> None:
    await ask(sandbox)
    with pytest.raises(TimeoutError, match=r"not met within 0.01 s: .*created=1"):
        await sandbox.record.wait_for(lambda record: len(record.created) == 2, timeout=0.01)


async def test_the_record_can_be_bounded_and_cleared() -> None:
    async with Sandbox(remember=2) as sandbox:
        for number in range(5):
            await ask(sandbox, request(sandbox, order(number)))
        record = sandbox.record
        assert [one.payment_session_url for one in record.created] == [order(3), order(4)]
        assert [len(record.requests), len(record.connections), len(sandbox.state.sessions)] == [2, 2, 2]
        assert list(sandbox.state.payment_sessions) == [order(3), order(4)]
        counts = record.counts
        assert (counts.created, counts.posts, counts.requests, counts.connections) == (5, 5, 5, 5)
        record.clear()
        assert (record.created, record.requests, record.connections, record.counts.created) == ((), (), (), 0)


# Being a guest in a loop.


def test_the_library_does_not_load_it() -> None:
    code = "import sys, kustom_hpp; print([name for name in sys.modules if name.startswith('kustom_hpp.sandbox')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"


def test_its_examples_are_true() -> None:
    for module in (kustom_hpp.sandbox.sandbox, kustom_hpp.sandbox.faults):
        result = doctest.testmod(module)
        assert (result.failed, result.attempted > 0) == (0, True)


async def test_a_hundred_at_once(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Basic {sandbox.api_key}"}) as client:

        async def create(number: int) -> str:
            async with client.post(sandbox.base_url + PATH, json={"payment_session_url": order(number)}) as response:
                assert response.status == 201
                return str((await response.json())["session_id"])

        ids = await asyncio.gather(*(create(number) for number in range(100)))
    for number, session_id in enumerate(ids):
        assert [made.session_id for made in sandbox.record.created_for(order(number))] == [session_id]


@pytest.mark.parametrize("turns", range(6))
async def test_closing_ends_a_connection_that_has_just_come(turns: int) -> None:
    # Within a turn of the loop the server is closed before the connection has a transport: asyncio forgets it then.
    sandbox = await Sandbox().open()
    host, _, port = sandbox.base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as peer:
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await sandbox.aclose()
        peer.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""


async def test_closing_does_not_wait_for_the_silent_and_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    loop = asyncio.get_running_loop()
    sandbox = await Sandbox(faults=["hang~seconds=60"]).open()
    async with await Wire.open(sandbox.base_url) as silent, await Wire.open(sandbox.base_url) as idle:
        silent.writer.write(request(sandbox))
        idle.writer.write(b"POST")
        await sandbox.record.wait_for(lambda record: record.created and len(record.connections) == 2)
        start = loop.time()
        await sandbox.aclose()
        assert loop.time() - start < 0.5
        assert asyncio.all_tasks() <= before
        assert {(await silent.rest()).end, (await idle.rest()).end} <= {"fin", "rst"}
    await sandbox.aclose()
    assert len(sandbox.record.created) == 1


async def test_a_sandbox_can_be_opened_again_but_not_twice() -> None:
    sandbox = Sandbox()
    async with sandbox:
        assert (await ask(sandbox)).status == 201
        with pytest.raises(RuntimeError, match="open already"):
            await sandbox.open()
    async with sandbox:
        assert (await ask(sandbox)).status == 201
    assert len(sandbox.record.created) == 2


@pytest.mark.parametrize("host", ["localhost", "::1"])
async def test_other_names_of_this_machine(host: str) -> None:
    async with Sandbox(host) as sandbox:
        assert host in sandbox.base_url
        assert (await ask(sandbox)).status == 201


def test_ids_are_as_random_as_they_look() -> None:
    ids = {new_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {uuid.UUID(text).version for text in ids} == {4}
    assert {uuid.UUID(text).variant for text in ids} == {uuid.RFC_4122}
    assert {text[19] for text in ids} == set("89ab")
    pages = {
        new_session(models.CreateSessionRequest(payment_session_url=ORDER), dt.datetime.now(dt.UTC)).page_id
        for _ in range(1_000)
    }
    assert len(pages) == 1_000
    assert {character for page in pages for character in page} == set(string.ascii_letters + string.digits)


async def test_an_accepting_that_was_cancelled_does_not_hold_up_the_closing():
    sandbox = await Sandbox().open()
    url = yarl.URL(sandbox.base_url)
    before = asyncio.all_tasks()
    with socket.create_connection((url.host, url.port)):
        # A loop that is being closed cancels every task, that one too in which asyncio makes the transport.
        async with asyncio.timeout(10):
            while not (accepting := asyncio.all_tasks() - before):
                await asyncio.sleep(0)
        for task in accepting:
            task.cancel()
        await asyncio.wait_for(sandbox.aclose(), 10)
    assert asyncio.all_tasks() - before == set()
