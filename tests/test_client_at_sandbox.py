"""The operations on a session against the sandbox, over sockets: each documented status and code, and the wire itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

import kustom_hpp as hpp
from kustom_hpp import config
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.transport import HTTP_LIBRARY
from tests.support.faults import find_fault
from tests.support.ports import open_port

ORDER_ID = "0b1cf1a4-9d5c-4a3e-8f6a-2f0d9f8e7a11"
UNKNOWN_ID = "5d1d7f2a-5b3a-4f0f-9c3e-0d4a6b0c7a11"
EMAIL = hpp.EmailDistribution(email="alva@shop.example")
SMS = hpp.SmsDistribution(phone="0701740605", phone_country="SE")
TOKEN = hpp.TokenDistribution(access_id="klarna:92d97f60-7a78-46a5-8f68-c56fe52dc4af")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as running:
        yield running


def client_of(sandbox: Sandbox, **options) -> hpp.HPPClient:
    quick = hpp.RetrySettings(initial=0.01, maximum=0.05)
    return hpp.HPPClient(sandbox.api_key, **{"base_url": sandbox.base_url, "retry": quick} | options)


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[hpp.HPPClient]:
    async with client_of(sandbox) as made:
        yield made


@pytest.fixture
async def session(client: hpp.HPPClient) -> hpp.Session:
    return await client.create_session(hpp.CreateSessionRequest(payment_session_url=client.order_url(ORDER_ID)))


VERBS = {
    "read_session": lambda client, session: client.read_session(session),
    "disable_session": lambda client, session: client.disable_session(session),
    "distribute_session": lambda client, session: client.distribute_session(session, EMAIL),
}
by_verb = pytest.mark.parametrize("name", VERBS)


# ------------------------------------------------------------------------------------------------------------ the wire


@by_verb
async def test_the_bytes_on_the_wire(sandbox, client, session, name):
    async with client_of(sandbox, headers={"Kustom-Partner": "PG1"}) as fresh:
        await VERBS[name](fresh, session)
    received = bytes(sandbox.record.connections[-1].received)
    host = sandbox.base_url.partition("://")[2]
    path = f"/hpp/v1/sessions/{session.session_id}"
    line, body = {
        "read_session": (f"GET {path}", b""),
        "disable_session": (f"DELETE {path}", b""),
        "distribute_session": (
            f"POST {path}/distribution", b'{"method":"email","contact_information":{"email":"alva@shop.example"}}',
        ),
    }[name]  # fmt: skip
    head = "\r\n".join([
        f"{line} HTTP/1.1", f"Host: {host}", f"Authorization: Basic {sandbox.api_key}",
        f"User-Agent: {config.user_agent(HTTP_LIBRARY, None)}", "Accept: application/json", "Accept-Encoding: identity",
        "Content-Type: application/json", "Kustom-Partner: PG1", f"Content-Length: {len(body)}", "", "",
    ])  # fmt: skip
    assert received == head.encode() + body


@by_verb
async def test_the_returned_urls_are_followed(sandbox, client, session, name):
    for given in (session, session.session_id, hpp.SessionDetails(session_id=session.session_id)):
        await VERBS[name](client, given)
    tail = "/distribution" if name == "distribute_session" else ""
    expected = f"/hpp/v1/sessions/{session.session_id}{tail}"
    assert [seen.target for seen in sandbox.record.requests[1:]] == [expected] * 3


@by_verb
async def test_another_host_in_a_returned_url_gets_nothing(sandbox, client, session, name):
    async with Sandbox(api_key=sandbox.api_key) as other:
        elsewhere = f"{other.base_url}/hpp/v1/sessions/{session.session_id}"
        lured = hpp.Session(
            session_id=session.session_id, redirect_url="x", session_url=elsewhere, distribution_url=elsewhere
        )
        await VERBS[name](client, lured)
        assert other.record.connections == ()
    assert sandbox.record.requests[-1].processed


async def test_operations_share_the_connection_of_the_creates(sandbox, client, session):
    await client.read_session(session)
    await client.distribute_session(session, EMAIL)
    await client.disable_session(session)
    assert len(sandbox.record.connections) == 1


# ---------------------------------------------------------------------------------------------------- documented answers


async def test_a_read_tells_how_the_session_stands(sandbox, client, session):
    details = await client.read_session(session)
    assert (details.session_id, details.status, details.is_final) == (
        session.session_id,
        hpp.SessionStatus.WAITING,
        False,
    )
    assert details.expires_at == session.expires_at
    assert details.info.status == 200
    assert details.info.correlation_id == sandbox.record.requests[-1].correlation_id
    sandbox.act(session, "decline")
    assert (await client.read_session(details)).status == hpp.SessionStatus.FAILED
    sandbox.act(session, "pay")
    paid = await client.read_session(session.session_id)
    assert (paid.status, paid.is_final, paid.order_id) == (hpp.SessionStatus.COMPLETED, True, ORDER_ID)
    assert paid.updated_at is not None


async def test_disabling_is_for_good_and_may_be_repeated(client, session):
    for _ in range(2):
        assert await client.disable_session(session) is None
    assert (await client.read_session(session)).status == hpp.SessionStatus.DISABLED


async def test_what_is_paid_cannot_be_disabled(sandbox, client, session):
    sandbox.act(session, "pay")
    with pytest.raises(hpp.BadRequestError, match="A completed session cannot be disabled") as caught:
        await client.disable_session(session)
    assert (caught.value.code, caught.value.delivery) == ("SESSION_COMPLETED", hpp.Delivery.REJECTED)


@pytest.mark.parametrize("request_", [EMAIL, SMS, TOKEN], ids=lambda request: request.method)
async def test_a_link_is_sent(sandbox, client, session, request_):
    assert await client.distribute_session(session, request_) is None
    (sent,) = sandbox.record.distributions
    assert (sent.session_id, sent.method) == (session.session_id, request_.method)


@pytest.mark.parametrize("fault", ["status_200", "status_202", "status_204", "status_205", "status_299", "body_html"])
@pytest.mark.parametrize("name", ["disable_session", "distribute_session"])
async def test_any_2xx_is_a_success(sandbox, client, session, name, fault):
    sandbox.fault(find_fault(fault), operation=name)
    assert await VERBS[name](client, session) is None
    assert len(sandbox.record.requests) == 2


@pytest.mark.parametrize(
    ("request_", "ending"),
    [
        (hpp.SmsDistribution(phone="0701740605", phone_country="ZZ"), (hpp.BadRequestError, "UNSUPPORTED_COUNTRY")),
        (hpp.TokenDistribution(access_id="nobody's"), (hpp.NotFoundError, "NOT_FOUND")),
    ],
)
async def test_what_a_distribution_is_refused_for(sandbox, client, session, request_, ending):
    kind, code = ending
    with pytest.raises(kind) as caught:
        await client.distribute_session(session, request_)
    assert (caught.value.code, caught.value.delivery, caught.value.attempts) == (code, hpp.Delivery.REJECTED, 1)
    assert sandbox.record.distributions == ()


async def test_a_disabled_session_is_not_distributed(sandbox, client, session):
    await client.disable_session(session)
    with pytest.raises(hpp.BadRequestError) as caught:
        await client.distribute_session(session, EMAIL)
    assert caught.value.code == "CONSTRAINT_VIOLATION"


@by_verb
async def test_401(sandbox, session, name):
    async with hpp.HPPClient("kco_test_api_another", base_url=sandbox.base_url) as stranger:
        with pytest.raises(hpp.AuthenticationError, match="rejected the credentials"):
            await VERBS[name](stranger, session)


@by_verb
async def test_403(sandbox, client, session, name):
    sandbox.fault("status_403", operation=name)
    with pytest.raises(hpp.PermissionDeniedError):
        await VERBS[name](client, session)


@by_verb
@pytest.mark.parametrize("why", ["unknown", "expired", "its order expired"])
async def test_404(sandbox, client, session, name, why):
    given = session
    if why == "unknown":
        given = UNKNOWN_ID
    elif why == "expired":
        sandbox.clock.advance(hours=47)
    else:
        sandbox.expire(client.order_url(ORDER_ID))
    with pytest.raises(hpp.NotFoundError, match="The session has expired, or these credentials have no") as caught:
        await VERBS[name](client, given)
    assert (caught.value.code, caught.value.delivery, caught.value.attempts) == ("NOT_FOUND", hpp.Delivery.REJECTED, 1)
    assert not sandbox.record.requests[-1].processed


async def test_503_of_a_distribution_is_tried_again_as_documented(sandbox, client, session):
    sandbox.fault("status_503", operation="distribute_session", times=2)
    await client.distribute_session(session, EMAIL)
    assert len(sandbox.record.distributions) == 1
    assert [seen.status for seen in sandbox.record.requests[1:]] == [503, 503, 204]


@pytest.mark.parametrize("fault", ["error_html~status=503", "error_empty~status=503", "error_text~status=503"])
async def test_503_of_somebody_else_is_not(sandbox, client, session, fault):
    sandbox.fault(find_fault(fault), operation="distribute_session")
    with pytest.raises(hpp.ServerError) as caught:
        await client.distribute_session(session, EMAIL)
    assert (caught.value.attempts, caught.value.delivery) == (1, hpp.Delivery.UNKNOWN)


# -------------------------------------------------------------------------------------------------------- after a failure


@pytest.mark.parametrize("fault", ["reset_after_request", "close_before_processing", "garbage", "hang", "status_502"])
async def test_404_after_an_ambiguous_disable_is_a_success(sandbox, session, fault):
    sandbox.fault([find_fault(fault), "status_404"], operation="disable_session")
    async with client_of(sandbox, timeouts=hpp.Timeouts(read=0.2)) as client:
        assert await client.disable_session(session) is None
    assert [seen.operation for seen in sandbox.record.requests[1:]] == ["disable_session"] * 2


@pytest.mark.parametrize("fault", ["status_429", "retry_after_past"])
async def test_404_after_a_refused_disable_is_none(sandbox, client, session, fault):
    sandbox.fault([find_fault(fault), "status_404"], operation="disable_session")
    with pytest.raises(hpp.NotFoundError):
        await client.disable_session(session)


@by_verb
@pytest.mark.parametrize("borrowed", [False, True], ids=["owned", "borrowed"])
async def test_aiohttp_repeats_nothing_by_itself(sandbox, session, name, borrowed):
    """It would send a GET or a DELETE again on a connection that was closed under it; that is for us to decide."""
    sandbox.fault("keepalive_race_rst", operation=name)
    async with contextlib.AsyncExitStack() as stack:
        options = {}
        if borrowed:
            import aiohttp

            options["http_session"] = await stack.enter_async_context(
                aiohttp.ClientSession(connector=hpp.guarded_connector())
            )
        once = hpp.RetrySettings(max_attempts=1)
        client = await stack.enter_async_context(client_of(sandbox, retry=once, **options))
        await client.create_session(hpp.CreateSessionRequest(payment_session_url=client.order_url("warm")))
        with pytest.raises(hpp.LostResponseError) as caught:
            await VERBS[name](client, session)
        assert caught.value.attempts == 1
        await sandbox.wait_until_idle()
        assert len([seen for seen in sandbox.record.requests if seen.operation == name]) == 1
        # And the mark still works: nothing here has made the client blind.
        async with open_port(sandbox, "refuse") as port:
            refused = await stack.enter_async_context(client_of(sandbox, base_url=port.base_url, retry=once, **options))
            with pytest.raises(hpp.ConnectError):
                await VERBS[name](refused, session.session_id)


# ------------------------------------------------------------------------------------------------------------ waiting


async def test_a_wait_ends_when_the_consumer_has_paid(sandbox, client, session):
    waiting = asyncio.ensure_future(client.wait_for_session(session, deadline=20, poll=0.5))
    await sandbox.record.wait_for(lambda record: len(record.requests) >= 2)
    sandbox.act(session, "pay")
    details = await waiting
    assert (details.status, details.order_id) == (hpp.SessionStatus.COMPLETED, ORDER_ID)
    assert {seen.operation for seen in sandbox.record.requests[1:]} == {"read_session"}


@pytest.mark.parametrize(("ended_by", "status"), [("cancel", "CANCELLED"), ("disable", "DISABLED")])
async def test_a_wait_ends_when_nobody_will_pay(sandbox, client, session, ended_by, status):
    if ended_by == "cancel":
        sandbox.act(session, "cancel")
    else:
        await client.disable_session(session)
    assert (await client.wait_for_session(session, deadline=5)).status == status


async def test_a_wait_passes_over_what_passes(sandbox, client, session):
    # Longer than a read tries by itself.
    faults = ["reset_after_request", "status_503", "status_429", "garbage", "close_on_head", "half_body_close"]
    sandbox.fault(
        faults,
        operation="read_session",
    )
    sandbox.act(session, "pay")
    assert (await client.wait_for_session(session, deadline=20, poll=0.5)).status == "COMPLETED"
    assert len(sandbox.record.requests) == 1 + len(faults) + 1


async def test_a_wait_for_what_expires_meanwhile(sandbox, client, session):
    waiting = asyncio.ensure_future(client.wait_for_session(session, deadline=20, poll=0.5))
    await sandbox.record.wait_for(lambda record: len(record.requests) >= 2)
    sandbox.clock.advance(hours=48)
    with pytest.raises(hpp.NotFoundError) as caught:
        await waiting
    assert caught.value.details.status == "WAITING"


async def test_a_wait_that_is_over(sandbox, client, session):
    with pytest.raises(hpp.DeadlineExceededError, match="its last status was WAITING") as caught:
        await client.wait_for_session(session, deadline=0.7, poll=0.5)
    assert caught.value.details.session_id == session.session_id
    assert caught.value.attempts == 2
