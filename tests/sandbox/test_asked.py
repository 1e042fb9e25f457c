"""What a create asks for: the quick judgement is the model's, whatever the JSON looks like."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kustom_hpp._protocol.codec import codec
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.sandbox.endpoints.request_rules import Asked, read
from tests.test_codec import REQUESTS, relaxed

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/1"
FULL = {
    "payment_session_url": ORDER,
    "profile_id": "a profile",
    "merchant_urls": {"success": "https://shop.example/?hpp={{session_id}}", "status_update": "https://shop.example/s"},
    "options": {"page_title": "Two words", "purchase_type": "BUY", "payment_method_categories": ["KLARNA"]},
}


def judged(body: bytes, judge: Any) -> CreateSessionRequest | tuple[tuple[str, str], ...]:
    """The request, or its problems."""
    try:
        found = judge(body)
    except InvalidRequestError as error:
        return error.problems
    assert not isinstance(found, Asked) or found.payment_session_url == found.request.payment_session_url
    return found.request if isinstance(found, Asked) else found


def same(body: bytes) -> None:
    assert judged(body, read) == judged(body, codec().decode_request)


@given(REQUESTS, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:")]), st.booleans())
@relaxed
def test_of_our_own_requests_in_any_layout(request_, separators, ascii_only):
    same(json.dumps(codec().to_plain(request_), separators=separators, ensure_ascii=ascii_only).encode())


# Pieces of JSON that make good and bad requests, with fields in any order and more than once.
URLS = [
    '"https://a/b"',
    '"https://a/ b"',
    '""',
    "null",
    "5",
    '"http://a"',
    '"https://a/%7B%7Bx"',
    '"https:\\/\\/a"',
    '"ä"',
]
TEXTS = ['"x"', '"two words"', '""', "null", "[]", '"\\u0041"']
CATEGORY = '"payment_method_category":"KLARNA"'
PIECES = {
    "merchant_urls": [f'"{name}":{url}' for name in ("success", "status_update") for url in URLS],
    "options": [
        *(f'"page_title":{text}' for text in TEXTS),
        *(f'"logo_url":{url}' for url in URLS),
        CATEGORY,
        '"payment_method_categories":["KLARNA","PAY_NOW"]',
        '"payment_method_categories":null',
        '"purchase_type":"buy"',
        '"background_images":[{"url":"https://a","width":1280.0}]',
        '"background_images":[{"url":"https://a","width":1}]',
        '"newer":" "',
    ],
}


def an_object(name: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(PIECES[name]), max_size=4).map(lambda found: "{" + ",".join(found) + "}")


@given(
    st.lists(
        st.one_of(
            st.sampled_from([f'"payment_session_url":{url}' for url in URLS]),
            st.sampled_from([f'"profile_id":{text}' for text in TEXTS]),
            an_object("merchant_urls").map('"merchant_urls":'.__add__),
            an_object("options").map('"options":'.__add__),
            st.sampled_from(['"options":[]', '"merchant_urls":null', '"newer":{"a":[1]}']),
        ),
        max_size=6,
    ),
    st.booleans(),
)
@example([f'"options":{{{CATEGORY},"payment_method_categories":["KLARNA"]}}'], True)
@example([f'"options":{{"payment_method_categories":["KLARNA"],{CATEGORY}}}'], True)
@example(['"options":{"page_title":"a b","page_title":"x","logo_url":"https://a/ b"}'], True)
@relaxed
def test_of_anybody_s(pieces, begins_well):
    first = ['"payment_session_url":"https://a"'] if begins_well else []
    same(("{" + ",".join([*first, *pieces]) + "}").encode())


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff", b"\xef\xbb\xbf" + json.dumps(FULL).encode(), b"[" * 100_000,
     b'{"payment_session_url":"https://a","newer":' + b"[" * 800 + b"]" * 800 + b"}",
     json.dumps(FULL | {"x": "a" * 999_000}).encode(), json.dumps(FULL | {"x": "a" * 1_000_001}).encode()],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_of_what_is_hardly_json(body):
    same(body)


@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_good_beyond_doubt_is_not_read_into_its_model(indent):
    asked = read(json.dumps(FULL, indent=indent).encode())
    assert isinstance(asked._request, bytes)
    assert asked.request is asked.request
    assert asked.request == codec().request_from(FULL)
