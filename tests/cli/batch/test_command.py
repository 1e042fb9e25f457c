"""`kustom-hpp batch`: rows in, lines out, and the sandbox's record as the judge."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch import Claimed, ClaimedElsewhere, Outcome, Verdict
from kustom_hpp.cli.batch import progress
from kustom_hpp.cli.batch import run as batch_run
from kustom_hpp.cli.batch.run import BatchJob, BatchOptions
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Cli, run
from tests.support.batch_files import line, made, order, read, states, write
from tests.support.shared_journal import SharedMemoryJournal, SharedStore


def test_one_line_for_each_row_with_the_answer_and_nothing_else(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    at_sandbox.fault("status_404", payment_session_url=order(3))
    at_sandbox.fault("status_503", payment_session_url=order(4))
    done = cli("batch", write(tmp_path / "in", 20), *paths)
    assert (done.code, done.out) == (4, "")
    lines = {row["key"]: row for row in read(tmp_path / "out.jsonl")}
    assert len(lines) == 20
    good = {one.payment_session_url: one for one in at_sandbox.record.created}
    stored = at_sandbox.call(lambda sandbox: dict(sandbox.state.sessions))
    for number in set(range(20)) - {3, 4}:
        row = lines[f"row {number}"]
        session = stored[good[order(number)].session_id].created_json(at_sandbox.base_url)
        assert row.pop("correlation_id")
        assert row == {
            "key": f"row {number}", "state": "created", "session": session, "error": None, "attempts": 1,
            "earlier_run": False,
        }  # fmt: skip
    refused, doubt = lines["row 3"], lines["row 4"]
    assert (refused["state"], refused["session"], refused["attempts"]) == ("failed", None, 1)
    assert (refused["error"]["type"], refused["error"]["status"]) == ("NotFoundError", 404)
    assert (refused["error"]["delivery"], doubt["error"]["delivery"]) == ("rejected", "unknown")
    assert doubt["state"] == "in_doubt"
    assert "18" in next(text for text in done.err.splitlines() if text.startswith("created"))
    assert "in doubt: 1 row may have a session" in done.err
    assert f"kustom-hpp journal resolve {tmp_path / 'j.db'} KEY" in done.err


def test_a_second_run_tells_from_the_journal_and_sends_nothing(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    at_sandbox.fault("status_404", payment_session_url=order(3), times=1)
    at_sandbox.fault("status_503", payment_session_url=order(4), times=1)
    path = write(tmp_path / "in", 10)
    assert cli("batch", path, *paths).code == 4
    first, sent = {row["key"]: row for row in read(tmp_path / "out.jsonl")}, len(at_sandbox.record.requests)
    done = cli("batch", path, *paths, "--ordered")
    assert (done.code, len(at_sandbox.record.requests)) == (4, sent)
    again = read(tmp_path / "out.jsonl")
    assert [row["key"] for row in again] == [f"row {number}" for number in range(10)]
    for row in again:
        assert row.pop("earlier_run") is True
        assert (row["state"], row["session"]) == (first[row["key"]]["state"], first[row["key"]]["session"])
    assert "8 of them by earlier runs" in done.err
    # What was refused goes again when told, what is in doubt when told: each for itself.
    assert cli("batch", path, *paths, "--retry-failed").code == 4
    assert (states(tmp_path / "out.jsonl")["row 3"], len(at_sandbox.record.requests)) == ("created", sent + 1)
    done = cli("batch", path, *paths, "--on-doubt", "resend", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert set(states(tmp_path / "out.jsonl").values()) == {"created"}
    assert (len(at_sandbox.record.requests), set(made(at_sandbox).values())) == (sent + 2, {1})


def test_a_changed_request_is_a_conflict(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    (tmp_path / "in").write_text(line(1))
    assert cli("batch", str(tmp_path / "in"), *paths).code == 0
    (tmp_path / "in").write_text(line(1, profile_id="another"))
    done = cli("batch", str(tmp_path / "in"), *paths)
    [row] = read(tmp_path / "out.jsonl")
    assert (done.code, row["state"], row["error"]["type"]) == (1, "created", "InvalidRequestError")
    assert "conflict: 1 row had a session already" in done.err
    assert len(at_sandbox.record.requests) == 1


@pytest.mark.parametrize("ordered", [True, False])
def test_bad_rows_end_failed_and_the_rest_goes_on(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str], ordered: bool
) -> None:
    texts = [line(number) for number in range(30)]
    texts[0] = "{"
    texts[10] = line(2)
    texts[11] = line(11, merchant_urls={"success": "shop"})
    texts[29] = "[]"
    (tmp_path / "in").write_text("\n".join(texts))
    done = cli("batch", str(tmp_path / "in"), *paths, *(["--ordered"] if ordered else []))
    rows = read(tmp_path / "out.jsonl")
    bad = [row for row in rows if row["state"] == "failed"]
    assert (done.code, len(rows), len(made(at_sandbox)), set(made(at_sandbox).values())) == (1, 30, 26, {1})
    assert [(row["error"]["line"], row["key"], row["attempts"]) for row in bad] == [
        (1, None, 0), (11, "row 2", 0), (12, "row 11", 0), (30, None, 0),
    ]  # fmt: skip
    assert bad[2]["error"]["message"].startswith("merchant_urls.success: must be an absolute http(s) URL")
    if ordered:
        assert [row["error"]["line"] - 1 if row["error"] else int(row["key"][4:]) for row in rows] == list(range(30))
    assert "4 rows without a session" in done.err
    assert "4 of them could not be sent" in done.err


def test_many_bad_rows_in_ordered_mode_stay_in_order(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    texts = [line(number) if number % 50 == 0 else "{" for number in range(400)]
    (tmp_path / "in").write_text("\n".join(texts))
    assert cli("batch", str(tmp_path / "in"), *paths, "--ordered").code == 1
    rows = read(tmp_path / "out.jsonl")
    assert [row["error"]["line"] - 1 if row["error"] else int(row["key"][4:]) for row in rows] == list(range(400))


def test_csv_with_a_template_from_stdin_to_stdout(at_sandbox: ThreadedSandbox, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"merchant_urls": {"success": "https://shop.example/ø?hpp={{session_id}}"}}')
    table = "key;payment_session_url\n" + "".join(f"n{number};{order(number)}\n" for number in range(5))
    settings = {"KUSTOM_HPP_API_KEY": at_sandbox.api_key, "PYTHONIOENCODING": "latin-1", "FORCE_COLOR": "1"}
    done = run(
        "batch", "-", "--format", "csv", "--template", str(tmp_path / "t.json"), "--output", "-", "--ordered",
        "--journal", str(tmp_path / "j.db"), "--base-url", at_sandbox.base_url,
        stdin=table, **settings,
    )  # fmt: skip
    assert done.code == 0
    assert [json.loads(text)["key"] for text in done.out.splitlines()] == [f"n{number}" for number in range(5)]
    bodies = [codec().load_json(seen.body) for seen in at_sandbox.record.requests]
    assert {body["merchant_urls"]["success"] for body in bodies} == {"https://shop.example/ø?hpp={{session_id}}"}


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_quote_that_is_not_closed_is_told_and_nothing_behind_it_is_guessed(  # noqa: PLR0917
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str], ordered: bool, quiet: bool
) -> None:
    table = [f"n{number},{order(number)}" for number in range(1000)]
    table[10] = f'n10,"{order(10)}'
    (tmp_path / "in.csv").write_text("\n".join(["key,payment_session_url", *table]))
    options = ["--ordered"] * ordered + ["--quiet"] * quiet
    done = cli("batch", str(tmp_path / "in.csv"), *paths, *options)
    assert (done.code, len(at_sandbox.record.created)) == (1, 10)
    rows = read(tmp_path / "out.jsonl")
    [bad] = [row for row in rows if row["state"] == "failed"]
    assert (len(rows), bad["error"]["line"]) == (11, 12)
    assert "a quoted cell does not end on this line" in bad["error"]["message"]
    assert done.err.splitlines()[-1] == (
        f"error: {tmp_path / 'in.csv'} has a row that does not end on line 12. The rows from there on were not read; "
        "put every row on one line and run it again."
    )


def test_bad_rows_that_wait_for_their_turn_are_told_when_the_run_stops(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    at_sandbox.fault("status_401")
    (tmp_path / "in").write_text("\n".join([line(1), line(2), line(3), "{"]))
    done = cli("batch", str(tmp_path / "in"), *paths, "--ordered", "--concurrency", "8")
    assert done.code == 3
    assert [row["error"]["line"] for row in read(tmp_path / "out.jsonl") if row["key"] is None] == [4]


# What ends a run


ENDS = [
    # faults, exit code, what stderr says
    (["status_401"], 3, "AuthenticationError", "Run 'kustom-hpp check' to see the settings."),
    (["status_403"], 3, "PermissionDeniedError", "403"),
    (["status_503"], 4, "ServerError", "unknown outcome"),
]


@pytest.mark.parametrize(("faults", "code", "kind", "due"), ENDS, ids=[faults[0] for faults, *_ in ENDS])
def test_what_every_row_would_meet_stops_the_run(  # noqa: PLR0917
    cli: Cli,
    at_sandbox: ThreadedSandbox,
    tmp_path: Path,
    paths: list[str],
    faults: list[str],
    code: int,
    kind: str,
    due: str,
) -> None:
    for fault in faults:
        at_sandbox.fault(fault)
    done = cli("batch", write(tmp_path / "in", 100), *paths, "--concurrency", "4")
    assert (done.code, done.out) == (code, "")
    assert due in done.err
    assert "Unstarted rows are unchanged" in done.err
    assert len(at_sandbox.record.requests) < 30
    assert {row["error"]["type"] for row in read(tmp_path / "out.jsonl")} <= {kind}


def test_without_credentials_nothing_is_made(cli: Cli, tmp_path: Path, paths: list[str]) -> None:
    done = cli("batch", write(tmp_path / "in", 1), *paths)
    assert (done.code, done.out) == (3, "")
    assert "KUSTOM_HPP_API_KEY" in done.err
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_an_unknown_column_is_told_before_anything_is_sent_or_made(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    (tmp_path / "in.csv").write_text(f"payment_session_url,sucess\n{order(1)},x\n")
    done = cli("batch", str(tmp_path / "in.csv"), *paths)
    assert (done.code, done.out) == (2, "")
    assert "unknown column 'sucess'" in done.err
    assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]
    assert not at_sandbox.record.requests


USAGE = [
    ("in", "batch needs --output and --journal, or --dry-run."),
    ("in --output o", "batch needs --output and --journal, or --dry-run."),
    ("in --output in --journal j", "INPUT and --output are the same file"),
    ("in --output o --journal ./o", "--output and --journal are the same file"),
    ("in --output o --journal -", "--journal must be a file"),
    ("in --output none/o --journal j", "none/o cannot be written: No such file or directory. Nothing was sent."),
    ("in --output . --journal j", ". cannot be written: Is a directory. Nothing was sent."),
    ("in --output o --journal none/j", "none/j cannot be created: there is no folder "),
    ("empty --output o --journal k", "empty has no rows."),
    ("head.csv --output o --journal k", "head.csv has no rows."),
    ("in --output o --journal in", "INPUT and --journal are the same file"),
    ("in --output o --journal t", "t is not a journal"),
    ("in --output o --journal j --rate 0", "It must be a finite number above 0, in requests per second, got 0.0."),
    ("in --output o --journal j --concurrency 0", 'Invalid value "0" for --concurrency.'),
    ("none --output o --journal j", "none cannot be read: No such file"),
]


@pytest.mark.parametrize(("arguments", "due"), USAGE, ids=[arguments for arguments, _ in USAGE])
def test_wrong_usage_exits_2_and_leaves_everything_alone(  # noqa: PLR0917
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, environment: pytest.MonkeyPatch, arguments: str, due: str
) -> None:
    environment.chdir(tmp_path)
    write(tmp_path / "in", 1)
    (tmp_path / "t").write_text("text")
    (tmp_path / "empty").touch()
    (tmp_path / "head.csv").write_text("key,payment_session_url\n")
    done = cli("batch", *arguments.split())
    assert (done.code, done.out) == (2, "")
    [paragraph] = done.err.splitlines()
    assert due in paragraph
    assert not list(tmp_path.glob("j*"))
    assert (tmp_path / "in").read_text() == line(0) + "\n"
    assert not at_sandbox.record.requests


def test_a_journal_of_another_place_is_refused(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    path = write(tmp_path / "in", 2)
    assert cli("batch", path, *paths).code == 0
    before = (tmp_path / "out.jsonl").read_bytes()
    done = cli("batch", path, *paths, "--base-url", "http://127.0.0.1:9")
    assert (done.code, done.out) == (2, "")
    assert "another scope" in done.err
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_an_output_that_takes_no_more_stops_the_run_and_loses_nothing(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path
) -> None:
    path, journal = write(tmp_path / "in", 40), str(tmp_path / "j.db")
    done = cli("batch", path, "--output", "/dev/full", "--journal", journal, "--concurrency", "2")
    assert done.code == 1
    assert "/dev/full does not accept more lines (No space left on device)" in done.err
    created = len(at_sandbox.record.created)
    assert 0 < created < 40
    assert re.search(rf"^created +{created} *$", done.err, re.MULTILINE)
    assert re.search(rf" {created} sent, ", done.err)
    done = cli("batch", path, "--output", str(tmp_path / "out.jsonl"), "--journal", journal)
    assert (done.code, set(made(at_sandbox).values()), len(made(at_sandbox))) == (0, {1}, 40)
    assert [row["earlier_run"] for row in read(tmp_path / "out.jsonl")].count(True) == created


@pytest.mark.parametrize(
    ("settings", "rate", "due"),
    [
        ({"KUSTOM_HPP_API_KEY": "kco_live_api_x"}, None, 40),
        ({"KUSTOM_HPP_API_KEY": "kco_test_api_x"}, None, 5),
        ({"KUSTOM_HPP_API_KEY": "kco_test_api_x"}, 12.5, 12.5),
        ({"KUSTOM_HPP_API_KEY": "x", "KUSTOM_HPP_BASE_URL": "https://hpp.example"}, None, None),
    ],
)
async def test_the_pace_is_that_of_the_environment(
    environment: pytest.MonkeyPatch, settings: dict[str, str], rate: float | None, due: float | None
) -> None:
    for name, value in settings.items():
        environment.setenv(name, value)
    client = BatchJob("in", "out", "j", BatchOptions(concurrency=300, rate=rate), ConnectionOptions()).open_client()
    assert client._create_context.pace.rate == due
    assert client.settings.pool.connections == 300


def test_lines_come_every_few_seconds_where_nobody_looks_at_a_terminal(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str], environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(progress, "PLAIN_EVERY", 0.05)
    done = cli("batch", write(tmp_path / "in", 60), *paths, "--rate", "100", "--concurrency", "2")
    assert (done.code, done.out) == (0, "")
    lines = [text for text in done.err.splitlines() if " of 60 rows: " in text]
    assert len(lines) >= 1
    assert all(" created, 0 failed, 0 in doubt; " in text for text in lines)
    assert "\x1b" not in done.err


# A journal that other live runs use too


@pytest.fixture
def store(environment: pytest.MonkeyPatch) -> SharedStore:
    """The rows of all runs; `batch` opens a journal over them."""
    store = SharedStore()

    @contextlib.asynccontextmanager
    async def open_journal(*_: object) -> AsyncIterator[SharedMemoryJournal]:
        async with LateJournal(store) as journal:
            yield journal

    environment.setattr(batch_run, "open_journal", open_journal)
    return store


class LateJournal(SharedMemoryJournal):
    """A run's journal that loses the row `late` to another run while the run sends it."""

    async def settle(self, key: str, outcome: Outcome) -> ClaimedElsewhere | None:
        if key == "late":
            self._end_lease()
            other = SharedMemoryJournal(self.store)
            await other.resolve(key, Verdict.SEND_AGAIN)
            assert isinstance(await other.claim(key, None, b"digest"), Claimed)
        return await super().settle(key, outcome)


def test_rows_of_another_live_run_are_left_to_it(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str], store: SharedStore
) -> None:
    other = SharedMemoryJournal(store)
    for number in (1, 3):
        asyncio.run(other.claim(f"row {number}", order(number), b"digest"))
    done = cli("batch", write(tmp_path / "in", 5), *paths)
    assert done.code == 0
    assert states(tmp_path / "out.jsonl") == {
        f"row {number}": "claimed_elsewhere" if number in (1, 3) else "created" for number in range(5)
    }
    assert set(made(at_sandbox)) == {order(number) for number in (0, 2, 4)}
    assert re.search(r"^claimed elsewhere +2 *$", done.err, re.MULTILINE)
    assert "claimed elsewhere: 2 rows left to another live run, which reports how they end.\n" in done.err


def test_a_row_that_was_sent_after_another_run_took_it_is_an_unknown_outcome(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str], store: SharedStore
) -> None:
    (tmp_path / "in").write_text(line(0) + "\n" + line(1).replace("row 1", "late") + "\n")
    done = cli("batch", str(tmp_path / "in"), *paths)
    assert done.code == 4
    assert states(tmp_path / "out.jsonl") == {"row 0": "created", "late": "claimed_elsewhere"}
    [late] = [row for row in read(tmp_path / "out.jsonl") if row["key"] == "late"]
    assert [late["session"]["session_id"]] == store.surplus
    assert "This run sent 1 of them too late, so a second session may exist; the output says what to do." in done.err
