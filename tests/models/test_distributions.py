"""What sends a session's link: what is wrong with it (all at once, never a value), what is odd, what is never shown."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kustom_hpp as hpp
from kustom_hpp.models.distributions import secrets_in_distribution
from kustom_hpp.models.fields import MAX_BODY

EMAIL, PHONE, COUNTRY, ACCESS_ID = (
    f"contact_information.{name}" for name in ("email", "phone", "phone_country", "access_id")
)
REQUIRED = ("is required", "is required")


def email(text="alva@shop.example", **fields):
    return hpp.EmailDistribution(email=text, **fields)


def sms(phone="0701234567", phone_country="SE", **fields):
    return hpp.SmsDistribution(phone=phone, phone_country=phone_country, **fields)


def token(access_id="3f7", **fields):
    return hpp.TokenDistribution(access_id=access_id, **fields)


@pytest.mark.parametrize(
    "good",
    [
        email("a@b"),
        email("a.b+c@shop.example"),
        email("ålva@öl.example"),
        sms("+46 (70) 123-45.67"),
        sms("7"),
        sms("070/1234567", "US"),
        token("app:0b1cf1a4-9d5c-4a3e-8f6a-2f0d9f8e7a11"),
        token("123456"),
        token(" whatever it says "),
        email(template=hpp.DistributionTemplate.INSTORE_PURCHASE),
        email(template="INSTORE_PURCHASE"),
        email(extra={"new": [1], "contact_information": {"phone": "07", "newer": {"a": None}}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_good_ones(good):
    assert good.problems() == ()


NO_EMAIL, NO_PHONE = "must be an address like name@host", "must be digits, optionally with +"
NO_COUNTRY = 'must be two capital letters (ISO 3166-1 alpha-2, like "SE")'


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        *((email(text), [(EMAIL, REQUIRED[text is not None])]) for text in (None, "")),
        *(
            (email(text), [(EMAIL, f"{NO_EMAIL}, got text of {len(text)} characters")])
            for text in (
                "alva",
                "@",
                "a@",
                "@b",
                "a@b@c",
                "a b@c",
                "a@b\n",
                " a@b",
                "a@b\x00",
                "Alva <a@b>",
                "a@b,c d@e",
            )
        ),
        (email(5), [(EMAIL, "must be text, got a number")]),
        (email("a@\ud800"), [(EMAIL, "has half a surrogate pair, which is not a character")]),
        *((sms(text), [(PHONE, REQUIRED[text is not None])]) for text in (None, "")),
        *(
            (sms(text), [(PHONE, f"{NO_PHONE}, got text of {len(text)} characters")])
            for text in ("+", "call me", "++4670", "070x", "٠٧٠", "070\n", "1+2")
        ),
        *((sms(phone_country=text), [(COUNTRY, REQUIRED[text is not None])]) for text in (None, "")),
        *(
            (sms(phone_country=text), [(COUNTRY, f"{NO_COUNTRY}, got text of {len(text)} characters")])
            for text in ("se", "SWE", "S", "46", "ÅÄ", "SE\n")
        ),
        (sms(7, None), [(PHONE, "must be text, got a number"), (COUNTRY, REQUIRED[0])]),
        *((token(text), [(ACCESS_ID, REQUIRED[text is not None])]) for text in (None, "")),
        (token(b"x"), [(ACCESS_ID, "must be text, got a bytes")]),
        (token("\udc00"), [(ACCESS_ID, "has half a surrogate pair, which is not a character")]),
        (token(template="x"), [("template", "must be one of INSTORE_PURCHASE, got text of 1 characters")]),
        (token(extra="x"), [("extra", "must be a dict of field names to JSON values, got text of 1 characters")]),
        (
            token(extra={"contact_information": "x"}),
            [
                (
                    "extra.contact_information",
                    "must be a dict of field names to JSON values, got text of 1 characters",
                ),
            ],
        ),
        (
            token(extra={"contact_information": {"access_id": "x", "a": {1}}}),
            [
                (
                    "extra.contact_information.access_id",
                    "is a field of this release: pass it as TokenDistribution(access_id=...)",
                ),
                ("extra.contact_information.a", "must be a JSON value, got a set"),
            ],
        ),
        (
            token(extra={"method": "email"}),
            [("extra.method", "is token in the class TokenDistribution: use the class of the other method")],
        ),
        (
            token(extra={"template": "x"}),
            [("extra.template", "is a field of this release: pass it as TokenDistribution(template=...)")],
        ),
        (token(extra={"new": float("nan")}), [("extra.new", "is not a finite number, which JSON cannot express")]),
    ],
    ids=lambda value: None,
)
def test_bad_ones(bad, expected):
    assert list(bad.problems()) == expected


@pytest.mark.parametrize("length", [MAX_BODY, MAX_BODY // 2])
def test_the_size_of_the_body(length):
    made = token("ö" * length)
    written = length * 2 + len('{"method":"token","contact_information":{"access_id":""}}')
    sentence = f"is {written:,} bytes of JSON; the API takes at most 1,000,000: shorten its texts"
    assert made.problems() == (("$", sentence),)
    assert token("ö" * (length // 3)).problems() == ()


NOT_KNOWN = "is not a field of this release, and is sent unchanged"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (email(), []),
        (token(), []),
        (sms(), [("method", "is sms, which the API's guide no longer names: it may be refused")]),
        (email(extra={"new": 1}), [("new", NOT_KNOWN)]),
        (email(extra={"templat": 1}), [("templat", f"{NOT_KNOWN}; did you mean template?")]),
        (email(extra={"contact_information": {"phone": "07", "phone_country": "SE"}}), []),
        (
            email(extra={"contact_information": {"phone_contry": "SE"}}),
            [("contact_information.phone_contry", f"{NOT_KNOWN}; did you mean phone_country?")],
        ),
    ],
    ids=lambda value: None,
)
def test_warnings(made, expected):
    assert made.problems() == ()
    assert list(made.warnings()) == expected


def test_what_cannot_be_read_has_no_warnings():
    assert token(extra="x").warnings() == ()
    assert token(extra={"contact_information": 5}).warnings() == ()


@given(st.data(), st.text(string.ascii_letters + string.digits, min_size=32, max_size=32))
@settings(deadline=None)
def test_no_sentence_and_no_repr_ever_shows_a_contact(data, secret):
    places = [
        secret,
        f"{secret}@x",
        f"a b@{secret}",
        [secret],
        {"a": secret},
        secret.encode(),
        f"+{secret}",
        f"{secret}\n",
    ]
    value = st.sampled_from(places)
    extra = st.dictionaries(st.sampled_from(["a", "contact_information", "template", "method"]), value | st.just({}))
    made = data.draw(
        st.one_of(
            st.builds(hpp.EmailDistribution, email=value, template=st.none() | value, extra=extra),
            st.builds(hpp.SmsDistribution, phone=value, phone_country=value, extra=extra),
            st.builds(hpp.TokenDistribution, access_id=value, extra=extra),
        )
    )
    told = [*made.problems(), *made.warnings(), str(hpp.InvalidRequestError(problems=made.problems()))]
    assert secret not in repr(told)
    if made.template is None:  # the one field with no contact in it
        assert secret not in repr(made) + str(made)


def test_the_secrets_of_a_distribution_are_its_contact():
    assert list(secrets_in_distribution(email())) == ["alva@shop.example"]
    assert list(secrets_in_distribution(sms("+46 (0)70-123"))) == ["+46 (0)70-123", "46070123"]
    assert list(secrets_in_distribution(sms("070-1234"))) == ["070-1234", "701234"]
    made = token("3f7", extra={"contact_information": {"email": "alva@shop.example"}, "new": "x"})
    assert list(secrets_in_distribution(made)) == ["alva@shop.example"]
    assert list(secrets_in_distribution(token("3f7a"))) == ["3f7a"]
