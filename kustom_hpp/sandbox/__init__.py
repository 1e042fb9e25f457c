"""A local HPP server: it stores sessions, shows pages, injects faults.

    async with Sandbox() as sandbox:
        sandbox.fault("reset_after_request", nth=2)
        ...                                          # a client at sandbox.base_url with sandbox.api_key
        assert len(sandbox.record.created) == 2

`FAULTS` lists every named fault: what it does, and whether the session exists afterwards.
"""

from kustom_hpp.sandbox.faults import FAULTS, Fault, FaultType, Stage
from kustom_hpp.sandbox.faults.rules import FaultRules, Rule
from kustom_hpp.sandbox.limits import Latency, MerchantRateLimit, TokenBucket
from kustom_hpp.sandbox.record import (
    CreatedSession,
    Record,
    RecordedCallback,
    RecordedConnection,
    RecordedRequest,
    SentMessage,
)
from kustom_hpp.sandbox.sample_orders import Order, OrderLine
from kustom_hpp.sandbox.sandbox import Sandbox
from kustom_hpp.sandbox.state import MovableClock, SandboxState
from kustom_hpp.sandbox.stored_session import Action, SessionClosedError, StoredSession, TimelineEntry

__all__ = [
    "FAULTS",
    "Action",
    "CreatedSession",
    "Fault",
    "FaultRules",
    "FaultType",
    "Latency",
    "MerchantRateLimit",
    "MovableClock",
    "Order",
    "OrderLine",
    "Record",
    "RecordedCallback",
    "RecordedConnection",
    "RecordedRequest",
    "Rule",
    "Sandbox",
    "SandboxState",
    "SentMessage",
    "SessionClosedError",
    "Stage",
    "StoredSession",
    "TimelineEntry",
    "TokenBucket",
]
