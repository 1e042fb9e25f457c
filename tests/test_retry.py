"""What is tried again, how often, and what the error at the end tells about the whole call."""

import asyncio
import copy
import pickle
import random
import subprocess
import sys
import traceback
from typing import Any

import pytest

import kustom_hpp as hpp
from kustom_hpp import errors, retry
from kustom_hpp._messages import Delivery
from tests.support.retrying import Story, connect, lost, operation, settings, story, throttled, unavailable
from tests.support.virtual import virtual_time

A, U = Delivery.ACCEPTED, Delivery.UNKNOWN
ALWAYS, NEVER = True, False
ALLOWED = None
"""Only where doing it twice does no harm, or where the caller takes the risk: idempotent, or on_unknown="resend"."""

# The error of an attempt: (may it be repeated, how many requests it stands for)
RULES = {
    "connect": (connect, ALWAYS, 1),
    "connect, timed out": (lambda: hpp.ConnectError("x", timed_out=True), ALWAYS, 1),
    "429": (throttled, ALWAYS, 1),
    "429 with a hint": (lambda: throttled(2.0), ALWAYS, 1),
    "certificate": (lambda: hpp.CertificateError("x"), NEVER, 1),
    "lost": (lost, ALLOWED, 1),
    "lost, timed out": (lambda: hpp.LostResponseError("x", timed_out=True), ALLOWED, 1),
    "lost, yet accepted": (lambda: hpp.LostResponseError("x", delivery=A), NEVER, 1),
    "unknown": (lambda: hpp.OutcomeUnknownError("x"), ALLOWED, 1),
    "unknown, yet accepted": (lambda: hpp.OutcomeUnknownError("x", delivery=A), NEVER, 1),
    "2xx that cannot be read": (lambda: hpp.DecodeError("x", status=201), NEVER, 1),
    "500": (lambda: hpp.ServerError("x", status=500), ALLOWED, 1),
    "503": (unavailable, ALLOWED, 1),
    "503 with a hint": (lambda: unavailable(2.0), ALLOWED, 1),
    "504": (lambda: hpp.ServerError("x", status=504), ALLOWED, 1),
    "408": (lambda: hpp.UnexpectedStatusError("x", status=408), ALLOWED, 1),
    "303": (lambda: hpp.UnexpectedStatusError("x", status=303), NEVER, 1),
    "101": (lambda: hpp.UnexpectedStatusError("x", status=101), NEVER, 1),
    "400": (lambda: hpp.BadRequestError("x", status=400), NEVER, 1),
    "400 with a hint": (lambda: hpp.BadRequestError("x", status=400, retry_after=1.0), NEVER, 1),
    "401": (lambda: hpp.AuthenticationError("x", status=401), NEVER, 1),
    "403": (lambda: hpp.PermissionDeniedError("x", status=403), NEVER, 1),
    "404": (lambda: hpp.NotFoundError("x", status=404), NEVER, 1),
    "425": (lambda: hpp.ApiError("x", status=425), NEVER, 1),
    "307": (lambda: hpp.ApiError("x", status=307), NEVER, 1),
    "deadline": (lambda: hpp.DeadlineExceededError("x"), NEVER, 0),
    "lease": (lambda: hpp.LeaseLostError("x"), NEVER, 0),
    "closed": (lambda: hpp.ClientClosedError("x"), NEVER, 0),
    "other loop": (lambda: hpp.WrongLoopError("x"), NEVER, 0),
    "settings": (lambda: hpp.ConfigError("x"), NEVER, 0),
}


def test_the_table_has_every_error_that_an_attempt_can_raise():
    before_any_attempt = {hpp.HPPError, hpp.InvalidRequestError, hpp.CallbackError}
    of_a_batch = {errors.JournalError, errors.BatchStoppedError, errors.DuplicateSessionError}
    every = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, hpp.HPPError)}
    assert {type(make()) for make, _, _ in RULES.values()} == every - before_any_attempt - of_a_batch


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("on_unknown", ["raise", "resend"])
@pytest.mark.parametrize("earlier", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("name", RULES)
async def test_the_rules(name, earlier, on_unknown, idempotent):
    make, may, requests = RULES[name]
    again = may if may is not ALLOWED else idempotent or on_unknown == "resend"
    error = make()
    before = [connect()] * earlier
    # A wait that does not fit ends with the error that caused it.
    final = before[0] if before and isinstance(error, hpp.DeadlineExceededError) else error
    with virtual_time():
        # As the second failure it meets the same rules: the first attempt runs bare, the others in tenacity's hands.
        told = await story(*before, error, "done", settings=settings(on_unknown=on_unknown), idempotent=idempotent)
    assert len(told.began) == earlier + 1 + again
    assert told.value == ("done" if again else None)
    assert told.error is (None if again else final)
    assert told.state.attempts == earlier + requests + again
    if told.error is not None:
        assert told.error.attempts == told.state.attempts


@pytest.mark.parametrize("name", RULES)
async def test_the_first_attempt_may_have_been_made_already(name):
    make, may, requests = RULES[name]
    error = make()
    with virtual_time():
        told = await story("done", failed=error, settings=settings())
    assert told.value == ("done" if may else None)
    assert told.error is (None if may else error)
    assert (len(told.began), told.state.attempts) == (bool(may), requests + bool(may))
    assert [error for *_, error in told.retried] == [error] * bool(may)
    assert told.quota.tokens == ((496 if "429" in name else 487) if may else 500)


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_the_rules_are_asked_and_answer_yes_or_no(name, idempotent):
    make, may, _ = RULES[name]
    policy = retry.RetryPolicy(operation(idempotent=idempotent), settings())
    assert retry.is_retryable(make(), policy) is (idempotent if may is ALLOWED else may)
    assert retry.is_retryable(TimeoutError(), policy) is False


@pytest.mark.parametrize("error", [RuntimeError("x"), ValueError("x"), TimeoutError(), asyncio.CancelledError("x")])
@pytest.mark.parametrize("earlier", [0, 1], ids=["first", "second"])
async def test_what_is_not_our_error_passes_through(error, earlier):
    told = Story(steps=[*[connect()] * earlier, error, "done"])
    with virtual_time(), pytest.raises(type(error)) as caught:
        await told.run()
    assert caught.value is error
    assert len(told.began) == earlier + 1
    assert told.state.attempts == earlier


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7])
async def test_as_many_attempts_as_allowed(most):
    steps = [connect() for _ in range(10)]
    with virtual_time():
        told = await story(*steps, settings=settings(max_attempts=most))
    assert len(told.began) == most
    assert told.error is steps[most - 1]
    assert told.error.attempts == most


async def test_a_success_says_how_many_attempts_it_took():
    with virtual_time():
        assert (await story("done")).state.attempts == 1
        assert (await story(connect(), throttled(), "done")).state.attempts == 3


RESEND = settings(on_unknown="resend", max_attempts=3)

# What each attempt met: (class at the end, its delivery, how many requests)
WHOLE_CALLS = {
    "never sent": ([connect, connect, connect], hpp.ConnectError, Delivery.NOT_SENT, 3),
    "refused, then not sent": ([throttled, connect, connect], hpp.ConnectError, Delivery.REJECTED, 3),
    "not sent, then refused": ([connect, connect, throttled], hpp.RateLimitError, Delivery.REJECTED, 3),
    "not sent, then 400": ([connect, RULES["400"][0]], hpp.BadRequestError, Delivery.REJECTED, 2),
    "not sent, then lost": ([connect, connect, lost], hpp.LostResponseError, U, 3),
    "not sent, then accepted": ([connect, RULES["2xx that cannot be read"][0]], hpp.DecodeError, A, 2),
    "not sent, then 500": ([throttled, connect, unavailable], hpp.ServerError, U, 3),
    "refused, then too late": ([throttled, RULES["deadline"][0]], hpp.RateLimitError, Delivery.REJECTED, 1),
    "not sent, then closed": ([connect, RULES["closed"][0]], hpp.ClientClosedError, Delivery.NOT_SENT, 1),
    "closed": ([RULES["closed"][0]], hpp.ClientClosedError, None, 0),
    # From here on an earlier attempt may have been processed: that is what the call says, whatever came last.
    "lost, then not sent": ([lost, connect, connect], hpp.LostResponseError, U, 3),
    "lost, then refused": ([lost, RULES["400"][0]], hpp.LostResponseError, U, 2),
    "lost, then throttled": ([lost, throttled, throttled], hpp.LostResponseError, U, 3),
    "lost, then accepted": ([lost, RULES["2xx that cannot be read"][0]], hpp.LostResponseError, A, 2),
    "lost, then too late": ([lost, RULES["deadline"][0]], hpp.LostResponseError, U, 1),
    "lost, then closed": ([lost, RULES["closed"][0]], hpp.LostResponseError, U, 1),
    "lost again and again": ([lost, lost, lost], hpp.LostResponseError, U, 3),
    "500 again and again": ([unavailable] * 3, hpp.LostResponseError, U, 3),
    "not sent, lost, not sent": ([connect, lost, connect], hpp.LostResponseError, U, 3),
    "lost, not sent, refused": ([lost, connect, RULES["400"][0]], hpp.LostResponseError, U, 3),
}


@pytest.mark.parametrize("name", WHOLE_CALLS)
async def test_the_error_is_about_all_attempts(name):
    makes, kind, delivery, requests = WHOLE_CALLS[name]
    steps = [make() for make in makes]
    # A turn that would come too late is no attempt: the call ends with the error that it was waiting after.
    attempts = [step for step in steps if not isinstance(step, hpp.DeadlineExceededError)]
    may_exist_earlier = any(step.delivery is U for step in attempts[:-1])
    with virtual_time():
        told = await story(*steps, settings=RESEND)
    error = told.error
    assert error is not None
    assert (type(error), error.delivery, error.attempts) == (kind, delivery, requests)
    assert isinstance(error, hpp.OutcomeUnknownError) is (delivery in {U, A})
    if may_exist_earlier:
        assert error.last_error is attempts[-1]
        assert str(attempts[-1]) in str(error)
        assert "Do not retry" in str(error)
    else:
        assert error is attempts[-1]
        assert getattr(error, "last_error", None) is None


# ------------------------------------------------------------------------------------- what a row of the table may add


def of_the_api(status: int, code: str | None = "INTERNAL_ERROR") -> hpp.HPPError:
    return hpp.ServerError("x", status=status, code=code)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (of_the_api(503), True),
        (of_the_api(503, code=None), False),  # some gateway's, after the work perhaps
        *((of_the_api(503, code=code), False) for code in ("", "\\x00", "503", "unavailable", "A B", "_", "***", "É")),
        *((of_the_api(503, code=code), True) for code in ("UNKNOWN", "TRY_AGAIN", "E2")),
        (of_the_api(500), False),
        (of_the_api(504), False),
        (hpp.ServerError("x", status=503, code="X", delivery=A), False),
        (lost(), False),
        (hpp.ApiError("x", status=425, code="X"), False),
        (hpp.DecodeError("x", status=503), False),
    ],
)
async def test_what_the_documents_say_to_try_again(error, again):
    with virtual_time():
        told = await story(error, "done", facts={"retry_statuses": frozenset({503})})
    assert told.value == ("done" if again else None)
    assert told.state.earlier_delivery is (U if again else None)
    assert (await story(error, "done")).error is error


async def test_what_was_tried_again_and_again_as_documented_is_of_unknown_outcome():
    steps = [of_the_api(503), of_the_api(503)]
    with virtual_time():
        error = (await story(*steps, facts={"retry_statuses": frozenset({503}), "unknown_outcome_advice": "look"},
                             settings=settings(max_attempts=2))).error  # fmt: skip
    assert (type(error), error.delivery, error.last_error) == (hpp.LostResponseError, U, steps[1])
    assert str(error) == "the outcome of an earlier attempt is unknown: look. Last attempt: x"


SAFE = {"safe": True}


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (hpp.DecodeError("x", status=200, cause="cut off"), True),
        (hpp.DecodeError("x", status=200), False),  # whole, and no better the next time
        (lost(), True),
        (hpp.ServerError("x", status=500), True),
        (hpp.UnexpectedStatusError("x", status=408), True),
        (hpp.UnexpectedStatusError("x", status=303), False),
        (hpp.NotFoundError("x", status=404), False),
        (hpp.NotFoundError("x", status=404, cause="cut off"), False),  # it said enough
    ],
)
async def test_what_is_safe_is_tried_again_where_the_answer_was_cut_off(error, again):
    with virtual_time():
        told = await story(error, "done", idempotent=True, facts=SAFE)
    assert told.value == ("done" if again else None)


async def test_what_only_may_be_repeated_is_not_once_it_was_accepted():
    cut = hpp.DecodeError("x", status=200, cause="cut off")
    for idempotent in (False, True):
        assert (await story(cut, "done", idempotent=idempotent)).error is cut


@pytest.mark.parametrize(
    "last",
    [hpp.NotFoundError("x", status=404), hpp.AuthenticationError("x", status=401), hpp.CertificateError("x"), lost()],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_safe_ends_as_its_last_attempt_did(last):
    delivery = last.delivery
    with virtual_time():
        error = (await story(lost(), last, idempotent=True, facts=SAFE, settings=settings(max_attempts=2))).error
    assert error is last
    assert (error.delivery, error.attempts) == (delivery, 2)
    assert isinstance(error, hpp.OutcomeUnknownError) is (delivery in {U, A})


async def test_what_is_only_repeatable_is_in_doubt_once_an_attempt_was():
    last = hpp.BadRequestError("x", status=400)
    with virtual_time():
        error = (await story(lost(), last, idempotent=True)).error
    assert (type(error), error.last_error) == (hpp.LostResponseError, last)


@pytest.mark.parametrize("timed_out", [False, True])
async def test_a_lost_call_tells_what_its_last_attempt_told(timed_out):
    last = hpp.ConnectError(
        "x", timed_out=timed_out, correlation_id="c-2", cause="OSError, errno 111, while connecting"
    )
    first = hpp.LostResponseError("x", correlation_id="c-1", cause="another", timed_out=not timed_out)
    with virtual_time():
        error = (await story(first, last, settings=settings(on_unknown="resend", max_attempts=2))).error
    assert isinstance(error, hpp.LostResponseError)
    assert (error.timed_out, error.correlation_id, error.cause) == (timed_out, "c-2", last.cause)


async def test_a_lost_call_did_not_time_out_where_its_last_attempt_could_not():
    with virtual_time():
        error = (await story(lost(), RULES["400"][0](), settings=RESEND)).error
    assert error.timed_out is False


@pytest.mark.parametrize(
    ("steps", "earlier"),
    [
        (["done"], None),
        ([connect(), "done"], Delivery.NOT_SENT),
        ([connect(), throttled(), connect(), "done"], Delivery.REJECTED),
        ([connect(), lost(), connect(), "done"], U),
    ],
)
async def test_a_success_knows_of_the_attempts_before_it(steps, earlier):
    with virtual_time():
        told = await story(*steps, settings=settings(on_unknown="resend"))
    assert (told.value, told.state.earlier_delivery) == ("done", earlier)


def reachable_from(error: BaseException) -> str:
    """All that an error leads to, as text: its facts, its traceback with locals, its cause and context."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(trace.format(chain=True)) + repr(vars(error)) + repr(error.args)


@pytest.mark.parametrize("name", WHOLE_CALLS)
async def test_nothing_of_tenacity_is_left_on_an_error(name):
    with virtual_time():
        error = (await story(*[make() for make in WHOLE_CALLS[name][0]], settings=RESEND)).error
    found = [error, *([error.last_error] if getattr(error, "last_error", None) else [])]
    for one in found:
        assert (one.__cause__, one.__context__) == (None, None)
        assert "tenacity" not in reachable_from(one)
        again = copy.deepcopy(pickle.loads(pickle.dumps(one)))
        assert (type(again), str(again), again.delivery) == (type(one), str(one), one.delivery)


async def test_what_clings_to_the_error_of_a_later_attempt_is_taken_off():
    last = connect()
    last.__cause__ = last.__context__ = OSError("of another library")
    with virtual_time():
        error = (await story(connect(), last, settings=settings(max_attempts=2))).error
    assert error is last
    assert (error.__cause__, error.__context__) == (None, None)


async def test_another_event_library_in_the_process_does_not_matter(monkeypatch):
    # Tenacity asks sniffio which library runs as soon as somebody has imported trio; sniffio may well be absent.
    monkeypatch.setitem(sys.modules, "trio", None)
    monkeypatch.setitem(sys.modules, "sniffio", None)
    with virtual_time():
        assert (await story(throttled(1.0), "done")).began == [0.0, 1.0]


async def test_the_traceback_of_a_bare_failure_leads_to_the_attempt():
    error = (await story(lost())).error
    assert "attempt" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


async def test_on_retry_is_told_before_each_wait():
    first, second = throttled(3.0), throttled(7.0)
    with virtual_time():
        told = await story(first, second, "done")
    assert told.retried == [(1, 3.0, first), (2, 7.0, second)]
    assert told.retried_at == [0.0, 3.0]
    assert told.began == [0.0, 3.0, 10.0]


@pytest.mark.parametrize(
    ("steps", "options", "calls"),
    [
        (["done"], {}, 0),
        ([lost()], {}, 0),
        ([connect()] * 3, {"max_attempts": 3}, 2),
        ([throttled(31.0)], {}, 0),
        ([connect(), lost()], {}, 1),
    ],
)
async def test_on_retry_is_told_only_of_waits(steps, options, calls):
    with virtual_time():
        told = await story(*steps, settings=settings(**options))
    assert len(told.retried) == calls


async def test_nobody_has_to_listen():
    told = Story(steps=["done"])
    policy = retry.RetryPolicy(operation(), settings())
    result = retry.run_with_retries(told.attempt, connect(), policy=policy, quota=told.quota, state=told.state)
    assert await result == "done"


async def test_calls_side_by_side_do_not_disturb_one_another():
    dice = random.Random(7)
    quota: Any = retry.RetryQuota()
    quota.tokens = 10**6
    quota.CAPACITY = 10**7
    makes = [connect, throttled, lost, RULES["400"][0]]
    scripts = [[dice.choice(makes)() for _ in range(dice.randrange(6))] + [number] for number in range(400)]
    options = {"settings": hpp.RetrySettings(on_unknown="resend"), "quota": quota}
    with virtual_time():
        alone = [await story(*copy.deepcopy(script), **options | {"quota": retry.RetryQuota()}) for script in scripts]
        spent_before = quota.tokens
        together = await asyncio.gather(*(story(*script, **options) for script in scripts))

    def facts(told):
        retried = [(attempt, type(error)) for attempt, _, error in told.retried]
        return told.value, type(told.error), str(told.error), len(told.began), told.state.attempts, retried

    assert [facts(told) for told in together] == [facts(told) for told in alone]
    assert len({told.began[-1] for told in together}) > 100  # they did run side by side, each at its own pace
    costs = sum(5 if isinstance(error, hpp.RateLimitError) else 14 for told in together for *_, error in told.retried)
    assert quota.tokens == spent_before - costs + sum(told.error is None for told in together)


@pytest.mark.parametrize(("error", "loaded"), [("LostResponseError", False), ("ConnectError", True)])
def test_only_another_attempt_wakes_tenacity(error, loaded):
    code = f"""
import asyncio, sys
from kustom_hpp import config, errors, retry
from kustom_hpp._protocol.operations import CREATE_SESSION
async def attempt():
    return 1
policy = retry.RetryPolicy(CREATE_SESSION, config.RetrySettings(initial=0))
first, quota, state = errors.{error}("x"), retry.RetryQuota(), retry.CallState()
try:
    asyncio.run(retry.run_with_retries(attempt, first, policy=policy, quota=quota, state=state))
except errors.HPPError:
    pass
print("tenacity" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(loaded)
