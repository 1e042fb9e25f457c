"""The sandbox asked and told from outside, over HTTP."""

import io
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kustom_hpp.sandbox import Latency, MerchantRateLimit, Sandbox
from kustom_hpp.sandbox.endpoints import admin
from tests.sandbox.support import ask, order, request

SECRET = "t0p-secret"


class Admin:
    """A client of the admin endpoint."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.session = session

    async def __call__(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, Any]:
        """Status and JSON; None where there is no body."""
        data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        headers = {"Authorization": f"Basic {self.sandbox.api_key if key is None else key}"}
        async with self.session.request(method, f"/_sandbox/{path}", data=data, headers=headers) as answer:
            text = await answer.read()
            assert answer.headers["Klarna-Correlation-Id"]
            assert ("Content-Type" in answer.headers) is bool(text)
            return answer.status, json.loads(text) if text else None

    async def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str, list[str]]:
        """How a request is refused."""
        status, said = await self(method, path, body)
        assert set(said) == {"error_code", "error_messages", "correlation_id"}
        return status, said["error_code"], said["error_messages"]


@pytest.fixture
async def tell(sandbox: Sandbox) -> AsyncIterator[Admin]:
    async with aiohttp.ClientSession(sandbox.base_url) as session:
        yield Admin(sandbox, session)


async def create(sandbox: Sandbox, number: int = 1) -> tuple[int, Any]:
    body = {
        "payment_session_url": f"{order(number)}?token={SECRET}",
        "merchant_urls": {
            "success": "https://shop.example/thanks?sid={{session_id}}",
            "failure": "https://shop.example/no",
        },
    }
    reply = await ask(sandbox, request(sandbox, body=json.dumps(body).encode()))
    return reply.status, reply.json


# Faults, quota, latency, clock.


async def test_faults_come_and_go(sandbox: Sandbox, tell: Admin) -> None:
    assert await tell("GET", "faults") == (200, {"faults": []})
    always = {
        "skip": 0,
        "times": None,
        "probability": 1.0,
        "seed": 0,
        "operation": "create_session",
        "payment_session_url": None,
    }
    second = {"number": 1, "fault": "status_503", **always, "skip": 1, "times": 1, "checked": 0, "triggered": 0}
    assert await tell("POST", "faults", {"fault": "status_503", "nth": 2, "times": None}) == (201, second)
    assert [(await create(sandbox))[0] for _ in range(3)] == [201, 503, 201]
    assert await tell("GET", "faults") == (200, {"faults": [second | {"checked": 3, "triggered": 1}]})

    status, listed = await tell("POST", "faults", {"fault": ["status_429", None, "status_400"]})
    assert (status, listed["number"], listed["fault"]) == (201, 2, ["status_429", None, "status_400"])
    assert [(await create(sandbox))[0] for _ in range(4)] == [429, 201, 400, 201]

    assert (await tell("POST", "faults", {"fault": "retry_after_seconds~seconds=3,times=1"}))[0] == 201
    assert await tell("DELETE", "faults/2") == (204, None)
    assert [rule["number"] for rule in (await tell("GET", "faults"))[1]["faults"]] == [1, 3]
    assert (await create(sandbox))[0] == 429
    assert (await tell.refused("DELETE", "faults/2"))[:2] == (404, "NOT_FOUND")
    assert await tell("DELETE", "faults") == (204, None)
    assert sandbox.faults.rules == ()
    # A number is never given twice: whoever holds an old one removes nothing of somebody else's.
    assert (await tell("POST", "faults", {"fault": "hang"}))[1]["number"] == 4


async def test_a_fault_for_one_operation_and_one_payment_session(sandbox: Sandbox, tell: Admin) -> None:
    _, session = await create(sandbox)
    _, rule = await tell("POST", "faults", {"fault": "status_500", "operation": "read_session", "times": 1})
    assert rule["operation"] == "read_session"
    headers = {"Authorization": f"Basic {sandbox.api_key}"}
    for expected in (500, 200):
        async with tell.session.get(session["session_url"].removeprefix(sandbox.base_url), headers=headers) as answer:
            assert answer.status == expected
    only = f"{order(7)}?token={SECRET}"
    _, rule = await tell("POST", "faults", {"fault": "status_403", "payment_session_url": only})
    assert rule["payment_session_url"] == f"{order(7)}?***"
    assert [(await create(sandbox, number))[0] for number in (6, 7)] == [201, 403]


async def test_the_quota_can_be_changed(sandbox: Sandbox, tell: Admin) -> None:
    assert await tell("GET", "rate_limit") == (200, {"rate_limit": None})
    two = {"rate_limit": {"rate": 2, "burst": 2, "announce": "headers"}}
    assert await tell("POST", "rate_limit", {"rate": 2}) == (200, two)
    assert await tell("GET", "rate_limit") == (200, two)
    assert sandbox.rate_limit.limit == MerchantRateLimit(2)
    assert [(await create(sandbox))[0] for _ in range(3)] == [201, 201, 429]
    assert (await tell("POST", "rate_limit", {"rate": 0.5, "burst": 7, "announce": "bare"}))[0] == 200
    assert sandbox.rate_limit.limit == MerchantRateLimit(0.5, 7, "bare")
    assert await tell("DELETE", "rate_limit") == (204, None)
    assert sandbox.rate_limit is None
    assert (await create(sandbox))[0] == 201


async def test_the_latency_can_be_changed(sandbox: Sandbox, tell: Admin) -> None:
    assert await tell("GET", "latency") == (200, {"latency": None})
    assert await tell("POST", "latency", {"low": 60}) == (200, {"latency": {"low": 60.0, "high": None, "seed": 0}})
    assert sandbox.latency == Latency(60)
    # It is not for the admin's own answers.
    assert await tell("POST", "latency", {"low": 0.1, "high": 0.2, "seed": 3}) == (
        200, {"latency": {"low": 0.1, "high": 0.2, "seed": 3}}
    )  # fmt: skip
    assert await tell("DELETE", "latency") == (204, None)
    assert sandbox.latency is None


async def test_time_can_be_moved(sandbox: Sandbox, tell: Admin) -> None:
    _, session = await create(sandbox)
    _, before = await tell("GET", "clock")
    status, after = await tell("POST", "clock", {"hours": 47, "seconds": 1})
    assert (status, before["now"] < session["expires_at"] < after["now"]) == (200, True)
    assert (await tell.refused("POST", f"sessions/{session['session_id']}/pay"))[:2] == (404, "NOT_FOUND")


# The consumer, and the record.


async def test_the_consumer_acts(sandbox: Sandbox, tell: Admin) -> None:
    _, session = await create(sandbox)
    path = f"sessions/{session['session_id']}"
    for action, location, status in (
        ("open", None, "IN_PROGRESS"),
        ("decline", "https://shop.example/no", "FAILED"),
        ("pay", f"https://shop.example/thanks?sid={session['session_id']}", "COMPLETED"),
    ):
        code, said = await tell("POST", f"{path}/{action}")
        assert (code, said["location"], said["session"]["status"]) == (200, location, status)
    assert await tell.refused("POST", f"{path}/cancel") == (400, "SESSION_CLOSED", ["the session is COMPLETED"])
    assert (await tell.refused("POST", "sessions/nobody/pay"))[:2] == (404, "NOT_FOUND")
    assert await tell.refused("POST", f"{path}/dance") == (
        404, "NOT_FOUND", ["there is no such action. Use one of open, pay, decline, back, cancel, error"]
    )  # fmt: skip


async def test_the_record_tells_what_happened_and_no_secret(sandbox: Sandbox, tell: Admin) -> None:
    sandbox.fault("status_503", nth=2)
    _, session = await create(sandbox)
    await create(sandbox, 2)
    kp = {
        "payment_session_url": f"https://api.playground.kustom.co/payments/v1/sessions/1?{SECRET}",
        "merchant_urls": {
            "success": f"https://shop.example/?{SECRET}={{{{authorization_token}}}}",
            "status_update": f"https://shop.example/update?secret={SECRET}",
        },
    }
    made = (await ask(sandbox, request(sandbox, body=json.dumps(kp).encode()))).json
    sandbox.act(session["session_id"], "pay")
    sandbox.act(made["session_id"], "pay")
    await sandbox.record.wait_for(lambda record: record.callbacks)
    status, told = await tell("GET", "record")
    assert status == 200
    assert (told["counts"]["posts"], told["counts"]["created"]) == (3, 2)
    assert [
        (seen["method"], seen["path"], seen["status"], seen["fault"], seen["created"]) for seen in told["requests"]
    ] == [
        ("POST", "/hpp/v1/sessions", 201, None, session["session_id"]),
        ("POST", "/hpp/v1/sessions", 503, "status_503", None),
        ("POST", "/hpp/v1/sessions", 201, None, made["session_id"]),
    ]
    assert [(one["session_id"], one["status"]) for one in told["sessions"]] == [
        (session["session_id"], "COMPLETED"), (made["session_id"], "COMPLETED")
    ]  # fmt: skip
    assert [moment["what"] for moment in told["sessions"][0]["timeline"]] == ["created", "opened", "paid"]
    assert told["sessions"][0]["payment_session_url"] == f"{order(1)}?***"
    assert {(one["session_id"], one["url"]) for one in told["callbacks"]} == {
        (made["session_id"], "https://shop.example/update?***")
    }
    said = json.dumps(told)
    token = sandbox.state.sessions[made["session_id"]].authorization_token
    assert token
    for secret in (SECRET, token, sandbox.api_key, made["distribution_module"]["token"]):
        assert secret not in said


async def test_of_very_many_the_newest_are_told(sandbox: Sandbox, tell: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_NEWEST", 3)
    made = [(await create(sandbox, number))[1]["session_id"] for number in range(5)]
    _, told = await tell("GET", "record")
    assert [one["session_id"] for one in told["sessions"]] == made[-3:]
    assert [one["number"] for one in told["requests"]] == [3, 4, 5]
    assert told["counts"]["created"] == 5
    assert await tell("DELETE", "record") == (204, None)
    _, told = await tell("GET", "record")
    assert (told["requests"], told["counts"]["created"], len(told["sessions"])) == ([], 0, 3)


# What is refused.


@pytest.mark.parametrize(
    ("path", "body", "messages"),
    [
        ("faults", {"fault": "hnag"}, ["no fault is called 'hnag'; did you mean hang?"]),
        ("faults", {}, ["fault: is required"]),
        ("faults", {"fault": None}, ["fault: is required"]),
        ("faults", {"fault": [5]}, ["fault: a list must contain faults as text, and nulls for normal responses"]),
        ("faults", {"fault": "hang", "nth": 0}, ["nth counts from 1, got 0"]),
        ("faults", {"fault": "hang", "operation": "sell"}, ["no operation is called 'sell'.*"]),
        (
            "faults",
            {
                "fault": 5,
                "nth": "2",
                "times": True,
                "skip": 1.5,
                "probability": [],
                "payment_session_url": {},
                "nope": 1,
            },
            [
                "nope: unknown field, use .*, operation, payment_session_url",
                "fault: must be a fault as text, or a list of faults and nulls, got a number",
                "nth: must be a whole number, got text of 1 characters",
                "times: must be a whole number, got true",
                "skip: must be a whole number, got a number",
                "probability: must be a number, got .*",
                "payment_session_url: must be text, got .*",
            ],
        ),
        ("faults", {"fault": "hang", "probability": 2}, ["'probability' must be <= 1.0: 2.0"]),
        ("faults", {"fault": "hang", "skip": -1}, ["'skip' must be >= 0: -1"]),
        ("rate_limit", {"rate": 0}, ["rate must be from 0.00001 .one create in a day or so. to .*, got 0"]),
        ("rate_limit", {"rate": 1e-320}, ["rate must be from 0.00001 .*, got 1e-320"]),
        ("rate_limit", {"rate": 1, "burst": 10**400}, ["burst must be from 1 to 1,000,000,000 creates, got 1000.*"]),
        (
            "faults",
            {"fault": "hang~seconds=nan"},
            ["hang: seconds must be a number of at most 1,000,000,000, got 'nan'"],
        ),
        ("faults", b'{"fault": "hang", "probability": NaN}', ["'probability' must be >= 0.0: nan"]),
        ("faults", {"fault": []}, ["a sequence needs at least one fault; .*"]),
        ("faults", {"fault": [None]}, ["a sequence needs at least one fault; .*"]),
        ("rate_limit", b'{"rate": 1' + b"0" * 400 + b"}", [".*"]),
        ("rate_limit", {"burst": 3, "announce": "all"}, ["rate: is required"]),
        ("rate_limit", {"rate": 3, "announce": "all"}, ["'announce' must be in .*"]),
        ("latency", {"low": 2, "high": 1}, ["a latency goes from a lower number .*"]),
        ("latency", b'{"low": 1e999}', ["'low' must be < inf.*"]),
        ("clock", {"hours": 1e12}, ["the new time would be outside the calendar. .*"]),
        ("clock", b'{"seconds": NaN}', ["the new time would be outside .*"]),
        ("clock", {"hours": -3e7}, ["the new time would be outside .*"]),
        ("clock", b"[]", ["the body must be a JSON object, got a list of 0"]),
        ("clock", b"{", ["the body must be JSON"]),
        ("clock", b"[" * 100_000, ["the body must be JSON"]),
        ("clock", b"\xff", ["the body must be JSON"]),
    ],
    ids=str,
)
async def test_what_is_wrong_is_named(tell: Admin, path: str, body: Any, messages: list[str]) -> None:
    status, code, said = await tell.refused("POST", path, body)
    assert (status, code, len(said)) == (400, "BAD_VALUE", len(messages))
    for message, expected in zip(said, messages, strict=True):
        assert re.fullmatch(expected, message) or message == expected
    assert (await tell("GET", "clock"))[0] == 200
    assert (await create(tell.sandbox))[0] == 201


@pytest.mark.parametrize("key", ["", "wrong", "kco_test_api_x"])
@pytest.mark.parametrize("deed", admin.ROUTES, ids=lambda deed: f"{deed.method} {deed.path}")
async def test_nothing_is_done_without_the_key(tell: Admin, deed: Any, key: str) -> None:
    _, session = await create(tell.sandbox)
    tell.sandbox.fault("hang")
    path = deed.path.removeprefix("/").format(number=1, session_id=session["session_id"], action="pay")
    status, said = await tell(deed.method, path, b'{"fault": "garbage", "rate": 1, "low": 1, "hours": 1}', key=key)
    assert (status, said["error_code"]) == (401, "UNAUTHORIZED")
    assert str(tell.sandbox.faults.rules[0].faults[0]) == "hang"
    assert tell.sandbox.state.sessions[session["session_id"]].status == "WAITING"
    assert tell.sandbox.record.counts.created == 1


async def test_it_is_no_part_of_the_api(sandbox: Sandbox, tell: Admin) -> None:
    sandbox.fault("status_500", operation="any")
    sandbox.latency = 60
    for method, path in (
        ("GET", "faults"),
        ("GET", "record"),
        ("PATCH", "faults"),
        ("GET", ""),
        ("GET", "no/such/thing"),
    ):
        status, _ = await tell(method, path)
        assert status == (200 if (method, path) in {("GET", "faults"), ("GET", "record")} else 404)
    status, code, [sentence] = await tell.refused("PUT", "faults")
    assert (status, code) == (404, "NOT_FOUND")
    assert ", POST /_sandbox/faults, " in sentence
    assert sandbox.record.requests == ()
    assert sandbox.record.counts.requests == 0


async def test_a_body_that_is_too_large(tell: Admin) -> None:
    assert (await tell.refused("POST", "clock", b" " * 5_000_000))[:2] == (413, "REQUEST_TOO_LARGE")


def test_the_documentation_names_every_deed() -> None:
    told = {(method, path) for methods, path in _told(admin.__doc__ or "") for method in methods}
    assert told == {(deed.method, admin.ROOT + deed.path) for deed in admin.ROUTES}


def _told(text: str) -> list[tuple[list[str], str]]:
    return [
        (found[1].split(", "), found[2])
        for found in re.finditer(r"^    ([A-Z]+(?:, [A-Z]+)*) +(/\S+)", text, re.MULTILINE)
    ]
