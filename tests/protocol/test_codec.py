"""Models to bytes and back: exact to the byte for requests, unshakable for answers, with either JSON library."""

import datetime as dt
import functools
import json
import sys
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kustom_hpp as hpp
from kustom_hpp._protocol.codec import Codec, codec
from kustom_hpp.models import fields
from kustom_hpp.models.distributions import contact_fields, distribution_from_json
from tests.support.golden import (
    DISTRIBUTIONS,
    FULL_ANSWER,
    FULL_BODY,
    FULL_DETAILS,
    FULL_REQUEST,
    FULL_SESSION,
    FULL_SESSION_DETAILS,
    MINIMAL_ANSWER,
    MINIMAL_BODY,
    MINIMAL_DETAILS,
    MINIMAL_REQUEST,
    ORDER_URL,
    SESSION_ID,
)

LIBRARIES = ["orjson", "stdlib"]


@functools.cache
def codec_with(library: str) -> Codec:
    """A codec that writes with this library; a module that is None in sys.modules cannot be imported."""
    if library == "orjson":
        pytest.importorskip("orjson", reason="the extra `speed` is not installed")
        return Codec()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "orjson", None)
        return Codec()


@pytest.fixture(params=LIBRARIES)
def a_codec(request) -> Codec:
    return codec_with(request.param)


def decode_request(chosen: Codec, body: bytes) -> Any:
    """A request as the sandbox reads it."""
    return chosen.structure_request(load(chosen, body))


def decode_distribution(chosen: Codec, body: bytes) -> hpp.Distribution:
    return distribution_from_json(load(chosen, body))


def load(chosen: Codec, body: bytes) -> Any:
    try:
        return chosen.load_json(body)
    except ValueError as error:
        raise hpp.InvalidRequestError(problems=(("$", f"is {error}"),)) from None


def test_the_codec_is_built_once():
    assert codec() is codec()


# ---------------------------------------------------------------------------------------------- requests, byte for byte


def request(**fields):
    return hpp.CreateSessionRequest(payment_session_url=ORDER_URL, **fields)


def body(rest: str) -> bytes:
    return f'{{"payment_session_url":"{ORDER_URL}",{rest}}}'.encode()


URL = "https://shop.example/x?hpp={{session_id}}&t={{authorization_token}}"
ENUM_FIELDS = {
    "payment_method_category": "DIRECT_DEBIT DIRECT_BANK_TRANSFER PAY_NOW PAY_LATER PAY_OVER_TIME KLARNA",
    "place_order_mode": "PLACE_ORDER CAPTURE_ORDER NONE",
    "purchase_type": "BUY RENT BOOK SUBSCRIBE DOWNLOAD ORDER CONTINUE",
    "show_subtotal_detail": "HIDE",
}
ENUM_OF = {
    "payment_method_category": hpp.PaymentMethodCategory,
    "place_order_mode": hpp.PlaceOrderMode,
    "purchase_type": hpp.PurchaseType,
    "show_subtotal_detail": hpp.ShowSubtotalDetail,
}

GOLDEN = [
    (MINIMAL_REQUEST, MINIMAL_BODY),
    (FULL_REQUEST, FULL_BODY),
    (request(profile_id="p-1"), body('"profile_id":"p-1"')),
    (request(profile_id=""), body('"profile_id":""')),
    (request(merchant_urls=hpp.MerchantUrls()), body('"merchant_urls":{}')),
    (request(options=hpp.Options()), body('"options":{}')),
    *(
        (request(merchant_urls=hpp.MerchantUrls(**{name: URL})), body(f'"merchant_urls":{{"{name}":"{URL}"}}'))
        for name in ("success", "cancel", "back", "failure", "error", "status_update")
    ),
    (request(merchant_urls=hpp.MerchantUrls(cancel="", back=None)), body('"merchant_urls":{"cancel":""}')),
    (request(options=hpp.Options(logo_url=URL)), body(f'"options":{{"logo_url":"{URL}"}}')),
    (request(options=hpp.Options(page_title="Köp")), body('"options":{"page_title":"Köp"}')),
    (request(options=hpp.Options(background_images=[])), body('"options":{"background_images":[]}')),
    (
        request(options=hpp.Options(background_images=[hpp.BackgroundImage(url=URL, width=480)])),
        body(f'"options":{{"background_images":[{{"url":"{URL}","width":480}}]}}'),
    ),
    (
        request(options=hpp.Options(background_images=[hpp.BackgroundImage(url=URL, width=0)])),
        body(f'"options":{{"background_images":[{{"url":"{URL}","width":0}}]}}'),
    ),
    (request(options=hpp.Options(payment_method_categories=[])), body('"options":{"payment_method_categories":[]}')),
    *(
        (request(options=hpp.Options(**{name: value})), body(f'"options":{{"{name}":"{value}"}}'))
        for name, values in ENUM_FIELDS.items()
        for value in [*values.split(), *ENUM_OF[name]]
    ),
    *(
        (
            request(options=hpp.Options(payment_method_categories=[category])),
            body(f'"options":{{"payment_method_categories":["{category}"]}}'),
        )
        for category in hpp.PaymentMethodCategory
    ),
    (request(extra={"new": {"a": [1, None, "ö"]}}), body('"new":{"a":[1,null,"ö"]}')),
    (
        request(merchant_urls=hpp.MerchantUrls(back=URL, extra={"terms": "x"})),
        body(f'"merchant_urls":{{"back":"{URL}","terms":"x"}}'),
    ),
    (request(options=hpp.Options(extra={"payment_fallback": True})), body('"options":{"payment_fallback":true}')),
    (
        request(options=hpp.Options(background_images=[hpp.BackgroundImage(url=URL, extra={"height": 9})])),
        body(f'"options":{{"background_images":[{{"url":"{URL}","height":9}}]}}'),
    ),
]


@pytest.mark.parametrize(("value", "expected"), GOLDEN, ids=[written.decode()[90:150] for _, written in GOLDEN])
def test_every_field_on_the_wire(a_codec, value, expected):
    assert value.problems() == ()
    assert a_codec.encode_request(value) == expected
    assert a_codec.encode_model(value) == expected
    assert a_codec.unstructure(value) == json.loads(expected)
    assert decode_request(a_codec, expected) == value


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('"', '\\"'),
        ("\\", "\\\\"),
        ("/", "/"),
        ("\n\r\t\b\f", "\\n\\r\\t\\b\\f"),
        ("\x00\x1f", "\\u0000\\u001f"),
        ("\x7f\u2028<&", "\x7f\u2028<&"),
        ("🛒", "🛒"),
    ],
)
def test_texts_as_every_parser_reads_them(a_codec, text, written):
    assert a_codec.encode_request(request(profile_id=text)) == body(f'"profile_id":"{written}"')


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
URLS = st.builds(
    "{}shop.example/{}".format,
    st.sampled_from(["https://", "https://u:p@", "https://[::1]:8443/"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters='"<>\\^`'), max_size=20).filter(
        lambda text: not ("%7" in text or any(char.isspace() for char in text))
    ),
) | st.just(URL)
WIDTHS = st.none() | st.integers(0, 2**63 - 1)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def extras(kind):
    return st.dictionaries(TEXTS.filter(lambda name: name not in attrs.fields_dict(kind)), PLAIN, max_size=2)


def optional(*strategies):
    return st.one_of(st.none(), *strategies)


IMAGES = st.builds(hpp.BackgroundImage, url=URLS, width=WIDTHS, extra=extras(hpp.BackgroundImage))
CATEGORY = st.sampled_from(hpp.PaymentMethodCategory)
REQUESTS = st.builds(
    hpp.CreateSessionRequest,
    payment_session_url=URLS,
    profile_id=optional(TEXTS),
    merchant_urls=optional(
        st.builds(
            hpp.MerchantUrls,
            **dict.fromkeys(
                ["success", "cancel", "back", "failure", "error", "status_update"], optional(URLS, st.just(""))
            ),
            extra=extras(hpp.MerchantUrls),
        )
    ),
    options=optional(
        st.builds(
            hpp.Options,
            background_images=optional(st.lists(IMAGES, max_size=3)),
            logo_url=optional(URLS),
            page_title=optional(TEXTS),
            payment_method_categories=optional(st.lists(CATEGORY, max_size=3)),
            place_order_mode=optional(st.sampled_from(hpp.PlaceOrderMode)),
            purchase_type=optional(st.sampled_from(hpp.PurchaseType)),
            show_subtotal_detail=optional(st.sampled_from(hpp.ShowSubtotalDetail)),
            extra=extras(hpp.Options),
        )
    ),
    extra=extras(hpp.CreateSessionRequest),
)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("library", LIBRARIES)
@given(REQUESTS)
@relaxed
def test_bytes_to_model_to_bytes(library, value):
    chosen = codec_with(library)
    assert value.problems() == ()
    written = chosen.encode_request(value)
    again = decode_request(chosen, written)
    assert again == value
    assert repr(again) == repr(value)  # an enum's member equals its text, and is shown otherwise
    assert chosen.encode_request(again) == written


@given(REQUESTS)
@relaxed
def test_both_libraries_write_the_same_bytes(value):
    assert codec_with("orjson").encode_request(value) == codec_with("stdlib").encode_request(value)


@given(REQUESTS)
@relaxed
def test_the_size_that_counts_is_that_of_the_bytes(value):
    written = {len(codec_with(library).encode_request(value)) for library in LIBRARIES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "MAX_BODY", min(written) - 1)
        assert [sentence for _, sentence in value.problems() if f"is {min(written):,} bytes" in sentence]
        patch.setattr(fields, "MAX_BODY", max(written))
        assert value.problems() == ()


@pytest.mark.parametrize(
    ("written", "problems"),
    [
        (b"", [("$", "is empty")]),
        (b"{", [("$", "is not JSON at character 1")]),
        (b'{"a":NaN}', [("$", "is not JSON")]),
        (b"\xff", [("$", "is not")]),
        (b"[]", [("$", "must be a JSON object, got a list of 0")]),
        (b"null", [("$", "must be a JSON object, got null")]),
        (b'"text"', [("$", "must be a JSON object, got text of 4 characters")]),
        (b"[" * 100_000, [("$", "is not JSON")]),
        (b"{}", [("payment_session_url", "is required")]),
        (b'{"payment_session_url":null}', [("payment_session_url", "is required")]),
        (body('"profile_id":5'), [("profile_id", "must be text, got a number")]),
        (body('"merchant_urls":[]'), [("merchant_urls", "must be a MerchantUrls, got a list of 0")]),
        (body('"merchant_urls":{"back":{}}'), [("merchant_urls.back", "must be text, got an object of 0 fields")]),
        (body('"options":"x"'), [("options", "must be an Options, got text of 1 characters")]),
        (body('"options":{"background_images":{}}'), [("options.background_images", "must be a list or tuple")]),
        (
            body('"options":{"background_images":["x"]}'),
            [("options.background_images[0]", "must be a BackgroundImage, got text of 1 characters")],
        ),
        (
            body('"options":{"background_images":[{}]}'),
            [("options.background_images[0].url", "is required")],
        ),
        (
            body('"options":{"background_images":[{"url":"https://a/","width":"1280"}]}'),
            [("options.background_images[0].width", "must be a whole number of pixels, got text of 4 characters")],
        ),
        (
            body('"options":{"background_images":[{"url":"https://a/","width":true}]}'),
            [("options.background_images[0].width", "must be a whole number of pixels, got true")],
        ),
        (
            body('"options":{"purchase_type":"buy","show_subtotal_detail":1}'),
            [("options.purchase_type", "must be one of BUY"), ("options.show_subtotal_detail", "must be one of HIDE")],
        ),
        (
            body('"options":{"payment_method_categories":["KLARNA",7]}'),
            [("options.payment_method_categories[1]", "must be one of DIRECT_DEBIT")],
        ),
    ],
    ids=lambda value: repr(value)[-40:],
)
def test_requests_are_read_strictly(a_codec, written, problems):
    with pytest.raises(hpp.InvalidRequestError) as caught:
        decode_request(a_codec, written)
    found = caught.value.problems
    assert [path for path, _ in found] == [path for path, _ in problems]
    for (_, sentence), (_, beginning) in zip(found, problems, strict=True):
        assert sentence.startswith(beginning)
    assert caught.value.delivery is None


@pytest.mark.parametrize(("written", "width"), [("1280", 1280), ("1280.0", 1280), ("1.28e3", 1280), ("-0.0", 0)])
def test_a_whole_number_may_be_written_as_a_fraction(a_codec, written, width):
    image = f'"options":{{"background_images":[{{"url":"https://a/","width":{written}}}]}}'
    [found] = decode_request(a_codec, body(image)).options.background_images
    assert (found.width, type(found.width)) == (width, int)


@pytest.mark.parametrize("written", ["1280.5", "-1.0", "1e300", "true"])
def test_a_width_that_is_no_whole_number_is_refused(a_codec, written):
    image = f'"options":{{"background_images":[{{"url":"https://a/","width":{written}}}]}}'
    with pytest.raises(hpp.InvalidRequestError, match="whole number of pixels"):
        decode_request(a_codec, body(image))


def test_what_a_request_may_have_beside_its_fields(a_codec):
    value = decode_request(
        a_codec, body('"new":1,"profile_id":null,"merchant_urls":{"newer":[2]},"options":{"newest":{"a":null}}')
    )
    assert value == request(
        merchant_urls=hpp.MerchantUrls(extra={"newer": [2]}),
        options=hpp.Options(extra={"newest": {"a": None}}),
        extra={"new": 1},
    )


def test_the_order_of_fields_does_not_matter(a_codec):
    turned = dict(reversed(json.loads(FULL_BODY).items()))
    assert a_codec.structure_request(turned) == FULL_REQUEST


# ----------------------------------------------------------------------------------------------------------- answers


def session(**fields):
    return hpp.Session(session_id="s-1", redirect_url="https://pay.example/1", **fields)


def answer(rest: str = "") -> bytes:
    return f'{{"session_id":"s-1","redirect_url":"https://pay.example/1"{"," + rest if rest else ""}}}'.encode()


def test_the_full_answer(a_codec):
    assert a_codec.decode_response(FULL_ANSWER, hpp.Session) == FULL_SESSION
    assert FULL_SESSION.extra == {}
    assert a_codec.encode_model(FULL_SESSION) == FULL_ANSWER


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf", b" \n"])
def test_the_minimal_answer(a_codec, prefix):
    read = a_codec.decode_response(prefix + MINIMAL_ANSWER, hpp.Session)
    assert {name for name in attrs.fields_dict(hpp.Session) if getattr(read, name) is not None} == {
        "session_id", "redirect_url", "extra", "info",
    }  # fmt: skip
    assert read.extra == {}


TEXT_FIELDS = [
    "session_url", "distribution_url", "qr_code_url", "manual_identification_check_url",
]  # fmt: skip
MODULE_FIELDS = ["token", "standalone_url", "generation_url"]
NO_TEXTS = ["5", "0", "1.5", "true", "false", "[]", '["x"]', "{}", '{"a":1}']


@pytest.mark.parametrize("name", TEXT_FIELDS)
@pytest.mark.parametrize("raw", ['""', '"x"', '"None"', '"null"', '"{{view_id}}"'])
def test_texts_are_kept(a_codec, name, raw):
    assert a_codec.decode_response(answer(f'"{name}":{raw}'), hpp.Session) == session(**{name: json.loads(raw)})


@pytest.mark.parametrize("name", [*TEXT_FIELDS, "expires_at", "distribution_module"])
def test_null_is_none(a_codec, name):
    read = a_codec.decode_response(answer(f'"{name}":null'), hpp.Session)
    assert getattr(read, name) is None
    assert read.extra == {}


@pytest.mark.parametrize("name", TEXT_FIELDS)
@pytest.mark.parametrize("raw", NO_TEXTS)
def test_another_type_becomes_none_and_is_kept_raw(a_codec, name, raw):
    assert a_codec.decode_response(answer(f'"{name}":{raw}'), hpp.Session) == session(extra={name: json.loads(raw)})


@pytest.mark.parametrize("name", MODULE_FIELDS)
@pytest.mark.parametrize("raw", NO_TEXTS)
def test_so_it_does_inside_of_a_part(a_codec, name, raw):
    module = hpp.DistributionModule(extra={name: json.loads(raw)})
    read = a_codec.decode_response(answer(f'"distribution_module":{{"{name}":{raw}}}'), hpp.Session)
    assert read == session(distribution_module=module)


@pytest.mark.parametrize("raw", ["5", "[]", '"text"', "true", "1.5"])
def test_a_part_that_is_no_object(a_codec, raw):
    read = a_codec.decode_response(answer(f'"distribution_module":{raw}'), hpp.Session)
    assert read == session(extra={"distribution_module": json.loads(raw)})


def test_fields_newer_than_this_release(a_codec):
    read = a_codec.decode_response(answer('"new":{"a":[1]},"distribution_module":{"newer":null}'), hpp.Session)
    assert read == session(distribution_module=hpp.DistributionModule(extra={"newer": None}), extra={"new": {"a": [1]}})


def test_fields_of_ours_that_the_wire_does_not_have(a_codec):
    read = a_codec.decode_response(answer('"info":{"attempts":9},"extra":{"a":1}'), hpp.Session)
    assert read.info == hpp.CallInfo()
    assert read.extra == {"info": {"attempts": 9}, "extra": {"a": 1}}


UTC = dt.UTC


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2038-01-19T03:14:07.000Z", dt.datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)),
        ("2038-01-19T03:14:07Z", dt.datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)),
        ("2038-01-19T03:14:07+00:00", dt.datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC)),
        ("2038-01-19T04:14:07.5+01:00", dt.datetime(2038, 1, 19, 3, 14, 7, 500_000, tzinfo=UTC)),
        ("2038-01-19T03:14:07.123456789Z", dt.datetime(2038, 1, 19, 3, 14, 7, 123_456, tzinfo=UTC)),
        ("2038-01-19 03:14Z", dt.datetime(2038, 1, 19, 3, 14, tzinfo=UTC)),
        ("2038-01-19T03:14:07", None),  # no zone, no point in time
        ("2038-01-19", None),
        ("", None),
        ("soon", None),
        ("2038-02-30T00:00:00Z", None),
        ("10000-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),  # before the beginning of time, in UTC
        ("9999-12-31T23:59:59-23:59", None),
        ("\ud800", None),
        (2147483647, None),
        (1.5, None),
        ([], None),
        ({}, None),
        (True, None),
    ],
)
def test_dates(text, expected):
    read = codec_with("stdlib").decode_response(answer(f'"expires_at":{json.dumps(text)}'), hpp.Session)
    assert read.expires_at == expected
    assert read.extra == ({} if expected else {"expires_at": text})


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (dt.datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC), "2038-01-19T03:14:07.000Z"),
        (dt.datetime(2038, 1, 19, 3, 14, 7, 250_000, tzinfo=UTC), "2038-01-19T03:14:07.250Z"),
        (dt.datetime(2038, 1, 19, 3, 14, 7, 250_001, tzinfo=UTC), "2038-01-19T03:14:07.250001Z"),
        (dt.datetime(2038, 1, 19, 4, tzinfo=dt.timezone(dt.timedelta(hours=1))), "2038-01-19T03:00:00.000Z"),
    ],
)
def test_dates_are_written_as_the_api_writes_them(a_codec, value, written):
    assert a_codec.encode_model(session(expires_at=value)) == answer(f'"expires_at":"{written}"')


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (b"", "empty"),
        (b" ", "not JSON at character "),
        (b"{", "not JSON at character "),
        (b'{"session_id":"s-1"', "not JSON at character "),
        (MINIMAL_ANSWER + b"}", "not JSON at character "),
        (MINIMAL_ANSWER.decode().encode("utf-16"), "not "),
        (b'{"session_id":"\xff"}', "not "),
        (b"<html>", "not JSON at character 0"),
        (b"NaN", "not JSON"),
        (b"Infinity", "not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "not JSON"),
        (b"[]", "not a JSON object but a list"),
        (b"null", "not a JSON object but a NoneType"),
        (b"5", "not a JSON object but a int"),
        (b"{}", "without session_id (missing)"),
        (b'{"redirect_url":"x"}', "without session_id (missing)"),
        (b'{"session_id":null,"redirect_url":"x"}', "without session_id (null or of another type)"),
        (b'{"session_id":5,"redirect_url":"x"}', "without session_id (null or of another type)"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_answers_that_cannot_be_read(a_codec, written, why):
    with pytest.raises(ValueError, match=f"^{why.replace('(', '.').replace(')', '.')}") as caught:
        a_codec.decode_response(written, hpp.Session)
    assert type(caught.value) is ValueError
    assert caught.value.__cause__ is None


def test_why_an_answer_cannot_be_read_never_shows_it(a_codec):
    for written in (b'{"token":"s3cr3t"', b"s3cr3t", b'"s3cr3t"', b'{"s3cr3t":1}', b'{"session_id":["s3cr3t"]}'):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is looked at
            a_codec.decode_response(written, hpp.Session)
        assert "s3cr3t" not in str(caught.value) + repr(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
MODULES = st.dictionaries(st.sampled_from([*MODULE_FIELDS, "new"]), JSON, max_size=4)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "session_id": st.just("s-1") | JSON,
        "redirect_url": st.just("https://pay.example/1") | JSON,
        **dict.fromkeys([*TEXT_FIELDS, "new", "info", "extra"], JSON),
        "expires_at": st.datetimes(timezones=st.just(UTC)).map(str) | JSON,
        "distribution_module": MODULES | JSON,
    },
)


def holds(value: object, kind: object, raw: object, extra: dict[str, object], name: str) -> bool:
    """A field is what was sent, or it is None and what was sent is in extra."""
    if value is None:
        return raw is None or extra.get(name, ...) == raw
    return isinstance(value, kind) and name not in extra


@pytest.mark.parametrize("library", LIBRARIES)
@given(ANSWERS | JSON)
@relaxed
def test_any_json_gives_a_session_or_a_value_error(library, told):
    chosen = codec_with(library)
    written = json.dumps(told).encode()
    told = json.loads(written)
    try:
        read = chosen.decode_response(written, hpp.Session)
    except ValueError as error:
        assert type(error) is ValueError  # noqa: PT017 - either way is good
        return
    assert read.session_id == told["session_id"]
    if library == "stdlib":  # orjson reads whole numbers of more than 64 bits as floats
        for name in [*TEXT_FIELDS, "redirect_url"]:
            assert holds(getattr(read, name), str, told.get(name), read.extra, name)
        assert holds(read.expires_at, dt.datetime, told.get("expires_at"), read.extra, "expires_at")
        module = told.get("distribution_module")
        assert holds(read.distribution_module, hpp.DistributionModule, module, read.extra, "distribution_module")
        for name in ("new", "info", "extra"):
            assert read.extra.get(name, ...) == told.get(name, ...)
    for name in TEXT_FIELDS:
        if told.get(name) != "None":
            assert getattr(read, name) != "None"
    # What was read can be written, and read again to the same.
    assert chosen.decode_response(chosen.encode_model(read), hpp.Session) == read


@given(st.binary(max_size=60))
@relaxed
def test_any_bytes_give_a_session_or_a_value_error(written):
    for library in LIBRARIES:
        for prefix in (b"", b'{"session_id":"s","redirect_url":"r",'):
            try:
                assert isinstance(codec_with(library).decode_response(prefix + written, hpp.Session), hpp.Session)
            except ValueError as error:
                assert type(error) is ValueError  # noqa: PT017


# ----------------------------------------------------------------------------------------------- how a session stands


def details(**fields):
    return hpp.SessionDetails(session_id="s-1", **fields)


def read_details(a_codec: Codec, rest: str) -> hpp.SessionDetails:
    return a_codec.decode_response(f'{{"session_id":"s-1",{rest}}}'.encode(), hpp.SessionDetails)


def test_the_full_details(a_codec):
    assert a_codec.decode_response(FULL_DETAILS, hpp.SessionDetails) == FULL_SESSION_DETAILS
    assert a_codec.encode_model(FULL_SESSION_DETAILS) == FULL_DETAILS
    assert a_codec.decode_response(MINIMAL_DETAILS, hpp.SessionDetails) == hpp.SessionDetails(session_id=SESSION_ID)


@pytest.mark.parametrize("status", hpp.SessionStatus)
def test_a_status_of_this_release(a_codec, status):
    read = read_details(a_codec, f'"status":"{status.value}"')
    assert type(read.status) is hpp.SessionStatus
    assert read == details(status=status)
    assert json.loads(a_codec.encode_model(read)) == {"session_id": "s-1", "status": status.value}


@pytest.mark.parametrize("text", ["TIMEOUT", "COMPLETE", "LEGACY", "completed", "", "🛒"])
def test_a_status_newer_than_this_release_stays_text(a_codec, text):
    read = read_details(a_codec, f'"status":"{text}"')
    assert type(read.status) is str
    assert read == details(status=text)
    assert not read.is_final


@pytest.mark.parametrize("name", sorted(set(attrs.fields_dict(hpp.SessionDetails)) - {"session_id", "extra", "info"}))
def test_no_field_of_the_details_is_needed_but_the_id(a_codec, name):
    assert read_details(a_codec, f'"{name}":null') == details()
    assert read_details(a_codec, f'"{name}":[5]') == details(extra={name: [5]})


@pytest.mark.parametrize("raw", ["{}", '{"session_id":null}', '{"session_id":""}', '{"session_id":5}'])
def test_details_of_nobody_knows_what(a_codec, raw):
    with pytest.raises(ValueError, match=r"^without session_id"):
        a_codec.decode_response(raw.encode(), hpp.SessionDetails)


CUSTOMER_FIELDS = ["date_of_birth", "family_name", "given_name", "national_identification_number", "title"]
CUSTOMERS = st.dictionaries(st.sampled_from([*CUSTOMER_FIELDS, "new"]), JSON, max_size=4)
CHECKS = st.fixed_dictionaries(
    {}, optional={"challenge": JSON, "customer": CUSTOMERS | JSON, "customer_obfuscated": CUSTOMERS, "expires_at": JSON}
)
DATES = st.datetimes(timezones=st.just(dt.UTC)).map(str)
DETAILS = st.fixed_dictionaries(
    {},
    optional={
        "session_id": st.just("s-1") | JSON,
        "status": st.sampled_from([*map(str, hpp.SessionStatus), "TIMEOUT"]) | JSON,
        **dict.fromkeys(["updated_at", "expires_at"], DATES | JSON),
        **dict.fromkeys(["authorization_token", "order_id", "klarna_reference", "new", "info", "extra"], JSON),
        "customer": CUSTOMERS | JSON,
        "manual_identification": CHECKS | JSON,
    },
)


@pytest.mark.parametrize("library", LIBRARIES)
@given(DETAILS | JSON)
@relaxed
def test_any_json_gives_details_or_a_value_error(library, told):
    chosen = codec_with(library)
    try:
        read = chosen.decode_response(json.dumps(told).encode(), hpp.SessionDetails)
    except ValueError as error:
        assert type(error) is ValueError  # noqa: PT017 - either way is good
        return
    assert read.session_id == told["session_id"]
    assert isinstance(read.status, str | None)
    assert isinstance(read.customer, hpp.Customer | None)
    assert isinstance(read.manual_identification, hpp.ManualIdentification | None)
    for date in (read.updated_at, read.expires_at):
        assert date is None or date.tzinfo is not None
    # What was read can be written, and read again to the same.
    assert chosen.decode_response(chosen.encode_model(read), hpp.SessionDetails) == read


# --------------------------------------------------------------------------------------------- sending a session's link


@pytest.mark.parametrize(("value", "expected"), DISTRIBUTIONS)
def test_distributions_on_the_wire(a_codec, value, expected):
    assert value.problems() == ()
    assert a_codec.encode_model(value) == expected
    assert json.loads(a_codec.encode_model(a_codec.unstructure(value))) == json.loads(expected)
    again = decode_distribution(a_codec, expected)
    assert again == value
    assert type(again) is type(value)
    assert type(again.template) is type(value.template)


TEMPLATES = optional(st.sampled_from(hpp.DistributionTemplate))
NO_BLANKS = st.from_regex(r"[^\s@\x00-\x1f\x7f]{1,9}", fullmatch=True)
CONTACTS = {
    hpp.EmailDistribution: {"email": st.builds("{}@{}".format, NO_BLANKS, NO_BLANKS)},
    hpp.SmsDistribution: {
        "phone": st.from_regex(r"(?a)\+?[\d ()./-]{0,9}\d[\d ()./-]{0,9}", fullmatch=True),
        "phone_country": st.from_regex(r"[A-Z]{2}", fullmatch=True),
    },
    hpp.TokenDistribution: {"access_id": TEXTS.filter(bool)},
}


def distributions(kind):
    contact = st.dictionaries(
        TEXTS.filter(lambda name: name not in contact_fields(kind)), PLAIN, min_size=1, max_size=2
    )
    outside = TEXTS.filter(lambda name: name not in ("method", "contact_information", "template", "extra"))
    extra = st.builds(
        lambda more, inside: more | ({"contact_information": inside} if inside else {}),
        st.dictionaries(outside, PLAIN, max_size=2),
        optional(contact),
    )
    return st.builds(kind, **CONTACTS[kind], template=TEMPLATES, extra=extra)


@pytest.mark.parametrize("library", LIBRARIES)
@given(st.one_of(*map(distributions, CONTACTS)))
@relaxed
def test_distribution_to_bytes_to_distribution(library, value):
    chosen = codec_with(library)
    assert value.problems() == ()
    written = chosen.encode_model(value)
    again = decode_distribution(chosen, written)
    assert again == value
    assert repr(again) == repr(value)
    assert chosen.encode_model(again) == written


@pytest.mark.parametrize("library", LIBRARIES)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["email", "sms", "token"]) | JSON,
            "contact_information": st.dictionaries(
                st.sampled_from(["email", "phone", "phone_country", "access_id", "new"]), JSON
            )
            | JSON,
            "template": st.just("INSTORE_PURCHASE") | JSON,
            "new": JSON,
            "extra": JSON,
        },
    )
    | JSON
)
@relaxed
def test_any_json_gives_a_distribution_or_an_invalid_request_error(library, told):
    chosen = codec_with(library)
    try:
        read = decode_distribution(chosen, json.dumps(told).encode())
    except hpp.InvalidRequestError as error:
        assert error.problems  # noqa: PT017 - either way is good
        return
    # A null of ours is the same as none.
    kept = {name: value for name, value in told.items() if name != "template" or value is not None}
    if library == "stdlib":  # orjson reads whole numbers of more than 64 bits as floats
        assert chosen.unstructure(read) == kept


@pytest.mark.parametrize(
    ("written", "problems"),
    [
        (b"", [("$", "is empty")]),
        (b"[]", [("$", "must be a JSON object, got a list of 0")]),
        (b"{}", [("method", "must be one of email, sms, token, got null"), ("contact_information", "must be an obj")]),
        (b'{"method":"EMAIL","contact_information":{}}', [("method", "must be one of email, sms, token, got text of")]),
        (
            b'{"method":["email"],"contact_information":{}}',
            [("method", "must be one of email, sms, token, got a list")],
        ),
        (b'{"method":"email","contact_information":"a@b"}', [("contact_information", "must be an object, got text")]),
        (b'{"method":"email","contact_information":{}}', [("contact_information.email", "is required")]),
        (b'{"method":"email","contact_information":{"email":5}}', [("contact_information.email", "must be text, got")]),
        (
            b'{"method":"sms","contact_information":{"email":"a@b"},"template":["x"]}',
            [
                ("contact_information.phone", "is required"),
                ("contact_information.phone_country", "is required"),
                ("template", "must be one of INSTORE_PURCHASE, got a list of 1"),
            ],
        ),
        (
            b'{"method":"token","contact_information":{"access_id":"1"},"template":"instore_purchase"}',
            [
                (
                    "template",
                    "must be one of INSTORE_PURCHASE, got text of 16 characters; did you mean INSTORE_PURCHASE?",
                )
            ],
        ),
    ],
    ids=lambda value: repr(value)[-40:],
)
def test_distributions_are_read_strictly(a_codec, written, problems):
    with pytest.raises(hpp.InvalidRequestError) as caught:
        decode_distribution(a_codec, written)
    found = caught.value.problems
    assert [path for path, _ in found] == [path for path, _ in problems]
    for (_, sentence), (_, beginning) in zip(found, problems, strict=True):
        assert sentence.startswith(beginning)
