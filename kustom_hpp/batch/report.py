"""A summary of a journal for people: totals, rates, response times, failures and doubts."""

import datetime as dt
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterable, Iterator, Sequence
from itertools import pairwise

from attrs import field, frozen

from kustom_hpp.batch.journal_row import JournalEntry
from kustom_hpp.batch.journal_rules import is_refusal
from kustom_hpp.batch.outcomes import OutcomeState
from kustom_hpp.errors import ApiError, HPPError, InvalidRequestError

MAX_DOUBTS = 1000
"""Doubts that a report lists; `kustom-hpp journal export` has all of them."""
MAX_PERIODS = 12
"""Periods that a report lists: the newest."""
_MAX_BARS = 90
_PERIOD_GAP = 300
"""Seconds without a new session that separate two periods."""
_BAR_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
_HISTOGRAM_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0)


@frozen
class Period:
    """A stretch of time in which a batch created sessions."""

    start: dt.datetime
    """Aware, UTC, to the second."""
    seconds: int
    created: int
    peak: int
    """Sessions in the busiest second."""
    bar_seconds: int
    """Seconds for each of `bars`."""
    bars: tuple[float, ...]
    """Sessions per second over time."""

    @property
    def rate(self) -> float:
        """Sessions per second on average."""
        return self.created / self.seconds

    @property
    def length(self) -> dt.timedelta:
        """The time from its first second to its last."""
        return dt.timedelta(seconds=self.seconds)


@frozen
class ResponseTimes:
    """The time from a row's first attempt to its response, waits between attempts included, in seconds."""

    count: int
    p50: float
    p90: float
    p99: float
    maximum: float
    histogram: tuple[tuple[float | None, int], ...]
    """Upper bounds, each with the number of sessions up to it; the last bound is None."""

    @property
    def marks(self) -> tuple[tuple[str, float], ...]:
        """The percentiles, each with its name."""
        return ("median", self.p50), ("90 %", self.p90), ("99 %", self.p99), ("slowest", self.maximum)


@frozen
class FailureGroup:
    """FAILED rows with the same error code."""

    code: str
    count: int
    example: str
    """The error of one of the rows."""
    next_step: str


@frozen
class Doubt:
    """A row in doubt."""

    key: str
    order: str | None
    """The URL of the KCO order; None for another payment session."""
    since: dt.datetime
    reason: str


@frozen(kw_only=True)
class JournalReport:
    """The summary of a journal."""

    states: dict[OutcomeState, int] = field(hash=False)
    """Rows by state; without those in `to_send`."""
    to_send: int
    """FAILED rows that the API did not process: the next run sends them."""
    resolved: int
    """Rows that a person resolved."""
    first: dt.datetime | None
    last: dt.datetime | None
    """When the rows were changed; None without rows."""
    periods: tuple[Period, ...]
    """The newest periods, oldest first."""
    response_times: ResponseTimes | None
    """None if no row has a session."""
    failures: tuple[FailureGroup, ...]
    """The most frequent first, including the rows in `to_send`."""
    doubts: tuple[Doubt, ...]
    """At most MAX_DOUBTS."""

    @property
    def rows(self) -> int:
        """All rows of the journal."""
        return sum(self.states.values()) + self.to_send

    @property
    def totals(self) -> list[tuple[str, int]]:
        """The number of rows by state, and of those in `to_send`."""
        always = (OutcomeState.CREATED, OutcomeState.FAILED, OutcomeState.IN_DOUBT)
        by_state = [(str(state), count) for state, count in self.states.items() if count or state in always]
        return [*by_state, ("to_send", self.to_send)]


async def summarize(entries: AsyncIterable[JournalEntry]) -> JournalReport:
    """Return the summary of a journal from its `rows()`."""
    summary = _Summary()
    async for entry in entries:
        summary.add(entry)
    return summary.report()


class _Summary:
    def __init__(self) -> None:
        self._states = dict.fromkeys(OutcomeState, 0)
        self._to_send = self._resolved = 0
        self._first: dt.datetime | None = None
        self._last: dt.datetime | None = None
        self._created_at: Counter[int] = Counter()
        self._response_times = array("d")
        self._failures: Counter[str] = Counter()
        self._examples: dict[str, HPPError] = {}
        self._doubts: list[Doubt] = []

    def add(self, entry: JournalEntry) -> None:
        outcome, at = entry.outcome, entry.changed_at
        self._first = at if self._first is None else min(self._first, at)
        self._last = at if self._last is None else max(self._last, at)
        self._resolved += entry.note is not None
        if outcome.state is OutcomeState.FAILED:
            error = outcome.error or HPPError("unknown")
            code = _code_of(error)
            self._failures[code] += 1
            self._examples.setdefault(code, error)
            if not is_refusal(error):
                self._to_send += 1
                return
        self._states[outcome.state] += 1
        if outcome.state is OutcomeState.IN_DOUBT and len(self._doubts) < MAX_DOUBTS:
            reason = "the run ended before it recorded an outcome" if entry.unsettled else str(outcome.error)
            self._doubts.append(Doubt(entry.key, entry.order, at, reason))
        if outcome.state is OutcomeState.CREATED and outcome.session is not None and entry.note is None:
            self._created_at[int(at.timestamp())] += 1
            self._response_times.append(outcome.session.info.elapsed)

    def report(self) -> JournalReport:
        failures = [
            FailureGroup(code, count, str(self._examples[code]), next_step(self._examples[code]))
            for code, count in self._failures.most_common()
        ]
        return JournalReport(
            states=self._states,
            to_send=self._to_send,
            resolved=self._resolved,
            first=self._first,
            last=self._last,
            periods=tuple(_periods(self._created_at))[-MAX_PERIODS:],
            response_times=_summarize_times(sorted(self._response_times)) if self._response_times else None,
            failures=tuple(failures),
            doubts=tuple(self._doubts),
        )


def _code_of(error: HPPError) -> str:
    if isinstance(error, ApiError):
        return f"{error.status} {error.code}" if error.code else str(error.status)
    return type(error).__name__.removesuffix("Error")


_STEPS_BY_STATUS = {
    401: "Check the credentials with 'kustom-hpp check', and run the batch again.",
    403: "Ask Kustom whether the key may create sessions, and run the batch again with --retry-failed.",
    404: "Create a new order, and a row with a new key for it.",
}


def next_step(error: HPPError) -> str:
    """Return what to do about a FAILED row."""
    if isinstance(error, ApiError) and error.status in _STEPS_BY_STATUS:
        return _STEPS_BY_STATUS[error.status]
    if isinstance(error, InvalidRequestError):
        return "Correct the request, and run the batch again."
    if not is_refusal(error):
        return "Run the batch again: it sends these rows."
    if isinstance(error, ApiError):
        return "Correct the request, and run the batch again: it sends a changed request."
    return "Nothing: a person decided that the row has failed."


def _periods(created_at: Counter[int]) -> Iterator[Period]:
    seconds = sorted(created_at)
    ends = [0, *(n for n, (one, two) in enumerate(pairwise(seconds), 1) if two - one > _PERIOD_GAP), len(seconds)]
    for begin, end in pairwise(ends):
        if begin < end:
            yield _period(seconds[begin:end], created_at)


def _period(seconds: Sequence[int], created_at: Counter[int]) -> Period:
    length = seconds[-1] - seconds[0] + 1
    width = next((each for each in _BAR_SECONDS if length / each <= _MAX_BARS), _BAR_SECONDS[-1])
    bars = [0.0] * (-(-length // width))
    for second in seconds:
        bars[(second - seconds[0]) // width] += created_at[second]
    last = length - width * (len(bars) - 1)  # the last bar may be shorter
    rates = [count / width for count in bars[:-1]] + [bars[-1] / last]
    return Period(
        start=dt.datetime.fromtimestamp(seconds[0], dt.UTC),
        seconds=length,
        created=sum(created_at[second] for second in seconds),
        peak=max(created_at[second] for second in seconds),
        bar_seconds=width,
        bars=tuple(rates),
    )


def _summarize_times(ordered: Sequence[float]) -> ResponseTimes:
    count = len(ordered)

    def percentile(percent: int) -> float:
        return ordered[max(0, -(-count * percent // 100) - 1)]  # nearest rank

    by_bound = Counter(bisect_left(_HISTOGRAM_BOUNDS, seconds) for seconds in ordered)
    bounds = (*_HISTOGRAM_BOUNDS, None)
    histogram = tuple((bounds[number], by_bound[number]) for number in range(min(by_bound), max(by_bound) + 1))
    return ResponseTimes(count, percentile(50), percentile(90), percentile(99), ordered[-1], histogram)
