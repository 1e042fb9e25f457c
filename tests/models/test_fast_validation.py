"""The quick look at a request's bytes, held against the thorough one: what it lets pass has no problems."""

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kustom_hpp import BackgroundImage, CreateSessionRequest, MerchantUrls, Options
from kustom_hpp._protocol.codec import codec
from kustom_hpp.models import PaymentMethodCategory, PlaceOrderMode, PurchaseType, ShowSubtotalDetail
from kustom_hpp.models.fast_validation import is_surely_valid
from kustom_hpp.models.fields import MAX_BODY

ORDER = "https://api.kustom.co/checkout/v3/orders/92d97f60-7a78-46a5-8f68-c56fe52dc4af"


def looks_good(request: CreateSessionRequest) -> bool:
    try:
        body = codec().encode_request(request)
    except (TypeError, ValueError, AttributeError):
        return False
    return is_surely_valid(body)


FULL = CreateSessionRequest(
    payment_session_url=ORDER,
    profile_id="a profile",
    merchant_urls=MerchantUrls(
        success="https://shop.example/thanks?hpp={{session_id}}&a=%20#part",
        cancel="",
        back="http://shop.example",
        failure="https://shop.example:8443/f",
        error="https://shop.example?x=/?{{order_id}}",
        status_update="https://shop.example/status?secret=s3cret",
    ),
    options=Options(
        background_images=[
            BackgroundImage(url="https://cdn.example/a.jpg", width=1280),
            BackgroundImage(url="https://b"),
        ],
        logo_url="https://cdn.example/logo.png",
        page_title="Complete your purchase, it's  safe",
        payment_method_categories=list(PaymentMethodCategory),
        place_order_mode=PlaceOrderMode.NONE,
        purchase_type=PurchaseType.CONTINUE,
        show_subtotal_detail=ShowSubtotalDetail.HIDE,
    ),
)


@pytest.mark.parametrize(
    "request_",
    [
        FULL,
        CreateSessionRequest(payment_session_url=ORDER),
        CreateSessionRequest(payment_session_url=ORDER, merchant_urls=MerchantUrls(), options=Options()),
        CreateSessionRequest(
            payment_session_url=ORDER, options=Options(payment_method_category=PaymentMethodCategory.KLARNA)
        ),
        CreateSessionRequest(payment_session_url=ORDER, options=Options(purchase_type="BUY")),
    ],
    ids=["full", "minimal", "empty parts", "one category", "enum value as text"],
)
def test_an_ordinary_request_needs_no_second_look(request_):
    assert request_.problems() == ()
    assert looks_good(request_)


# Each is a value for one place of a request: good ones, odd ones and everything that the thorough look refuses.
URLS = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "",
            ORDER,
            "https://a",
            "http://a/b",
            "HTTPS://a",
            "https://",
            "https:///a",
            "https://?",
            "https://a b",
            "ftp://a",
            "https://a/ b",
            "https://a/<b>",
            "https://a/b^",
            "https://a/`",
            "https://a/\\b",
            "https://{a}/",
            "https://a{{x}}/",
            "https://a/%7B%7Bx%7D%7D",
            "https://a/{%7bx",
            "https://a/%7Bx",
            "https://a/%20",
            "https://a/{}",
            "https://a/{session_id}",
            "https://a/%7Bsession_id%7D",
            "https://a/{{x}",
            "https://a/{{x}}{y}",
            "myshop://paid",
            "http://shop/x",
            "http://10.0.0.1/",
            "https://a/\x7f",
            "https://a/\n",
            "https://a/é",
            "https://é/",
            "https://a/\u2028",
            "https://a/\ud800",
            'https://a/"b',
            "//a/b",
            "/a",
            "a",
            5,
            True,
            b"x",
            ["https://a"],
            "http://127.0.0.1:80/x",
            "http://localhost/x",
            "https://u:p@a/",
        ]
    ),
    st.text(max_size=12).map("https://a/".__add__),
    st.text(max_size=12).map("https://".__add__),
    st.text(max_size=8),
)
TEXTS = st.one_of(st.none(), st.text(max_size=10), st.sampled_from(["", "two words", "\ud800", 7, ["x"]]))


def enums(kind: type[StrEnum]) -> st.SearchStrategy[object]:
    return st.one_of(st.none(), st.sampled_from([*kind, *map(str, kind), "buy", "", 1, ["BUY"]]))


IMAGES = st.one_of(
    st.builds(
        BackgroundImage,
        url=URLS,
        width=st.one_of(st.none(), st.integers(), st.sampled_from([True, 1.5, "1280", -1, 1 << 63])),
        extra=st.sampled_from([{}, {"alt": "x"}]),
    ),
    st.sampled_from(["x", None, {"url": "https://a"}]),
)
LISTS_OF_CATEGORIES = st.one_of(
    st.none(), st.lists(enums(PaymentMethodCategory), max_size=3), st.sampled_from(["KLARNA", 3, {"KLARNA"}])
)
OPTIONS = st.one_of(
    st.none(),
    st.builds(
        Options,
        background_images=st.one_of(st.none(), st.lists(IMAGES, max_size=2), st.sampled_from(["x", 1])),
        logo_url=URLS,
        page_title=TEXTS,
        payment_method_categories=LISTS_OF_CATEGORIES,
        payment_method_category=enums(PaymentMethodCategory),
        place_order_mode=enums(PlaceOrderMode),
        purchase_type=enums(PurchaseType),
        show_subtotal_detail=enums(ShowSubtotalDetail),
        extra=st.sampled_from([{}, {"newer": 1}, {"page_title": "x"}, {"bad": float("nan")}]),
    ),
    st.sampled_from([{}, {"page_title": "x"}, "x", MerchantUrls()]),
)
MERCHANT_URLS = st.one_of(
    st.none(),
    st.builds(MerchantUrls, success=URLS, cancel=URLS, back=URLS, failure=URLS, error=URLS, status_update=URLS),
    st.sampled_from([{}, Options(), 3]),
)


@given(
    st.builds(
        CreateSessionRequest, payment_session_url=URLS, profile_id=TEXTS, merchant_urls=MERCHANT_URLS, options=OPTIONS
    )
)
def test_what_looks_good_has_no_problems(request_):
    if looks_good(request_):
        assert request_.problems() == ()


@given(st.sampled_from(["success", "status_update"]), URLS)
def test_one_url_at_a_time(name, url):
    request_ = CreateSessionRequest(payment_session_url=ORDER, merchant_urls=MerchantUrls(**{name: url}))
    if looks_good(request_):
        assert request_.problems() == ()


def test_a_body_over_the_limit_gets_the_thorough_look():
    fits = CreateSessionRequest(payment_session_url=ORDER, options=Options(page_title="x" * (MAX_BODY - 200)))
    over = CreateSessionRequest(payment_session_url=ORDER, options=Options(page_title="x" * MAX_BODY))
    assert looks_good(fits)
    assert not looks_good(over)
    assert [path for path, _ in over.problems()] == ["$"]


@pytest.mark.parametrize(
    "request_",
    [
        CreateSessionRequest(payment_session_url=ORDER, options=Options(extra={"page_title": "x"})),
        CreateSessionRequest(payment_session_url=ORDER, merchant_urls=MerchantUrls(extra={"success": "https://a"})),
        CreateSessionRequest(payment_session_url=ORDER, extra={"profile_id": "x"}),
    ],
    ids=["options", "merchant_urls", "request"],
)
def test_a_known_field_in_extra_gets_the_thorough_look(request_):
    assert len(request_.problems()) == 1
    assert not looks_good(request_)


def test_the_check_can_fail():
    request_ = CreateSessionRequest(payment_session_url="https://a b", profile_id="one blank")
    assert request_.problems() != ()
    assert not looks_good(request_)
