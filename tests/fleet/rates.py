"""One rate limit for several processes, at a sandbox that enforces it.

    python -m tests.fleet.rates [--workers 4] [--seconds 20] [--demand 16,16,1,1]

Each process calls the API with so many tasks (16 without --demand) and a pace that all share. Printed: the part of the
limit that was used, the part of the responses that were 429, and each process's share; the first 4 seconds do not count.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

from attrs import define

import kustom_hpp as hpp
from kustom_hpp.batch import PostgresLedger
from kustom_hpp.sandbox import MerchantRateLimit, Sandbox
from tests.support.orders import request
from tests.support.postgres import Cluster

RATE = 40.0
_WARM_UP = 4.0


@define(kw_only=True)
class Report:
    """What came of it."""

    used: float
    throttled: float
    shares: list[int]
    statements: float

    def __str__(self) -> str:
        return (
            f"{100 * self.used:.1f} % of the rate limit used, {100 * self.throttled:.2f} % of the responses 429, "
            f"{self.statements:.2f} statements a create; creates of each process {self.shares}"
        )


async def share(dsn: str, demand: list[int], seconds: float) -> Report:
    """Let processes share the rate limit, and judge by the sandbox's record."""
    await PostgresLedger(dsn).create_schema()
    async with Sandbox(rate_limit=MerchantRateLimit(RATE), latency=(0.1, 0.2)) as sandbox:
        base = {"dsn": dsn, "base_url": sandbox.base_url, "api_key": sandbox.api_key, "seconds": seconds}
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.fleet.rates", "--child", json.dumps({**base, "tasks": tasks, "name": name}),
                stdout=asyncio.subprocess.PIPE,
            )
            for name, tasks in enumerate(demand)
        ]  # fmt: skip
        outputs = [json.loads((await process.communicate())[0]) for process in processes]
        posts = sandbox.record.posts
    start = max(output["started"] for output in outputs) + _WARM_UP
    end = start + seconds - _WARM_UP - 2
    steady = [post for post in posts if start <= post.at < end]
    ended = Counter(post.status for post in steady)
    return Report(
        used=ended[201] / (RATE * (end - start)),
        throttled=ended[429] / max(1, len(steady)),
        shares=[output["creates"] for output in outputs],
        statements=sum(output["statements"] for output in outputs) / max(1, len(posts)),
    )


async def _child(order: dict[str, Any]) -> None:
    """Call the API with some tasks for some seconds; print how it went."""
    started = time.monotonic()
    async with PostgresLedger(order["dsn"]) as ledger:
        pace = ledger.pace(RATE, merchant="shop")
        async with hpp.HPPClient(order["api_key"], base_url=order["base_url"], pace=pace) as client:
            creates = 0

            async def call(number: int) -> None:
                nonlocal creates
                count = 0
                while time.monotonic() < started + order["seconds"]:
                    count += 1
                    key = f"{order['name']}-{number}-{count}"
                    await client.create_session(request(order["base_url"], key))
                    creates += 1

            await asyncio.gather(*(call(number) for number in range(order["tasks"])))
    print(json.dumps({"started": started, "creates": creates, "statements": pace.statements}))


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.rates")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--demand", help="tasks of each process, with commas between them")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(_child(json.loads(options.child)))
        return 0
    demand = [int(tasks) for tasks in options.demand.split(",")] if options.demand else [16] * options.workers
    with Cluster() as cluster:
        report = asyncio.run(share(cluster.create_database("rates"), demand, options.seconds))
    print(report)
    return int(report.used < (0.97 if options.demand else 0.98) or report.throttled > 0.005)


if __name__ == "__main__":
    sys.exit(main())
