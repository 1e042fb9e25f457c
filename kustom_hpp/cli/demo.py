"""`kustom-hpp demo`: a small batch of sessions for example orders, from nothing, on this machine."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Iterable
from importlib import resources
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch import BatchItem, Outcome
from kustom_hpp.batch import run as run_batch
from kustom_hpp.cli.batch.progress import BatchCounts, Progress
from kustom_hpp.cli.console import Exit, stdout
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import BatchStoppedError
from kustom_hpp.sandbox import Sandbox

_ORDERS = 24
_AT_ONCE = 4
_HUNDRED = 99.9
_WIDE = 120
"""Columns from which session id and URL stand side by side; on fewer, one below the other."""


def demo() -> int:
    """Create sessions for a small batch of example orders at a sandbox that runs inside this command.

    It needs no account and no network: the sandbox listens on this machine alone and ends with the command, and so do
    the pages that the table links to. `kustom-hpp sandbox` runs one that stays, `kustom-hpp batch` runs batches of yours.
    """
    return asyncio.run(run_demo(stdout()))


def example_orders() -> list[dict[str, Any]]:
    """The orders that are shipped with the package: `name`, `order_id`, and a `request` without its payment session."""
    orders: list[dict[str, Any]] = json.loads(resources.files("kustom_hpp.cli").joinpath("orders.json").read_bytes())
    return orders


def example_batch(count: int = _ORDERS) -> list[dict[str, Any]]:
    """As many orders as wanted, made from the shipped ones: the same goods, each time with a number and an id of its own."""
    shipped = example_orders()
    first = int(shipped[0]["name"].partition(" ")[0])
    orders = []
    for index in range(count):
        order = shipped[index % len(shipped)]
        name = f"{first + index} {order['name'].partition(' ')[2]}"
        order_id = order["order_id"] if index < len(shipped) else str(uuid.uuid5(uuid.UUID(order["order_id"]), name))
        orders.append(order | {"name": name, "order_id": order_id})
    return orders


async def run_demo(console: Console, faults: Iterable[str] = ()) -> int:
    """Create a session for each example order and show them.

    Args:
        console: where to.
        faults: what the sandbox shall do wrong.

    Returns:
        The exit code.

    """
    table = _Sessions(console)
    counts = BatchCounts()
    began = time.perf_counter()
    orders = example_batch()
    async with (
        Sandbox(faults=faults) as sandbox,
        HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client,
        Progress(console, counts, len(orders)),
        run_batch(client.create_session, _items(client, orders), concurrency=_AT_ONCE, ordered=True) as outcomes,
    ):
        with contextlib.suppress(BatchStoppedError):  # the table and the count tell it
            async for outcome in outcomes:
                counts.add(outcome)
                table.add(outcome)
    console.print(table.table)
    all_well = counts.created == len(orders)
    console.print(
        Text.assemble(
            (f"{counts.created} of {len(orders)} sessions created", "bold green" if all_well else "bold red"),
            f" in {time.perf_counter() - began:.2f} s by a sandbox inside this command.",
        ),
        soft_wrap=True,
    )
    # An unknown outcome wins over a failure.
    return Exit.OK if all_well else Exit.UNKNOWN if counts.in_doubt else Exit.FAILED


def _items(client: HPPClient, orders: Iterable[dict[str, Any]]) -> Iterable[BatchItem]:
    for order in orders:
        fields = {"payment_session_url": client.order_url(order["order_id"]), **order["request"]}
        yield BatchItem(order["name"], codec().structure_request(fields))


class _Sessions:
    """The table, which fits itself to the console's width."""

    def __init__(self, console: Console) -> None:
        self._wide = console.width >= _WIDE
        plain = not console.is_terminal
        self.table = Table(
            box=None if plain else box.ROUNDED,
            header_style="" if plain else "bold",
            pad_edge=not plain,
        )
        self.table.add_column("Order", max_width=17)
        for column in ("Session id", "Redirect URL") if self._wide else ("Session id, redirect URL",):
            self.table.add_column(column, overflow="fold")
        self.table.add_column("ms", justify="right", no_wrap=True)

    def add(self, outcome: Outcome) -> None:
        """A row for a session, or for the error that came instead."""
        session, error = outcome.session, outcome.error
        if session is not None:
            both = Text(session.session_id), Text(session.payment_page, "cyan")
            milliseconds = session.info.elapsed * 1000
            took = f"{milliseconds:.{int(milliseconds < _HUNDRED)}f}"  # never so wide that it folds the URL
        else:
            delivery = None if error is None else error.delivery
            both, took = (Text(f"{type(error).__name__}, delivery {delivery}", "red"), Text(str(error))), ""
        self.table.add_row(Text(outcome.key), *(both if self._wide else (Text("\n").join(both),)), took)
