"""`kustom-hpp demo`: sessions for example orders, from nothing, on this machine."""

import asyncio
import json
import time
from collections.abc import Iterable
from contextlib import nullcontext
from importlib import resources
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kustom_hpp._codec import codec
from kustom_hpp.cli.output import Exit, exit_code, stdout
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import HPPError
from kustom_hpp.sandbox import Sandbox

_WIDE = 120
"""Columns from which session id and URL stand side by side; on fewer, one below the other."""


def demo() -> int:
    """Create sessions for a few example orders at a sandbox that runs inside this command.

    It needs no account and no network: the sandbox listens on this machine alone and ends with the command, and so do
    the pages that the table links to. `kustom-hpp sandbox` runs one that stays.
    """
    return asyncio.run(run_demo(stdout()))


def example_orders() -> list[dict[str, Any]]:
    """The orders that are shipped with the package: `name`, `order_id`, and a `request` without its payment session."""
    orders: list[dict[str, Any]] = json.loads(resources.files("kustom_hpp.cli").joinpath("orders.json").read_bytes())
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
    began = time.perf_counter()
    async with (
        Sandbox(faults=faults) as sandbox,
        HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client,
    ):
        # Anything but a terminal gets the table in one piece, when it is whole.
        with Live(table.table, console=console) if console.is_terminal else nullcontext():
            codes = [await _one(client, order, table) for order in example_orders()]
    if not console.is_terminal:
        console.print(table.table)
    created = codes.count(Exit.OK)
    console.print(
        Text.assemble(
            (f"{created} of {len(codes)} sessions created", "bold green" if created == len(codes) else "bold red"),
            f" in {time.perf_counter() - began:.2f} s by a sandbox inside this command.",
        ),
        soft_wrap=True,
    )
    # An unknown outcome wins over a failure.
    return Exit.OK if created == len(codes) else Exit.UNKNOWN if Exit.UNKNOWN in codes else Exit.FAILED


async def _one(client: HPPClient, order: dict[str, Any], table: "_Sessions") -> Exit:
    request = codec().request_from({"payment_session_url": client.order_url(order["order_id"]), **order["request"]})
    began = time.perf_counter()
    try:
        session = await client.create_session(request)
    except HPPError as error:
        table.add(order["name"], f"{type(error).__name__}, delivery {error.delivery}", str(error), began, failed=True)
        return exit_code(error)
    table.add(order["name"], session.session_id, session.redirect_url, began)
    return Exit.OK


class _Sessions:
    """The table, which fits itself to the console's width."""

    def __init__(self, console: Console) -> None:
        self._wide = console.width >= _WIDE
        plain = not console.is_terminal
        self.table = Table(
            box=None if plain else box.ROUNDED,
            header_style="" if plain else "bold",
            show_lines=not self._wide,
            pad_edge=not plain,
        )
        self.table.add_column("Order", max_width=17)
        for column in ("Session id", "Redirect URL") if self._wide else ("Session id, redirect URL",):
            self.table.add_column(column, overflow="fold")
        self.table.add_column("ms", justify="right", no_wrap=True)

    def add(self, order: str, session_id: str, url: str, began: float, *, failed: bool = False) -> None:
        """A row for a session, or for the error that came instead."""
        both = (Text(session_id, "red" if failed else ""), Text(url, "" if failed else "cyan"))
        cells = both if self._wide else (Text("\n").join(both),)
        self.table.add_row(Text(order), *cells, f"{(time.perf_counter() - began) * 1000:.1f}")
