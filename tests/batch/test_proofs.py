"""The proofs in short: each of them is a command too, in full (see its module)."""

import asyncio
import time
from pathlib import Path

import pytest
from blockbuster import BlockBuster, BlockingError

import kustom_hpp as hpp
from benchmarks import batch as benchmark
from benchmarks.environment import in_fresh_interpreter
from kustom_hpp import batch
from kustom_hpp.batch import Outcome, OutcomeState
from kustom_hpp.sandbox import CreatedSession, Sandbox
from tests.batch import chaos, kills, outage
from tests.support.batches import Api, items, session
from tests.support.orders import rows, states, url_of, violations


async def test_a_batch_over_real_sockets(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        async with (
            hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client,
            batch.SqliteJournal(tmp_path / "journal.db", scope="test") as journal,
            batch.run(client.create_session, rows(sandbox.base_url, 300), journal=journal) as outcomes,
        ):
            ended = [outcome async for outcome in outcomes]
        await sandbox.wait_until_idle()
        keys = [row.key for row in rows(sandbox.base_url, 300)]
        assert list(violations(ended, sandbox.record.created, keys)) == []
        assert states(ended) == {"created": 300}
        assert len(sandbox.record.connections) <= 32


async def test_killed_batches_lose_nothing_and_create_nothing_twice() -> None:
    report = await kills.kill(3, seed=1)
    assert report.broken == []
    assert report.kills >= 3
    assert sum(report.rows_hit.values()) > 0


async def test_chaos_leaves_nothing_unexplained() -> None:
    report = await chaos.chaos(400, seed=2)
    assert report.broken == []
    assert report.met > 80
    assert report.doubts_with_a_session > 0
    assert report.ended["failed"] > 0


async def test_an_api_that_answers_500_stops_the_batch_early() -> None:
    report = await outage.all_500(1500)
    assert report.broken == []


async def test_a_server_that_is_gone_for_a_while_fails_no_row() -> None:
    report = await outage.gone(300, 2.0)
    assert report.broken == []


@pytest.mark.parametrize(
    ("outcomes", "made", "due"),
    [
        ([("a", "created", "1")], [("a", "1")], []),
        ([("a", "in_doubt", None)], [("a", "1")], []),
        ([("a", "in_doubt", None)], [], []),
        ([("a", "failed", None)], [], []),
        ([("a", "failed", None)], [("a", "1")], ["a: FAILED"]),
        ([("a", "created", "2")], [("a", "1")], ["a: CREATED with 2"]),
        ([("a", "created", "1")], [], ["a: CREATED with 1"]),
        ([("a", "in_doubt", None)], [("a", "1"), ("a", "2")], ["a: 2 sessions"]),
        ([("a", "failed", None), ("a", "failed", None)], [], ["a: two outcomes"]),
        ([], [], ["1 rows have no outcome"]),
        ([("a", "failed", None)], [("b", "1")], ["b: a session that no row tells of"]),
        ([("a", "failed", None), ("b", "failed", None)], [], ["outcomes of rows that there are not: ['b']"]),
    ],
)
def test_the_judge_sees_each_broken_promise(
    outcomes: list[tuple[str, str, str | None]], made: list[tuple[str, str]], due: list[str]
) -> None:
    reported = [
        Outcome(key=key, state=OutcomeState(state), session=session(identity) if identity else None)
        for key, state, identity in outcomes
    ]
    record = [
        CreatedSession(session_id=identity, payment_session_url=url_of("http://x", key), redirect_url="", request=1)
        for key, identity in made
    ]
    broken = list(violations(reported, record, ["a"]))
    assert len(broken) == len(due), broken
    assert all(sentence.startswith(fragment) for sentence, fragment in zip(broken, due, strict=True)), broken


def test_memory_does_not_grow_with_the_rows() -> None:
    few, many = (in_fresh_interpreter("batch-peak", {"rows": number}) for number in (10_000, 60_000))
    # Half a kilobyte kept for each row would show as 25 MiB.
    assert many - few < benchmark.GROWTH_MIB


# Nothing blocks the loop.


async def _run(folder: Path, *, planted: bool) -> list[Outcome]:
    api = Api()

    async def create(request: hpp.CreateSessionRequest) -> hpp.Session:
        if planted and len(api.sent) == 5:
            time.sleep(0.001)  # what is to be found
        return await api.create(request)

    async with batch.SqliteJournal(folder / "journal.db", scope="test") as journal:
        ended: list[Outcome] = []
        try:
            async with batch.run(create, items(100), journal=journal) as outcomes:
                async for outcome in outcomes:
                    ended.append(outcome)  # noqa: PERF401
        finally:
            await asyncio.sleep(0)
        return ended


@pytest.mark.parametrize("planted", [False, True])
async def test_nothing_blocks_the_loop(tmp_path: Path, planted: bool) -> None:
    # Before it watches: what is imported at the first use.
    (tmp_path / "before").mkdir()
    await _run(tmp_path / "before", planted=False)
    watch = BlockBuster()
    watch.activate()
    try:
        if planted:
            with pytest.raises(BlockingError, match=r"time\.sleep"):
                await _run(tmp_path, planted=True)
        else:
            assert states(await _run(tmp_path, planted=False)) == {"created": 100}
    finally:
        watch.deactivate()
