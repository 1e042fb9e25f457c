"""Settings: what is taken, what is refused, and that no refusal shows a secret."""

import base64
import copy
import platform
import ssl
import string
import traceback
from pathlib import Path

import aiohttp
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kustom_hpp as hpp
from kustom_hpp import config
from kustom_hpp._redaction import Secret
from kustom_hpp._version import __version__
from kustom_hpp.config import credentials

KEY = "kco_test_hpp_QWxhZGRpbjpvcGVuL3Nlc2FtZSs9"
LIVE_KEY = "kco_live_hpp_QWxhZGRpbjpvcGVuL3Nlc2FtZSs9"
LIVE, PLAYGROUND = hpp.Environment.LIVE, hpp.Environment.PLAYGROUND
HERE = "https://sandbox.example"


def build(**changes) -> config.Settings:
    arguments = {
        "api_key": KEY,
        "username": None,
        "password": None,
        "environment": None,
        "base_url": None,
        "insecure_http": False,
        "timeouts": hpp.Timeouts(),
        "retry": hpp.RetrySettings(),
        "pool": hpp.Pool(),
        "app_info": None,
        "headers": None,
        "ssl": None,
        "proxy": None,
        "trust_env": False,
        "http_library": "aiohttp/3.14.5",
    }
    for name in ("api_key", "password", "base_url", "proxy"):
        if isinstance(changes.get(name), str):
            changes[name] = Secret(changes[name])
    return config.build_settings(**(arguments | changes))


def refused(match: str, **changes) -> hpp.ConfigError:
    with pytest.raises(hpp.ConfigError, match=match) as caught:
        build(**changes)
    assert caught.value.delivery is None
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


# ------------------------------------------------------------------------------------------------------- credentials


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"api_key": KEY}, f"Basic {KEY}"),  # raw, not base64
        ({"api_key": f"  {KEY}\n"}, f"Basic {KEY}"),
        ({"api_key": f"\t{KEY}\r\n"}, f"Basic {KEY}"),
        ({"api_key": f"\ufeff{KEY}".lstrip("\ufeff")}, f"Basic {KEY}"),
        ({"api_key": "a:b+/="}, "Basic a:b+/="),
        ({"api_key": KEY, "username": "K1_abc"}, basic(f"K1_abc:{KEY}")),
        ({"api_key": None, "username": " K1_abc ", "password": "\tpass word\n"}, basic("K1_abc:pass word")),
        ({"api_key": None, "username": "K1", "password": "with:colon"}, basic("K1:with:colon")),
        ({"api_key": None, "username": "Kü", "password": "pä55"}, basic("Kü:pä55")),
    ],
)
def test_the_authorization_header(given, expected):
    made = build(**given)
    assert str(made.authorization) == expected
    assert isinstance(made.authorization, Secret)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"api_key": None}, "no credentials: pass api_key= .or set KUSTOM_HPP_API_KEY.*username= and password="),
        ({"api_key": None, "username": "K1"}, "username needs its api_key or password"),
        ({"api_key": None, "password": "x"}, "password needs its username"),
        ({"password": "x"}, "two names for one secret"),
        ({"password": "x", "username": "K1"}, "two names for one secret"),
        ({"api_key": ""}, "api_key is empty"),
        ({"api_key": " \n\t"}, "api_key is empty"),
        ({"username": " "}, "username is empty"),
        ({"api_key": None, "username": "K1", "password": ""}, "password is empty"),
        ({"api_key": "with blank"}, "api_key must be printable ASCII without blanks inside"),
        ({"api_key": "kéy"}, "api_key must be printable ASCII"),
        ({"api_key": "key\u00a0x"}, "api_key must be printable ASCII"),
        ({"api_key": "ke\ny"}, "api_key contains a control character"),
        ({"api_key": "ke\ty"}, "api_key contains a control character"),
        ({"api_key": "ke\x00y"}, "api_key contains a control character"),
        ({"api_key": "ke\x7fy"}, "api_key contains a control character"),
        ({"api_key": "k\ud800y"}, "half a character"),
        ({"username": "K\ud8001"}, "half a character"),
        ({"username": "K1:x"}, "username must not contain a colon"),
        ({"username": "K1\r\nX: y"}, "username contains a control character"),
        ({"api_key": None, "username": "K1", "password": "a\nb"}, "password contains a control character"),
        ({"api_key": None, "username": "K1", "password": "a\x85b"}, "password contains a control character"),
        ({"api_key": b"kco_test_x"}, "api_key must be text, got a bytes"),
        ({"api_key": 5}, "api_key must be text, got a int"),
        ({"username": 5}, "username must be text, got a int"),
    ],
)
def test_credentials_that_cannot_work(given, match):
    refused(match, **given)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, None),
        ("kco_live_hpp_x", LIVE),
        ("kco_test_hpp_x", PLAYGROUND),
        ("klarna_live_api_x", LIVE),
        ("klarna_test_api_x", PLAYGROUND),
        (" kco_live_x", LIVE),
        ("kco_live", None),
        ("KCO_LIVE_x", None),
        ("xkco_live_x", None),
        ("kco_prod_x", None),
        ("", None),
        ("something else", None),
    ],
)
def test_the_environment_of_a_key(key, expected):
    assert credentials.environment_of_key(key) is expected


# ------------------------------------------------------------------------------------------------------------- place


@pytest.mark.parametrize(
    ("given", "environment", "url"),
    [
        ({}, PLAYGROUND, "https://api.playground.kustom.co"),
        ({"api_key": LIVE_KEY}, LIVE, "https://api.kustom.co"),
        ({"api_key": "opaque"}, PLAYGROUND, "https://api.playground.kustom.co"),  # never LIVE by default
        ({"api_key": "opaque", "environment": LIVE}, LIVE, "https://api.kustom.co"),
        ({"api_key": "opaque", "environment": "live"}, LIVE, "https://api.kustom.co"),
        ({"api_key": "opaque", "environment": "Playground"}, PLAYGROUND, "https://api.playground.kustom.co"),
        ({"api_key": LIVE_KEY, "environment": "LIVE"}, LIVE, "https://api.kustom.co"),
        (
            {"api_key": None, "username": "K1", "password": "kco_live_x"},
            LIVE,
            "https://api.kustom.co",
        ),
        ({"api_key": None, "username": "K1", "password": "old"}, PLAYGROUND, "https://api.playground.kustom.co"),
        # With an explicit base_url nobody judges.
        ({"base_url": HERE}, None, HERE),
        ({"api_key": LIVE_KEY, "base_url": HERE}, None, HERE),
        (
            {"api_key": LIVE_KEY, "base_url": "https://api.playground.kustom.co"},
            None,
            "https://api.playground.kustom.co",
        ),
        ({"environment": LIVE, "base_url": "https://api.kustom.co/"}, None, "https://api.kustom.co"),
    ],
)
def test_where_to_call(given, environment, url):
    made = build(**given)
    assert (made.environment, str(made.base_url).rstrip("/")) == (environment, url)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"environment": LIVE}, "the key is a playground key, but environment is live"),
        ({"api_key": LIVE_KEY, "environment": PLAYGROUND}, "the key is a live key, but environment is playground"),
        (
            {"api_key": None, "username": "K1", "password": "kco_live_x", "environment": "playground"},
            "the key is a live key",
        ),
        ({"environment": "mars"}, "environment must be 'live' or 'playground'"),
        ({"environment": ""}, "environment must be 'live' or 'playground'"),
        ({"environment": 5}, "environment must be 'live' or 'playground'"),
        ({"environment": []}, "environment must be 'live' or 'playground'"),
        (
            {"environment": "playground", "base_url": HERE},
            "environment .playground. and base_url contradict each other",
        ),
        ({"environment": "live", "base_url": "https://api.playground.kustom.co"}, "contradict each other"),
    ],
)
def test_environments_that_cannot_be(given, match):
    refused(match, **given)


GOOD_URLS = [
    ("https://api.kustom.co", "https://api.kustom.co"),
    ("https://api.kustom.co/", "https://api.kustom.co"),
    ("  https://api.kustom.co  ", "https://api.kustom.co"),
    ("HTTPS://API.Kustom.co", "https://api.kustom.co"),
    ("https://api-na.kustom.co:8443", "https://api-na.kustom.co:8443"),
    ("https://gateway.example/kustom/v2", "https://gateway.example/kustom/v2"),
    ("https://gateway.example/Kustom/", "https://gateway.example/Kustom"),
    ("https://localhost", "https://localhost"),
    ("https://127.0.0.1:1", "https://127.0.0.1:1"),
    ("https://[::1]:65535", "https://[::1]:65535"),
    ("http://localhost:8080", "http://localhost:8080"),
    ("http://127.0.0.1", "http://127.0.0.1"),
    ("http://127.9.9.9:80", "http://127.9.9.9"),
    ("http://[::1]", "http://[::1]"),
    # RFC 3986 allows these.
    *((text, text) for text in (
        "https://my_sandbox:8000", "https://_dmarc.example", "https://api.kustom.co.", "https://api.kustom.co.:8443",
        "https://[2001:db8::1]:8443", "https://[::2]/x", "https://[::ffff:10.0.0.1]", "https://h/a=b", "https://h/a%20b",
        "https://h/@a", "https://h/a:b", "https://h/a,b", "https://h/a+b", "https://h/$a", "https://h/a;b", "https://h/a!",
        "https://h/a&b'(c)*~._-", "https://h/%2F%41", "https://h/.well-known/x..y",
    )),
    ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "url"), GOOD_URLS)
def test_good_base_urls(text, url):
    assert str(build(base_url=text).base_url).rstrip("/") == url


BAD_URLS = {
    "it must start with https:// or http://": [
        "", " ", "api.kustom.co", "//api.kustom.co", "https:/api.kustom.co", "https:api.kustom.co", "ftp://api.kustom.co",
        "file:///etc/passwd", "javascript:alert(1)", "httpss://api.kustom.co", "\nhttps://api.kustom.co",
        "http\u017f://api.kustom.co", "https:\\\\api.kustom.co",
    ],
    "the host is missing": ["https://", "https:///", "https://:80", "https:///x"],
    "a query is not allowed": ["https://api.kustom.co?x=1", "https://api.kustom.co/?x", "https://api.kustom.co/a?b#c"],
    "a fragment is not allowed": ["https://api.kustom.co#f", "https://api.kustom.co/#"],
    "a user is not allowed": [
        "https://user@api.kustom.co", "https://user:pass@api.kustom.co", "https://:@api.kustom.co", "https://@api.kustom.co",
        "https://api.kustom.co@evil.example", "https://api.kustom.co\\@evil.example",
    ],
    # What yarl would repair, fold or keep.
    r"'\n' is not allowed in a host": ["https://api.kustom.co\n.evil.example", "https://api.ku\nstom.co/x"],
    r"'\t' is not allowed in a host": ["https://api.kus\ttom.co"],
    r"'\r' is not allowed in a host": ["https://api.kustom.co\r\n"],
    r"'\x00' is not allowed in a host": ["https://api.kustom.co\x00"],
    r"'\uff41' is not allowed in a host": ["https://\uff41\uff50\uff49.kustom.co"],
    r"'\u3002' is not allowed in a host": ["https://api\u3002kustom.co"],
    r"'\uff0e' is not allowed in a host": ["https://api.kustom.co\uff0eevil.example"],
    r"'\u212a' is not allowed in a host": ["https://api.\u212austom.co"],
    r"'\u0131' is not allowed in a host": ["https://ap\u0131.kustom.co"],
    r"'\xfc' is not allowed in a host": ["https://b\u00fccher.example"],
    "' ' is not allowed in a host": ["https://api kustom.co", "https://api.kustom.co /"],
    "'%' is not allowed in a host": ["https://api%2ekustom.co", "https://api.kustom.co%00"],
    "';' is not allowed in a host": ["https://api;kustom.co"],
    "'=' is not allowed in a host": ["https://base=api.kustom.co"],
    r"'\\' is not allowed in a host": ["https://api.kustom.co\\.evil.example"],
    "a part of the host is empty, or starts or ends with '-'": [
        "https://.kustom.co", "https://api..kustom.co", "https://-api.kustom.co", "https://api-.kustom.co", "https://.",
        "https://api.kustom.co..",
    ],
    "the port must be a number from 1 to 65535": [
        "https://api.kustom.co:\u0668\u0660", "https://api.kustom.co:0", "https://api.kustom.co:65536",
        "https://api.kustom.co:999999", "https://api.kustom.co:", "https://api.kustom.co:-1", "https://api.kustom.co:80:80",
        "https://api.kustom.co:8 0", "https://api.kustom.co.:", "https://[::1]:",
        "https://::1".replace("::1", "a::1"),
    ],
    "the host is not a valid IPv6 address in brackets": [
        "https://[::1", "https://[fe80::1%25eth0]", "https://[127.0.0.1]", "https://[]", "https://[::1]x", "https://[v1.a]",
    ],
    "the path has an empty segment": ["https://api.kustom.co/a//b", "https://api.kustom.co//evil.example", "https://a//"],
    "the path has a dot segment": [
        "https://api.kustom.co/%2e%2e/x", "https://api.kustom.co/..", "https://api.kustom.co/a/../b",
        "https://api.kustom.co/.", "https://a/b/..;x/c", "https://a/..%2Fb",
    ],
    "' ' is not allowed in a path": ["https://api.kustom.co/a b", "https://api.kustom.co/ "[:-1] + " x"],
    r"'\xfc' is not allowed in a path": ["https://api.kustom.co/\u00fc"],
    "'{' is not allowed in a path": ["https://api.kustom.co/{x}"],
    "'%' is not followed by two hexadecimal digits in the path": ["https://a/%", "https://a/%2", "https://a/%zz"],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason in BAD_URLS for text in BAD_URLS[reason]])
def test_what_is_wrong_with_a_base_url(reason, text):
    error = refused("^base_url is invalid: ", base_url=text)
    assert str(error).startswith(f"base_url is invalid: {reason}. ")
    assert str(error).endswith("Use a URL such as https://api.kustom.co.")
    assert "evil" not in str(error)


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        ("https://api.kustom.co/hpp/v1", "https://api.kustom.co"),
        ("https://api.kustom.co/hpp/v1/", "https://api.kustom.co"),
        ("https://api.playground.kustom.co/hpp/v1/sessions", "https://api.playground.kustom.co"),
        ("http://localhost:8080/hpp/v1/sessions/", "http://localhost:8080"),
        ("https://gateway.example/kustom/hpp/v1", "https://gateway.example/kustom"),
        ("https://gateway.example/HPP/V1", "https://gateway.example"),
    ],
)
def test_a_base_url_with_the_api_s_own_path(text, corrected):
    error = refused("^base_url is invalid", base_url=text)
    assert str(error) == (
        f"base_url is invalid: it contains the API's own path, which the client adds. Use {corrected}."
    )
    assert str(build(base_url=corrected).base_url).rstrip("/") == corrected


@pytest.mark.parametrize("text", ["https://h/hpp/v2", "https://h/hpp", "https://h/hpp/v1/x", "https://h/xhpp/v1"])
def test_a_path_that_only_looks_like_the_api_s(text):
    assert str(build(base_url=text).base_url) == text


@pytest.mark.parametrize("value", [5, b"https://api.kustom.co", ["https://api.kustom.co"]])
def test_a_base_url_of_another_type(value):
    refused("base_url must be text, got a", base_url=value)


@pytest.mark.parametrize(
    ("url", "insecure", "key", "match"),
    [
        ("http://sandbox.example", False, KEY, "http at sandbox.example, which would send the key unencrypted"),
        ("http://sandbox.example", True, KEY, None),
        ("http://sandbox.example", True, "opaque", None),
        ("http://sandbox.example", True, LIVE_KEY, "the key is a live key, which is never sent unencrypted"),
        ("http://sandbox.example", False, LIVE_KEY, "unencrypted"),
        ("http://localhost", False, LIVE_KEY, None),
        ("https://sandbox.example", False, LIVE_KEY, None),
        # Spellings of loopback that only some resolvers know are no loopback.
        ("http://127.1", False, KEY, "unencrypted"),
        ("http://2130706433", False, KEY, "unencrypted"),
        ("http://0x7f.0.0.1", False, KEY, "unencrypted"),
        ("http://127.0.0.01", False, KEY, "unencrypted"),
        ("http://127.0.0.1.example", False, KEY, "unencrypted"),
        ("http://localhost.example", False, KEY, "unencrypted"),
        ("http://0.0.0.0", False, KEY, "unencrypted"),
        ("http://10.0.0.1", False, KEY, "unencrypted"),
    ],
)
def test_plain_http(url, insecure, key, match):
    if match is None:
        assert str(build(base_url=url, insecure_http=insecure, api_key=key).base_url).rstrip("/") == url
    else:
        refused(match, base_url=url, insecure_http=insecure, api_key=key)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.255.0.3", True), ("::1", True),
        (None, False), ("", False), ("localhost.", False), ("LOCALHOST", False), ("127.1", False), ("::", False),
        ("128.0.0.1", False), ("example", False), ("127.0.0.1.example", False),
    ],
)  # fmt: skip
def test_loopback(host, expected):
    assert config.is_loopback(host) is expected


TRICKS = st.lists(
    st.sampled_from(
        [*"abkz09.-:/@?#%[]\\ \t\n;_~{}\u212a。ｋ٨\x00", "%2e", "//", "://", "https://", "localhost", ":80"]
    ),
    max_size=8,
).map("".join)


@given(st.builds("{}{}".format, st.sampled_from(["https://", "http://localhost", "https://a.example", ""]), TRICKS))
@settings(deadline=None)
def test_whatever_is_taken_is_what_was_written(text):
    """Nothing between the text and the wire moves the host: what is accepted holds nothing that could be repaired."""
    try:
        url = build(base_url=text, insecure_http=True).base_url
    except hpp.ConfigError as error:
        assert str(error).startswith("base_url ")  # noqa: PT017 - either way is good
        return
    assert url.host is not None
    assert url.host.isascii()
    written = text.strip(" ")
    authority = written.partition("://")[2].partition("/")[0].lower()
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = authority.removeprefix(host)
    assert authority == host + port
    assert port == "" or (port[0], int(port[1:])) == (":", url.port)
    assert (url.user, url.password, url.query_string, url.fragment) == (None, None, "", "")
    assert str(url).isascii()
    assert ".." not in url.path


# ------------------------------------------------------------------------------------------------------------- proxy


@pytest.mark.parametrize(
    ("proxy", "secrets"),
    [
        ("http://proxy.example:3128", []),
        ("https://proxy.example", []),
        (" http://proxy.example ", []),
        ("proxy.example:3128", []),
        ("10.1.2.3:3128", []),
        ("[2001:db8::1]:3128", []),
        ("user:pa55@proxy.example", ["pa55", "pa55"]),
        ("http://user@proxy.example", []),
        ("http://user:pa55@proxy.example", ["pa55", "pa55"]),
        ("http://user:p%40ss@proxy.example", ["p%40ss", "p@ss"]),
    ],
)
def test_proxies(proxy, secrets):
    made = build(proxy=proxy)
    assert made.proxy is not None
    assert str(made.proxy) == (proxy.strip() if "://" in proxy else f"http://{proxy}")
    assert [str(secret) for secret in made.secrets] == [KEY, *secrets]
    assert "pa55" not in repr(made)


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        " ",
        "socks5://proxy.example",
        "http://",
        "http://[::1",
        "[::1",
        "proxy:port",
        ":3128",
        "a b:3128",
        "http://a,b",
        5,
        b"x",
    ],
)
def test_proxies_that_cannot_be(proxy):
    refused("proxy must be the URL of an HTTP proxy", proxy=proxy)


def test_two_ways_to_name_a_proxy():
    refused("proxy and trust_env contradict each other", proxy="http://proxy.example", trust_env=True)


@pytest.mark.parametrize(
    ("variables", "base_url", "expected"),
    [
        ({}, HERE, None),
        ({"https_proxy": "http://p.example:1"}, HERE, "http://p.example:1"),
        ({"http_proxy": "http://p.example:1"}, HERE, None),
        ({"http_proxy": "http://p.example:1"}, "http://localhost:9", "http://p.example:1"),
        ({"https_proxy": "http://p.example:1", "no_proxy": "sandbox.example"}, HERE, None),
        ({"https_proxy": "http://p.example:1", "no_proxy": "other.example"}, HERE, "http://p.example:1"),
        ({"https_proxy": "p.example:1"}, HERE, "http://p.example:1"),
        ({"http_proxy": "http://p.example:1", "no_proxy": "localhost:9"}, "http://localhost:9", None),
        ({"http_proxy": "http://p.example:1", "no_proxy": "localhost:8"}, "http://localhost:9", "http://p.example:1"),
        ({"http_proxy": "http://p.example:1", "no_proxy": "[::1]:9"}, "http://[::1]:9", None),
        ({"http_proxy": "http://p.example:1", "no_proxy": "::1"}, "http://[::1]:9", None),
        ({"https_proxy": "http://p.example:1", "no_proxy": "*"}, HERE, None),
        ({"https_proxy": ""}, HERE, None),
    ],
)
def test_the_proxy_of_the_environment(monkeypatch, variables, base_url, expected):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert build(base_url=base_url, trust_env=True).proxy == expected
    assert build(base_url=base_url).proxy is None  # only for who asks for it


@pytest.mark.parametrize(
    ("variable", "base_url"),
    [
        ("HTTPS_PROXY", HERE),
        ("https_proxy", HERE),
        ("HTTP_PROXY", "http://localhost:9"),
        ("http_proxy", "http://localhost:9"),
    ],
)
@pytest.mark.parametrize("value", ["socks5://proxy.example:1080", "http://", "user:pa55@proxy:port", "ftp://proxy"])
def test_an_invalid_proxy_is_named_by_its_variable(monkeypatch, variable, base_url, value):
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, value)
    error = refused(f"^{variable} must be the URL of an HTTP proxy", base_url=base_url, trust_env=True)
    assert "pa55" not in str(error)


@pytest.mark.parametrize("value", ["socks5://proxy.example:1080", "http://", "user:pa55@proxy:port", "ftp://proxy"])
def test_an_invalid_kustom_hpp_proxy_is_named(monkeypatch, value):
    monkeypatch.setenv("KUSTOM_HPP_PROXY", value)
    with pytest.raises(hpp.ConfigError, match=r"^KUSTOM_HPP_PROXY must be the URL of an HTTP proxy") as caught:
        hpp.HPPClient.from_env(api_key="k")
    assert "pa55" not in str(caught.value)


def test_the_variable_of_the_client_wins_over_those_of_the_system(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://system.example:1")
    monkeypatch.setenv("KUSTOM_HPP_PROXY", "ours.example:2")
    made = hpp.HPPClient.from_env(api_key="k", base_url=HERE, trust_env=True)
    assert made.settings.proxy == "http://ours.example:2"
    made = hpp.HPPClient.from_env(api_key="k", base_url=HERE, proxy="http://argument.example:3")
    assert made.settings.proxy == "http://argument.example:3"
    made = hpp.HPPClient.from_env(api_key="k", base_url=HERE, transport=hpp.FakeTransport())
    assert made.settings.proxy is None


# --------------------------------------------------------------------------------------------------------- User-Agent

AGENT = (
    f"Library/kustom_hpp_{__version__} (aiohttp/{aiohttp.__version__}) Language/Python_{platform.python_version()} "
    f"OS/{platform.system()}_{platform.release()}"
)


@pytest.mark.parametrize(
    ("app_info", "expected"),
    [
        (None, AGENT),
        ("MyShop/1.2", f"{AGENT} MyShop/1.2"),
        ("My Shop (x; y)", f"{AGENT} My Shop (x; y)"),
        ("x", f"{AGENT} x"),
        ("x" * 256, f"{AGENT} {'x' * 256}"),
        ("!~", f"{AGENT} !~"),
    ],
)
def test_the_user_agent(app_info, expected):
    assert config.user_agent(f"aiohttp/{aiohttp.__version__}", app_info) == expected


@pytest.mark.parametrize(
    "app_info",
    [
        "", " ", " x", "x ", "x\n", "\tx", "x\r\nX: y", "x\x00y", "x\x7fy", "x\ty", "sköp", "x\u00a0y", "x\ud800", "x" * 257,
        "x" * 9000, 5, b"MyShop", ["x"],
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_app_infos_that_cannot_be(app_info):
    refused("app_info must be 1 to 256 printable ASCII characters", app_info=app_info)


@pytest.mark.parametrize("system", [("Linüx", "6.1 (x)"), ("", ""), ("Windows", "10\r\n")])
def test_a_user_agent_is_ascii_whatever_the_machine_is_called(monkeypatch, system):
    monkeypatch.setattr(platform, "system", lambda: system[0])
    monkeypatch.setattr(platform, "release", lambda: system[1])
    agent = config.user_agent("aiohttp/1", None)
    assert agent.isascii()
    assert agent.isprintable()
    assert agent.count(" ") == 3


# ------------------------------------------------------------------------------------------------------- more headers


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ()),
        ({}, ()),
        ({"Kustom-Partner": "PG000651"}, (("Kustom-Partner", "PG000651"),)),
        ({"X-A": "", "x_b.c~d": "a b;c"}, (("X-A", ""), ("x_b.c~d", "a b;c"))),
        ({"X": "x" * 6144}, (("X", "x" * 6144),)),
    ],
)
def test_more_headers(given, expected):
    made = build(headers=given).headers
    assert made == expected
    assert all(type(value) is Secret for _, value in made)


OURS = [
    "Host", "Authorization", "User-Agent", "Accept", "Accept-Encoding", "Content-Type", "Content-Length",
    "Content-Encoding", "Transfer-Encoding", "Connection", "Cookie", "Expect", "TE", "Trailer", "Upgrade",
    "Proxy-Authorization", "Keep-Alive",
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "match"),
    [
        *(
            ({spelled: "x"}, f"must not contain {spelled}")
            for name in OURS
            for spelled in (name, name.lower(), name.upper())
        ),
        *(
            ({name: "x"}, "a name that HTTP does not allow")
            for name in ("", " ", "X Y", "X:", "X\n", "Ü", "X\x00", "x" * 101, "(x)", 5, None, b"X")
        ),
        *(
            ({"X-A": value}, "headers.'X-A'. must be printable ASCII text")
            for value in ("a\r\nb", "a\n", " a", "a ", "ä", "\x00", "\ud800", 5, None, b"x")
        ),
        ({"X-A": "x" * 6145}, "headers.'X-A'. is longer than 6144 characters"),
        ({"X-A": "1", "x-a": "2"}, "headers has x-a twice"),
        *((value, "headers must be a mapping") for value in ([("X-A", "1")], "X-A: 1", 5, {"X-A"})),
    ],
    ids=repr,
)
def test_headers_that_cannot_be(given, match):
    refused(match, headers=given)


def test_headers_laid_over_others():
    earlier = build(headers={"A": "1", "B": "2"}).headers
    merged = config.merge_headers(earlier, {"b": "3", "C": "4"})
    assert merged == (("A", "1"), ("b", "3"), ("C", "4"))
    assert config.merge_headers(earlier, {}) == earlier


# ------------------------------------------------------------------------------------------------------------- values

NO_NUMBERS = [float("nan"), float("inf"), float("-inf"), -1, -0.001, "5", None, True, [], 1j]


@pytest.mark.parametrize(
    ("kind", "name", "good", "bad"),
    [
        (hpp.Timeouts, "connect", [0.001, 5, 5.0], [0, *NO_NUMBERS]),
        (hpp.Timeouts, "read", [0.001, 35, 3600.0], [0, *NO_NUMBERS]),
        (hpp.Pool, "connections", [1, 100], [0, 1.0, *NO_NUMBERS]),
        (hpp.Pool, "keepalive", [0.1, 4], [0, *NO_NUMBERS]),
        (hpp.RetrySettings, "max_attempts", [1, 10], [0, 2.0, *NO_NUMBERS]),
        (hpp.RetrySettings, "budget", [0, 0.5, 30], NO_NUMBERS),
        (hpp.RetrySettings, "initial", [0, 0.5], NO_NUMBERS),
        (hpp.RetrySettings, "maximum", [0, 8.0], NO_NUMBERS),
        (hpp.RetrySettings, "retry_after_cap", [0, 30], NO_NUMBERS),
        (hpp.RetrySettings, "on_unknown", ["raise", "resend"], ["", "RAISE", "retry", None, True, 5]),
    ],
)
def test_values(kind, name, good, bad):
    for value in good:
        assert getattr(kind(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(hpp.ConfigError, match=name):
            kind(**{name: value})


def test_the_defaults():
    assert attrs.astuple(hpp.Timeouts()) == (5.0, 35.0)
    assert attrs.astuple(hpp.Pool()) == (100, 4.0)
    assert attrs.astuple(hpp.RetrySettings()) == (4, 30.0, 0.5, 8.0, 30.0, "raise")


@pytest.mark.parametrize("name", ["timeouts", "retry", "pool"])
@pytest.mark.parametrize("value", [None, 5, {}, "fast"])
def test_settings_of_another_type(name, value):
    refused(f"{name} must be a ", **{name: value})


@pytest.mark.parametrize("value", [False, True, 0, "cert.pem"])
def test_verification_cannot_be_turned_off(value):
    refused("ssl must be an ssl.SSLContext or None.*verification cannot be disabled", ssl=value)


def test_a_tls_context_is_taken():
    context = ssl.create_default_context()
    assert build(ssl=context).ssl is context


@pytest.mark.parametrize("seconds", [0, -1, 0.5, 10**6, -(10.0**9)])
def test_deadlines(seconds):
    assert config.check_deadline(seconds) == seconds


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), True, "10", None, [], 1j])
def test_deadlines_that_cannot_be(seconds):
    with pytest.raises(hpp.ConfigError, match="deadline must be a finite number of seconds from now, or None, got"):
        config.check_deadline(seconds)
    with pytest.raises(hpp.ConfigError, match="deadline must be a finite number of seconds from now, got"):
        config.check_deadline(seconds, required=True)


RETRY = hpp.RetrySettings(max_attempts=2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"retry": RETRY}),
        ({"on_unknown": "resend"}, {"retry": attrs.evolve(RETRY, on_unknown="resend")}),
        ({"timeouts": hpp.Timeouts(read=1)}, {"retry": RETRY, "timeouts": hpp.Timeouts(read=1)}),
    ],
)
def test_options(options, expected):
    assert config.check_options(retry=RETRY, **options) == expected


@pytest.mark.parametrize(
    "options",
    [{"timeouts": 5}, {"retry": 5}, {"on_unknown": "Resend"}, {"on_unknown": ""}, {"on_unknown": False}],
    ids=repr,
)
def test_options_that_cannot_be(options):
    with pytest.raises(hpp.ConfigError, match=next(iter(options))):
        config.check_options(**({"retry": RETRY} | options))


# -------------------------------------------------------------------------------------------------------- environment


@pytest.fixture
def environment(monkeypatch):
    """Set our variables, and only those given."""

    def put(**variables):
        for variable in config.ENV_VARS.values():
            monkeypatch.delenv(variable, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(f"KUSTOM_HPP_{name}", value)

    put()
    return put


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}),
        ({"API_KEY": ""}, {}),
        ({"API_KEY": " \n"}, {}),
        ({"INSECURE_HTTP": " "}, {}),
        ({"API_KEY": f" {LIVE_KEY}\r\n"}, {"api_key": LIVE_KEY}),
        ({"BASE_URL": f"\t{HERE}\n"}, {"base_url": HERE}),
        ({"PASSWORD": 'it\'s "quoted" inside'}, {"password": 'it\'s "quoted" inside'}),
        ({"PASSWORD": '"'}, {"password": '"'}),
        ({"API_KEY": "k", "UNKNOWN": "x"}, {"api_key": "k"}),
        ({"USERNAME": " u\n", "PASSWORD": " p "}, {"username": "u", "password": "p"}),
        ({"ENVIRONMENT": " live "}, {"environment": "live"}),
        ({"BASE_URL": HERE}, {"base_url": HERE}),
        ({"APP_INFO": " MyShop/1 "}, {"app_info": "MyShop/1"}),
        *(({"INSECURE_HTTP": text}, {"insecure_http": True}) for text in ("1", "true", "TRUE", "yes", "on", " 1\n")),
        *(({"INSECURE_HTTP": text}, {"insecure_http": False}) for text in ("0", "false", "No", "off")),
    ],
)
def test_what_the_environment_says(environment, variables, expected):
    environment(**variables)
    found = config.from_environment()
    assert found == expected
    assert all(type(found[name]) is Secret for name in ("api_key", "password", "base_url") if name in found)


@pytest.mark.parametrize("text", ["2", "maybe", "-", "truee"])
def test_a_truth_value_that_is_none(environment, text):
    environment(INSECURE_HTTP=text)
    with pytest.raises(hpp.ConfigError, match="KUSTOM_HPP_INSECURE_HTTP must be 1 or 0"):
        config.from_environment()


@pytest.mark.parametrize("quote", ['"', "'", "`"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("API_KEY", LIVE_KEY), ("USERNAME", "K1"), ("ENVIRONMENT", "live"), ("BASE_URL", HERE), ("APP_INFO", "Shop/1"),
     ("INSECURE_HTTP", "1"), ("PASSWORD", "")],
)  # fmt: skip
def test_a_value_in_quotes_is_refused_by_its_variable(environment, name, value, quote):
    environment(**{name: f" {quote}{value}{quote}\n"})
    with pytest.raises(hpp.ConfigError, match=f"^KUSTOM_HPP_{name} is in quotes") as caught:
        hpp.HPPClient.from_env()
    assert not value or value not in str(caught.value).removeprefix("KUSTOM_HPP_")


@pytest.mark.parametrize("key", [f'"{LIVE_KEY}"', f"'{LIVE_KEY}'", f"\u201c{LIVE_KEY}\u201d", f'"{LIVE_KEY}'])
@pytest.mark.parametrize("name", ["api_key", "password"])
def test_a_quoted_key_is_no_key_of_an_unknown_environment(key, name):
    arguments = {"api_key": None, "username": "K1", "password": key} if name == "password" else {"api_key": key}
    refused(f"^{name} starts with a quote or another mark", **arguments)


def test_nothing_is_read_but_when_asked(environment):
    environment(API_KEY=LIVE_KEY)
    refused("no credentials", api_key=None)


# ------------------------------------------------------------------------------------------------- what is never shown

RANDOM = st.text(string.ascii_letters + string.digits, min_size=32, max_size=32)


@given(
    secret=RANDOM,
    broken=st.sampled_from(["", "\n", " x", "é", "\ud800", "\x00"]),
    place_of_it=st.sampled_from(["api_key", "password", "proxy", "proxy host", "header", "base_url", "base_url query"]),
)
@settings(deadline=None)
def test_no_setting_shows_a_secret(secret, broken, place_of_it):
    value = f"kco_test_{secret}{broken}{secret}"
    given = {
        "api_key": {"api_key": value},
        "password": {"api_key": None, "username": "K1", "password": value},
        "proxy": {"proxy": f"http://u:{value}@proxy.example"},
        "proxy host": {"proxy": f"{value}@proxy.example"},
        "header": {"headers": {"X-Token": Secret(value)}},
        "base_url": {"base_url": f"https://u:{value}@api.kustom.co"},
        "base_url query": {"base_url": f"https://api.kustom.co?{value}"},
    }[place_of_it]
    try:
        made = build(**given)
    except hpp.ConfigError as error:
        caught = traceback.TracebackException.from_exception(error, capture_locals=True)
        library = str(Path(str(hpp.__file__)).parent)
        ours = [frame.locals for frame in caught.stack if frame.filename.startswith(library)]
        assert ours
        told = str(error) + repr(error) + repr(error.args) + repr(vars(error)) + repr(ours)
    else:
        told = repr(made) + str(made) + repr(copy.copy(made)) + repr(copy.deepcopy(attrs.evolve(made, ssl=None)))
    assert secret not in told
    assert base64.b64encode(f"K1:{value}".encode(errors="replace")).decode() not in told


def test_settings_are_frozen():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        build().base_url = HERE
