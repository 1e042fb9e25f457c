"""`kustom-hpp fleet`: put ids into a fleet's queue, work on it, and show how far it is."""

import importlib
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kustom_hpp.cli.console import CommandError, Exit, print_note, stdout, table
from kustom_hpp.cli.requests import read_file

App = Annotated[str, Parameter(name="--app", help="The fleet, as MODULE:NAME.")]
_JOBS = ("todo", "doing", "succeeded", "failed")
_ROWS = ("created", "failed", "in doubt", "claimed")


async def init(*, app: App) -> int:
    """Create the tables of the ledger and of the queue if there are none."""
    await _load(app).create_schema()
    print_note("ready", "the database has the tables of the ledger and of the queue.", "bold green")
    return Exit.OK


async def enqueue(
    input: Annotated[str, Parameter(help="The file with the ids, or - for stdin.")],  # noqa: A002 - --help shows it
    /,
    *,
    app: App,
    merchant: Annotated[str, Parameter(help="Whose ids they are.")],
    batch: Annotated[str, Parameter(help="A name for these ids.")] = "",
) -> int:
    """Put ids into a merchant's queue.

    INPUT has one id on each line. Ids that were enqueued before are not sent again.
    """
    fleet = _load(app)
    lines = read_file(input, "an id on each line").decode().splitlines()
    async with fleet:
        count = await fleet.enqueue(merchant, (line.strip() for line in lines if line.strip()), batch=batch)
    print_note("enqueued", f"{count:,} ids for {merchant}.", "bold green")
    return Exit.OK


async def work(*merchants: Annotated[str, Parameter(help="Whose queues to work on.")], app: App) -> int:
    """Create the sessions of the queued ids until SIGTERM or Ctrl-C.

    The first signal sends no new rows and waits for the requests in flight; unsent ids go back to the queue. The log on stderr
    has a line for each job that ends, of up to 100 ids.
    """
    if not merchants:
        msg = "fleet work needs the name of at least one merchant."
        raise CommandError(msg, Exit.USAGE)
    fleet = _load(app)
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("kustom_hpp").setLevel(logging.INFO)
    print_note("working", f"on the ids of {', '.join(merchants)}, until SIGTERM or Ctrl-C.", "bold green")
    await fleet.work(merchants)
    print_note("stopped", "no request is in flight, and unsent ids are in the queue.", "bold green")
    return Exit.OK


async def status(*, app: App) -> int:
    """Show the jobs of each merchant, and the rows in the ledger.

    The ledger's row count comes with its live workers and surplus sessions. A job has up to 100 ids. 'kustom-hpp journal show'
    lists the rows in doubt and the surplus sessions of a scope.
    """
    async with _load(app) as fleet:
        jobs, scopes = await fleet.status(), await fleet.ledger_status()
    rows = [[line["merchant"], *(f"{line[column]:,}" for column in _JOBS)] for line in jobs]
    stdout().print(table(None, ("jobs of", *(f">{column}" for column in _JOBS)), rows))
    columns = (*_ROWS, "live workers", "surplus")
    rows = [
        [
            each.scope,
            *(f"{each.rows[name.replace(' ', '_')]:,}" for name in _ROWS),
            f"{each.live_runs:,}",
            f"{each.surplus:,}",
        ]
        for each in scopes
    ]
    stdout().print(table(None, ("rows of", *(f">{column}" for column in columns)), rows))
    return Exit.OK


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
