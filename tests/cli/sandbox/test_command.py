"""`kustom-hpp sandbox`."""

import json
import re
import signal
import socket
import subprocess
import urllib.request
from typing import Any

import pytest

from kustom_hpp.cli.sandbox import banner as greeting_of
from kustom_hpp.sandbox import FAULTS
from kustom_hpp.sandbox.faults import FAULT_GROUPS
from tests.cli.conftest import Cli, Done, run, start, variables

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/1001"


@pytest.mark.parametrize(("by", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_tells_where_serves_and_ends_cleanly(by: signal.Signals, code: int) -> None:
    with start("sandbox", "--json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert set(told) == {"base_url", "api_key", "username"}
        settings = {"KUSTOM_HPP_BASE_URL": told["base_url"], "KUSTOM_HPP_API_KEY": told["api_key"]}
        made = run("create", "-", stdin=json.dumps({"payment_session_url": ORDER}), **settings)
        assert (made.code, made.err) == (0, "")
        assert json.loads(made.out)["redirect_url"].startswith(told["base_url"])
        process.send_signal(by)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "", "")


def greeting(*options: str, lines: int, **settings: str) -> tuple[list[str], str, str]:
    """What it tells people when it has begun to listen, and what the pasted lines made of it: stdout and stderr."""
    with start("sandbox", *options, **settings) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().rstrip("\n") for _ in range(lines)]
        pasted = "\n".join(line for line in told if line.startswith(("export", "curl", "  -")))
        script = f"{pasted}\necho; echo $KUSTOM_HPP_BASE_URL; echo $KUSTOM_HPP_API_KEY"
        done = subprocess.run(
            ["sh", "-euc", script], env=variables(**settings), capture_output=True, text=True, timeout=30, check=False
        )
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, done.returncode, done.stderr) == (0, "", 0, "")
    return told, done.stdout, err


def test_people_get_lines_to_paste() -> None:
    told, pasted, err = greeting(lines=13)
    session, base_url, key = pasted.split("\n")[:3]
    assert json.loads(session)["session_url"].startswith(base_url)
    assert told[0] == f"Kustom HPP sandbox at {base_url}, until Ctrl-C."
    assert told[1] == f"  console    {base_url}/"
    assert key.startswith("kco_test_api_")
    assert err == ""


def test_it_misbehaves_as_told() -> None:
    options = [
        "--fault",
        "hang~seconds=0.1,nth=2",
        "--fault",
        "status_429~operation=read_session",
        "--rate-limit",
        "2.5:7",
    ]
    told, pasted, err = greeting(*options, "--rate-limit-headers", "bare", "--latency", "0.05..0.1", lines=17)
    assert told[3:7] == [
        "  fault      hang~seconds=0.1,nth=2",
        "  fault      status_429~operation=read_session",
        "  rate limit 2.5 creates a second, 7 at once",
        "  latency    0.05 to 0.1 s",
    ]
    assert json.loads(pasted.split("\n")[0])["session_id"]
    assert err == ""


def test_what_it_was_told_is_in_force() -> None:
    options = [
        "--fault",
        "status_503~times=1",
        "--rate-limit",
        "2.5:7",
        "--rate-limit-headers",
        "bare",
        "--latency",
        "0.05",
    ]
    with start("sandbox", "--json", *options) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        where = {"KUSTOM_HPP_BASE_URL": told["base_url"], "KUSTOM_HPP_API_KEY": told["api_key"]}
        codes = [run("create", "-", stdin=json.dumps({"payment_session_url": ORDER}), **where).code for _ in range(2)]
        assert codes == [4, 0]
        asked = {name: ask(told, name) for name in ("faults", "rate_limit", "latency")}
        process.terminate()
        assert process.wait(30) == 0
    assert [(rule["fault"], rule["times"], rule["triggered"]) for rule in asked["faults"]["faults"]] == [
        ("status_503", 1, 1)
    ]
    assert asked["rate_limit"] == {"rate_limit": {"rate": 2.5, "burst": 7, "announce": "bare"}}
    assert asked["latency"] == {"latency": {"low": 0.05, "high": None, "seed": 0}}


def ask(told: dict[str, str], what: str) -> dict[str, Any]:
    """The admin endpoint of a sandbox that was told in JSON."""
    request = urllib.request.Request(
        f"{told['base_url']}/_sandbox/{what}", headers={"Authorization": f"Basic {told['api_key']}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def test_a_key_from_the_environment_is_taken_and_not_told() -> None:
    settings = {"KUSTOM_HPP_API_KEY": "my very own key", "KUSTOM_HPP_USERNAME": "K1_me"}
    told, pasted, _ = greeting("--key-from-env", lines=12, **settings)
    assert json.loads(pasted.split("\n")[0])["session_id"]
    assert "own key" not in "\n".join(told)
    with start("sandbox", "--json", "--key-from-env", **settings) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["api_key"] is None
        process.terminate()
        assert process.wait(30) == 0


def test_a_key_that_cannot_be_taken(cli: Cli, environment: pytest.MonkeyPatch) -> None:
    assert cli("sandbox", "--key-from-env") == Done(3, "", "error: --key-from-env: KUSTOM_HPP_API_KEY is not set.\n")
    environment.setenv("KUSTOM_HPP_API_KEY", "kco_live_api_secret")
    done = cli("sandbox", "--key-from-env")
    assert (done.code, done.out) == (3, "")
    assert "holds a live key" in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "--fault hnag",
            "--fault hnag: no fault is called 'hnag'; did you mean hang? Run 'kustom-hpp sandbox --list-faults'",
        ),
        (
            "--fault hang --fault garbage~x=1 --fault =",
            "--fault garbage~x=1: garbage has no parameter 'x'. It has: none",
        ),
        ("--fault hang --fault garbage~x=1 --fault =", "--fault =: no fault is called '='"),
        ("--fault hang~nth=0", "--fault hang~nth=0: nth counts from 1, got 0"),
        ("--fault hang~nth=x", "--fault hang~nth=x: nth must be of type int, got 'x'"),
        ("--fault hang~operation=sell", "no operation is called 'sell'"),
        ("--fault hang~probability=2", "'probability' must be <= 1.0"),
        ("--rate-limit 0", "--rate-limit 0 is not a rate above 0"),
        ("--rate-limit -1", "--rate-limit"),
        ("--rate-limit 40:0", "--rate-limit 40:0 is not a rate above 0"),
        ("--rate-limit 40:", "--rate-limit 40: is not a rate above 0"),
        ("--rate-limit nan", "--rate-limit nan is not a rate above 0"),
        ("--rate-limit 1e9", "--rate-limit 1e9 is not a rate above 0"),
        ("--rate-limit-headers bare", "--rate-limit-headers bare announces a rate limit. Add one"),
        ("--rate-limit 40 --rate-limit-headers all", "--rate-limit-headers"),
        ("--latency x", "--latency x is not a time in seconds"),
        ("--latency 0.5..0.1", "--latency 0.5..0.1 is not a time in seconds"),
        ("--latency 0.1..", "--latency 0.1.. is not a time in seconds"),
        ("--host 0.0.0.0", "Other machines can reach --host 0.0.0.0. Add --expose"),
        ("--host 203.0.113.1", "Other machines can reach --host 203.0.113.1. Add --expose"),
        ("--host shop.example", "Other machines can reach --host shop.example. Add --expose"),
    ],
)
def test_what_cannot_be_is_a_usage_error(cli: Cli, options: str, said: str) -> None:
    done = cli("sandbox", *options.split())
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_all_faults_are_listed_for_people_and_for_scripts(cli: Cli) -> None:
    people, scripts = cli("sandbox", "--list-faults"), cli("sandbox", "--list-faults", "--json")
    assert (people.code, people.err, scripts.code, scripts.err) == (0, "", 0, "")
    rows = [json.loads(line) for line in scripts.out.splitlines()]
    assert {row["name"]: (row["session_exists"], row["stage"], row["parameters"]) for row in rows} == {
        name: (kind.processes_request, kind.stage, dict(kind.defaults)) for name, kind in FAULTS.items()
    }
    head, *lines = people.out.splitlines()
    assert head.split("  ")[0] == "fault"
    session_json = {line.split()[0]: line.split()[1:] for line in lines[: len(FAULTS)]}
    assert session_json.keys() == FAULTS.keys()
    assert {name: words[0] for name, words in session_json.items()} == {
        name: "yes" if kind.processes_request else "no*" if "commit" in kind.defaults else "no"
        for name, kind in FAULTS.items()
    }
    assert " ".join(session_json["hang"]) == "yes processes the request, then silence; FIN after seconds [seconds=10]"


def test_in_a_terminal_faults_stand_with_their_like(cli: Cli, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("FORCE_COLOR", "1")
    environment.setenv("COLUMNS", "80")
    text = re.sub(r"\x1b\[[0-9;]*m", "", cli("sandbox", "--list-faults").out)
    assert all(title in text for title in FAULT_GROUPS)
    assert all(f" {name} " in text for name in FAULTS)
    assert max(map(len, text.splitlines())) <= 80


def test_a_port_of_choice(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other_client_rate:
        port = other_client_rate.getsockname()[1]
        done = cli("sandbox", "--port", str(port))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: cannot listen on 127.0.0.1, port {port} (Address already in use). Choose another --port, or 0 for a "
        "free one.\n"
    )
    with start("sandbox", "--json", "--port", str(port), "--host", "localhost") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["base_url"] == f"http://localhost:{port}"
        process.terminate()
        assert process.wait(30) == 0


def test_a_host_that_is_none(cli: Cli) -> None:
    done = cli("sandbox", "--host", "203.0.113.1", "--expose")
    assert (done.code, done.out) == (1, "")
    assert "cannot listen on 203.0.113.1" in done.err


@pytest.mark.parametrize("host", [None, "0.0.0.0", "::"])
def test_who_is_exposed_is_told_and_others_reach_it_by_the_name_they_call(host: str | None) -> None:
    options = ["--expose"] if host is None else ["--expose", "--host", host]
    told, pasted, err = greeting(*options, lines=13)
    session, base_url = pasted.split("\n")[:2]
    loopback = "[::1]" if host == "::" else "127.0.0.1"
    assert re.fullmatch(rf"http://{re.escape(loopback)}:\d+", base_url)
    assert told[0] == f"Kustom HPP sandbox at {base_url}, until Ctrl-C."
    assert json.loads(session)["redirect_url"].startswith(f"{base_url}/eu/hpp/payments/")
    port = base_url.rpartition(":")[2]
    assert re.match(
        rf"warning: other machines can reach this sandbox, at http://\S+:{port}\. Everybody there can ", err
    )
    assert "KUSTOM_HPP_INSECURE_HTTP=1" in err


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "pay.shop.example"])
def test_a_host_of_choice_is_what_others_call_it(host: str) -> None:
    assert greeting_of.address(host) == host


def test_a_machine_without_a_network_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting_of, "UNUSED_ADDRESSES", {socket.AF_INET: ("no.such.host.invalid", 9)})
    monkeypatch.setattr(socket, "gethostname", lambda: "my-desk")
    assert greeting_of.address("0.0.0.0") == "my-desk"
