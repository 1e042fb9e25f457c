"""Many sessions at the pace that the merchant is allowed: none lost, none created twice."""

from kustom_hpp.batch.engine import BatchRun, run
from kustom_hpp.batch.journal import Busy, Claim, Earlier, Fresh, Journal
from kustom_hpp.batch.ledger import Record, Verdict
from kustom_hpp.batch.memory import MemoryJournal
from kustom_hpp.batch.outcome import BatchItem, Counts, Outcome, OutcomeState
from kustom_hpp.batch.scope import Scope
from kustom_hpp.batch.sqlite import SqliteJournal

__all__ = [
    "BatchItem",
    "BatchRun",
    "Busy",
    "Claim",
    "Counts",
    "Earlier",
    "Fresh",
    "Journal",
    "MemoryJournal",
    "Outcome",
    "OutcomeState",
    "Record",
    "Scope",
    "SqliteJournal",
    "Verdict",
    "run",
]
