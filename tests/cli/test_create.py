"""`kustom-hpp create`."""

import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Cli, run, start
from tests.support.faults import find_fault

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/1001"


def request(**fields: Any) -> bytes:
    return json.dumps({"payment_session_url": ORDER} | fields).encode()


@pytest.mark.parametrize("by", ["file", "stdin"])
def test_one_request_in_one_session_out(cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, by: str) -> None:
    body = request(merchant_urls={"success": "https://shop.example/ø?hpp={{session_id}}"})
    (tmp_path / "request.json").write_bytes(body)
    done = cli("create", "-", stdin=body) if by == "stdin" else cli("create", str(tmp_path / "request.json"))
    assert (done.code, done.err) == (0, "")
    line, end = done.out.split("\n")
    [made] = at_sandbox.record.created
    stored = at_sandbox.call(lambda sandbox: sandbox.state.sessions[made.session_id])
    assert (end, json.loads(line)) == ("", stored.created_json(at_sandbox.base_url))
    [seen] = at_sandbox.record.requests
    assert json.loads(seen.body) == json.loads(body)


def test_stdout_of_a_process_holds_nothing_but_the_session(sandbox: ThreadedSandbox) -> None:
    settings = {"KUSTOM_HPP_API_KEY": sandbox.api_key, "PYTHONIOENCODING": "latin-1", "FORCE_COLOR": "1"}
    done = run("create", "--base-url", sandbox.base_url, "-", stdin=request(new="1").decode(), **settings)
    assert done.code == 0
    assert json.loads(done.out)["session_id"] == sandbox.record.created[0].session_id
    assert "new: is not a field of this release" in done.err


def test_options_win_over_variables(cli: Cli, at_sandbox: ThreadedSandbox, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KUSTOM_HPP_BASE_URL", "http://127.0.0.1:9")
    environment.setenv("KUSTOM_HPP_USERNAME", "nobody")
    done = cli(
        "create", "--base-url", at_sandbox.base_url, "--username", at_sandbox.username, "--deadline", "9", "-",
        stdin=request(),
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert cli("create", "--environment", "live", "-", stdin=request()).code == 3


def test_what_is_odd_is_said_on_stderr_and_sent(cli: Cli, at_sandbox: ThreadedSandbox) -> None:
    done = cli("create", "-", stdin=request(merchant_urls={"back": "https://shop.example/?s={{sid}}", "bakc": "x"}))
    assert done.code == 0
    assert [line[:32] for line in done.err.splitlines()] == [
        "warning: merchant_urls.back: has",
        "warning: merchant_urls.bakc: is ",
    ]
    assert len(at_sandbox.record.created) == 1


BAD_INPUT = [
    # what stdin holds, what stderr says
    (b"", "<stdin> is empty."),
    (b" \n", "<stdin> is empty."),
    (b'{"a": 1,\n "b": nope}', "<stdin> is not JSON: Expecting value at line 2, column 7."),
    (b'{"a": 1} x', "<stdin> is not JSON: Extra data at line 1, column 10."),
    (b'{"a": NaN}', "<stdin> is not JSON"),
    (b'{"a": 1' + b"0" * 5000 + b"}", "<stdin> is not JSON"),
    (b"\xff{}", "<stdin> is not UTF-8 at byte 0."),
    (b"[" * 200_000, "<stdin> is not JSON "),
    (b"[]", "$: must be a JSON object, got a list"),
    (b"{}", "payment_session_url: is required"),
]


@pytest.mark.parametrize(("body", "due"), BAD_INPUT, ids=[due for _, due in BAD_INPUT])
def test_input_that_is_no_request_exits_2_and_sends_nothing(
    cli: Cli, at_sandbox: ThreadedSandbox, body: bytes, due: str
) -> None:
    done = cli("create", "-", stdin=body)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert due.removesuffix(".") in done.err
    assert not at_sandbox.record.requests


def test_every_problem_is_told_with_its_path(cli: Cli, at_sandbox: ThreadedSandbox) -> None:
    body = request(profile_id=7, merchant_urls={"success": "shop"}, options={"purchase_type": "buy"})
    done = cli("create", "-", stdin=body)
    assert done.code == 2
    head, *problems = done.err.splitlines()
    assert head == "error: the request is invalid, nothing was sent:"
    assert [problem.split(":")[0] for problem in problems] == [
        "  profile_id",
        "  merchant_urls.success",
        "  options.purchase_type",
    ]
    assert not at_sandbox.record.requests


@pytest.mark.parametrize(("name", "why"), [("none.json", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, name: str, why: str) -> None:
    path = str(tmp_path / name)
    done = cli("create", path)
    assert done == type(done)(
        2, "", f"error: {path} cannot be read: {why}. Give a file with a JSON object, or - for stdin.\n"
    )


FAILURES = [
    # fault, exit code, what stderr says beside the error itself
    ("status_400", 1, "Nothing was created. Correct the request"),
    ("status_401", 3, "Run 'kustom-hpp check' to see the settings."),
    ("status_403", 1, "Ask Kustom whether this key may use"),
    ("status_404", 1, "The order is unknown to this API or has expired; create a new order"),
    ("retry_after_huge", 1, "It is safe to run it again, more slowly"),
    ("status_409", 1, "Nothing was created."),
    ("status_503", 4, "The session may exist. Do not run it again; create a new order. The lost session's link"),
    ("redirect_302", 4, "The session may exist. Do not run it again; create a new order. The lost session's link"),
    ("reset_after_request", 4, "create a new order and session. The lost session's link was never shown"),
    ("length_too_long", 4, "The session's id is "),
]


@pytest.mark.parametrize(("fault", "code", "due"), FAILURES, ids=[fault for fault, _, _ in FAILURES])
def test_a_failure_says_what_happened_and_what_to_do(
    cli: Cli, at_sandbox: ThreadedSandbox, fault: str, code: int, due: str
) -> None:
    at_sandbox.fault(find_fault(fault))
    done = cli("create", "-", stdin=request())
    assert (done.code, done.out) == (code, "")
    [paragraph] = done.err.splitlines()
    assert paragraph.startswith("error: ")
    assert due in paragraph
    assert ".." not in paragraph
    assert len(at_sandbox.record.requests) == 1


def test_no_connection_and_no_time(cli: Cli, at_sandbox: ThreadedSandbox, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KUSTOM_HPP_BASE_URL", "http://127.0.0.1:9")
    done = cli("create", "--deadline", "0.1", "-", stdin=request())
    assert done.code == 1
    assert "nothing was sent. It is safe to run it again" in done.err


def test_a_retry_is_told(cli: Cli, at_sandbox: ThreadedSandbox) -> None:
    at_sandbox.fault(find_fault("retry_after_past"), times=1)
    done = cli("create", "-", stdin=request())
    assert done.code == 0
    assert done.err.startswith("retrying: attempt 1 failed (create_session returned 429")


def test_on_unknown_resend_sends_again(cli: Cli, at_sandbox: ThreadedSandbox) -> None:
    at_sandbox.fault("status_503_retry_after", times=1)
    done = cli("create", "--on-unknown", "resend", "-", stdin=request())
    assert done.code == 0
    assert len(at_sandbox.record.requests) == 2


def test_no_credentials_exit_3_before_the_file_is_read(cli: Cli) -> None:
    done = cli("create", "/does/not/exist")
    assert (done.code, done.out) == (3, "")
    assert "KUSTOM_HPP_API_KEY" in done.err


def test_a_session_that_stdout_does_not_take_is_an_unknown_outcome(sandbox: ThreadedSandbox) -> None:
    settings = {"KUSTOM_HPP_API_KEY": sandbox.api_key, "KUSTOM_HPP_BASE_URL": sandbox.base_url}
    with start("create", "-", **settings) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(request().decode(), timeout=30)
    [made] = sandbox.record.created
    assert process.returncode == 4
    assert err.startswith(f"error: session {made.session_id} was created, but stdout did not accept it (Broken pipe).")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("fault", ["hang", "hang_uncommitted"])
def test_ctrl_c_says_that_the_session_may_exist(sandbox: ThreadedSandbox, fault: str) -> None:
    sandbox.fault(fault)
    settings = {"KUSTOM_HPP_API_KEY": sandbox.api_key, "KUSTOM_HPP_BASE_URL": sandbox.base_url}
    with start("create", "-", **settings) as process:
        assert process.stdin is not None
        process.stdin.write(request().decode())
        process.stdin.close()
        process.stdin = None
        while not sandbox.record.requests or not sandbox.record.requests[0].complete:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == ("interrupted: the session may exist. Do not run it again; create a new order.\n")


def test_ctrl_c_between_attempts_says_that_nothing_was_created(environment: pytest.MonkeyPatch) -> None:
    settings = {"KUSTOM_HPP_API_KEY": "kco_test_x", "KUSTOM_HPP_BASE_URL": "http://127.0.0.1:9"}
    with start("create", "-", **settings) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(request().decode())
        process.stdin.close()
        process.stdin = None
        lines = [process.stderr.readline()]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "retrying" in lines[0]
    assert err.splitlines()[-1] == "interrupted: nothing was created."


def test_a_person_at_the_keyboard_is_told_what_is_awaited(
    cli: Cli, at_sandbox: ThreadedSandbox, environment: pytest.MonkeyPatch
) -> None:
    class Keyboard(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    environment.setattr(io, "TextIOWrapper", Keyboard)
    done = cli("create", "-", stdin=request())
    assert (done.code, done.err) == (0, "reading: a request as JSON from the keyboard; end it with Ctrl-D.\n")
