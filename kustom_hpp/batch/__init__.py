"""Many sessions at the pace that the merchant is allowed: none lost, none created twice."""

from kustom_hpp.batch.journal import Busy, Claim, Earlier, Fresh, Journal
from kustom_hpp.batch.outcome import BatchItem, Outcome, OutcomeState

__all__ = ["BatchItem", "Busy", "Claim", "Earlier", "Fresh", "Journal", "Outcome", "OutcomeState"]
