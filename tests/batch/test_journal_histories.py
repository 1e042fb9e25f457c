"""Random histories of each journal against a model of it; and histories find each planted bug."""

import pytest

from tests.batch.histories import ENOUGH, WORLDS, check
from tests.batch.journal_bugs import BUGS, Bug


@pytest.mark.parametrize(("world", "histories"), [("memory", 60), ("SQLite", 20), ("shared", 60)])
def test_a_journal_does_what_its_model_does(world: str, histories: int) -> None:
    steps = check(WORLDS[world], histories)
    assert steps.keys() >= {"claim", "created", "accepted", "lost", "refused", "free", "resolve", "crash", "close"}


@pytest.mark.parametrize(
    "bug", [BUGS[0], *(pytest.param(bug, marks=pytest.mark.slow) for bug in BUGS[1:])], ids=lambda bug: bug.breaks
)
def test_histories_find_a_planted_bug(bug: Bug) -> None:
    with bug.planted(), pytest.raises(AssertionError):
        check(WORLDS[bug.world], ENOUGH)
