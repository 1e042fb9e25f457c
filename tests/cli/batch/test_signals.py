"""`kustom-hpp batch` when it is interrupted, killed and run again: the sandbox's record is the judge."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import run, start, wait_for
from tests.support.batch_files import line, made, order, read, states, write


def test_rows_of_a_slow_pipe_are_sent_as_they_come(sandbox: ThreadedSandbox, tmp_path: Path) -> None:
    settings = {"KUSTOM_HPP_API_KEY": sandbox.api_key, "KUSTOM_HPP_BASE_URL": sandbox.base_url}
    with start("batch", "-", "--output", "-", "--journal", str(tmp_path / "j.db"), **settings) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(line(number) + "\n")
            process.stdin.flush()
            # It comes while the pipe is open: nothing waits for a second row.
            assert json.loads(process.stdout.readline())["key"] == f"row {number}"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130  # though the pipe is open still, and a thread waits for its next row
        out, err = process.communicate(timeout=30)
    assert out == ""
    assert "Traceback" not in err
    assert "Fatal" not in err


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_interrupted_midway_and_run_again_nothing_is_lost_and_nothing_twice(
    sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str], by: signal.Signals
) -> None:
    path = write(tmp_path / "in", 150)
    settings = {"KUSTOM_HPP_API_KEY": sandbox.api_key, "KUSTOM_HPP_BASE_URL": sandbox.base_url}
    with start("batch", path, *paths, "--rate", "60", "--concurrency", "8", **settings) as process:
        wait_for(process, lambda: sandbox.record.counts.created >= 70)
        process.send_signal(by)
        _, err = process.communicate(timeout=30)
    created = sandbox.record.counts.created
    assert 70 <= created < 150
    if by is not signal.SIGKILL:
        assert process.returncode == 130
        assert "stopping: no more rows; " in err
        assert "interrupted: unstarted rows are unchanged" in err
        assert (
            list(states(tmp_path / "out.jsonl").values()).count("created")
            == created
            == len(states(tmp_path / "out.jsonl"))
        )
    done = run("batch", path, *paths, **settings)
    ended = Counter(states(tmp_path / "out.jsonl").values())
    in_doubt = ended["in_doubt"]
    assert set(made(sandbox).values()) == {1}
    assert ended["created"] + in_doubt == 150
    assert in_doubt <= (8 if by is signal.SIGKILL else 0)
    assert done.code == (4 if in_doubt else 0)
    sessions = {row["key"]: row["session"]["session_id"] for row in read(tmp_path / "out.jsonl") if row["session"]}
    own = {one.payment_session_url: one.session_id for one in sandbox.record.created}
    assert all(own[order(int(key[4:]))] == session_id for key, session_id in sessions.items())


def test_a_second_signal_cuts_off_what_hangs(sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]) -> None:
    sandbox.fault("hang", payment_session_url=order(5))
    settings = {"KUSTOM_HPP_API_KEY": sandbox.api_key, "KUSTOM_HPP_BASE_URL": sandbox.base_url}
    with start("batch", write(tmp_path / "in", 10), *paths, **settings) as process:
        wait_for(process, lambda: Path(paths[1]).exists() and len(Path(paths[1]).read_bytes().splitlines()) == 9)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        told = process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told == "stopping: no more rows; waiting for 1 in flight. A second signal aborts them.\n"
    assert "in doubt: 1 row may have a session" in err
    assert "Traceback" not in err
    found = states(tmp_path / "out.jsonl")
    assert (found.pop("row 5"), set(found.values()), len(found)) == ("in_doubt", {"created"}, 9)
    assert '"row 5"' not in run("journal", "show", str(tmp_path / "j.db")).err
    assert "row 5" in run("journal", "show", str(tmp_path / "j.db")).out
