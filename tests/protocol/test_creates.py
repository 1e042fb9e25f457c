"""The sans-I/O middle: requests to the byte, and whatever an answer may be, a value or one of our errors."""

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
from kustom_hpp import config
from kustom_hpp._protocol.operations import CREATE_SESSION
from kustom_hpp._protocol.request_builder import CallInput, RequestDefaults, build_request
from kustom_hpp._protocol.response_headers import correlation_id, rate_limit
from kustom_hpp._protocol.response_reader import attach_call_info, read_response
from kustom_hpp._redaction import Secret
from tests.support.golden import FULL_ANSWER, FULL_BODY, FULL_REQUEST, FULL_SESSION, MINIMAL_BODY, MINIMAL_REQUEST
from tests.test_config import KEY, LIVE_KEY, build
from tests.test_errors import expected_for, facts

AGENT = config.user_agent("aiohttp/3.14.5", None)


def request_for(request=MINIMAL_REQUEST, deadline=None, **changes) -> hpp.HttpRequest:
    return build_request(RequestDefaults(build(**changes)), CallInput(CREATE_SESSION, None, request), deadline)


def answer(status=201, body=b"", headers=(), **more) -> hpp.HttpResponse:
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    return hpp.HttpResponse(status=status, headers=CIMultiDict(headers), body=written, **more)


def read(told: hpp.HttpResponse, request=MINIMAL_REQUEST, **changes):
    return read_response(build(**changes), CallInput(CREATE_SESSION, None, request), told)


def error_of(told: hpp.HttpResponse, request=MINIMAL_REQUEST, **changes) -> hpp.HPPError:
    with pytest.raises(hpp.HPPError) as caught:
        read(told, request, **changes)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value


# ----------------------------------------------------------------------------------------------------------- building


@pytest.mark.parametrize(("request_", "body"), [(MINIMAL_REQUEST, MINIMAL_BODY), (FULL_REQUEST, FULL_BODY)])
def test_the_request(request_, body):
    made = request_for(request_, 12.5, timeouts=hpp.Timeouts(connect=1, read=2))
    assert (made.method, str(made.url), made.body) == (
        "POST", "https://api.playground.kustom.co/hpp/v1/sessions", body,
    )  # fmt: skip
    assert (made.connect_timeout, made.read_timeout, made.deadline) == (1, 2, 12.5)
    # In this order, and nothing else: Host before and Content-Length after come from the transport.
    assert list(made.headers.items()) == [
        ("Authorization", f"Basic {KEY}"),
        ("User-Agent", AGENT),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/json"),
    ]


def test_more_headers_come_last():
    made = request_for(headers={"Kustom-Partner": "PG000651"})
    assert list(made.headers.items())[5:] == [("Kustom-Partner", "PG000651")]
    assert made.deadline is None


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://sandbox.example", "https://sandbox.example/hpp/v1/sessions"),
        ("https://sandbox.example/", "https://sandbox.example/hpp/v1/sessions"),
        ("https://gateway.example/kustom", "https://gateway.example/kustom/hpp/v1/sessions"),
        ("http://[::1]:8080", "http://[::1]:8080/hpp/v1/sessions"),
    ],
)
def test_the_path_below_a_base_url(base_url, expected):
    assert str(request_for(base_url=base_url).url) == expected


@pytest.mark.parametrize("request_", [None, {}, {"payment_session_url": "https://a/"}, "text", hpp.MerchantUrls()])
def test_no_request_at_all(request_):
    with pytest.raises(hpp.InvalidRequestError) as caught:
        request_for(request_)
    assert caught.value.problems == (("$", f"must be a CreateSessionRequest, got a {type(request_).__name__}"),)


def test_every_problem_of_a_request():
    wrong = hpp.CreateSessionRequest(payment_session_url="", profile_id=5)
    with pytest.raises(hpp.InvalidRequestError) as caught:
        request_for(wrong)
    assert caught.value.problems == wrong.problems()
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("url", "settings_", "refused"),
    [
        ("https://api.kustom.co/checkout/v3/orders/1", {}, True),
        ("https://api.playground.kustom.co/checkout/v3/orders/1", {}, False),
        ("https://api.playground.kustom.co/checkout/v3/orders/1", {"api_key": LIVE_KEY}, True),
        ("https://api.kustom.co/checkout/v3/orders/1", {"api_key": LIVE_KEY}, False),
        ("https://API.Kustom.CO:443/checkout/v3/orders/1", {}, True),
        ("https://user@api.kustom.co/checkout/v3/orders/1", {}, True),
        ("https://api-na.kustom.co/checkout/v3/orders/1", {}, True),
        ("https://api.klarna.com/payments/v1/sessions/1", {}, True),
        ("https://api-na.playground.klarna.com/payments/v1/sessions/1", {"api_key": LIVE_KEY}, True),
        ("https://api-na.playground.klarna.com/payments/v1/sessions/1", {}, False),
        # Hosts that are not the API's own are not judged, nor is anything with an explicit base_url.
        ("https://sandbox.example/checkout/v3/orders/1", {}, False),
        ("https://api.kustom.co.evil.example/checkout/v3/orders/1", {}, False),
        ("https://pay.kustom.co/x", {}, False),
        ("https://api.kustom.co/checkout/v3/orders/1", {"base_url": "http://localhost"}, False),
        ("https://api.kustom.co/checkout/v3/orders/1", {"base_url": "https://api.playground.kustom.co"}, False),
    ],
)
def test_a_payment_session_of_the_other_environment(url, settings_, refused):
    request = hpp.CreateSessionRequest(payment_session_url=url)
    if not refused:
        assert request_for(request, **settings_).body is not None
        return
    with pytest.raises(hpp.InvalidRequestError) as caught:
        request_for(request, **settings_)
    ((path, sentence),) = caught.value.problems
    assert path == "payment_session_url"
    assert sentence.startswith("is of playground, but" if "playground" in url else "is of live, but")


# ---------------------------------------------------------------------------------------------------- reading a value


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
def test_every_2xx_is_a_success(status):
    assert read(answer(status, FULL_ANSWER)) == FULL_SESSION


API = "https://api.playground.kustom.co/hpp/v1/sessions"


@pytest.mark.parametrize(
    ("body", "session_id"),
    [
        ({"session_id": "s-1"}, "s-1"),
        ({"session_id": "s-1", "redirect_url": None, "session_url": f"{API}/s-2"}, "s-1"),
        ({"session_url": f"{API}/s-1"}, "s-1"),
        ({"session_url": f"{API}/s-1/"}, "s-1"),
        ({"session_url": f"{API}/s-1?x=/sessions/s-2"}, "s-1"),
        ({"session_id": None, "distribution_url": f"{API}/s-1/distribution"}, "s-1"),
        ({"session_id": "", "session_url": 5, "distribution_url": f"{API}/s-1/distribution?a=b"}, "s-1"),
        ({"session_id": 5, "session_url": "https://gateway.example/kustom/hpp/v2/sessions/s-1"}, "s-1"),
        ({"session_url": "x", "distribution_url": f"{API}/s-1/distribution"}, "s-1"),
        ({"session_url": f"{API}/.."}, None),
        ({"session_url": f"{API}/a/b"}, None),
        ({"session_url": API}, None),
        ({"session_url": f"{API}/"}, None),
        ({"session_url": f"{API}/{'x' * 65}"}, None),
        ({"session_url": "https://evil.example/?/sessions/s-1"}, None),
        ({"redirect_url": "https://pay.example/s-1"}, None),
        ({}, None),
    ],
)
def test_only_a_response_that_identifies_no_session_is_unreadable(body, session_id):
    if session_id is None:
        assert type(error_of(answer(201, body))) is hpp.DecodeError
        return
    session = read(answer(201, body))
    assert (session.session_id, session.redirect_url) == (session_id, None)
    with pytest.raises(ValueError, match="the session has no payment page") as caught:
        _ = session.payment_page
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (answer(201, b""), "its body is empty"),
        (answer(204, b""), "its body is empty"),
        (answer(201, b"<html>"), "its body is not JSON at character 0"),
        (answer(201, []), "its body is not a JSON object but a list"),
        (answer(201, {}), "its body is without session_id (missing)"),
        (answer(201, FULL_ANSWER, body_error="cut off"), "its body is incomplete: cut off"),
        (answer(201, FULL_ANSWER[:90], body_error="cut off", timed_out=True), "its body is incomplete: cut off"),
    ],
)
def test_a_2xx_that_cannot_be_read(told, why):
    told = attrs.evolve(told, headers=CIMultiDict({"x-correlation-id": "c-1"}))
    error = error_of(told)
    assert type(error) is hpp.DecodeError
    assert str(error) == (
        f"create_session returned {told.status}, but {why}: the session exists. Do not retry; create a new order and session"
    )
    assert error.delivery is hpp.Delivery.ACCEPTED
    assert (error.status, error.body, error.correlation_id, error.cause) == (
        told.status,
        told.body,
        "c-1",
        told.body_error,
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"session_id":"s-1"}', "s-1"),
        (b'{"a":1, "session_id" : "9f8d3c1e-52b7", "redirect_u', "9f8d3c1e-52b7"),
        (b'{"session_id":"s-1', None),  # perhaps only half of it
        (b'{"session_id":5}', None),
        (b'{"session_id":"../other"}', None),
        (b'{"session_id":"' + b"x" * 65 + b'"}', None),
        (b"", None),
    ],
)
def test_the_session_id_that_is_left(body, expected):
    assert error_of(answer(201, body, body_error="cut off")).session_id == expected


# --------------------------------------------------------------------------------------------------- reading an error


@pytest.mark.parametrize("status", [0, *range(100, 200), *range(300, 600), 600, 999])
def test_every_status(status):
    kind, delivery = expected_for(status) if 100 <= status < 600 else (hpp.UnexpectedStatusError, hpp.Delivery.UNKNOWN)
    error = error_of(answer(status, {"error_code": "X"}))
    assert type(error) is kind
    assert (error.delivery, error.status) == (delivery, status)
    assert isinstance(error, hpp.OutcomeUnknownError) is delivery.may_have_taken_effect
    assert str(error).startswith(f"create_session returned {status} X")


@pytest.mark.parametrize(
    ("body", "code", "messages", "identity"),
    [
        (
            {"error_code": "BAD_VALUE", "error_messages": ["Bad value: a", "b"], "correlation_id": "c-1"},
            "BAD_VALUE",
            ("Bad value: a", "b"),
            "c-1",
        ),
        ({"error_code": "X", "error_message": "one", "service_version": 5}, "X", ("one",), "from-header"),
        ({"internal_message": "old", "http_status_code": 400}, None, ("old",), "from-header"),
        ({"error_message": "a", "internal_message": "b"}, None, ("a", "b"), "from-header"),
        ({"error_messages": ["a", 5, None, {"b": 1}, "c"]}, None, ("a", "c"), "from-header"),
        ({"error_messages": "not a list", "error_message": "x"}, None, ("x",), "from-header"),
        ({"error_messages": [], "error_message": "ignored"}, None, (), "from-header"),
        ({"error_code": 5, "error_messages": {}, "correlation_id": 7}, None, (), "from-header"),
        ({"error_code": None, "error_messages": None, "correlation_id": None}, None, (), "from-header"),
        ({"correlation_id": ""}, None, (), "from-header"),
        ({}, None, (), "from-header"),
        ([], None, (), "from-header"),
        ("text", None, (), "from-header"),
        (None, None, (), "from-header"),
        (b"", None, (), "from-header"),
        (b"<html>Bad Gateway</html>", None, (), "from-header"),
        (b"\xff\xfe", None, (), "from-header"),
        (b"[" * 200_000, None, (), "from-header"),
        (b'\xef\xbb\xbf{"error_code":"BOM"}', "BOM", (), "from-header"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_error_bodies_of_any_shape(body, code, messages, identity):
    error = error_of(answer(400, body, {"Klarna-Correlation-Id": "from-header"}))
    assert isinstance(error, hpp.BadRequestError)
    assert (error.code, error.messages, error.correlation_id) == (code, messages, identity)
    assert error.body == (body if isinstance(body, bytes) else json.dumps(body).encode())[:65536]


def test_the_text_of_an_error():
    body = {"error_code": "BAD_VALUE", "error_messages": ["a", "b"], "correlation_id": "c-1"}
    assert str(error_of(answer(400, body))) == ("create_session returned 400 BAD_VALUE: a; b (correlation id c-1)")
    assert str(error_of(answer(500))) == "create_session returned 500"


def test_a_text_has_an_end():
    body = {
        "error_code": "X" * 999,
        "error_messages": [f"m{n}" + "y" * 550 for n in range(99)],
        "correlation_id": "z" * 999,
    }
    error = error_of(answer(400, body))
    assert isinstance(error, hpp.ApiError)
    assert error.code == "X" * 128 + "…"
    assert error.correlation_id == "z" * 128 + "…"
    assert len(error.messages) == 50
    assert {len(message) for message in error.messages} == {513}
    assert str(error).count("…;") == 5
    assert len(str(error)) < 5 * 520 + 400


def test_a_body_has_an_end():
    assert len(error_of(answer(400, b"x" * 10**6)).body) == 65536
    assert len(error_of(answer(201, b"x" * 10**6)).body) == 65536


def test_a_server_cannot_write_into_a_log():
    body = {"error_code": "X\r\nY", "error_messages": ["\x1b[2J\nERROR forged"], "correlation_id": "c\n1"}
    error = error_of(answer(400, body))
    assert isinstance(error, hpp.ApiError)
    assert (error.code, error.messages, error.correlation_id) == ("X\\r\\nY", ("\\x1b[2J\\nERROR forged",), "c\\n1")
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("settings_", "where"),
    [
        ({}, "api.playground.kustom.co (playground)"),
        ({"api_key": LIVE_KEY}, "api.kustom.co (live)"),
        ({"base_url": "https://gateway.example/x"}, "gateway.example"),
    ],
)
def test_a_401_names_the_place_and_not_the_key(settings_, where):
    text = str(error_of(answer(401), **settings_))
    assert text.endswith(f". {where} rejected the credentials. Check key, username and environment")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://evil.example/path?secret=1", "https://evil.example"),
        ("https://user:pass@evil.example:8443/x", "https://evil.example:8443"),
        ("/hpp/v2/sessions?secret=1", "a path on the same host"),
        ("//evil.example/x", "a path on the same host"),
        ("https://[::1", "a path on the same host"),
        ("", None),
        (None, None),
    ],
)
def test_a_redirect_names_the_host_that_it_leads_to(status, location, shown):
    text = str(error_of(answer(status, headers={"Location": location} if location is not None else {})))
    assert text == f"create_session returned {status}" + (
        f". It redirects to {shown}; the client does not follow redirects" if shown else ""
    )


@pytest.mark.parametrize(
    "told", [answer(429, {"error_code": "X"}, {"Retry-After": "3"}), answer(201, b"{}"), answer(502)]
)
def test_errors_of_answers_travel(told):
    error = error_of(told, FULL_REQUEST)
    assert facts(pickle.loads(pickle.dumps(error))) == facts(error)
    assert facts(copy.deepcopy(error)) == facts(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.binary(max_size=80) | st.one_of(
    JSON,
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["error_code", "error_messages", "error_message", "internal_message", "correlation_id", "session_id"], JSON
        ),
    ),
).map(lambda value: json.dumps(value).encode())
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Retry-After", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-correlation-id", "Date",
         "Location"]
    ),
    st.text(max_size=20),
)  # fmt: skip


@given(st.integers(100, 599), BODIES, HEADERS, st.sampled_from([None, "cut off"]))
@settings(deadline=None)
def test_any_answer_is_a_value_or_one_of_our_errors(status, body, headers, broken):
    told = answer(status, body, headers, body_error=broken)
    try:
        assert isinstance(read(told), hpp.Session)
    except hpp.HPPError as error:
        assert (error.delivery in {hpp.Delivery.UNKNOWN, hpp.Delivery.ACCEPTED}) is isinstance(  # noqa: PT017
            error, hpp.OutcomeUnknownError
        )
        str(error).encode()
        assert facts(pickle.loads(pickle.dumps(error))) == facts(error)  # noqa: PT017
    rate_limit(told.headers)
    correlation_id(told.headers)


# ------------------------------------------------------------------------------------------------ secrets of our own

RANDOM = st.text(string.ascii_letters + string.digits, min_size=32, max_size=32)
ODD = st.sampled_from(["", "/", "+/=", '"', "\\", "ü", "/\\/", "<&>", "'"])


def php(text: str) -> str:
    """As many servers write JSON: ASCII only, and slashes escaped."""
    return json.dumps(text).replace("/", "\\/")


ECHOES = {
    "plain": lambda text: text,
    "json": json.dumps,
    "php": php,
    "utf-8 json": lambda text: json.dumps(text, ensure_ascii=False),
}


@given(secret=RANDOM, odd=ODD, how=st.sampled_from([*ECHOES]), status=st.sampled_from([201, 302, 400, 401, 500]))
@settings(deadline=None)
@pytest.mark.parametrize("place", ["api_key", "password", "base64", "proxy", "header", "query", "status_update"])
def test_what_a_server_echoes_is_not_passed_on(place, secret, odd, how, status):
    value = secret + odd + secret[:4]
    changes: dict[str, object] = {}
    request, echoed = MINIMAL_REQUEST, value
    match place:
        case "api_key":
            value = echoed = value.encode("ascii", "ignore").decode()
            changes = {"api_key": value}
        case "password":
            changes = {"api_key": None, "username": "K1", "password": value}
        case "base64":
            changes = {"api_key": None, "username": "K1", "password": value}
            echoed = str(build(**changes).authorization)
        case "proxy":
            changes = {"proxy": str(URL.build(scheme="http", user="u", password=value, host="proxy.example", port=1))}
        case "header":
            value = echoed = value.encode("ascii", "ignore").decode()
            changes = {"headers": {"X-Token": value}}
        case "query" | "status_update":
            value = echoed = value.translate({ord(char): None for char in '"\\<>'}).replace("&", "")
            url = f"https://shop.example/?a=b&s={value}&hpp={{{{session_id}}}}"
            name = "success" if place == "query" else "status_update"
            request = attrs.evolve(MINIMAL_REQUEST, merchant_urls=hpp.MerchantUrls(**{name: url}))
    write = ECHOES[how]
    text = f'you sent "{echoed}"'
    body = write(text).encode() if how == "plain" else (
        f'{{"error_code":{write(echoed)},"error_messages":[{write(text)}],"correlation_id":{write(echoed)}}}'.encode()
    )  # fmt: skip
    error = error_of(
        answer(status, body, {"x-correlation-id": echoed if echoed.isprintable() else ""}), request, **changes
    )
    told = str(error) + repr(error) + repr(vars(error)) + pickle.dumps(error).decode("latin-1")
    assert secret not in told
    assert echoed.removeprefix("Basic ")[:40] not in told


def test_what_is_left_of_an_echo():
    error = error_of(answer(400, {"error_messages": [f"bad key {KEY}"]}))
    assert str(error) == "create_session returned 400: bad key ***"
    assert isinstance(error, hpp.ApiError)
    assert error.body == b'{"error_messages": ["bad key ***"]}'


def test_a_placeholder_is_no_secret():
    body = {"error_messages": ["unknown {{session_id}}"]}
    request = attrs.evolve(
        MINIMAL_REQUEST, merchant_urls=hpp.MerchantUrls(back="https://shop.example/?x={{session_id}}")
    )
    assert "unknown {{session_id}}" in str(error_of(answer(400, body), request))


def test_how_the_call_went_is_set_in_place():
    session = hpp.Session(session_id="s", redirect_url="r")
    info = hpp.CallInfo(attempts=2)
    assert attach_call_info(session, info) is session
    assert session.info is info


def test_no_request_shows_the_key():
    defaults, made = RequestDefaults(build()), request_for()
    assert KEY not in repr(defaults) + repr(vars(defaults)) + repr(made)
    assert isinstance(made.headers["Authorization"], Secret)


@pytest.mark.parametrize("url", ["http://shop:8080/x", "http://10.0.0.1/x", "http://my_shop/x", "http://a.internal/x"])
def test_callbacks_to_private_hosts_need_insecure_http(url):
    request = hpp.CreateSessionRequest(
        payment_session_url=MINIMAL_REQUEST.payment_session_url, merchant_urls=hpp.MerchantUrls(status_update=url)
    )
    with pytest.raises(hpp.InvalidRequestError, match="status_update: is http to a private host") as caught:
        request_for(request)
    assert [path for path, _ in caught.value.problems] == ["merchant_urls.status_update"]
    assert url.encode() in request_for(request, insecure_http=True).body
