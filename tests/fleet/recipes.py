"""Workers of other queues, and of none, that are killed while they create sessions.

    python -m tests.fleet.recipes celery|taskiq|processes [--rows 4000] [--workers 4] [--kills 6]

Celery prefork on RabbitMQ, taskiq on NATS JetStream, or `batch.run` in processes over one input. Whole workers are killed with
SIGKILL at random moments and replaced at once. Judged by the sandbox's record, as `tests.fleet.crashes` does; the exit code is
1 if a promise was broken.
"""

import argparse
import asyncio
import contextlib
import importlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from kustom_hpp import batch
from kustom_hpp.batch import PostgresLedger, Scope
from kustom_hpp.sandbox import Sandbox
from tests.fleet.crashes import MERCHANT, Report, read_outcomes
from tests.fleet.worker import WorkerOrder
from tests.support.brokers import nats, rabbitmq
from tests.support.orders import rows as all_rows
from tests.support.orders import states, violations
from tests.support.postgres import Cluster

_CHUNK = 50
_BROKERS = {"celery": rabbitmq, "taskiq": nats, "processes": contextlib.nullcontext}
_COMMANDS = {
    "celery": ("-m", "celery", "-A", "tests.fleet.celery_app", "worker", "-P", "prefork", "-c", "1", "-l", "WARNING",
               "--without-gossip", "--without-mingle", "-n"),
    "taskiq": ("-m", "taskiq", "worker", "tests.fleet.taskiq_app:broker", "-w", "1", "--max-async-tasks", "1",
               "--ack-type", "when_executed", "--log-level", "WARNING"),
    "processes": ("-m", "tests.fleet.recipes", "--child"),
}  # fmt: skip


class Workers:
    """Worker processes, each with its children in a group of its own."""

    def __init__(self, engine: str, order: WorkerOrder, rows: int) -> None:
        self._engine, self._order, self._rows = engine, order, rows
        self._started = 0
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._started += 1
        last = {"celery": [f"worker{self._started}@%h"], "processes": [str(self._rows)]}.get(self._engine, [])
        command = [sys.executable, *_COMMANDS[self._engine], *last]
        self.running.append(
            subprocess.Popen(
                command, env=self._order.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        )  # fmt: skip

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill a worker with its children, and wait until none of them is left to send anything."""
        self.running.remove(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    @contextlib.contextmanager
    def all(self, count: int) -> Iterator[None]:
        for _ in range(count):
            self.start()
        try:
            yield
        finally:
            for process in [*self.running]:
                self.kill(process)


async def enqueue(engine: str, order: WorkerOrder, keys: list[str]) -> None:
    """Put the keys into the queue, if there is one."""
    chunks = [keys[first : first + _CHUNK] for first in range(0, len(keys), _CHUNK)]
    if engine == "processes":
        return
    os.environ.update(order.environment)
    module = importlib.import_module(f"tests.fleet.{engine}_app")
    if engine == "celery":
        for chunk in chunks:
            await asyncio.to_thread(module.create_sessions.delay, MERCHANT, chunk)
        return
    await module.broker.startup()
    for chunk in chunks:
        await module.create_sessions.kicker().with_labels(retry_on_error=True).kiq(MERCHANT, chunk)
    await module.broker.shutdown()


async def kill_workers(engine: str, dsn: str, *, rows: int, workers: int, kills: int, seed: int = 1) -> Report:
    """Run workers through it, and judge."""
    started = time.monotonic()
    dice = random.Random(seed)
    await PostgresLedger(dsn).create_schema()
    keys = [f"row-{number}" for number in range(rows)]
    with _BROKERS[engine]() as broker:
        async with Sandbox() as sandbox:
            order = WorkerOrder(dsn=dsn, apis={MERCHANT: (sandbox.base_url, sandbox.api_key)}, broker=broker or "")
            await enqueue(engine, order, keys)
            group = Workers(engine, order, rows)
            with group.all(workers):
                for moment in sorted(dice.randrange(rows // 20, rows * 8 // 10) for _ in range(kills)):
                    await sandbox.record.wait_for(lambda record, moment=moment: len(record.created) >= moment, 120)
                    await asyncio.to_thread(group.kill, dice.choice(group.running))
                    group.start()
                await _until_all_are_known(dsn, order, keys)
            outcomes = await read_outcomes(dsn, order, keys)
            await sandbox.wait_until_idle(30)
            broken = list(violations(outcomes, sandbox.record.created, keys))
    ended = states(outcomes)
    if ended["in_doubt"] > order.concurrency * kills:
        broken.append(f"{ended['in_doubt']} rows in doubt after {kills} kills at concurrency {order.concurrency}")
    return Report(
        rows=rows, kills=kills, terminations=0, crashes=0, ended=ended, in_doubt_per_kill=ended["in_doubt"] / max(1, kills),
        seconds=time.monotonic() - started, broken=broken,
    )  # fmt: skip


async def _until_all_are_known(dsn: str, order: WorkerOrder, keys: list[str]) -> None:
    settings = order.client(MERCHANT).settings
    async with PostgresLedger(dsn) as ledger, ledger.journal(Scope.of(settings, MERCHANT)) as journal:
        async with asyncio.timeout(120):
            while True:
                found = await journal.outcomes(keys)
                if len(found) == len(keys) and None not in found.values():
                    return
                await asyncio.sleep(0.2)


async def _child(order: WorkerOrder, rows: int) -> None:
    """One of several processes with the same input and no queue."""
    client = order.client(MERCHANT)
    items = list(all_rows(order.apis[MERCHANT][0], rows))
    random.Random(os.getpid()).shuffle(items)
    async with (
        PostgresLedger(order.dsn, **order.ledger) as ledger,
        ledger.journal(Scope.of(client.settings, MERCHANT)) as journal,
        client,
        batch.run(client.create_session, items, journal=journal, concurrency=order.concurrency) as run,
    ):
        async for _ in run:
            pass


def main() -> int:
    """Run it, and print what came of it."""
    if sys.argv[1:2] == ["--child"]:
        asyncio.run(_child(WorkerOrder.from_environment(), int(sys.argv[2])))
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.recipes")
    parser.add_argument("engine", choices=_BROKERS)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=6)
    options = parser.parse_args()
    with Cluster() as cluster:
        dsn = cluster.create_database("recipes")
        report = asyncio.run(
            kill_workers(options.engine, dsn, rows=options.rows, workers=options.workers, kills=options.kills)
        )
    print(report)
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
