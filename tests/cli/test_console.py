"""Streams that break or are not there: what is not heard changes nothing of what was done, and no exit code."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kustom_hpp.cli.batch.progress import PLAIN_EVERY
from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Done, start, variables, wait_for
from tests.support.batch_files import line, made, order, states, write

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")


def settings_of(sandbox: ThreadedSandbox) -> dict[str, str]:
    return {"KUSTOM_HPP_API_KEY": sandbox.api_key, "KUSTOM_HPP_BASE_URL": sandbox.base_url}


def redirected(redirection: str, *arguments: str, **settings: str) -> Done:
    """Run a command as a shell does with this redirection."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "kustom_hpp", *arguments],
        env=variables(**settings), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_batch_goes_on_when_nobody_hears_its_progress(
    sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    seconds = PLAIN_EVERY + 1.5  # so that a line of progress meets the closed pipe
    rows = 40
    path = write(tmp_path / "in", rows)
    with start("batch", path, *paths, "--rate", str(rows / seconds), **settings_of(sandbox)) as process:
        assert process.stderr is not None
        process.stderr.close()
        process.stderr = None
        assert process.wait(40) == 0
    assert set(states(tmp_path / "out.jsonl").values()) == {"created"}
    assert made(sandbox) == dict.fromkeys(map(order, range(rows)), 1)


def test_an_interrupted_batch_lets_what_flies_end_though_nobody_hears_so(
    sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    sandbox.fault("slow_head~seconds=1.5")
    path = write(tmp_path / "in", 100)
    with start("batch", path, *paths, "--concurrency", "8", **settings_of(sandbox)) as process:
        wait_for(process, lambda: sandbox.record.counts.created >= 8)
        assert process.stderr is not None
        process.stderr.close()  # as `tee` is gone first when Ctrl-C goes to both
        process.stderr = None
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 130
    assert 8 <= sandbox.record.counts.created < 100
    assert list(states(tmp_path / "out.jsonl").values()) == ["created"] * sandbox.record.counts.created


@FULL
def test_what_may_exist_is_told_by_the_exit_code_whatever_becomes_of_the_words(
    sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    sandbox.fault("reset_after_request", payment_session_url=order(2))
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"payment_session_url": order(2)}))
    done = redirected("2>/dev/full", "create", str(request), **settings_of(sandbox))
    assert done == Done(4, "", "")
    done = redirected("2>/dev/full", "batch", write(tmp_path / "in", 4), *paths, **settings_of(sandbox))
    assert done == Done(4, "", "")
    assert states(tmp_path / "out.jsonl") == {
        "row 0": "created", "row 1": "created", "row 2": "in_doubt", "row 3": "created",
    }  # fmt: skip


@pytest.mark.parametrize("redirection", ["2>&-", pytest.param("2>/dev/full", marks=FULL)])
def test_all_well_is_all_well(sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str], redirection: str) -> None:
    done = redirected(redirection, "batch", write(tmp_path / "in", 4), *paths, **settings_of(sandbox))
    assert done == Done(0, "", "")
    assert set(states(tmp_path / "out.jsonl").values()) == {"created"}


def test_a_terminal_that_is_closed_drains_the_batch(sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]) -> None:
    sandbox.fault("slow_head~seconds=1")
    path = write(tmp_path / "in", 100)
    # These tests may run under nohup themselves, and a child takes that over.
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        process = start("batch", path, *paths, "--concurrency", "8", **settings_of(sandbox))
    finally:
        signal.signal(signal.SIGHUP, ours)
    with process:
        wait_for(process, lambda: sandbox.record.counts.created >= 8)
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=40)
    assert process.returncode == 130
    assert "stopping: no more rows; " in err
    assert 8 <= sandbox.record.counts.created < 100
    assert list(states(tmp_path / "out.jsonl").values()) == ["created"] * sandbox.record.counts.created


def test_under_nohup_a_closed_terminal_ends_nothing(sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]) -> None:
    sandbox.fault("slow_head~seconds=0.2")
    command = [
        sys.executable,
        "-m",
        "kustom_hpp",
        "batch",
        write(tmp_path / "in", 16),
        *paths,
        "--concurrency",
        "8",
    ]
    with subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command], env=variables(**settings_of(sandbox)),
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(process, lambda: sandbox.record.counts.created >= 8)
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=40)
    assert (process.returncode, len(states(tmp_path / "out.jsonl"))) == (0, 16)
    assert "stopping" not in err


# Streams that are closed from the start.


def test_no_stdin(sandbox: ThreadedSandbox, paths: list[str]) -> None:
    told = Done(2, "", "error: <stdin> cannot be read: it is closed. Give a file, or - for stdin.\n")
    assert redirected("<&-", "batch", "-", *paths, **settings_of(sandbox)) == told
    assert redirected("<&-", "batch", "-", "--dry-run") == told
    done = redirected("<&-", "create", "-", **settings_of(sandbox))
    assert (done.code, done.err.startswith("error: <stdin> cannot be read: it is closed.")) == (2, True)
    assert sandbox.record.counts.posts == 0


def test_no_stdout(sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]) -> None:
    path = write(tmp_path / "in", 3)
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"payment_session_url": order(2)}))
    nowhere = Done(1, "", "error: stdout did not accept the result (it is closed).\n")
    assert redirected(">&-", "create", str(request), **settings_of(sandbox)) == nowhere
    assert redirected(">&-", "batch", path, "--dry-run") == nowhere
    assert redirected(">&-", "sandbox", "--json") == nowhere
    done = redirected(">&-", "batch", path, "--output", "-", "--journal", paths[3], **settings_of(sandbox))
    assert done == Done(2, "", "error: stdout cannot be written: it is closed. Nothing was sent.\n")
    assert sandbox.record.counts.posts == 0
    # Where the results go to a file, nobody needs it.
    assert redirected(">&-", "batch", path, *paths, **settings_of(sandbox)).code == 0
    assert made(sandbox) == dict.fromkeys(map(order, range(3)), 1)


@FULL
def test_a_full_stdout(sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]) -> None:
    assert redirected("", "batch", write(tmp_path / "in", 3), *paths, **settings_of(sandbox)).code == 0
    told = Done(1, "", "error: stdout did not accept the result (No space left on device).\n")
    assert redirected(">/dev/full", "journal", "export", paths[3]) == told
    assert redirected(">/dev/full", "journal", "show", paths[3]) == told


def test_what_an_encoding_cannot_say_is_shown_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line(1, å世=1) + "\n", encoding="utf-8")
    done = redirected("", "batch", str(path), "--dry-run", PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert done.out.startswith(f"{path}:1: warning: \\xe5\\u4e16: ")
