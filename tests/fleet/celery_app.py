"""The Celery recipe of `integrations.worker`, as a worker runs it. KUSTOM_HPP_PROOF is a `WorkerOrder` as JSON."""

import asyncio
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from tests.fleet.worker import WorkerOrder

order = WorkerOrder.from_environment()
app = Celery("shop", broker=order.broker)
app.conf.update(
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)
kit = order.kit()
runner = asyncio.Runner()


@worker_process_init.connect
def open_kit(**_: Any) -> None:
    runner.run(kit.open())


@worker_process_shutdown.connect
def close_kit(**_: Any) -> None:
    runner.run(kit.aclose())


def create(merchant: str, ids: Sequence[str]) -> None:
    runner.run(kit.create_sessions(merchant, ids))


create_sessions: Any = app.task(
    acks_late=True, reject_on_worker_lost=True, autoretry_for=(Exception,), retry_backoff=True, max_retries=None
)(create)
