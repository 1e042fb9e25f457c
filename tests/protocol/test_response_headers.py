"""Response headers: what they say, and that no value of theirs raises."""

import datetime as dt
import email.utils
import sys
import unicodedata

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

import kustom_hpp as hpp
from kustom_hpp._protocol import response_headers
from kustom_hpp._protocol.response_headers import correlation_id, rate_limit, redirect_origin, retry_after_seconds
from tests.protocol.test_creates import answer, error_of

# -------------------------------------------------------------------------------------------- what an answer asks for


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0), ("1", 1.0), ("30", 30.0), (" 7 ", 7.0), ("007", 7.0), ("999999999", 999999999.0),
        ("1000000000", None), ("9" * 5000, None), ("²³", None), ("٣", None), ("１", None), ("1.5", None), ("-1", None),
        ("+1", None), ("1e3", None), ("nan", None), ("inf", None), ("Infinity", None), ("0x10", None), ("1_0", None),
        ("", None), (" ", None), ("soon", None), ("3, 4", None), ("3;x", None), ("\x00", None), ("1\n2", None),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds(status, text, expected):
    assert retry_after_seconds(answer(status, headers={"Retry-After": text})) == expected


NOW = 1_800_000_000.0
LATER = email.utils.formatdate(NOW + 90, usegmt=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LATER, 90.0),
        (email.utils.formatdate(NOW - 90, usegmt=True), 0.0),
        (email.utils.formatdate(NOW, usegmt=True), 0.0),
        (LATER.replace("GMT", "+0000"), 90.0),
        (LATER.replace("GMT", "+0100"), 0.0),
        (LATER.replace("GMT", "-0100"), 3690.0),
        (LATER.replace(" GMT", ""), None),  # no zone
        (LATER.replace("GMT", "-0000"), None),  # "zone unknown", RFC 5322
        (LATER.replace("GMT", "+9999"), None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", ...),
        ("Mon, 01 Jan 0001 00:00:00 GMT", ...),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 30 Feb 2026 00:00:00 GMT", None),
        ("Fri, 31 Dec " + "9" * 5000 + " 23:59:59 GMT", None),
        ("2026-11-22T00:00:00Z", None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_retry_after_as_a_date(monkeypatch, text, expected):
    monkeypatch.setattr(response_headers.time, "time", lambda: NOW)
    found = retry_after_seconds(answer(503, headers={"Retry-After": text}))
    if expected is ...:  # anything that a clock can say
        assert found is None or found >= 0.0
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (email.utils.formatdate(NOW + 60, usegmt=True), 30.0),  # the server's clock is a minute ahead
        (email.utils.formatdate(NOW + 600, usegmt=True), 0.0),
        ("garbage", 90.0),
        ("", 90.0),
    ],
)
def test_a_date_is_told_by_the_servers_own_clock(monkeypatch, date, expected):
    monkeypatch.setattr(response_headers.time, "time", lambda: NOW)
    assert retry_after_seconds(answer(503, headers={"Retry-After": LATER, "Date": date})) == expected


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"X-RateLimit-Reset": "2"}, 2),
        (429, {"x-ratelimit-reset": " 2 "}, 2),
        (429, {"x-ratelimit-reset": "2", "Retry-After": "5"}, 5.0),
        (429, {"x-ratelimit-reset": "2", "Retry-After": "nonsense"}, 2),
        (429, {"x-ratelimit-reset": "-2"}, None),
        (429, {"x-ratelimit-reset": "9" * 10}, None),
        (429, {}, None),
        (503, {"x-ratelimit-reset": "2"}, None),
        (400, {"Retry-After": "5"}, 5.0),
    ],
)
def test_when_the_quota_starts_anew(status, headers, expected):
    told = answer(status, headers=headers)
    assert retry_after_seconds(told) == expected
    error = error_of(told)
    assert isinstance(error, hpp.ApiError)
    assert error.retry_after == expected


DATES = st.builds(
    "{} {} {} {}:{} {}".format,
    st.sampled_from(["Fri, 31", "1", "Fri,", "31-12"]),
    st.sampled_from(["Dec", "XII", "", "00"]),
    st.integers(-(10**6), 10**6) | st.just("9" * 5000) | st.just("26"),
    st.integers(-99, 999),
    st.text("0123456789:.²", max_size=6),
    st.sampled_from(["GMT", "+0000", "-0000", "+9999", "-2400", "EST", "", "+" + "9" * 30, "(x)", "\x00"]),
)


@given(st.text(max_size=30) | DATES | st.datetimes(timezones=st.just(dt.UTC)).map(email.utils.format_datetime))
@settings(deadline=None, max_examples=500)
def test_any_retry_after_is_a_wait_or_none(text):
    for headers in ({"Retry-After": text}, {"Retry-After": LATER, "Date": text}):
        found = retry_after_seconds(answer(429, headers=headers))
        assert found is None or 0.0 <= found < float("inf")


# ---------------------------------------------------------------------------------------- the quota, the API's own id


def limit_of(**told):
    return hpp.RateLimit(**told)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-ratelimit": "40"}, None),
        (
            {"X-RateLimit-Limit": "40, 40;w=1", "X-RateLimit-Remaining": "39", "X-RateLimit-Reset": "1"},
            limit_of(limit=40, window=1.0, remaining=39, reset=1),
        ),
        ({"x-ratelimit-limit": "40"}, limit_of(limit=40)),
        ({"x-ratelimit-limit": "40;w=60"}, limit_of(limit=40, window=60.0)),
        ({"x-ratelimit-limit": " 40 , 40 ; w=60 ; burst=5"}, limit_of(limit=40, window=60.0)),
        ({"x-ratelimit-limit": "40, 5;w=1, 200;w=60"}, limit_of(limit=40, window=1.0)),
        ({"x-ratelimit-remaining": "0"}, limit_of(remaining=0)),
        ({"x-ratelimit-reset": "0"}, limit_of(reset=0)),
        ({"x-ratelimit-limit": ""}, limit_of()),
        ({"x-ratelimit-limit": "lots"}, limit_of()),
        ({"x-ratelimit-limit": "-40"}, limit_of()),
        ({"x-ratelimit-limit": "²³"}, limit_of()),
        ({"x-ratelimit-limit": "9" * 10}, limit_of()),
        ({"x-ratelimit-limit": "9" * 5000}, limit_of()),
        ({"x-ratelimit-limit": "40;w=" + "9" * 10}, limit_of(limit=40)),
        ({"x-ratelimit-limit": "40;w=x"}, limit_of(limit=40)),
        ({"x-ratelimit-remaining": "9" * 5000, "x-ratelimit-reset": "soon"}, limit_of()),
        ({"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "nan"}, limit_of()),
        ({"x-ratelimit-remaining": "1.5", "x-ratelimit-reset": "٣"}, limit_of()),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_the_quota(headers, expected):
    assert rate_limit(CIMultiDict(headers)) == expected


@given(st.lists(st.text("0123456789²٣,;w= -.e\t", max_size=14), min_size=3, max_size=3))
def test_any_quota_is_numbers_or_none(texts):
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    found = rate_limit(CIMultiDict(zip(names, texts, strict=True)))
    assert found is not None
    for value in attrs.astuple(found):
        assert value is None or 0 <= value < 10**9


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Klarna-Correlation-Id": "c-1"}, "c-1"),
        ({"correlation-id": "c-1"}, "c-1"),
        ({"X-CORRELATION-ID": "c-1"}, "c-1"),
        ({"Correlation-Id-Of-Another": "c-1"}, None),
        ({"X-Correlation-Id": ""}, None),
        ({"X-Correlation-Id": "c\x1b1"}, "c\\x1b1"),
        ({"X-Correlation-Id": "c" * 200}, "c" * 128 + "…"),
    ],
)
def test_the_apis_own_id(headers, expected):
    assert correlation_id(CIMultiDict(headers)) == expected


NAMES = [
    "Retry-After", "Date", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-correlation-id", "Location",
]  # fmt: skip
WHEN = "Fri, 31 Dec 2027 23:59:59 GMT"


def read_all(headers: dict[str, str]) -> None:
    """Read everything that headers can say; a foreign exception fails the test."""
    received = CIMultiDict(headers)
    wait = retry_after_seconds(hpp.HttpResponse(status=429, headers=received))
    assert wait is None or 0.0 <= wait < float("inf")
    rate_limit(received)
    correlation_id(received)
    redirect_origin(received)


def read_one(name: str, value: str) -> None:
    read_all({"Retry-After": WHEN, name: value} if name == "Date" else {name: value})


TEMPLATES = {
    "Retry-After": ["{}5", "5{}", "{}", f"{{}}{WHEN}", WHEN.replace("2027", "2{}27"), WHEN.replace(":59:", ":5{}:")],
    "Date": [f"{{}}{WHEN}", WHEN.replace("2027", "2{}27"), f"{WHEN}{{}}"],
    "x-ratelimit-limit": ["{}40", "40{}", "4{}0, 40;w=1", "40;w={}1", "40;w=1{}"],
    "x-ratelimit-remaining": ["{}5", "5{}"],
    "x-ratelimit-reset": ["{}5", "5{}"],
    "x-correlation-id": ["{}c", "{}"],
    "Location": ["https://{}evil.example/x", "https://evil.example:{}1/x", "{}", "https://evil.example{}"],
}
assert list(TEMPLATES) == NAMES
"""Where a character may stand in a header."""


SPECIAL = (str.isspace, str.isdecimal, str.isdigit, str.isnumeric)
"""What int(), float() and str.strip() may treat in another way than a pattern does."""


@pytest.mark.parametrize("name", NAMES)
def test_no_special_code_point_in_any_header_raises(name):
    characters = map(chr, range(sys.maxunicode + 1))
    for character in [one for one in characters if one < "\u0100" or any(test(one) for test in SPECIAL)]:
        for template in TEMPLATES[name]:
            read_one(name, template.replace("{}", character))


def is_one_of_many(character: str) -> bool:
    """Return True for a code point with thousands of others that int(), a pattern and IDNA treat alike."""
    alike = unicodedata.name(character, "").startswith(("CJK UNIFIED IDEOGRAPH", "HANGUL SYLLABLE"))
    return alike or unicodedata.category(character) in ("Cn", "Co")  # unassigned, private use


@pytest.mark.slow
def test_no_code_point_in_all_headers_at_once_raises():
    characters = (chr(number) for number in range(sys.maxunicode + 1))
    for character in (one for one in characters if not ord(one) % 97 or not is_one_of_many(one)):
        read_all({name: templates[0].replace("{}", character) for name, templates in TEMPLATES.items()})


@given(st.sampled_from(NAMES), st.text(max_size=40) | st.text("0123456789 \t\x1c\x85.,;:=w+-eGMTFriDec", max_size=40))
@settings(deadline=None, max_examples=1000)
def test_no_text_in_any_header_raises(name, value):
    read_one(name, value)


@pytest.mark.parametrize("space", [" ", "\t", " \t "])
def test_only_the_whitespace_of_http_may_surround_a_number(space):
    response = answer(429, headers={"Retry-After": f"{space}5{space}", "x-ratelimit-reset": f"{space}7"})
    assert retry_after_seconds(response) == 5.0
    assert rate_limit(response.headers) == hpp.RateLimit(reset=7)


@pytest.mark.parametrize("character", ["\x1c", "\x1d", "\x1f", "\x85", "\xa0", "\u2003", "\u3000"])
async def test_a_number_in_other_whitespace_does_not_end_a_call(character):
    headers = {"Retry-After": f"{character}5", "x-ratelimit-remaining": f"{character}5"}
    transport = hpp.FakeTransport(hpp.FakeTransport.response(429, b"", headers))
    client = hpp.HPPClient("kco_test_x", transport=transport, retry=hpp.RetrySettings(max_attempts=1))
    with pytest.raises(hpp.RateLimitError) as caught:
        await client.create_session(hpp.CreateSessionRequest(payment_session_url=client.order_url("1")))
    assert caught.value.retry_after is None
