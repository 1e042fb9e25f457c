"""What a browser may do with a page."""

import pytest

from kustom_hpp.sandbox.pages.security_headers import headers, location, origin_of


def policy(**given: object) -> str:
    return dict(headers(**given))["Content-Security-Policy"]


def test_a_page_may_do_next_to_nothing() -> None:
    assert dict(headers()) == {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def test_images_and_forms_reach_exactly_what_the_session_names() -> None:
    given = policy(
        images=["https://cdn.example/a.png", "https://cdn.example/b.png", "https://img.example:8443/c.png"],
        forms_to=["https://shop.example/a?b", "https://shop.example/c", "https://other.example"],
    )
    assert "img-src 'self' https://cdn.example https://img.example:8443;" in given
    assert "form-action 'self' https://shop.example https://other.example;" in given


def test_a_shop_on_the_desk_may_send_the_browser_to_its_front_end() -> None:
    assert "form-action 'self' http://localhost:* http://127.0.0.1:*;" in policy(forms_to=["http://localhost:8000/"])
    assert "https://shop.localhost:* https://localhost:*" in policy(forms_to=["https://shop.localhost/"])


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Shop.Example/a?b#c", "https://shop.example"),
        ("http://shop.example:8080", "http://shop.example:8080"),
        ("https://user:password@shop.example/", "https://shop.example"),
        ("https://bücher.example/", "https://xn--bcher-kva.example"),
        ("http://my_shop:8000/", None),
        ("https://a.example;script-src/", None),
        ("https://a.example,https://b.example/", None),
        ("https://*/", None),
        ("https://'unsafe-inline'/", None),
        ("https://[::1]:8000/", None),
        ("https://a.example:port/", None),
        ("https://" + "a." * 200 + "example/", None),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("", None),
    ],
)
def test_an_origin_is_named_or_left_out(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    ("url", "source"), [("http://[::1]:8000/", "http:"), ("http://my_shop:8000/", "http:"), ("https://a;b/", "https:")]
)
def test_a_form_works_where_the_policy_cannot_name_its_address(url: str, source: str) -> None:
    assert f"form-action 'self' {source};" in policy(forms_to=[url])


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://shop.example/a?b=%2F+c&d={{x}}#e", "https://shop.example/a?b=%2F+c&d={{x}}#e"),
        ("https://shop.example/täck?å=ä", "https://shop.example/t%C3%A4ck?%C3%A5=%C3%A4"),
        ("https://bücher.example:8443/é", "https://xn--bcher-kva.example:8443/%C3%A9"),
        ("https://bücher.example?é", "https://xn--bcher-kva.example?%C3%A9"),
        ("https://shop.example/日本{{x}}", "https://shop.example/%E6%97%A5%E6%9C%AC{{x}}"),
    ],
)
def test_a_merchants_url_is_sent_as_it_was_given(url: str, sent: str) -> None:
    assert location(url) == sent
