"""Port faults, TLS, and the proxy on the way."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl

import aiohttp
import pytest
import trustme
from yarl import URL

from kustom_hpp.sandbox import Sandbox, Stage
from tests.sandbox.support import ORDER, PATH, Reply, Wire, request, short
from tests.support.faults import ALL_FAULTS as FAULTS
from tests.support.faults import find_fault
from tests.support.ports import PORTS, open_port
from tests.support.proxy import PROXY_BEHAVIOURS, open_proxy


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, *names: str, **dates: dt.datetime) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",)), **dates).configure_cert(context)
    return context


def trusting(authority: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(context)
    return context


async def handshake(base_url: str, patience: float = 2.0) -> str:
    """What a client with good habits makes of a port."""
    try:
        async with asyncio.timeout(patience):
            async with await Wire.open(base_url, tls=trusting()):
                return "connected"
    except TimeoutError:
        return "silence"
    except ssl.SSLError as error:
        # OpenSSL 3.0 names the lack of secure renegotiation first, later releases the version.
        old = ("UNSUPPORTED_PROTOCOL", "UNSAFE_LEGACY_RENEGOTIATION_DISABLED")
        return "refused version" if error.reason in old else error.reason or ""
    except ConnectionResetError as error:
        # asyncio has a ConnectionResetError without errno for an end in the middle of a handshake.
        return "rst" if error.errno else "fin"
    except ConnectionRefusedError:
        return "refused"


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("tls_hang", "silence"), ("tls_slow", "silence"), ("tls_reset", "rst"), ("tls_eof", "fin"),
        ("tls_old", "refused version"), ("tls_plain", "WRONG_VERSION_NUMBER"),
    ],
)  # fmt: skip
async def test_tls_ports(sandbox: Sandbox, name: str, outcome: str) -> None:
    async with open_port(sandbox, name) as port:
        assert port.base_url == f"https://127.0.0.1:{port.number}"
        assert await handshake(port.base_url, 0.5 if outcome == "silence" else 5) == outcome
        [connection] = sandbox.record.connections
        assert connection.port == name
        assert connection.received.startswith(b"\x16\x03")
    assert connection.closed_at is not None
    assert (sandbox.record.requests, sandbox.record.created) == ((), ())
    assert await handshake(port.base_url) == "refused"


async def test_tls_slow_does_send_something(sandbox: Sandbox) -> None:
    async with open_port(sandbox, "tls_slow") as port, await Wire.open(port.base_url) as wire:
        wire.writer.write(b"hello")
        assert await wire.reader.readexactly(13) == b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03\x00\x00"


async def test_refuse(sandbox: Sandbox) -> None:
    async with open_port(sandbox, "refuse") as port:
        assert port.base_url == f"http://127.0.0.1:{port.number}"
        with pytest.raises(ConnectionRefusedError):
            await Wire.open(port.base_url)


async def test_connect_hang(sandbox: Sandbox) -> None:
    async with open_port(sandbox, "connect_hang") as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await Wire.open(port.base_url)


async def test_https_at_the_plain_port_is_no_request(sandbox: Sandbox) -> None:
    assert await handshake(sandbox.base_url.replace("http", "https")) == "WRONG_VERSION_NUMBER"
    assert (sandbox.record.requests, sandbox.record.counts.connections) == ((), 1)


async def test_an_unknown_port_fault_is_told(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="there are: refuse, connect_hang, tls_hang"):
        async with open_port(sandbox, "tls_old_and_slow"):
            pass


def test_every_port_fault_has_a_test() -> None:
    tested = {"refuse", "connect_hang", "tls_hang", "tls_slow", "tls_reset", "tls_eof", "tls_old", "tls_plain"}
    assert tested == set(PORTS)
    assert all(kind.about for kind in PORTS.values())


# The sandbox over TLS.


async def test_it_serves_https(authority: trustme.CA) -> None:
    async with Sandbox(ssl=serving(authority)) as sandbox:
        assert sandbox.base_url.startswith("https://127.0.0.1:")
        async with await Wire.open(sandbox.base_url, trusting(authority), "127.0.0.1") as wire:
            wire.writer.write(request(sandbox))
            reply = await wire.answer()
        assert reply.status == 201
        assert reply.json["redirect_url"].startswith(sandbox.base_url)
        await sandbox.wait_until_idle()
        assert len(sandbox.record.created) == 1


@pytest.mark.parametrize(
    "name", ["accept_rst", "accept_close", "reset_after_request", "close_after_request", "hang", "half_body_close",
             "garbage", "server_not_reading", "big_body", "early_413", "double_answer"],
)  # fmt: skip
async def test_faults_bite_behind_tls_too(authority: trustme.CA, name: str) -> None:
    fault = short(name)
    async with Sandbox(ssl=serving(authority), faults=[fault]) as sandbox:
        try:
            async with await Wire.open(sandbox.base_url, trusting(authority), "127.0.0.1") as wire:
                wire.writer.write(request(sandbox))
                reply = await wire.rest(0.3)
        except ConnectionResetError:
            reply = Reply(b"", "rst")
        await sandbox.wait_until_idle()
        assert len(sandbox.record.created) == fault.processes_request
        assert bool(reply.data) is (name in {"half_body_close", "garbage", "big_body", "early_413", "double_answer"})
        if fault.stage is not Stage.CONNECTION:
            assert sandbox.record.posts[0].fault == fault


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("expired", "certificate has expired"), ("future", "certificate is not yet valid"), ("host", "IP address mismatch"),
        ("unknown CA", "unable to get local issuer certificate"),
    ],
)  # fmt: skip
async def test_bad_certificates_are_given_as_contexts(authority: trustme.CA, case: str, reason: str) -> None:
    now = dt.datetime.now(dt.UTC)
    if case == "expired":
        context = serving(authority, not_before=now - dt.timedelta(2), not_after=now - dt.timedelta(1))
    elif case == "future":
        context = serving(authority, not_before=now + dt.timedelta(1), not_after=now + dt.timedelta(2))
    else:
        context = serving(authority, *(["elsewhere.example"] if case == "host" else []))
    trust = trusting(None if case == "unknown CA" else authority)
    async with Sandbox(ssl=context) as sandbox:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await Wire.open(sandbox.base_url, trust, "127.0.0.1")
        assert reason in caught.value.verify_message
        await sandbox.wait_until_idle()
        assert (sandbox.record.requests, sandbox.record.created) == ((), ())


async def test_a_client_certificate_can_be_asked_for(authority: trustme.CA) -> None:
    """With TLS 1.3 the client learns of it after its request has left."""
    context = serving(authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    async with Sandbox(ssl=context) as sandbox:
        async with await Wire.open(sandbox.base_url, trusting(authority), "127.0.0.1") as wire:
            wire.writer.write(request(sandbox))
            assert (await wire.rest()).data == b""
            assert wire.reader.at_eof()
        await sandbox.wait_until_idle()
        assert (sandbox.record.requests, sandbox.record.created) == ((), ())


async def test_closing_with_a_handshake_half_done(authority: trustme.CA) -> None:
    async with Sandbox(ssl=serving(authority)) as sandbox, await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(b"\x16\x03\x01")
        await sandbox.wait_until_idle()
        start = asyncio.get_running_loop().time()
        await sandbox.aclose()
        assert asyncio.get_running_loop().time() - start < 1
        assert await wire.rest() == Reply(b"", "fin")


# The proxy.


async def through(
    sandbox: Sandbox, proxy: str, base_url: str | None = None, tls: ssl.SSLContext | None = None
) -> object:
    """One create through a proxy: its status, or the name of what went wrong."""
    # With each request, not with the session: aiohttp shows a session's headers to the proxy too, and makes its
    # Authorization a Proxy-Authorization.
    headers = {"Authorization": f"Basic {sandbox.api_key}"}
    url = (base_url or sandbox.base_url) + PATH
    body = {"payment_session_url": ORDER}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5)) as client:
        try:
            async with client.post(url, json=body, headers=headers, proxy=proxy, ssl=tls or True) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__


async def test_a_proxy_passes_on_what_is_in_absolute_form(sandbox: Sandbox) -> None:
    async with open_proxy(sandbox) as proxy:
        assert await through(sandbox, proxy.url) == 201
        [seen] = proxy.seen
        assert (seen.method, seen.target, seen.behaviour) == ("POST", sandbox.base_url + PATH, "ok")
        assert seen.head.startswith(b"POST " + sandbox.base_url.encode())
        assert seen.head.endswith(b"\r\n\r\n")
    [post] = sandbox.record.posts
    assert (post.path, post.payment_session_url) == (PATH, ORDER)
    assert [connection.port for connection in sandbox.record.connections] == ["proxy", "api"]


async def test_a_proxy_tunnels_and_sees_nothing_inside(authority: trustme.CA) -> None:
    async with Sandbox(ssl=serving(authority)) as sandbox, open_proxy(sandbox) as proxy:
        assert await through(sandbox, proxy.url, tls=trusting(authority)) == 201
        [seen] = proxy.seen
        url = URL(sandbox.base_url)
        assert (seen.method, seen.target) == ("CONNECT", f"{url.host}:{url.port}")
        assert sandbox.api_key.encode() not in seen.head
        assert sandbox.api_key.encode() not in sandbox.record.connections[0].received
        assert len(sandbox.record.created) == 1


BEHAVIOURS: dict[str, tuple[object, object]] = {
    "status_407": (407, "ClientHttpProxyError"),
    "status_403": (403, "ClientHttpProxyError"),
    "status_502": (502, "ClientHttpProxyError"),
    "hang": ("TimeoutError", "TimeoutError"),
    "close": ("ServerDisconnectedError", "ServerDisconnectedError"),
    "reset": ("ClientOSError", "ClientOSError"),
    "garbage": ("ClientResponseError", "ClientResponseError"),
    "close_tunnel": (200, "ClientConnectorError"),
    "reset_tunnel": (200, "ClientConnectorError"),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_proxy_misbehaves(authority: trustme.CA, behaviour: str) -> None:
    plain, connect = BEHAVIOURS[behaviour]
    async with Sandbox() as sandbox, open_proxy(sandbox, behaviour) as proxy:
        assert await through(sandbox, proxy.url) == plain
        https = sandbox.base_url.replace("http", "https")
        assert await through(sandbox, proxy.url, https, trusting(authority)) == connect
        assert [(seen.method, seen.behaviour) for seen in proxy.seen] == [("POST", behaviour), ("CONNECT", behaviour)]
        assert sandbox.record.requests == ()


async def test_407_asks_for_credentials(sandbox: Sandbox) -> None:
    async with open_proxy(sandbox, "status_407") as proxy, await Wire.open(proxy.url) as wire:
        wire.writer.write(b"CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n")
        reply = await wire.rest()
    assert (reply.status, reply.header("proxy-authenticate"), reply.end) == (407, 'Basic realm="sandbox"', "fin")


async def test_a_proxy_follows_a_plan_and_stays_with_its_last_word(sandbox: Sandbox) -> None:
    async with open_proxy(sandbox, "status_502", "close", "ok") as proxy:
        results = [await through(sandbox, proxy.url) for _ in range(4)]
        assert results == [502, "ServerDisconnectedError", 201, 201]
        proxy.behave("reset")
        assert await through(sandbox, proxy.url) == "ClientOSError"
        proxy.behave()
        assert await through(sandbox, proxy.url) == 201
        with pytest.raises(ValueError, match="a proxy cannot 'dance'"):
            proxy.behave("dance")
    assert len(sandbox.record.created) == 3


async def test_a_proxy_that_cannot_reach_the_server_says_502(sandbox: Sandbox) -> None:
    async with open_port(sandbox, "refuse") as port, open_proxy(sandbox) as proxy:
        assert await through(sandbox, proxy.url, port.base_url) == 502


async def test_a_fault_comes_through_a_proxy(sandbox: Sandbox) -> None:
    sandbox.fault("close_after_request")
    async with open_proxy(sandbox) as proxy:
        assert await through(sandbox, proxy.url) == "ServerDisconnectedError"
    assert len(sandbox.record.created) == 1


async def test_a_proxy_closes_though_someone_waits(sandbox: Sandbox) -> None:
    sandbox.fault("hang~seconds=60")
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(open_proxy(sandbox, "hang", "ok"))
        silent, tunnel = await Wire.open(proxy.url), await Wire.open(proxy.url)
        silent.writer.write(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        await sandbox.record.wait_for(lambda _: len(proxy.seen) == 1)
        tunnel.writer.write(f"CONNECT {URL(sandbox.base_url).authority} HTTP/1.1\r\n\r\n".encode())
        assert (await tunnel.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        tunnel.writer.write(request(sandbox))
        await sandbox.record.wait_for(lambda record: record.created)
        closing = loop.time()
    assert loop.time() - closing < 1
    for wire in (silent, tunnel):
        async with wire:
            assert (await wire.rest()).end in {"fin", "rst"}
    await sandbox.wait_until_idle()


async def test_a_scan_without_a_request_is_no_trouble(sandbox: Sandbox) -> None:
    async with open_proxy(sandbox) as proxy:
        for data in (b"", b"\r\n\r\n", b"half a head"):
            async with await Wire.open(proxy.url) as wire:
                wire.writer.write(data)
                wire.writer.write_eof()
                assert await wire.rest() == Reply(b"", "fin")
        assert proxy.seen == []


def test_every_behaviour_has_a_test() -> None:
    assert BEHAVIOURS.keys() | {"ok"} == set(PROXY_BEHAVIOURS)


# What it costs to have it.


def test_nothing_outside_needs_a_port_that_is_taken(authority: trustme.CA) -> None:
    """Two sandboxes live side by side."""

    async def main() -> None:
        async with Sandbox() as one, Sandbox() as two:
            assert one.base_url != two.base_url
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                number = free.getsockname()[1]
            async with Sandbox(port=number) as three:
                assert three.base_url == f"http://127.0.0.1:{number}"
            with pytest.raises(OSError, match="in use"):
                await Sandbox(port=int(one.base_url.rpartition(":")[2])).open()

    asyncio.run(main())


def test_no_fault_of_a_port_shares_its_name_with_one_of_the_table() -> None:
    assert not set(PORTS) & set(FAULTS)
    assert str(find_fault("hang")) not in PORTS
