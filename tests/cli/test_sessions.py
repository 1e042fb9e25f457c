"""`kustom-hpp read`, `wait`, `disable` and `distribute`."""

import json
import secrets
import signal
import threading
from pathlib import Path

import pytest

from kustom_hpp._protocol.codec import codec
from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Cli, start
from tests.support.faults import find_fault

ORDER = "https://api.playground.kustom.co/checkout/v3/orders/1001"
KP = "https://api.playground.kustom.co/payments/v1/sessions/1001"
UNKNOWN = "5d1d7f2a-5b3a-4f0f-9c3e-0d4a6b0c7a11"
EMAIL = json.dumps({"method": "email", "contact_information": {"email": "alva@shop.example"}}).encode()
COMMANDS = {
    "read_session": "read {}",
    "disable_session": "disable {}",
    "distribute_session": "distribute {} --email alva@shop.example",
    "wait": "wait {} --deadline 30",
}
by_command = pytest.mark.parametrize("name", COMMANDS)


def new_session(sandbox: ThreadedSandbox, url: str = ORDER) -> str:
    request = codec().structure_request({"payment_session_url": url})

    def create(running):
        stored = running.state.create(request)
        assert stored is not None
        return stored.session_id

    return str(sandbox.call(create))


@pytest.fixture
def session_id(at_sandbox: ThreadedSandbox) -> str:
    return new_session(at_sandbox)


def operation_of(name: str) -> str:
    return "read_session" if name == "wait" else name


def words(name: str, session_id: str) -> list[str]:
    return COMMANDS[name].format(session_id).split()


# ---------------------------------------------------------------------------------------------------------------- read


def test_read(cli: Cli, at_sandbox: ThreadedSandbox, session_id: str) -> None:
    done = cli("read", session_id)
    assert (done.code, done.err) == (0, "")
    line, end = done.out.split("\n")
    assert (end, json.loads(line)) == ("", at_sandbox.call(lambda s: s.state.sessions[session_id].read_json()))
    at_sandbox.act(session_id, "pay")
    done = cli("read", session_id)
    assert (json.loads(done.out)["status"], json.loads(done.out)["order_id"]) == ("COMPLETED", "1001")


def test_what_may_be_personal_is_written_only_where_it_is_asked_for(cli: Cli, at_sandbox: ThreadedSandbox) -> None:
    session_id = new_session(at_sandbox, KP)
    at_sandbox.act(session_id, "pay")
    at_sandbox.fault("new_fields", operation="read_session")
    token = at_sandbox.call(lambda s: s.state.sessions[session_id].authorization_token)
    done = cli("read", session_id)
    assert done.code == 0
    assert done.err == "omitted: authorization_token, x_new; --all writes every field.\n"
    assert set(json.loads(done.out)) <= {"session_id", "status", "updated_at", "expires_at", "klarna_reference"}
    assert str(token) not in done.out
    done = cli("read", "--all", session_id)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["authorization_token"] == token
    assert "x_new" in json.loads(done.out)


# ---------------------------------------------------------------------------------------------------------------- wait


def test_wait_until_it_is_paid(cli: Cli, at_sandbox: ThreadedSandbox, session_id: str) -> None:
    def consumer() -> None:
        at_sandbox.wait_for(lambda record: len(record.requests) >= 2)
        at_sandbox.act(session_id, "open")
        seen = len(at_sandbox.record.requests)
        at_sandbox.wait_for(lambda record: len(record.requests) > seen)
        at_sandbox.act(session_id, "pay")

    thread = threading.Thread(target=consumer)
    thread.start()
    done = cli("wait", session_id, "--deadline", "30", "--poll", "0.5")
    thread.join()
    assert done.code == 0
    assert json.loads(done.out)["status"] == "COMPLETED"
    assert done.err.splitlines() == ["status: WAITING", "status: IN_PROGRESS", "status: COMPLETED"]


@pytest.mark.parametrize(("action", "status"), [("cancel", "CANCELLED"), ("disable", "DISABLED")])
def test_an_end_that_nobody_paid_exits_1(
    cli: Cli, at_sandbox: ThreadedSandbox, session_id: str, action: str, status: str
) -> None:
    if action == "cancel":
        at_sandbox.act(session_id, "cancel")
    else:
        assert cli("disable", session_id).code == 0
    done = cli("wait", session_id, "--deadline", "5")
    assert (done.code, json.loads(done.out)["status"]) == (1, status)
    assert done.err.splitlines() == [f"status: {status}", f"not paid: the session is {status}."]


def test_a_wait_that_is_over(cli: Cli, session_id: str) -> None:
    done = cli("wait", session_id, "--deadline", "1", "--poll", "5")  # one read, however slow the machine is
    assert (done.code, done.out) == (1, "")
    status, error = done.err.splitlines()
    assert status == "status: WAITING"
    assert error == (
        "error: the session did not reach a final status within 1 s: its last status was WAITING. It is safe to run it "
        "again with a longer --deadline."
    )


def test_a_status_that_writes_into_the_terminal(cli: Cli, at_sandbox: ThreadedSandbox, session_id: str) -> None:
    at_sandbox.call(lambda s: setattr(s.state.sessions[session_id], "status", "\x1b[2JX"))
    done = cli("wait", session_id, "--deadline", "0.3")
    assert "\x1b" not in done.err
    assert done.err.startswith("status: \\x1b[2JX\n")


# ------------------------------------------------------------------------------------------------------------- disable


def test_disable(cli: Cli, at_sandbox: ThreadedSandbox, session_id: str) -> None:
    for _ in range(2):
        done = cli("disable", session_id)
        assert (done.code, done.out) == (0, "")
        assert done.err == "disabled: the session's page is closed permanently.\n"
    assert at_sandbox.call(lambda s: s.state.sessions[session_id].status) == "DISABLED"


def test_what_is_paid_cannot_be_disabled(cli: Cli, at_sandbox: ThreadedSandbox, session_id: str) -> None:
    at_sandbox.act(session_id, "pay")
    done = cli("disable", session_id)
    assert (done.code, done.out) == (1, "")
    assert "A completed session cannot be disabled" in done.err


# ---------------------------------------------------------------------------------------------------------- distribute


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        (["--email", "alva@shop.example"], "email"),
        (["--phone", "+46 70 174 06 05", "--phone-country", "SE"], "sms"),
        (["--access-id", "123456"], "token"),
    ],
    ids=["e-mail", "SMS", "token"],
)
def test_distribute(cli: Cli, at_sandbox: ThreadedSandbox, session_id: str, arguments: list[str], method: str) -> None:
    done = cli("distribute", session_id, *arguments)
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines()[-1] == (f"sent: the API accepted the message ({method}); delivery may take minutes.")
    assert ("warning: method: is sms" in done.err) is (method == "sms")
    assert [(sent.session_id, sent.method) for sent in at_sandbox.record.distributions] == [(session_id, method)]


@pytest.mark.parametrize("by", ["file", "stdin"])
def test_a_contact_that_is_no_argument(
    cli: Cli, at_sandbox: ThreadedSandbox, session_id: str, tmp_path: Path, by: str
) -> None:
    (tmp_path / "request.json").write_bytes(EMAIL)
    file = "-" if by == "stdin" else str(tmp_path / "request.json")
    done = cli("distribute", session_id, file, stdin=EMAIL)
    assert done.code == 0
    assert "alva" not in done.out + done.err
    [seen] = at_sandbox.record.requests
    assert json.loads(seen.body) == json.loads(EMAIL)


ONE_WAY = "Give one of FILE (or - for stdin), --email, --phone with --phone-country, --access-id."


@pytest.mark.parametrize(
    ("arguments", "due"),
    [
        ([], ONE_WAY),
        (["--email", "a@b", "--access-id", "1"], ONE_WAY),
        (["-", "--email", "a@b"], ONE_WAY),
        (["--phone", "070"], ONE_WAY),
        (["--phone-country", "SE"], ONE_WAY),
        (
            ["--email", "nobody"],
            "contact_information.email: must be an address like name@host, got text of 6 characters",
        ),
        (["--email", ""], "contact_information.email: is required"),
        (
            ["--phone", "x", "--phone-country", "Sweden"],
            "contact_information.phone_country: must be two capital letters",
        ),
        (["--access-id", ""], "contact_information.access_id: is required"),
        (["-"], "<stdin> is empty."),
        (["/does/not/exist"], "/does/not/exist cannot be read: No such file or directory."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_no_distribution_exits_2_and_sends_nothing(
    cli: Cli, at_sandbox: ThreadedSandbox, session_id: str, arguments: list[str], due: str
) -> None:
    done = cli("distribute", session_id, *arguments)
    assert (done.code, done.out) == (2, "")
    assert due in done.err
    assert not at_sandbox.record.requests


def test_a_distribution_of_unknown_outcome_is_sent_again_where_it_is_asked_for(
    cli: Cli, at_sandbox: ThreadedSandbox, session_id: str
) -> None:
    at_sandbox.fault("close_before_processing", operation="distribute_session", times=1)
    done = cli("distribute", session_id, "--email", "alva@shop.example", "--on-unknown", "resend")
    assert done.code == 0
    assert done.err.startswith("retrying: attempt 1 failed")
    assert len(at_sandbox.record.distributions) == 1


# ------------------------------------------------------------------------------------------------------------ failures


@by_command
@pytest.mark.parametrize("bad", ["../x", "https://api.kustom.co/hpp/v1/sessions/1", "a b"])
def test_an_id_that_is_none_exits_2(cli: Cli, at_sandbox: ThreadedSandbox, name: str, bad: str) -> None:
    done = cli(*[bad if word == "ID" else word for word in words(name, "ID")])
    assert (done.code, done.out) == (2, "")
    assert "session: must be the id alone" in done.err
    assert not at_sandbox.record.requests


@by_command
def test_a_session_that_is_unknown_exits_1(cli: Cli, at_sandbox: ThreadedSandbox, name: str) -> None:
    done = cli(*words(name, UNKNOWN))
    assert (done.code, done.out) == (1, "")
    assert "404 NOT_FOUND" in done.err
    assert "The session has expired, or these credentials have no such session" in done.err
    assert "created" not in done.err


PASSING = ("reset_after_request", "status_500", "retry_after_huge~seconds=1")
FAILURES = [
    # fault, what stderr says; exit codes of read, disable, distribute and wait
    ("status_401", "Run 'kustom-hpp check' to see the settings.", (3, 3, 3, 3)),
    ("status_403", "Ask Kustom whether this key may use", (1, 1, 1, 1)),
    ("status_409", "409 CONFLICT", (1, 1, 1, 1)),
    ("redirect_303", "303", (1, 1, 4, 1)),
    ("reset_after_request", "", (1, 1, 4, 1)),
    ("status_500", "", (1, 1, 4, 1)),
    ("retry_after_huge~seconds=1", "more slowly", (1, 1, 1, 1)),
]


@pytest.mark.parametrize("failure", FAILURES, ids=[fault for fault, _, _ in FAILURES])
@pytest.mark.parametrize("number", range(4), ids=list(COMMANDS))
def test_a_failure_says_what_happened_and_what_to_do(
    cli: Cli, at_sandbox: ThreadedSandbox, session_id: str, number: int, failure: tuple[str, str, tuple[int, ...]]
) -> None:
    fault, due, codes = failure
    name, code = [*COMMANDS][number], codes[number]
    at_sandbox.fault(find_fault(fault), operation=operation_of(name))
    command = words(name, session_id)
    if fault in PASSING and name != "distribute_session":
        # Not so long that all attempts are made; and a wait passes over it until its deadline.
        command = [*command[:2], "--deadline", "0.4"]
    done = cli(*command)
    assert (done.code, done.out) == (code, "")
    error = done.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert due in error or (name == "wait" and "did not reach a final status within 0.4 s" in error)
    assert ".." not in error.replace("...", "")
    assert not any(word in error for word in ("Do not retry", "new order", "created", "alva"))
    if code == 4:
        assert "the api may have sent the message" in error.lower() or "the message may have been sent" in error.lower()
    elif codes[2] == 4:
        assert any(advice in error.lower() for advice in ("it is safe to ", "read it again.", "disable it again."))


@by_command
def test_no_connection(cli: Cli, at_sandbox: ThreadedSandbox, environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv("KUSTOM_HPP_BASE_URL", "http://127.0.0.1:9")
    command = words(name, UNKNOWN)
    done = cli(*(command[:2] if name == "wait" else command), "--deadline", "0.1")
    assert (done.code, done.out) == (1, "")
    assert "It is safe to run it again" in done.err


@by_command
def test_no_credentials(cli: Cli, name: str) -> None:
    done = cli(*words(name, UNKNOWN))
    assert (done.code, done.out) == (3, "")
    assert "KUSTOM_HPP_API_KEY" in done.err


@pytest.mark.parametrize(
    ("arguments", "due"),
    [
        ("wait x", "error: --deadline is required. Run 'kustom-hpp wait --help' for usage."),
        ("wait x --deadline", "error: --deadline needs a value. Run 'kustom-hpp wait --help' for usage."),
        ("wait x --deadlin 5", "error: --deadline is required. Did you mean --deadline instead of --deadlin?"),
        ("wait x --deadline 0", "It must be a finite number above 0, in seconds, got 0.0."),
        ("wait x --deadline 1e10", "It must be a finite number above 0 and at most 1,000,000,000, in seconds"),
        ("read x --deadline 1e10", "It must be a finite number above 0 and at most 1,000,000,000, in seconds"),
        ("disable x --deadline 1e10", "It must be a finite number above 0 and at most 1,000,000,000, in seconds"),
        ("distribute x - --deadline 1e10", "It must be a finite number above 0 and at most 1,000,000,000, in seconds"),
        ("create - --deadline 1e10", "It must be a finite number above 0 and at most 1,000,000,000, in seconds"),
        ("wait x --deadline 1 --poll 0.1", "It must be a finite number of at least 0.5, in seconds"),
        ("wait x --deadline 1 --poll nan", "It must be a finite number of at least 0.5, in seconds"),
        ("read", "error: SESSION is required. Run 'kustom-hpp read --help' for usage."),
        ("read x y", "1 argument(s) too many."),
        (
            "disable x --deadline inf",
            "It must be a finite number above 0 and at most 1,000,000,000, in seconds, got inf.",
        ),
    ],
)
def test_wrong_usage(cli: Cli, arguments: str, due: str) -> None:
    done = cli(*arguments.split())
    assert (done.code, done.out) == (2, "")
    [paragraph] = done.err.splitlines()
    assert due in paragraph


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("read_session", "it is safe to run it again."),
        ("disable_session", "the session may be disabled already. It is safe to run it again."),
        ("distribute_session", "the message may have been sent. Running it again may send it twice."),
    ],
)
def test_ctrl_c_says_what_may_have_happened(sandbox: ThreadedSandbox, name: str, due: str) -> None:
    session_id = new_session(sandbox)
    sandbox.fault("hang", operation=name)
    settings = {"KUSTOM_HPP_API_KEY": sandbox.api_key, "KUSTOM_HPP_BASE_URL": sandbox.base_url}
    with start(*words(name, session_id), **settings) as process:
        sandbox.wait_for(lambda record: record.requests, 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", f"interrupted: {due}\n")


def test_ctrl_c_ends_a_wait_between_its_reads(sandbox: ThreadedSandbox) -> None:
    session_id = new_session(sandbox)
    settings = {"KUSTOM_HPP_API_KEY": sandbox.api_key, "KUSTOM_HPP_BASE_URL": sandbox.base_url}
    with start("wait", session_id, "--deadline", "60", "--poll", "50", **settings) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "status: WAITING\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


def test_no_contact_and_no_key_in_any_output(cli: Cli, at_sandbox: ThreadedSandbox, session_id: str) -> None:
    contact = secrets.token_hex(12)
    body = {"method": "email", "contact_information": {"email": f"{contact}@shop.example"}}
    for fault in ("echo_auth", "status_evil_error", "garbage", "status_500"):
        at_sandbox.fault(find_fault(fault), operation="any")
        for command in ("read {}", "disable {}", "distribute {} -", "wait {}"):
            words_ = f"{command.format(session_id)} --deadline 0.3".split()
            done = cli(*words_, stdin=json.dumps(body).encode())
            assert done.code in {1, 4}
            assert contact not in done.out + done.err
            assert at_sandbox.api_key not in done.out + done.err
        at_sandbox.faults.clear()
