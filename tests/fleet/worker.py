"""A worker of a fleet in a process of its own: `python -m tests.fleet.worker ORDER`, where ORDER is JSON."""

import asyncio
import json
import os
import subprocess
import sys

from attrs import asdict, frozen

import kustom_hpp as hpp
from kustom_hpp.batch.postgres.database import LedgerDatabase
from kustom_hpp.integrations.procrastinate import Fleet
from kustom_hpp.integrations.worker import WorkerKit
from kustom_hpp.pace import Pace
from tests.support.orders import request


@frozen(kw_only=True)
class WorkerOrder:
    """What a worker needs to know."""

    dsn: str
    apis: dict[str, tuple[str, str]]
    """Base URL and key of each merchant's sandbox."""
    concurrency: int = 16
    rate: float | None = None
    stalled: float = 3.0
    lease: float = 6.0
    beat: float = 1.5
    repairs: bool = True
    """False for the control of the failover: after a lost connection nothing is put back, and nobody waits for it."""

    broker: str = ""
    """URL of the queue's server, for the recipes."""

    @classmethod
    def from_environment(cls) -> "WorkerOrder":
        return cls(**json.loads(os.environ["KUSTOM_HPP_PROOF"]))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a worker with this order."""
        return {**os.environ, "KUSTOM_HPP_PROOF": json.dumps(asdict(self))}

    @property
    def ledger(self) -> dict[str, float]:
        return {"lease": self.lease, "beat": self.beat, "patience": 30.0}

    def kit(self) -> WorkerKit:
        return WorkerKit(
            self.dsn, self.client, request_of, rate=self.rate, concurrency=self.concurrency, ledger=self.ledger
        )

    def fleet(self) -> Fleet:
        return Fleet(
            self.dsn,
            self.client,
            request_of,
            rate=self.rate,
            concurrency=self.concurrency,
            stalled=self.stalled,
            ledger=self.ledger,
        )

    def client(self, merchant: str, pace: Pace | None = None) -> hpp.HPPClient:
        base_url, api_key = self.apis[merchant]
        return hpp.HPPClient(api_key, base_url=base_url, pace=pace)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start a worker for all merchants."""
        command = [sys.executable, "-m", "tests.fleet.worker", json.dumps(asdict(self))]
        return subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "error"})


def request_of(client: hpp.HPPClient, key: str) -> hpp.CreateSessionRequest:
    return request(str(client.settings.base_url).rstrip("/"), key)


if __name__ == "__main__":
    order = WorkerOrder(**json.loads(sys.argv[1]))
    if not order.repairs:
        LedgerDatabase._reassert = lambda *_, **__: None
        LedgerDatabase._others_are_behind = lambda *_: False
    asyncio.run(order.fleet().work([*order.apis]))
