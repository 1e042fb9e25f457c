"""Status callbacks: any bytes come to a StatusUpdate or to a CallbackError, with either JSON library."""

import copy
import hmac
import json
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kustom_hpp as hpp
from kustom_hpp import callbacks
from kustom_hpp.callbacks import StatusUpdate, check_secret, parse
from tests.fuzz_callbacks import CORPUS, check, mutated, readers
from tests.support.golden import FULL_DETAILS, FULL_SESSION_DETAILS, MINIMAL_DETAILS, SESSION_ID
from tests.support.leaks import leaks, told_by

EVENT = "cd6f2a8e-31f4-4f0e-9d5b-2f6f0a7b1c55"
MINIMAL = hpp.SessionDetails(session_id=SESSION_ID)
READ_THE_SESSION = StatusUpdate()
BOM = b"\xef\xbb\xbf"


def body(session: bytes = MINIMAL_DETAILS, event: str = f'"{EVENT}"') -> bytes:
    return b'{"event_id":%s,"session":%s}' % (event.encode(), session)


@pytest.fixture(params=readers(), ids=lambda reader: reader[0])
def codec(request, monkeypatch):
    """Each JSON library in turn."""
    monkeypatch.setattr(callbacks, "codec", request.param[1])
    return request.param[0]


@pytest.mark.parametrize(
    ("told", "update"),
    [
        (body(FULL_DETAILS), StatusUpdate(event_id=EVENT, session=FULL_SESSION_DETAILS)),
        (body(), StatusUpdate(event_id=EVENT, session=MINIMAL)),
        (BOM + body(), StatusUpdate(event_id=EVENT, session=MINIMAL)),
        (b" \r\n\t" + body() + b"\n", StatusUpdate(event_id=EVENT, session=MINIMAL)),
        (bytearray(body()), StatusUpdate(event_id=EVENT, session=MINIMAL)),
        (b'{"session":%s}' % MINIMAL_DETAILS, StatusUpdate(session=MINIMAL)),
        (
            b'{"new":[1,{"a":null}],"session":{"session_id":"s","status":"TIMEOUT","newer":1}}',
            StatusUpdate(
                session=hpp.SessionDetails(session_id="s", status="TIMEOUT", extra={"newer": 1}),
                extra={"new": [1, {"a": None}]},
            ),
        ),
        # Something changed, read the session.
        (b"", READ_THE_SESSION),
        (b" \r\n", READ_THE_SESSION),
        (b"{}", READ_THE_SESSION),
        (b"null", READ_THE_SESSION),
        (b'{"event_id":null,"session":null}', READ_THE_SESSION),
        (b'{"event_id":"%s"}' % EVENT.encode(), StatusUpdate(event_id=EVENT)),
        (b'{"event_id":"%s","session":null}' % EVENT.encode(), StatusUpdate(event_id=EVENT)),
        # A session that does not say which one it is, or is none.
        (body(b"{}"), StatusUpdate(event_id=EVENT, extra={"session": {}})),
        (body(b'{"session_id":""}'), StatusUpdate(event_id=EVENT, extra={"session": {"session_id": ""}})),
        (body(b'{"session_id":7}'), StatusUpdate(event_id=EVENT, extra={"session": {"session_id": 7}})),
        (body(b'{"status":"COMPLETED"}'), StatusUpdate(event_id=EVENT, extra={"session": {"status": "COMPLETED"}})),
        (body(b'"COMPLETED"'), StatusUpdate(event_id=EVENT, extra={"session": "COMPLETED"})),
        (body(b"[]"), StatusUpdate(event_id=EVENT, extra={"session": []})),
        (body(b"0"), StatusUpdate(event_id=EVENT, extra={"session": 0})),
        # An event_id that no index should be built on.
        (body(event="7"), StatusUpdate(session=MINIMAL, extra={"event_id": 7})),
        (body(event='""'), StatusUpdate(session=MINIMAL, extra={"event_id": ""})),
        (body(event='"a\\u0000b"'), StatusUpdate(session=MINIMAL, extra={"event_id": "a\0b"})),
        (body(event='["x"]'), StatusUpdate(session=MINIMAL, extra={"event_id": ["x"]})),
        (body(event="false"), StatusUpdate(session=MINIMAL, extra={"event_id": False})),
        # Twice the same name: the last one holds, as in every answer.
        (b'{"event_id":"a","event_id":"b","session":{"session_id":"x","session_id":"y"}}',
         StatusUpdate(event_id="b", session=hpp.SessionDetails(session_id="y"))),
        # Known fields of another type.
        (body(b'{"session_id":"s","status":5,"updated_at":1557759291,"order_id":null,"customer":[]}'),
         StatusUpdate(event_id=EVENT, session=hpp.SessionDetails(
             session_id="s", extra={"status": 5, "updated_at": 1557759291, "customer": []}))),
        # A whole pair of surrogates is a character.
        (b'{"event_id":"\\uD83D\\uDE00"}', StatusUpdate(event_id="\U0001f600")),
        (b'{"a":%s}' % (b"[" * 31 + b"]" * 31), StatusUpdate(extra={"a": json.loads("[" * 31 + "]" * 31)})),
        (b'{"a":[%s]}' % b",".join([b"[]"] * 100), StatusUpdate(extra={"a": [[]] * 100})),
    ],
)  # fmt: skip
def test_what_is_an_update(codec, told, update):
    assert parse(told) == update


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (b"[]", "is not a JSON object but a list"),
        (b'"null"', "is not a JSON object but a str"),
        (b"0", "is not a JSON object but a int"),
        (b"false", "is not a JSON object but a bool"),
        (b"garbage", "is not JSON at character 0"),
        (b"checkout_uri=https%3A%2F%2Fshop.example", "is not JSON at character 0"),
        (b'{"event_id":"x"', "is not JSON at character"),
        (b"{'event_id':'x'}", "is not JSON at character 1"),
        (b'{"event_id":"x"}{}', "is not JSON at character 16"),
        (b'{"event_id":"a\nb"}', "is not JSON at character"),
        (b'{"event_id":NaN}', "is not JSON"),
        (b'{"event_id":"\xff"}', "is not UTF-8 at byte 13|is not JSON at character"),
        ('{"event_id":"x"}'.encode("utf-16"), "is not UTF-8 at byte 0|is not JSON at character 0"),
        (BOM, "is not JSON at character 0"),
        (b"[" * 30_000, "is not JSON"),
        (b"[" * 30_000 + b"]" * 30_000, "is not JSON|is nested deeper than 32 levels"),
        (b'{"a":%s}' % (b"[" * 32 + b"]" * 32), "is nested deeper than 32 levels"),
        (b'{"a":%s1%s}' % (b'{"a":' * 40, b"}" * 40), "is nested deeper than 32 levels"),
        (b'{"event_id":"\\ud83d"}', "is not Unicode: it holds half of a surrogate pair|is not JSON at character"),
        (
            b'{"session":{"session_id":"s","status":"\\uDE00"}}',
            "is not Unicode: it holds half of a surrogate pair|is not JSON at character",
        ),
        (b" " * 65_537, "has 65537 bytes, more than 65536"),
        ("{}", "must be bytes as received, got a str"),
        (None, "must be bytes as received, got a NoneType"),
    ],
)
def test_what_is_none(codec, told, why):
    with pytest.raises(hpp.CallbackError, match=f"^the callback's body ({why})") as caught:
        parse(told)
    assert (caught.value.delivery, caught.value.attempts) == (None, 0)


def test_the_cap_is_the_callers():
    told = body()
    assert parse(told, max_size=len(told)).event_id == EVENT
    with pytest.raises(hpp.CallbackError, match=f"has {len(told)} bytes, more than {len(told) - 1}"):
        parse(told, max_size=len(told) - 1)
    assert parse(b" " * 65_536) == READ_THE_SESSION


def test_an_update_is_a_value_that_shows_no_secret():
    update = parse(b'{"event_id":"e","session":%s,"new":"topsecret"}' % FULL_DETAILS)
    assert pickle.loads(pickle.dumps(update)) == update
    assert copy.deepcopy(update) == update
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        update.event_id = "other"
    shown = repr(update)
    for secret in ("topsecret", "7a0b6a1f-0f7e-4f0c-b5b7-2f8d57c5f6a1", "19710314-0000", "Alva"):
        assert secret.encode() in FULL_DETAILS or secret == "topsecret"
        assert secret not in shown
    assert EVENT in repr(parse(body()))


@pytest.mark.parametrize("told", [b'{"secret":"topsecret"', b'"topsecret"', b'["topsecret"]', b'{"topsecret\xff":1}'])
def test_an_error_shows_nothing_of_the_body(codec, told):
    with pytest.raises(hpp.CallbackError) as caught:
        parse(told)
    error = caught.value
    assert (error.__cause__, error.__context__) == (None, None)
    assert "topsecret" not in str(error) + repr(vars(error))
    assert leaks(told_by(error), ["topsecret"]) == []


# ----------------------------------------------------------------------------------------------------------- any bytes


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["s", "COMPLETED", "2019-05-13"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text() | st.sampled_from(["event_id", "session", "session_id", "status", "customer"]), inner
        )
    ),
    max_leaves=30,
)


@given(told=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(told=b"")
def test_any_bytes_and_any_json(told):
    check(told)


@given(seed=st.integers(0, 2**32 - 1))
def test_any_mutated_body(seed):
    check(mutated(seed))


@pytest.mark.parametrize("told", CORPUS, ids=lambda told: repr(told[:40]))
def test_the_bodies_that_are_mutated(told):
    check(told)


def test_a_body_that_breaks_the_promise_is_seen(monkeypatch):
    def broken(told: bytes, **_: Any) -> StatusUpdate:
        raise KeyError(told)

    monkeypatch.setattr(callbacks, "parse", broken)
    with pytest.raises(AssertionError, match="KeyError"):
        check(b"{}")


# ---------------------------------------------------------------------------------------------------------- the secret


@pytest.mark.parametrize(
    ("given", "expected", "good"),
    [
        ("s3cret", "s3cret", True),
        (b"s3cret", "s3cret", True),
        ("s3cret", b"s3cret", True),
        (bytearray(b"s3cret"), bytearray(b"s3cret"), True),
        ("näh", "näh", True),
        ("näh", "näh".encode(), True),
        ("\udce4", "\udce4", True),
        ("s3cre", "s3cret", False),
        ("s3crets", "s3cret", False),
        ("S3cret", "s3cret", False),
        ("s3cret ", "s3cret", False),
        ("", "s3cret", False),
        (b"", "s3cret", False),
        (None, "s3cret", False),
        (0, "s3cret", False),
        (["s3cret"], "s3cret", False),
        (True, "True", False),
        ("na\u0308h", "näh", False),
        ("\udce4", "ä", False),
    ],
)
def test_the_secret(given, expected, good):
    assert check_secret(given, expected) is good


@pytest.mark.parametrize(
    ("expected", "what"),
    [("", "an empty str"), (b"", "an empty bytes"), (None, "a NoneType"), (5, "a int"), (["s"], "a list")],
)
@pytest.mark.parametrize("given", ["", None, "s", b""])
def test_nothing_to_expect_is_refused_loudly(given, expected, what):
    with pytest.raises(hpp.ConfigError, match=f"expected must be the session's secret, got {what}"):
        check_secret(given, expected)


@given(given=st.none() | st.text() | st.binary() | st.integers(), expected=st.text(min_size=1) | st.binary(min_size=1))
def test_any_secret(given, expected):
    as_bytes = [each.encode(errors="surrogatepass") if isinstance(each, str) else each for each in (given, expected)]
    assert check_secret(given, expected) is (as_bytes[0] == as_bytes[1])


@pytest.mark.parametrize("given", ["s3cret", "x", "näh", b"\xff"])
def test_the_comparison_is_the_constant_time_one_over_all_bytes(monkeypatch, given):
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *both: compared.append(both) or False)
    assert check_secret(given, "s3cret") is False
    assert compared == [(given.encode() if isinstance(given, str) else given, b"s3cret")]
