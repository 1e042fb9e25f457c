"""Requests and answers as values: the card's spelling, what is wrong (all at once, never a value), what is odd."""

import copy
import functools
import pickle
import string

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp._protocol.codec import codec
from kustom_hpp.models.fields import MAX_BODY
from kustom_hpp.models.requests import private_http_problems, secrets_in_request
from tests.support.golden import (
    DISTRIBUTIONS,
    FULL_REQUEST,
    FULL_SESSION,
    FULL_SESSION_DETAILS,
    MINIMAL_REQUEST,
    ORDER_URL,
)

KP_URL = "https://api.kustom.co/payments/v1/sessions/92d97f60"


def request(**fields):
    return hpp.CreateSessionRequest(**{"payment_session_url": ORDER_URL, **fields})


def with_url(name="success", url="https://shop.example/"):
    return request(merchant_urls=hpp.MerchantUrls(**{name: url}))


def with_option(**options):
    return request(options=hpp.Options(**options))


# ------------------------------------------------------------------------------------------------- the card's spelling

FIELDS = {
    hpp.CreateSessionRequest: ["payment_session_url", "profile_id", "merchant_urls", "options"],
    hpp.MerchantUrls: ["success", "cancel", "back", "failure", "error", "status_update"],
    hpp.Options: [
        "background_images", "logo_url", "page_title", "payment_method_categories", "payment_method_category",
        "place_order_mode", "purchase_type", "show_subtotal_detail",
    ],
    hpp.BackgroundImage: ["url", "width"],
    hpp.Session: [
        "session_id", "redirect_url", "session_url", "distribution_url", "qr_code_url",
        "manual_identification_check_url", "expires_at", "distribution_module",
    ],
    hpp.DistributionModule: ["token", "standalone_url", "generation_url"],
    hpp.SessionDetails: [
        "session_id", "status", "updated_at", "expires_at", "authorization_token", "order_id", "klarna_reference",
        "customer", "manual_identification",
    ],
    hpp.Customer: ["date_of_birth", "family_name", "given_name", "national_identification_number", "title"],
    hpp.ManualIdentification: ["challenge", "customer", "customer_obfuscated", "expires_at"],
    hpp.EmailDistribution: ["email", "template"],
    hpp.SmsDistribution: ["phone", "phone_country", "template"],
    hpp.TokenDistribution: ["access_id", "template"],
}  # fmt: skip
REQUIRED = {
    hpp.CreateSessionRequest: ["payment_session_url"],
    hpp.BackgroundImage: ["url"],
    hpp.Session: ["session_id"],
    hpp.SessionDetails: ["session_id"],
    hpp.EmailDistribution: ["email"],
    hpp.SmsDistribution: ["phone", "phone_country"],
    hpp.TokenDistribution: ["access_id"],
}
ENUMS = {
    hpp.PaymentMethodCategory: [
        "DIRECT_DEBIT", "DIRECT_BANK_TRANSFER", "PAY_NOW", "PAY_LATER", "PAY_OVER_TIME", "KLARNA",
    ],
    hpp.PlaceOrderMode: ["PLACE_ORDER", "CAPTURE_ORDER", "NONE"],
    hpp.PurchaseType: ["BUY", "RENT", "BOOK", "SUBSCRIBE", "DOWNLOAD", "ORDER", "CONTINUE"],
    hpp.ShowSubtotalDetail: ["HIDE"],
    hpp.DistributionTemplate: ["INSTORE_PURCHASE"],
    hpp.SessionStatus: [
        "WAITING", "IN_PROGRESS", "BACK", "FAILED", "ERROR", "MANUAL_ID_CHECK", "COMPLETED", "CANCELLED", "DISABLED",
    ],
}  # fmt: skip
by_model = pytest.mark.parametrize("kind", list(FIELDS), ids=lambda kind: kind.__name__)


@by_model
def test_the_fields_of_the_reference_and_no_other(kind):
    beside_the_wire = {"extra", "info"} if kind in (hpp.Session, hpp.SessionDetails) else {"extra"}
    assert [field.name for field in attrs.fields(kind) if field.name not in beside_the_wire] == FIELDS[kind]


@by_model
def test_what_is_required(kind):
    required = [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]
    assert required == REQUIRED.get(kind, [])


@pytest.mark.parametrize("kind", list(ENUMS), ids=lambda kind: kind.__name__)
def test_the_values_of_the_reference_and_no_other(kind):
    assert [(member.name, member.value) for member in kind] == [(value, value) for value in ENUMS[kind]]


# ---------------------------------------------------------------------------------------------------------- as values

VALUES = {
    "minimal": MINIMAL_REQUEST,
    "full": FULL_REQUEST,
    "session": FULL_SESSION,
    "details": FULL_SESSION_DETAILS,
    "extra": request(extra={"new": {"a": [1]}}),
    **{f"distribution {index}": value for index, (value, _) in enumerate(DISTRIBUTIONS)},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_values_survive_pickle_and_copy(value, protocol):
    assert pickle.loads(pickle.dumps(value, protocol)) == value
    assert copy.deepcopy(value) == value
    assert hash(copy.deepcopy(value)) == hash(value)


def test_how_a_call_went_survives_pickle_too():
    session = attrs.evolve(FULL_SESSION, info=hpp.CallInfo(attempts=3, rate_limit=hpp.RateLimit(limit=40)))
    assert pickle.loads(pickle.dumps(session)).info == session.info
    assert session == FULL_SESSION  # two calls that told the same tell the same


CONTACTS = (hpp.EmailDistribution, hpp.SmsDistribution, hpp.TokenDistribution)


@by_model
def test_values_are_frozen_and_take_no_positional_arguments(kind):
    value = kind(**dict.fromkeys(REQUIRED.get(kind, []), "https://x.example/"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, FIELDS[kind][0], "other")
    # Of a contact there is no doubt what it is: that one may stand alone.
    with pytest.raises(TypeError, match=r"positional|required"):
        kind(*["https://x.example/"] * (len(REQUIRED[kind]) + 2 if kind in CONTACTS else 1))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.anything_else = 1


def test_extra_is_copied_at_the_border():
    mine = {"new": 1}
    made = request(extra=mine)
    mine["new"] = 2
    assert made.extra == {"new": 1}
    assert type(made.extra) is dict


@pytest.mark.parametrize("given", [[hpp.BackgroundImage(url="https://a/")], (hpp.BackgroundImage(url="https://a/"),)])
def test_a_list_of_images_becomes_a_tuple(given):
    assert hpp.Options(background_images=given).background_images == (hpp.BackgroundImage(url="https://a/"),)


def test_the_payment_page_is_the_redirect_url():
    assert FULL_SESSION.payment_page == FULL_SESSION.redirect_url


FINAL = {hpp.SessionStatus.COMPLETED, hpp.SessionStatus.CANCELLED, hpp.SessionStatus.DISABLED}


@pytest.mark.parametrize("status", [*hpp.SessionStatus, "COMPLETE", "TIMEOUT", "completed", "", None])
def test_which_statuses_are_final(status):
    assert hpp.SessionDetails(session_id="s-1", status=status).is_final is (status in FINAL)
    if status in list(hpp.SessionStatus):
        assert hpp.SessionStatus(status).is_final is (status in FINAL)
        assert hpp.SessionDetails(session_id="s-1", status=str(status.value)).is_final is (status in FINAL)


# ---------------------------------------------------------------------------------------------------------- problems

URL_PATHS = [f"merchant_urls.{name}" for name in FIELDS[hpp.MerchantUrls]] + [
    "payment_session_url", "options.logo_url", "options.background_images[0].url",
]  # fmt: skip


def at(path: str, url: object) -> hpp.CreateSessionRequest:
    """A good request but for this value at this path."""
    if path == "payment_session_url":
        return request(payment_session_url=url)
    if path.startswith("merchant_urls."):
        return with_url(path.partition(".")[2], url)
    if path == "options.logo_url":
        return with_option(logo_url=url)
    return with_option(background_images=[hpp.BackgroundImage(url=url)])


@pytest.mark.parametrize("path", URL_PATHS)
@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example/",
        "https://shop.example:8443/a/b?c=d&e={{session_id}}#f",
        "https://shop.example?x=1",
        "https://user:pass@shop.example/x",
        "https://[2001:db8::1]:8443/x",
        "https://bücher.example/größe?ö=ü",
        "https://shop.example/100%25?q=%7Bsingle%7D",
        "HTTPS://Shop.Example/x",
        "https://shop.example/" + "x" * 5000,
    ],
)
def test_good_urls(path, url):
    assert at(path, url).problems() == ()


NOT_A_URL = "must be an absolute http(s) URL without blanks"
BRACES = "has percent-encoded braces"


@pytest.mark.parametrize("path", URL_PATHS)
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("shop.example/thanks", NOT_A_URL),
        ("//shop.example/thanks", NOT_A_URL),
        ("/thanks", NOT_A_URL),
        ("ftp://shop.example/", NOT_A_URL),
        ("javascript:alert(1)", NOT_A_URL),
        ("https://", NOT_A_URL),
        ("https:///thanks", NOT_A_URL),
        ("https://?x", NOT_A_URL),
        (" https://shop.example/", NOT_A_URL),
        ("https://shop.example/ ", NOT_A_URL),
        ("https://shop.example/a b", NOT_A_URL),
        ("https://shop.example/\n", NOT_A_URL),
        ("https://shop.example/\t", NOT_A_URL),
        ("https://shop.example/\x00", NOT_A_URL),
        ("https://shop.example/\x85", NOT_A_URL),
        ("https://shop.example/\u2028", NOT_A_URL),
        ("https://shop.example/\u00a0", NOT_A_URL),
        ("https://shop.example/\ud800", NOT_A_URL),
        ("https://shop.example/\\x", NOT_A_URL),
        ('https://shop.example/"', NOT_A_URL),
        ("https://shop.example/<x>", NOT_A_URL),
        ("https://{{shop}}/", NOT_A_URL),
        ("{{session_id}}", NOT_A_URL),
        ("https://shop.example/?x=%7B%7Bsession_id%7D%7D", BRACES),
        ("https://shop.example/?x=%7b%7bsession_id%7d%7d", BRACES),
        ("https://shop.example/?x={%7Bsession_id}}", BRACES),
        ("https://shop.example/?x=%7B{session_id}}", BRACES),
        (5, "must be text, got a number"),
        (0, "must be text, got a number"),
        (True, "must be text, got true"),
        (False, "must be text, got false"),
        (1.5, "must be text, got a number"),
        (b"https://shop.example/", "must be text, got a bytes"),
        (b"", "must be text, got a bytes"),
        ([], "must be text, got a list of 0"),
        ({}, "must be text, got an object of 0 fields"),
        (["https://shop.example/"], "must be text, got a list of 1"),
        (URL("https://shop.example/"), "must be text, got a URL: build it as text, so that placeholders stay"),
        (URL(), "must be text, got a URL: build it as text, so that placeholders stay"),
    ],
    ids=repr,
)
def test_bad_urls(path, url, sentence):
    (problem,) = at(path, url).problems()
    assert problem[0] == path
    assert problem[1].startswith(sentence)


@pytest.mark.parametrize("path", URL_PATHS)
@pytest.mark.parametrize("url", [None, ""])
def test_a_url_that_is_not_there(path, url):
    required = path in ("payment_session_url", "options.background_images[0].url")
    sentence = "is required"
    assert at(path, url).problems() == (((path, sentence),) if required else ())


@pytest.mark.parametrize("path", ["merchant_urls.status_update", "options.background_images[0].url"])
@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://shop.example/x", True),
        ("http://localhost/x", True),
        ("http://localhost:8080", True),
        ("http://127.0.0.1:1/x", True),
        ("http://127.1.2.3/x", True),
        ("http://[::1]:8080/x", True),
        ("http://user@localhost/x", True),
        ("http://shop.example/x", False),
        ("http://localhost.shop.example/x", False),
        ("http://127.0.0.1.shop.example/x", False),
        ("http://127.0.0.1@shop.example/x", False),
        ("http://localhost@shop.example", False),
        ("http://134744072/x", False),
        ("http://0x08080808/x", False),
        ("http://172.32.0.1/x", False),
        ("http://11.0.0.1/x", False),
        ("http://[::2]/x", False),
        ("http://0.0.0.0/x", False),
    ],
)
def test_where_only_https_will_do(path, url, good):
    why = "the API posts callbacks" if "status" in path else "the page loads images"
    expected = [] if good else [(path, f"must be https: {why} over https only (http is for loopback)")]
    assert list(at(path, url).problems()) == expected


@pytest.mark.parametrize("path", [path for path in URL_PATHS if "status" not in path and "images" not in path])
def test_elsewhere_http_is_only_odd(path):
    assert at(path, "http://shop.example/").problems() == ()
    assert [found for found, _ in at(path, "http://shop.example/checkout/v3/orders/1").warnings()] == [path]


ENUM_FIELDS = {
    "payment_method_category": hpp.PaymentMethodCategory,
    "place_order_mode": hpp.PlaceOrderMode,
    "purchase_type": hpp.PurchaseType,
    "show_subtotal_detail": hpp.ShowSubtotalDetail,
}


@pytest.mark.parametrize("name", list(ENUM_FIELDS))
def test_enums_are_closed_in_requests(name):
    kind = ENUM_FIELDS[name]
    listed = ", ".join(kind)
    for member in kind:
        assert with_option(**{name: member}).problems() == ()
        assert with_option(**{name: member.value}).problems() == ()
        lower = member.value.lower()
        assert with_option(**{name: lower}).problems() == (
            (
                f"options.{name}",
                f"must be one of {listed}, got text of {len(lower)} characters; did you mean {member.value}?",
            ),
        )
    for value, got in [
        ("PAY", "text of 3 characters"),
        ("", "text of 0 characters"),
        (3, "a number"),
        (True, "true"),
        (["BUY"], "a list of 1"),
    ]:
        assert with_option(**{name: value}).problems() == ((f"options.{name}", f"must be one of {listed}, got {got}"),)


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        ([], []),
        ((), []),
        (["KLARNA", hpp.PaymentMethodCategory.PAY_NOW], []),
        (["KLARNA", "klarna", None, 5], [1, 2, 3]),
        ("KLARNA", None),
        ({"KLARNA"}, None),
        (iter(["KLARNA"]), None),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
def test_the_list_of_categories(categories, expected):
    path = "options.payment_method_categories"
    found = [where for where, _ in with_option(payment_method_categories=categories).problems()]
    assert found == ([path] if expected is None else [f"{path}[{index}]" for index in expected])


def test_both_category_fields():
    both = with_option(payment_method_category="KLARNA", payment_method_categories=["KLARNA"])
    assert both.problems() == (
        ("options.payment_method_category", "is given together with payment_method_categories: give only one of them"),
    )


@pytest.mark.parametrize(
    ("width", "good"),
    [
        (None, True), (0, True), (1, True), (1280, True), (2**63 - 1, True),
        (-1, False), (2**63, False), (10**4000, False), (1.0, False), ("1280", False), (True, False), ([], False),
    ],
)  # fmt: skip
def test_the_width_of_an_image(width, good):
    made = with_option(background_images=[hpp.BackgroundImage(url="https://cdn.example/", width=width)])
    expected = [] if good else ["options.background_images[0].width"]
    assert [where for where, _ in made.problems()] == expected


@pytest.mark.parametrize("name", ["profile_id", "options.page_title"])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, None),
        ("", None),
        ("Öre 🛒\n", None),
        ("\ud83d", "has half a surrogate pair, which is not a character"),
        (5, "must be text, got a number"),
        (b"x", "must be text, got a bytes"),
        (["x"], "must be text, got a list of 1"),
    ],
    ids=repr,
)
def test_texts(name, text, sentence):
    made = request(profile_id=text) if name == "profile_id" else with_option(page_title=text)
    assert made.problems() == (((name, sentence),) if sentence else ())


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"merchant_urls": {"success": "https://shop.example/"}}, "merchant_urls"),
        ({"merchant_urls": "https://shop.example/"}, "merchant_urls"),
        ({"merchant_urls": hpp.Options()}, "merchant_urls"),
        ({"options": {"purchase_type": "BUY"}}, "options"),
        ({"options": []}, "options"),
        ({"options": hpp.Options(background_images=["https://cdn.example/"])}, "options.background_images[0]"),
        ({"options": hpp.Options(background_images="https://cdn.example/")}, "options.background_images"),
        ({"options": hpp.Options(background_images=[None])}, "options.background_images[0]"),
    ],
)
def test_parts_of_another_type(fields, path):
    assert [where for where, _ in request(**fields).problems()] == [path]


class Name(str):
    """Text of a class of its own: one of the JSON libraries refuses it as a name."""

    __slots__ = ()


DEEP = functools.reduce(lambda inner, _: [inner], range(32), [])


@pytest.mark.parametrize(
    ("extra", "path"),
    [
        ({"new_field": 1}, None),
        ({"a": None, "b": True, "c": 1.5, "d": "text", "e": [1, [2]], "f": {"g": {}}, "h": (1, 2)}, None),
        ({"": "even without a name"}, None),
        ({"big": 2**64 - 1, "small": -(2**63)}, None),
        ({"deep": DEEP}, None),
        ({"deep": [DEEP]}, "extra.deep" + "[0]" * 33),
        ({"big": 2**64}, "extra.big"),
        ({"small": -(2**63) - 1}, "extra.small"),
        ({"a": {"b": [0, float("nan")]}}, "extra.a.b[1]"),
        ({"a": float("inf")}, "extra.a"),
        ({"a": b"bytes"}, "extra.a"),
        ({"a": {1, 2}}, "extra.a"),
        ({"a": object()}, "extra.a"),
        ({"a": "\udc00"}, "extra.a"),
        ({"a": {"\udc00": 1}}, "extra.a"),
        ({"\udc00": 1}, "extra"),
        ({"a": {5: 1}}, "extra.a"),
        ({5: 1}, "extra"),
        ({Name("a"): 1}, "extra"),
        ({"a": {Name("a"): 1}}, "extra.a"),
        ({"profile_id": "x"}, "extra.profile_id"),
        ({"extra": 1}, "extra.extra"),
        ([("a", 1)], "extra"),
        ("a", "extra"),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0][:40],
)
@pytest.mark.parametrize("where", ["", "merchant_urls.", "options.", "options.background_images[0]."])
def test_extra_fields(extra, path, where):
    if isinstance(extra, dict) and "profile_id" in extra and where:
        extra, path = {"extra": 1}, "extra.extra"  # each model refuses its own fields
    match where:
        case "":
            made = request(extra=extra)
        case "merchant_urls.":
            made = request(merchant_urls=hpp.MerchantUrls(extra=extra))
        case "options.":
            made = with_option(extra=extra)
        case _:
            made = with_option(background_images=[hpp.BackgroundImage(url="https://cdn.example/", extra=extra)])
    assert [found for found, _ in made.problems()] == ([] if path is None else [where + path])


def test_an_extra_field_that_has_a_name_already():
    found = dict(request(extra={"profile_id": "x"}).problems())
    assert found == {"extra.profile_id": "is a field of this release: pass it as CreateSessionRequest(profile_id=...)"}


def test_all_problems_at_once_each_with_its_path():
    wrong = request(
        payment_session_url=None,
        profile_id=7,
        merchant_urls=hpp.MerchantUrls(success=5, status_update="http://shop.example/", extra={"back": 1}),
        options=hpp.Options(
            background_images=[hpp.BackgroundImage(url="http://cdn.example/", width="wide"), "x"],
            logo_url="logo.jpg",
            page_title=1,
            payment_method_categories=["NO"],
            payment_method_category="klarna",
            place_order_mode="place",
            purchase_type="PAY",
            show_subtotal_detail="SHOW",
        ),
        extra={"x": {1}},
    )
    assert [path for path, _ in wrong.problems()] == [
        "payment_session_url", "profile_id", "merchant_urls.success", "merchant_urls.status_update",
        "merchant_urls.extra.back", "options.background_images[0].url", "options.background_images[0].width",
        "options.background_images[1]", "options.logo_url", "options.page_title",
        "options.payment_method_categories[0]", "options.payment_method_category", "options.payment_method_category",
        "options.place_order_mode",
        "options.purchase_type", "options.show_subtotal_detail", "extra.x",
    ]  # fmt: skip
    assert all(sentence for _, sentence in wrong.problems())


# ------------------------------------------------------------------------------------------------------ size on the wire


def of_size(size: int) -> hpp.CreateSessionRequest:
    empty = codec().encode_request(with_option(page_title=""))
    return with_option(page_title="x" * (size - len(empty)))


@pytest.mark.parametrize("size", [MAX_BODY - 1, MAX_BODY])
def test_a_body_that_just_fits(size):
    assert len(codec().encode_request(of_size(size))) == size
    assert of_size(size).problems() == ()


def test_a_body_that_is_a_byte_too_long():
    assert of_size(MAX_BODY + 1).problems() == (
        ("$", "is 1,000,001 bytes of JSON; the API takes at most 1,000,000: shorten its texts"),
    )


@pytest.mark.parametrize("title", ["ö" * 500_000, "🛒" * 250_000, "\x1f" * 170_000, '"' * 500_000])
def test_bytes_count_and_not_characters(title):
    (problem,) = with_option(page_title=title).problems()
    assert problem[0] == "$"


@pytest.mark.parametrize(
    "large",
    [
        lambda text: request(extra={"new": text}),
        lambda text: request(merchant_urls=hpp.MerchantUrls(extra={"new": text})),
        lambda text: with_option(extra={"new": text}),
        lambda text: with_option(background_images=[hpp.BackgroundImage(url="https://a/", extra={"new": text})]),
        lambda text: with_url(url="https://a/" + text),
        lambda text: with_option(background_images=[hpp.BackgroundImage(url="https://a/" + text)]),
        lambda text: with_option(logo_url="https://a/" + text),
        lambda text: request(profile_id=text),
        lambda text: request(payment_session_url="https://a/" + text),
        lambda text: with_option(payment_method_categories=["DIRECT_BANK_TRANSFER"] * (len(text) // 20)),
    ],
)
def test_every_part_counts(large):
    assert [path for path, _ in large("x" * MAX_BODY).problems()] == ["$"]
    assert large("x" * (MAX_BODY // 10)).problems() == ()


# ------------------------------------------------------------------------------------- placeholders, app links, callbacks

EACH = "{{session_id}}, {{order_id}} or {{authorization_token}} (hpp.SESSION_ID, hpp.ORDER_ID, hpp.AUTHORIZATION_TOKEN)"
ONE_SESSION, ONE_ORDER = "{{session_id}} (hpp.SESSION_ID)", "{{order_id}} (hpp.ORDER_ID)"


@pytest.mark.parametrize("name", ["success", "cancel", "back", "failure", "error", "status_update"])
@pytest.mark.parametrize(
    ("url", "spelling"),
    [
        (f"https://shop.example/?hpp={{session_id}}", ONE_SESSION),  # noqa: F541 - the mistake itself
        ("https://shop.example/{order_id}/x", ONE_ORDER),
        ("https://shop.example/?o={checkout.order.id}&x=1", ONE_ORDER),
        ("https://shop.example/?t={authorization_token}", "{{authorization_token}} (hpp.AUTHORIZATION_TOKEN)"),
        ("https://shop.example/?x={sid}", EACH),
        ("https://shop.example/#{_my.own2}", EACH),
        ("https://shop.example/?hpp={{session_id}}&order={order_id}", ONE_ORDER),
        ("https://shop.example/?hpp=%7Bsession_id%7D", ONE_SESSION),
        ("https://shop.example/?hpp=%7bsession_id%7d", ONE_SESSION),
        ("https://shop.example/?o=%7Bcheckout.order.id%7D", ONE_ORDER),
    ],
)
def test_a_placeholder_in_single_braces_is_a_problem(name, url, spelling):
    [(path, sentence)] = with_url(name, url).problems()
    assert path == f"merchant_urls.{name}"
    assert sentence == f"has a placeholder in single braces, which stays as it is: write {spelling}"


@pytest.mark.parametrize(
    "url",
    [
        f"https://shop.example/?hpp={hpp.SESSION_ID}&order={hpp.ORDER_ID}",
        "https://shop.example/?t=" + hpp.AUTHORIZATION_TOKEN,
        "https://shop.example/{{session_id}}{{order_id}}",
        "https://shop.example/{}",
        "https://shop.example/{1}?q={a b}".replace(" ", "+"),
        "https://shop.example/?guid=%7B92d97f60-7a78-46a5-8f68-c56fe52dc4af%7D",
        "https://shop.example/?json=%7B%22a%22:1%7D",
    ],
)
def test_other_braces_are_valid(url):
    assert with_url(url=url).problems() == ()


def test_the_constants_are_the_api_s_placeholders():
    assert (hpp.SESSION_ID, hpp.ORDER_ID, hpp.AUTHORIZATION_TOKEN) == (
        "{{session_id}}", "{{order_id}}", "{{authorization_token}}",
    )  # fmt: skip
    made = with_url(url=f"https://shop.example/?hpp={hpp.SESSION_ID}&o={hpp.ORDER_ID}")
    assert (made.problems(), made.warnings()) == ((), ())


ESCAPED = "has an ampersand that HTML escaping has changed: write & alone"
HALF = "has {{ without }}, or }} without {{, so it is not a placeholder"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://shop.example/?a=1&amp;hpp={{session_id}}", ESCAPED),
        ("https://shop.example/?a=1&#038;b=2", ESCAPED),
        ("https://shop.example/?a=1&#38;b=2", ESCAPED),
        ("https://shop.example/?a=1&#x26;b=2", ESCAPED),
        ("https://shop.example/?a={{session_id", HALF),
        ("https://shop.example/?a={{session_id}&b=1", HALF),
        ("https://shop.example/?a=session_id}}", HALF),
        ("https://shop.example/?a={{session_id}}&b={{order_id", HALF),
    ],
)
def test_what_escaping_and_cutting_leave_is_a_warning(url, sentence):
    made = with_url(url=url)
    assert made.problems() == ()
    assert ("merchant_urls.success", sentence) in made.warnings()


@pytest.mark.parametrize(
    "url", ["https://shop.example/?a=1&b=2", "https://shop.example/?amp=1&ampere=2", "https://a/#038"]
)
def test_an_ordinary_ampersand_is_no_warning(url):
    assert with_url(url=url).warnings() == ()


APP = "is an app link, and the API does not document whether it accepts one: try the playground"
APP_FIELDS = ["success", "cancel", "back", "failure", "error"]


@pytest.mark.parametrize("name", APP_FIELDS)
@pytest.mark.parametrize(
    "url",
    [
        "myshop://paid", "myshop://paid?hpp={{session_id}}", "com.example.shop://x/y", "MyShop+1://{{order_id}}",
        "intent://pay/#Intent;scheme=myshop;end",
    ],
)  # fmt: skip
def test_an_app_link_is_a_warning(name, url):
    made = with_url(name, url)
    assert (made.problems(), made.warnings()) == ((), ((f"merchant_urls.{name}", APP),))


@pytest.mark.parametrize("name", APP_FIELDS)
@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "javascript://x%0Aalert(1)", "JavaScript://x", "data:text/html,x", "data://text/html,x",
        "file:///etc/passwd", "FILE://x", "vbscript://x", "blob:https://a/", "blob://a", "about:blank", "ftp://a/b", "ws://a",
        "view-source://https://a", "mailto:a@b", "tel:1", "myshop:paid", "myshop://", "1app://x", "my shop://x", "://x",
        "myshop://a b", "myshop://\u2028", "https:/a", "https:///a", "http://", "myshop://\ud800",
    ],
)  # fmt: skip
def test_what_is_no_app_link_either(name, url):
    [(path, sentence)] = with_url(name, url).problems()
    assert (path, sentence.partition(",")[0]) == (f"merchant_urls.{name}", NOT_A_URL)


@pytest.mark.parametrize("path", ["payment_session_url", "merchant_urls.status_update", "options.logo_url"])
def test_where_an_app_has_no_business(path):
    made = at(path, "myshop://paid")
    assert [found for found, _ in made.problems()] == [path]
    assert APP not in [sentence for _, sentence in made.warnings()]


@pytest.mark.parametrize("path", URL_PATHS)
@pytest.mark.parametrize("url", ["HTTPS://shop.example/", "Https://Shop.Example/checkout/v3/orders/1", "hTTpS://a"])
def test_the_case_of_a_scheme_does_not_count(path, url):
    assert at(path, url).problems() == ()


PRIVATE = [
    "http://shop:8080/status", "http://my_shop/x", "http://web-1", "http://user@shop/x", "http://10.0.0.1/x",
    "http://192.168.1.20:5000/x", "http://172.16.0.1", "http://172.31.255.1/x", "http://[fd00::1]:80/x",
    "http://host.docker.internal/x", "http://printer.local/x", "HTTP://shop/x",
]  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
def test_a_callback_to_a_private_host_may_be_http_with_a_warning(url):
    made = with_url("status_update", url)
    assert made.problems() == ()
    private = "is http to a private host: only a sandbox in the same network can call it"
    assert made.warnings() == (("merchant_urls.status_update", private),)
    assert [path for path, _ in private_http_problems(made)] == ["merchant_urls.status_update"]
    # An image is loaded by the consumer's browser.
    assert [path for path, _ in at("options.background_images[0].url", url).problems()] != []


@pytest.mark.parametrize(
    "url", ["", None, "https://shop.example/x", "https://shop:8080/x", "http://localhost/x", "http://[::1]/x"]
)
def test_a_callback_that_may_go_out_anyway(url):
    assert private_http_problems(with_url("status_update", url)) == ()


# ---------------------------------------------------------------------------------------------------------- warnings

UNKNOWN = "has a placeholder that the API does not document"
TOKEN = "has {{authorization_token}}"
HTTP = "is http"
NOT_A_FIELD = "is not a field of this release"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (MINIMAL_REQUEST, []),
        (FULL_REQUEST, []),
        (with_url(url="https://shop.example/{{session_id}}/{{order_id}}"), []),
        (with_url(url="https://shop.example/{{sid}}"), [("merchant_urls.success", UNKNOWN + ": 'sid' is the name")]),
        (with_url(url="https://shop.example/{{}}"), [("merchant_urls.success", UNKNOWN)]),
        (with_url(url="https://shop.example/{{SESSION_ID}}"), [("merchant_urls.success", UNKNOWN)]),
        (with_url(url="https://shop.example/{{{session_id}}}"), [("merchant_urls.success", UNKNOWN)]),
        (
            with_url("back", "https://shop.example/{{x}}{{session_id}}{{y}}"),
            [("merchant_urls.back", UNKNOWN), ("merchant_urls.back", UNKNOWN)],
        ),
        (with_option(logo_url="https://a.example/{{logo}}"), [("options.logo_url", UNKNOWN)]),
        (with_url(url="https://shop.example/{{authorization_token}}"), [("merchant_urls.success", TOKEN)]),
        (
            request(
                payment_session_url="https://api.klarna.com/payments/v1/sessions/1",
                merchant_urls=hpp.MerchantUrls(success="https://shop.example/{{authorization_token}}"),
            ),
            [],
        ),
        (
            request(
                payment_session_url="https://api.klarna.com/payments/v1/sessions/1",
                merchant_urls=hpp.MerchantUrls(back="https://shop.example/{{authorization_token}}"),
            ),
            [("merchant_urls.back", TOKEN)],
        ),
        (request(payment_session_url=KP_URL), [("payment_session_url", "is a KP session at Kustom")]),
        (request(payment_session_url="https://api.klarna.com/payments/v1/sessions/1"), []),
        (request(payment_session_url="https://api.kustom.co/x"), [("payment_session_url", "is neither a KCO order")]),
        (request(payment_session_url="http://localhost:1/checkout/v3/orders/1"), []),
        (request(payment_session_url="http://x.example/checkout/v3/orders/1"), [("payment_session_url", HTTP)]),
        (with_url(url="http://shop.example/"), [("merchant_urls.success", HTTP)]),
        (with_url(url="http://127.0.0.1/"), []),
        (with_url(url="https://shop.example/"), []),
        (request(extra={"new": 1}), [("new", NOT_A_FIELD)]),
        (
            request(extra={"profil_id": 1}),
            [("profil_id", NOT_A_FIELD + ", and is sent unchanged; did you mean profile_id?")],
        ),
        (
            request(merchant_urls=hpp.MerchantUrls(extra={"privacy_policy": "https://shop.example/"})),
            [("merchant_urls.privacy_policy", NOT_A_FIELD)],
        ),
        (with_option(extra={"payment_fallback": True}), [("options.payment_fallback", NOT_A_FIELD)]),
        (
            with_option(background_images=[hpp.BackgroundImage(url="https://a.example/", extra={"widht": 1})]),
            [("options.background_images[0].widht", NOT_A_FIELD + ", and is sent unchanged; did you mean width?")],
        ),
    ],
    ids=lambda value: None,
)
def test_warnings(made, expected):
    found = made.warnings()
    assert made.problems() == ()
    assert [path for path, _ in found] == [path for path, _ in expected]
    for (_, sentence), (_, beginning) in zip(found, expected, strict=True):
        assert sentence.startswith(beginning)


# ---------------------------------------------------------------------------------------------- what is never shown

SECRETS = st.text(string.ascii_letters + string.digits, min_size=32, max_size=32)
PLACES = st.sampled_from(URL_PATHS)


def wrongs(secret: str) -> st.SearchStrategy[object]:
    """Values with the secret in them that belong nowhere."""
    return st.sampled_from(
        [
            secret, f"https://shop.example/?s={secret}", f"https://{secret}:{secret}@shop.example/#{secret}",
            f"http://shop.example/?{secret}={{{{x}}}}", f"https://shop.example/%7B%7B{secret}", f"{{{{{secret}}}}}",
            [secret], (secret,), {"key": secret}, {secret}, secret.encode(), URL(f"https://shop.example/?s={secret}"),
            int.from_bytes(secret.encode(), "big"), hpp.MerchantUrls(success=secret), hpp.BackgroundImage(url=secret),
            Exception(secret), [[{"a": {secret}}]], f"{secret}\ud800", f"{secret} {secret}",
        ]
    )  # fmt: skip


@given(st.data(), SECRETS)
@settings(deadline=None)
def test_no_sentence_ever_shows_a_value(data, secret):
    value = wrongs(secret)
    anything = st.one_of(st.none(), value)
    made = hpp.CreateSessionRequest(
        payment_session_url=data.draw(anything),
        profile_id=data.draw(anything),
        merchant_urls=data.draw(
            st.one_of(value, st.builds(hpp.MerchantUrls, success=anything, status_update=anything, back=anything))
        ),
        options=data.draw(
            st.one_of(
                value,
                st.builds(
                    hpp.Options,
                    background_images=st.one_of(
                        value, st.lists(st.builds(hpp.BackgroundImage, url=anything, width=anything), max_size=2)
                    ),
                    logo_url=anything,
                    page_title=anything,
                    payment_method_categories=st.one_of(value, st.lists(value, max_size=2)),
                    payment_method_category=anything,
                    place_order_mode=anything,
                    purchase_type=anything,
                    show_subtotal_detail=anything,
                    extra=st.one_of(value, st.dictionaries(st.sampled_from("ab"), value)).filter(
                        lambda extra: not isinstance(extra, str)
                    ),
                ),
            )
        ),
        extra=data.draw(st.dictionaries(st.sampled_from("ab"), value)),
    )
    told = [*made.problems(), *made.warnings(), str(hpp.InvalidRequestError(problems=made.problems()))]
    assert secret not in repr(told)
    assert str(int.from_bytes(secret.encode(), "big")) not in repr(told)


@given(st.data(), SECRETS)
@settings(deadline=None)
def test_a_repr_shows_no_query_and_nothing_that_it_does_not_know(data, secret):
    queries = [
        f"https://shop.example/thanks?s={secret}", f"https://shop.example/#{secret}", f"https://u:{secret}@shop.example/",
        f"https://{secret}@shop.example/x?{secret}#{secret}", f"shop.example/?{secret}", f"u:{secret}@shop.example/",
        f"https://shop.example/?a=b&s={{{{session_id}}}}{secret}", [secret], {"a": secret}, secret.encode(),
        URL(f"https://u:{secret}@shop.example/"),
    ]  # fmt: skip
    url = st.sampled_from(queries)
    unknown = st.sampled_from([{"success": secret}, [secret], (secret,), secret, URL(f"https://a.example/?{secret}")])
    urls = data.draw(st.one_of(unknown, st.builds(hpp.MerchantUrls, success=url, status_update=url)))
    images = st.one_of(unknown, st.lists(st.one_of(unknown, st.builds(hpp.BackgroundImage, url=url)), max_size=2))
    options = data.draw(st.one_of(unknown, st.builds(hpp.Options, logo_url=url, background_images=images)))
    values = [
        hpp.CreateSessionRequest(
            payment_session_url=data.draw(url), merchant_urls=urls, options=options, extra={"new": secret}
        ),
        hpp.Session(
            session_id="s-1",
            redirect_url=data.draw(url),
            session_url=data.draw(url),
            distribution_module=hpp.DistributionModule(token=secret, standalone_url=data.draw(url)),
            extra={"new": [secret]},
        ),
        hpp.SessionDetails(
            session_id="s-1",
            authorization_token=secret,
            customer=hpp.Customer(**dict.fromkeys(FIELDS[hpp.Customer], secret), extra={"new": secret}),
            manual_identification=hpp.ManualIdentification(
                challenge=secret,
                customer=hpp.Customer(family_name=secret),
                customer_obfuscated=hpp.Customer(given_name=secret),
                extra={"new": secret},
            ),
            extra={"new": {"a": secret}},
        ),
    ]
    assert secret not in repr(values) + str(values)


def test_what_a_repr_shows():
    made = request(
        merchant_urls=hpp.MerchantUrls(success="https://u:p@shop.example/thanks?s=1#f", error=""), extra={"new": 1}
    )
    assert repr(made) == (
        f"CreateSessionRequest(payment_session_url='{ORDER_URL}', profile_id=None, "
        "merchant_urls=MerchantUrls(success='https://***@shop.example/thanks?***', cancel=None, back=None, "
        "failure=None, error='', status_update=None, extra={}), options=None, extra={'new': ...})"
    )


def test_what_a_repr_of_personal_data_shows():
    assert repr(hpp.Customer(given_name="Alva")) == (
        "Customer(date_of_birth=None, family_name=None, given_name='***', national_identification_number=None, "
        "title=None, extra={})"
    )
    shown = repr(FULL_SESSION_DETAILS)
    assert "SessionStatus.COMPLETED" in shown
    assert f"order_id={FULL_SESSION_DETAILS.order_id!r}" in shown
    assert f"klarna_reference={FULL_SESSION_DETAILS.klarna_reference!r}" in shown


def test_the_secrets_of_a_request_are_its_queries():
    made = request(
        merchant_urls=hpp.MerchantUrls(
            success="https://shop.example/?short=abc&long=0123456789#frag&hpp={{session_id}}",
            status_update=f"https://shop.example/?secret={'s' * 32}",
            back="https://shop.example/no/query/here-at-all",
        )
    )
    assert list(secrets_in_request(made)) == [
        "short=abc&long=0123456789#frag&hpp={{session_id}}",
        "0123456789",
        f"secret={'s' * 32}",
        "s" * 32,
    ]


def test_so_are_the_texts_of_its_extra_fields():
    extra = {"a": "0123456789", "b": ["short", {"c": "https://a.example/?x=abcdefgh"}], "d": 12345678901, "e": None}
    assert list(secrets_in_request(request(extra=extra))) == [
        "0123456789",
        "x=abcdefgh",
        "abcdefgh",
        "https://a.example/?x=abcdefgh",
    ]


def test_a_contact_may_stand_alone():
    assert hpp.EmailDistribution("alva@shop.example") == hpp.EmailDistribution(email="alva@shop.example")
    assert hpp.SmsDistribution("0701234567", "SE") == hpp.SmsDistribution(phone="0701234567", phone_country="SE")
    assert hpp.TokenDistribution("123456") == hpp.TokenDistribution(access_id="123456")
