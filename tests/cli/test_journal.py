"""`kustom-hpp journal`."""

import json
from pathlib import Path

import pytest

from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Cli
from tests.support.batch_files import order, read, states, write


@pytest.fixture
def doubtful(cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path) -> list[str]:
    """A batch of 6 rows, of which rows 1 to 3 are in doubt and row 4 was refused; the words that run it."""
    for number in (1, 2, 3):
        at_sandbox.fault("status_503", payment_session_url=order(number), times=1)
    at_sandbox.fault("status_404", payment_session_url=order(4), times=1)
    words = ["batch", write(tmp_path / "in", 6), "--output", str(tmp_path / "out"), "--journal", str(tmp_path / "j.db")]
    assert cli(*words).code == 4
    return words


def test_show_counts_and_lists_the_doubts(cli: Cli, doubtful: list[str], tmp_path: Path) -> None:
    done = cli("journal", "show", doubtful[-1])
    assert (done.code, done.err) == (0, "")
    shown = [text.split() for text in done.out.splitlines()]
    assert shown[:3] == [["created", "2"], ["failed", "1"], ["in", "doubt", "3"]]
    assert [text.split()[1] for text in done.out.splitlines() if text.startswith("row ")] == ["1", "2", "3"]
    assert done.out.count("503") >= 3
    done = cli("journal", "show", write(tmp_path / "text", 2))
    assert (done.code, done.out) == (2, "")
    assert "is not a journal of this library" in done.err


def test_what_the_next_run_sends_is_told_apart_from_what_was_refused(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path
) -> None:
    at_sandbox.fault("status_404", payment_session_url=order(0), times=1)
    at_sandbox.fault("status_401", payment_session_url=order(5), times=1)
    journal = str(tmp_path / "j.db")
    words = ["batch", write(tmp_path / "in", 30), "--output", str(tmp_path / "out"), "--journal", journal]
    assert cli(*words, "--concurrency", "1").code == 3
    shown = [text.split()[:2] for text in cli("journal", "show", journal).out.splitlines()]
    rows = [json.loads(text) for text in cli("journal", "export", journal).out.splitlines()]
    assert shown == [["created", "4"], ["failed", "1"], ["in", "doubt"], ["to", "send"]]
    assert {row["state"] for row in rows if row["key"] not in {"row 0", "row 1"}} >= {"created", "failed"}
    [refused] = [row for row in rows if row["key"] == "row 0"]
    [stopped] = [row for row in rows if row["key"] == "row 5"]
    assert (refused["error"]["delivery"], refused["error"]["status"]) == ("rejected", 404)
    assert (stopped["error"]["delivery"], stopped["error"]["status"]) == ("rejected", 401)
    assert cli(*words).code == 1
    assert cli("journal", "show", journal).out.split() == ["created", "29", "failed", "1", "in", "doubt", "0"]


def test_report_as_tables_and_as_a_page(cli: Cli, doubtful: list[str], tmp_path: Path) -> None:
    done = cli("journal", "report", doubtful[-1])
    assert (done.code, done.err) == (0, "")
    words = [text.split() for text in done.out.splitlines()]
    for line in (["all", "6"], ["created", "2"], ["failed", "1"], ["in", "doubt", "3"], ["to", "send", "0"]):
        assert line in words
    assert "Create a new order" in done.out
    page = tmp_path / "report.html"
    for _ in range(2):  # a report is replaced by the next one
        done = cli("journal", "report", doubtful[-1], "--html", str(page))
        assert (done.code, done.out, done.err) == (0, "", "")
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "<b>3 rows are in doubt.</b>" in text
    assert "<code>j.db</code>" in text


def test_a_report_replaces_no_other_file(cli: Cli, doubtful: list[str], tmp_path: Path) -> None:
    before = Path(doubtful[-1]).read_bytes()
    done = cli("journal", "report", doubtful[-1], "--html", doubtful[-1])
    assert (done.code, done.out) == (2, "")
    assert "is not a report" in done.err
    assert Path(doubtful[-1]).read_bytes() == before
    done = cli("journal", "report", doubtful[-1], "--html", str(tmp_path / "none" / "x.html"))
    assert (done.code, done.out) == (2, "")
    assert "cannot be written: No such file or directory" in done.err


def test_export_gives_the_lines_of_the_batch(cli: Cli, doubtful: list[str], tmp_path: Path) -> None:
    done = cli("journal", "export", doubtful[-1])
    assert (done.code, done.err) == (0, "")
    exported = {row["key"]: row for row in map(json.loads, done.out.splitlines())}
    assert len(exported) == 6
    for row in read(tmp_path / "out"):
        told = exported[row["key"]]
        assert told.pop("earlier_run") is True
        assert row.pop("earlier_run") is False
        assert told == row


def test_resolve_ends_a_doubt_in_three_ways(
    cli: Cli, at_sandbox: ThreadedSandbox, doubtful: list[str], tmp_path: Path
) -> None:
    journal = doubtful[-1]
    sent = len(at_sandbox.record.requests)
    url = "https://pay.example/p"
    done = cli("journal", "resolve", journal, "row 1", "--created", "an-id", "--redirect-url", url, "--note", "seen")
    assert (done.code, json.loads(done.out)["session"]) == (0, {"session_id": "an-id", "redirect_url": url})
    assert done.err == "resolved: later runs report this session.\n"
    assert cli("journal", "resolve", journal, "row 2", "--failed").code == 0
    done = cli("journal", "resolve", journal, "row 3", "--send-again")
    assert (done.code, done.err) == (0, "resolved: the next run sends it.\n")
    assert len(at_sandbox.record.requests) == sent
    assert cli(*doubtful).code == 1
    found = states(tmp_path / "out")
    assert [found[f"row {number}"] for number in range(6)] == [
        "created", "created", "failed", "created", "failed", "created",
    ]  # fmt: skip
    # Only row 3 was sent.
    assert [seen.payment_session_url for seen in at_sandbox.record.requests[sent:]] == [order(3)]


WRONG = [
    ("'row 0' --failed", "the row 'row 0' is not in doubt, it is created. Nothing was changed."),
    ("'row 9' --failed", "no row 'row 9'"),
    ("'row 1'", "resolve needs one of --created SESSION_ID with --redirect-url URL, --failed, --send-again."),
    ("'row 1' --failed --send-again", "resolve needs one of"),
    ("'row 1' --created x", "resolve needs one of"),
    ("'row 1' --failed --redirect-url https://x.example", "resolve needs one of"),
    ("'row 1' --created x --redirect-url page", "--redirect-url must be an absolute http(s) URL"),
    ("'row 1' --created ' ' --redirect-url https://x.example/", "--created must be the session's id"),
]


@pytest.mark.parametrize(("words", "due"), WRONG, ids=[words for words, _ in WRONG])
def test_what_resolve_does_not_take(cli: Cli, doubtful: list[str], words: str, due: str) -> None:
    before = cli("journal", "export", doubtful[-1]).out
    key, *options = [word.strip("'") for word in words.replace("'row ", "'row_").replace("' '", "'_'").split(" ")]
    arguments = [word.replace("_", " ") for word in (key, *options)]
    done = cli("journal", "resolve", doubtful[-1], *arguments)
    assert (done.code, done.out) == (2, "")
    assert due in done.err
    assert cli("journal", "export", doubtful[-1]).out == before


def test_a_session_of_another_row_is_refused(cli: Cli, at_sandbox: ThreadedSandbox, doubtful: list[str]) -> None:
    taken = at_sandbox.record.created[0].session_id
    done = cli("journal", "resolve", doubtful[-1], "row 1", "--created", taken, "--redirect-url", "https://x.example/")
    assert done.code == 2
    assert "belongs to" in done.err


@pytest.mark.parametrize("command", ["show J", "export J", "resolve J key --failed"])
def test_a_journal_that_is_not_there_is_not_made(cli: Cli, tmp_path: Path, command: str) -> None:
    done = cli("journal", *command.replace("J", str(tmp_path / "none.db")).split())
    assert (done.code, done.out) == (2, "")
    assert f"there is no journal {tmp_path / 'none.db'}. Nothing was sent or changed." in done.err
    assert list(tmp_path.iterdir()) == []
