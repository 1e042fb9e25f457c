"""What a client can do with a session that exists, over a transport without sockets."""

import asyncio
import pickle

import attrs
import pytest

import kustom_hpp as hpp
from kustom_hpp import FakeTransport
from tests.support.golden import (
    FULL_DETAILS,
    FULL_SESSION,
    FULL_SESSION_DETAILS,
    MINIMAL_ANSWER,
    MINIMAL_REQUEST,
    SESSION_ID,
)
from tests.test_client import KEY, QUICK, Hanging, client_of, lost, not_sent, sent, throttled

URL = f"https://api.playground.kustom.co/hpp/v1/sessions/{SESSION_ID}"
EMAIL = hpp.EmailDistribution(email="alva@shop.example")
READ = FakeTransport.response(200, FULL_DETAILS)
DONE = FakeTransport.response(204)
API_503 = FakeTransport.response(503, {"error_code": "INTERNAL_ERROR"})


def read(client, session=SESSION_ID, **options):
    return client.read_session(session, **options)


def disable(client, session=SESSION_ID, **options):
    return client.disable_session(session, **options)


def distribute(client, session=SESSION_ID, **options):
    return client.distribute_session(session, EMAIL, **options)


VERBS = {"read_session": (read, READ), "disable_session": (disable, DONE), "distribute_session": (distribute, DONE)}
by_verb = pytest.mark.parametrize(("verb", "good"), VERBS.values(), ids=VERBS)


@pytest.mark.parametrize(
    ("name", "line", "body", "value"),
    [
        ("read_session", ("GET", URL), None, FULL_SESSION_DETAILS),
        ("disable_session", ("DELETE", URL), None, None),
        (
            "distribute_session",
            ("POST", f"{URL}/distribution"),
            b'{"method":"email","contact_information":{"email":"alva@shop.example"}}',
            None,
        ),
    ],
)
@pytest.mark.parametrize("session", [SESSION_ID, FULL_SESSION, FULL_SESSION_DETAILS], ids=["id", "session", "details"])
async def test_a_request_and_its_answer(name, line, body, value, session):
    verb, good = VERBS[name]
    client = client_of(good)
    assert await verb(client, session) == value
    (request,) = sent(client)
    assert ((request.method, str(request.url)), request.body) == (line, body)
    assert request.headers["Authorization"] == f"Basic {KEY}"
    assert (request.connect_timeout, request.read_timeout, request.deadline) == (5.0, 35.0, None)


async def test_how_a_read_went():
    client = client_of(not_sent(), lost(), throttled(), READ)
    details = await client.read_session(SESSION_ID)
    assert (details.info.attempts, details.info.status, details.info.earlier_unknown) == (4, 200, True)
    assert details == FULL_SESSION_DETAILS


GOOD = "good"
NOT_FOUND = FakeTransport.response(404)
COMPLETED = FakeTransport.response(400, {"error_code": "SESSION_COMPLETED"})
UNKNOWN, REJECTED = hpp.Delivery.UNKNOWN, hpp.Delivery.REJECTED
LOST, SERVER = (hpp.LostResponseError, UNKNOWN), (hpp.ServerError, UNKNOWN)
ODD, OTHER = (hpp.UnexpectedStatusError, UNKNOWN), (hpp.ApiError, REJECTED)
BAD, GONE = (hpp.BadRequestError, REJECTED), (hpp.NotFoundError, REJECTED)
NOT_TRUSTED = (hpp.CertificateError, hpp.Delivery.NOT_SENT)

ENDINGS = [
    # what the attempts meet; what read, disable and distribute end with, and how many requests that takes
    ([not_sent(), GOOD], None, None, None, (2, 2, 2)),
    ([throttled(), GOOD], None, None, None, (2, 2, 2)),
    ([lost(), GOOD], None, None, LOST, (2, 2, 1)),
    ([FakeTransport.response(500), GOOD], None, None, SERVER, (2, 2, 1)),
    ([FakeTransport.response(504), GOOD], None, None, SERVER, (2, 2, 1)),
    ([FakeTransport.response(503), GOOD], None, None, SERVER, (2, 2, 1)),
    ([API_503, GOOD], None, None, None, (2, 2, 2)),
    ([API_503], SERVER, LOST, LOST, (4, 4, 4)),
    ([FakeTransport.response(408), GOOD], None, None, ODD, (2, 2, 1)),
    ([FakeTransport.response(303), GOOD], ODD, ODD, ODD, (1, 1, 1)),
    ([FakeTransport.response(307), GOOD], OTHER, OTHER, OTHER, (1, 1, 1)),
    ([FakeTransport.response(400), GOOD], BAD, BAD, BAD, (1, 1, 1)),
    ([FakeTransport.response(401), GOOD], *[(hpp.AuthenticationError, REJECTED)] * 3, (1, 1, 1)),
    ([FakeTransport.response(403), GOOD], *[(hpp.PermissionDeniedError, REJECTED)] * 3, (1, 1, 1)),
    ([NOT_FOUND, GOOD], GONE, GONE, GONE, (1, 1, 1)),
    ([hpp.CertificateError("expired"), GOOD], NOT_TRUSTED, NOT_TRUSTED, NOT_TRUSTED, (1, 1, 1)),
    # A 404 after an attempt that may have disabled the session says that it did; for a read it is just the truth.
    ([lost(), NOT_FOUND], GONE, None, LOST, (2, 2, 1)),
    ([FakeTransport.response(502), NOT_FOUND], GONE, None, SERVER, (2, 2, 1)),
    ([lost(), throttled(), not_sent(), NOT_FOUND], GONE, None, LOST, (4, 4, 1)),
    ([not_sent(), throttled(), NOT_FOUND], GONE, GONE, GONE, (3, 3, 3)),
    # After a lost attempt nobody knows whether the 400 means "paid" or "disabled already": a read tells.
    ([lost(), COMPLETED], BAD, LOST, LOST, (2, 2, 1)),
    ([COMPLETED], BAD, BAD, BAD, (1, 1, 1)),
]


def name_of(story) -> str:
    """The steps of a story, for the test's name."""
    shown = (str(step.status) if isinstance(step, hpp.HttpResponse) else str(step) for step in story[0])
    return " ".join(shown)


@pytest.mark.parametrize("number", range(3), ids=list(VERBS))
@pytest.mark.parametrize(
    "story",
    ENDINGS,
    ids=lambda story: " ".join(
        (getattr(step, "status", None) and str(step.status)) or type(step).__name__ for step in story[0]
    ),
)
async def test_what_comes_of_failures(story, number):
    steps, *endings, requests = story
    verb, good = [*VERBS.values()][number]
    client = client_of(*[good if step == GOOD else step for step in steps])
    expected = endings[number]
    if expected is None:
        assert await verb(client) == (FULL_SESSION_DETAILS if verb is read else None)
    else:
        with pytest.raises(hpp.HPPError) as caught:
            await verb(client)
        error = caught.value
        assert (type(error), error.delivery, error.attempts) == (*expected, requests[number])
        assert isinstance(error, hpp.OutcomeUnknownError) is error.delivery.may_have_taken_effect
        assert error.__cause__ is None
    assert len(sent(client)) == requests[number]


@by_verb
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_with_any_body_is_good_where_nothing_is_to_be_read(verb, good, status):
    client = client_of(FakeTransport.response(status, b"<html>"))
    if verb is read:
        with pytest.raises(hpp.DecodeError) as caught:
            await verb(client)
        assert (caught.value.delivery, caught.value.body, len(sent(client))) == (hpp.Delivery.ACCEPTED, b"", 1)
    else:
        assert await verb(client) is None


async def test_a_read_whose_answer_was_cut_off_is_made_again():
    client = client_of(attrs.evolve(READ, body_error="cut off"), READ)
    assert await client.read_session(SESSION_ID) == FULL_SESSION_DETAILS
    client = client_of(attrs.evolve(READ, body_error="cut off"))
    with pytest.raises(hpp.DecodeError) as caught:
        await client.read_session(SESSION_ID)
    assert (caught.value.attempts, caught.value.delivery) == (4, hpp.Delivery.ACCEPTED)


@pytest.mark.parametrize("resend", [lambda: {"on_unknown": "resend"}, dict], ids=["of the call", "of the client"])
async def test_a_distribution_of_unknown_outcome_is_sent_again_only_where_the_caller_says_so(resend):
    options = resend()
    client = client_of(lost(), DONE, retry=QUICK if options else attrs.evolve(QUICK, on_unknown="resend"))
    assert await distribute(client, **options) is None
    assert len(sent(client)) == 2
    with pytest.raises(hpp.LostResponseError):
        await distribute(client_of(lost(), DONE, retry=attrs.evolve(QUICK, on_unknown="resend")), on_unknown="raise")


@by_verb
async def test_what_cannot_be_sent_is_not_sent(verb, good):
    client = client_of(good)
    for bad in ("../x", "", None, 5, MINIMAL_REQUEST):
        with pytest.raises(hpp.InvalidRequestError, match="session: must be") as caught:
            await verb(client, bad)
        assert (caught.value.delivery, caught.value.attempts) == (None, 0)
    for deadline in (float("nan"), "10", True):
        with pytest.raises(hpp.ConfigError, match="deadline must be a finite number"):
            await verb(client, deadline=deadline)
    with pytest.raises(hpp.DeadlineExceededError):
        await verb(client, deadline=0)
    assert sent(client) == []


async def test_a_bad_distribution_is_not_sent():
    client = client_of(DONE)
    for bad in (hpp.EmailDistribution(email="nobody"), None, {}, "alva@shop.example"):
        with pytest.raises(hpp.InvalidRequestError):
            await client.distribute_session(SESSION_ID, bad)
    with pytest.raises(hpp.ConfigError, match="on_unknown must be"):
        await distribute(client, on_unknown="perhaps")
    assert sent(client) == []


@by_verb
async def test_a_deadline_goes_with_the_request(verb, good):
    client = client_of(good)
    before = asyncio.get_running_loop().time()
    await verb(client, deadline=10)
    (request,) = sent(client)
    assert request.deadline is not None
    assert before + 10 <= request.deadline <= before + 11


@by_verb
async def test_views_work_for_all(verb, good):
    events = []
    client = client_of(good, headers={"X-A": "1"})
    view = client.with_options(timeouts=hpp.Timeouts(read=1), headers={"X-B": "2"}, hooks=[events.append])
    for name in ("transport", "pace", "retry_quota"):
        assert getattr(view._other_context, name) is getattr(client._other_context, name)
    await verb(view)
    await verb(client)
    assert [request.read_timeout for request in sent(client)] == [1, 35.0]
    assert [list(request.headers.items())[5:] for request in sent(client)] == [
        [("X-A", "1"), ("X-B", "2")],
        [("X-A", "1")],
    ]
    assert [type(event) for event in events] == [hpp.Started, hpp.Finished]
    once = client_of(throttled()).with_options(retry=hpp.RetrySettings(max_attempts=1))
    with pytest.raises(hpp.RateLimitError) as caught:
        await verb(once)
    assert caught.value.attempts == 1


@pytest.mark.parametrize("name", VERBS)
async def test_the_events_of_a_call(name):
    verb, good = VERBS[name]
    events = []
    client = client_of(lost(), good, hooks=[events.append])
    if name == "distribute_session":
        client = client_of(not_sent(), good, hooks=[events.append])
    await verb(client, FULL_SESSION)
    started, retrying, finished = events
    assert (started.operation, started.path, started.method) == (
        name,
        "/hpp/v1/sessions/{session_id}" + ("/distribution" if verb is distribute else ""),
        sent(client)[0].method,
    )
    assert (retrying.operation, retrying.attempt) == (name, 1)
    assert (finished.operation, finished.attempts, finished.delivery, finished.status, finished.error) == (
        name, 2, hpp.Delivery.ACCEPTED, good.status, None,
    )  # fmt: skip
    assert finished.idempotent is (verb is not distribute)
    assert EMAIL.email not in repr(events)


async def test_a_session_that_was_disabled_by_the_lost_attempt_is_a_success_for_the_hooks_too():
    events = []
    await disable(client_of(lost(), NOT_FOUND, hooks=[events.append]))
    finished = events[-1]
    assert (finished.error, finished.delivery, finished.status, finished.attempts) == (
        None,
        hpp.Delivery.ACCEPTED,
        404,
        2,
    )


# -------------------------------------------------------------------------------------------------- pace and quota


@by_verb
async def test_other_operations_take_no_turn_of_the_creates_pace(verb, good):
    pace = hpp.Pace(rate=0.001, burst=1)
    client = client_of(FakeTransport.response(201, MINIMAL_ANSWER), good, pace=pace)
    await client.create_session(MINIMAL_REQUEST)
    for _ in range(5):
        await verb(client, deadline=5)
    with pytest.raises(hpp.DeadlineExceededError):
        await client.create_session(MINIMAL_REQUEST, deadline=1)


async def test_a_throttled_read_slows_no_create_and_the_other_way_round():
    client = client_of(throttled("30"))
    with pytest.raises(hpp.RateLimitError):
        await read(client, deadline=1)
    with pytest.raises(hpp.DeadlineExceededError):  # it is told to wait once for all of them
        await distribute(client, deadline=1)
    assert client._create_context.pace.rate is None
    assert client._other_context.pace.rate is not None
    client = client_of(throttled("30"))
    with pytest.raises(hpp.RateLimitError):
        await client.create_session(MINIMAL_REQUEST, deadline=1)
    assert client._other_context.pace.rate is None


async def test_reads_learn_their_own_quota_from_their_answers():
    limit = {"x-ratelimit-limit": "200, 200;w=1", "x-ratelimit-remaining": "199"}
    client = client_of(FakeTransport.response(200, FULL_DETAILS, limit))
    details = await client.read_session(SESSION_ID)
    assert details.info.rate_limit == hpp.RateLimit(limit=200, remaining=199, window=1.0)
    assert (client._other_context.pace.rate, client._create_context.pace.rate) == (200, None)


async def test_retries_of_reads_cost_creates_nothing():
    client = client_of(lost())
    with pytest.raises(hpp.LostResponseError):
        await read(client)
    assert client._other_context.retry_quota.tokens == 500 - 3 * 14
    assert client._create_context.retry_quota.tokens == 500


# ------------------------------------------------------------------------------------------------------ giving up


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("sends", [True, False])
async def test_cancellation_passes_through(name, sends):
    events = []
    transport = Hanging(sends=sends)
    client = hpp.HPPClient(KEY, transport=transport, hooks=[events.append])
    task = asyncio.create_task(VERBS[name][0](client))
    await transport.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events[-1].cancelled
    assert events[-1].delivery is (hpp.Delivery.UNKNOWN if sends else hpp.Delivery.NOT_SENT)


@by_verb
async def test_a_closed_client(verb, good):
    client = client_of(good)
    await client.aclose()
    with pytest.raises(hpp.ClientClosedError):
        await verb(client)


@by_verb
async def test_errors_travel(verb, good):
    for step in (FakeTransport.response(404, {"error_code": "NOT_FOUND"}), lost(), FakeTransport.response(500)):
        with pytest.raises(hpp.HPPError) as caught:
            await verb(client_of(step))
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again), again.delivery) == (
            type(caught.value),
            str(caught.value),
            caught.value.delivery,
        )
