"""Waiting for a session's end, in virtual time: when it reads, what ends it, what it passes over."""

import asyncio
import copy
import gc
import pickle
import random
import weakref

import pytest

import kustom_hpp as hpp
from kustom_hpp import FakeTransport
from tests.support.golden import FULL_SESSION, SESSION_ID
from tests.support.virtual import virtual_time
from tests.test_client import client_of, lost, not_sent, sent, throttled

FINAL = ["COMPLETED", "CANCELLED", "DISABLED"]
NOT_FOUND = FakeTransport.response(404, {"error_code": "NOT_FOUND"})


@pytest.fixture(autouse=True)
def _same_dice_in_every_run():
    random.seed(5)


def at(status: str | None) -> hpp.HttpResponse:
    return FakeTransport.response(200, {"session_id": SESSION_ID} | ({} if status is None else {"status": status}))


class Waited:
    """One wait: what its reads met, when they came, and how it ended."""

    def __init__(self, *steps, **options) -> None:
        self.steps = list(steps)
        self.reads: list[float] = []
        self.elapsed = 0.0
        self.client = client_of(self._answer, retry=options.pop("retry", hpp.RetrySettings(max_attempts=1)))
        self.options = {"deadline": 600.0} | options

    def _answer(self, request):
        self.reads.append(asyncio.get_running_loop().time() - self._began)
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    async def run(self, session=SESSION_ID) -> hpp.SessionDetails:
        with virtual_time() as clock:
            self._began = clock.now
            try:
                return await self.client.wait_for_session(session, **self.options)
            finally:
                self.elapsed = clock.now - self._began

    async def fail(self) -> hpp.HPPError:
        with pytest.raises(hpp.HPPError) as caught:
            await self.run()
        return caught.value


@pytest.mark.parametrize("status", FINAL)
async def test_a_final_status_ends_it_at_once(status):
    waited = Waited(at(status))
    details = await waited.run()
    assert details == hpp.SessionDetails(session_id=SESSION_ID, status=hpp.SessionStatus(status))
    assert waited.reads == [0.0]


OPEN = [status for status in hpp.SessionStatus if status not in FINAL]


@pytest.mark.parametrize("status", [*OPEN, "TIMEOUT", "COMPLETE", "", None])
async def test_any_other_status_does_not(status):
    waited = Waited(at(status), at("COMPLETED"))
    assert (await waited.run()).status == "COMPLETED"
    assert len(waited.reads) == 2


@pytest.mark.parametrize("poll", [0.5, 2.0, 30])
async def test_reads_are_a_poll_apart_and_up_to_a_tenth_more(poll):
    waited = Waited(*[at("WAITING")] * 20, at("COMPLETED"), poll=poll, deadline=10_000)
    await waited.run()
    pauses = [later - sooner for sooner, later in zip(waited.reads, waited.reads[1:], strict=False)]
    assert len(pauses) == 20
    assert poll <= min(pauses) < poll * 1.05
    assert poll * 1.05 < max(pauses) <= poll * 1.1 + 1e-9


async def test_two_seconds_apart_where_nothing_is_said():
    waited = Waited(at("WAITING"), at("COMPLETED"))
    await waited.run()
    assert 2.0 <= waited.reads[1] <= 2.2


async def test_each_read_is_told():
    told = []
    waited = Waited(at("WAITING"), lost(), at("WAITING"), at("COMPLETED"), on_read=told.append)
    details = await waited.run()
    assert [one.status for one in told] == ["WAITING", "WAITING", "COMPLETED"]
    assert told[-1] is details


async def test_what_listens_may_end_it():
    def enough(details):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Waited(at("WAITING"), on_read=enough).run()


async def test_it_reads_where_the_session_says():
    waited = Waited(at("COMPLETED"))
    await waited.run(FULL_SESSION)
    assert str(sent(waited.client)[0].url) == FULL_SESSION.session_url


PASSING = {
    "no connection": not_sent,
    "a lost answer": lost,
    "429": throttled,
    "500": lambda: FakeTransport.response(500),
    "502": lambda: FakeTransport.response(502),
    "503": lambda: FakeTransport.response(503),
    "504": lambda: FakeTransport.response(504),
    "408": lambda: FakeTransport.response(408),
    "half an answer": lambda: hpp.HttpResponse(status=200, headers={}, body=b"{", body_error="cut off"),
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("attempts", [1, 3])
async def test_what_passes_does_not_end_it(name, attempts):
    failures = [PASSING[name]() for _ in range(6)]
    retry = hpp.RetrySettings(max_attempts=attempts)
    waited = Waited(*failures, at("WAITING"), PASSING[name](), at("COMPLETED"), retry=retry)
    assert (await waited.run()).status == "COMPLETED"
    assert len(waited.reads) == 9


LASTING = {
    "400": (lambda: FakeTransport.response(400), hpp.BadRequestError),
    "401": (lambda: FakeTransport.response(401), hpp.AuthenticationError),
    "403": (lambda: FakeTransport.response(403), hpp.PermissionDeniedError),
    "410": (lambda: FakeTransport.response(410), hpp.ApiError),
    "302": (lambda: FakeTransport.response(302), hpp.UnexpectedStatusError),
    "another certificate": (lambda: hpp.CertificateError("expired"), hpp.CertificateError),
    "something else": (lambda: FakeTransport.response(200, b"<html>"), hpp.DecodeError),
    "too long": (
        lambda: hpp.HttpResponse(
            status=200, headers={}, body=b"{", body_error="longer than 1,048,576 bytes", body_too_long=True
        ),
        hpp.DecodeError,
    ),
    "another session": (lambda: FakeTransport.response(200, {"session_id": "another"}), hpp.DecodeError),
    "closed": (lambda: hpp.ClientClosedError("closed"), hpp.ClientClosedError),
    "another loop": (lambda: hpp.WrongLoopError("loop"), hpp.WrongLoopError),
}


@pytest.mark.parametrize("name", LASTING)
async def test_what_does_not_pass_ends_it(name):
    make, kind = LASTING[name]
    waited = Waited(at("WAITING"), make(), at("COMPLETED"))
    assert type(await waited.fail()) is kind
    assert len(waited.reads) == 2


async def test_a_session_that_is_gone():
    error = await Waited(NOT_FOUND).fail()
    assert (type(error), error.details) == (hpp.NotFoundError, None)
    error = await Waited(at("IN_PROGRESS"), lost(), NOT_FOUND).fail()
    assert isinstance(error, hpp.NotFoundError)
    assert error.details == hpp.SessionDetails(session_id=SESSION_ID, status=hpp.SessionStatus.IN_PROGRESS)


async def test_the_deadline():
    waited = Waited(at("WAITING"), at("IN_PROGRESS"), deadline=60.0, poll=5.0)
    error = await waited.fail()
    assert isinstance(error, hpp.DeadlineExceededError)
    assert str(error) == "the session did not reach a final status within 60 s: its last status was IN_PROGRESS"
    assert error.details == hpp.SessionDetails(session_id=SESSION_ID, status=hpp.SessionStatus.IN_PROGRESS)
    assert error.delivery is hpp.Delivery.NOT_SENT  # nothing that could change anything
    assert error.attempts == len(waited.reads) in {11, 12}
    assert waited.elapsed == pytest.approx(60.0)


async def test_the_deadline_where_nobody_answered():
    waited = Waited(
        hpp.LostResponseError("lost", cause="ClientOSError", correlation_id="c-1", attempts=1), deadline=10.0
    )
    error = await waited.fail()
    assert isinstance(error, hpp.DeadlineExceededError)
    assert str(error) == (
        "the session did not reach a final status within 10 s: no read succeeded; the last read failed: lost"
    )
    assert (error.details, error.cause, error.correlation_id) == (None, "ClientOSError", "c-1")
    assert error.attempts == len(waited.reads)
    assert error.__cause__ is error.__context__ is None


async def test_the_deadline_where_no_read_gets_its_turn():
    client = client_of(FakeTransport.response(429, headers={"Retry-After": "60"}))
    with pytest.raises(hpp.RateLimitError):
        await client.read_session(SESSION_ID)
    # All reads of the client wait for that moment, and this one would not see it.
    with virtual_time() as clock:
        began = clock.now
        with pytest.raises(hpp.DeadlineExceededError) as caught:
            await client.wait_for_session(SESSION_ID, deadline=5)
    assert str(caught.value).startswith(
        "the session did not reach a final status within 5 s: no read succeeded; the last read"
    )
    assert (caught.value.attempts, caught.value.details, len(sent(client))) == (0, None, 1)
    # The deadline alone ends it: nobody knows that the pace stays as slow as it looks.
    assert clock.now - began == pytest.approx(5.0)


async def test_a_turn_that_looks_too_late_is_asked_for_again():
    """The reads share a pace: what one of them was answered makes the others' turns look late, for a while."""
    refused = iter([hpp.DeadlineExceededError("the deadline comes is too early for the rate limit")] * 3)
    waited = Waited(at("WAITING"), lost(), *refused, at("IN_PROGRESS"), at("COMPLETED"), deadline=60.0)
    assert (await waited.run()).status == "COMPLETED"
    pauses = [later - sooner for sooner, later in zip(waited.reads, waited.reads[1:], strict=False)]
    assert len(pauses) == 6
    assert min(pauses) >= 2.0  # and never at once


async def test_a_turn_that_looked_too_late_hides_no_failure():
    waited = Waited(lost(), hpp.DeadlineExceededError("too late"), deadline=10.0)
    error = await waited.fail()
    assert str(error).endswith("no read succeeded; the last read failed: " + str(lost()))
    assert waited.elapsed == pytest.approx(10.0)
    assert len(waited.reads) in {5, 6}


async def test_one_429_ends_no_other_wait():
    """It makes the pace slow, and the line before it long: everybody is told of the payment all the same."""
    began, throttling = 0.0, [throttled()]

    def answer(request):
        elapsed = asyncio.get_running_loop().time() - began
        if elapsed >= 1.0 and throttling:
            return throttling.pop()
        status = "COMPLETED" if elapsed >= 6.0 else "WAITING"
        return FakeTransport.response(200, {"session_id": request.url.path.rpartition("/")[2], "status": status})

    client = client_of(answer)
    with virtual_time() as clock:
        began = clock.now
        waits = (client.wait_for_session(f"s-{number}", deadline=30.0) for number in range(400))
        ends = await asyncio.gather(*waits, return_exceptions=True)
    assert not throttling
    assert {getattr(end, "status", end) for end in ends} == {hpp.SessionStatus.COMPLETED}
    assert len(sent(client)) < 400 * 4


async def test_a_status_newer_than_this_release_cannot_write_into_a_log():
    error = await Waited(at("X\n\x1b[2Jforged"), deadline=1.0).fail()
    assert str(error).endswith("its last status was X\\n\\x1b[2Jforged")


async def test_a_deadline_that_has_passed():
    for deadline in (0, -5):
        waited = Waited(at("COMPLETED"), deadline=deadline)
        error = await waited.fail()
        assert isinstance(error, hpp.DeadlineExceededError)
        assert (error.attempts, waited.reads) == (0, [])


async def test_the_deadline_goes_with_each_read():
    waited = Waited(at("WAITING"), deadline=5.0)
    await waited.fail()
    ends = {round((request.deadline or 0.0) - waited._began, 6) for request in sent(waited.client)}
    assert ends == {5.0}


async def test_a_wait_that_an_answer_asks_for_is_kept():
    told = FakeTransport.response(429, headers={"Retry-After": "45"})  # more than a call would wait
    waited = Waited(at("WAITING"), told, at("COMPLETED"))
    await waited.run()
    assert 45 <= waited.reads[2] - waited.reads[1] <= 50


async def test_a_wait_that_does_not_fit_ends_it():
    told = FakeTransport.response(503, headers={"Retry-After": "999999999"})
    waited = Waited(at("WAITING"), told, deadline=30.0)
    error = await waited.fail()
    assert isinstance(error, hpp.DeadlineExceededError)
    assert error.details.status == "WAITING"
    assert len(waited.reads) == 2
    assert waited.elapsed == pytest.approx(30.0)


@pytest.mark.parametrize("poll", [0, -1, 0.49, float("nan"), float("inf"), "2", None, True, 1e10])
async def test_a_poll_that_is_none(poll):
    waited = Waited(at("COMPLETED"), poll=poll)
    with pytest.raises(hpp.ConfigError, match=r"^poll must be a finite number of at least 0\.5\b.*, in seconds, got"):
        await waited.run()
    assert waited.reads == []


@pytest.mark.parametrize("deadline", [None, "10", float("nan"), True])
async def test_a_deadline_that_is_none(deadline):
    # None is no way out here: a wait has an end.
    with pytest.raises(hpp.ConfigError, match=r"^deadline must be a finite number of seconds from now, got"):
        await Waited(at("COMPLETED"), deadline=deadline).run()


async def test_a_session_that_is_none():
    with pytest.raises(hpp.InvalidRequestError, match="session: must be the id alone"):
        await Waited(at("COMPLETED")).run("../x")
    for bad in (None, "a/b"):
        with pytest.raises(hpp.InvalidRequestError):
            await Waited(at("COMPLETED"), deadline=-1).run(bad)


async def test_cancellation_passes_through():
    for step in (at("WAITING"), lost()):
        waited = Waited(step)
        task = asyncio.create_task(waited.run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(waited.reads) <= 1


@pytest.mark.parametrize(
    "steps", [[at("IN_PROGRESS"), NOT_FOUND], [at("IN_PROGRESS")], [lost()]], ids=["gone", "late", "lost"]
)
async def test_what_ends_it_travels(steps):
    error = await Waited(*steps, deadline=10.0).fail()
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (type(again), str(again), again.details) == (type(error), str(error), error.details)
        assert (again.delivery, again.attempts) == (error.delivery, error.attempts)


async def test_failures_that_were_passed_over_are_not_kept_alive():
    class Lost(hpp.LostResponseError):
        pass

    failure = Lost("lost")
    watched = weakref.ref(failure)
    waited = Waited(failure, at("COMPLETED"))
    del failure
    gc.disable()
    try:
        await waited.run()
        waited.steps.clear()
        assert watched() is None
    finally:
        gc.enable()


async def test_many_waits_stay_apart():
    reads = []

    def answer(request):
        reads.append(asyncio.get_running_loop().time())
        return FakeTransport.response(200, {"session_id": request.url.path.rpartition("/")[2], "status": "WAITING"})

    client = client_of(answer)
    with virtual_time():
        began = asyncio.get_running_loop().time()
        waits = (client.wait_for_session(f"s-{number}", deadline=60.0) for number in range(200))
        ends = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(end) for end in ends} == {hpp.DeadlineExceededError}
    # All of them began in one moment; after half a minute no tenth of a second has more than its share.
    late = [int((moment - began - 30) * 10) for moment in reads if moment - began > 30]
    assert max(late.count(tenth) for tenth in set(late)) < 60
