"""The promises, the rows of the table, and how trials are registered."""

from collections.abc import Awaitable, Callable

from attrs import frozen

PROMISES = {
    "P1": "Every failure is one documented error; nothing else escapes",
    "P2": "By default the client never creates a session twice",
    "P3": "An error that says the session does not exist is never wrong",
    "P4": "kill -9 at any moment of a batch loses no row and sends none twice",
    "P5": "A damaged journal is refused, never misread",
    "P6": "No secret is in an error, its traceback, its pickle or a log line",
    "P7": "A redirect is never followed",
    "P8": "A response costs at most its cap of memory",
    "P9": "Every call ends within its deadline",
    "P10": "Memory, connections and tasks stay flat",
    "P11": "An outage is not made worse, and is over when it is over",
    "P12": "A session is never handed to another call",
    "P13": "TLS is verified, and cannot be switched off by accident",
    "P14": "URLs in a response are data: none is called on another origin",
    "P15": "A callback of any bytes is a typed object or a typed error",
    "Tests": "The tests notice a change of the rules",
}


@frozen(kw_only=True)
class Row:
    """One line of the table: what was tried, what came of it, and whether the control was noticed."""

    promise: str
    tried: str
    figure: str
    target: str
    held: bool
    control: str = ""
    noticed: bool = True

    @property
    def passed(self) -> bool:
        """Return True if the promise held and its control was noticed."""
        return self.held and self.noticed


@frozen(kw_only=True)
class Size:
    """How much a trial does."""

    short: bool
    seed: int
    part: float = 1.0
    """How much of the way from the short programme to the whole one."""

    def pick(self, short: int, whole: int) -> int:
        """Return the number for this size."""
        return short if self.short else round(short + (whole - short) * self.part)


@frozen(kw_only=True)
class Trial:
    """A function that proves one promise or several."""

    name: str
    promises: tuple[str, ...]
    run: Callable[[Size], Awaitable[list[Row]]]
    short: int
    """Seconds that it takes about in the short programme; 0 if it belongs to the whole programme only."""
    whole: int
    """The same in the whole programme."""
    waits: bool = False
    """It waits for most of its time, so it runs at the same time as those that compute."""

    def seconds(self, size: Size) -> float:
        """Return about how long it takes."""
        return float(size.pick(self.short, self.whole))


TRIALS: dict[str, Trial] = {}


Run = Callable[[Size], Awaitable[list[Row]]]


def trial(*promises: str, whole: int, short: int = 0, waits: bool = False) -> Callable[[Run], Run]:
    """Register a function as a trial of these promises."""

    def register(run: Run) -> Run:
        name = getattr(run, "__name__", "").replace("_", " ")
        TRIALS[name] = Trial(name=name, promises=promises, run=run, short=short, whole=whole, waits=waits)
        return run

    return register
