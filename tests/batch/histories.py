"""Random histories of a journal: claims, outcomes, crashes, ends of leases; the journal against a model of it.

tests/batch/journal_bugs.py has journals that break one rule each; these histories find every one of them.
"""

import asyncio
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kustom_hpp import errors
from kustom_hpp.batch import (
    AlreadyRecorded,
    Claimed,
    ClaimedElsewhere,
    Outcome,
    OutcomeState,
    SqliteJournal,
    Verdict,
)  # fmt: skip
from kustom_hpp.batch.journal_row import CLAIMED
from tests.support.journal_contract import LOST, NOT_SENT, REJECTED, THROTTLED, UNREADABLE, session
from tests.support.memory_journal import MemoryJournal
from tests.support.shared_journal import SharedRuns

# ------------------------------------------------------------------------------------------------ the model
FREE, REFUSED, LOST_, ACCEPTED, CREATED = "free", "refused", "lost", "accepted", "created"


@define
class Row:
    """What the model knows of a key; `state` is one of the five above, or CLAIMED."""

    state: str
    run: int
    order: str | None
    payload: bytes
    doubted: bool = False
    """Claimed again while it was in doubt: only a session ends that doubt."""
    by_hand: bool = False
    session: str | None = None

    @property
    def in_doubt(self) -> bool:
        return self.state in {CLAIMED, LOST_, ACCEPTED}


@define
class Model:
    """The rules of a journal, in as few lines as they have. Each method returns what the journal must do."""

    shared: bool
    rows: dict[str, Row] = field(factory=dict)
    live: set[int] = field(factory=set)
    """The runs whose lease has not ended."""
    surplus: list[str] = field(factory=list)

    def claim(self, run: int, key: str, order: str | None, payload: bytes, force: bool) -> Any:
        row = self.rows.get(key)
        if row is not None and row.state == CLAIMED and (row.run == run or row.run in self.live):
            return errors.InvalidRequestError if row.run == run else ClaimedElsewhere
        if row is not None and not self.may_send(row, run, payload, force):
            return AlreadyRecorded
        if self.is_taken(order, row):
            return errors.InvalidRequestError
        self.rows[key] = Row(CLAIMED, run, order, payload, doubted=row is not None and row.in_doubt)
        return Claimed

    def is_taken(self, order: str | None, row: Row | None) -> bool:
        others = [other for other in self.rows.values() if other is not row and other.state not in {FREE, REFUSED}]
        return order is not None and any(other.order == order for other in others)

    def may_send(self, row: Row, run: int, payload: bytes, force: bool) -> bool:
        if row.in_doubt:
            again = row.state != ACCEPTED and row.run != run and payload == row.payload
            return force and again and not self.shared
        return row.state == FREE or (row.state == REFUSED and (force or payload != row.payload))

    def settle(self, run: int, key: str, end: str, session_id: str | None) -> Any:
        row = self.rows.get(key)
        if row is None or (row.run != run and not self.shared):
            return errors.JournalError
        if row.run == run and row.state == CREATED and row.session == session_id:
            return None
        stays = self.shared and row.by_hand and (end != CREATED or row.state == CREATED)
        late = self.shared and end == CREATED and row.state in {FREE, REFUSED} and self.is_taken(row.order, row)
        if row.run != run or stays or late:
            self.surplus += [session_id] if session_id else []
            return None if row.run == run and end != CREATED else ClaimedElsewhere
        if row.state == CREATED:
            return errors.JournalError
        if session_id and any(other.session == session_id for other in self.rows.values()):
            row.state = ACCEPTED
            return errors.DuplicateSessionError
        row.state = LOST_ if row.doubted and end in {FREE, REFUSED} else end
        row.session, row.doubted = session_id, row.doubted and end != CREATED
        return None

    def resolve(self, run: int, key: str, end: str, session_id: str | None) -> Any:
        row = self.rows.get(key)
        if row is None or not row.in_doubt or (row.state == CLAIMED and row.run in {run, *self.live}):
            return errors.JournalError
        if session_id and any(other.session == session_id for other in self.rows.values()):
            return errors.DuplicateSessionError
        row.state, row.session, row.doubted, row.by_hand = end, session_id, False, True
        return Outcome


# ------------------------------------------------------------------------------------------------ the journals
class World:
    """Where journals of one kind are opened. Subclasses say what a crash of a process leaves."""

    shared = False

    async def open(self) -> Any:
        """Open the journal in one more run."""
        raise NotImplementedError

    async def crash(self, journal: Any) -> None:
        """End the process of a run; what the journal acknowledged is what is left."""

    async def close(self) -> None:
        """Delete everything."""


class Memory(World):
    """`MemoryJournal`, whose rows the next one takes over."""

    last: Any = None

    async def open(self) -> Any:
        self.last = MemoryJournal(self.last)
        return self.last


class Sqlite(World):
    """`SqliteJournal`. A copy of its files at the moment of a crash is what the crash leaves."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._crashes = 0
        self._place = self._folder

    async def open(self) -> Any:
        return SqliteJournal(self._place / "journal.db", scope="here")

    async def crash(self, journal: Any) -> None:
        self._crashes += 1
        left, self._place = self._place, self._folder / str(self._crashes)
        self._place.mkdir()
        for file in left.iterdir():
            if file.is_file():
                shutil.copy(file, self._place)
        await journal.aclose()

    async def close(self) -> None:
        shutil.rmtree(self._folder)


class Shared(SharedRuns, World):
    """The shared journal of the tests, in memory."""

    shared = True


WORLDS: dict[str, type[World]] = {"memory": Memory, "SQLite": Sqlite, "shared": Shared}

# ------------------------------------------------------------------------------------------------ the machine
KEYS = st.sampled_from("abc")
ENDS = {CREATED: [None], LOST_: [LOST], ACCEPTED: [UNREADABLE], FREE: [NOT_SENT, THROTTLED], REFUSED: [REJECTED]}
STATES = {CREATED: OutcomeState.CREATED, FREE: OutcomeState.FAILED, REFUSED: OutcomeState.FAILED}
VERDICTS = {CREATED: Verdict.CREATED, FREE: Verdict.SEND_AGAIN, REFUSED: Verdict.FAILED}
MOST_RUNS = 3
"""At a time, over a shared journal."""


def same(what: str, shown: Any, expected: Any) -> None:
    """Fail if the journal shows something else than the model."""
    assert shown == expected, f"{what}: expected {expected}, got {shown}"


class Histories(RuleBasedStateMachine):
    """Each step is done to the journal and to the model, and both must agree."""

    def __init__(self, world: World, steps: Counter[str]) -> None:
        super().__init__()
        self.world, self.steps = world, steps
        self.loop = asyncio.new_event_loop()
        self.model = Model(world.shared)
        self.journals: dict[int, Any] = {}
        self.opened = 0
        self.promised: dict[tuple[int, str], Any] = {}
        """Claims whose lease has not ended."""
        self.void: list[Any] = []
        self.dead: dict[int, Any] = {}
        """Runs of a shared journal that crashed, and whose lease has not ended."""
        self.busy = False
        """Whether something was written since the last end of a run."""
        self.person = self.open_run()
        """Resolves and looks; in a shared journal it claims nothing."""
        if world.shared:
            self.open_run()

    def do(self, call: Callable[[], Any]) -> Any:
        async def done() -> Any:
            return await call()

        return self.loop.run_until_complete(done())

    def agree(self, name: str, expected: Any, call: Callable[[], Any]) -> Any:
        """Make a call; it must return, or raise, an object of the expected class."""
        self.busy = True
        self.steps[name] += 1
        try:
            result = self.do(call)
        except errors.HPPError as error:
            result = error
        kind = None if result is None else type(result)
        assert kind is expected, f"{name}: expected {expected}, got {result!r}"
        return result

    def open_run(self) -> int:
        number = self.opened
        self.opened += 1
        self.journals[number] = self.do(self.world.open)
        if not self.world.shared:
            self.model.live, self.person = {number}, number
        return number

    def runs(self) -> list[int]:
        """Return the runs that may claim."""
        return [number for number in self.journals if not self.world.shared or number != self.person]

    def one_of(self, data: Any) -> int:
        return data.draw(st.sampled_from(self.runs()), label="run")

    # Claims and their outcomes

    @rule(
        data=st.data(),
        key=KEYS,
        order=st.sampled_from([None, "order-1", "order-2"]),
        payload=st.sampled_from([b"1", b"2"]),
    )
    def claim(self, data: Any, key: str, order: str | None, payload: bytes) -> None:
        self.claim_in(self.one_of(data), key, order, payload, force=False)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), changed=st.sampled_from([False, False, True]))
    def resend(self, data: Any, changed: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.rows)), label="key")
        row = self.model.rows[key]
        self.claim_in(self.one_of(data), key, row.order, b"3" if changed else row.payload, force=True)

    def claim_in(self, run: int, key: str, order: str | None, payload: bytes, *, force: bool) -> None:
        journal, digest = self.journals[run], hashlib.sha256(payload).digest()
        before = self.model.rows.get(key)
        expected = self.model.claim(run, key, order, payload, force)
        self.model.live.add(run)
        claim = self.agree("claim", expected, lambda: journal.claim(key, order, digest, force=force))
        if expected is Claimed:
            self.promised[run, key] = claim
        if expected is AlreadyRecorded:
            same("changed", claim.changed, before is not None and before.payload != payload)
            same("earlier_run", claim.outcome.earlier_run, True)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), end=st.sampled_from(sorted(ENDS)), number=st.integers(1, 4))
    def settle(self, data: Any, end: str, number: int) -> None:
        run, key = self.a_row(data)
        self.settle_in(run, key, end, f"s{number}", data.draw(st.sampled_from(ENDS[end])))

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        """A run gives back a row that it has not sent."""
        run, key = self.a_row(data)
        self.settle_in(run, key, FREE, "", NOT_SENT)

    def a_row(self, data: Any) -> tuple[int, str]:
        """Draw a row, and most often the run that claimed it."""
        key = data.draw(st.sampled_from(sorted(self.model.rows)), label="key")
        owner = self.model.rows[key].run
        is_owner = owner in self.runs() and data.draw(st.sampled_from([True, True, True, False]), label="by its owner")
        return owner if is_owner else self.one_of(data), key

    def settle_in(self, run: int, key: str, end: str, session_id: str, error: errors.HPPError | None) -> None:
        journal, ours = self.journals[run], session(session_id) if end == CREATED else None
        state = STATES.get(end, OutcomeState.IN_DOUBT)
        outcome = Outcome(key=key, state=state, session=ours, error=error, attempts=1)
        expected = self.model.settle(run, key, end, session_id if ours else None)
        self.model.live.add(run)
        self.agree(end, expected, lambda: journal.settle(key, outcome))

    @rule(key=KEYS, end=st.sampled_from(sorted(VERDICTS)), number=st.integers(1, 4))
    def resolve(self, key: str, end: str, number: int) -> None:
        found = session(f"s{number}") if end == CREATED else None
        expected = self.model.resolve(self.person, key, end, found and found.session_id)
        journal = self.journals[self.person]
        self.agree("resolve", expected, lambda: journal.resolve(key, VERDICTS[end], session=found))

    # Ends of runs

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), crashes=st.booleans())
    def reopen(self, data: Any, crashes: bool) -> None:
        """A run ends, and the next one opens. In a shared journal the lease of a run that crashed goes on."""
        self.busy = False
        self.steps["crash" if crashes else "close"] += 1
        run = self.one_of(data)
        journal = self.journals.pop(run)
        if crashes and self.world.shared:
            self.dead[run] = journal
        elif crashes:
            self.do(lambda: self.world.crash(journal))
        else:
            self.do(journal.aclose)
        if run not in self.dead:
            self.end_lease_of(run)
        self.open_run()

    @precondition(lambda self: self.world.shared and len(self.journals) <= MOST_RUNS)
    @rule()
    def one_more_run(self) -> None:
        self.open_run()

    @precondition(lambda self: self.world.shared and self.model.live)
    @rule(data=st.data())
    def lease_ends(self, data: Any) -> None:
        """The next call of the run gets a new lease, if the run lives."""
        self.steps["lease ends"] += 1
        run = data.draw(st.sampled_from(sorted(self.model.live)), label="run")
        journal = self.dead.get(run) or self.journals[run]
        self.do(lambda: self.world.expire(journal))  # type: ignore[attr-defined]
        self.dead.pop(run, None)
        self.end_lease_of(run)

    def end_lease_of(self, run: int) -> None:
        self.model.live.discard(run)
        self.void += [self.promised.pop(at) for at in list(self.promised) if at[0] == run]

    @precondition(lambda self: self.world.shared and self.busy)
    @rule(data=st.data())
    def cut_link(self, data: Any) -> None:
        """The run's next write takes effect, and its response is lost."""
        self.steps["cut link"] += 1
        self.world.cut_link(self.journals[self.one_of(data)])  # type: ignore[attr-defined]

    # What must be so after each step

    @invariant()
    def the_journal_says_what_was_done(self) -> None:
        journal, model = self.journals[self.person], self.model
        others = model.live - {self.person} if self.world.shared else set[int]()
        held = {key for key, row in model.rows.items() if row.state == CLAIMED and row.run in others}

        async def rows() -> dict[str, Any]:
            return {row.key: row async for row in journal.rows()}

        seen, doubts = self.do(rows), self.do(journal.doubts)
        in_doubt = {key for key, row in model.rows.items() if row.in_doubt} - held
        same("doubts", {reported.key for reported in doubts}, in_doubt)
        shown = {
            key: (
                row.order,
                row.outcome.session and row.outcome.session.session_id,
                row.unsettled,
                row.note is not None,
            )
            for key, row in seen.items()
        }
        expected = {key: (row.order, row.session, row.state == CLAIMED, row.by_hand) for key, row in model.rows.items()}
        same("rows", shown, expected)
        for key, row in seen.items():
            state = STATES.get(model.rows[key].state, OutcomeState.IN_DOUBT)
            same(f"state of {key!r}", row.outcome.state, OutcomeState.CLAIMED_ELSEWHERE if key in held else state)

    @invariant()
    def a_run_may_send_while_its_lease_lasts(self) -> None:
        guards = {at: claim.may_send for at, claim in self.promised.items() if claim.may_send is not None}
        same("claims that may be sent", {at for at, may_send in guards.items() if may_send()}, set(guards))
        if self.world.shared:
            same("void claims that may be sent", [claim for claim in self.void if claim.may_send()], [])

    @precondition(lambda self: self.world.shared)
    @invariant()
    def each_surplus_session_is_recorded(self) -> None:
        same("surplus sessions", set(self.do(self.world.surplus)), set(self.model.surplus))  # type: ignore[attr-defined]

    def teardown(self) -> None:
        for journal in [*self.journals.values(), *self.dead.values()]:
            self.do(journal.aclose)
        self.do(self.world.close)
        self.loop.close()


ENOUGH = 400
"""Histories that find any of the planted bugs; most of them need ten."""


def check(world: Callable[[], World], histories: int, *, steps: int = 40, start: int | None = None) -> Counter[str]:
    """Play histories; return how many steps of each kind.

    Args:
        world: opens the journals.
        histories: their number.
        steps: of each.
        start: of the random numbers; None for the same histories each time.

    Raises:
        AssertionError: the journal and the model disagree.

    """
    counted: Counter[str] = Counter()

    def machine() -> Histories:
        return Histories(world(), counted)

    if start is not None:
        seed(start)(machine)
    chosen = settings(
        max_examples=histories, stateful_step_count=steps, deadline=None, derandomize=start is None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[arg-type]
    return counted
