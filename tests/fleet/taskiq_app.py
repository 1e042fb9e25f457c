"""The taskiq recipe of `integrations.worker`, as a worker runs it. KUSTOM_HPP_PROOF is a `WorkerOrder` as JSON."""

from nats.js.api import ConsumerConfig
from taskiq import SimpleRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq_nats import PullBasedJetStreamBroker

from tests.fleet.worker import WorkerOrder

order = WorkerOrder.from_environment()
broker = PullBasedJetStreamBroker(
    order.broker,
    stream_name="shop",
    subject="shop",
    durable="shop",
    # Seconds until the ids of a worker that was killed are delivered again: more than a chunk takes.
    consumer_config=ConsumerConfig(durable_name="shop", ack_wait=10),
    pull_consume_timeout=1.0,
).with_middlewares(SimpleRetryMiddleware(default_retry_count=1_000, default_retry_label=True))
kit = order.kit()


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_kit(_: TaskiqState) -> None:
    await kit.open()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_kit(_: TaskiqState) -> None:
    await kit.aclose()


@broker.task(task_name="create_sessions")
async def create_sessions(merchant: str, ids: list[str]) -> None:
    await kit.create_sessions(merchant, ids)
