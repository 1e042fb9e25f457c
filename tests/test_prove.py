"""The programme that tries to break the promises: it is whole, and it can fail."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.prove import __main__ as command
from tests.prove import batches
from tests.prove.table import PROMISES, TRIALS, Row, Size, Trial

SHORT = Size(short=True, seed=1)
HELD = Row(promise="P1", tried="x", figure="0", target="0", held=True, control="a mutant: 1 noticed")


@pytest.fixture(autouse=True)
def trials() -> Iterator[dict[str, Trial]]:
    command.load_trials()
    before = dict(TRIALS)
    yield TRIALS
    TRIALS.clear()
    TRIALS.update(before)


def test_every_promise_has_a_trial(trials: dict[str, Trial]) -> None:
    assert {promise for one in trials.values() for promise in one.promises} == set(PROMISES)


def test_a_row_passes_if_the_promise_held_and_its_control_was_noticed() -> None:
    assert HELD.passed
    assert not attrs.evolve(HELD, held=False).passed
    assert not attrs.evolve(HELD, noticed=False).passed


async def test_a_trial_that_does_not_run_is_a_row_that_failed(trials: dict[str, Trial]) -> None:
    unknown = Trial(name="no such trial", promises=("P1", "P2"), run=trials["chaos"].run, short=1, whole=1)
    ended = await command.run_apart(unknown, SHORT)
    assert [(row.promise, row.passed) for row in ended.rows] == [("P1", False), ("P2", False)]
    assert "KeyError" in ended.rows[0].figure


async def test_a_trial_that_takes_too_long_is_a_row_that_failed(trials: dict[str, Trial]) -> None:
    ended = await command.run_apart(trials["stopped call"], SHORT, patience=0.1)
    assert [(row.promise, row.passed, row.figure) for row in ended.rows] == [
        ("P9", False, "not finished: it took more than 0.1 s")
    ]


def test_after_ctrl_c_the_command_shows_the_table_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run_apart(trial: Trial, _: Size) -> command.Ended:
        if trial.name == "bad network":
            await asyncio.sleep(0.1)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(30)
        return command.Ended(trial, [HELD], 1.0)

    monkeypatch.setattr(command, "run_apart", run_apart)
    file = tmp_path / "table.json"
    monkeypatch.setattr("sys.argv", ["prove", "--short", "--only", "threads", "bad network", "--json", str(file)])
    assert command.main() == 130
    out = capsys.readouterr().out
    assert "1 rows, 0 failed" in out
    assert "interrupted; not finished: bad network" in out
    written = json.loads(file.read_text())
    assert ([row["promise"] for row in written["rows"]], written["not_finished"]) == (["P1"], ["bad network"])


@pytest.mark.parametrize(("row", "code"), [(HELD, 0), (attrs.evolve(HELD, held=False), 1)])
def test_the_command_shows_rows_writes_json_and_fails_with_them(
    row: Row,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run_apart(trial: Trial, _: Size) -> command.Ended:
        return command.Ended(trial, [row], 1.0)

    monkeypatch.setattr(command, "run_apart", run_apart)
    monkeypatch.setattr("sys.argv", ["prove", "--short", "--only", "chaos", "--json", str(tmp_path / "table.json")])
    assert command.main() == code
    assert "1 rows, " in capsys.readouterr().out
    [written] = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert written == {**attrs.asdict(row), "says": PROMISES["P1"], "passed": not code}


async def test_a_batch_through_a_bad_network() -> None:
    broken, ended, met = await batches.over_network(250, seed=3)
    assert broken == []
    assert sum(ended.values()) == 250
    assert len(met) >= 3
