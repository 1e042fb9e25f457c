"""The circuit breaker by itself: each rule with its numbers. tests/batch/test_circuit_breaker.py has whole runs."""

import pytest

import kustom_hpp as hpp
from kustom_hpp import Delivery, errors
from kustom_hpp.batch import circuit_breaker
from kustom_hpp.batch.circuit_breaker import CircuitBreaker, fatal_stop, is_fatal, is_not_processed

NOT_SENT = hpp.ConnectError("no connection", attempts=1)
LOST = hpp.LostResponseError("lost", attempts=1)
REFUSED = hpp.BadRequestError("bad", status=400, attempts=1)
FORBIDDEN = hpp.PermissionDeniedError("not this", status=403, attempts=1)
INVALID = hpp.InvalidRequestError("not a row")
NOW = 1000.0


def throttled(retry_after: float | None = None) -> hpp.HPPError:
    return hpp.RateLimitError("too many", status=429, retry_after=retry_after, attempts=1)


@pytest.fixture(autouse=True)
def jitter(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make the random factor of every pause the one in this list."""
    factor = [1.0]

    def uniform(least: float, most: float) -> float:
        assert (least, most) == (0.5, 1.0)
        return factor[0]

    monkeypatch.setattr(circuit_breaker.random, "uniform", uniform)
    return factor


def breaker(*, patience: float = 300.0, max_doubts: int = 3, max_failures: int | None = None) -> CircuitBreaker:
    return CircuitBreaker(patience=patience, max_doubts=max_doubts, max_failures=max_failures)


def state(one: CircuitBreaker) -> tuple[int, int, bool, bool, float]:
    return one.generation, one.in_flight, one.half_open, one.open, one.until


def test_a_new_breaker_is_closed() -> None:
    one = breaker()
    assert state(one) == (0, 0, False, False, 0.0)
    assert one.allows(0.0) is True


def test_rows_in_flight_are_those_of_this_generation() -> None:
    one = breaker()
    assert [one.begin(), one.begin()] == [0, 0]
    one.end(0)
    one.end(7)
    assert one.in_flight == 1
    assert one.allows(NOW)
    one.not_processed(0, NOT_SENT, NOW)
    assert one.in_flight == 0
    assert one.begin() == 1
    one.end(0)
    assert one.in_flight == 1


def test_after_a_pause_one_row_is_sent_alone() -> None:
    one = breaker()
    assert one.not_processed(0, NOT_SENT, NOW) is None
    assert state(one) == (1, 0, True, False, NOW + 0.5)
    assert [one.allows(NOW + 0.499), one.allows(NOW + 0.5)] == [False, True]
    one.begin()
    assert not one.allows(NOW + 0.5)


def test_pauses_double_up_to_eight_seconds_and_a_success_begins_them_again() -> None:
    one, pauses = breaker(patience=1e6), []
    for _ in range(20):
        one.until = 0.0
        one.not_processed(one.generation, NOT_SENT, 0.0)
        pauses.append(one.until)
    assert pauses == [0.5, 1.0, 2.0, 4.0, *[8.0] * 16]
    assert one.created(one.generation) is True
    assert not one.half_open
    one.until = 0.0
    one.not_processed(one.generation, NOT_SENT, 0.0)
    assert one.until == 0.5


def test_each_pause_is_shortened_at_random(jitter: list[float]) -> None:
    jitter[0] = 0.5
    pauses = []
    for failure in (NOT_SENT, throttled(10.0)):
        one = breaker()
        one.not_processed(0, failure, NOW)
        pauses.append(one.until - NOW)
    one = breaker(max_doubts=1)
    one.in_doubt(0, LOST, NOW)
    assert [*pauses, one.until - NOW] == [0.25, 10.25, 1.0]


def test_the_api_says_how_long() -> None:
    one = breaker()
    one.not_processed(0, throttled(20.0), NOW)
    assert state(one) == (1, 0, True, False, NOW + 20.5)
    # What rows of an earlier generation say lengthens the pause, and never shortens it.
    for retry_after, until in ((5.0, 20.5), (None, 20.5), (30.0, 30.0)):
        one.not_processed(0, throttled(retry_after), NOW)
        assert state(one) == (1, 0, True, False, NOW + until)
    one.not_processed(1, NOT_SENT, NOW)
    assert one.until == NOW + 30.0


def test_patience_counts_from_the_first_failure() -> None:
    one = breaker(patience=10.0)
    assert one.not_processed(0, NOT_SENT, NOW) is None
    assert one.not_processed(1, NOT_SENT, NOW + 9.75) is None
    assert one.until == NOW + 10.0  # the pause ends with the patience
    stop = one.not_processed(2, NOT_SENT, NOW + 10.0)
    assert stop is not None
    assert "no row succeeded for 10 s (patience is 10 s). Unstarted" in str(stop)


@pytest.mark.parametrize(("retry_after", "stops"), [(10.0, False), (10.5, True)])
def test_a_wait_beyond_the_patience_stops(retry_after: float, stops: bool) -> None:
    stop = breaker(patience=10.0).not_processed(0, throttled(retry_after), NOW)
    assert (stop is not None) is stops
    assert stop is None or "(patience is 10 s), and the API asks to wait 10.5 s more. Unstarted" in str(stop)


@pytest.mark.parametrize("half_open", [False, True])
def test_a_success_begins_the_patience_again(half_open: bool) -> None:
    one = breaker(patience=10.0)
    one.not_processed(0, NOT_SENT, NOW)
    assert one.created(1) is True
    if not half_open:
        one.not_processed(0, NOT_SENT, NOW)  # of an earlier generation
        assert one.created(1) is False
    assert one.not_processed(1, NOT_SENT, NOW + 11) is None


def test_a_success_of_an_earlier_generation_closes_nothing() -> None:
    one = breaker()
    one.not_processed(0, NOT_SENT, NOW)
    assert one.created(0) is False
    assert one.half_open


# Doubts


def test_doubts_in_a_row_open_it() -> None:
    one = breaker()
    assert [one.in_doubt(0, LOST, NOW) for _ in range(2)] == [None, None]
    assert state(one) == (0, 0, False, False, 0.0)
    assert one.in_doubt(0, LOST, NOW) is None
    assert state(one) == (1, 0, True, True, NOW + 2.0)
    assert one.in_doubt(0, LOST, NOW) is None  # sent before it opened
    assert one.failed(1, REFUSED) is None  # a refusal is not a success
    assert one.open
    stop = one.in_doubt(1, LOST, NOW)
    assert "the batch stopped: 3 rows in a row ended with an unknown outcome, and so did the next one." in str(stop)


def test_it_opens_once() -> None:
    one = breaker(max_doubts=2)
    for _ in range(2):
        one.in_doubt(0, LOST, NOW)
    assert one.created(1) is True
    assert state(one) == (1, 0, False, False, NOW + 2.0)
    assert one.in_doubt(1, LOST, NOW) is None
    stop = one.in_doubt(1, LOST, NOW)
    assert "2 rows in a row ended with an unknown outcome, for the second time." in str(stop)


def test_a_doubt_of_the_row_that_is_sent_alone_pauses_again() -> None:
    one = breaker()
    one.not_processed(0, NOT_SENT, NOW)
    one.in_doubt(0, LOST, NOW)  # of an earlier generation
    assert state(one) == (1, 0, True, False, NOW + 0.5)
    one.in_doubt(1, LOST, NOW)
    assert state(one) == (2, 0, True, False, NOW + 1.0)


@pytest.mark.parametrize("between", ["created", "refused", "invalid", "not sent"])
def test_what_ends_a_row_of_doubts(between: str) -> None:
    one = breaker(max_doubts=2)
    one.in_doubt(0, LOST, NOW)
    if between == "created":
        assert one.created(0) is False
    elif between == "not sent":
        one.not_processed(0, NOT_SENT, NOW)
        one.created(1)
    else:
        one.failed(0, REFUSED if between == "refused" else INVALID)
    one.in_doubt(one.generation, LOST, NOW)
    assert one.open is (between == "invalid")
    one.in_doubt(one.generation, LOST, NOW)
    assert one.open


# Refusals


@pytest.mark.parametrize(
    ("error", "generation", "closes"), [(REFUSED, 1, True), (REFUSED, 0, False), (INVALID, 1, False)]
)
def test_a_refusal_of_the_row_that_is_sent_alone_closes_it(error: hpp.HPPError, generation: int, closes: bool) -> None:
    one = breaker()
    one.not_processed(0, NOT_SENT, NOW)
    assert one.failed(generation, error) is None
    assert one.half_open is not closes


def test_max_failures() -> None:
    one = breaker(max_failures=3)
    assert [one.failed(0, REFUSED), one.failed(0, INVALID)] == [None, None]
    assert "the batch stopped: 3 rows failed, which is max_failures." in str(one.failed(0, REFUSED))
    many = breaker()
    assert [many.failed(0, REFUSED) for _ in range(1000)] == [None] * 1000


@pytest.mark.parametrize("before", ["nothing", "invalid", "created", "in doubt", "refused"])
def test_403_for_the_first_ten_rows_is_about_the_credentials(before: str) -> None:
    one = breaker()
    match before:
        case "invalid":
            one.failed(0, INVALID)
        case "created":
            one.created(0)
        case "in doubt":
            one.in_doubt(0, LOST, NOW)
        case "refused":
            one.failed(0, REFUSED)
    stops = [one.failed(0, FORBIDDEN) for _ in range(12)]
    at = [number for number, stop in enumerate(stops, 1) if stop is not None]
    assert at == ([10] if before in {"nothing", "invalid"} else [])
    assert all("the API refused the first 10 rows with 403; check" in str(stops[number - 1]) for number in at)


# Kinds of errors


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NOT_SENT, True),
        (throttled(), True),
        (hpp.RateLimitError("after an unknown attempt", status=429, delivery=Delivery.UNKNOWN), False),
        (hpp.DeadlineExceededError("late", attempts=0), True),
        (REFUSED, False),
        (LOST, False),
    ],
)
def test_what_is_not_processed(error: hpp.HPPError, expected: bool) -> None:
    assert is_not_processed(error) is expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (errors.AuthenticationError, True),
        (errors.CertificateError, True),
        (errors.ClientClosedError, True),
        (errors.ConfigError, True),
        (errors.WrongLoopError, True),
        (errors.ConnectError, False),
        (errors.PermissionDeniedError, False),
        (errors.ServerError, False),
    ],
)
def test_what_is_fatal(kind: type[hpp.HPPError], expected: bool) -> None:
    assert is_fatal(kind("x")) is expected


def test_a_stop_says_why() -> None:
    error = hpp.AuthenticationError("wrong key", status=401, correlation_id="c-1", attempts=1)
    stop = fatal_stop(error)
    assert str(stop) == (
        "the batch stopped: every remaining row would fail the same way. Unstarted rows are unchanged. "
        f"Last error: {error}"
    )
    assert (stop.correlation_id, stop.cause, stop.last_error) == ("c-1", "AuthenticationError", error)
