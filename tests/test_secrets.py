"""Random secrets go everywhere a secret may go, and are looked for everywhere they may come out again."""

import asyncio
import base64
import contextlib
import json
import logging
import secrets as _secrets
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import attrs
import pytest

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.support.faults import ALL_FAULTS as FAULTS
from tests.support.faults import find_fault
from tests.support.golden import MINIMAL_ANSWER, SESSION_ID
from tests.support.leaks import all_errors, leaks, told_by, told_by_logs
from tests.support.ports import PORTS, open_port
from tests.support.proxy import PROXY_BEHAVIOURS, open_proxy

FAST = hpp.Timeouts(connect=0.3, read=0.3)
TWICE = hpp.RetrySettings(max_attempts=2, initial=0, maximum=0)


@attrs.frozen(kw_only=True)
class Planted:
    """One secret of each kind, new for each test."""

    key: str = attrs.field(factory=lambda: "kco_test_" + _secrets.token_hex(16))
    proxy: str = attrs.field(factory=lambda: _secrets.token_hex(16))
    header: str = attrs.field(factory=lambda: _secrets.token_hex(16))
    status_update: str = attrs.field(factory=lambda: _secrets.token_hex(16))
    success: str = attrs.field(factory=lambda: _secrets.token_hex(16))
    extra: str = attrs.field(factory=lambda: _secrets.token_hex(16))
    contact: str = attrs.field(factory=lambda: _secrets.token_hex(16))
    customer: str = attrs.field(factory=lambda: _secrets.token_hex(16))

    @property
    def all(self) -> list[str]:
        basic = base64.b64encode(f"K1:{self.key}".encode()).decode()
        proxy = base64.b64encode(f"user:{self.proxy}".encode()).decode()
        return [*(value.removeprefix("kco_test_") for value in attrs.astuple(self)), basic, proxy]

    @property
    def request(self) -> hpp.CreateSessionRequest:
        return hpp.CreateSessionRequest(
            payment_session_url="https://orders.example/checkout/v3/orders/1",
            merchant_urls=hpp.MerchantUrls(
                success=f"https://shop.example/thanks?hpp={{{{session_id}}}}&token={self.success}",
                status_update=f"https://shop.example/status?secret={self.status_update}",
            ),
            extra={"newer_than_this_release": self.extra},
        )

    @property
    def distribution(self) -> hpp.EmailDistribution:
        more = {"contact_information": {"access_id": self.extra}, "newer_than_this_release": self.extra}
        return hpp.EmailDistribution(email=f"{self.contact}@shop.example", extra=more)

    @property
    def details(self) -> dict[str, Any]:
        """What a read is answered with, personal data in every field that may have some."""
        names = ("date_of_birth", "family_name", "given_name", "national_identification_number", "title", "newer")
        customer = dict.fromkeys(names, self.customer)
        check = {
            "challenge": self.customer,
            "customer": customer,
            "customer_obfuscated": customer,
            "newer": self.customer,
        }
        tokens = {"authorization_token": self.customer, "newer": {"a": [self.customer]}}
        details = {
            "session_id": SESSION_ID,
            "status": "COMPLETED",
            "customer": customer,
            "manual_identification": check,
        }
        return details | tokens

    def arguments(self, login: str) -> dict[str, Any]:
        credentials = {"username": "K1", "password": self.key} if login == "password" else {"api_key": self.key}
        return credentials | {"headers": {"X-Shop-Token": self.header}, "retry": TWICE, "timeouts": FAST}


@pytest.fixture
def planted() -> Planted:
    return Planted()


class Watch:
    """What is told while a client is at work."""

    def __init__(self, planted: Planted, caplog: pytest.LogCaptureFixture):
        self.planted = planted
        self.caplog = caplog
        self.events: list[hpp.Started | hpp.Retrying | hpp.Finished] = []
        self.clients: list[hpp.HPPClient] = []
        self.warnings: list[warnings.WarningMessage] = []

    @property
    def hooks(self) -> list[Any]:
        return [self.events.append, hpp.log_events]

    def told(self) -> Iterator[tuple[str, str]]:
        yield from told_by_logs(self.caplog.records)
        yield "log text", self.caplog.text
        for event in self.events:
            yield f"event {type(event).__name__}", repr(event) + str(event)
        for warning in self.warnings:
            yield "warning", str(warning.message)
        for client in self.clients:
            yield "repr of the client", repr(client) + str(client) + repr(vars(client))
            yield "repr of its settings", repr(client.settings) + str(client.settings)
            yield "repr of its transport", repr(client._create_context.transport)
        request = self.planted.request
        yield "repr of the request", repr(request) + str(request)
        yield "repr of the distribution", repr(self.planted.distribution)
        for one in (request, self.planted.distribution):
            yield "problems and warnings", repr(one.problems()) + repr(one.warnings())

    def check(self, error: BaseException | None) -> None:
        """Fail where a secret is found anywhere."""
        assert leaks(self.told(), self.planted.all) == []
        if error is not None:
            assert leaks(told_by(error), self.planted.all) == []


@pytest.fixture
async def watch(planted: Planted, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Watch]:
    """Everything at its loudest: DEBUG of all loggers, asyncio's debug mode, every warning."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    watch = Watch(planted, caplog)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield watch
        watch.warnings += heard
    watch.check(None)
    assert [str(warning.message) for warning in heard] == []


async def failure_of(client: hpp.HPPClient, request: Any, **options: Any) -> BaseException:
    """What a call ends with."""
    with pytest.raises(hpp.HPPError) as caught:
        await client.create_session(request, **options)
    return caught.value


async def failures_of(client: hpp.HPPClient, planted: Planted, session: Any) -> list[BaseException]:
    """What the operations on a session end with; a disable may well succeed."""
    calls = [
        client.read_session(session, deadline=2),
        client.disable_session(session, deadline=2),
        client.distribute_session(session, planted.distribution, deadline=2),
        client.wait_for_session(session, deadline=0.2, poll=0.5),
    ]
    found = []
    for call in calls:
        try:
            await call
        except hpp.HPPError as error:
            found.append(error)
    return found


def both_logins() -> Any:
    return pytest.mark.parametrize("login", ["key", "password"])


# -------------------------------------------------------------------------------------------------- without sockets


def echo(status: int, got: hpp.HttpRequest) -> hpp.HttpResponse:
    """An answer that says again all that it was told: in its body, in its headers."""
    told = [*got.headers.values(), (got.body or b"").decode(), str(got.url)]
    body = {"error_code": got.headers["Authorization"], "error_messages": told, "correlation_id": told[-3]}
    headers = {"X-Correlation-Id": got.headers["X-Shop-Token"], "Location": f"https://evil.example/?{got.headers}"}
    return hpp.FakeTransport.response(status, body, headers)


STEPS = {
    **{
        f"echo {status}": [lambda got, status=status: echo(status, got)]
        for status in (101, 201, 302, 308, 400, 401, 403, 404, 408, 418, 429, 500, 503)
    },
    "echo, cut off": [lambda got: attrs.evolve(echo(201, got), body_error="cut off")],
    "no JSON": [lambda got: hpp.FakeTransport.response(400, str(dict(got.headers)).encode() + (got.body or b""))],
    "lost": [hpp.LostResponseError("lost")],
    "refused": [hpp.ConnectError("refused")],
    "lost, then an echo": [hpp.LostResponseError("lost"), lambda got: echo(400, got)],
}


@both_logins()
@pytest.mark.parametrize("steps", list(STEPS.values()), ids=list(STEPS))
@pytest.mark.parametrize("on_unknown", ["raise", "resend"])
async def test_failures_without_sockets(watch, planted, login, steps, on_unknown):
    client = hpp.HPPClient(transport=hpp.FakeTransport(*steps), hooks=watch.hooks, **planted.arguments(login))
    watch.clients.append(client)
    watch.check(await failure_of(client, planted.request, on_unknown=on_unknown))


@both_logins()
async def test_refusals_before_anything_is_sent(watch, planted, login):
    fake = hpp.FakeTransport(hpp.FakeTransport.response(201, MINIMAL_ANSWER))
    client = hpp.HPPClient(transport=fake, hooks=watch.hooks, **planted.arguments(login))
    view = client.with_options(headers={"X-Another": planted.proxy})
    watch.clients += [client, view]
    wrong = attrs.evolve(planted.request, profile_id=5, merchant_urls={"success": f"https://a/?{planted.success}"})
    watch.check(await failure_of(client, wrong))
    watch.check(
        await failure_of(client, attrs.evolve(planted.request, merchant_urls=hpp.MerchantUrls(back=planted.key)))
    )
    watch.check(await failure_of(client, planted.request, deadline=-1))
    watch.check(await failure_of(client, planted.request, deadline="soon"))
    watch.check(await failure_of(client, planted.request, on_unknown="perhaps"))
    # What is no request of ours shows itself as its class likes: here the caller's own dict is out of our hands.
    watch.check(await failure_of(view, {"payment_session_url": "https://orders.example/"}))
    for headers in ({"X-A": planted.header + "\n"}, {"X-A": "ok", "Cookie": planted.header}):
        with pytest.raises(hpp.ConfigError) as caught:
            client.with_options(headers=headers)
        watch.check(caught.value)
    with pytest.raises(hpp.ConfigError) as caught:
        await view.aclose()
    watch.check(caught.value)
    await client.aclose()
    watch.check(await failure_of(client, planted.request))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda planted: {"api_key": planted.key + "\n" + planted.key},
        lambda planted: {"api_key": planted.key + " " + planted.key},
        lambda planted: {"api_key": planted.key, "password": planted.key},
        lambda planted: {"password": planted.key},
        lambda planted: {"username": "K1:", "password": planted.key},
        lambda planted: {"username": "K1", "password": planted.key + "\ud800"},
        lambda planted: {"api_key": planted.key, "environment": "live"},
        lambda planted: {"api_key": planted.key.replace("test", "live"), "environment": "playground"},
        lambda planted: {"api_key": planted.key, "environment": planted.key},
        lambda planted: {"api_key": planted.key, "base_url": f"https://user:{planted.key}@api.kustom.co"},
        lambda planted: {"api_key": planted.key, "base_url": f"https://api.kustom.co?{planted.key}"},
        lambda planted: {"api_key": planted.key, "base_url": "http://shop.example"},
        lambda planted: {"api_key": planted.key, "headers": {"X-A": planted.header + "\n"}},
        lambda planted: {"api_key": planted.key, "headers": {"Authorization": planted.header}},
        lambda planted: {"api_key": planted.key, "headers": {"X A": planted.header}},
        lambda planted: {"api_key": planted.key, "headers": {"X-A": planted.header * 999}},
        lambda planted: {"api_key": planted.key, "proxy": f"ftp://user:{planted.proxy}@p.example"},
        lambda planted: {"api_key": planted.key, "proxy": f"http://user:{planted.proxy}@p.example:x"},
        lambda planted: {"api_key": planted.key, "proxy": f"http://u:{planted.proxy}@p.example", "trust_env": True},
        lambda planted: {
            "api_key": planted.key,
            "proxy": f"http://u:{planted.proxy}@p.example",
            "transport": hpp.FakeTransport(),
        },
        lambda planted: {"api_key": planted.key, "app_info": "x\n"},
        lambda planted: {"api_key": planted.key, "timeouts": 5},
    ],
)
@pytest.mark.parametrize("from_env", [False, True])
async def test_settings_that_cannot_work(monkeypatch, watch, planted, wrong, from_env):
    arguments = wrong(planted)
    if from_env:
        # What the environment can say comes from there.
        for name in ("api_key", "username", "password", "environment", "base_url"):
            value = arguments.pop(name, None)
            variable = f"KUSTOM_HPP_{name.upper()}"
            if value is None or "\ud800" in value:
                monkeypatch.delenv(variable, raising=False)
                arguments |= {} if value is None else {name: value}
            else:
                monkeypatch.setenv(variable, value)
    with pytest.raises(hpp.ConfigError) as caught:
        (hpp.HPPClient.from_env if from_env else hpp.HPPClient)(**arguments)
    watch.check(caught.value)


async def test_a_hook_that_raises(watch, planted):
    def broken(event: object) -> None:
        raise RuntimeError("of the hook")

    fake = hpp.FakeTransport(lambda got: echo(400, got))
    client = hpp.HPPClient(transport=fake, hooks=[broken, *watch.hooks], **planted.arguments("password"))
    watch.clients.append(client)
    watch.check(await failure_of(client, planted.request))
    assert len([record for record in watch.caplog.records if record.exc_info]) == 1


# ------------------------------------------------------------------------------------------------------ over sockets


@contextlib.asynccontextmanager
async def client_at(watch: Watch, base_url: str, login: str, **more: Any) -> AsyncIterator[hpp.HPPClient]:
    arguments = watch.planted.arguments(login) | {"base_url": base_url, "hooks": watch.hooks} | more
    async with hpp.HPPClient(**arguments) as client:
        watch.clients.append(client)
        yield client


# One of each way in which an answer, or its absence, comes to an error. The whole table runs elsewhere, for its verdicts.
SOME_FAULTS = [
    "accept_rst", "accept_close", "close_on_head", "reset_on_head", "close_after_request", "reset_after_request", "hang",
    "headers_then_hang", "half_headers", "half_body_close", "half_body_hang", "half_body_reset", "garbage", "http09",
    "bad_status_line", "big_header", "header_ctl", "two_lengths", "chunk_garbage", "length_too_long", "gzip_corrupt",
    "gzip_lie", "upgrade_101", "body_empty", "body_html", "not_utf8", "redirect_302", "redirect_307_same",
    "status_400", "status_401", "status_408", "status_429", "status_500", "status_evil_error", "echo_auth", "error_text",
]  # fmt: skip


def test_the_faults_are_those_of_the_sandbox():
    assert set(SOME_FAULTS) <= set(FAULTS)


@both_logins()
@pytest.mark.parametrize("fault", SOME_FAULTS)
async def test_failures_over_sockets(watch, planted, login, fault):
    async with Sandbox(api_key=planted.key, username="K1") as sandbox:
        sandbox.fault(find_fault(fault))
        async with client_at(watch, sandbox.base_url, login) as client:
            watch.check(await failure_of(client, planted.request, deadline=2))
        assert sandbox.record.requests or sandbox.record.connections


@pytest.mark.parametrize("name", list(PORTS))
async def test_failures_while_connecting(watch, planted, name):
    async with Sandbox() as sandbox, open_port(sandbox, name) as port, client_at(watch, port.base_url, "key") as client:
        error = await failure_of(client, planted.request, deadline=1)
        assert isinstance(error, hpp.ConnectError)
        watch.check(error)


@pytest.mark.parametrize("behaviour", [*PROXY_BEHAVIOURS])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_failures_of_a_proxy(watch, planted, behaviour, scheme):
    async with Sandbox(api_key=planted.key) as sandbox, open_proxy(sandbox, behaviour) as proxy:
        sandbox.fault("status_401")
        with_password = proxy.url.replace("http://", f"http://user:{planted.proxy}@")
        base_url = sandbox.base_url.replace("http", scheme, 1)
        async with client_at(watch, base_url, "key", proxy=with_password) as client:
            watch.check(await failure_of(client, planted.request, deadline=2))
        assert proxy.seen
        # It got the password, in the one header where it belongs.
        credentials = base64.b64encode(f"user:{planted.proxy}".encode())
        assert b"Proxy-Authorization: Basic " + credentials in proxy.seen[0].head


@both_logins()
@pytest.mark.parametrize("fault", ["hang", "headers_then_hang", "half_body_hang", "server_not_reading"])
async def test_cancellation(watch, planted, login, fault):
    """Its traceback goes through aiohttp's frames, as far down as the call had come."""
    async with Sandbox(api_key=planted.key, username="K1") as sandbox:
        sandbox.fault(find_fault(fault))
        async with client_at(watch, sandbox.base_url, login, timeouts=hpp.Timeouts()) as client:
            task = asyncio.create_task(client.create_session(planted.request))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
    watch.check(caught.value)
    assert watch.events[-1].cancelled


async def test_cancellation_while_connecting(watch, planted):
    async with (
        Sandbox() as sandbox,
        open_port(sandbox, "tls_hang") as port,
        client_at(watch, port.base_url, "password", timeouts=hpp.Timeouts()) as client,
    ):
        task = asyncio.create_task(client.create_session(planted.request))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    watch.check(caught.value)


@both_logins()
@pytest.mark.parametrize(
    "fault", ["garbage", "hang", "echo_auth", "redirect_302", "half_body_close", "reset_after_request"]
)
async def test_failures_of_a_borrowed_session(watch, planted, login, fault):
    async with Sandbox(api_key=planted.key, username="K1") as sandbox:
        sandbox.fault(find_fault(fault))
        async with (
            aiohttp.ClientSession(connector=hpp.guarded_connector(), raise_for_status=True) as session,
            client_at(watch, sandbox.base_url, login, http_session=session) as client,
        ):
            watch.check(await failure_of(client, planted.request))


async def test_sessions_that_cannot_be_lent(watch, planted):
    async with aiohttp.ClientSession(trust_env=True) as session:
        with pytest.raises(hpp.ConfigError) as caught:
            hpp.HPPClient(planted.key, http_session=session)
    watch.check(caught.value)


@both_logins()
async def test_a_call_that_ends_well(watch, planted, login):
    async with Sandbox(api_key=planted.key, username="K1") as sandbox:
        async with client_at(watch, sandbox.base_url, login) as client:
            session = await client.create_session(planted.request)
            assert leaks(iter([("session", repr(session) + str(session))]), planted.all) == []
        (seen,) = sandbox.record.requests
        assert planted.status_update in seen.body.decode()  # they did go where they belong


# -------------------------------------------------------------------------------- the operations on a session

ODD_SESSIONS = [
    lambda planted: SESSION_ID,
    lambda planted: hpp.Session(
        session_id=SESSION_ID,
        redirect_url=f"https://pay.example/?s={planted.extra}",
        session_url=f"https://u:{planted.extra}@evil.example/?s={planted.extra}",
        distribution_url=f"https://evil.example/?s={planted.extra}",
        extra={"newer": planted.extra},
    ),
    lambda planted: hpp.Session(
        session_id=SESSION_ID,
        redirect_url="https://pay.example/",
        session_url=f"https://api.playground.kustom.co/hpp/v1/sessions/{SESSION_ID}?token={planted.extra}#x",
        distribution_url=f"https://api.playground.kustom.co/distribution?token={planted.extra}",
    ),
    lambda planted: hpp.SessionDetails(session_id=SESSION_ID, authorization_token=planted.customer),
    lambda planted: f"https://evil.example/{SESSION_ID}",
]


def echo_of_a_session(status: int, got: hpp.HttpRequest, planted: Planted) -> hpp.HttpResponse:
    """Like `echo`, with personal data in a body that cannot be read to its end."""
    told = echo(status, got)
    if status != 200:
        return told
    told = attrs.evolve(told, body=json.dumps(planted.details).encode()[:-1])
    # What is a success for the others keeps its correlation id, whatever that is.
    return told if got.method == "GET" else attrs.evolve(told, headers={})


@pytest.mark.parametrize("status", [101, 200, 302, 308, 400, 401, 403, 404, 408, 418, 429, 500, 503])
@pytest.mark.parametrize("given", ODD_SESSIONS)
async def test_failures_of_a_session_without_sockets(watch, planted, status, given):
    fake = hpp.FakeTransport(lambda got: echo_of_a_session(status, got, planted))
    client = hpp.HPPClient(transport=fake, hooks=watch.hooks, **planted.arguments("password"))
    watch.clients.append(client)
    errors = await failures_of(client, planted, given(planted))
    assert errors
    for error in errors:
        watch.check(error)


@pytest.mark.parametrize(
    "fault",
    [
        "garbage", "hang", "half_body_close", "reset_after_request", "body_html", "redirect_302", "status_401",
        "status_evil_error", "echo_auth", "error_text",
    ],
)  # fmt: skip
async def test_failures_of_a_session_over_sockets(watch, planted, fault):
    async with Sandbox(api_key=planted.key, username="K1") as sandbox:
        async with client_at(watch, sandbox.base_url, "password") as client:
            session = await client.create_session(planted.request)
            sandbox.fault(find_fault(fault), operation="any")
            for error in await failures_of(client, planted, session):
                watch.check(error)
        assert len(sandbox.record.requests) > 3


@both_logins()
async def test_operations_on_a_session_that_end_well(watch, planted, login):
    answers = iter([hpp.FakeTransport.response(200, planted.details), *[hpp.FakeTransport.response(204)] * 2])
    fake = hpp.FakeTransport(lambda got: next(answers))
    client = hpp.HPPClient(transport=fake, hooks=watch.hooks, **planted.arguments(login))
    details = await client.read_session(SESSION_ID)
    assert details.customer is not None
    assert details.customer.family_name == planted.customer
    await client.distribute_session(details, planted.distribution)
    await client.disable_session(details)
    assert planted.contact in (fake.requests[1].body or b"").decode()  # it did go where it belongs
    told = repr(details) + str(details) + repr(details.customer) + repr([details]) + f"{details}"
    assert leaks(iter([("details", told)]), planted.all) == []


async def test_a_wait_that_is_over_shows_the_last_details_to_nobody(watch, planted):
    told = planted.details | {"status": "MANUAL_ID_CHECK"}
    fake = hpp.FakeTransport(hpp.FakeTransport.response(200, told))
    client = hpp.HPPClient(transport=fake, hooks=watch.hooks, **planted.arguments("key"))
    with pytest.raises(hpp.DeadlineExceededError) as caught:
        await client.wait_for_session(SESSION_ID, deadline=0.1)
    error = caught.value
    assert error.details.customer.family_name == planted.customer
    # Its pickle has them: they are what the caller asked for.
    told_of = [(place, text) for place, text in told_by(error) if not place.startswith("pickle")]
    assert leaks(iter(told_of), planted.all) == []


# -------------------------------------------------------------------------------------------- the search finds leaks

SECRET = "0123456789abcdef0123456789abcdef"


def in_the_library(source: str) -> dict[str, Any]:
    """Functions that look as if they stood in the library."""
    names: dict[str, Any] = {"hpp": hpp}
    exec(compile(source, hpp.__file__, "exec"), names)
    return names


def raised(function: Any, *arguments: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is does not matter here
        function(*arguments)
    return caught.value


def with_cause() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        raise hpp.HPPError("clean") from error


def with_context() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        raise hpp.HPPError("clean")  # noqa: B904 - that is the leak


def of(error: BaseException) -> None:
    raise error


LOCAL = in_the_library(
    "def send(key):\n    header = {'Authorization': ['Basic ' + key]}\n    raise hpp.HPPError('clean')"
)


@pytest.mark.parametrize(
    ("leak", "found_at"),
    [
        (lambda: raised(of, hpp.HPPError(f"bad key {SECRET}")), "str of HPPError"),
        (lambda: raised(of, hpp.HPPError("clean", cause=SECRET)), "__dict__ of HPPError"),
        (lambda: raised(of, hpp.ApiError("clean", body=SECRET.encode())), "pickle of ApiError"),
        (lambda: raised(of, hpp.LostResponseError("clean", last_error=hpp.HPPError(SECRET))), "str of HPPError"),
        (lambda: raised(with_cause), "args of ValueError"),
        (lambda: raised(with_context), "str of ValueError"),
        (lambda: raised(LOCAL["send"], SECRET), "local key of send"),
        (lambda: raised(LOCAL["send"], SECRET), "local header of send"),
        (lambda: raised(LOCAL["send"], SECRET), "traceback at send"),
    ],
)
def test_a_planted_leak_is_found(leak, found_at):
    assert found_at in leaks(told_by(leak()), [SECRET])


def test_what_a_caller_holds_himself_is_no_leak_of_ours():
    def mine(key: str) -> None:
        raise hpp.HPPError("clean")

    assert leaks(told_by(raised(mine, SECRET)), [SECRET]) == []


def test_errors_that_hang_on_one_another_are_looked_at_once():
    first, second = hpp.HPPError("a"), hpp.HPPError("b")
    first.__cause__, second.__cause__ = second, first
    assert [str(error) for error in all_errors(first)] == ["a", "b"]


def test_a_leak_in_a_log_is_found(caplog):
    logging.getLogger("any").warning("the key is %s", SECRET)
    logging.getLogger("any").warning("clean %.0s", SECRET)
    try:
        LOCAL["send"](SECRET)
    except hpp.HPPError:
        logging.getLogger("another").exception("clean")
    assert leaks(told_by_logs(caplog.records[:1]), [SECRET]) == ["log of any"]
    assert leaks(told_by_logs(caplog.records[1:2]), [SECRET]) == ["log of any"]
    assert "log of another, local key of send" in leaks(told_by_logs(caplog.records[2:]), [SECRET])


async def test_a_leak_in_an_event_a_warning_or_a_client_is_found(planted, caplog):
    watch = Watch(planted, caplog)
    assert leaks(watch.told(), planted.all) == []
    watch.events.append(
        hpp.Started(call_id="c", operation="x", method="POST", url=planted.all[0], host="h", port=443, path="/x")
    )
    watch.warnings.append(warnings.WarningMessage(planted.all[1], UserWarning, "x", 1))
    client = hpp.HPPClient("x" * 8, transport=hpp.FakeTransport())
    client.note = planted.all[2]  # type: ignore[attr-defined]
    watch.clients.append(client)
    assert leaks(watch.told(), planted.all) == ["event Started", "repr of the client", "warning"]
