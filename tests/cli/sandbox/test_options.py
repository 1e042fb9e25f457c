"""`kustom-hpp sandbox`: the username, --lenient and --public-url."""

import json
import signal
from typing import Any

import pytest

from tests.cli.conftest import Cli, run, start

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/1001"
BODY = {"payment_session_url": ORDER, "options": {"purchase_type": "buy"}}


def _sandbox_json(*options: str, body: dict[str, Any], **settings: str) -> tuple[dict[str, Any], int, str]:
    """Start a sandbox; return its line of JSON, and the exit code and output of one create."""
    with start("sandbox", "--json", *options, **settings) as process:
        assert process.stdout is not None
        facts: dict[str, Any] = json.loads(process.stdout.readline())
        key = settings.get("KUSTOM_HPP_API_KEY") or facts["api_key"]
        connection = {"KUSTOM_HPP_BASE_URL": facts["base_url"], "KUSTOM_HPP_API_KEY": key}
        made = run("create", "-", stdin=json.dumps(body), **connection)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    return facts, made.code, made.out


def test_the_username_is_shown_with_the_key() -> None:
    facts, code, _ = _sandbox_json(body={"payment_session_url": ORDER})
    assert (facts["username"], code) == ("K000000_sandbox", 0)


def test_the_username_of_the_environment_is_shown_without_the_key() -> None:
    settings = {"KUSTOM_HPP_API_KEY": "my-own-key", "KUSTOM_HPP_USERNAME": "K1_me"}
    facts, code, _ = _sandbox_json("--key-from-env", body={"payment_session_url": ORDER}, **settings)
    assert (facts["api_key"], facts["username"], code) == (None, "K1_me", 0)


def test_links_begin_with_the_public_url() -> None:
    facts, code, out = _sandbox_json("--public-url", "http://localhost:8123/", body={"payment_session_url": ORDER})
    links = [link for name, link in json.loads(out).items() if name.endswith("_url")]
    assert (code, {link.split("/")[2] for link in links}) == (0, {"localhost:8123"})
    assert facts["base_url"].startswith("http://127.0.0.1:")


def test_the_start_text_names_username_links_and_lenience() -> None:
    with start("sandbox", "--lenient", "--public-url", "http://localhost:8123") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().rstrip("\n") for _ in range(5)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert lines[2:5] == [
        "  username   K000000_sandbox (for clients that send one with the key)",
        "  links      http://localhost:8123/",
        "  lenient    accepts enum values in another case",
    ]


@pytest.mark.parametrize("url", ["localhost:8000", "http://localhost/?x=1", "ftp://localhost"])
def test_a_public_url_that_is_invalid_is_a_usage_error(cli: Cli, url: str) -> None:
    done = cli("sandbox", "--public-url", url)
    assert (done.code, done.out) == (2, "")
    assert "--public-url: public_url is invalid" in done.err
