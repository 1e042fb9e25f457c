"""`kustom-hpp demo`: a batch of example orders at a sandbox inside the command."""

import asyncio
import contextlib
import json
import time
import uuid
import webbrowser
from collections.abc import Iterable
from importlib import resources
from typing import Annotated, Any

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch import BatchItem, Outcome, OutcomeState
from kustom_hpp.batch import run as run_batch
from kustom_hpp.cli.batch.progress import BatchCounts, BatchProgress
from kustom_hpp.cli.console import Exit, stdout
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import BatchStoppedError
from kustom_hpp.sandbox import Sandbox

_ORDERS = 24
_CONCURRENCY = 4
_REFUSED, _LOST = 4, 9
"""Indexes of the order whose first create meets a 429, and of the one whose response is lost."""
_MAX_WITH_DECIMAL = 99.9
"""Milliseconds up to which the column has room for a decimal."""
_WIDE = 120
"""Columns from which a row has session id and URL side by side; on fewer, one below the other."""


async def demo(*, open_console: Annotated[bool, Parameter(name="--open")] = False) -> int:
    """Create sessions for example orders at a local sandbox that this command starts.

    It needs no account and no network. One create meets a 429 and is retried; one loses its response and is not, because
    the session may exist.

    Args:
        open_console: Keep the sandbox running until Ctrl-C and open its console in the browser.

    """
    return await run_demo(stdout(), open_console=open_console)


def example_orders() -> list[dict[str, Any]]:
    """Return the orders of the package: `name`, `order_id`, and a `request` without its payment session."""
    orders: list[dict[str, Any]] = json.loads(resources.files("kustom_hpp.cli").joinpath("orders.json").read_bytes())
    return orders


def example_batch(count: int = _ORDERS) -> list[dict[str, Any]]:
    """Return that many orders: the goods of the shipped ones, each with its own number and id."""
    shipped = example_orders()
    first = int(shipped[0]["name"].partition(" ")[0])
    orders = []
    for index in range(count):
        order = shipped[index % len(shipped)]
        name = f"{first + index} {order['name'].partition(' ')[2]}"
        order_id = order["order_id"] if index < len(shipped) else str(uuid.uuid5(uuid.UUID(order["order_id"]), name))
        orders.append(order | {"name": name, "order_id": order_id})
    return orders


async def run_demo(console: Console, faults: Iterable[str] = (), *, open_console: bool = False) -> int:
    """Create a session for each example order and show them.

    Args:
        console: where to print.
        faults: faults that creates meet in addition to the two of the demo.
        open_console: keep serving, and open the sandbox's console in the browser.

    Returns:
        The exit code; OK if everything but the create that loses its response succeeded.

    """
    async with Sandbox(faults=faults) as sandbox:
        code = await _create_all(console, sandbox)
        if not open_console:
            console.print("Open the sandbox's console with: kustom-hpp demo --open", soft_wrap=True)
            return code
        console.print(f"The sandbox's console is at {sandbox.base_url}/ until Ctrl-C.", soft_wrap=True)
        await asyncio.to_thread(webbrowser.open, f"{sandbox.base_url}/")
        await asyncio.Event().wait()
    return code


async def _create_all(console: Console, sandbox: Sandbox) -> int:
    table, counts, doubts = _SessionTable(console), BatchCounts(), list[str]()
    orders = example_batch()
    started = time.perf_counter()
    async with HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client:
        sandbox.fault("status_429", payment_session_url=client.order_url(orders[_REFUSED]["order_id"]), times=1)
        sandbox.fault("reset_after_request", payment_session_url=client.order_url(orders[_LOST]["order_id"]))
        items = _items(client, orders)
        async with (
            BatchProgress(console, counts, len(orders)),
            run_batch(client.create_session, items, concurrency=_CONCURRENCY, ordered=True) as outcomes,
        ):
            with contextlib.suppress(BatchStoppedError):  # the table and the counts show it
                async for outcome in outcomes:
                    counts.add(outcome)
                    table.add(outcome)
                    if outcome.state is OutcomeState.IN_DOUBT:
                        doubts.append(outcome.key)
    console.print(table.table)
    refused, lost = orders[_REFUSED]["name"], orders[_LOST]["name"]
    as_scripted = counts.created == len(orders) - 1 and doubts == [lost]
    console.print(
        Text.assemble(
            (f"{counts.created} of {len(orders)} sessions created", "bold green" if as_scripted else "bold red"),
            f", {len(doubts)} in doubt, in {time.perf_counter() - started:.2f} s, at a sandbox that this command started.",
        ),
        soft_wrap=True,
    )
    if as_scripted:
        console.print(f"{refused}: a 429 means not processed, so it was sent again.", soft_wrap=True)
        console.print(f"{lost}: the session may exist, so it was not sent again.", soft_wrap=True)
    # An unknown outcome wins over a failure.
    return Exit.OK if as_scripted else Exit.UNKNOWN if set(doubts) - {lost} else Exit.FAILED


def _items(client: HPPClient, orders: Iterable[dict[str, Any]]) -> Iterable[BatchItem]:
    for order in orders:
        fields = {"payment_session_url": client.order_url(order["order_id"]), **order["request"]}
        yield BatchItem(order["name"], codec().structure_request(fields))


class _SessionTable:
    """The table, laid out for the console's width."""

    def __init__(self, console: Console) -> None:
        self._is_wide = console.width >= _WIDE
        plain = not console.is_terminal
        self.table = Table(
            box=None if plain else box.ROUNDED,
            header_style="" if plain else "bold",
            pad_edge=not plain,
        )
        self.table.add_column("Order", max_width=17)
        for column in ("Session id", "Redirect URL") if self._is_wide else ("Session id, redirect URL",):
            self.table.add_column(column, overflow="fold")
        self.table.add_column("ms", justify="right", no_wrap=True)

    def add(self, outcome: Outcome) -> None:
        """Add a row for a session, or for its error."""
        session, error = outcome.session, outcome.error
        if session is not None:
            again = f"\ncreated by attempt {outcome.attempts}" if outcome.attempts > 1 else ""
            both = Text.assemble(session.session_id, (again, "yellow")), Text(session.payment_page, "cyan")
            milliseconds = session.info.elapsed * 1000
            took = f"{milliseconds:.{int(milliseconds < _MAX_WITH_DECIMAL)}f}"  # narrow, so that the URL does not fold
        else:
            delivery = None if error is None else error.delivery
            both, took = (Text(f"{type(error).__name__}, delivery {delivery}", "red"), Text(str(error))), ""
        self.table.add_row(Text(outcome.key), *(both if self._is_wide else (Text("\n").join(both),)), took)
