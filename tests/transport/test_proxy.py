"""A proxy on the way: its credentials, and what its failures mean."""

import base64

import pytest
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp._messages import SendMarker
from kustom_hpp._redaction import Secret
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.transport.session_manager import _split_proxy
from tests.faults.certificates import serving, trusting
from tests.support.ports import open_port
from tests.support.proxy import open_proxy
from tests.transport.support import opened, request_to, send


@pytest.mark.parametrize(
    ("proxy", "url", "credentials"),
    [
        ("http://proxy:8080", "http://proxy:8080", None),
        ("http://proxy", "http://proxy", None),
        ("http://user:word@proxy:8080", "http://proxy:8080", "user:word"),
        ("http://user@proxy:8080", "http://proxy:8080", "user:"),
        ("http://:word@proxy:8080", "http://proxy:8080", ":word"),
        ("http://us%40er:w%3Ao%2Fr%25d@proxy:8080", "http://proxy:8080", "us@er:w:o/r%d"),
        ("http://us+er:w+d@proxy", "http://proxy", "us+er:w+d"),
        ("http://%C3%BCser:p%C3%A4ss@proxy", "http://proxy", "üser:päss"),
        ("http://üser:päss@proxy", "http://proxy", "üser:päss"),
        ("http://user:word@[::1]:3128", "http://[::1]:3128", "user:word"),
    ],
)
def test_the_credentials_are_taken_out_of_the_url(proxy, url, credentials):
    found, header = _split_proxy(Secret(proxy))
    assert found == URL(url)
    if credentials is None:
        assert header is None
    else:
        assert header == "Basic " + base64.b64encode(credentials.encode()).decode()
        assert repr(header) == "'***'"
    assert "word" not in repr(found)


def test_no_proxy():
    assert _split_proxy(None) == (None, None)


def authorizations(head: bytes) -> list[bytes]:
    return [line for line in head.split(b"\r\n") if line.lower().startswith(b"proxy-authorization")]


HEADER = b"Proxy-Authorization: Basic " + base64.b64encode(b"us@er:word")


@pytest.mark.parametrize(("user", "expected"), [("", []), ("us%40er:word@", [HEADER])])
@pytest.mark.parametrize("tls", [False, True])
async def test_the_proxy_and_nobody_else_gets_them(user, expected, tls):
    options = {"ssl": trusting()} if tls else {}
    async with Sandbox(ssl=serving("good") if tls else None) as sandbox, open_proxy(sandbox) as proxy:
        proxy_url = Secret(proxy.url.replace("//", f"//{user}"))
        async with opened(proxy=proxy_url, **options) as manager:
            for order in range(2):
                assert (await send(manager, request_to(sandbox, order))).status == 201
    assert {seen.method for seen in proxy.seen} == {"CONNECT" if tls else "POST"}
    assert [authorizations(seen.head) for seen in proxy.seen] == [expected] * len(proxy.seen)
    if tls:
        # Inside of the tunnel is the API's side.
        for post in sandbox.record.posts:
            assert post.header("Proxy-Authorization") is None


@pytest.mark.parametrize("behaviour", ["status_407", "status_403", "status_502", "close", "reset", "garbage",
                                       "close_tunnel", "reset_tunnel"])  # fmt: skip
async def test_a_tunnel_that_does_not_come_about_means_that_nothing_was_sent(behaviour):
    async with Sandbox(ssl=serving("good")) as sandbox, open_proxy(sandbox, behaviour) as proxy:
        async with opened(proxy=Secret(proxy.url), ssl=trusting()) as manager:
            mark = SendMarker()
            with pytest.raises(hpp.ConnectError) as caught:
                await send(manager, request_to(sandbox), mark)
        assert (mark.sent, sandbox.record.counts.requests, caught.value.timed_out) == (False, 0, False)
        if behaviour.startswith("status"):
            status = behaviour.removeprefix("status_")
            expected = f"ClientHttpProxyError, status {status} from the proxy, while connecting"
            assert caught.value.cause == expected


async def test_a_proxy_that_is_silent_or_absent():
    async with (
        Sandbox(ssl=serving("good")) as sandbox,
        open_port(sandbox, "refuse") as port,
        open_proxy(sandbox, "hang") as proxy,
    ):
        async with opened(proxy=Secret(port.base_url), ssl=trusting()) as manager:
            with pytest.raises(hpp.ConnectError, match="ClientProxyConnectionError, errno 111, while connecting"):
                await send(manager, request_to(sandbox))
        async with opened(proxy=Secret(proxy.url), ssl=trusting()) as manager:
            with pytest.raises(hpp.ConnectError, match="connect timeout while connecting"):
                await send(manager, request_to(sandbox, connect_timeout=0.05))
        assert sandbox.record.counts.requests == 0
