"""The rules that say which requests get a fault."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attrs import define, field, validators

from kustom_hpp._protocol import operations
from kustom_hpp.sandbox.faults import Fault, Stage, fault_type, parse_fault, split_fault
from kustom_hpp.sandbox.faults.base import convert
from kustom_hpp.sandbox.sample_orders import payment_id

CREATE, ANY = "create_session", "any"
OPERATIONS = (*(operation.name for operation in operations.OPERATIONS), "check_identity", "renew_distribution_token")
"""The operations of the sandbox's API: the client's, and two that it does not have."""

_SETTINGS: Mapping[str, type] = MappingProxyType(
    {"skip": int, "times": int, "probability": float, "seed": int, "operation": str}
)


def _check_operation(instance: object, attribute: object, name: str) -> None:  # noqa: ARG001 - attrs' shape of a validator
    if name not in (*OPERATIONS, ANY):
        raise ValueError(f"no operation is called {name!r}. Use one of {', '.join((*OPERATIONS, ANY))}")


@define(kw_only=True, eq=False)
class Rule:
    """One rule: its faults, and the requests that they are for.

    A fault of the stage CONNECTION counts connections instead of requests.
    """

    faults: tuple[Fault | None, ...]
    in_order: bool = False
    """True: the faults are used one after the other. False: one of them is drawn."""
    number: int = 0
    """Its number among the rules that were added, from 1."""
    payment_session_url: str | None = None
    """Only requests for this payment session and its HPP sessions; None: all."""
    operation: str = field(default=CREATE, validator=_check_operation)
    """Only requests for this operation, of `OPERATIONS`; "any": all."""
    skip: int = field(default=0, validator=validators.ge(0))
    """Number of them before the first fault."""
    times: int | None = field(default=None, validator=validators.optional(validators.ge(0)))
    """Number of faults; None: no end."""
    probability: float = field(default=1.0, validator=(validators.ge(0.0), validators.le(1.0)))
    seed: int = 0
    checked: int = 0
    """Number of requests, or connections, that it was checked for."""
    triggered: int = 0
    """Number of them that got a fault."""
    _earlier: Counter[str] = field(factory=Counter, repr=False)

    @property
    def on_connection(self) -> bool:
        """True for a fault of the stage CONNECTION."""
        return any(fault is not None and fault.stage is Stage.CONNECTION for fault in self.faults)

    @property
    def exhausted(self) -> bool:
        """True if it has triggered as often as it may."""
        return (self.times is not None and self.triggered >= self.times) or (
            self.in_order and self.triggered >= len(self.faults)
        )

    @property
    def when(self) -> str:
        """The requests that it applies to, in words: `create_session, once`."""
        return ", ".join(_when(self))

    @property
    def asks_for_url(self) -> bool:
        """True if it needs the request's payment session."""
        return not self.on_connection and (self.payment_session_url is not None or self._draws)

    @property
    def _draws(self) -> bool:
        return self.probability < 1 or (len(self.faults) > 1 and not self.in_order)

    def match(self, url: str, operation: str) -> tuple[Fault | None, ...]:
        """Count a request; return its fault in a tuple, or an empty tuple."""
        if self.operation not in (operation, ANY) or self.payment_session_url not in (None, url):
            return ()
        self.checked += 1
        nth = self._earlier[url]
        if self._draws:
            self._earlier[url] = nth + 1
        if self.checked <= self.skip or self.exhausted:
            return ()
        if self.in_order:
            return self.faults[self.triggered : self.triggered + 1]
        if not self._draws:
            return self.faults
        # Drawn from the request itself: concurrent requests then get the same faults in every run, in any order.
        dice = random.Random(f"{self.seed}/{nth}/{url}")  # noqa: S311
        return (dice.choice(self.faults),) if dice.random() < self.probability else ()


class FaultRules:
    """The rules of one sandbox. All count; the first one that triggers wins."""

    def __init__(self) -> None:
        self.rules: tuple[Rule, ...] = ()
        """All rules, in order."""
        self._added = 0

    def clear(self) -> None:
        """Remove all rules."""
        self.rules = ()

    def remove(self, rule: Rule) -> None:
        """Remove a rule."""
        self.rules = tuple(other for other in self.rules if other is not rule)

    def find(self, number: str) -> Rule:
        """Return the rule with a number; an unknown number is a LookupError."""
        for rule in self.rules:
            if str(rule.number) == number:
                return rule
        raise LookupError(f"rule {number} has been removed already")

    def add(self, what: "str | Fault | Sequence[str | Fault | None]", **conditions: Any) -> Rule:
        """Add a rule: a fault, or a sequence of faults that are used in order.

        Args:
            what: a fault or its text. A text may have `skip`, `times`, `probability`, `seed` and `operation` too. In a
                sequence each fault is used once, and None is no fault.
            **conditions: `payment_session_url`, `skip`, `times`, `probability`, `seed`, `operation` as in `Rule`;
                `nth=3` for the third request alone.

        Raises:
            ValueError: an unknown fault, parameter or operation, a sequence without a fault, or a fault of a connection
                with settings for requests.

        """
        if isinstance(what, (str, Fault)):
            fault, more = _read(what)
            rule = Rule(faults=(fault,), **_settings(more | conditions))
        else:
            faults = tuple(None if one is None else _plain(one) for one in what)
            if not any(faults):
                raise ValueError("a sequence needs at least one fault; None stands for a request without one")
            rule = Rule(faults=faults, in_order=True, **_settings(conditions))
        return self._append(rule)

    def add_random(self, faults: Iterable[str | Fault], probability: float, seed: int, **conditions: Any) -> Rule:
        """Add a rule that draws one of these faults, the same in every run.

        A request gets one with this probability; the seed, its payment session and its number decide which.
        """
        drawn = tuple(_plain(fault) for fault in faults)
        if not drawn:
            raise ValueError("faults must have at least one fault")
        settings = _settings({"probability": probability, "seed": seed} | conditions)
        return self._append(Rule(faults=drawn, **settings))

    def _append(self, rule: Rule) -> Rule:
        if rule.on_connection and (
            len(rule.faults) > 1 or rule.payment_session_url is not None or rule.operation != CREATE
        ):
            raise ValueError(
                "a fault of a connection triggers before there is a request. Add it alone, without a sequence, another "
                "fault, a payment session or an operation"
            )
        self._added += 1
        rule.number = self._added
        self.rules = (*self.rules, rule)
        return rule

    @property
    def asks_for_url(self) -> bool:
        """True if a rule needs the body of a request."""
        return any(rule.asks_for_url for rule in self.rules)

    def for_connection(self) -> Fault | None:
        """Return the fault of the next connection."""
        match = self._first([rule for rule in self.rules if rule.on_connection], "", CREATE)
        return None if match is None else match[1]

    def for_request(self, url: str | None, operation: str = CREATE) -> tuple[Rule, Fault] | None:
        """Return the fault of the next request, and the rule that chose it."""
        return self._first([rule for rule in self.rules if not rule.on_connection], url or "", operation)

    @staticmethod
    def _first(rules: list[Rule], url: str, operation: str) -> tuple[Rule, Fault] | None:
        found = [(rule, chosen) for rule in rules if (chosen := rule.match(url, operation))]
        if not found:
            return None
        rule, (fault,) = found[0]
        rule.triggered += 1
        return None if fault is None else (rule, fault)


def _when(rule: Rule) -> Iterator[str]:
    yield "connections" if rule.on_connection else "any operation" if rule.operation == ANY else rule.operation
    if rule.payment_session_url is not None:
        yield f"for {payment_id(rule.payment_session_url)}"
    if rule.skip:
        yield f"from number {rule.skip + 1:,} on"
    if rule.times is not None:
        yield {1: "once", 2: "twice"}.get(rule.times, f"{rule.times:,} times")
    if rule.probability < 1:
        yield f"with probability {rule.probability:g}"


def _read(what: str | Fault) -> tuple[Fault, dict[str, Any]]:
    """Return a fault, and the settings of its rule that are in its text."""
    if isinstance(what, Fault):
        return what, {}
    name, parameters = split_fault(what)
    own = fault_type(name).defaults
    conditions = {key: parameters.pop(key) for key in (*_SETTINGS, "nth") if key in parameters and key not in own}
    return Fault.of(fault_type(name), **parameters), conditions


def _plain(what: str | Fault) -> Fault:
    return what if isinstance(what, Fault) else parse_fault(what)


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a rule, with their types and without `nth`."""
    known = ("payment_session_url", "nth", *_SETTINGS)
    if unknown := settings.keys() - set(known):
        raise ValueError(f"a rule has the settings {', '.join(known)}, not {', '.join(sorted(unknown))}")
    nth = settings.pop("nth", None)
    if nth is not None:
        nth = convert("nth", nth, int)
        if nth < 1:
            raise ValueError(f"nth counts from 1, got {nth}")
        settings |= {"skip": nth - 1, "times": 1}
    return {
        key: convert(key, value, _SETTINGS[key]) if key in _SETTINGS else value
        for key, value in settings.items()
        if value is not None
    }
