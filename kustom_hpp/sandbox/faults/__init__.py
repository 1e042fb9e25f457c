"""Every fault that the sandbox can play, as one table, and `Fault`: one of them with its parameters.

>>> Fault.parse("double_answer~late=0")
Fault('double_answer~late=0')
>>> Fault.parse("double_answer").commits
True
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from kustom_hpp.sandbox.faults.base import Call, Kind, Stage, Then
from kustom_hpp.sandbox.faults.bodies import BODIES
from kustom_hpp.sandbox.faults.connections import CONNECTIONS
from kustom_hpp.sandbox.faults.framing import BROKEN
from kustom_hpp.sandbox.faults.statuses import STATUSES

__all__ = ["FAULTS", "GROUPS", "Call", "Fault", "Kind", "Stage", "Then"]

GROUPS: Mapping[str, tuple[Kind, ...]] = MappingProxyType(
    {
        "Connections that break or hang": CONNECTIONS,
        "Answers that are no good HTTP": BROKEN,
        "Healthy answers with odd bodies": BODIES,
        "Refusals, redirects, waits": STATUSES,
    }
)
"""Every fault, with its like."""
FAULTS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kinds in GROUPS.values() for kind in kinds})
"""Every fault by its name. Those of ports and of the proxy stand in `ports` and `proxy`."""


_MOST = 1_000_000_000


def _check_name(instance: object, attribute: object, name: str) -> None:  # noqa: ARG001 - attrs' shape of a validator
    if name not in FAULTS:
        close = difflib.get_close_matches(name, FAULTS, n=1)
        raise ValueError(f"no fault is called {name!r}" + (f"; did you mean {close[0]}?" if close else ""))


@frozen(repr=False)
class Fault:
    """A fault with its parameters. Make it with `parse` or `of`."""

    name: str = field(validator=_check_name)
    given: tuple[tuple[str, Any], ...] = ()
    """The parameters that differ from their defaults."""

    @classmethod
    def of(cls, name: str, **given: Any) -> "Fault":
        """A fault by its name.

        Raises:
            ValueError: there is no fault of this name, or it has no such parameter, or a value of another type; nan,
                infinity and times of many decades are none.

        """
        fault = cls(name)
        return cls(name, tuple(sorted((key, fault._value(key, value)) for key, value in given.items())))

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """A fault as it is spelled: `name`, or `name~parameter=value,parameter=value`.

        Raises:
            ValueError: as for `of`.

        """
        name, parameters = split(text)
        return cls.of(name, **parameters)

    @property
    def kind(self) -> Kind:
        """Its row in the table."""
        return FAULTS[self.name]

    @property
    def stage(self) -> Stage:
        """When it bites."""
        return self.kind.stage

    @property
    def args(self) -> dict[str, Any]:
        """All its parameters."""
        return {**self.kind.defaults, **dict(self.given)}

    @property
    def commits(self) -> bool:
        """True where the session is made before the fault bites."""
        return bool(self.args.get("commit", self.kind.commits))

    def _value(self, key: str, value: Any) -> Any:
        if key not in self.kind.defaults:
            known = ", ".join(self.kind.defaults) or "none"
            raise ValueError(f"{self.name} has no parameter {key!r}; it has: {known}")
        wanted = type(self.kind.defaults[key])
        try:
            typed = wanted(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{self.name}: {key} must be of type {wanted.__name__}, got {value!r}") from None
        # No clock and no calendar can work with nan, or with times beyond some decades.
        if wanted is float and not -_MOST <= typed <= _MOST:
            raise ValueError(f"{self.name}: {key} must be a number of at most {_MOST:,}, got {value!r}")
        return typed

    def __str__(self) -> str:
        parameters = ",".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.given
        )
        return f"{self.name}~{parameters}" if parameters else self.name

    def __repr__(self) -> str:
        return f"Fault({str(self)!r})"


def split(text: str) -> tuple[str, dict[str, str]]:
    """Take the spelling of a fault apart.

    Raises:
        ValueError: it is not spelled as `name~parameter=value,parameter=value`.

    """
    name, mark, rest = text.strip().partition("~")
    parameters: dict[str, str] = {}
    for part in rest.split(",") if mark else ():
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(f"{text!r} is not spelled as name~parameter=value,parameter=value")
        parameters[key.strip()] = value.strip()
    return name, parameters
