"""A share of each proof that is a command: `python -m tests.fleet.fences`, `failovers`, `rates`, `recipes`."""

import shutil
from collections.abc import Iterator

import pytest

from tests.fleet.failovers import fail_over
from tests.fleet.fences import fence
from tests.fleet.rates import share
from tests.fleet.recipes import kill_workers
from tests.support.brokers import RABBITMQ
from tests.support.postgres import Cluster, require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    yield cluster.create_database("proofs")
    cluster.execute("DROP DATABASE proofs WITH (FORCE)")


async def test_a_worker_that_slept_sends_nothing_late(dsn: str) -> None:
    report = await fence(dsn, 2, guarded=True, resend=True)
    assert (report.sent_late, report.broken) == (0, [])
    assert report.unsent > 20


async def test_without_the_guard_it_does(dsn: str) -> None:
    report = await fence(dsn, 1, guarded=False, resend=True)
    assert report.sent_late == report.unsent > 10


async def test_responses_that_came_while_a_worker_slept_still_count(dsn: str) -> None:
    report = await fence(dsn, 1, guarded=True, resend=False)
    assert (report.doubts, report.broken) == (0, [])


async def test_a_failover_to_a_standby_that_is_behind(cluster: Cluster) -> None:
    report = await fail_over(rows=1500, workers=2, behind=0.5)
    assert report.broken == []
    assert report.lost > 50


async def test_without_the_repair_orders_are_sent_twice(cluster: Cluster) -> None:
    report = await fail_over(rows=1500, workers=2, behind=0.5, repairs=False)
    assert report.twice > 50


async def test_processes_share_a_rate_limit(dsn: str) -> None:
    report = await share(dsn, demand=[16, 16, 1], seconds=10)
    assert report.used > 0.95
    assert report.throttled < 0.01


@pytest.mark.parametrize("engine", ["celery", "taskiq", "processes"])
async def test_workers_of_other_queues_that_are_killed(dsn: str, engine: str) -> None:
    if engine == "celery":
        require("RabbitMQ (apt-get install rabbitmq-server)", present=RABBITMQ.exists())
    if engine == "taskiq":
        require("NATS (apt-get install nats-server)", present=shutil.which("nats-server") is not None)
    report = await kill_workers(engine, dsn, rows=400, workers=2, kills=2)
    assert report.broken == []
