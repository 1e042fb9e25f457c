"""Reading, disabling, distributing a session, and what stands beside it: what is taken, answered, written down."""

import asyncio
import io
import json
import sys
from typing import Any

import aiohttp
import pytest
import segno

import kustom_hpp as hpp
from kustom_hpp import models
from kustom_hpp._protocol.codec import codec
from kustom_hpp.models.distributions import METHODS
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.endpoints.sessions import ENDPOINTS
from kustom_hpp.sandbox.faults.rules import OPERATIONS
from tests.sandbox.support import ORDER, PATH, Reply, ask, call, request

NOBODY = "5d1d7f2a-5b3a-4f0f-9c3e-0d4a6b0c7a11"
EMAIL = {"method": "email", "contact_information": {"email": "ann@shop.example"}}
SMS = {"method": "sms", "contact_information": {"phone": "0701740605", "phone_country": "SE"}}
TOKEN = {"method": "token", "contact_information": {"access_id": "klarna:92d97f60-7a78-46a5-8f68-c56fe52dc4af"}}
LINES = {
    "read_session": "GET {path}",
    "disable_session": "DELETE {path}",
    "distribute_session": "POST {path}/distribution",
    "check_identity": "POST {path}/manual-id-check",
    "renew_distribution_token": "POST {path}/distribution-module/token",
}
"""Each operation on a session as a request line."""


async def created(sandbox: Sandbox) -> str:
    """The id of a new session."""
    return str((await ask(sandbox)).json["session_id"])


async def do(sandbox: Sandbox, operation: str, session_id: str, body: Any = None, **more: Any) -> Reply:
    if operation == "distribute_session" and body is None:
        body = EMAIL
    line = LINES[operation].format(path=f"{PATH}/{session_id}")
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(sandbox, call(sandbox, line, data, **more))


def test_the_script_knows_the_operations() -> None:
    assert tuple(endpoint.name for endpoint in ENDPOINTS) == OPERATIONS
    assert set(LINES) == set(OPERATIONS[1:])


# Reading.


async def test_a_read_tells_how_the_session_stands(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    reply = await do(sandbox, "read_session", session_id)
    assert reply.status_line == b"HTTP/1.1 200 OK"
    assert reply.header("content-type") == "application/json"
    assert reply.header("klarna-correlation-id")
    details = codec().decode_response(reply.body, models.SessionDetails)
    assert (details.session_id, details.status, details.extra) == (session_id, models.SessionStatus.WAITING, {})
    assert reply.json == sandbox.state.sessions[session_id].read_json()

    sandbox.act(session_id, "pay")
    reply = await do(sandbox, "read_session", session_id)
    details = codec().decode_response(reply.body, models.SessionDetails)
    assert (details.status, details.order_id) == ("COMPLETED", ORDER.rpartition("/")[2])
    assert details.extra == {}
    assert sandbox.record.requests[-1].operation == "read_session"


async def test_a_read_has_no_head(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    async with aiohttp.ClientSession(headers={"Authorization": f"Basic {sandbox.api_key}"}) as client:
        async with client.head(f"{sandbox.base_url}{PATH}/{session_id}") as response:
            assert response.status == 405
        async with client.put(f"{sandbox.base_url}{PATH}/{session_id}") as response:
            assert (response.status, response.headers["Allow"]) == (405, "DELETE,GET")


# What every operation on a session has in common.


@pytest.mark.parametrize("operation", LINES)
async def test_whom_it_does_not_know_and_what_it_does_not_know(sandbox: Sandbox, operation: str) -> None:
    session_id = await created(sandbox)
    stranger = await do(sandbox, operation, session_id, authorization="Basic x")
    assert (stranger.status, stranger.json["error_code"]) == (401, "UNAUTHORIZED")
    unknown = await do(sandbox, operation, NOBODY)
    assert (unknown.status, unknown.json["error_code"]) == (404, "NOT_FOUND")
    assert unknown.json["correlation_id"] == unknown.header("klarna-correlation-id")
    assert [seen.processed for seen in sandbox.record.requests] == [True, False, False]
    assert [seen.operation for seen in sandbox.record.requests] == ["create_session", operation, operation]

    sandbox.clock.advance(hours=47)
    assert (await do(sandbox, operation, session_id)).status == 404
    assert [moment.what for moment in sandbox.state.sessions[session_id].timeline] == ["created"]


@pytest.mark.parametrize("operation", LINES)
async def test_with_an_expired_order_the_session_is_gone(sandbox: Sandbox, operation: str) -> None:
    session_id = await created(sandbox)
    sandbox.expire(ORDER)
    assert (await do(sandbox, operation, session_id)).status == 404


# Disabling.


async def test_disabling_is_for_good_and_may_be_repeated(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    for _ in range(2):
        reply = await do(sandbox, "disable_session", session_id)
        assert (reply.status_line, reply.body) == (b"HTTP/1.1 204 No Content", b"")
        assert reply.header("content-type") is None
        assert reply.header("klarna-correlation-id")
    assert (await do(sandbox, "read_session", session_id)).json["status"] == "DISABLED"
    assert [moment.what for moment in sandbox.state.sessions[session_id].timeline] == ["created", "disabled"]


async def test_what_is_paid_cannot_be_disabled(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    sandbox.act(session_id, "pay")
    reply = await do(sandbox, "disable_session", session_id)
    assert (reply.status, reply.json["error_code"]) == (400, "SESSION_COMPLETED")
    assert (await do(sandbox, "read_session", session_id)).json["status"] == "COMPLETED"


# Distribution.


@pytest.mark.parametrize("body", [EMAIL, SMS, TOKEN], ids=lambda body: body["method"])
async def test_a_distribution_is_written_down_with_its_contact_masked(sandbox: Sandbox, body: dict[str, Any]) -> None:
    session_id = await created(sandbox)
    reply = await do(sandbox, "distribute_session", session_id, body | {"template": "INSTORE_PURCHASE", "x_new": 1})
    assert (reply.status, reply.body) == (204, b"")
    [sent] = sandbox.record.distributions
    contact = next(iter(body["contact_information"].values()))
    assert (sent.session_id, sent.method, sent.contact) == (session_id, body["method"], f"{contact[0]}***")
    assert sent.request == sandbox.record.requests[-1].number
    moment = sandbox.state.sessions[session_id].timeline[-1]
    assert (moment.what, moment.detail) == ("distributed", f"{body['method']} to {contact[0]}***")
    assert contact not in repr((sandbox.record.distributions, sandbox.state.sessions[session_id].timeline))
    # And again is again.
    await do(sandbox, "distribute_session", session_id, body)
    assert (len(sandbox.record.distributions), sandbox.record.counts.distributions) == (2, 2)
    sandbox.record.clear()
    assert (sandbox.record.distributions, sandbox.record.counts.distributions) == ((), 0)


def without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return body | {"contact_information": {k: v for k, v in body["contact_information"].items() if k != name}}


@pytest.mark.parametrize(
    ("body", "status", "code", "path"),
    [
        ({"method": "email"}, 400, "MISSING_CONTACT_DATA", "contact_information"),
        (without(EMAIL, "email"), 400, "MISSING_CONTACT_DATA", "contact_information.email"),
        (without(SMS, "phone"), 400, "MISSING_CONTACT_DATA", "contact_information.phone"),
        (without(SMS, "phone_country"), 400, "MISSING_CONTACT_DATA", "contact_information.phone_country"),
        (without(TOKEN, "access_id"), 400, "MISSING_CONTACT_DATA", "contact_information.access_id"),
        ({"method": "email", "contact_information": {"email": ""}}, 400, "MISSING_CONTACT_DATA",
         "contact_information.email"),
        ({"method": "email", "contact_information": {"email": "ann"}}, 400, "CONSTRAINT_VIOLATION",
         "contact_information.email"),
        ({"method": "email", "contact_information": {"email": 5}}, 400, "CONSTRAINT_VIOLATION",
         "contact_information.email"),
        ({"method": "email", "contact_information": []}, 400, "CONSTRAINT_VIOLATION", "contact_information"),
        ({"method": "pigeon", "contact_information": {}}, 400, "CONSTRAINT_VIOLATION", "method"),
        ({}, 400, "CONSTRAINT_VIOLATION", "method"),
        (EMAIL | {"template": "NEWSLETTER"}, 400, "CONSTRAINT_VIOLATION", "template"),
        ({"method": "sms", "contact_information": {"phone": "1", "phone_country": "se"}}, 400, "CONSTRAINT_VIOLATION",
         "contact_information.phone_country"),
        ({"method": "sms", "contact_information": {"phone": "1", "phone_country": "AQ"}}, 400, "UNSUPPORTED_COUNTRY",
         "contact_information.phone_country"),
        ({"method": "token", "contact_information": {"access_id": "1234567"}}, 404, "NOT_FOUND",
         "contact_information.access_id"),
        (b"[]", 400, "CONSTRAINT_VIOLATION", "$"),
        (b"{", 400, "CONSTRAINT_VIOLATION", "$"),
        (b"", 400, "CONSTRAINT_VIOLATION", "$"),
        (b"\xff", 400, "CONSTRAINT_VIOLATION", "$"),
    ],
)  # fmt: skip
async def test_what_cannot_be_distributed(
    sandbox: Sandbox, body: dict[str, Any] | bytes, status: int, code: str, path: str
) -> None:
    reply = await do(sandbox, "distribute_session", await created(sandbox), body)
    assert (reply.status, reply.json["error_code"]) == (status, code)
    assert path in {message.partition(":")[0] for message in reply.json["error_messages"]}
    assert sandbox.record.distributions == ()


@pytest.mark.parametrize("access_id", ["123456", "123456789012", "92D97F60-7a78-46a5-8f68-c56fe52dc4af"])
async def test_the_forms_of_an_access_id(sandbox: Sandbox, access_id: str) -> None:
    body = {"method": "token", "contact_information": {"access_id": access_id}}
    assert (await do(sandbox, "distribute_session", await created(sandbox), body)).status == 204


@pytest.mark.parametrize("operation", ["distribute_session", "check_identity", "renew_distribution_token"])
@pytest.mark.parametrize("end", ["disabled", "pay", "cancel"])
async def test_what_is_over_takes_nothing_more(sandbox: Sandbox, operation: str, end: str) -> None:
    session_id = await created(sandbox)
    if end == "disabled":
        await do(sandbox, "disable_session", session_id)
    else:
        sandbox.act(session_id, end)
    reply = await do(sandbox, operation, session_id)
    code = "CONSTRAINT_VIOLATION" if operation == "distribute_session" else "SESSION_CLOSED"
    assert (reply.status, reply.json["error_code"]) == (400, code)
    assert reply.json["error_messages"] == [f"the session is {sandbox.state.sessions[session_id].status}"]


@pytest.mark.parametrize("what", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_a_body_must_say_that_it_is_json(sandbox: Sandbox, what: str | None) -> None:
    session_id = await created(sandbox)
    header = b"" if what is None else f"Content-Type: {what}\r\n".encode()
    create = request(sandbox)
    distribute = call(sandbox, f"POST {PATH}/{session_id}/distribution", json.dumps(EMAIL).encode())
    for data in (create, distribute):
        reply = await ask(sandbox, data.replace(b"Content-Type: application/json\r\n", header))
        assert (reply.status, reply.json["error_code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        header_of_json = b"content-type: Application/JSON; charset=utf-8\r\n"
        reply = await ask(sandbox, data.replace(b"Content-Type: application/json\r\n", header_of_json))
        assert reply.status in {201, 204}


def test_every_method_of_the_model_was_tried() -> None:
    assert set(METHODS) == {body["method"] for body in (EMAIL, SMS, TOKEN)}


# An identity check, a new token, the code.


async def test_an_identity_check_is_begun(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    reply = await do(sandbox, "check_identity", session_id)
    assert reply.status == 200
    details = codec().decode_response(reply.body, models.SessionDetails)
    assert details.status is models.SessionStatus.MANUAL_ID_CHECK
    assert details.manual_identification is not None
    assert (details.manual_identification.challenge, details.manual_identification.extra) == ("A78", {})
    assert reply.json == (await do(sandbox, "read_session", session_id)).json


async def test_a_new_distribution_token(sandbox: Sandbox) -> None:
    answer = (await ask(sandbox)).json
    reply = await do(sandbox, "renew_distribution_token", answer["session_id"])
    assert reply.status == 201
    module, old = reply.json, answer["distribution_module"]
    assert module["token"] != old["token"]
    assert module["generation_url"] == old["generation_url"]
    assert module["standalone_url"] == old["standalone_url"].replace(old["token"], module["token"])


async def fetched(url: str) -> tuple[int, str, bytes]:
    async with aiohttp.ClientSession() as browser, browser.get(url) as response:
        return response.status, response.content_type, await response.read()


async def test_the_qr_code_leads_to_the_page(sandbox: Sandbox) -> None:
    answer = (await ask(sandbox)).json
    status, kind, image = await fetched(answer["qr_code_url"])
    expected = io.BytesIO()
    segno.make_qr(answer["redirect_url"], error="m").save(expected, kind="png", scale=8)
    assert (status, kind, image) == (200, "image/png", expected.getvalue())
    # It is no operation of the API.
    assert len(sandbox.record.requests) == 1


async def test_a_qr_code_of_nobody(sandbox: Sandbox) -> None:
    answer = (await ask(sandbox)).json
    assert (await fetched(answer["qr_code_url"].replace(answer["session_id"], NOBODY)))[0] == 404
    sandbox.clock.advance(hours=47)
    assert (await fetched(answer["qr_code_url"]))[0] == 404


async def test_without_segno_the_extra_is_named(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (await ask(sandbox)).json
    monkeypatch.setitem(sys.modules, "segno", None)
    status, kind, text = await fetched(answer["qr_code_url"])
    assert (status, kind) == (501, "text/plain")
    assert b"kustom_hpp[sandbox]" in text
    assert (await ask(sandbox)).status == 201


# Together.


async def test_a_client_of_the_library_may_make_what_others_end(sandbox: Sandbox) -> None:
    async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client:
        session = await client.create_session(hpp.CreateSessionRequest(payment_session_url=ORDER))
    assert sandbox.act(session, "decline") is None
    replies = await asyncio.gather(*(do(sandbox, "read_session", session.session_id) for _ in range(20)))
    assert {reply.json["status"] for reply in replies} == {"FAILED"}
