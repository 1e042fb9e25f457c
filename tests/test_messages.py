"""The nouns of the I/O line: secrets that do not show, deliveries that add up, values that survive copying."""

import copy
import itertools
import pickle
import traceback

import attrs
import pytest
from multidict import CIMultiDict
from yarl import URL

from kustom_hpp._messages import CallInfo, Delivery, HttpRequest, HttpResponse, RateLimit, SendMarker
from kustom_hpp._redaction import Secret

ORDER = [Delivery.NOT_SENT, Delivery.REJECTED, Delivery.UNKNOWN, Delivery.ACCEPTED]


class TestSecret:
    def test_is_the_text_that_it_holds(self):
        secret = Secret("k3y")
        assert secret == "k3y"
        assert f"Basic {secret}" == "Basic k3y"
        assert secret.encode() == b"k3y"
        assert hash(secret) == hash("k3y")

    @pytest.mark.parametrize(
        "holder",
        [
            Secret("k3y"),
            [Secret("k3y")],
            {"Authorization": Secret("k3y")},
            CIMultiDict(a=Secret("k3y")),
            {Secret("k3y")},
        ],
        ids=["alone", "list", "dict", "headers", "set"],
    )
    def test_is_masked_in_every_repr(self, holder):
        assert "k3y" not in repr(holder)
        assert "***" in repr(holder)
        assert "k3y" not in f"{holder!r}"

    def test_is_masked_in_a_traceback_with_locals(self):
        def fails(key):
            raise RuntimeError

        with pytest.raises(RuntimeError) as raised:
            fails(Secret("k3y"))
        caught = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
        frame = caught.stack[-1].locals
        assert frame is not None
        assert frame["key"] == "'***'"

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_is_never_pickled(self, protocol):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps({"key": Secret("k3y")}, protocol)

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_a_copy_is_as_secret(self, copied):
        secret = Secret("k3y")
        assert copied(secret) is secret
        assert copied([secret]) == [secret]

    def test_what_is_made_of_it_is_plain_text(self):
        # The reason why the code wraps anew whatever it cuts out of a secret.
        assert type(Secret(" k3y ").strip()) is str


class TestDelivery:
    @pytest.mark.parametrize(("delivery", "expected"), [*zip(ORDER, [False, False, True, True], strict=True)], ids=str)
    def test_may_exist(self, delivery, expected):
        assert delivery.may_have_taken_effect is expected

    @pytest.mark.parametrize("attempts", [*itertools.product([None, *ORDER], repeat=3)])
    def test_a_call_is_as_serious_as_its_most_serious_attempt(self, attempts):
        known = [ORDER.index(delivery) for delivery in attempts if delivery is not None]
        assert Delivery.worst(*attempts) == (ORDER[max(known)] if known else None)

    def test_of_no_attempt_nothing_is_known(self):
        assert Delivery.worst() is None

    def test_values_are_plain_words(self):
        assert list(Delivery) == ["not_sent", "rejected", "unknown", "accepted"]


def test_a_mark_says_what_is_known_without_an_answer():
    mark = SendMarker()
    assert mark.delivery is Delivery.NOT_SENT
    mark.sent = True
    assert mark.delivery is Delivery.UNKNOWN


REQUEST = HttpRequest(
    method="POST",
    url=URL("https://user:passw0rd@api.example/hpp/v1/sessions?token=t0ken"),
    headers={"Authorization": "Basic k3y"},
    body=b'{"payment_session_url":"b0dy"}',
    connect_timeout=5,
    read_timeout=35,
)


def test_a_request_shows_where_it_goes_and_nothing_that_it_carries():
    assert repr(REQUEST) == (
        "HttpRequest(method='POST', url='https://api.example/hpp/v1/sessions', connect_timeout=5, read_timeout=35, "
        "deadline=None)"
    )


def test_an_answer_shows_neither_headers_nor_body():
    answer = HttpResponse(
        status=201, headers=CIMultiDict(a="h3ader"), body=b"b0dy", body_error="cut off", timed_out=True
    )
    assert repr(answer) == "HttpResponse(status=201, body_error='cut off', timed_out=True, body_too_long=False)"


RATE = RateLimit(limit=40, remaining=3, reset=1.0, window=1.0)
INFO = CallInfo(attempts=2, elapsed=0.25, status=201, correlation_id="c-1", rate_limit=RATE, earlier_unknown=True)


@pytest.mark.parametrize("value", [RateLimit(), RATE, CallInfo(), INFO], ids=repr)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_values_survive_pickle_and_copy(value, protocol):
    assert pickle.loads(pickle.dumps(value, protocol)) == value
    assert copy.deepcopy(value) == value
    assert hash(copy.copy(value)) == hash(value)


@pytest.mark.parametrize(
    "value", [REQUEST, HttpResponse(status=201, headers={}), RATE, INFO], ids=lambda v: type(v).__name__
)
def test_values_are_frozen_and_take_nothing_more(value):
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.anything_else = 1


@pytest.mark.parametrize("kind", [HttpRequest, HttpResponse, RateLimit, CallInfo])
def test_values_take_no_positional_arguments(kind):
    with pytest.raises(TypeError, match="positional"):
        kind(1)
