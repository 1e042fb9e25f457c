"""Random histories of each journal against a model of it; and histories find each planted bug."""

import pytest

from tests.batch.histories import ENOUGH, WORLDS, check
from tests.batch.journal_bugs import BUGS, Bug
from tests.batch.postgres.histories import worlds
from tests.support.postgres import Cluster


@pytest.mark.parametrize(("world", "histories"), [("memory", 60), ("SQLite", 20), ("shared", 60)])
def test_a_journal_does_what_its_model_does(world: str, histories: int) -> None:
    steps = check(WORLDS[world], histories)
    assert steps.keys() >= {"claim", "created", "accepted", "lost", "refused", "free", "resolve", "crash", "close"}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_ledger_does_what_its_model_does(cluster: Cluster, ledger_dsn: str) -> None:
    steps = check(worlds(cluster, ledger_dsn), 12)
    assert steps.keys() >= {"claim", "resolve", "cut link"}


@pytest.mark.parametrize(
    "bug", [BUGS[0], *(pytest.param(bug, marks=pytest.mark.slow) for bug in BUGS[1:])], ids=lambda bug: bug.breaks
)
def test_histories_find_a_planted_bug(bug: Bug) -> None:
    with bug.planted(), pytest.raises(AssertionError):
        check(WORLDS[bug.world], ENOUGH)
