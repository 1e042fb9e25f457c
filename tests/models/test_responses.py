"""Responses as plain JSON values and back: what a shop stores of a session."""

import copy
import datetime as dt
import json

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kustom_hpp as hpp
from kustom_hpp import callbacks
from kustom_hpp._protocol.codec import codec
from tests.support.golden import FULL_ANSWER, FULL_DETAILS, FULL_SESSION, FULL_SESSION_DETAILS

SOON = dt.datetime(2026, 11, 28, 12, 30, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=2)))
RESPONSES = {
    "every field of a session": FULL_SESSION,
    "every field of the details": FULL_SESSION_DETAILS,
    "an id alone": hpp.Session(session_id="s-1"),
    "details with an id alone": hpp.SessionDetails(session_id="s-1"),
    "microseconds in another zone": hpp.Session(session_id="s-1", expires_at=SOON),
    "a newer status": hpp.SessionDetails(session_id="s-1", status="TIMEOUT", updated_at=SOON),
    "newer fields": hpp.Session(session_id="s-1", extra={"x_new": {"a": [1, None, "ö"]}}),
    "a known field of another type": hpp.Session(session_id="s-1", extra={"redirect_url": 5, "expires_at": "soon"}),
    "newer fields inside": hpp.Session(session_id="s-1", distribution_module=hpp.DistributionModule(extra={"x": 1})),
    "a customer": hpp.SessionDetails(session_id="s-1", customer=hpp.Customer(given_name="Alva", extra={"x": [1]})),
}
by_response = pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)


@by_response
def test_a_response_survives_a_database(response):
    stored = json.dumps(response.to_dict())
    read = type(response).from_dict(json.loads(stored))
    assert read == response
    assert read.to_dict() == response.to_dict()
    assert read.info == hpp.CallInfo()


@by_response
def test_it_is_what_the_codec_writes(response):
    assert response.to_dict() == json.loads(codec().encode_model(response))


def test_the_spelling_is_the_apis():
    assert FULL_SESSION.to_dict() == json.loads(FULL_ANSWER)
    assert FULL_SESSION_DETAILS.to_dict() == json.loads(FULL_DETAILS)


def test_the_values_are_plain():
    plain = hpp.SessionDetails(session_id="s-1", status=hpp.SessionStatus.COMPLETED, expires_at=SOON).to_dict()
    assert plain == {"session_id": "s-1", "status": "COMPLETED", "expires_at": "2026-11-28T10:30:00.123456Z"}
    assert {type(value) for value in plain.values()} == {str}


def test_how_the_call_went_is_left_out():
    session = attrs.evolve(FULL_SESSION, info=hpp.CallInfo(attempts=3, correlation_id="c-1"))
    assert session.to_dict() == FULL_SESSION.to_dict()


@by_response
def test_nothing_is_shared(response):
    before = copy.deepcopy(response)
    plain = response.to_dict()
    read = type(response).from_dict(plain)

    def spoil(value):
        if isinstance(value, dict):
            for inner in value.values():
                spoil(inner)
            value["spoilt"] = True
        elif isinstance(value, list):
            value.append("spoilt")

    spoil(plain)
    assert response == read == before


def test_a_field_that_a_later_release_knows_is_read():
    # As this release would read what an older one has kept in `extra`.
    assert hpp.SessionDetails.from_dict({"session_id": "s-1", "order_id": "o-1", "x": 1}) == hpp.SessionDetails(
        session_id="s-1", order_id="o-1", extra={"x": 1}
    )


def test_the_session_of_a_callback_can_be_stored():
    body = json.dumps({"event_id": "e-1", "session": json.loads(FULL_DETAILS)}).encode()
    session = callbacks.parse(body).session
    assert session is not None
    assert hpp.SessionDetails.from_dict(session.to_dict()) == session


@pytest.mark.parametrize("kind", [hpp.Session, hpp.SessionDetails])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, "is invalid: it is without session_id (missing)"),
        ({"session_id": ""}, "is invalid: it is without session_id (empty)"),
        ({"session_id": None, "redirect_url": "https://x/?secret=1"}, "without session_id (null or of another type)"),
        ([], "must be a JSON object, got a list"),
        ("secret", "must be a JSON object, got a str"),
        (None, "must be a JSON object, got a NoneType"),
    ],
)
def test_what_is_not_a_stored_response(kind, value, reason):
    with pytest.raises(ValueError, match="a stored") as caught:
        kind.from_dict(value)
    assert reason in str(caught.value)
    assert kind.__name__ in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", [hpp.Session, hpp.SessionDetails])
@given(data=st.data())
@settings(deadline=None)
def test_whatever_was_read_can_be_stored(kind, data):
    names = [name for name in attrs.fields_dict(kind) if name != "info"]
    value = data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=5), JSON, max_size=8))
    value["session_id"] = "s-1"
    response = kind.from_dict(value)
    assert kind.from_dict(json.loads(json.dumps(response.to_dict()))) == response
