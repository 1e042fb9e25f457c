"""The error tree: its shape, what each class says about the call, and that every error travels."""

import copy
import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kustom_hpp as hpp
from kustom_hpp import errors
from kustom_hpp.errors import STATUS_ERRORS, clean_text, error_for_status

# class: (its parents, what it says about the call by default)
TREE = {
    hpp.HPPError: ((Exception,), None),
    hpp.ConfigError: ((hpp.HPPError, ValueError), None),
    hpp.InvalidRequestError: ((hpp.HPPError, ValueError), None),
    hpp.CallbackError: ((hpp.HPPError, ValueError), None),
    hpp.ClientClosedError: ((hpp.HPPError,), None),
    hpp.WrongLoopError: ((hpp.HPPError,), None),
    hpp.DeadlineExceededError: ((hpp.HPPError,), hpp.Delivery.NOT_SENT),
    hpp.LeaseLostError: ((hpp.HPPError,), hpp.Delivery.NOT_SENT),
    hpp.ConnectError: ((hpp.HPPError,), hpp.Delivery.NOT_SENT),
    hpp.CertificateError: ((hpp.ConnectError,), hpp.Delivery.NOT_SENT),
    hpp.OutcomeUnknownError: ((hpp.HPPError,), hpp.Delivery.UNKNOWN),
    hpp.LostResponseError: ((hpp.OutcomeUnknownError,), hpp.Delivery.UNKNOWN),
    hpp.DecodeError: ((hpp.OutcomeUnknownError,), hpp.Delivery.ACCEPTED),
    hpp.ApiError: ((hpp.HPPError,), hpp.Delivery.REJECTED),
    hpp.BadRequestError: ((hpp.ApiError,), hpp.Delivery.REJECTED),
    hpp.AuthenticationError: ((hpp.ApiError,), hpp.Delivery.REJECTED),
    hpp.PermissionDeniedError: ((hpp.ApiError,), hpp.Delivery.REJECTED),
    hpp.NotFoundError: ((hpp.ApiError,), hpp.Delivery.REJECTED),
    hpp.RateLimitError: ((hpp.ApiError,), hpp.Delivery.REJECTED),
    hpp.ServerError: ((hpp.ApiError, hpp.OutcomeUnknownError), hpp.Delivery.UNKNOWN),
    hpp.UnexpectedStatusError: ((hpp.ApiError, hpp.OutcomeUnknownError), hpp.Delivery.UNKNOWN),
    hpp.JournalError: ((hpp.HPPError,), None),
    hpp.BatchStoppedError: ((hpp.HPPError,), None),
    hpp.DuplicateSessionError: ((hpp.HPPError,), None),
}
ALL = sorted(TREE, key=lambda kind: kind.__name__)
by_name = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def test_no_class_is_missing_here():
    found = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, hpp.HPPError)}
    assert found == set(TREE)


@by_name
def test_the_tree(kind):
    assert kind.__bases__ == TREE[kind][0]


@by_name
def test_the_tree_at_the_top_of_the_file_names_it(kind):
    assert kind.__name__ in (errors.__doc__ or "")


@by_name
def test_every_error_is_public_and_documented(kind):
    assert getattr(hpp, kind.__name__) is kind
    assert kind.__name__ in hpp.__all__
    assert kind.__doc__


@by_name
def test_what_it_says_about_the_call(kind):
    assert kind("text").delivery is TREE[kind][1]


@by_name
def test_the_invariant(kind):
    may_have_taken_effect = kind("text").delivery in {hpp.Delivery.UNKNOWN, hpp.Delivery.ACCEPTED}
    assert issubclass(kind, hpp.OutcomeUnknownError) is may_have_taken_effect


def expected_for(status: int) -> tuple[type[hpp.ApiError], hpp.Delivery]:
    """The rule of each status that is not 2xx, written anew: tables are tested against other tables."""
    named = {
        400: hpp.BadRequestError,
        401: hpp.AuthenticationError,
        403: hpp.PermissionDeniedError,
        404: hpp.NotFoundError,
        429: hpp.RateLimitError,
        307: hpp.ApiError,
        308: hpp.ApiError,
    }
    if status in named:
        return named[status], hpp.Delivery.REJECTED
    if status == 408 or status // 100 in (1, 3):
        return hpp.UnexpectedStatusError, hpp.Delivery.UNKNOWN
    if status // 100 == 4:
        return hpp.ApiError, hpp.Delivery.REJECTED
    return hpp.ServerError, hpp.Delivery.UNKNOWN


@pytest.mark.parametrize("status", [*range(100, 200), *range(300, 600)])
def test_the_class_of_every_status(status):
    kind, delivery = expected_for(status)
    assert error_for_status(status) is kind
    error = error_for_status(status)("text", status=status)
    assert error.delivery is delivery
    assert isinstance(error, hpp.OutcomeUnknownError) is delivery.may_have_taken_effect


@pytest.mark.parametrize("status", [-1, 0, 1, 99, 199, 600, 999, 10**6])
def test_a_status_that_is_none_is_odd_and_unknown(status):
    assert error_for_status(status) is hpp.UnexpectedStatusError


def test_the_table_holds_what_the_ranges_do_not_say():
    assert set(STATUS_ERRORS) == {307, 308, 400, 401, 403, 404, 408, 429}


FACTS = {"delivery": hpp.Delivery.UNKNOWN, "attempts": 3, "correlation_id": "c-1", "cause": "ClientOSError, errno 104"}
OWN_FACTS = {
    hpp.InvalidRequestError: {"problems": (("merchant_urls.success", "must be text, got a list of 0"),)},
    hpp.ConnectError: {"timed_out": True},
    hpp.LostResponseError: {
        "timed_out": True,
        "last_error": hpp.RateLimitError("slow down", status=429, retry_after=2.0),
    },
    hpp.DecodeError: {"status": 201, "body": b'{"session_id":"s-1"}', "session_id": "s-1"},
    hpp.ApiError: {
        "status": 418,
        "code": "TEA",
        "messages": ("a", "b"),
        "retry_after": 1.5,
        "body": b"short and stout",
    },
}


def full(kind: type[hpp.HPPError]) -> hpp.HPPError:
    own = next((OWN_FACTS[parent] for parent in kind.__mro__ if parent in OWN_FACTS), {})
    return kind("what went wrong", **FACTS, **own)


def facts(error: hpp.HPPError) -> dict[str, object]:
    """All that an error tells; an error inside it by its own facts, as errors compare by identity."""
    return {
        "class": type(error),
        "args": error.args,
        "text": str(error),
        **{name: facts(value) if isinstance(value, hpp.HPPError) else value for name, value in vars(error).items()},
    }


@by_name
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickle(kind, protocol):
    error = full(kind)
    assert facts(pickle.loads(pickle.dumps(error, protocol))) == facts(error)


@by_name
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_every_error_survives_copying(kind, copied):
    error = full(kind)
    again = copied(error)
    assert again is not error
    assert facts(again) == facts(error)


@by_name
def test_every_fact_is_kept(kind):
    error = full(kind)
    own = next((OWN_FACTS[parent] for parent in kind.__mro__ if parent in OWN_FACTS), {})
    assert {name: getattr(error, name) for name in FACTS | own} == FACTS | own
    assert str(error) == "what went wrong"


@by_name
def test_an_error_without_a_word_can_be_made_too(kind):
    error = kind()
    assert (error.attempts, error.correlation_id, error.cause) == (0, None, None)


@by_name
def test_a_fact_that_is_none_is_refused(kind):
    with pytest.raises(TypeError, match="colour"):
        kind("text", colour="red")


def test_all_problems_are_in_the_text():
    error = hpp.InvalidRequestError(problems=(("a.b", "is wrong"), ("$", "is odd")))
    assert str(error) == "the request is invalid, nothing was sent:\n  a.b: is wrong\n  $: is odd"


def test_a_text_of_ones_own_wins_over_the_problems():
    assert str(hpp.InvalidRequestError("mine", problems=(("a", "b"),))) == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("Öre 🛒", "Öre 🛒"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x00\x7f\x85", "\\x00\\x7f\\x85"),
        ("\u202eabc", "\\u202eabc"),  # turns the reading direction of a log line
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("x" * 512, "x" * 512),
        ("x" * 513, "x" * 512 + "…"),
        ("\n" * 512, "\\n" * 256 + "…"),
    ],
)
def test_clean_text(text, expected):
    assert clean_text(text) == expected


@given(st.text(st.characters(), max_size=40), st.integers(1, 30))
def test_clean_text_is_one_line_that_can_be_written(text, cap):
    shown = clean_text(text, cap)
    assert shown.isprintable()
    assert len(shown) <= cap + 1
    shown.encode()
    if text.isprintable() and len(text) <= cap:
        assert shown == text
