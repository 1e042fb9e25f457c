"""Trials of many machines with one PostgreSQL: killed workers, a failover, a worker that sleeps past its lease."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kustom_hpp.batch import PostgresLedger
from tests.batch import histories
from tests.batch.journal_bugs import BUGS
from tests.batch.postgres.histories import worlds
from tests.fleet import crashes, failovers, fences
from tests.prove.batches import find_bugs
from tests.prove.table import Row, Size, trial
from tests.support.postgres import BINARIES, Cluster

MISSING = "" if (BINARIES / "initdb").exists() else f"not run: no PostgreSQL in {BINARIES}"


def not_run(tried: str) -> list[Row]:
    """Return the row of a trial that needs a server which is not here."""
    return [Row(promise="P4", tried=tried, figure=MISSING, target="0", held=False)]


@asynccontextmanager
async def database() -> AsyncIterator[tuple[Cluster, str]]:
    """Start a PostgreSQL with an empty database; it and the database's DSN."""
    cluster = Cluster()
    await asyncio.to_thread(cluster.__enter__)
    try:
        yield cluster, cluster.create_database("ledger")
    finally:
        await asyncio.to_thread(cluster.__exit__)


@trial("P4", whole=120, waits=True)
async def fleet(size: Size) -> list[Row]:
    """Workers that are killed while the database crashes; and a failover to a standby that is behind."""
    tried = "workers that are killed"
    if MISSING:
        return not_run(tried)
    async with database() as (cluster, dsn):
        killed = await crashes.crash(
            cluster, dsn, rows=5_000, workers=4, kills=10, terminations=2, crashes=1, seed=size.seed
        )
    switched = await failovers.fail_over(rows=2_000, workers=3, behind=0.5)
    control = await failovers.fail_over(rows=2_000, workers=3, behind=0.5, repairs=False)
    says = f"workers that put nothing back after a failover: {control.twice} orders with two sessions noticed"
    return [
        Row(
            promise="P4",
            tried=text,
            figure=f"{len(broken)} lost, double or wrong; {doubts} in doubt {broken[:1] or ''}".strip(),
            target="0",
            held=not broken,
            control=says,
            noticed=control.twice > 0,
        )
        for text, broken, doubts in [
            (
                f"{killed.rows:,} rows, 4 workers, {killed.kills} kills, a crash of the database",
                killed.broken,
                killed.ended["in_doubt"],
            ),
            (
                f"{switched.rows:,} rows, a failover that loses {switched.lost} commits",
                switched.broken,
                switched.ended["in_doubt"],
            ),
        ]
    ]


@trial("P2", whole=140, waits=True)
async def sleeping_worker(_: Size) -> list[Row]:
    """A worker that is stopped for longer than its lease, while another run sends its rows."""
    tried, trials = "a worker that sleeps past its lease", 10
    if MISSING:
        return not_run(tried)
    async with database() as (__, dsn):
        report = await fences.fence(dsn, trials, guarded=True, resend=True)
    async with database() as (__, dsn):
        control = await fences.fence(dsn, 1, guarded=False, resend=True)
    return [
        Row(
            promise="P2",
            tried=f"{tried}, {trials} times; another run sends the {report.unsent} rows that it had not sent",
            figure=f"{report.sent_late} rows sent late; {len(report.broken)} broken {report.broken[:1] or ''}".strip(),
            target="0",
            held=not report.sent_late and not report.broken and report.unsent > 0,
            control=f"a worker that does not ask its lease: {control.sent_late} noticed",
            noticed=control.sent_late > 0,
        )
    ]


@trial("P4", whole=60)
async def ledger_histories(size: Size) -> list[Row]:
    """Random histories of the PostgreSQL journal, with runs at the same time, leases and lost responses."""
    tried, count, wrong = "random histories of the PostgreSQL journal", 60, ""
    if MISSING:
        return not_run(tried)
    async with database() as (cluster, dsn):
        await PostgresLedger(dsn).create_schema()
        try:
            steps = await asyncio.to_thread(histories.check, worlds(cluster, dsn), count, start=size.seed)
            tried += f", {steps.total():,} steps, {steps['crash']} crashes, {steps['cut link']} lost responses"
        except AssertionError as error:
            wrong = str(error)[:200] or "another state"
    noticed, bugs = await find_bugs([bug for bug in BUGS if bug.world == "shared"])
    return [
        Row(
            promise="P4",
            tried=tried,
            figure=wrong or "0 differences from the model",
            target="0",
            held=not wrong,
            control=f"{noticed} of {bugs} bugs planted in a shared journal found",
            noticed=noticed == bugs,
        )
    ]
