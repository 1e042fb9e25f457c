"""`kustom-hpp check`."""

import http.server
import importlib.metadata
import sys
import threading
from collections.abc import Iterator

import pytest

from kustom_hpp.cli.check import mask
from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Cli, run

KEY = "kco_test_api_0123456789_0123456789_01234567"


def rows(out: str) -> dict[str, str]:
    """The report's lines by their names."""
    return {name: value.strip() for name, _, value in (line.strip().partition("  ") for line in out.splitlines())}


def test_it_shows_versions_variables_and_settings(cli: Cli, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KUSTOM_HPP_API_KEY", KEY)
    environment.setenv("KUSTOM_HPP_USERNAME", "K123456_abcdef")
    environment.setenv("KUSTOM_HPP_APP_INFO", "MyShop/1.2")
    done = cli("check")
    assert (done.code, done.err) == (0, "")
    shown = rows(done.out)
    for name in ("attrs", "cattrs", "tenacity", "cyclopts", "rich"):
        assert shown[name] == importlib.metadata.version(name)
    for name in ("aiohttp", "yarl", "multidict", "frozenlist", "propcache"):
        assert shown[name] == f"{importlib.metadata.version(name)}, C extensions active"
    assert shown["Python"].startswith(sys.version.split()[0])
    assert (shown["KUSTOM_HPP_API_KEY"], shown["KUSTOM_HPP_PASSWORD"]) == ("set", "not set")
    assert shown["environment"] == "playground"
    assert shown["base URL"] == "https://api.playground.kustom.co"
    assert shown["User-Agent"].startswith("Library/kustom_hpp_")
    assert shown["User-Agent"].endswith(" MyShop/1.2")
    assert (shown["api_key"], shown["username"]) == ("kco_test_…(43 characters)", "K1…(14 characters)")
    assert shown["proxy"] == "none"


def test_options_win_over_variables(cli: Cli, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KUSTOM_HPP_API_KEY", "no-prefix-here")
    environment.setenv("KUSTOM_HPP_ENVIRONMENT", "live")
    shown = rows(cli("check", "--base-url", "https://hpp.example/eu").out)
    assert (shown["environment"], shown["base URL"]) == ("any, because base_url is set", "https://hpp.example/eu")
    shown = rows(cli("check", "--environment", "playground", "--username", "K12_longer").out)
    assert (shown["environment"], shown["username"]) == ("playground", "K1…(10 characters)")
    assert rows(cli("check").out)["environment"] == "live"


@pytest.mark.parametrize(
    ("credential", "due"),
    [
        (KEY, "kco_test_…(43 characters)"),
        (f" {KEY}\n", "kco_test_…(43 characters)"),
        ("klarna_live_api_xyz", "klarna_live_…(19 characters)"),
        ("K123456_abc", "K1…(11 characters)"),
        ("12345678", "…(8 characters)"),
        ("kco_test_", "kco_test_…(9 characters)"),
    ],
)
def test_mask(credential: str, due: str) -> None:
    assert mask(credential) == due


@pytest.mark.parametrize(
    ("variables", "due"),
    [
        ({}, "KUSTOM_HPP_API_KEY"),
        ({"API_KEY": KEY, "ENVIRONMENT": "live"}, "the key is a playground key, but environment is live"),
        ({"API_KEY": KEY, "INSECURE_HTTP": "perhaps"}, "KUSTOM_HPP_INSECURE_HTTP must be 1 or 0"),
    ],
)
def test_settings_that_cannot_work_exit_3_after_the_versions(
    cli: Cli, environment: pytest.MonkeyPatch, variables: dict[str, str], due: str
) -> None:
    for name, value in variables.items():
        environment.setenv(f"KUSTOM_HPP_{name}", value)
    done = cli("check")
    assert done.code == 3
    assert due in done.err
    assert "aiohttp" in rows(done.out)


def test_missing_c_extensions_are_told() -> None:
    settings = {"AIOHTTP_NO_EXTENSIONS": "1", "YARL_NO_EXTENSIONS": "1", "MULTIDICT_NO_EXTENSIONS": "1"}
    done = run("check", KUSTOM_HPP_API_KEY=KEY, **settings)
    assert done.code == 0
    assert done.err.startswith("warning: aiohttp, yarl, multidict run without C extensions, so each call costs 1.3")
    assert rows(done.out)["yarl"].endswith(", without C extensions")
    assert rows(done.out)["frozenlist"].endswith(", C extensions active")


def test_a_library_that_is_not_installed_is_told_with_its_extra(cli: Cli, environment: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_orjson(name: str) -> str:
        if name == "orjson":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    environment.setattr(importlib.metadata, "version", without_orjson)
    assert rows(cli("check").out)["orjson"] == "not installed (extra speed)"


# --online


def test_online_says_that_host_and_key_answer_and_creates_nothing(cli: Cli, at_sandbox: ThreadedSandbox) -> None:
    done = cli("check", "--online")
    assert (done.code, done.err) == (0, "")
    assert rows(done.out)[at_sandbox.base_url].startswith("accepts the key (")
    [seen] = at_sandbox.record.requests
    assert (seen.method, seen.path) == ("GET", "/hpp/v1/sessions/00000000-0000-0000-0000-000000000000")
    assert (seen.body, seen.status) == (b"", 404)
    assert seen.header("authorization") == f"Basic {at_sandbox.api_key}".encode()
    assert str(seen.header("user-agent")).startswith("b'Library/kustom_hpp_")
    assert not at_sandbox.record.created


def test_online_with_a_wrong_key(cli: Cli, at_sandbox: ThreadedSandbox, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KUSTOM_HPP_API_KEY", KEY)
    done = cli("check", "--online")
    assert done.code == 3
    assert done.err == ("error: 127.0.0.1 rejected the key (401). Check key, username and environment.\n")


def test_without_online_nothing_is_sent(cli: Cli, at_sandbox: ThreadedSandbox) -> None:
    assert cli("check").code == 0
    assert not at_sandbox.record.connections


API_BODY = b'{"error_code": "X", "error_messages": ["as scripted"], "correlation_id": "c-1"}'


class FixedServer(http.server.HTTPServer):
    """A server that answers every GET with one response."""

    status, headers, body = 404, {"Content-Type": "application/json"}, API_BODY


class FixedHandler(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the server's response."""

    def do_GET(self) -> None:
        assert isinstance(self.server, FixedServer)
        self.send_response(self.server.status)
        for name, value in (self.server.headers | {"Content-Length": str(len(self.server.body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Say nothing."""


@pytest.fixture
def fixed(environment: pytest.MonkeyPatch) -> Iterator[FixedServer]:
    """A server that answers everything with one response."""
    with FixedServer(("127.0.0.1", 0), FixedHandler) as server:
        environment.setenv("KUSTOM_HPP_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        environment.setenv("KUSTOM_HPP_API_KEY", KEY)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "due"),
    [
        (200, 1, "does not look like the HPP API: it returned 200"),
        (302, 1, "returned 302 to a harmless request"),
        (403, 3, "knows the key, but does not allow this (403)"),
        (429, 1, "returned 429 to a harmless request"),
        (503, 1, "returned 503 to a harmless request (as scripted; correlation id c-1)"),
    ],
)
def test_online_never_speaks_of_an_unknown_outcome(
    cli: Cli, fixed: FixedServer, status: int, code: int, due: str
) -> None:
    fixed.status = status
    done = cli("check", "--online")
    assert done.code == code
    assert due in done.err
    assert "session may exist" not in done.err
    assert "new order" not in done.err


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, API_BODY),
        ({"Klarna-Correlation-Id": "c"}, b'{"error_code": "X", "error_messages": []}'),
        ({"X-Kustom-Correlation-ID": "c"}, b'{"error_code": "NOT_FOUND", "error_messages": ["a", "b"], "new": 1}'),
        ({}, b'\xef\xbb\xbf{"correlation_id": "c", "error_messages": [], "error_code": ""}'),
    ],
)
def test_the_api_is_recognised_by_its_error_body(
    cli: Cli, fixed: FixedServer, headers: dict[str, str], body: bytes
) -> None:
    fixed.headers, fixed.body = headers, body
    done = cli("check", "--online")
    assert (done.code, done.err) == (0, "")


HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "due"),
    [
        (
            404,
            HTML,
            b"<h1>Not Found</h1>",
            "it returned 404 with an HTML page for an unused session. Likely cause: another",
        ),
        (404, JSON, b'{"detail": "Not Found"}', "404 with JSON of another shape"),
        (404, JSON, b'{"error_code": "X", "error_messages": ["a"]}', "404 with JSON of another shape"),
        (
            404,
            JSON,
            b'{"error_code": "X", "error_messages": "a", "correlation_id": "c"}',
            "404 with JSON of another shape",
        ),
        (404, JSON, b'["error_code"]', "404 with JSON of another shape"),
        (404, {}, b"", "404 with no JSON"),
        (404, {"Klarna-Correlation-Id": "c"}, b"", "404 with no JSON"),
        (200, HTML, b"<h1>Welcome</h1>", "200 with an HTML page"),
        (204, {}, b"", "204 with no JSON"),
        (302, HTML | {"Location": "https://login.example/"}, b"", "302 with an HTML page"),
        (
            502,
            HTML,
            b"<h1>Bad Gateway</h1>",
            "Likely cause: a gateway in front of the API sent this page. Try again later.",
        ),
        (407, HTML, b"", "Likely cause: the proxy asks for credentials."),
    ],
)
def test_another_server_is_not_the_api(  # noqa: PLR0917
    cli: Cli, fixed: FixedServer, status: int, headers: dict[str, str], body: bytes, due: str
) -> None:
    fixed.status, fixed.headers, fixed.body = status, headers, body
    done = cli("check", "--online")
    assert done.code == 1
    assert "does not look like the HPP API" in done.err
    assert due in done.err
    assert "accepts the key" not in done.out


@pytest.mark.parametrize(
    "name", ["API_KEY", "BASE_URL", "ENVIRONMENT", "USERNAME", "PROXY", "APP_INFO", "INSECURE_HTTP"]
)
@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_value_in_quotes_is_named_by_its_variable(
    cli: Cli, environment: pytest.MonkeyPatch, name: str, quote: str
) -> None:
    environment.setenv("KUSTOM_HPP_API_KEY", "kco_live_api_secret")
    environment.setenv(f"KUSTOM_HPP_{name}", f"{quote}kco_live_api_secret{quote}")
    for command in ("check", "check --online", "read some-id"):
        done = cli(*command.split())
        assert done.code == 3
        assert f"KUSTOM_HPP_{name} is in quotes" in done.err
        assert "secret" not in done.out + done.err


@pytest.mark.parametrize("value", [f"{KEY}\n", f" {KEY} ", f"\t{KEY}\r\n", f"{KEY}\u00a0"])
def test_blanks_around_a_value_do_not_count(cli: Cli, environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("KUSTOM_HPP_API_KEY", value)
    environment.setenv("KUSTOM_HPP_ENVIRONMENT", " playground\n")
    environment.setenv("KUSTOM_HPP_PROXY", " p.example:3128\n")
    done = cli("check")
    assert (done.code, done.err) == (0, "")
    shown = rows(done.out)
    assert (shown["environment"], shown["api_key"]) == ("playground", "kco_test_…(43 characters)")
    assert shown["proxy"] == "http://p.example:3128 (from KUSTOM_HPP_PROXY)"


@pytest.mark.parametrize("path", ["/checkout", "/eu/hpp", "/api/"])
def test_a_path_in_the_base_url_is_the_likely_cause(cli: Cli, fixed: FixedServer, path: str) -> None:
    fixed.headers, fixed.body = HTML, b"<h1>Not Found</h1>"
    done = cli("check", "--online", "--base-url", f"http://127.0.0.1:{fixed.server_port}{path}")
    assert done.code == 1
    assert f"Likely cause: the base URL has the path {path.rstrip('/')}. Remove it" in done.err


@pytest.mark.parametrize("path", ["", "/", "/checkout", "/eu/hpp/"])
def test_a_path_in_the_base_url_is_a_warning_if_the_api_responds(
    cli: Cli, at_sandbox: ThreadedSandbox, path: str
) -> None:
    done = cli("check", "--online", "--base-url", f"{at_sandbox.base_url}{path}")
    assert done.code == 0
    shown = path.rstrip("/")
    assert (f"the base URL has the path {shown}, and the response does not show" in done.err) == bool(shown)


@pytest.mark.parametrize("path", ["/hpp/v1", "/hpp/v1/", "/hpp/v1/sessions", "/HPP/v1"])
def test_the_api_s_own_path_is_refused_with_the_right_url(cli: Cli, environment: pytest.MonkeyPatch, path: str) -> None:
    environment.setenv("KUSTOM_HPP_API_KEY", KEY)
    done = cli("check", "--online", "--base-url", f"https://api.kustom.co{path}")
    assert done.code == 3
    assert "https://api.kustom.co" in done.err


@pytest.mark.parametrize(("status", "due"), [(401, "rejected the key (401)"), (403, "does not allow this (403)")])
@pytest.mark.parametrize("body", [b"", b"<h1>No</h1>", b"{}", b'{"message": "Unauthorized"}'])
def test_a_gateway_may_reject_the_key(cli: Cli, fixed: FixedServer, status: int, due: str, body: bytes) -> None:
    fixed.status, fixed.headers, fixed.body = status, {}, body
    done = cli("check", "--online")
    assert done.code == 3
    assert due in done.err
    assert "does not look like the HPP API's, so check the base URL too." in done.err


def test_online_without_an_answer(cli: Cli, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KUSTOM_HPP_BASE_URL", "http://127.0.0.1:9")
    environment.setenv("KUSTOM_HPP_API_KEY", KEY)
    done = cli("check", "--online")
    assert done.code == 1
    assert done.err.startswith("error: 127.0.0.1 did not respond (ClientConnectorError, errno 111, while connecting).")
