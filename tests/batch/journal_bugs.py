"""Journals that break one rule each: what random histories of a journal (tests/batch/histories.py) must find."""

import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from attrs import frozen

from kustom_hpp.batch import journal_row
from kustom_hpp.batch import journal_rules as rules
from kustom_hpp.batch.lease import Lease
from kustom_hpp.batch.sqlite.database import JournalDatabase
from tests.support.memory_journal import MemoryJournal, MemoryStore
from tests.support.shared_journal import SharedMemoryJournal, SharedStore


@frozen
class Bug:
    """A change of one function, where it is to be found, and what breaks."""

    breaks: str
    world: str
    function: Callable[..., Any]
    changes: dict[str, str]

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Let everybody who calls the function run the changed code."""
        source, function = textwrap.dedent(inspect.getsource(self.function)), self.function
        for old, new in self.changes.items():
            assert source.count(old) == 1, f"{self.breaks}: {source.count(old)} times {old!r}"
            source = source.replace(old, new)
        assert isinstance(function, FunctionType)
        found: dict[str, Any] = {}
        exec(source, function.__globals__, found)
        before = function.__code__
        function.__code__ = found[function.__name__].__code__
        try:
            yield
        finally:
            function.__code__ = before


claim, decide = rules.ClaimRow.__call__, rules.ClaimRow._decide_known
settle = rules.SettleRow.__call__
BUGS = [
    # claim
    Bug("a row with a session is sent again", "memory", rules.can_be_sent,
        {"if row.state == OutcomeState.CREATED": "if False"}),
    Bug("a refused row is sent again", "memory", rules.can_be_sent,
        {"return changed or claim.force or not _is_refusal(row.delivery, status)": "return True"}),
    Bug("a run sends a key twice at a time", "memory", decide,
        {"if row.state == CLAIMED and row.run == self.run": "if False"}),
    Bug("an order gets two sessions", "memory", claim, {"if self.order is not None and": "if False and"}),
    # resend
    Bug("a doubt is sent again unasked", "memory", rules.can_be_sent, {"return claim.force and": "return"}),
    Bug("a doubt is sent twice in a run", "memory", rules.can_be_sent, {"and row.run != claim.run": ""}),
    Bug("a doubt is sent with another payload", "memory", rules.can_be_sent, {"and not changed": ""}),
    Bug("a row that the API accepted is sent again", "memory", rules.can_be_sent,
        {"row.delivery != Delivery.ACCEPTED and": ""}),
    Bug("a second request that failed ends a doubt", "memory", claim, {"int(row.state in UNRESOLVED)": "0"}),
    # settle and release
    Bug("a run settles a row that it has not claimed", "memory", settle,
        {" or (row.run != self.run and not self.shared)": "", "if row.run != self.run:": "if False:"}),
    Bug("a second outcome replaces a session", "memory", settle, {"if row.state == OutcomeState.CREATED:": "if False:"}),
    Bug("two keys get one session", "memory", MemoryStore.update,
        {"if self.session_holder(row.session_id, row.key) is not None": "if False"}),
    Bug("a mixed-up session leaves no doubt", "memory", settle, {"store.update(apply_outcome(row, outcome, new.at))": ""}),
    Bug("an unknown outcome is recorded as a failure", "memory", journal_row.apply_outcome,
        {"state = OutcomeState.IN_DOUBT  # whatever the caller says": "state = OutcomeState.FAILED"}),
    Bug("a released row stays claimed", "memory", settle,
        {"if store.update(new):": "if self.outcome.state == 'failed' or store.update(new):"}),
    # crash and reopen
    Bug("the next run takes claims of the last one for its own", "memory", MemoryJournal.__init__,
        {"secrets.token_hex(8)": "'run'"}),
    Bug("a claim without an outcome is forgotten", "memory", rules.can_be_sent,
        {"if row.state == OutcomeState.FAILED": "if row.state in {OutcomeState.FAILED, 'claimed'}"}),
    Bug("an acknowledged write is not committed", "SQLite", JournalDatabase.execute,
        {'db.execute("BEGIN IMMEDIATE")': 'db.in_transaction or db.execute("BEGIN IMMEDIATE")',
         'db.execute("COMMIT")': "", "if db.total_changes != before": "if False"}),
    # leases
    Bug("a row of a live run is not left to it", "shared", SharedStore.live_holder, {"if run not in self.live": "if True"}),
    Bug("the lease of a crashed run never ends", "shared", SharedStore.live_holder, {"if run not in self.live": "if False"}),
    Bug("a run sends after the end of its lease", "shared", Lease.may_send, {"return not self._ended": "return True"}),
    Bug("a doubt is sent again in a shared journal", "shared", rules.can_be_sent, {"and not claim.shared": ""}),
    Bug("a late outcome counts although another run has the row", "shared", settle,
        {"if row.run != self.run:": "if False:"}),
    Bug("a late session is not recorded as surplus", "shared", SharedMemoryJournal.settle,
        {"if elsewhere is not None and": "if False and"}),
    Bug("a claim whose response was lost is refused", "shared", SharedMemoryJournal.claim,
        {"elif key not in self._claimed:": "elif False:"}),
    Bug("a lost response lets a key be sent twice", "shared", SharedMemoryJournal.claim,
        {"elif key not in self._claimed:": "else:"}),
    # resolve
    Bug("a late outcome overwrites a verdict", "shared", settle, {"if self.shared and row.note is not None": "if False"}),
    Bug("a row that a live run is sending is resolved", "shared", rules.resolve_row,
        {"if row.state == CLAIMED and (holder :=": "if False and (holder :="}),
    Bug("a run resolves a row that it is sending", "memory", rules.resolve_row,
        {"if row.state == CLAIMED and row.run == run": "if False"}),
    Bug("a row that is not in doubt is resolved", "memory", rules.resolve_row, {"if row.state not in UNRESOLVED": "if False"}),
    Bug("a verdict does not end the doubt", "memory", rules.resolve_row, {"had_unknown_attempt=0, ": ""}),
]  # fmt: skip
