"""Batches: many sessions within the merchant's rate limit, with none lost and none created twice."""

from kustom_hpp.batch.batch_run import BatchRun
from kustom_hpp.batch.journal import AlreadyRecorded, Claim, Claimed, ClaimedElsewhere, Journal
from kustom_hpp.batch.journal_row import JournalEntry
from kustom_hpp.batch.journal_rules import Verdict
from kustom_hpp.batch.outcomes import BatchItem, Outcome, OutcomeState, RunCounts
from kustom_hpp.batch.postgres.ledger import PostgresLedger
from kustom_hpp.batch.run import run
from kustom_hpp.batch.scope import Scope
from kustom_hpp.batch.sqlite.journal import SqliteJournal

__all__ = [
    "AlreadyRecorded",
    "BatchItem",
    "BatchRun",
    "Claim",
    "Claimed",
    "ClaimedElsewhere",
    "Journal",
    "JournalEntry",
    "Outcome",
    "OutcomeState",
    "PostgresLedger",
    "RunCounts",
    "Scope",
    "SqliteJournal",
    "Verdict",
    "run",
]
