"""The request as aiohttp is given it, under aioresponses: URL, headers, bytes.

aioresponses stands in for `ClientSession._request`, so nothing behind that runs: no connector, no timeout of ours in a
phase, and no write of the body. The mark on the payload therefore never fires, the client notices that with the first
answer, and says UNKNOWN of every failure from then on. Timeouts, failures and deliveries are tested on real sockets.
"""

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from aioresponses import core as aioresponses_core
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp import config
from kustom_hpp.transport import HTTP_LIBRARY
from tests.support.golden import FULL_ANSWER, FULL_BODY, FULL_REQUEST, FULL_SESSION, MINIMAL_BODY, MINIMAL_REQUEST

KEY = "kco_test_hpp_c2hhcGUtb2YtdGhlLXJlcXVlc3Q"
HERE = "https://api.playground.kustom.co/hpp/v1/sessions"
NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
"""No clock of aiohttp's runs besides the client's own."""


@pytest.fixture
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """aioresponses, with the argument that aiohttp asks for since 3.14 and that it does not give."""

    class Response(aiohttp.ClientResponse):
        def __init__(self, *arguments: Any, **facts: Any) -> None:
            super().__init__(*arguments, stream_writer=Mock(output_size=0), **facts)

    monkeypatch.setattr(aioresponses_core, "ClientResponse", Response)
    with aioresponses() as mock:
        yield mock


class Seen:
    """An answer that remembers what it answers."""

    def __init__(self, status: int = 201, body: bytes = FULL_ANSWER):
        self.status = status
        self.body = body
        self.requests: list[dict[str, Any]] = []

    def __call__(self, url: URL, **options: Any) -> CallbackResult:
        self.requests.append({"url": str(url), **options})
        return CallbackResult(status=self.status, body=self.body)


@pytest.mark.parametrize(("request_", "body"), [(MINIMAL_REQUEST, MINIMAL_BODY), (FULL_REQUEST, FULL_BODY)])
async def test_what_aiohttp_is_given(mocked, request_, body):
    seen = Seen()
    mocked.post(HERE, callback=seen)
    async with hpp.HPPClient(KEY, app_info="MyShop/1.2", headers={"Kustom-Partner": "PG1"}) as client:
        assert await client.create_session(request_) == FULL_SESSION
    (got,) = seen.requests
    assert got["url"] == HERE
    assert list(got["headers"].items()) == [
        ("Authorization", f"Basic {KEY}"),
        ("User-Agent", config.user_agent(HTTP_LIBRARY, "MyShop/1.2")),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/json"),
        ("Kustom-Partner", "PG1"),
    ]
    assert isinstance(got["data"], aiohttp.payload.BytesPayload)
    assert (got["data"]._value, got["data"].size) == (body, len(body))
    mocked.assert_called_once()


async def test_an_own_session_is_given_no_more_than_the_request(mocked):
    seen = Seen()
    mocked.post(HERE, callback=seen)
    async with hpp.HPPClient(KEY) as client:
        await client.create_session(MINIMAL_REQUEST)
        session = client._create_context.transport._session
        assert (session.timeout, session.raise_for_status, session.auto_decompress) == (NO_TIMEOUT, False, True)
    (got,) = seen.requests
    assert set(got) == {"url", "data", "headers", "allow_redirects"}
    assert got["allow_redirects"] is False


async def test_the_settings_of_a_borrowed_session_do_not_apply(mocked):
    seen = Seen()
    mocked.post(HERE, callback=seen)
    async with aiohttp.ClientSession(connector=hpp.guarded_connector(), raise_for_status=True) as session:
        await hpp.HPPClient(KEY, http_session=session).create_session(MINIMAL_REQUEST)
    (got,) = seen.requests
    assert (got["allow_redirects"], got["raise_for_status"], got["middlewares"]) == (False, False, ())
    assert (got["timeout"], got["auto_decompress"]) == (NO_TIMEOUT, True)
    assert not {"auth", "cookies", "params", "json", "proxy_auth"} & set(got)


@pytest.mark.parametrize(
    ("arguments", "url", "authorization"),
    [
        ({"base_url": "http://localhost:9/v"}, "http://localhost:9/v/hpp/v1/sessions", f"Basic {KEY}"),
        ({"username": "K1"}, HERE, "Basic SzE6a2NvX3Rlc3RfaHBwX2MyaGhjR1V0YjJZdGRHaGxMWEpsY1hWbGMzUQ=="),
    ],
)
async def test_where_and_as_whom(mocked, arguments, url, authorization):
    seen = Seen()
    mocked.post(url, callback=seen)
    async with hpp.HPPClient(KEY, **arguments) as client:
        await client.create_session(MINIMAL_REQUEST)
    assert [(got["url"], got["headers"]["Authorization"]) for got in seen.requests] == [(url, authorization)]


async def test_a_borrowed_session_is_given_the_same(mocked):
    seen = Seen()
    mocked.post(HERE, callback=seen)
    async with aiohttp.ClientSession(connector=hpp.guarded_connector()) as session:
        async with hpp.HPPClient(KEY, http_session=session) as client:
            await client.create_session(MINIMAL_REQUEST)
        assert not session.closed
    assert seen.requests[0]["data"]._value == MINIMAL_BODY


@pytest.mark.parametrize(
    ("status", "kind"), [(400, hpp.BadRequestError), (404, hpp.NotFoundError), (502, hpp.ServerError)]
)
async def test_an_error_answer(mocked, status, kind):
    mocked.post(HERE, callback=Seen(status, b'{"error_code":"X","error_messages":["y"]}'))
    async with hpp.HPPClient(KEY) as client:
        with pytest.raises(kind, match=f"create_session returned {status} X: y"):
            await client.create_session(MINIMAL_REQUEST)


async def test_a_redirect_is_not_followed(mocked):
    mocked.post(HERE, status=308, headers={"Location": "https://evil.example/"})
    async with hpp.HPPClient(KEY) as client:
        with pytest.raises(hpp.ApiError, match=r"redirects to https://evil\.example; the client does not follow"):
            await client.create_session(MINIMAL_REQUEST)
    mocked.assert_called_once()


async def test_under_aioresponses_the_client_turns_blind(mocked):
    """The first failure is told from a mark that works, so it seems; an answer without the mark proves that it does not."""
    refused = aiohttp.ClientConnectorError(Mock(host="api", port=443, ssl=True), OSError(111, "refused"))
    mocked.post(HERE, exception=refused)
    mocked.post(HERE, callback=Seen())
    mocked.post(HERE, exception=refused)
    async with hpp.HPPClient(KEY, retry=hpp.RetrySettings(max_attempts=1)) as client:
        with pytest.raises(hpp.ConnectError) as before:
            await client.create_session(MINIMAL_REQUEST)
        await client.create_session(MINIMAL_REQUEST)
        with pytest.raises(hpp.LostResponseError) as after:
            await client.create_session(MINIMAL_REQUEST)
    assert (before.value.delivery, after.value.delivery) == (hpp.Delivery.NOT_SENT, hpp.Delivery.UNKNOWN)
