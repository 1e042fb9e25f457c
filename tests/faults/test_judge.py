"""The judge notices lies: each rule of it is broken once, first in invented facts, then by a client that is made to lie."""

import aiohttp
import attrs
import pytest

import kustom_hpp as hpp
from kustom_hpp import Delivery
from kustom_hpp.sandbox import CreatedSession, RecordedRequest
from kustom_hpp.transport import session_manager as transport
from tests.faults.judge import Facts, leaks, violations
from tests.faults.play import Variant, play
from tests.faults.table import ROWS

SECRET = "kco_test_api_very_secret"
MADE = CreatedSession(
    session_id="s-1", payment_session_url="https://x.example/1", redirect_url="https://x.example/p", request=1
)
SESSION = hpp.Session(session_id="s-1", redirect_url="https://x.example/p")


def post(status: int | None = 201) -> RecordedRequest:
    return RecordedRequest(number=1, connection=1, method="POST", target="/hpp/v1/sessions", headers=(), status=status)


GOOD = Facts(outcome=SESSION, posts=(post(),), created=(MADE,), secrets=(SECRET,))


def lost(**facts: object) -> hpp.LostResponseError:
    return hpp.LostResponseError("lost", **{"attempts": 1} | facts)


def chained() -> hpp.HPPError:
    error = lost()
    error.__context__ = aiohttp.ClientError("foreign")
    return error


def retrying(error: hpp.HPPError) -> hpp.Retrying:
    return hpp.Retrying(call_id="c", operation="create_session", attempt=1, wait=0.0, error=error)


TWICE = Facts(outcome=lost(attempts=2), posts=(post(None), post(None)), created=(MADE, MADE), resend=True)

LIES = {
    "a foreign exception": attrs.evolve(GOOD, outcome=RuntimeError("x")),
    "not sent, but it was": attrs.evolve(GOOD, outcome=hpp.ConnectError("x", attempts=1)),
    "rejected, but made": attrs.evolve(GOOD, outcome=hpp.BadRequestError("x", status=400, attempts=1)),
    "not sent, but seen": attrs.evolve(GOOD, outcome=hpp.ConnectError("x", attempts=1), created=()),
    "accepted, but not made": attrs.evolve(GOOD, outcome=hpp.DecodeError("x", status=201, attempts=1), created=()),
    "unknown in another class": attrs.evolve(
        GOOD, outcome=hpp.ApiError("x", status=500, delivery=Delivery.UNKNOWN, attempts=1)
    ),
    "unknown that was not": attrs.evolve(GOOD, outcome=lost(delivery=Delivery.REJECTED), created=()),
    "somebody else's session": attrs.evolve(GOOD, outcome=attrs.evolve(SESSION, session_id="s-2")),
    "a second POST": attrs.evolve(TWICE, resend=False, created=(MADE,)),
    "a POST that is not counted": attrs.evolve(TWICE, outcome=lost(attempts=1), created=(MADE,)),
    "more sessions than doubts": attrs.evolve(
        TWICE, events=(retrying(hpp.RateLimitError("x", status=429)),)
    ),
    "accepted and sent again": attrs.evolve(TWICE, events=(retrying(hpp.DecodeError("x", status=201)),)),
    "a redirect followed": attrs.evolve(GOOD, sink=1),
    "too late": attrs.evolve(GOOD, elapsed=70.0),
    "a secret in the text": attrs.evolve(GOOD, outcome=hpp.LostResponseError(f"at {SECRET}", attempts=1)),
    "a secret in the body": attrs.evolve(
        GOOD, outcome=hpp.DecodeError("x", status=201, body=SECRET.encode(), attempts=1)
    ),
    "a body without a bound": attrs.evolve(
        GOOD, outcome=hpp.DecodeError("x", status=201, body=b"x" * 70_000, attempts=1)
    ),
    "a foreign exception behind it": attrs.evolve(GOOD, outcome=chained()),
    "a head that aiohttp sent": attrs.evolve(
        GOOD, outcome=hpp.ConnectError("x", attempts=1), posts=(), created=(), traced=1
    ),
    "a session without a head": attrs.evolve(GOOD, traced=0),
}  # fmt: skip


def test_the_judge_has_nothing_against_a_good_call():
    assert list(violations(GOOD)) == []
    assert list(violations(attrs.evolve(GOOD, outcome=lost()))) == []


@pytest.mark.parametrize("facts", LIES.values(), ids=LIES)
def test_the_judge_notices(facts):
    assert list(violations(facts))


def test_a_planted_leak_is_found_in_a_traceback():
    def frame_of_the_library(header: str) -> None:
        raise hpp.LostResponseError("lost")

    # Frames of tests are left out, so this one has to pass for another's.
    code = frame_of_the_library.__code__
    frame_of_the_library.__code__ = code.replace(co_filename="/lib/kustom_hpp/x.py")
    with pytest.raises(hpp.LostResponseError) as caught:
        frame_of_the_library(f"Basic {SECRET}")
    assert leaks(caught.value, [SECRET]) == ["its traceback with locals"]


async def test_aiohttps_own_errors_leak_and_the_scan_finds_it():
    # Why nothing of aiohttp is let through: its error's repr holds the headers of the request (trap T9).
    url = aiohttp.client_reqrep.URL("http://127.0.0.1/")
    info = aiohttp.RequestInfo(url, "POST", {"Authorization": f"Basic {SECRET}"}, url)
    assert "args" in leaks(aiohttp.ClientResponseError(info, ()), [SECRET])


@pytest.mark.parametrize(
    "name", ["reset_after_request", "close_after_request", "garbage", pytest.param("hang", marks=pytest.mark.slow)]
)
async def test_a_client_that_judges_by_the_class_alone_is_caught(name, monkeypatch):
    # As hand-written clients do: whatever the connection raises is taken for "not sent".
    def by_the_class_alone(error: Exception, **_: object) -> hpp.HPPError:
        return hpp.ConnectError("no connection")

    monkeypatch.setattr(transport, "map_exception", by_the_class_alone)
    row = next(row for row in ROWS if row.name == name)
    found = list(violations(await play(row, Variant(borrowed=False, resend=False, once=False))))
    assert any("the server made" in sentence for sentence in found)
    assert any("a second POST by default" in sentence for sentence in found)
