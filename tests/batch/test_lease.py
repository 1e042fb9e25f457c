"""Leases: their arithmetic, and runs over a shared journal whose lease ends while rows wait to be sent."""

import pytest

import kustom_hpp as hpp
from kustom_hpp import batch, errors
from kustom_hpp.batch import Outcome, OutcomeState, Verdict
from kustom_hpp.batch.lease import Lease, suspend_aware_clock
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.transport import FakeTransport
from tests.support.batches import ORDER, Api, item, items, lost, session, state_by_key, take
from tests.support.memory_journal import MemoryJournal
from tests.support.orders import rows
from tests.support.shared_journal import SharedMemoryJournal, SharedRuns

# The arithmetic


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_counts_from_its_request() -> None:
    clock = Clock()
    lease = Lease(10, 99, clock)
    assert (lease.may_send(), lease.remaining) == (True, 9)
    clock.now = 108.9
    assert lease.may_send()
    clock.now = 109
    assert (lease.may_send(), lease.remaining) == (False, 0)


def test_a_renewal_extends_a_lease_from_its_own_request() -> None:
    clock = Clock()
    lease = Lease(10, 100, clock)
    clock.now = 105
    assert lease.renew(104)
    assert lease.remaining == 9
    assert lease.renew(101)  # one that was overtaken shortens nothing
    assert lease.remaining == 9


@pytest.mark.parametrize("how", ["time", "end", "a clock that goes back"])
def test_a_lease_that_ended_stays_so(how: str) -> None:
    clock = Clock()
    lease = Lease(10, 100, clock)
    if how == "end":
        lease.end()
    else:
        clock.now = 110
    if how == "a clock that goes back":
        assert not lease.may_send()
        clock.now = 100
    assert not lease.renew(clock.now)
    assert (lease.may_send(), lease.remaining) == (False, 0)


def test_the_clock_of_a_lease_goes_on() -> None:
    before = suspend_aware_clock()
    assert suspend_aware_clock() >= before > 0


# Runs


class Guarded(Api):
    """`create` that asks `may_send` as the client does, after whatever `before` does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def before(self, name: str) -> None:
        """What happens between the claim and the first byte."""

    async def guarded(self, request: hpp.CreateSessionRequest, *, may_send: object = None) -> hpp.Session:
        assert callable(may_send)
        name = request.payment_session_url.removeprefix(ORDER)
        self.asked.append(name)
        await self.before(name)
        if not may_send():
            raise errors.LeaseLostError("too late")
        return await self.create(request)


async def test_a_row_whose_lease_was_lost_is_claimed_again_before_it_is_sent() -> None:
    shared, api = SharedRuns(), Guarded()
    journal = await shared.open()

    async def stop_once(name: str) -> None:
        if api.asked.count(name) == 1 and name in {"3", "4"}:
            await shared.expire(journal)

    api.before = stop_once  # type: ignore[method-assign]
    outcomes = await take(batch.run(api.guarded, items(20), concurrency=4, journal=journal))
    assert state_by_key(outcomes) == {str(number): "created" for number in range(20)}
    assert api.repeated == {}
    assert {"3", "4"} <= {name for name in api.asked if api.asked.count(name) > 1}
    assert await journal.doubts() == []


async def test_a_row_that_another_run_took_meanwhile_is_not_sent() -> None:
    shared, api = SharedRuns(), Guarded()
    journal, other = await shared.open(), await shared.open()

    async def taken(name: str) -> None:
        if name == "1":
            await shared.expire(journal)
            await other.resolve("1", Verdict.SEND_AGAIN)
            row = shared.store.by_key["1"]
            await other.claim("1", row.payment_session, row.digest)

    api.before = taken  # type: ignore[method-assign]
    run = batch.run(api.guarded, items(3), concurrency=1, journal=journal, max_failures=1)
    outcomes = await take(run)
    assert state_by_key(outcomes) == {"0": "created", "1": "claimed_elsewhere", "2": "created"}
    assert api.sent == ["0", "2"]
    assert (run.counts.elsewhere, run.counts.failed) == (1, 0)


@pytest.mark.parametrize(("end", "delivery"), [(None, "accepted"), (lost, "unknown")], ids=["created", "lost"])
async def test_an_outcome_that_comes_after_another_run_took_the_row(end: object, delivery: str) -> None:
    shared, api = SharedRuns(), Guarded()
    journal, other = await shared.open(), await shared.open()

    async def create(request: hpp.CreateSessionRequest, *, may_send: object = None) -> hpp.Session:
        # On its way when the process sleeps; a person frees the doubt, and another run sends the row.
        await shared.expire(journal)
        await other.resolve("0", Verdict.SEND_AGAIN)
        row = shared.store.by_key["0"]
        await other.claim("0", row.payment_session, row.digest)
        await other.settle("0", Outcome(key="0", state=OutcomeState.CREATED, session=session("theirs"), attempts=1))
        if end is not None:
            raise lost()
        return await api.create(request)

    [outcome] = await take(batch.run(create, items(1), journal=journal))
    assert outcome.state is OutcomeState.CLAIMED_ELSEWHERE
    assert isinstance(outcome.error, hpp.OutcomeUnknownError)
    assert outcome.error.delivery == delivery
    surplus = [] if end is not None else ["session-of-0-1"]
    assert await shared.surplus() == surplus
    assert [outcome.session.session_id] == surplus if outcome.session else surplus == []
    [entry] = [entry async for entry in other.rows()]
    assert entry.outcome.session == session("theirs")


async def test_two_runs_over_one_input_send_each_row_once() -> None:
    shared, api = SharedRuns(), Guarded()
    runs = [batch.run(api.guarded, items(200), concurrency=8, journal=await shared.open()) for _ in range(2)]
    first, second = [await take(run) for run in runs]
    assert len(api.sent) == 200
    assert api.repeated == {}
    assert state_by_key(first) == {str(number): "created" for number in range(200)}
    assert state_by_key(second) == state_by_key(first)
    assert all(outcome.earlier_run for outcome in second)


async def test_through_the_client_to_a_socket() -> None:
    shared, calls = SharedRuns(), list[str]()
    journal = await shared.open()
    async with Sandbox() as sandbox:
        async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client:

            async def create(request: hpp.CreateSessionRequest, **options: object) -> hpp.Session:
                calls.append(request.payment_session_url)
                if len(calls) in {3, 8}:
                    await shared.expire(journal)
                return await client.create_session(request, **options)  # type: ignore[arg-type]

            outcomes = await take(batch.run(create, rows(sandbox.base_url, 30), concurrency=4, journal=journal))
        assert {str(outcome.state) for outcome in outcomes} == {"created"}
        made = [session.payment_session_url for session in sandbox.record.created]
        assert (len(made), len(set(made)), len(sandbox.record.posts)) == (30, 30, 30)
        assert len(calls) > 30


async def test_a_lease_that_is_lost_between_two_attempts_ends_the_call() -> None:
    allowed = [True, False]
    transport = FakeTransport(hpp.RateLimitError("slow", status=429, retry_after=0.0))
    async with hpp.HPPClient("kco_test_api_" + "x" * 32, transport=transport) as client:
        own = hpp.CreateSessionRequest(payment_session_url=client.order_url("1"))
        with pytest.raises(hpp.LeaseLostError) as caught:
            await client.create_session(own, may_send=lambda: allowed.pop(0))
    assert (len(transport.requests), caught.value.attempts) == (1, 1)
    assert caught.value.delivery is hpp.Delivery.REJECTED


# What a shared journal asks of a run


async def plain(request: hpp.CreateSessionRequest) -> hpp.Session:
    raise NotImplementedError


async def test_a_create_that_cannot_pass_the_guard_on_is_refused() -> None:
    journal: SharedMemoryJournal = await SharedRuns().open()
    with pytest.raises(hpp.ConfigError, match="must accept may_send="):
        batch.run(plain, items(1), journal=journal)
    with pytest.raises(hpp.ConfigError, match="not allowed with a shared journal"):
        batch.run(Guarded().guarded, items(1), journal=journal, on_doubt="resend")


async def test_a_create_without_a_shared_journal_gets_no_guard() -> None:
    api = Api()
    [outcome] = await take(batch.run(api.create, [item("a")], journal=MemoryJournal()))
    assert outcome.state is OutcomeState.CREATED


async def test_a_journal_that_was_taken_over_writes_no_more() -> None:
    journal = MemoryJournal()
    await journal.claim("a", None, b"1")
    later = MemoryJournal(journal)
    assert type(await later.claim("a", None, b"1")) is batch.AlreadyRecorded
    for call in (
        journal.claim("b", None, b"1"),
        journal.settle("a", Outcome(key="a", state=OutcomeState.CREATED, session=session("1"))),
        journal.resolve("a", Verdict.FAILED),
    ):
        with pytest.raises(errors.JournalError, match="taken over"):
            await call
