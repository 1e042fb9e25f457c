"""The trap of lent sessions, T19: whatever their owner has hung on them, our request goes out once and as it is."""

import warnings
from typing import Any

import aiohttp
import pytest

import kustom_hpp as hpp
from kustom_hpp import Delivery
from tests.faults.play import order
from tests.support.faults import find_fault

WIRE = [b"Host", b"Authorization", b"User-Agent", b"Accept", b"Accept-Encoding", b"Content-Type", b"Content-Length"]


async def rewriting(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    await request.update_body(b'{"payment_session_url":"https://x.example/checkout/v3/orders/rewritten"}')
    return await handler(request)


async def retrying(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    for _ in range(2):
        try:
            return await handler(request)
        except aiohttp.ClientError:
            continue
    return await handler(request)


async def test_t19_a_middleware_that_rewrites_bodies_is_passed_by(sandbox, make_client):
    client = await make_client({"middlewares": (rewriting,)})
    session = await client.create_session(order(client, "t19"))
    assert [made.session_id for made in sandbox.record.created_for(client.order_url("t19"))] == [session.session_id]


@pytest.mark.parametrize("fault", ["close_before_processing", "reset_after_request", "garbage"])
async def test_t19_a_middleware_that_retries_makes_one_post(sandbox, make_client, fault):
    sandbox.fault(find_fault(fault))
    client = await make_client({"middlewares": (retrying,)})
    with pytest.raises(hpp.LostResponseError):
        await client.create_session(order(client, "t19"))
    await sandbox.wait_until_idle()
    assert sandbox.record.counts.posts == 1


def retrying_session(**options: Any) -> aiohttp.ClientSession:
    """As libraries make them that wrap aiohttp; it discourages that in a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class RetryingSession(aiohttp.ClientSession):
            tries = 0

            async def _request(self, *arguments: Any, **more: Any) -> aiohttp.ClientResponse:
                for _ in range(2):
                    RetryingSession.tries += 1
                    try:
                        return await super()._request(*arguments, **more)
                    except aiohttp.ClientError:
                        continue
                return await super()._request(*arguments, **more)

        return RetryingSession(connector=hpp.guarded_connector(), **options)


@pytest.mark.parametrize("fault", ["close_before_processing", "reset_after_request", "garbage"])
async def test_t19_a_session_that_retries_makes_one_post(sandbox, make_client, fault):
    sandbox.fault(find_fault(fault))
    async with retrying_session() as session:
        client = await make_client(http_session=session)
        with pytest.raises(hpp.LostResponseError) as caught:
            await client.create_session(order(client, "t19"))
        await sandbox.wait_until_idle()
    assert session.tries > 1  # type: ignore[attr-defined]
    assert caught.value.delivery is Delivery.UNKNOWN
    assert sandbox.record.counts.posts == 1


@pytest.mark.parametrize("fault", ["status_400", "status_429", "status_500", "redirect_303", "status_204"])
@pytest.mark.parametrize("how", [True, lambda _: 1 / 0], ids=["true", "a function"])
async def test_t19_raise_for_status_raises_nothing_foreign(sandbox, make_client, fault, how):
    sandbox.fault(find_fault(fault))
    client = await make_client({"raise_for_status": how})
    with pytest.raises(hpp.HPPError):
        await client.create_session(order(client, "t19"))


async def test_t19_auth_on_the_session_is_refused(sandbox):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        session = aiohttp.ClientSession(auth=aiohttp.BasicAuth("a", "b"), connector=hpp.guarded_connector())
    async with session:
        with pytest.raises(hpp.ConfigError, match="auth="):
            hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, http_session=session)


async def test_t19_a_netrc_cannot_replace_the_credentials(sandbox, make_client, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with aiohttp.ClientSession(trust_env=True, connector=hpp.guarded_connector()) as session:
        with pytest.raises(hpp.ConfigError, match="trust_env"):
            hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, http_session=session)
    client = await make_client({}, trust_env=True)
    await client.create_session(order(client, "t19"))
    assert sandbox.record.posts[0].header("authorization") == f"Basic {sandbox.api_key}".encode()


@pytest.mark.parametrize("base", ["https://elsewhere.invalid/", "http://127.0.0.1:9/api/"])
async def test_t19_a_base_url_on_the_session_leads_nowhere_else(sandbox, make_client, base):
    client = await make_client({"base_url": base})
    await client.create_session(order(client, "t19"))
    assert sandbox.record.posts[0].target == "/hpp/v1/sessions"


async def test_t19_headers_on_the_session_do_not_replace_ours(sandbox, make_client):
    client = await make_client({"headers": {"authorization": "Basic thief", "USER-AGENT": "x", "accept": "text/html"}})
    await client.create_session(order(client, "t19"))
    seen = sandbox.record.posts[0]
    assert seen.header("authorization") == f"Basic {sandbox.api_key}".encode()
    assert [name.title() for name, _ in seen.headers] == WIRE


class Rewriting(aiohttp.ClientRequest):
    """Sends a copy of the body instead of our payload, as signing and recording libraries do: the mark stays unset."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        await self.update_body(bytes(self.body._value))
        return await super().send(conn)


async def test_t19_a_session_that_swaps_the_payload_is_never_believed_to_have_sent_nothing(sandbox, make_client):
    sandbox.fault(["reset_after_request", None])
    client = await make_client({"request_class": Rewriting}, retry=hpp.RetrySettings(max_attempts=1))
    # Nobody knows yet that the mark is blind: the class of the exception alone keeps it from saying "not sent".
    with pytest.raises(hpp.LostResponseError) as caught:
        await client.create_session(order(client, "t19-lost"))
    assert caught.value.delivery is Delivery.UNKNOWN

    session = await client.create_session(order(client, "t19"))
    assert session.session_id == sandbox.record.created[-1].session_id

    # An answer without a mark has shown that the mark is blind: from now on even "connection refused" is not believed.
    await sandbox.aclose()
    with pytest.raises(hpp.LostResponseError) as caught:
        await client.create_session(order(client, "t19-refused"))
    assert caught.value.delivery is Delivery.UNKNOWN
