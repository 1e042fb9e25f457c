"""Batches on many machines: a queue in PostgreSQL (procrastinate) next to the ledger. Needs the extra `procrastinate`.

    from kustom_hpp.integrations.procrastinate import Fleet

    def client_of(merchant, pace):                  # in the worker: no credential is in the queue
        return hpp.HPPClient(vault.read(f"kustom/{merchant}"), environment="live", pace=pace)

    async def request_of(client, order_id):         # in the worker: no URL with a secret is in the queue
        return hpp.CreateSessionRequest(payment_session_url=client.order_url(order_id), ...)

    fleet = Fleet("postgresql://shop@db/shop", client_of, request_of, rate=40)

    async with fleet:                               # in the shop
        await fleet.enqueue("acme", order_ids, batch="2026-11-28")
        async for outcome in fleet.outcomes("acme", batch="2026-11-28"):
            ...                                     # IN_DOUBT: create a new order for the consumer

    await fleet.work(["acme", "zeta"])              # in each worker process, on each machine

Every id ends CREATED, FAILED or IN_DOUBT, and no order is sent twice, whatever is killed: the ledger decides that, not the
queue. The logger `kustom_hpp` gets a line for each job that ends, and one for each failure of the database or of a merchant's
batch. The ids of a worker that was killed are begun again by another one after `stalled` seconds; at most `concurrency` of
them for each merchant are in doubt. SIGTERM and SIGINT end `work` without a doubt: requests in flight end, unsent ids go
back to the queue.
"""

import asyncio
import contextlib
import itertools
import logging
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from typing import Any, Final, Self

from attrs import define, field, fields

from kustom_hpp.batch import Outcome, OutcomeState, PostgresLedger, Scope
from kustom_hpp.batch.postgres.ledger import PATIENCE
from kustom_hpp.batch.postgres.overview import ScopeStatus
from kustom_hpp.config.options import check_positive
from kustom_hpp.errors import BatchStoppedError, JournalError
from kustom_hpp.integrations.worker import UnfinishedError, WorkerKit, WorkerSettings

try:
    import procrastinate
    from procrastinate import BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
    from procrastinate.exceptions import ConnectorException
    from procrastinate.jobs import Job
except ImportError as error:
    raise ImportError(
        "kustom_hpp.integrations.procrastinate needs procrastinate: pip install 'kustom_hpp[procrastinate]'",
        name=error.name,
    ) from None

CHUNK: Final = 100
"""Ids in one job of the queue."""
_TASK: Final = "kustom_hpp.create_sessions"
_MAX_PAUSE: Final = 300.0
_POLL: Final = 1.0
_NO_CONNECTION: Final = ("OperationalError", "ConnectionTimeout")
"""Causes of an error that may pass: psycopg's classes."""
_log: Final = logging.getLogger("kustom_hpp")


class _Retry(BaseRetryStrategy):
    """Repeat a job until it succeeds: at once if it was returned, else after a pause that grows."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        if isinstance(exception, (UnfinishedError, asyncio.CancelledError)):
            return RetryDecision(retry_in={"seconds": 0})
        return RetryDecision(retry_in={"seconds": int(_pause_after(job.attempts))})


@define(eq=False)
class _Queue:
    """What a worker process knows about one merchant's queue."""

    failures: int = 0
    """Jobs in a row that stopped before their end."""
    worker: int | None = None
    """The number of this process's worker in the queue's tables; None before its first job."""
    job: int | None = None
    """The job that it runs."""
    orphans: set[int] = field(factory=set)
    """Jobs that the tables call running here, and that are not."""


@define(eq=False, repr=False)
class Fleet(WorkerSettings):
    """Workers on many machines that create the sessions of one or more merchants.

    The arguments are those of `WorkerSettings`, and `stalled`. The ledger's database has the queue too. If `request_of` raises
    an exception other than an InvalidRequestError, the id's job is repeated later.
    """

    stalled: float = field(default=30.0, kw_only=True)
    """Seconds without a heartbeat after which the jobs of a worker are given to another one."""
    app: procrastinate.App = field(init=False)
    """procrastinate's App: add tasks of your own to it."""
    _ledger: PostgresLedger = field(init=False)
    _kit: WorkerKit = field(init=False)
    _queues: dict[str, _Queue] = field(factory=dict, init=False)
    _draining: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        check_positive("Fleet.stalled", self.stalled)
        self._ledger = self.make_ledger()
        self._kit = WorkerKit(**{item.name: getattr(self, item.name) for item in fields(WorkerSettings)})
        self.app = procrastinate.App(connector=PsycopgConnector(conninfo=self.dsn, min_size=1, max_size=4))
        self.app.task(name=_TASK, retry=_Retry(), pass_context=True)(self._run_job)

    # In the shop

    async def create_schema(self) -> None:
        """Create the tables of the ledger and of the queue if there are none.

        Raises:
            JournalError: the database refuses.

        """
        await self._ledger.create_schema()
        async with self.app.open_async():
            if not await self._has_queue():
                await self.app.schema_manager.apply_schema_async()

    async def _has_queue(self) -> bool:
        query = "SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS there"
        return bool((await self.app.connector.execute_query_one_async(query))["there"])

    async def __aenter__(self) -> Self:
        """Connect to the queue and the ledger.

        Raises:
            JournalError: the database cannot be reached, or has no valid ledger or no queue.

        """
        async with contextlib.AsyncExitStack() as stack:
            self._ledger = await stack.enter_async_context(self.make_ledger())
            await stack.enter_async_context(self.app.open_async())
            if not await self._has_queue():
                raise JournalError("the database has no queue. Run: kustom-hpp fleet init --app MODULE:FLEET")
            stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.close_async()
        await self._ledger.aclose()

    async def enqueue(self, merchant: str, ids: Iterable[str], *, batch: str = "") -> int:
        """Put ids into a merchant's queue.

        An id that was enqueued before is not sent again: its outcome is reported again.

        Args:
            merchant: whose they are, by the name that `client_of` gets.
            ids: orders' ids, the keys of their rows in the ledger.
            batch: a name for these ids, for `outcomes`.

        Returns:
            The number of ids.

        """
        jobs: list[dict[str, Any]] = []
        remaining = iter(ids)
        while chunk := list(itertools.islice(remaining, CHUNK)):
            jobs.append({"merchant": merchant, "ids": chunk, "batch": batch})
        if jobs:
            await self.app.configure_task(_TASK, queue=queue_of(merchant)).batch_defer_async(*jobs)
        return sum(len(job["ids"]) for job in jobs)

    async def outcomes(self, merchant: str, *, batch: str = "", poll: float = 1.0) -> AsyncIterator[Outcome]:
        """Iterate over the outcomes of a batch as they come, until every id has one.

        Args:
            merchant: whose ids they are.
            batch: as `enqueue` got it.
            poll: seconds between two queries.

        """
        query = """SELECT status::text AS status, args->'ids' AS ids FROM procrastinate_jobs
            WHERE queue_name = %(queue)s AND args->>'batch' = %(batch)s ORDER BY id"""
        settings = self.client_of(merchant, None).settings
        async with self._ledger.journal(Scope.of(settings, merchant)) as journal:
            reported: set[str] = set()
            while True:
                waiting = False
                for job in await self.app.connector.execute_query_all_async(
                    query, queue=queue_of(merchant), batch=batch
                ):
                    is_over = job["status"] not in ("todo", "doing")
                    ids = [key for key in job["ids"] if key not in reported]
                    for key, outcome in (await journal.outcomes(ids)).items():
                        # A row that failed may be sent again until its job has ended.
                        if outcome is not None and (is_over or outcome.state is not OutcomeState.FAILED):
                            reported.add(key)
                            yield outcome
                    waiting = waiting or any(key not in reported for key in ids)
                if not waiting:
                    return
                await asyncio.sleep(poll)

    async def status(self) -> list[dict[str, Any]]:
        """Return a mapping for each merchant with a queue: its name, and its jobs by status."""
        found = await self.app.job_manager.list_queues_async(task=_TASK)
        return [{**line, "merchant": str(line["name"]).removeprefix(queue_of(""))} for line in found]

    async def ledger_status(self) -> list[ScopeStatus]:
        """Return the counts of every scope of the ledger; see `PostgresLedger.status`."""
        return await self._ledger.status()

    # In the worker

    async def work(self, merchants: Sequence[str], *, install_signal_handlers: bool = True) -> None:
        """Work on the queues of these merchants until SIGTERM or SIGINT, or until `drain`.

        Each merchant has its own queue, client and requests in flight, so that a small one never waits behind a big one.
        A database that does not respond is waited for; at the start for the ledger's `patience`.

        Args:
            merchants: their names.
            install_signal_handlers: False if the program handles signals itself and calls `drain`.

        Raises:
            JournalError: at the start: the database cannot be reached, or has no valid ledger or no queue.

        """
        self._draining.clear()
        await self._check_database()
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT) if install_signal_handlers else ()
        for number in numbers:
            loop.add_signal_handler(number, self.drain)
        try:
            while not self._draining.is_set():
                try:
                    await self._work_once(merchants)
                except (JournalError, ConnectorException, OSError) as error:
                    _log.warning("the database of the fleet failed; the worker connects again: %s", error)
                    await self._sleep_unless_draining(1.0)
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def _check_database(self) -> None:
        """Connect once, so that missing tables are an error. A database that restarts is waited for."""
        now = asyncio.get_running_loop().time
        give_up = now() + self.ledger.get("patience", PATIENCE)
        while True:
            try:
                async with self:
                    return
            except JournalError as error:
                if error.cause not in _NO_CONNECTION or now() > give_up:
                    raise
                _log.warning("the worker connects again: %s", error)
            await asyncio.sleep(1.0)

    def drain(self) -> None:
        """End `work`: no new rows are sent, requests in flight end, and unsent ids go back to the queue."""
        self._draining.set()
        self._kit.drain()

    async def _work_once(self, merchants: Sequence[str]) -> None:
        """Work until `drain`, or until the database has failed."""
        async with self._kit, self.app.open_async():
            self._queues = {name: _Queue() for name in merchants}
            works: list[Awaitable[Any]] = [self._run_worker(name) for name in merchants]
            works += [self._return_stalled_jobs(merchants), self._draining.wait()]
            tasks = [asyncio.ensure_future(each) for each in works]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()

    async def _run_worker(self, merchant: str) -> None:
        await self.app.run_worker_async(
            queues=[queue_of(merchant)],
            name=queue_of(merchant),
            concurrency=1,
            fetch_job_polling_interval=_POLL,
            listen_notify=False,  # it would need a connection for each merchant
            install_signal_handlers=False,
            update_heartbeat_interval=self.stalled / 3,
            stalled_worker_timeout=self.stalled,
        )

    async def _return_stalled_jobs(self, merchants: Sequence[str]) -> None:
        """Put the jobs of workers that were killed back into their queues."""
        manager = self.app.job_manager
        while True:
            for name in merchants:
                stalled = await manager.get_stalled_jobs(
                    queue=queue_of(name), task_name=_TASK, seconds_since_heartbeat=self.stalled
                )
                for job in (*stalled, *await self._orphans(name)):
                    # Another worker may be faster. If both do it, the ledger still lets one of them send a row.
                    with contextlib.suppress(ConnectorException):
                        await manager.retry_job(job)
            await asyncio.sleep(min(_POLL, self.stalled / 3))

    async def _orphans(self, merchant: str) -> list[Job]:
        """Return jobs that ended here, and whose end the database has lost or never got: twice seen, for they may just end."""
        state = self._queues[merchant]
        if state.worker is None:
            return []
        jobs = await self.app.job_manager.list_jobs_async(
            queue=queue_of(merchant), task=_TASK, status="doing", worker_id=state.worker
        )
        orphans = {job.id: job for job in jobs if job.id is not None and job.id != state.job}
        seen, state.orphans = state.orphans, set(orphans)
        return [job for number, job in orphans.items() if number in seen]

    async def _run_job(self, context: JobContext, *, merchant: str, ids: list[str], batch: str) -> None:
        del batch
        state = self._queues[merchant]
        state.worker, state.job = context.job.worker_id, context.job.id
        try:
            outcomes = await self._kit.create_sessions(merchant, ids)
        except (BatchStoppedError, JournalError) as error:
            state.failures += 1
            _log.warning("merchant %s: %s", merchant, error)
            # The other merchants go on. A database that is back is used at once.
            await self._sleep_unless_draining(1.0 if isinstance(error, JournalError) else _pause_after(state.failures))
            raise UnfinishedError from None
        finally:
            state.job = None
        state.failures = 0
        ended = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in Counter(each.state for each in outcomes).items()
        )
        _log.info("merchant %s: %d ids: %s", merchant, len(outcomes), ended)

    async def _sleep_unless_draining(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._draining.wait()


def queue_of(merchant: str) -> str:
    """Return the name of a merchant's queue."""
    return f"kustom_hpp {merchant}"


def _pause_after(failures: int) -> float:
    return min(_MAX_PAUSE, 2.0 ** min(failures, 16))
