"""The client over a transport without sockets: the walk of a call, to the byte and to the event."""

import asyncio
import logging
import time

import attrs
import pytest

import kustom_hpp as hpp
from kustom_hpp import config
from kustom_hpp.transport import HTTP_LIBRARY
from tests.support.golden import (
    FULL_ANSWER,
    FULL_BODY,
    FULL_REQUEST,
    FULL_SESSION,
    MINIMAL_ANSWER,
    MINIMAL_BODY,
    MINIMAL_REQUEST,
    ORDER_URL,
)

KEY = "kco_test_hpp_c2VjcmV0LWtleS1vZi10ZXN0cw"
ANSWER = hpp.FakeTransport.response(201, MINIMAL_ANSWER)
QUICK = hpp.RetrySettings(initial=0, maximum=0)


def throttled(retry_after: str = "0") -> hpp.HttpResponse:
    return hpp.FakeTransport.response(429, {"error_code": "TOO_MANY"}, {"Retry-After": retry_after})


def lost() -> hpp.HPPError:
    return hpp.LostResponseError("lost", cause="ClientOSError, errno 104, after sending began")


def not_sent() -> hpp.HPPError:
    return hpp.ConnectError("refused", cause="ClientConnectorError, errno 111, while connecting")


def client_of(*steps, **arguments) -> hpp.HPPClient:
    fake = hpp.FakeTransport(*(steps or [ANSWER]))
    return hpp.HPPClient(**({"api_key": KEY, "retry": QUICK, "transport": fake} | arguments))


def sent(client: hpp.HPPClient) -> list[hpp.HttpRequest]:
    transport = client._create_context.transport
    assert isinstance(transport, hpp.FakeTransport)
    return transport.requests


class Hanging:
    """A transport that sends, or only seems to, and then waits for ever."""

    def __init__(self, *, sends: bool):
        self.sends = sends
        self.waiting = asyncio.Event()

    async def send(self, request, marker):
        marker.sent = self.sends
        self.waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def aclose(self):
        pass


# ------------------------------------------------------------------------------------------------------------ the walk


@pytest.mark.parametrize(
    ("request_", "body", "answer", "session"),
    [
        (
            MINIMAL_REQUEST,
            MINIMAL_BODY,
            MINIMAL_ANSWER,
            hpp.Session(session_id=FULL_SESSION.session_id, redirect_url=FULL_SESSION.redirect_url),
        ),
        (FULL_REQUEST, FULL_BODY, FULL_ANSWER, FULL_SESSION),
    ],
)
async def test_a_request_and_its_answer(request_, body, answer, session):
    client = client_of(
        hpp.FakeTransport.response(201, answer), app_info="MyShop/1.2", headers={"Kustom-Partner": "PG1"}
    )
    assert await client.create_session(request_) == session
    (request,) = sent(client)
    assert (request.method, str(request.url), request.body) == (
        "POST", "https://api.playground.kustom.co/hpp/v1/sessions", body,
    )  # fmt: skip
    assert list(request.headers.items()) == [
        ("Authorization", f"Basic {KEY}"),
        ("User-Agent", config.user_agent(HTTP_LIBRARY, "MyShop/1.2")),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/json"),
        ("Kustom-Partner", "PG1"),
    ]
    assert (request.connect_timeout, request.read_timeout, request.deadline) == (5.0, 35.0, None)


async def test_how_the_call_went():
    client = client_of(
        hpp.FakeTransport.response(
            201,
            MINIMAL_ANSWER,
            {"X-Correlation-Id": "c-1", "X-RateLimit-Limit": "40, 40;w=1", "X-RateLimit-Remaining": "39"},
        )
    )
    info = (await client.create_session(MINIMAL_REQUEST)).info
    assert attrs.evolve(info, elapsed=0.0) == hpp.CallInfo(
        attempts=1,
        status=201,
        correlation_id="c-1",
        rate_limit=hpp.RateLimit(limit=40, remaining=39, window=1.0),
        earlier_unknown=False,
    )
    assert 0 <= info.elapsed < 1


async def test_how_a_call_of_several_attempts_went():
    client = client_of(not_sent(), throttled(), lost(), ANSWER)
    session = await client.create_session(MINIMAL_REQUEST, on_unknown="resend")
    assert (session.info.attempts, session.info.status, session.info.earlier_unknown) == (4, 201, True)
    assert session.info.correlation_id is None
    assert session.info.rate_limit is None
    assert [request.body for request in sent(client)] == [MINIMAL_BODY] * 4


async def test_the_request_is_encoded_once_whatever_the_attempts():
    client = client_of(throttled(), throttled(), ANSWER)
    await client.create_session(MINIMAL_REQUEST)
    first, *others = sent(client)
    assert all(other is first for other in others)


@pytest.mark.parametrize(
    ("steps", "on_unknown", "kind", "delivery", "attempts"),
    [
        ([not_sent()], None, hpp.ConnectError, hpp.Delivery.NOT_SENT, 4),
        ([lost()], None, hpp.LostResponseError, hpp.Delivery.UNKNOWN, 1),
        ([lost()], "raise", hpp.LostResponseError, hpp.Delivery.UNKNOWN, 1),
        ([lost()], "resend", hpp.LostResponseError, hpp.Delivery.UNKNOWN, 4),
        ([hpp.FakeTransport.response(500)], None, hpp.ServerError, hpp.Delivery.UNKNOWN, 1),
        (
            [hpp.FakeTransport.response(503, headers={"Retry-After": "0"})],
            None,
            hpp.ServerError,
            hpp.Delivery.UNKNOWN,
            1,
        ),
        ([hpp.FakeTransport.response(400)], "resend", hpp.BadRequestError, hpp.Delivery.REJECTED, 1),
        ([hpp.FakeTransport.response(401)], None, hpp.AuthenticationError, hpp.Delivery.REJECTED, 1),
        ([hpp.FakeTransport.response(307)], "resend", hpp.ApiError, hpp.Delivery.REJECTED, 1),
        ([throttled()], None, hpp.RateLimitError, hpp.Delivery.REJECTED, 4),
        ([throttled(), not_sent()], None, hpp.ConnectError, hpp.Delivery.REJECTED, 4),
        ([hpp.FakeTransport.response(201, b"{}")], "resend", hpp.DecodeError, hpp.Delivery.ACCEPTED, 1),
        ([hpp.CertificateError("expired")], None, hpp.CertificateError, hpp.Delivery.NOT_SENT, 1),
        # After an attempt that may have been processed, no later one makes the call safe again.
        (
            [lost(), hpp.FakeTransport.response(400)],
            "resend",
            hpp.LostResponseError,
            hpp.Delivery.UNKNOWN,
            2,
        ),
        ([lost(), not_sent()], "resend", hpp.LostResponseError, hpp.Delivery.UNKNOWN, 4),
        ([lost(), hpp.FakeTransport.response(201, b"{}")], "resend", hpp.LostResponseError, hpp.Delivery.ACCEPTED, 2),
    ],
    ids=repr,
)
async def test_what_comes_of_failures(steps, on_unknown, kind, delivery, attempts):
    client = client_of(*steps)
    with pytest.raises(hpp.HPPError) as caught:
        await client.create_session(MINIMAL_REQUEST, on_unknown=on_unknown)
    error = caught.value
    assert type(error) is kind
    assert (error.delivery, error.attempts, len(sent(client))) == (delivery, attempts, attempts)
    assert isinstance(error, hpp.OutcomeUnknownError) is delivery.may_have_taken_effect
    assert error.__cause__ is None


async def test_a_bad_request_is_not_sent():
    client = client_of()
    with pytest.raises(hpp.InvalidRequestError, match=r"merchant_urls\.success") as caught:
        await client.create_session(
            hpp.CreateSessionRequest(payment_session_url="", merchant_urls=hpp.MerchantUrls(success="x"))
        )
    assert [path for path, _ in caught.value.problems] == ["payment_session_url", "merchant_urls.success"]
    assert (caught.value.delivery, sent(client)) == (None, [])


# ------------------------------------------------------------------------------------------------------------ deadlines


@pytest.mark.parametrize("deadline", [0, -1, -0.001])
async def test_a_deadline_that_has_passed(deadline):
    client = client_of()
    with pytest.raises(hpp.DeadlineExceededError) as caught:
        await client.create_session(MINIMAL_REQUEST, deadline=deadline)
    assert (caught.value.delivery, caught.value.attempts, sent(client)) == (hpp.Delivery.NOT_SENT, 0, [])


@pytest.mark.parametrize("deadline", [float("nan"), float("inf"), "10", True, []])
async def test_a_deadline_that_is_none(deadline):
    client = client_of()
    with pytest.raises(hpp.ConfigError, match="deadline must be a finite number"):
        await client.create_session(MINIMAL_REQUEST, deadline=deadline)
    assert sent(client) == []


async def test_a_deadline_goes_with_the_request():
    client = client_of()
    before = asyncio.get_running_loop().time()
    await client.create_session(MINIMAL_REQUEST, deadline=10)
    (request,) = sent(client)
    assert request.deadline is not None
    assert before + 10 <= request.deadline <= before + 11


async def test_a_deadline_that_comes_before_the_turn():
    client = client_of(pace=hpp.Pace(rate=0.5, burst=1))
    await client.create_session(MINIMAL_REQUEST)
    began = time.monotonic()
    with pytest.raises(hpp.DeadlineExceededError, match="is too early for the rate limit") as caught:
        await client.create_session(MINIMAL_REQUEST, deadline=1)
    assert time.monotonic() - began < 0.5  # told at once, not after a second
    assert (caught.value.delivery, caught.value.attempts, len(sent(client))) == (hpp.Delivery.NOT_SENT, 0, 1)


async def test_a_deadline_that_passes_while_waiting():
    class Slow(hpp.Pace):
        async def acquire(self, deadline=None):
            assert deadline is not None
            await asyncio.sleep(0.03)
            return time.monotonic()

    client = client_of(pace=Slow(rate=1000))
    with pytest.raises(hpp.DeadlineExceededError, match="passed before the request could be sent"):
        await client.create_session(MINIMAL_REQUEST, deadline=0.01)
    assert sent(client) == []


async def test_a_wait_that_does_not_fit_raises_its_cause():
    client = client_of(throttled("5"))
    with pytest.raises(hpp.RateLimitError) as caught:
        await client.create_session(MINIMAL_REQUEST, deadline=1)
    assert (caught.value.retry_after, caught.value.attempts) == (5.0, 1)


# -------------------------------------------------------------------------------------------------------- options, views


async def test_on_unknown_of_a_call_wins():
    client = client_of(lost(), ANSWER, retry=attrs.evolve(QUICK, on_unknown="resend"))
    assert (await client.create_session(MINIMAL_REQUEST)).info.attempts == 2
    client = client_of(lost(), ANSWER, retry=attrs.evolve(QUICK, on_unknown="resend"))
    with pytest.raises(hpp.LostResponseError):
        await client.create_session(MINIMAL_REQUEST, on_unknown="raise")


@pytest.mark.parametrize("on_unknown", ["Resend", "", True, 5])
async def test_on_unknown_that_is_none(on_unknown):
    client = client_of()
    with pytest.raises(hpp.ConfigError, match="on_unknown must be 'raise' or 'resend'"):
        await client.create_session(MINIMAL_REQUEST, on_unknown=on_unknown)
    with pytest.raises(hpp.ConfigError, match="on_unknown must be 'raise' or 'resend'"):
        client.with_options(on_unknown=on_unknown)
    assert sent(client) == []


async def test_a_view_shares_what_is_shared():
    client = client_of()
    view = client.with_options(timeouts=hpp.Timeouts(read=1))
    for name in ("transport", "pace", "retry_quota"):
        assert getattr(view._create_context, name) is getattr(client._create_context, name)
    assert type(view) is hpp.HPPClient
    assert repr(view) == repr(client)
    await view.create_session(MINIMAL_REQUEST)
    await client.create_session(MINIMAL_REQUEST)
    assert [request.read_timeout for request in sent(client)] == [1, 35.0]


async def test_the_quota_is_spent_together():
    client = client_of(throttled(), ANSWER)
    before = client._create_context.retry_quota.tokens
    await client.with_options().create_session(MINIMAL_REQUEST)
    assert client._create_context.retry_quota.tokens == before - 5 + 1


async def test_a_view_cannot_be_closed():
    client = client_of()
    view = client.with_options().with_options(on_unknown="raise")
    with pytest.raises(hpp.ConfigError, match="Close that client instead"):
        await view.aclose()
    with pytest.raises(hpp.ConfigError, match="Close that client instead"):
        async with view:
            pass
    await client.create_session(MINIMAL_REQUEST)
    await client.aclose()
    with pytest.raises(hpp.ClientClosedError):
        await view.create_session(MINIMAL_REQUEST)


async def test_the_options_of_a_view():
    client = client_of(lost(), ANSWER)
    assert (await client.with_options(on_unknown="resend").create_session(MINIMAL_REQUEST)).info.attempts == 2
    client = client_of(throttled())
    with pytest.raises(hpp.RateLimitError) as caught:
        await client.with_options(retry=hpp.RetrySettings(max_attempts=1)).create_session(MINIMAL_REQUEST)
    assert caught.value.attempts == 1
    settings = client.with_options(retry=hpp.RetrySettings(budget=7), on_unknown="resend").settings.retry
    assert settings == hpp.RetrySettings(budget=7, on_unknown="resend")


async def test_the_headers_of_a_view():
    client = client_of(headers={"X-A": "1", "X-B": "2"})
    view = client.with_options(headers={"x-b": "3", "X-C": "4"})
    await view.create_session(MINIMAL_REQUEST)
    await client.create_session(MINIMAL_REQUEST)
    assert [list(request.headers.items())[5:] for request in sent(client)] == [
        [("X-A", "1"), ("x-b", "3"), ("X-C", "4")],
        [("X-A", "1"), ("X-B", "2")],
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"timeouts": 5},
        {"retry": "often"},
        {"headers": {"Authorization": "Basic x"}},
        {"headers": {"X-A": "a\nb"}},
        {"headers": [("X-A", "1")]},
    ],
    ids=repr,
)
async def test_options_that_cannot_be(options):
    with pytest.raises(hpp.ConfigError, match=next(iter(options))):
        client_of().with_options(**options)


async def test_the_hooks_of_a_view_are_its_own():
    clients, views = [], []
    client = client_of(hooks=[clients.append])
    await client.with_options(hooks=[views.append]).create_session(MINIMAL_REQUEST)
    assert ([type(event) for event in views], clients) == ([hpp.Started, hpp.Finished], [])
    await client.with_options(hooks=[]).create_session(MINIMAL_REQUEST)
    assert (len(views), clients) == (2, [])
    await client.with_options().create_session(MINIMAL_REQUEST)
    assert [type(event) for event in clients] == [hpp.Started, hpp.Finished]


# ----------------------------------------------------------------------------------------------------------------- hooks


def plain(events: list) -> list:
    """Events of one call without its name and its measured time."""
    assert len({event.call_id for event in events}) == 1
    unnamed = [attrs.evolve(event, call_id="") for event in events]
    return [attrs.evolve(event, elapsed=0.0) if isinstance(event, hpp.Finished) else event for event in unnamed]


STARTED = hpp.Started(call_id="", operation="create_session", method="POST", url="https://api.playground.kustom.co/hpp/v1/sessions",
    host="api.playground.kustom.co", port=443, path="/hpp/v1/sessions",
)  # fmt: skip


def finished(attempts, delivery, status, error=None, identity=None, **more):
    return hpp.Finished(
        call_id="", operation="create_session", attempts=attempts, elapsed=0.0, delivery=delivery, status=status,
        correlation_id=identity, error=error, **more,
    )  # fmt: skip


async def test_the_events_of_a_call():
    events = []
    client = client_of(
        hpp.FakeTransport.response(201, MINIMAL_ANSWER, {"X-Correlation-Id": "c-1"}), hooks=[events.append]
    )
    await client.create_session(MINIMAL_REQUEST)
    assert plain(events) == [STARTED, finished(1, hpp.Delivery.ACCEPTED, 201, identity="c-1")]
    assert 0 <= events[-1].elapsed < 1


async def test_the_events_of_a_call_of_several_attempts():
    events = []
    refused = not_sent()
    client = client_of(refused, throttled(), ANSWER, hooks=[events.append])
    await client.create_session(MINIMAL_REQUEST)
    retried = events[2].error
    assert plain(events) == [
        STARTED,
        hpp.Retrying(call_id="", operation="create_session", attempt=1, wait=0.0, error=refused),
        hpp.Retrying(call_id="", operation="create_session", attempt=2, wait=0.0, error=retried),
        finished(3, hpp.Delivery.ACCEPTED, 201),
    ]
    assert (type(retried), retried.code) == (hpp.RateLimitError, "TOO_MANY")


@pytest.mark.parametrize(
    ("steps", "attempts", "status", "identity"),
    [
        ([hpp.FakeTransport.response(400, {"correlation_id": "c-2"})], 1, 400, "c-2"),
        ([hpp.FakeTransport.response(502, headers={"X-Correlation-Id": "c-3"})], 1, 502, "c-3"),
        ([hpp.FakeTransport.response(201, b"")], 1, 201, None),
        ([lost()], 1, None, None),
        ([hpp.CertificateError("expired")], 1, None, None),
    ],
)
async def test_the_events_of_a_failure(steps, attempts, status, identity):
    events = []
    client = client_of(*steps, hooks=[events.append])
    with pytest.raises(hpp.HPPError) as caught:
        await client.create_session(MINIMAL_REQUEST)
    assert plain(events) == [STARTED, finished(attempts, caught.value.delivery, status, caught.value, identity)]


async def test_the_end_of_a_call_has_no_status_of_an_earlier_attempt():
    events = []
    limited = hpp.FakeTransport.response(429, {}, {"Retry-After": "0", "X-Correlation-Id": "c-4"})
    client = client_of(limited, lost(), hooks=[events.append])
    with pytest.raises(hpp.LostResponseError) as caught:
        await client.create_session(MINIMAL_REQUEST)
    assert plain(events)[-1] == finished(2, hpp.Delivery.UNKNOWN, None, caught.value, None)


async def test_the_events_of_a_call_that_came_to_no_attempt():
    events = []
    client = client_of(hooks=[events.append])
    with pytest.raises(hpp.DeadlineExceededError) as caught:
        await client.create_session(MINIMAL_REQUEST, deadline=0)
    assert plain(events) == [STARTED, finished(0, hpp.Delivery.NOT_SENT, None, caught.value)]


async def test_a_bad_request_is_no_call():
    events = []
    client = client_of(hooks=[events.append])
    with pytest.raises(hpp.InvalidRequestError):
        await client.create_session(hpp.CreateSessionRequest(payment_session_url=""))
    with pytest.raises(hpp.ConfigError):
        await client.create_session(MINIMAL_REQUEST, deadline="soon")
    assert events == []


@pytest.mark.parametrize(
    ("sends", "delivery"), [(True, hpp.Delivery.UNKNOWN), (False, hpp.Delivery.NOT_SENT)], ids=["sent", "unsent"]
)
async def test_the_events_of_a_cancelled_call(sends, delivery):
    events = []
    transport = Hanging(sends=sends)
    client = client_of(transport=transport, hooks=[events.append])
    task = asyncio.create_task(client.create_session(MINIMAL_REQUEST))
    await transport.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert plain(events) == [STARTED, finished(1, delivery, None, cancelled=True)]


async def test_the_events_of_a_call_that_is_cancelled_between_attempts():
    events = []
    waiting = asyncio.Event()
    client = client_of(
        throttled("20"), hooks=[events.append, lambda event: isinstance(event, hpp.Retrying) and waiting.set()]
    )
    task = asyncio.create_task(client.create_session(MINIMAL_REQUEST))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert plain(events)[-1] == finished(1, hpp.Delivery.REJECTED, 429, cancelled=True)
    assert len(events) == 3


@pytest.mark.parametrize(
    ("kind", "cancelled"),
    [(KeyboardInterrupt, True), (SystemExit, True), (GeneratorExit, True), (ZeroDivisionError, False)],
)
def test_the_events_of_a_call_that_ends_with_a_foreign_exception(kind, cancelled):
    class Raising(Hanging):
        async def send(self, request, marker):
            marker.sent = True
            raise kind

    async def call(client):
        await client.create_session(MINIMAL_REQUEST)

    events = []
    # Without the machinery of a test around it, which what ends a program would end.
    with asyncio.Runner() as runner, pytest.raises(kind):
        runner.run(call(client_of(transport=Raising(sends=True), hooks=[events.append])))
    assert plain(events) == [STARTED, finished(1, hpp.Delivery.UNKNOWN, None, cancelled=cancelled)]


@pytest.mark.parametrize(
    ("call", "idempotent", "level"),
    [
        (lambda client: client.create_session(MINIMAL_REQUEST), False, logging.ERROR),
        (lambda client: client.read_session("s-1"), True, logging.WARNING),
        (lambda client: client.disable_session("s-1"), True, logging.WARNING),
        (
            lambda client: client.distribute_session("s-1", hpp.EmailDistribution(email="a@b.example")),
            False,
            logging.ERROR,
        ),
    ],
    ids=["create", "read", "disable", "distribute"],
)
async def test_a_lost_answer_is_an_error_in_the_log_only_where_it_may_have_done_something(
    caplog, call, idempotent, level
):
    events = []
    client = client_of(hpp.FakeTransport.response(500), hooks=[events.append, hpp.log_events])
    with pytest.raises(hpp.OutcomeUnknownError):
        await call(client)
    assert events[-1].idempotent is idempotent
    assert caplog.records[-1].levelno == level


async def test_each_call_has_a_name_of_its_own():
    events = []
    client = client_of(hooks=[events.append])
    await asyncio.gather(*(client.create_session(MINIMAL_REQUEST) for _ in range(50)))
    names = [event.call_id for event in events if isinstance(event, hpp.Started)]
    assert len(set(names)) == 50
    assert sorted(names) == sorted(event.call_id for event in events if isinstance(event, hpp.Finished))
    assert {len(name) for name in names} == {16}


async def test_no_event_shows_a_query():
    events = []
    client = client_of(
        hpp.FakeTransport.response(200, {}), base_url="http://localhost:8080/kustom", hooks=[events.append]
    )
    url = "http://localhost:8080/kustom/sessions/s-1?s=1#f"
    await client.read_session(hpp.Session(session_id="s-1", redirect_url="x", session_url=url))
    started = events[0]
    assert (started.url, started.host, started.port) == ("http://localhost:8080/kustom/sessions/s-1", "localhost", 8080)


async def test_a_hook_that_raises_eats_no_answer(caplog):
    def broken(event):
        raise RuntimeError("of the hook")

    events = []
    client = client_of(hooks=[broken, events.append])
    for _ in range(2):
        assert (await client.create_session(MINIMAL_REQUEST)).session_id == FULL_SESSION.session_id
    assert [type(event) for event in events] == [hpp.Started, hpp.Finished] * 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_hook_that_raises_eats_no_error(caplog):
    def broken(event):
        if isinstance(event, hpp.Finished):
            raise RuntimeError("of the hook")

    client = client_of(hpp.FakeTransport.response(400), hooks=[broken])
    with pytest.raises(hpp.BadRequestError):
        await client.create_session(MINIMAL_REQUEST)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("hooks", [[], [lambda event: None]], ids=["without hooks", "with a hook"])
async def test_no_event_is_made_that_nobody_hears(monkeypatch, hooks):
    made = []
    for kind in (hpp.Started, hpp.Retrying, hpp.Finished):

        def counted(self, *arguments, _init=kind.__init__, **facts):
            made.append(type(self).__name__)
            _init(self, *arguments, **facts)

        monkeypatch.setattr(kind, "__init__", counted)
    client = client_of(throttled(), ANSWER, hpp.FakeTransport.response(400), hooks=hooks)
    await client.create_session(MINIMAL_REQUEST)
    with pytest.raises(hpp.BadRequestError):
        await client.create_session(MINIMAL_REQUEST)
    assert made == (["Started", "Retrying", "Finished", "Started", "Finished"] if hooks else [])


# ---------------------------------------------------------------------------------------------------- making and closing


@pytest.fixture
def environment(monkeypatch):
    for variable in config.ENV_VARS.values():
        monkeypatch.delenv(variable, raising=False)
    return lambda **variables: [monkeypatch.setenv(f"KUSTOM_HPP_{name}", text) for name, text in variables.items()]


@pytest.mark.parametrize(
    ("variables", "arguments", "shown", "authorization"),
    [
        ({"API_KEY": KEY}, {}, "https://api.playground.kustom.co, playground", f"Basic {KEY}"),
        ({"API_KEY": "kco_live_x"}, {}, "https://api.kustom.co, live", "Basic kco_live_x"),
        ({"API_KEY": KEY, "BASE_URL": "http://localhost:1"}, {}, "http://localhost:1", f"Basic {KEY}"),
        ({"API_KEY": KEY, "BASE_URL": "http://a.example", "INSECURE_HTTP": "1"}, {}, "http://a.example", f"Basic {KEY}"),
        ({"USERNAME": "K1", "PASSWORD": "pa55"}, {}, "https://api.playground.kustom.co, playground", "Basic SzE6cGE1NQ=="),
        ({"API_KEY": "opaque", "ENVIRONMENT": "live"}, {}, "https://api.kustom.co, live", "Basic opaque"),
        # What is given wins over its variable, and over the variable that says the same in another way.
        ({"API_KEY": "other"}, {"api_key": KEY}, "https://api.playground.kustom.co, playground", f"Basic {KEY}"),
        ({"API_KEY": KEY, "BASE_URL": "http://localhost:1"}, {"environment": "playground"},
         "https://api.playground.kustom.co, playground", f"Basic {KEY}"),
        ({"API_KEY": KEY, "ENVIRONMENT": "playground"}, {"base_url": "http://localhost:1"}, "http://localhost:1",
         f"Basic {KEY}"),
        ({"API_KEY": KEY, "USERNAME": "K1"}, {"password": "pa55"}, "https://api.playground.kustom.co, playground",
         "Basic SzE6cGE1NQ=="),
        ({"API_KEY": KEY}, {"api_key": None}, "https://api.playground.kustom.co, playground", f"Basic {KEY}"),
    ],
)  # fmt: skip
async def test_a_client_of_the_environment(environment, variables, arguments, shown, authorization):
    environment(**variables)
    client = hpp.HPPClient.from_env(transport=hpp.FakeTransport(ANSWER), **arguments)
    assert repr(client) == f"<HPPClient at {shown}>"
    await client.create_session(hpp.CreateSessionRequest(payment_session_url=client.order_url("0b1cf1a4")))
    assert sent(client)[0].headers["Authorization"] == authorization


def test_the_app_info_of_the_environment(environment):
    environment(API_KEY=KEY, APP_INFO="MyShop/1.2")
    assert hpp.HPPClient.from_env().settings.user_agent.endswith(" MyShop/1.2")


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        ({}, "no credentials: pass api_key= .or set KUSTOM_HPP_API_KEY"),
        ({"API_KEY": KEY, "PASSWORD": "x"}, "two names for one secret"),
        ({"API_KEY": KEY, "ENVIRONMENT": "live"}, "the key is a playground key"),
        ({"API_KEY": KEY, "INSECURE_HTTP": "perhaps"}, "KUSTOM_HPP_INSECURE_HTTP"),
    ],
)
def test_an_environment_that_cannot_work(environment, variables, match):
    environment(**variables)
    with pytest.raises(hpp.ConfigError, match=match):
        hpp.HPPClient.from_env()


def test_a_subclass_of_the_client_stays_one(environment):
    environment(API_KEY=KEY)

    class Mine(hpp.HPPClient):
        pass

    assert type(Mine.from_env()) is Mine
    assert type(Mine(KEY).with_options()) is Mine


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        (None, "https://api.playground.kustom.co/checkout/v3/orders/92d97f60-7a78"),
        ("http://localhost:8080/", "http://localhost:8080/checkout/v3/orders/92d97f60-7a78"),
        ("https://gateway.example/kustom", "https://gateway.example/kustom/checkout/v3/orders/92d97f60-7a78"),
    ],
)
def test_the_url_of_an_order(base_url, expected):
    url = hpp.HPPClient(KEY, base_url=base_url).order_url("92d97f60-7a78")
    assert url == expected
    assert hpp.CreateSessionRequest(payment_session_url=url).problems() == ()
    assert hpp.CreateSessionRequest(payment_session_url=url).warnings() == ()


def test_the_url_of_the_golden_order():
    assert hpp.HPPClient(KEY).order_url("0b1cf1a4-9d5c-4a3e-8f6a-2f0d9f8e7a11") == ORDER_URL


@pytest.mark.parametrize(
    "order_id", ["", ".", "..", "a/b", "../x", "a?b", "a#b", "a b", "a\n", "ä", "a%2f", "{{x}}", None, 5]
)
def test_an_order_id_that_is_none(order_id):
    with pytest.raises(hpp.ConfigError, match="order_id must be the id alone"):
        hpp.HPPClient(KEY).order_url(order_id)


@pytest.mark.parametrize(
    "arguments",
    [
        {"proxy": "http://p.example"}, {"trust_env": True}, {"ssl": object()}, {"http_session": object()},
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_transport(arguments):
    with pytest.raises(hpp.ConfigError, match="transport replaces aiohttp"):
        client_of(**arguments)


async def test_a_closed_client():
    client = client_of()
    async with client as same:
        assert same is client
        await client.create_session(MINIMAL_REQUEST)
    await client.aclose()  # once more does no harm
    with pytest.raises(hpp.ClientClosedError) as caught:
        await client.create_session(MINIMAL_REQUEST)
    assert (caught.value.delivery, caught.value.attempts, len(sent(client))) == (None, 0, 1)


async def test_a_client_closes_when_its_block_fails():
    client = client_of()
    with pytest.raises(ZeroDivisionError):
        async with client:
            raise ZeroDivisionError
    assert client._create_context.transport.closed


async def test_a_client_that_was_never_used_closes():
    async with hpp.HPPClient(KEY):
        pass


def test_a_client_can_be_made_without_a_loop():
    assert repr(hpp.HPPClient(KEY)) == "<HPPClient at https://api.playground.kustom.co, playground>"


async def test_what_the_server_echoes_is_hidden():
    request = attrs.evolve(
        MINIMAL_REQUEST, merchant_urls=hpp.MerchantUrls(back="https://shop.example/?t=0123456789abcdef")
    )
    client = client_of(
        lambda got: hpp.FakeTransport.response(
            400, {"error_messages": [got.headers["Authorization"], got.body.decode()], "correlation_id": KEY}
        )
    )
    with pytest.raises(hpp.BadRequestError) as caught:
        await client.create_session(request)
    told = str(caught.value) + repr(vars(caught.value))
    assert KEY not in told
    assert "0123456789abcdef" not in told
    assert "Basic ***" in told
