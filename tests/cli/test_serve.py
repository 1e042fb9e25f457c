"""`kustom-hpp sandbox`."""

import json
import re
import signal
import socket
import subprocess

import pytest

from tests.cli.conftest import Cli, run, start, variables

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/1001"


@pytest.mark.parametrize(("by", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_tells_where_serves_and_ends_cleanly(by: signal.Signals, code: int) -> None:
    with start("sandbox", "--json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert set(told) == {"base_url", "api_key"}
        settings = {"KUSTOM_HPP_BASE_URL": told["base_url"], "KUSTOM_HPP_API_KEY": told["api_key"]}
        made = run("create", "-", stdin=json.dumps({"payment_session_url": ORDER}), **settings)
        assert (made.code, made.err) == (0, "")
        assert json.loads(made.out)["redirect_url"].startswith(told["base_url"])
        process.send_signal(by)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (code, "", "")


def test_people_get_lines_to_paste() -> None:
    with start("sandbox") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(11)]
        script = "".join(line for line in lines if not re.match(r"[A-Z]", line)).replace(" kustom", "")
        done = subprocess.run(
            ["sh", "-euc", f"{script}\necho; echo $KUSTOM_HPP_BASE_URL; env | grep -c ^KUSTOM_HPP_API_KEY=kco_test_api_"],
            env=variables(), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    session, base_url, has_key = done.stdout.split("\n")[:3]
    assert json.loads(session)["session_url"].startswith(base_url)
    assert base_url in lines[0]
    assert (done.returncode, done.stderr, has_key) == (0, "", "1")


def test_a_port_of_choice(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli("sandbox", "--port", str(port))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: cannot listen on 127.0.0.1, port {port} (Address already in use): choose another --port, or 0 for any "
        "free one.\n"
    )
    with start("sandbox", "--json", "--port", str(port), "--host", "localhost") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["base_url"] == f"http://localhost:{port}"
        process.terminate()
        assert process.wait(30) == 0


def test_a_host_that_is_none(cli: Cli) -> None:
    done = cli("sandbox", "--host", "203.0.113.1")
    assert done.code == 1
    assert "cannot listen on 203.0.113.1" in done.err
