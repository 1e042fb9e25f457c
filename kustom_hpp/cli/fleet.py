"""`kustom-hpp fleet`: put ids into a fleet's queue, work on it, and show how far it is."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from kustom_hpp.cli.console import STDIN, CommandError, Exit, print_note, require_stream, stdout

App = Annotated[str, Parameter(name="--app")]
_JOBS = ("todo", "doing", "succeeded", "failed")
_ROWS = ("created", "failed", "in doubt", "claimed")


def init(*, app: App) -> int:
    """Create the tables of the ledger and of the queue if there are none.

    Args:
        app: The fleet, as MODULE:NAME.

    """
    asyncio.run(_load(app).create_schema())
    print_note("ready", "the database has the tables of the ledger and of the queue.", "bold green")
    return Exit.OK


def enqueue(
    input: str,  # noqa: A002 - it is the name that --help shows
    /,
    *,
    app: App,
    merchant: str,
    batch: str = "",
) -> int:
    """Put ids into a merchant's queue.

    INPUT has one id on each line. Ids that were enqueued before are not sent again.

    Args:
        input: The file with the ids, or - for stdin.
        app: The fleet, as MODULE:NAME.
        merchant: Whose ids they are.
        batch: A name for these ids.

    """
    fleet = _load(app)

    async def put(lines: Iterator[str]) -> int:
        async with fleet:
            count: int = await fleet.enqueue(merchant, (line.strip() for line in lines if line.strip()), batch=batch)
            return count

    with _lines_of(input) as lines:
        count = asyncio.run(put(lines))
    print_note("enqueued", f"{count:,} ids for {merchant}.", "bold green")
    return Exit.OK


def work(*merchants: str, app: App) -> int:
    """Create the sessions of the queued ids until SIGTERM or Ctrl-C.

    The first signal sends no new rows and waits for the requests in flight; unsent ids go back to the queue.

    Args:
        merchants: Whose queues to work on.
        app: The fleet, as MODULE:NAME.

    """
    if not merchants:
        msg = "fleet work needs the name of at least one merchant."
        raise CommandError(msg, Exit.USAGE)
    asyncio.run(_load(app).work(merchants))
    return Exit.OK


def status(*, app: App) -> int:
    """Show the jobs of each merchant, and the rows in the ledger.

    The ledger's row count comes with its live workers and surplus sessions. A job has up to 100 ids. 'kustom-hpp journal show'
    lists the rows in doubt and the surplus sessions of a scope.

    Args:
        app: The fleet, as MODULE:NAME.

    """
    fleet = _load(app)

    async def read() -> tuple[list[dict[str, Any]], list[Any]]:
        async with fleet:
            return await fleet.status(), await fleet.ledger_status()

    jobs, scopes = asyncio.run(read())
    table = _table("jobs of", *_JOBS)
    for line in jobs:
        table.add_row(Text(line["merchant"]), *(f"{line[column]:,}" for column in _JOBS))
    stdout().print(table)
    table = _table("rows of", *_ROWS, "live workers", "surplus")
    for each in scopes:
        counts = (*(each.rows[column.replace(" ", "_")] for column in _ROWS), each.live_runs, each.surplus)
        table.add_row(Text(each.scope), *(f"{count:,}" for count in counts))
    stdout().print(table)
    return Exit.OK


def _table(name: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(name)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _load(app: str) -> Any:
    """Return the fleet that a module has.

    Raises:
        CommandError: the module cannot be found, or has no fleet of that name.

    """
    module_name, _, name = app.partition(":")
    if not module_name or not name:
        msg = f"--app must be MODULE:NAME, such as shop.fleet:fleet, got {app!r}."
        raise CommandError(msg, Exit.USAGE)
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        found = None
    if not hasattr(found, "work") or not hasattr(found, "enqueue"):
        msg = f"--app {app}: there is no Fleet of that name. Run the command in the folder of your module."
        raise CommandError(msg, Exit.USAGE)
    return found


@contextmanager
def _lines_of(name: str) -> Iterator[Iterator[str]]:
    if name == STDIN:
        yield iter(require_stream(sys.stdin))
        return
    try:
        file = Path(name).open(encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        msg = f"{name} cannot be read: {error.strerror}. Nothing was enqueued."
        raise CommandError(msg, Exit.USAGE) from None
    with file:
        yield iter(file)
