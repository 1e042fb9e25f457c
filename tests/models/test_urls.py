"""A secret in the query of a URL: everything else stays byte for byte."""

import re
import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp.models.urls import ANY_LINK, ANY_URL, HTTPS_URL, canonical_order_url, check_url

SECRET = "s3cr3t-_.~0123456789"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example", "https://shop.example?secret={}"),
        ("https://shop.example/", "https://shop.example/?secret={}"),
        ("https://shop.example/status", "https://shop.example/status?secret={}"),
        ("https://shop.example/status?", "https://shop.example/status?secret={}"),
        ("https://shop.example/?a=b", "https://shop.example/?a=b&secret={}"),
        ("https://shop.example/?a=b&", "https://shop.example/?a=b&secret={}"),
        ("https://shop.example/#f?x", "https://shop.example/?secret={}#f?x"),
        ("https://shop.example/?a#f", "https://shop.example/?a&secret={}#f"),
        ("https://shop.example/?#", "https://shop.example/?secret={}#"),
        (
            "https://shop.example/{{order_id}}?hpp={{session_id}}#{{session_id}}",
            "https://shop.example/{{order_id}}?hpp={{session_id}}&secret={}#{{session_id}}",
        ),
        ("https://u:p@öl.example:8443/ö?ü=%C3%BC+%20", "https://u:p@öl.example:8443/ö?ü=%C3%BC+%20&secret={}"),
        ("http://127.0.0.1:8080/x?secrets=1", "http://127.0.0.1:8080/x?secrets=1&secret={}"),
        ("https://shop.example/?x=secret", "https://shop.example/?x=secret&secret={}"),
    ],
)
def test_a_secret_in_a_url(url, expected):
    made = hpp.with_secret(url, SECRET)
    assert made == expected.replace("{}", SECRET) if "{}" in expected else expected
    query = urllib.parse.urlsplit(made).query
    assert dict(urllib.parse.parse_qsl(query))["secret"] == SECRET
    assert (
        hpp.CreateSessionRequest(
            payment_session_url=url, merchant_urls=hpp.MerchantUrls(success=made, status_update=made)
        ).problems()
        == ()
    )


def test_under_another_name():
    assert (
        hpp.with_secret("https://shop.example/?secret=1", SECRET, "t") == f"https://shop.example/?secret=1&t={SECRET}"
    )
    assert hpp.with_secret("https://shop.example/", SECRET, name="a-b_c.~1").endswith(f"?a-b_c.~1={SECRET}")


@given(
    st.from_regex(
        r"https://[a-z]{1,5}(/([a-z%]|\{\{[a-z]\}\}){0,5})?(\?([a-z=&+]|\{\{[a-z]\}\}){0,9})?(#[a-z?]{0,5})?",
        fullmatch=True,
    )
)
def test_all_else_stays(url):
    before, own, after = hpp.with_secret(url, SECRET, "nobody_has_it").partition(f"nobody_has_it={SECRET}")
    assert own
    assert before[-1] in "?&"
    assert url in {before + after, before[:-1] + after}


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (None, "url must be text, got null"),
        ("", "url must be an absolute http(s) URL without blanks"),
        ("shop.example/x", "url must be an absolute http(s) URL without blanks"),
        ("/x", "url must be an absolute http(s) URL without blanks"),
        ("ftp://shop.example/", "url must be an absolute http(s) URL without blanks"),
        ("https://shop.example/ x", "url must be an absolute http(s) URL without blanks"),
        ("https://shop.example/?a=%7B%7Bsession_id%7D%7D", "url has percent-encoded braces"),
        ("https://shop.example/?a={session_id}", "url has a placeholder in single braces"),
        (URL("https://shop.example/"), "url must be text, got a URL: build it as text"),
        ("https://shop.example/?secret=1", "url has a parameter named secret already: use another name for the secret"),
        ("https://shop.example/?a=1&secret", "url has a parameter named secret already"),
        ("https://shop.example/?%73ecret=1#x", "url has a parameter named secret already"),
    ],
)
def test_urls_that_take_no_secret(url, sentence):
    with pytest.raises(hpp.ConfigError) as caught:
        hpp.with_secret(url, SECRET)
    assert str(caught.value).startswith(sentence)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "secret",
    [
        None, "", "short", "x" * 15, "x" * 15 + "&", "x" * 16 + "=", "x" * 20 + " ", "{{session_id}}xxxx", "ö" * 20,
        10**20, b"x" * 20,
    ],
)  # fmt: skip
def test_secrets_that_are_none(secret):
    with pytest.raises(hpp.ConfigError, match=r"^secret must be at least 16 letters") as caught:
        hpp.with_secret("https://shop.example/", secret)
    if secret:
        assert str(secret) not in str(caught.value)


@pytest.mark.parametrize("name", [None, "", "a b", "a=b", "a&b", "{{x}}", "ö", 5])
def test_names_that_are_none(name):
    with pytest.raises(hpp.ConfigError, match=r"^name must be letters"):
        hpp.with_secret("https://shop.example/", SECRET, name)


def test_all_that_is_wrong_at_once():
    with pytest.raises(hpp.ConfigError, match=r"^url must be text.*; secret must be.*; name must be"):
        hpp.with_secret(None, None, "")


UUID = "92d97f60-7a78-46a5-8f68-c56fe52dc4af"
ORDER = f"https://api.kustom.co/checkout/v3/orders/{UUID}"


@pytest.mark.parametrize(
    "url",
    [
        ORDER, f"{ORDER}/", f"{ORDER}//", f"{ORDER}?x=1", f"{ORDER}/?x=/y", f"{ORDER}#part", f"{ORDER}?#", ORDER.upper(),
        f"HTTPS://API.Kustom.co/checkout/v3/orders/{UUID}", f"https://api.kustom.co/checkout/v3/orders/{UUID.upper()}/",
        f"https://api.kustom.co/Checkout/V3/Orders/{UUID}",
    ],
)  # fmt: skip
def test_spellings_of_one_order(url):
    assert canonical_order_url(url) == ORDER


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ORDER, f"https://api.playground.kustom.co/checkout/v3/orders/{UUID}"),
        (ORDER, f"http://api.kustom.co/checkout/v3/orders/{UUID}"),
        (ORDER, f"https://api.kustom.co:8443/checkout/v3/orders/{UUID}"),
        (ORDER, f"{ORDER[:-1]}e"),
        (f"{ORDER[:-36]}aB", f"{ORDER[:-36]}ab"),  # of an id that is not a UUID, the case may count
        (f"https://g.example/a{ORDER[21:]}", f"https://g.example/b{ORDER[21:]}"),
    ],
)
def test_different_orders(one, other):
    assert None is not canonical_order_url(one) != canonical_order_url(other) is not None


@pytest.mark.parametrize(
    "url",
    [
        None, 5, "", "x", f"https://api.klarna.com/payments/v1/sessions/{UUID}", "https://api.kustom.co/checkout/v3/orders/",
        "https://api.kustom.co/checkout/v3/orders", f"https://api.kustom.co/?next=/checkout/v3/orders/{UUID}",
        f"{ORDER}/lines", f"ftp://api.kustom.co/checkout/v3/orders/{UUID}",
    ],
)  # fmt: skip
def test_what_is_not_an_order(url):
    assert canonical_order_url(url) is None


@pytest.mark.parametrize(
    ("pattern", "rules"),
    [
        (ANY_URL, {}),
        (HTTPS_URL, {"https": "so it is"}),
        (ANY_LINK, {"app_link": True}),
    ],
    ids=["any URL", "https", "any link"],
)
def test_a_url_that_the_schema_allows_has_no_problems(pattern, rules):
    @given(st.from_regex(pattern, fullmatch=True))
    @example("http://\x0b@localhost")
    @example("http://<a>@127.0.0.1:80/x")
    @example("http://{a}@shop")
    def allowed(url):
        if re.fullmatch(pattern, url):
            problems = []
            check_url(problems, "url", url, **rules)
            assert problems == []

    allowed()
