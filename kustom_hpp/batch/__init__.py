"""Many sessions at the pace that the merchant is allowed: none lost, none created twice."""

from kustom_hpp.batch.journal import AlreadyRecorded, Claim, Claimed, ClaimedElsewhere, Journal
from kustom_hpp.batch.journal_rules import Record, Verdict
from kustom_hpp.batch.memory import MemoryJournal
from kustom_hpp.batch.outcomes import BatchItem, Counts, Outcome, OutcomeState
from kustom_hpp.batch.run import BatchRun, run
from kustom_hpp.batch.scope import Scope
from kustom_hpp.batch.sqlite.journal import SqliteJournal

__all__ = [
    "AlreadyRecorded",
    "BatchItem",
    "BatchRun",
    "Claim",
    "Claimed",
    "ClaimedElsewhere",
    "Counts",
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
