"""How a batch is getting on, for the people who watch it: a bar on a terminal, else a plain line every few seconds."""

import asyncio
import contextlib
import datetime as dt
import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kustom_hpp.batch import Outcome, OutcomeState
from kustom_hpp.batch.journal_rules import is_refusal
from kustom_hpp.errors import RateLimitError
from kustom_hpp.events import Event, Finished, Retrying

PLAIN_EVERY = 5.0
"""Seconds between two lines where nobody looks at a terminal."""
_FRAME = 0.2
_SPAN = 10.0
"""Seconds over which the rate is measured: what an earlier run had done comes in a rush, and says nothing of the rest."""


class BatchCounts:
    """Counts of a run."""

    def __init__(self) -> None:
        self.created = 0
        """Rows with a session, `earlier` included."""
        self.earlier = 0
        """Rows whose session an earlier run created."""
        self.failed = 0
        self.bad = 0
        """Failed rows that could not be sent: something is wrong with the input."""
        self.refused = 0
        """Failed rows that the API refused: no later run sends them again by itself."""
        self.in_doubt = 0
        self.elsewhere = 0
        """Rows that another live run has claimed."""
        self.sent = 0
        """Rows that this run sent, however they ended."""
        self.conflicts = 0
        """Rows with a session that was created for another payload."""
        self.unrecorded = 0
        """Rows that the journal could not keep."""
        self._began = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """One more row has ended."""
        self.sent += not outcome.earlier_run and outcome.state is not OutcomeState.CLAIMED_ELSEWHERE
        self.unrecorded += not outcome.recorded
        if outcome.state is OutcomeState.CREATED:
            self.created += 1
            self.earlier += outcome.earlier_run
            self.conflicts += outcome.error is not None
        elif outcome.state is OutcomeState.FAILED:
            self.failed += 1
            self.refused += is_refusal(outcome.error)
        elif outcome.state is OutcomeState.IN_DOUBT:
            self.in_doubt += 1
        else:
            self.elsewhere += 1

    @property
    def done(self) -> int:
        """Rows that have ended."""
        return self.created + self.failed + self.in_doubt + self.elsewhere

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """The counts in words, each with its style."""
        return (
            (f"{self.created:,} created", "green"),
            (f"{self.failed:,} failed", "red" if self.failed else ""),
            (f"{self.in_doubt:,} in doubt", "yellow" if self.in_doubt else ""),
        )


class LastFailure:
    """A hook for the client, which keeps the latest reason why rows wait instead of being sent."""

    def __init__(self) -> None:
        self.text = ""
        """Empty while rows go."""

    def __call__(self, event: Event) -> None:
        """Hear what became of an attempt."""
        if isinstance(event, Retrying):
            self.text = str(event.error)
        elif isinstance(event, Finished):
            waits = event.error is not None and (event.status is None or isinstance(event.error, RateLimitError))
            self.text = str(event.error) if waits else ""


class Progress:
    """Shows a run while it lasts: `async with Progress(console, counts, total): ...`.

    Args:
        console: where to.
        counts: what is shown.
        total: rows of the input; None where that is not known.
        plain: lines even where the console is a terminal, because something else is written to it.
        quiet: show nothing.
        trouble: tells why nothing goes on; None where nobody listens to the client.

    """

    def __init__(
        self,
        console: Console,
        counts: BatchCounts,
        total: int | None,
        *,
        plain: bool = False,
        quiet: bool = False,
        last_failure: LastFailure | None = None,
    ) -> None:
        self._console, self._counts, self._total = console, counts, total
        self._last_failure = last_failure or LastFailure()
        self._live: Live | None = None
        if console.is_terminal and not plain and not quiet:
            # Frames are drawn by our own task: rich's thread would read the counts while they change.
            self._live = Live(self, console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._quiet = quiet
        self._samples: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._task: asyncio.Task[None] | None = None

    def rate(self) -> float:
        """Rows per second, of late."""
        now, done = self._counts.elapsed, self._counts.done
        since, before = self._samples[0]
        return (done - before) / (now - since) if now > since else 0.0

    def __rich__(self) -> RenderableType:
        """The bar and the counts: two lines that fit 80 columns up to a million rows; a third one in times of trouble."""
        line = Table.grid(padding=(0, 2, 0, 0), expand=True)
        line.add_column(ratio=1)
        bar = ProgressBar(total=self._total, completed=self._counts.done, pulse=self._total is None)
        cells = [Text(text, no_wrap=True) for text in (self._rows(), f"{self.rate():,.1f}/s", self._left())]
        for _ in cells:
            line.add_column(justify="right", no_wrap=True)
        line.add_row(bar, *cells)
        totals = Text("   ").join(Text(text, style) for text, style in self._counts.texts)
        if not self._last_failure.text:
            return Group(line, totals)
        why = Text(f"waiting: {self._last_failure.text}", "yellow", no_wrap=True, overflow="ellipsis")
        # Room for the "^C" that a terminal writes: a line that it folds would be left behind.
        return Group(line, totals, Padding(why, (0, 3, 0, 0)))

    def _rows(self) -> str:
        return f"{self._counts.done:,}" + ("" if self._total is None else f" of {self._total:,}")

    def _left(self) -> str:
        """How long it will take from now; nothing where that cannot be known."""
        rate = self.rate()
        if self._total is None or rate <= 0:
            return ""
        return f"{duration(max(0, self._total - self._counts.done) / rate)} left"

    def _plain(self) -> str:
        counts = ", ".join(text for text, _ in self._counts.texts)
        line = f"{self._rows()} rows: {counts}; {self.rate():,.1f}/s"
        if left := self._left():
            line += f", {left}"
        return f"{line}; waiting: {self._last_failure.text}" if self._last_failure.text else line

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_FRAME if self._live else PLAIN_EVERY)
            self._sample()
            if self._live:
                self._live.refresh()
            elif not self._quiet:
                self._console.print(Text(self._plain()), soft_wrap=True)

    def _sample(self) -> None:
        now = self._counts.elapsed
        self._samples.append((now, self._counts.done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _SPAN:  # noqa: PLR2004 - the ends of the span
            self._samples.popleft()

    async def __aenter__(self) -> Self:
        if self._live:
            self._live.start(refresh=True)
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._live:
            self._live.stop()


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(dt.timedelta(seconds=round(seconds)))
