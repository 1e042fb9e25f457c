"""The faults that the sandbox can inject, by name.

>>> parse_fault("hang~seconds=2")
Fault('hang~seconds=2')
>>> parse_fault("hang").processes_request
True
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from kustom_hpp.sandbox.faults.base import ConnectionAction, Fault, FaultType, Stage
from kustom_hpp.sandbox.faults.bodies import BODY_FAULTS, FRAMING_FAULTS
from kustom_hpp.sandbox.faults.connections import CONNECTION_FAULTS
from kustom_hpp.sandbox.faults.slow import SLOW_FAULTS
from kustom_hpp.sandbox.faults.statuses import STATUS_FAULTS
from kustom_hpp.sandbox.http.request_context import RequestContext

__all__ = [
    "FAULTS",
    "FAULT_GROUPS",
    "ConnectionAction",
    "Fault",
    "FaultType",
    "RequestContext",
    "Stage",
    "fault_type",
    "parse_fault",
    "split_fault",
]

FAULT_GROUPS: Mapping[str, tuple[FaultType, ...]] = MappingProxyType(
    {
        "Statuses": STATUS_FAULTS,
        "Connections": CONNECTION_FAULTS,
        "Slow responses": SLOW_FAULTS,
        "Bodies": BODY_FAULTS,
        "HTTP framing": FRAMING_FAULTS,
    }
)
"""The faults in groups."""
FAULTS: Mapping[str, FaultType] = MappingProxyType(
    {kind.name: kind for kinds in FAULT_GROUPS.values() for kind in kinds}
)
"""The faults by name."""


def parse_fault(text: str) -> Fault:
    """Return the fault in a text: `name`, or `name~parameter=value,...`.

    Raises:
        ValueError: an unknown name or parameter, or a value of another type.

    """
    name, parameters = split_fault(text)
    return Fault.of(fault_type(name), **parameters)


def fault_type(name: str) -> FaultType:
    """Return a type of fault by its name; an unknown name is a ValueError."""
    if name not in FAULTS:
        close = difflib.get_close_matches(name, FAULTS, n=1)
        raise ValueError(f"no fault is called {name!r}" + (f"; did you mean {close[0]}?" if close else ""))
    return FAULTS[name]


def split_fault(text: str) -> tuple[str, dict[str, str]]:
    """Split a fault's text into name and parameters, or raise a ValueError."""
    name, mark, rest = text.strip().partition("~")
    parameters: dict[str, str] = {}
    for part in rest.split(",") if mark else ():
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(f"{text!r} is not name~parameter=value,parameter=value")
        parameters[key.strip()] = value.strip()
    return name, parameters
