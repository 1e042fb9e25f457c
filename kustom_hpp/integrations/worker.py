"""What a worker process needs to create sessions from ids, whatever queue brings them. Needs the extra `postgres`.

`integrations.procrastinate` has the queue too. Celery needs RabbitMQ (on Redis, the ids of a worker that was killed wait for
the visibility timeout), and a kit that is opened after the fork:

    kit = WorkerKit("postgresql://shop@db/shop", client_of, request_of, rate=40)    # connects to nothing yet
    runner = asyncio.Runner()

    @worker_process_init.connect
    def open_kit(**_):
        runner.run(kit.open())

    @worker_process_shutdown.connect
    def close_kit(**_):
        runner.run(kit.aclose())

    @app.task(acks_late=True, reject_on_worker_lost=True, autoretry_for=(Exception,), retry_backoff=True, max_retries=None)
    def create_sessions(merchant, ids):
        runner.run(kit.create_sessions(merchant, ids))

with `worker_prefetch_multiplier=1`. With taskiq on NATS JetStream, open the kit on WORKER_STARTUP, await `kit.create_sessions`
in the task, set `ack_wait` to more seconds than a chunk of ids takes, and repeat tasks that raised with a retry middleware.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Self

from attrs import define, field

from kustom_hpp import batch as hpp_batch
from kustom_hpp.batch import BatchItem, BatchRun, Outcome, OutcomeState, PostgresLedger, Scope
from kustom_hpp.batch.postgres.ledger import PostgresJournal
from kustom_hpp.client import HPPClient
from kustom_hpp.config.options import check_positive_int
from kustom_hpp.errors import InvalidRequestError, JournalError
from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.pace import Pace

ClientOf = Callable[[str, Pace | None], HPPClient]
"""Make the client of a merchant; called in the worker, with the pace that all workers of the merchant share."""
RequestOf = Callable[[HPPClient, str], CreateSessionRequest | Awaitable[CreateSessionRequest]]
"""Make the request for an order's id; called in the worker."""
_log: Final = logging.getLogger("kustom_hpp")


class UnfinishedError(Exception):
    """Some ids have no outcome yet. The queue must deliver them again."""


@define(eq=False)
class _Merchant:
    """What a worker process has for one merchant."""

    client: HPPClient
    journal: PostgresJournal
    runs: set[BatchRun] = field(factory=set)


@define(eq=False, repr=False)
class WorkerSettings:
    """The arguments of a `WorkerKit`, and of a fleet.

    Raises:
        ConfigError: an argument is invalid.

    """

    dsn: str
    """The ledger's database. Leave the password to PGPASSWORD or a service file."""
    client_of: ClientOf
    """Makes a merchant's client in the worker; give it the pace that it gets."""
    request_of: RequestOf
    """Makes the request for an id in the worker; it may be a coroutine function. With an InvalidRequestError the id is FAILED;
    any other exception is raised after the other ids were sent."""
    rate: float | Mapping[str, float] | None = field(default=None, kw_only=True)
    """Requests per second for each merchant, by all workers together; a mapping gives each merchant its own. None lets each
    client learn it."""
    concurrency: int = field(default=16, kw_only=True)
    """Requests in flight for each call of `create_sessions`; in a fleet, for each merchant in each process."""
    ledger: Mapping[str, float] = field(factory=dict, kw_only=True)
    """Arguments of `PostgresLedger`: lease, beat, patience."""

    def __attrs_post_init__(self) -> None:
        check_positive_int("concurrency", self.concurrency)
        self.make_ledger()  # checks its arguments

    def make_ledger(self) -> PostgresLedger:
        """Return the ledger, which is not connected yet."""
        return PostgresLedger(self.dsn, **self.ledger)


@define(eq=False, repr=False)
class WorkerKit(WorkerSettings):
    """The ledger, and for each merchant the client, of one worker process.

    The arguments are those of `WorkerSettings`. Every id ends CREATED, FAILED or IN_DOUBT, and no order is sent twice, however
    often a queue delivers an id: the ledger decides that. Use a kit in one event loop, and open it after a fork: it connects
    to nothing before. It has one ledger for all merchants, and opens it again after the database was away for longer than the
    ledger's patience.
    """

    _merchants: dict[str, _Merchant] = field(factory=dict, init=False)
    _stack: contextlib.AsyncExitStack = field(factory=contextlib.AsyncExitStack, init=False)
    _open: PostgresLedger | None = field(default=None, init=False)
    """None before `open`, and after the database has failed."""
    _opening: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _active: int = field(default=0, init=False)
    """Calls of `create_sessions` that use the ledger."""
    _idle: asyncio.Event = field(factory=asyncio.Event, init=False)
    _draining: bool = field(default=False, init=False)

    async def open(self) -> None:
        """Connect to the ledger.

        Raises:
            JournalError: the database cannot be reached, or has no valid ledger.

        """
        self._draining = False
        async with self._opening:
            await self._open_ledger()

    async def aclose(self) -> None:
        """Close the clients and the ledger. Idempotent."""
        self._open = None
        self._merchants.clear()
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def drain(self) -> None:
        """Send no new rows. Requests in flight end, and calls of `create_sessions` raise an UnfinishedError."""
        self._draining = True
        for merchant in self._merchants.values():
            for run in merchant.runs:
                run.drain()

    async def create_sessions(self, merchant: str, ids: Sequence[str]) -> list[Outcome]:
        """Create the sessions of these ids.

        Returns:
            The outcome of each id. Ids that another worker is sending are CLAIMED_ELSEWHERE.

        Raises:
            UnfinishedError: not all of them have an outcome: the kit is draining.
            BatchStoppedError: every further row would fail, for example because the merchant's key is refused.
            JournalError: the ledger failed. The next call connects again.
            Exception: what `request_of` raised.

        """
        if self._draining:
            raise UnfinishedError
        async with self._opening:
            ledger = await self._open_ledger()
            state = await self._merchant(ledger, merchant)
            self._active += 1
            self._idle.clear()
        try:
            return await self._create_sessions(state, ids)
        except JournalError:
            if self._open is ledger:
                self._open = None
            raise
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    async def _create_sessions(self, state: _Merchant, ids: Sequence[str]) -> list[Outcome]:
        chunk = _Chunk(state, self.request_of, ids)
        run = hpp_batch.run(
            state.client.create_session, chunk.items(), concurrency=self.concurrency, journal=state.journal
        )
        async with run:
            state.runs.add(run)
            if self._draining:
                run.drain()
            try:
                async for outcome in run:
                    await chunk.add(outcome)
            finally:
                state.runs.discard(run)
        if chunk.errors:
            raise chunk.errors[0]
        if len(chunk.outcomes) < len(set(ids)):
            raise UnfinishedError
        return chunk.outcomes

    async def _open_ledger(self) -> PostgresLedger:
        if self._open is None:
            if self._active:
                await self._idle.wait()  # the ledger of the others has failed: they end soon
            await self.aclose()
            self._open = await self._stack.enter_async_context(self.make_ledger())
        return self._open

    async def _merchant(self, ledger: PostgresLedger, name: str) -> _Merchant:
        if name not in self._merchants:
            rate = self.rate.get(name) if isinstance(self.rate, Mapping) else self.rate
            pace = None if rate is None else ledger.pace(rate, merchant=name)
            client = await self._stack.enter_async_context(self.client_of(name, pace))
            journal = await self._stack.enter_async_context(ledger.journal(Scope.of(client.settings, name)))
            self._merchants[name] = _Merchant(client, journal)
        return self._merchants[name]


class _Chunk:
    """The ids of one call, while their sessions are created."""

    def __init__(self, state: _Merchant, request_of: RequestOf, ids: Sequence[str]) -> None:
        self._state, self._request_of, self._ids = state, request_of, ids
        self.outcomes: list[Outcome] = []
        self.errors: list[Exception] = []
        """What `request_of` raised: these ids have no outcome."""

    async def items(self) -> AsyncIterator[BatchItem]:
        """Iterate over the rows to send."""
        for key in dict.fromkeys(self._ids):
            try:
                request = self._request_of(self._state.client, key)
                if inspect.isawaitable(request):
                    request = await request
            except InvalidRequestError as error:
                await self.add(Outcome(key=key, state=OutcomeState.FAILED, error=error))
            except Exception as error:  # noqa: BLE001 - of the shop's function: the other ids are sent all the same
                self.errors.append(error)
            else:
                yield BatchItem(key, request)

    async def add(self, outcome: Outcome) -> None:
        """Add an outcome. An invalid request was never claimed: record it, so that the ledger has every outcome."""
        self.outcomes.append(outcome)
        if outcome.state is OutcomeState.CLAIMED_ELSEWHERE and outcome.session is not None:
            _log.warning("%s: %s", outcome.key, outcome.error)  # a surplus session: the error says what to do
        if not isinstance(outcome.error, InvalidRequestError) or outcome.state is not OutcomeState.FAILED:
            return
        journal: Any = self._state.journal
        with contextlib.suppress(InvalidRequestError):  # the key is another row's, or cannot be stored
            if isinstance(await journal.claim(outcome.key, None, b""), hpp_batch.Claimed):
                await journal.settle(outcome.key, outcome)
