"""`kustom-hpp sandbox --list-faults`: every fault, its effect, and whether the session exists afterwards."""

import json

from rich import box
from rich.table import Table
from rich.text import Text

from kustom_hpp.cli.console import Exit, stdout, write_line
from kustom_hpp.sandbox import FAULTS, FaultType
from kustom_hpp.sandbox.faults import FAULT_GROUPS

_COMMIT = "commit"
"""The parameter of faults that trigger before or after the request is processed."""


def list_all(*, for_scripts: bool) -> int:
    """List the faults: as a table, or as one line of JSON each for scripts."""
    if for_scripts:
        for kind in FAULTS.values():
            write_line(_line(kind))
        return Exit.OK
    console = stdout()
    console.print(_table(plain=not console.is_terminal))
    console.print(_FOOT, soft_wrap=not console.is_terminal)
    return Exit.OK


_FOOT = Text.assemble(
    ("session", "bold"), " says whether the session exists afterwards; with ", ("no*", "bold"), " it does if commit=1 is "
    "set. A fault's own parameters and their defaults are in brackets, as in ", ("hang~seconds=2", "bold"), ". Each also "
    "takes nth, times, skip, probability, seed and operation, as in ", ("status_503~nth=2,operation=read_session", "bold"),
    ".",
)  # fmt: skip


def _line(kind: FaultType) -> bytes:
    fields = {
        "name": kind.name,
        "about": kind.about,
        "stage": kind.stage,
        "parameters": dict(kind.defaults),
        "session_exists": kind.processes_request,
    }
    return json.dumps(fields, ensure_ascii=False).encode()


def _table(*, plain: bool) -> Table:
    table = Table(box=None if plain else box.SIMPLE_HEAD, header_style="" if plain else "bold", pad_edge=False)
    table.add_column("fault", no_wrap=True)
    table.add_column("session")
    table.add_column("what happens")
    for title, kinds in FAULT_GROUPS.items():
        if not plain:
            table.add_row(Text(title, "bold cyan"))
        for kind in kinds:
            table.add_row(Text(kind.name), _exists(kind), _about(kind))
        table.add_section()
    return table


def _about(kind: FaultType) -> Text:
    text = Text()
    for number, part in enumerate(kind.about.split("`")):
        text.append(part, "italic" if number % 2 else "")  # a parameter's name
    own = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in kind.defaults.items()]
    return text.append(f" [{', '.join(own)}]", "dim") if own else text


def _exists(kind: FaultType) -> Text:
    if kind.processes_request:
        return Text("yes", "yellow")
    return Text("no*" if _COMMIT in kind.defaults else "no")
