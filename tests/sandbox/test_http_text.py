"""Recorded requests and responses as text: complete, readable, and without secrets."""

import json

import pytest

from kustom_hpp.sandbox import FAULTS, Sandbox, Stage
from kustom_hpp.sandbox.pages.console_views import request_view
from kustom_hpp.sandbox.pages.http_text import MAX_TEXT, Problem, problems_of, request_text, response_text
from kustom_hpp.sandbox.record import RecordedRequest
from tests.sandbox.support import basic, exchange, request, short

KEY_IN_URL = "in-what-nobody-may-see"
BODY = json.dumps(
    {
        "payment_session_url": f"https://api.playground.kustom.co/checkout/v3/orders/1?key={KEY_IN_URL}",
        "merchant_urls": {"success": f"https://me:{KEY_IN_URL}@shop.example/?sid={{{{session_id}}}}#{KEY_IN_URL}"},
        "options": {"page_title": "Almost there", "unknown": KEY_IN_URL},
        "extra": [{"token": KEY_IN_URL}],
    }
).encode()


def seen(body: bytes = b"", response: bytes = b"", headers: tuple[tuple[bytes, bytes], ...] = ()) -> RecordedRequest:
    return RecordedRequest(
        number=1, connection=1, method="POST", target="/x?a=1", headers=headers, body=body, response=response
    )


QUICK = {"echo_auth", "body_cut_json", "status_503", "reset_after_request"}
FAULTS_OF_REQUESTS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name, kind in FAULTS.items()
    if kind.stage is not Stage.CONNECTION
]


@pytest.mark.parametrize("name", FAULTS_OF_REQUESTS)
async def test_no_fault_brings_a_secret_into_the_console(sandbox: Sandbox, name: str) -> None:
    sandbox.fault(short(name))
    await exchange(sandbox, request(sandbox, body=BODY), seconds=0.5)
    [met] = sandbox.record.requests
    [stored] = [*sandbox.state.sessions.values()] or [None]
    shown = repr(request_view(met, stored))
    secrets = {KEY_IN_URL, sandbox.api_key, *((stored.token,) if stored else ())}
    assert [secret for secret in secrets if secret in shown] == []
    assert f"met {name}" in shown


def test_a_request_has_its_line_headers_and_body() -> None:
    headers = (
        (b"Host", b"x"),
        (b"AUTHORIZATION", b"Basic c2VjcmV0"),
        (b"Proxy-Authorization", b"c2VjcmV0"),
        (b"X-Own", b"secret"),
        (b"Content-Type", b"application/json"),
    )
    assert request_text(seen(b'{"session_id":"s","a":["b",1,null]}', headers=headers)) == (
        "POST /x?*** HTTP/1.1\nHost: x\nAUTHORIZATION: Basic ***\nProxy-Authorization: ***\nX-Own: ***\n"
        'Content-Type: application/json\n\n{\n  "session_id": "s",\n  "a": [\n    "***",\n    1,\n    null\n  ]\n}'
    )


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", ""),
        (b'{"a": "https://x/?secret', '{"a": "https://x/?***'),
        (b"https://me:secret@x/y#secret z", "https://x/y#*** z"),
        (b"caf\xe9\x00\x1b[31m", "caf\\xe9\\u0000\\u001b[31m"),
        ("\u202egnp".encode(), "\\u202egnp"),
    ],
)
def test_a_body_that_is_no_json_is_text(body: bytes, shown: str) -> None:
    assert request_text(seen(body)).partition("\n\n")[2] == shown


def test_an_endless_body_has_an_end() -> None:
    shown = request_text(seen(b"[" * 100_000))
    head, _, tail = shown.rpartition("\n")
    assert (len(head), tail) == (MAX_TEXT, "… (80,022 more characters)")


def test_a_response_that_is_no_http_is_text() -> None:
    assert response_text(seen(response=b"\x16\x03garbage")) == "\\u0016\\u0003garbage"
    assert response_text(seen()) == ""
    assert response_text(seen(response=b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nno header\r\n\r\n[1")) == (
        "HTTP/1.1 200 OK\nSet-Cookie: ***\n\n[1"
    )


def test_a_response_does_not_repeat_credentials() -> None:
    for text in ("user:in-the-key", "in-the-key"):
        headers = ((b"Authorization", (basic(text) if ":" in text else f"Basic {text}").encode()),)
        echo = f'HTTP/1.1 400 {text}\r\n\r\n{{"error_messages": ["got {text}, and in-the-key"]}}'.encode()
        assert "in-the-key" not in response_text(seen(response=echo, headers=headers))


@pytest.mark.parametrize(
    ("messages", "problems"),
    [
        (["a.b[0].c: is wrong: really", "no path"], [Problem("a.b[0].c", "is wrong: really"), Problem("", "no path")]),
        ([None, 5], []),
        ("text", []),
        (None, []),
    ],
)
def test_the_problems_are_those_of_the_response(messages: object, problems: list[Problem]) -> None:
    body = json.dumps({"error_messages": messages}).encode()
    assert list(problems_of(seen(response=b"HTTP/1.1 400 Bad Request\r\n\r\n" + body))) == problems
