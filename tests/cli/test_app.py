"""`kustom-hpp` itself: help, version, usage errors, exit codes, secrets, a missing extra."""

import importlib
import json
import secrets
import subprocess
import sys
import tomllib
from base64 import b64encode
from pathlib import Path

import pytest

from kustom_hpp import HPPError, errors
from kustom_hpp._messages import Delivery
from kustom_hpp._version import __version__
from kustom_hpp.cli.app import COMMANDS
from kustom_hpp.cli.console import Exit, exit_code
from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import ROOT, Cli, start, variables
from tests.support.faults import find_fault


def test_version(cli: Cli) -> None:
    done = cli("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"kustom-hpp {__version__} (Python 3.")


@pytest.mark.parametrize(
    ("command", "due"),
    [
        (
            "",
            [
                *"demo create batch journal read wait disable distribute check sandbox KUSTOM_HPP_API_KEY".split(),
                "Exit codes: 0 success",
            ],
        ),
        ("demo", ["needs no account"]),
        ("create", ["FILE", "--base-url", "--environment", "--username", "--on-unknown", "--deadline", "redirect_url"]),
        (
            "batch",
            "INPUT --output --journal --concurrency --rate --on-doubt --retry-failed --dry-run --template --ordered --format "
            "--quiet --base-url --environment --username merchant_urls.success".split(),
        ),
        ("journal", ["show", "export", "resolve"]),
        ("journal resolve", ["JOURNAL", "KEY", "--created", "--redirect-url", "--failed", "--send-again", "--note"]),
        ("read", ["SESSION", "--all", "--deadline", "--base-url", "personal", "never exits with 4"]),
        ("wait", ["SESSION", "--all", "--deadline", "--poll", "--base-url", "the consumer"]),
        ("disable", ["SESSION", "--deadline", "--base-url"]),
        (
            "distribute",
            "SESSION FILE --email --phone --phone-country --access-id --on-unknown --deadline --base-url stdin".split(),
        ),
        ("check", ["--online", "--base-url", "--environment", "--username"]),
        ("sandbox", ["--host", "--port", "--json"]),
    ],
)
def test_help_tells_everything_on_stdout(cli: Cli, command: str, due: list[str]) -> None:
    done = cli(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert [word for word in due if word not in done.out] == []
    assert "target" not in done.out.lower()
    assert max(map(len, done.out.splitlines())) <= 80


USAGE = [
    # arguments, what stderr says
    ("create", "FILE is required. Run 'kustom-hpp create --help' for usage."),
    ("create a.json b.json", "1 argument(s) too many. Run 'kustom-hpp create --help' for usage."),
    (
        "create --deadline nan -",
        'Invalid value "nan" for --deadline. It must be a finite number above 0, in seconds, got',
    ),
    ("create --deadline 0 -", "It must be a finite number above 0, in seconds, got"),
    ("create --environment prod -", 'Invalid value "prod" for --environment. Choose from: "live", "playground".'),
    (
        "create --on-unkown resend -",
        "Unknown option: --on-unkown. Did you mean --on-unknown? Run 'kustom-hpp create --help'",
    ),
    ("sandbox --port 65536", 'Invalid value "65536" for --port.'),
    ("craete", "Run 'kustom-hpp --help' for usage."),
    ("check --password=hunter2", "Unknown option: --password. Secrets are never arguments: set KUSTOM_HPP_API_KEY"),
    (
        "create --password=hunter2 -",
        "Unknown option: --password=…. Secrets are never arguments: set KUSTOM_HPP_API_KEY",
    ),
    ("create --api-key hunter2 -", "Unknown option: --api-key. Secrets are never arguments"),
    ("create - hunter2", "1 argument(s) too many."),
]


@pytest.mark.parametrize(("arguments", "due"), USAGE, ids=[arguments for arguments, _ in USAGE])
def test_wrong_usage_exits_2_in_one_paragraph(cli: Cli, arguments: str, due: str) -> None:
    done = cli(*arguments.split())
    assert (done.code, done.out) == (2, "")
    [paragraph] = done.err.splitlines()
    assert paragraph.startswith("error: ")
    assert due in paragraph
    assert "hunter2" not in paragraph


def test_every_error_has_its_exit_code() -> None:
    due = {
        errors.ConfigError: Exit.CONFIG,
        errors.AuthenticationError: Exit.CONFIG,
        errors.InvalidRequestError: Exit.USAGE,
    }
    for kind in vars(errors).values():
        if not (isinstance(kind, type) and issubclass(kind, HPPError)):
            continue
        unknown = issubclass(kind, errors.OutcomeUnknownError)
        assert exit_code(kind("x")) is due.get(kind, Exit.UNKNOWN if unknown else Exit.FAILED), kind
        assert (kind("x").delivery in {Delivery.UNKNOWN, Delivery.ACCEPTED}) == unknown


def test_no_secret_in_any_output(
    cli: Cli, at_sandbox: ThreadedSandbox, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, user = "kco_test_api_" + secrets.token_urlsafe(24), "K123456_" + secrets.token_hex(6)
    query = secrets.token_hex(9)
    bodies = {
        "good.json": {
            "payment_session_url": "https://x.example/1",
            "merchant_urls": {"status_update": f"https://shop.example/status?secret={query}"},
        },
        "bad.json": {"payment_session_url": f"no url {query}", "profile_id": [query]},
    }
    for name, body in bodies.items():
        (tmp_path / name).write_text(json.dumps(body))
    (tmp_path / "cut.json").write_text(json.dumps(bodies["bad.json"])[:-2])
    lines = [json.dumps({"key": f"{number}", "request": body}) for number, body in enumerate(bodies.values())]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, lines[0], lines[1][:-2], json.dumps({"key": [query]})]))
    (tmp_path / "in.csv").write_text(f"payment_session_url,merchant_urls.status_update\nhttps://x.example/2,{query}\n")
    commands = ["demo", "check", "check --online", "sandbox --port -1", "create - x"]
    files = f"--output {tmp_path / 'out'} --journal {tmp_path / 'j.db'}"
    commands += [f"batch {tmp_path / 'in.jsonl'} {files} --retry-failed", f"batch {tmp_path / 'in.csv'} {files}"]
    commands += [f"batch {tmp_path / 'in.jsonl'} --dry-run", f"batch {tmp_path / 'in.jsonl'} --api-key {key}"]
    commands += [f"journal {command} {tmp_path / 'j.db'}" for command in ("show", "export", "resolve")]
    commands += [f"create {tmp_path / name}" for name in (*bodies, "cut.json", "none.json")]
    commands += ["read s-1 --all", "disable s-1", "wait s-1 --deadline 0.1", f"distribute s-1 {tmp_path / 'bad.json'}"]
    environment.setenv("KUSTOM_HPP_API_KEY", key)
    at_sandbox.fault(find_fault("echo_auth"))
    said, codes, kept = "", set(), set()
    # Alone, as half of a pair, given twice, and each in the wrong place.
    wrong = ("PASSWORD", key), ("INSECURE_HTTP", key), ("ENVIRONMENT", key), ("BASE_URL", f"https://u:{key}@x.example")
    for more, value in (("APP_INFO", "Shop/1"), ("USERNAME", user), *wrong):
        with environment.context() as patch:
            patch.setenv(f"KUSTOM_HPP_{more}", value)
            for command in commands:
                done = cli(*command.split())
                said += done.out + done.err
                codes.add(done.code)
                # What is left in files: the output, and the journal with all that lies beside it.
                for file in (*tmp_path.glob("out*"), *tmp_path.glob("j.db*")):
                    said += file.read_bytes().decode("latin-1")
                    kept.add(file.name)
    assert codes == {0, 1, 2, 3}
    assert kept >= {"out", "j.db"}
    assert "SQLite format 3" in said
    hidden = [key[13:], user[3:], query, b64encode(f"{user}:{key}".encode()).decode()]
    assert [secret for secret in hidden if secret in said] == []
    assert "kco_test_…" in said  # the scan has been where it is told


def test_each_command_is_listed_with_its_own_first_line() -> None:
    for path, function, summary in COMMANDS:
        if function:
            module, _, name = function.rpartition(":")
            command = getattr(importlib.import_module(f"kustom_hpp.cli.{module}"), name)
            assert (path, summary) == (path, str(command.__doc__).partition("\n")[0])


@pytest.mark.parametrize("arguments", ["", "--help", "--version", "journal --help"])
def test_a_command_loads_nothing_that_only_another_one_needs(arguments: str) -> None:
    done = in_a_process(
        f"before = set(sys.modules); from kustom_hpp.cli import main; main({arguments.split()}); "
        "print([n for n in sys.modules if n not in before and n.startswith("
        "('aiohttp', 'sqlite3', 'kustom_hpp.client', 'kustom_hpp.batch', 'kustom_hpp.sandbox', 'kustom_hpp.models'))])"
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]")


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    done = in_a_process(f"sys.modules[{missing!r}] = None; from kustom_hpp.cli import main; sys.exit(main(['demo']))")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (f"kustom-hpp needs {missing}, which is not installed. Run pip install 'kustom_hpp[cli]'.\n")


def test_a_module_of_our_own_that_is_missing_is_no_missing_extra() -> None:
    done = in_a_process("sys.modules['kustom_hpp.cli.demo'] = None; from kustom_hpp.cli import main; main(['demo'])")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_a_reader_that_has_read_enough_is_no_traceback() -> None:
    with start("--help") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; {code}"]
    return subprocess.run(command, env=variables(), capture_output=True, text=True, timeout=30, check=False)


def test_the_console_script_is_this_main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"kustom-hpp": "kustom_hpp.cli:main"}
