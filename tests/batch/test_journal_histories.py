"""Random histories of a journal in a file: claims, outcomes, crashes, closings; the file against a model of it."""

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kustom_hpp import errors
from kustom_hpp.batch import AlreadyRecorded, Claimed, Outcome, OutcomeState, SqliteJournal, Verdict
from tests.support.journal_contract import LOST, NOT_SENT, REJECTED, THROTTLED, UNREADABLE, session

KEYS = st.sampled_from("abcd")
ORDERS = st.sampled_from([None, "order-1", "order-2"])
ENDS = {
    "created": None, "lost": LOST, "accepted": UNREADABLE, "not sent": NOT_SENT, "throttled": THROTTLED, "rejected": REJECTED
}  # fmt: skip


@define
class Expected:
    """What the file must say about a key."""

    order: str | None
    payload: bytes
    end: str = "claimed"
    ours: bool = True
    """Claimed since the file was opened."""
    doubted: bool = False
    session_id: str | None = None

    @property
    def is_doubt(self) -> bool:
        return self.end in {"claimed", "lost", "accepted"}

    @property
    def may_have_session(self) -> bool:
        return self.is_doubt or self.end == "created"


class Histories(RuleBasedStateMachine):
    """Each step is done to the journal and to the model, and both must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.opened = 0
        self.model: dict[str, Expected] = {}
        self.journal: Any = None
        self.open(self.folder)

    def open(self, folder: Path) -> None:
        self.place = folder
        self.journal = SqliteJournal(folder / "journal.db", scope="here")
        for row in self.model.values():
            row.ours = False

    def do(self, call: Any) -> Any:
        return self.loop.run_until_complete(call)

    async def claiming(self, key: str, order: str | None, digest: bytes, force: bool) -> Any:
        return await self.journal.claim(key, order, digest, force=force)

    async def settling(self, key: str, outcome: Outcome) -> None:
        await self.journal.settle(key, outcome)

    @rule(key=KEYS, order=ORDERS, payload=st.sampled_from([b"1", b"2"]), force=st.booleans())
    def claim(self, key: str, order: str | None, payload: bytes, force: bool) -> None:
        call = self.claiming(key, order, hashlib.sha256(payload).digest(), force)
        row = self.model.get(key)
        if row is not None and not self.may_send(row, payload, force):
            if row.end == "claimed" and row.ours:
                self.fails(call, errors.InvalidRequestError)
                return
            claim = self.do(call)
            assert type(claim) is AlreadyRecorded
            assert claim.changed is (row.payload != payload)
            return
        others = [other for name, other in self.model.items() if name != key and other.may_have_session]
        if order is not None and any(other.order == order for other in others):
            self.fails(call, errors.InvalidRequestError)
            return
        assert self.do(call) == Claimed()
        self.model[key] = Expected(order, payload, doubted=row is not None and row.is_doubt)

    def may_send(self, row: Expected, payload: bytes, force: bool) -> bool:
        if row.end == "created" or (row.end == "claimed" and row.ours):
            return False
        if row.is_doubt:
            return force and payload == row.payload and row.end != "accepted" and not row.ours
        return row.end != "rejected" or force or payload != row.payload

    @rule(key=KEYS, end=st.sampled_from(sorted(ENDS)), number=st.integers(1, 6))
    def settle(self, key: str, end: str, number: int) -> None:
        row = self.model.get(key)
        error = ENDS[end]
        ours = session(f"s{number}") if end == "created" else None
        state = (
            OutcomeState.CREATED
            if ours
            else OutcomeState.IN_DOUBT
            if end in {"lost", "accepted"}
            else OutcomeState.FAILED
        )
        call = self.settling(key, Outcome(key=key, state=state, session=ours, error=error, attempts=1))
        same = row is not None and row.end == "created" and ours is not None and row.session_id == ours.session_id
        if row is None or not row.ours or (row.end == "created" and not same):
            self.fails(call, errors.JournalError)
        elif same:
            self.do(call)
        elif ours is not None and any(other.session_id == ours.session_id for other in self.model.values()):
            self.fails(call, errors.DuplicateSessionError)
            row.end = "accepted"
        else:
            self.do(call)
            row.end = "lost" if row.doubted and end not in {"created", "accepted"} else end
            row.session_id = ours.session_id if ours else None

    def fails(self, call: Any, kind: type[Exception]) -> None:
        try:
            self.do(call)
        except kind:
            return
        raise AssertionError(f"no {kind.__name__}")

    @rule(key=KEYS, verdict=st.sampled_from([Verdict.FAILED, Verdict.SEND_AGAIN]))
    def resolve(self, key: str, verdict: Verdict) -> None:
        row = self.model.get(key)
        call = self.journal.resolve(key, verdict)
        if row is None or not row.is_doubt or (row.end == "claimed" and row.ours):
            self.fails(call, errors.JournalError)
        else:
            self.do(call)
            row.end, row.doubted = "rejected" if verdict is Verdict.FAILED else "not sent", False

    @rule()
    def close_and_open(self) -> None:
        self.do(self.journal.aclose())
        self.open(self.place)

    @precondition(lambda self: any(self.place.iterdir()))
    @rule()
    def crash_and_open(self) -> None:
        """Everything that was acknowledged is in the files at this moment: a copy of them is what a crash leaves."""
        self.opened += 1
        folder = self.folder / str(self.opened)
        folder.mkdir()
        for file in self.place.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        self.do(self.journal.aclose())
        self.open(folder)

    @invariant()
    def the_file_says_what_was_done(self) -> None:
        async def doubts() -> set[str]:
            return {reported.key for reported in await self.journal.doubts()}

        async def rows() -> dict[str, tuple[str | None, str | None]]:
            return {
                row.key: (row.order, row.outcome.session.session_id if row.outcome.session else None)
                async for row in self.journal.rows()
            }

        assert self.do(doubts()) == {key for key, row in self.model.items() if row.is_doubt}
        assert self.do(rows()) == {key: (row.order, row.session_id) for key, row in self.model.items()}

    def teardown(self) -> None:
        self.do(self.journal.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=20, stateful_step_count=40, deadline=None, derandomize=True)
