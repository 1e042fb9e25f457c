"""The progress of a batch: a bar on a terminal, else a plain line every few seconds."""

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich import progress
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Column
from rich.text import Text

from kustom_hpp.batch import Outcome, OutcomeState
from kustom_hpp.batch.journal_rules import is_refusal
from kustom_hpp.cli.batch.input_rows import InvalidRowError
from kustom_hpp.errors import RateLimitError
from kustom_hpp.events import Event, Finished, Retrying

PLAIN_EVERY = 5.0
"""Seconds between two lines if stderr is not a terminal."""
_FRAME = 0.2
_SPEED_PERIOD = 10.0
"""Seconds over which the rate is measured: the rows of an earlier run come in a rush and predict nothing."""


class BatchCounts:
    """Counts of a run."""

    def __init__(self) -> None:
        self.created = 0
        """Rows with a session, `earlier` included."""
        self.earlier = 0
        """Rows whose session an earlier run created."""
        self.failed = 0
        self.invalid = 0
        """Failed rows that could not be sent, because the input is invalid."""
        self.refused = 0
        """Failed rows that the API refused; later runs send them only with --retry-failed."""
        self.in_doubt = 0
        self.elsewhere = 0
        """Rows that another live run has claimed, and reports."""
        self.too_late = 0
        """Rows of these that this run sent nevertheless, because its lease ended too early: they may have a session."""
        self.sent = 0
        """Rows that this run sent, whatever their outcome."""
        self.conflicts = 0
        """Rows with a session that was created for another payload."""
        self.unrecorded = 0
        """Rows that the journal could not record."""
        self._started = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.sent += outcome.attempts > 0
        self.unrecorded += not outcome.recorded
        if outcome.state is OutcomeState.CREATED:
            self.created += 1
            self.earlier += outcome.earlier_run
            self.conflicts += outcome.error is not None
        elif outcome.state is OutcomeState.FAILED:
            self.failed += 1
            self.invalid += isinstance(outcome.error, InvalidRowError)
            self.refused += is_refusal(outcome.error)
        elif outcome.state is OutcomeState.IN_DOUBT:
            self.in_doubt += 1
        else:
            self.elsewhere += 1
            delivery = None if outcome.error is None else outcome.error.delivery
            self.too_late += delivery is not None and delivery.may_have_taken_effect

    @property
    def done(self) -> int:
        """Rows that have ended."""
        return self.created + self.failed + self.in_doubt + self.elsewhere

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """The counts as texts with their styles."""
        return (
            (f"{self.created:,} created", "green"),
            (f"{self.failed:,} failed", "red" if self.failed else ""),
            (f"{self.in_doubt:,} in doubt", "yellow" if self.in_doubt else ""),
            *([(f"{self.elsewhere:,} claimed elsewhere", "")] if self.elsewhere else []),
        )


class LastFailure:
    """A hook of the client that stores why rows wait."""

    def __init__(self) -> None:
        self.text = ""
        """Empty while rows succeed."""

    def __call__(self, event: Event) -> None:
        """Record the failure of an attempt, or the success of a call."""
        if isinstance(event, Retrying):
            self.text = str(event.error)
        elif isinstance(event, Finished):
            waits = event.error is not None and (event.status is None or isinstance(event.error, RateLimitError))
            self.text = str(event.error) if waits else ""


class BatchProgress(progress.Progress):
    """Shows a run while it lasts: `async with BatchProgress(console, counts, total): ...`.

    On a terminal it is a bar, the counts below it, and a third line while rows wait. Elsewhere, or if it is `plain` because
    something else writes to the terminal, it prints a line every few seconds.
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
        self._counts, self._total, self._quiet = counts, total, quiet
        self._last_failure = last_failure or LastFailure()
        super().__init__(
            progress.BarColumn(bar_width=None, table_column=Column(ratio=1)),
            progress.TextColumn("{task.fields[text]}", style="", justify="right", table_column=Column(no_wrap=True)),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            expand=True,
            speed_estimate_period=_SPEED_PERIOD,
            get_time=lambda: counts.elapsed,
            disable=not console.is_terminal or plain or quiet,
        )
        self._row_count = self.add_task("", total=total, text="")
        self._refresher: asyncio.Task[None] | None = None
        self.update_texts()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar, the counts, and why rows wait."""
        yield self.make_tasks_table(self.tasks)
        yield Text("   ").join(Text(text, style) for text, style in self._counts.texts)
        if self._last_failure.text:
            text = Text(f"waiting: {self._last_failure.text}", "yellow", no_wrap=True, overflow="ellipsis")
            # Room for the "^C" of a terminal: a line that it folds would stay behind.
            yield Padding(text, (0, 3, 0, 0))

    def update_texts(self) -> list[str]:
        """Bring the bar up to date and return its texts: rows, rate, time left."""
        counts, task = self._counts, self.tasks[0]
        self.update(self._row_count, completed=counts.done)
        rate = task.speed or 0.0
        texts = [f"{counts.done:,}" + ("" if self._total is None else f" of {self._total:,}"), f"{rate:,.1f}/s"]
        if self._total is not None and rate > 0:
            texts.append(f"{duration(max(0, self._total - counts.done) / rate)} left")
        self.update(self._row_count, text="  ".join(texts))
        return texts

    def plain_line(self) -> str:
        """Return the progress as one line."""
        rows, *rest = self.update_texts()
        counts = ", ".join(text for text, _ in self._counts.texts)
        line = f"{rows} rows: {counts}; {', '.join(rest)}"
        return f"{line}; waiting: {self._last_failure.text}" if self._last_failure.text else line

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(PLAIN_EVERY if self.disable else _FRAME)
            if not self.disable:
                self.update_texts()
                self.refresh()
            elif not self._quiet:
                self.console.print(Text(self.plain_line()), soft_wrap=True)

    async def __aenter__(self) -> Self:
        self.start()
        self._refresher = asyncio.create_task(self._refresh())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._refresher is not None:
            self._refresher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refresher
        self.stop()


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    return str(dt.timedelta(seconds=round(seconds)))
