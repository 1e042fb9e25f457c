"""Which request meets which fault."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import define, field, frozen, validators

from kustom_hpp._redaction import masked_url
from kustom_hpp.sandbox.faults import FAULTS, Fault, Stage, split

CREATE, ANY = "create_session", "any"
OPERATIONS = (
    CREATE, "read_session", "disable_session", "distribute_session", "check_identity", "renew_distribution_token",
)  # fmt: skip
"""The operations that a rule can mean; `api.ENDPOINTS` are these."""

_SETTINGS: Mapping[str, type] = MappingProxyType(
    {"skip": int, "times": int, "probability": float, "seed": int, "operation": str}
)


def _check_operation(instance: object, attribute: object, name: str) -> None:  # noqa: ARG001 - attrs' shape of a validator
    if name not in (*OPERATIONS, ANY):
        raise ValueError(f"no operation is called {name!r}: it is one of {', '.join((*OPERATIONS, ANY))}")


@frozen(kw_only=True)
class Where:
    """Which requests a rule means. A fault of the connection stage counts connections instead."""

    only: str | None = None
    """Only requests for this payment_session_url, and for sessions of it; None for all."""
    operation: str = field(default=CREATE, validator=_check_operation)
    """Only requests for this operation, of `OPERATIONS`; "any" for all."""
    skip: int = field(default=0, validator=validators.ge(0))
    """How many of them pass before it bites."""
    times: int | None = field(default=None, validator=validators.optional(validators.ge(0)))
    """How often it bites; None for always."""
    probability: float = field(default=1.0, validator=(validators.ge(0.0), validators.le(1.0)))
    seed: int = 0


@define(kw_only=True, eq=False)
class Rule:
    """One entry of the script. `seen` and `bitten` tell what became of it."""

    faults: tuple[Fault | None, ...]
    where: Where
    in_order: bool = False
    """True where the faults are taken one after the other, else one of them is drawn."""
    number: int = 0
    """Counts from 1 in its script, in the order of adding; never given twice."""
    seen: int = 0
    """How many requests, or connections, it was asked about."""
    bitten: int = 0
    """How many of them it chose something for."""
    _earlier: Counter[str] = field(factory=Counter, repr=False)

    @property
    def on_connection(self) -> bool:
        """True where it is about connections."""
        return any(fault is not None and fault.stage is Stage.CONNECTION for fault in self.faults)

    @property
    def spent(self) -> bool:
        """True where it has bitten as often as it may."""
        times = self.where.times
        return (times is not None and self.bitten >= times) or (self.in_order and self.bitten >= len(self.faults))

    @property
    def when(self) -> str:
        """To which requests it applies, in words: `create_session, from number 3 on, once`."""
        return ", ".join(_when(self))

    @property
    def asks_for_url(self) -> bool:
        """True where it has to know the request's payment session."""
        where = self.where
        return not self.on_connection and (where.only is not None or where.probability < 1 or self._draws)

    @property
    def _draws(self) -> bool:
        return len(self.faults) > 1 and not self.in_order

    def ask(self, url: str, operation: str) -> tuple[Fault | None, ...]:
        """Count a request; what it shall meet, in a tuple, or an empty one where the rule does not bite."""
        where = self.where
        if where.operation not in (operation, ANY) or (where.only is not None and url != where.only):
            return ()
        self.seen += 1
        draws = self._draws or where.probability < 1
        nth = self._earlier[url]
        if draws:
            self._earlier[url] = nth + 1
        if self.seen <= where.skip or self.spent:
            return ()
        if self.in_order:
            return self.faults[self.bitten : self.bitten + 1]
        if not draws:
            return self.faults
        # Drawn from the request itself rather than from a stream of draws, so that requests that run side by side meet
        # the same faults in every run, whichever comes first.
        dice = random.Random(f"{where.seed}/{nth}/{url}")  # noqa: S311
        return (dice.choice(self.faults),) if dice.random() < where.probability else ()


class Script:
    """The rules of one sandbox. The first rule that bites wins; all of them count every request."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._added = 0

    def clear(self) -> None:
        """Back to normal."""
        self.rules.clear()

    def remove(self, rule: Rule) -> None:
        """Take one rule out."""
        self.rules.remove(rule)

    def add(self, what: "str | Fault | Sequence[str | Fault | None]", **where: Any) -> Rule:
        """Add a rule: one fault, or a sequence of them (None for a normal answer) consumed in order, then normal.

        Args:
            what: a fault or its spelling; in a spelling `skip`, `times`, `probability`, `seed` and `operation` may stand
                too.
            **where: `only`, `skip`, `times`, `probability`, `seed`, `operation` as in `Where`; `nth=3` for the third request
                alone.

        Raises:
            ValueError: an unknown fault, parameter or operation, a sequence without a fault, or a connection fault where
                there are requests to tell apart.

        """
        if isinstance(what, (str, Fault)):
            fault, more = _read(what)
            rule = Rule(faults=(fault,), where=_where(more | where))
        else:
            faults = tuple(None if one is None else _plain(one) for one in what)
            if not any(faults):
                raise ValueError(
                    "a sequence needs at least one fault: None stands for a normal answer before it or after"
                )
            rule = Rule(faults=faults, where=_where(where), in_order=True)
        return self._keep(rule)

    def chaos(self, faults: Iterable[str | Fault], probability: float, seed: int, **where: Any) -> Rule:
        """Let each request meet one of these faults with a probability; the same in every run with this seed."""
        drawn = tuple(_plain(fault) for fault in faults)
        if not drawn:
            raise ValueError("chaos needs at least one fault")
        return self._keep(Rule(faults=drawn, where=_where({"probability": probability, "seed": seed} | where)))

    def _keep(self, rule: Rule) -> Rule:
        where = rule.where
        if rule.on_connection and (len(rule.faults) > 1 or where.only is not None or where.operation != CREATE):
            raise ValueError(
                "a connection fault bites before there is a request: it stands alone, not in a sequence, in chaos, for "
                "one payment session or for an operation"
            )
        self._added += 1
        rule.number = self._added
        self.rules.append(rule)
        return rule

    @property
    def asks_for_url(self) -> bool:
        """True where the body has to be read before it is known which fault a request meets."""
        return any(rule.asks_for_url for rule in self.rules)

    def for_connection(self) -> Fault | None:
        """What the next connection meets."""
        match = self._first([rule for rule in self.rules if rule.on_connection], "", CREATE)
        return None if match is None else match[1]

    def for_request(self, url: str | None, operation: str = CREATE) -> tuple[Rule, Fault] | None:
        """Return the fault that the next request for an operation meets, and the rule that chose it."""
        return self._first([rule for rule in self.rules if not rule.on_connection], url or "", operation)

    @staticmethod
    def _first(rules: list[Rule], url: str, operation: str) -> tuple[Rule, Fault] | None:
        found = [(rule, chosen) for rule in rules if (chosen := rule.ask(url, operation))]
        if not found:
            return None
        rule, (fault,) = found[0]
        rule.bitten += 1
        return None if fault is None else (rule, fault)


def _when(rule: Rule) -> Iterator[str]:
    where = rule.where
    yield "connections" if rule.on_connection else "any operation" if where.operation == ANY else where.operation
    if where.only is not None:
        yield f"for {masked_url(where.only).partition('?')[0].partition('#')[0].rstrip('/').rpartition('/')[2]}"
    if where.skip:
        yield f"from number {where.skip + 1:,} on"
    if where.times is not None:
        yield {1: "once", 2: "twice"}.get(where.times, f"{where.times:,} times")
    if where.probability < 1:
        yield f"with probability {where.probability:g}"


def _read(what: str | Fault) -> tuple[Fault, dict[str, Any]]:
    """A fault, and what its spelling says about where it bites."""
    if isinstance(what, Fault):
        return what, {}
    name, parameters = split(what)
    own = FAULTS[name].defaults if name in FAULTS else {}
    where = {key: parameters.pop(key) for key in (*_SETTINGS, "nth") if key in parameters and key not in own}
    return Fault.of(name, **parameters), where


def _plain(what: str | Fault) -> Fault:
    return what if isinstance(what, Fault) else Fault.parse(what)


def _where(settings: dict[str, Any]) -> Where:
    nth = settings.pop("nth", None)
    if nth is not None:
        nth = _typed("nth", nth, int)
        if nth < 1:
            raise ValueError(f"nth counts from 1, got {nth}")
        settings |= {"skip": nth - 1, "times": 1}
    try:
        return Where(
            **{key: _typed(key, value, _SETTINGS.get(key)) for key, value in settings.items() if value is not None}
        )
    except TypeError as error:
        raise ValueError(f"where a fault bites is told by only, nth, {', '.join(_SETTINGS)}: {error}") from None


def _typed(key: str, value: Any, wanted: type | None) -> Any:
    try:
        return value if wanted is None else wanted(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{key} must be of type {wanted.__name__ if wanted else ''}, got {value!r}") from None
