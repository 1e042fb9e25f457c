"""Requests about a session that exists: where they go, what they carry, and what an answer may be."""

import copy
import json
import pickle
import string

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp._protocol.operations import DISABLE_SESSION, DISTRIBUTE_SESSION, OPERATIONS, READ_SESSION
from kustom_hpp._protocol.request_builder import CallInput, RequestDefaults, SessionRef, build_request, session_ref
from kustom_hpp._protocol.response_reader import NoContent, read_response
from tests.support.golden import DISTRIBUTIONS, FULL_DETAILS, FULL_SESSION, FULL_SESSION_DETAILS, SESSION_ID
from tests.test_config import KEY, build
from tests.test_errors import expected_for, facts

EMAIL = hpp.EmailDistribution(email="alva@shop.example")
BASE = "https://api.playground.kustom.co"
ON_SESSIONS = OPERATIONS[1:]
by_operation = pytest.mark.parametrize("operation", ON_SESSIONS, ids=lambda row: row.name)


def request_for(operation):
    return EMAIL if operation is DISTRIBUTE_SESSION else None


def call_of(operation, session, body) -> CallInput:
    return CallInput(operation, session_ref(operation, session), body)


def url_of(session, operation=READ_SESSION, **changes) -> str:
    call = call_of(operation, session, request_for(operation))
    return str(build_request(RequestDefaults(build(**changes)), call).url)


def with_urls(url: str | None, session_id: str = "s-1") -> hpp.Session:
    return hpp.Session(session_id=session_id, redirect_url="x", session_url=url, distribution_url=url)


# ----------------------------------------------------------------------------------------------------------- building


@pytest.mark.parametrize(
    ("operation", "path"),
    [(READ_SESSION, ""), (DISABLE_SESSION, ""), (DISTRIBUTE_SESSION, "/distribution")],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize(
    "session",
    [
        SESSION_ID,
        FULL_SESSION,
        FULL_SESSION_DETAILS,
        hpp.Session(session_id=SESSION_ID, redirect_url="x"),
        hpp.SessionDetails(session_id=SESSION_ID),
    ],
    ids=["id", "session", "details", "session without URLs", "details without anything"],
)
def test_a_session_by_any_name(operation, path, session):
    assert url_of(session, operation) == f"{BASE}/hpp/v1/sessions/{SESSION_ID}{path}"


@by_operation
def test_the_request(operation):
    defaults = RequestDefaults(build(timeouts=hpp.Timeouts(connect=1, read=2)))
    made = build_request(defaults, call_of(operation, SESSION_ID, request_for(operation)), 12.5)
    assert made.method == {"read_session": "GET", "disable_session": "DELETE"}.get(operation.name, "POST")
    assert (made.connect_timeout, made.read_timeout, made.deadline) == (1, 2, 12.5)
    assert made.unknown_outcome_advice == operation.unknown_outcome_advice
    assert made.headers is defaults.headers  # the very same: that is what costs nothing
    assert made.body == (DISTRIBUTIONS[0][1] if operation is DISTRIBUTE_SESSION else None)


@pytest.mark.parametrize(("request_", "body"), DISTRIBUTIONS)
def test_what_is_distributed(request_, body):
    call = call_of(DISTRIBUTE_SESSION, SESSION_ID, request_)
    assert build_request(RequestDefaults(build()), call).body == body


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://sandbox.example/", "https://sandbox.example/hpp/v1/sessions/s-1"),
        ("https://gateway.example/kustom", "https://gateway.example/kustom/hpp/v1/sessions/s-1"),
        ("http://[::1]:8080", "http://[::1]:8080/hpp/v1/sessions/s-1"),
    ],
)
def test_the_path_below_a_base_url(base_url, expected):
    assert url_of("s-1", base_url=base_url) == expected


FOLLOWED = [
    # base URL, the URL that came with the session, where the request goes
    (BASE, f"{BASE}/hpp/v2/anything/s-1", f"{BASE}/hpp/v2/anything/s-1"),
    (BASE, f"{BASE}:443/hpp/v2/s-1", f"{BASE}/hpp/v2/s-1"),
    (BASE, "HTTPS://API.PLAYGROUND.KUSTOM.CO/hpp/v2/S-1", f"{BASE}/hpp/v2/S-1"),
    (BASE, f"{BASE}/hpp/v2/s-1?region=eu&x=%7Ba%7D#part", f"{BASE}/hpp/v2/s-1?region=eu&x=%7Ba%7D"),
    (BASE, f"{BASE}/a%2Fb/..b/.c/x?a=/../x", f"{BASE}/a%2Fb/..b/.c/x?a=/../x"),
    ("http://127.0.0.1:8080", "http://127.0.0.1:8080/s", "http://127.0.0.1:8080/s"),
    ("http://[::1]:8080", "http://[::1]:8080/s", "http://[::1]:8080/s"),
    ("https://gateway.example/kustom", "https://gateway.example/kustom/a", "https://gateway.example/kustom/a"),
    ("https://gateway.example/a/b/", "https://gateway.example/a/b/?c=d", "https://gateway.example/a/b/?c=d"),
]


@by_operation
@pytest.mark.parametrize(("base_url", "url", "expected"), FOLLOWED)
def test_a_returned_url_on_our_own_origin_is_followed(operation, base_url, url, expected):
    assert url_of(with_urls(url), operation, base_url=base_url) == expected


NOT_FOLLOWED = [
    None, "", "x", "/hpp/v2/s-1", "//api.playground.kustom.co/x", BASE, f"{BASE}?x", f"{BASE}#/x",
    "http://api.playground.kustom.co/x", "ftp://api.playground.kustom.co/x",
    "https://api.kustom.co/x", "https://api.playground.kustom.co.evil.example/x", "https://evil.example/x",
    "https://evil.example/?https://api.playground.kustom.co/x", "https://evil.example#@api.playground.kustom.co/x",
    "https://api.playground.kustom.co@evil.example/x", "https://api.playground.kustom.co:443@evil.example/x",
    "https://user@api.playground.kustom.co/x", "https://u:p@api.playground.kustom.co/x",
    "https://:@api.playground.kustom.co/x", "https://@api.playground.kustom.co/x",
    "https://api.playground.kustom.co:8443/x", "https://api.playground.kustom.co:80/x",
    "https://api.playground.kustom.co:/x ", "https://api.playground.kustom.co:x/x", "https://api.playground.kustom.co:99999/x",
    "https://api.playground.kustom.co./x", "https://api.playground.kustom.co%2e/x",
    "https://api.playground.kustom.co;x/x", "https://api.playground.kustom.co\\.evil.example/x",
    "https://api.playground.kustom.co\n.evil.example/x", "https://api.playground.kustom.co\t/x ",
    "https://api.playground.kustom.co/x\r\nX-Evil: 1", "https://api.playground.kustom.co/x HTTP/1.1",
    "https://api.playground.kustom.co/\x00", "https://api.playground.kustom.co/ö", "https://api.playground.kustom.co/{{x}}",
    'https://api.playground.kustom.co/"', "https://api.playground.kustom.co/\\x", "https://[::1/x", "https:///x",
]  # fmt: skip


@by_operation
@pytest.mark.parametrize("url", NOT_FOLLOWED)
def test_any_other_returned_url_is_data(operation, url):
    expected = f"{BASE}{operation.path.replace('{session_id}', 's-1')}"
    assert url_of(with_urls(url), operation) == expected


@by_operation
@pytest.mark.parametrize(
    "path",
    [
        # An API that does not know of the gateway's path builds its links without it: another application answers there.
        "/hpp/v1/sessions/s-1", "/", "/kustom", "/kustom?x", "/kustomer/x", "/Kustom/x", "//kustom/x", "/other/kustom/x",
        "/kustom/../x", "/kustom/..", "/kustom/./x", "/kustom/a/.?x", "/kustom/%2e%2e/x", "/kustom/.%2E/x", "/kustom/..%2fx",
        "/kustom/a%2f..%2f..%2fx", "/kustom/..;/x", "/kustom/..;a=b/x", "/kustom/%2e%2e%3b/x", "/kustom/%2E",
    ],
)  # fmt: skip
def test_a_returned_url_above_the_base_urls_path_is_data(operation, path):
    base = "https://gateway.example/kustom"
    expected = f"{base}{operation.path.replace('{session_id}', 's-1')}"
    assert url_of(with_urls(f"https://gateway.example{path}"), operation, base_url=base) == expected
    if "/." in path or "%2" in path:
        assert url_of(with_urls(f"{BASE}{path}"), operation) == f"{BASE}{expected.removeprefix(base)}"


@given(st.text(max_size=40) | st.builds("{}{}".format, st.just(BASE), st.text(max_size=20)))
@settings(deadline=None)
def test_credentials_go_to_our_own_origin_alone(url):
    made = URL(url_of(with_urls(url)))
    assert made.origin() == URL(BASE)
    assert str(made).isascii()
    assert not set(str(made)) & set(string.whitespace)


BAD_IDS = [
    "", ".", "..", "...", "a/b", "../x", "a?b", "a#b", "a b", "a\n", "\na", "ä", "a%2f", "%2e%2e", "{{x}}", "a;b", "a\\b",
    "x" * 129, f"{BASE}/hpp/v1/sessions/s-1", "\ud800",
]  # fmt: skip


@by_operation
@pytest.mark.parametrize("bad", BAD_IDS)
def test_ids_that_are_none(operation, bad):
    for session in (bad, hpp.SessionDetails(session_id=bad), with_urls("https://evil.example/", bad)):
        with pytest.raises(hpp.InvalidRequestError) as caught:
            url_of(session, operation)
        ((path, sentence),) = caught.value.problems
        assert path == "session"
        assert sentence.startswith("must be the id alone (letters, digits, '-', '_', '.' and '~'), got text of ")
        assert caught.value.delivery is None


def test_an_odd_id_does_not_matter_where_there_is_a_url():
    assert url_of(with_urls(f"{BASE}/hpp/v2/x", "a/b")) == f"{BASE}/hpp/v2/x"


@by_operation
@pytest.mark.parametrize(
    ("bad", "shape"),
    [
        (None, "null"),
        (5, "a number"),
        (b"s-1", "a bytes"),
        (EMAIL, "a EmailDistribution"),
        ({}, "an object of 0 fields"),
    ],
)
def test_what_is_no_session_at_all(operation, bad, shape):
    with pytest.raises(hpp.InvalidRequestError) as caught:
        url_of(bad, operation)
    ((path, sentence),) = caught.value.problems
    assert (path, sentence) == ("session", f"must be a Session, SessionDetails or an id as text, got {shape}")


@pytest.mark.parametrize("bad", [None, {}, "alva@shop.example", {"method": "email"}, hpp.MerchantUrls()])
def test_what_is_no_distribution_at_all(bad):
    with pytest.raises(hpp.InvalidRequestError) as caught:
        build_request(RequestDefaults(build()), call_of(DISTRIBUTE_SESSION, "s-1", bad))
    wrong = f"must be an EmailDistribution, SmsDistribution or TokenDistribution, got a {type(bad).__name__}"
    assert caught.value.problems == (("$", wrong),)


def test_every_problem_of_a_distribution():
    wrong = hpp.SmsDistribution(phone="call me", phone_country="se")
    with pytest.raises(hpp.InvalidRequestError) as caught:
        build_request(RequestDefaults(build()), call_of(DISTRIBUTE_SESSION, "s-1", wrong))
    assert caught.value.problems == wrong.problems()
    assert len(caught.value.problems) == 2


# ------------------------------------------------------------------------------------------------------------ reading


def answer(status=200, body=b"", headers=(), **more) -> hpp.HttpResponse:
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    return hpp.HttpResponse(status=status, headers=CIMultiDict(headers), body=written, **more)


def read(told, operation=READ_SESSION, session=SESSION_ID, request=None, **changes):
    return read_response(build(**changes), call_of(operation, session, request or request_for(operation)), told)


def error_of(told, operation=READ_SESSION, **more) -> hpp.HPPError:
    with pytest.raises(hpp.HPPError) as caught:
        read(told, operation, **more)
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_every_2xx_is_a_success(status):
    assert read(answer(status, FULL_DETAILS)) == FULL_SESSION_DETAILS


@pytest.mark.parametrize("operation", [DISABLE_SESSION, DISTRIBUTE_SESSION], ids=lambda row: row.name)
@pytest.mark.parametrize("status", [200, 201, 202, 204, 205, 299])
@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"\xff", b'{"session_id":5}', FULL_DETAILS])
def test_where_there_is_nothing_to_read_every_2xx_is_good_whatever_its_body(operation, status, body):
    assert read(answer(status, body), operation) == NoContent()
    assert read(answer(status, body, body_error="cut off", timed_out=True), operation) == NoContent()


@pytest.mark.parametrize("raw", ["{}", '{"session_id":null}', '{"session_id":""}', '{"status":"WAITING"}'])
def test_an_answer_need_not_say_which_session_was_asked_for(raw):
    read_ = read(answer(200, raw.encode()))
    assert read_.session_id == SESSION_ID
    assert read_.status == json.loads(raw).get("status")


def test_the_case_of_an_id_does_not_matter():
    assert read(answer(200, FULL_DETAILS), session=SESSION_ID.upper()).session_id == SESSION_ID


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (answer(200, b""), "its body is empty"),
        (answer(200, b"<html>"), "its body is not JSON at character 0"),
        (answer(200, []), "its body is not a JSON object but a list"),
        (answer(200, {"session_id": 5}), "its body is without session_id (null or of another type)"),
        (answer(200, {"session_id": "another"}), "it is about another session than the requested one"),
        (answer(200, FULL_DETAILS, body_error="cut off"), "its body is incomplete: cut off"),
    ],
)
def test_a_2xx_that_cannot_be_read(told, why):
    error = error_of(attrs.evolve(told, headers=CIMultiDict({"x-correlation-id": "c-1"})))
    assert type(error) is hpp.DecodeError
    assert str(error) == (f"read_session returned 200, but {why}: a read changes nothing. Read it again")
    assert error.delivery is hpp.Delivery.ACCEPTED
    # Its body may have the consumer's personal data in it.
    assert (error.status, error.body, error.correlation_id, error.cause) == (200, b"", "c-1", told.body_error)


@by_operation
@pytest.mark.parametrize("status", [*range(100, 200), *range(300, 600)])
def test_every_status(operation, status):
    kind, delivery = expected_for(status)
    error = error_of(answer(status, {"error_code": "X"}), operation)
    assert type(error) is kind
    assert (error.delivery, error.status, error.code) == (delivery, status, "X")
    assert str(error).startswith(f"{operation.name} returned {status} X")
    assert "Do not retry" not in str(error)
    assert "new order" not in str(error)


@pytest.mark.parametrize(
    ("operation", "status", "meaning"),
    [
        (READ_SESSION, 404, "The session has expired, or these credentials have no such session"),
        (DISABLE_SESSION, 404, "The session has expired, or these credentials have no such session"),
        (DISABLE_SESSION, 400, "A completed session cannot be disabled"),
        (
            DISTRIBUTE_SESSION,
            404,
            "The session has expired, or these credentials have no such session, or the access id is unk",
        ),
    ],
)
def test_what_the_documents_say_about_a_status(operation, status, meaning):
    assert f"returned {status}. {meaning}" in str(error_of(answer(status), operation))
    assert meaning not in str(error_of(answer(409), operation))


DISTRIBUTION_CODES = [
    "UNKNOWN",
    "MISSING_CONTACT_DATA",
    "CONSTRAINT_VIOLATION",
    "UNSUPPORTED_COUNTRY",
    "BLACKLISTED",
    "NEWER",
]


@pytest.mark.parametrize("code", DISTRIBUTION_CODES)
def test_the_codes_of_a_distribution_are_an_open_set(code):
    error = error_of(answer(400, {"error_code": code, "error_messages": ["why"]}), DISTRIBUTE_SESSION)
    assert isinstance(error, hpp.BadRequestError)
    assert (error.code, error.messages) == (code, ("why",))


@pytest.mark.parametrize(
    "told", [answer(429, {"error_code": "X"}, {"Retry-After": "3"}), answer(200, b"x"), answer(502)]
)
def test_errors_of_answers_travel(told):
    error = error_of(told)
    assert facts(pickle.loads(pickle.dumps(error))) == facts(error)
    assert facts(copy.deepcopy(error)) == facts(error)


RANDOM = st.text(string.ascii_letters + string.digits, min_size=32, max_size=32)
DIGITS = st.text("123456789", min_size=12, max_size=12)


@given(RANDOM, DIGITS, st.sampled_from([201, 302, 400, 401, 500]), st.sampled_from(["email", "sms", "token", "more"]))
@settings(deadline=None)
def test_a_contact_that_a_server_echoes_is_not_passed_on(secret, digits, status, method):
    request = {
        "email": hpp.EmailDistribution(email=f"{secret}@shop.example"),
        "sms": hpp.SmsDistribution(phone=f"0{digits[:3]}-{digits[3:]}", phone_country="SE"),
        "token": hpp.TokenDistribution(access_id=f'app:"{secret}"'),
        "more": hpp.TokenDistribution(access_id=secret, extra={"contact_information": {"email": f"{secret}@x"}}),
    }[method]
    sent = build_request(RequestDefaults(build()), call_of(DISTRIBUTE_SESSION, "s-1", request)).body
    assert sent is not None
    echoed = [*json.loads(sent)["contact_information"].values(), f"+46{digits}"]
    body = {"error_code": echoed[0], "error_messages": [f"no good: {text}" for text in echoed], "correlation_id": KEY}
    for written in (json.dumps(body).encode(), sent + json.dumps(body).encode()):
        if status < 300:
            continue
        error = error_of(answer(status, written, {"x-correlation-id": echoed[0]}), DISTRIBUTE_SESSION, request=request)
        told = str(error) + repr(error) + repr(vars(error)) + pickle.dumps(error).decode("latin-1")
        hidden = digits if method == "sms" else secret
        assert hidden not in told
        assert KEY not in told


ADDRESS = "Alva.Ek@Shop.Example"


@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.casefold, str.swapcase, str.title])
@pytest.mark.parametrize("address", [ADDRESS, "Änne.Öst@Shop.Example"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_contact_that_a_server_normalises_is_not_passed_on(address, spelling, ascii_only):
    told = spelling(address)
    body = {"error_code": "CONSTRAINT_VIOLATION", "error_messages": [f"no {told}"], "at": {"to": told}}
    written = answer(400, json.dumps(body, ensure_ascii=ascii_only).encode(), {"x-correlation-id": told})
    error = error_of(written, DISTRIBUTE_SESSION, request=hpp.EmailDistribution(email=address))
    assert error.code == "CONSTRAINT_VIOLATION"
    assert error.messages == ("no ***",)
    assert error.correlation_id == "***"
    shown = str(error) + repr(vars(error))
    assert address.partition("@")[0][1:].lower() not in shown.lower()
    assert json.loads(error.body)["at"] == {"to": "***"}


def test_what_hides_nothing_leaves_a_body_as_it_came():
    raw = b'{"error_code":"X","a":"\xff\xfe","b":"\xed\xa0\x80","c":"\xc3\xa4"}'
    error = error_of(answer(400, raw), DISTRIBUTE_SESSION, request=hpp.EmailDistribution(email=ADDRESS))
    assert error.body == raw


LINK_SECRET = "f00dfeed0123"


@by_operation
@pytest.mark.parametrize(
    ("query", "echo"),
    [
        (f"token={LINK_SECRET}", f"token={LINK_SECRET}"),
        (f"region=eu&token={LINK_SECRET}#part", LINK_SECRET),
        (f"token=%20{LINK_SECRET[:6]}%20{LINK_SECRET[6:]}", f" {LINK_SECRET[:6]} {LINK_SECRET[6:]}"),
        (f"a=b#{LINK_SECRET}", LINK_SECRET),
        ("t=f00d", "?t=f00d"),
    ],
)
@pytest.mark.parametrize("status", [400, 404, 500])
def test_the_query_of_a_returned_url_is_not_passed_on(operation, query, echo, status):
    session = with_urls(f"{BASE}/hpp/v1/sessions/s-1?{query}")
    body = {"error_code": "X", "error_messages": [f"nothing at /hpp/v1/sessions/s-1?{query}, {echo}"], "echo": echo}
    error = error_of(answer(status, body, {"x-correlation-id": echo}), operation, session=session)
    told = str(error) + repr(vars(error)) + pickle.dumps(error).decode("latin-1")
    assert "f00d" not in told
    assert error.code == "X"
    assert "nothing at /hpp/v1/sessions/s-1" in str(error)


def test_the_user_in_a_returned_url_is_not_passed_on():
    session = with_urls(f"https://anyone:{LINK_SECRET}@evil.example/x?y")
    error = error_of(answer(400, {"error_messages": [f"who is anyone:{LINK_SECRET}, {LINK_SECRET}?"]}), session=session)
    assert error.messages == ("who is ***, ***?",)


def test_the_repr_of_a_call_shows_no_secret():
    call = CallInput(READ_SESSION, SessionRef(session_id="s-1", url=f"{BASE}/x?secret=1"), EMAIL)
    assert EMAIL.email not in repr(call)
    assert "secret" not in repr(call)
