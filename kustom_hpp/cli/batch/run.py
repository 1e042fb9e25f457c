"""One run of `kustom-hpp batch`: rows through the engine into lines, with progress, signals and a summary."""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from kustom_hpp import config
from kustom_hpp.batch import BatchItem, BatchRun, Journal, Outcome, Scope
from kustom_hpp.batch import run as run_batch
from kustom_hpp.cli.batch.input_file import InputFile, count_rows
from kustom_hpp.cli.batch.input_rows import Format, InputRow, RowReader, open_rows, unread_lines
from kustom_hpp.cli.batch.output_lines import STDOUT, OutputFile, invalid_row_line, outcome_line
from kustom_hpp.cli.batch.progress import BatchCounts, LastFailure, Progress
from kustom_hpp.cli.batch.row_thread import RowThread
from kustom_hpp.cli.batch.summary import summary
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import CommandError, Exit, exit_code, print_note, stderr, stdout
from kustom_hpp.cli.journal import open_journal
from kustom_hpp.client import HPPClient
from kustom_hpp.config import Environment, Pool
from kustom_hpp.errors import HPPError, PermissionDeniedError
from kustom_hpp.events import Hook
from kustom_hpp.pace import Pace

DEFAULT_RATES = {Environment.LIVE: 40.0, Environment.PLAYGROUND: 5.0}
"""Requests per second that Kustom's two worlds are asked for at most, where nobody says otherwise."""
_MOST_WAITING = 1_000
"""Bad rows that may wait for their place in ordered mode."""


@attrs.frozen(kw_only=True)
class BatchJob:
    """What the command was told."""

    input: str
    form: Format
    template: Mapping[str, Any]
    output: str
    journal: str
    concurrency: int
    rate: float | None
    on_doubt: Literal["report", "resend"]
    retry_failed: bool
    ordered: bool
    quiet: bool
    connection: ConnectionOptions


async def run_job(job: BatchJob) -> int:
    """Run a batch; its exit code.

    Raises:
        HPPError: it ended early; the summary has been shown.
        CommandError: likewise, or it could not begin.

    """
    last_failure = LastFailure()
    client = open_client(job, [] if job.quiet else [last_failure])
    with InputFile(job.input) as source:
        rows = open_rows(source, job.form, job.template)
        total = None if job.quiet else count_rows(job.input, quoted=job.form == "csv")
        async with client, open_journal(job.journal, _scope_of(client, job.connection)) as journal:
            with OutputFile(job.output) as output:
                return await BatchCommand(job, rows, RowThread(rows, source), output, last_failure).run(
                    client, journal, total
                )


def open_client(job: BatchJob, hooks: Iterable[Hook] = ()) -> HPPClient:
    """The client, with the pace of its environment.

    Args:
        job: what the command was told.
        hooks: of the client.

    Raises:
        ConfigError: the settings cannot work.

    """
    # Where it goes is known when it has been made: made once to ask, as nothing is opened before the first call.
    where = job.connection.client().settings.environment
    rate = job.rate if job.rate is not None else DEFAULT_RATES.get(where) if where is not None else None
    pool = Pool(connections=max(Pool().connections, job.concurrency))
    return job.connection.client(hooks, pace=Pace(rate), pool=pool)


def _scope_of(client: HPPClient, connection: ConnectionOptions) -> Scope:
    """Whose journal it is. The part of a user name before its suffix names the merchant."""
    username = connection.username or config.from_environment().get("username", "")
    return Scope.of(client.settings, str(username).partition("_")[0])


class BatchCommand:
    """One run of the command."""

    def __init__(
        self, job: BatchJob, rows: RowReader, reader: RowThread, output: OutputFile, last_failure: LastFailure
    ) -> None:
        self._job, self._rows, self._reader, self._last_failure = job, rows, reader, last_failure
        self._counts = BatchCounts()
        self._console = stderr()
        self._lines = LineWriter(output, self._counts, ordered=job.ordered)
        self._interrupted = False

    async def run(self, client: HPPClient, journal: Journal, total: int | None) -> int:
        """Run the batch and return its exit code."""
        job = self._job
        outcomes = run_batch(
            client.create_session,
            self._items(),
            concurrency=job.concurrency,
            journal=journal,
            on_doubt=job.on_doubt,
            retry_failed=job.retry_failed,
            ordered=job.ordered,
        )
        # A bar and lines of data on one terminal would write over each other.
        plain = job.output == STDOUT and stdout().is_terminal
        error: HPPError | CommandError | None = None
        try:
            async with (
                Progress(
                    self._console, self._counts, total, plain=plain, quiet=job.quiet, last_failure=self._last_failure
                ),
                outcomes,
            ):
                with self._signals(outcomes):
                    async for outcome in outcomes:
                        self._lines.outcome(outcome)
        except (HPPError, CommandError) as caught:
            error = caught
        finally:
            self._reader.stop()
        error = await self._drain(outcomes, error)
        nothing = error is None and not self._interrupted and not self._counts.done
        if not job.quiet and not nothing:
            summary(self._console, self._counts, journal=job.journal, interrupted=self._interrupted)
        return self._exit_code(error)

    async def _drain(self, outcomes: BatchRun, error: HPPError | CommandError | None) -> HPPError | CommandError | None:
        """What nobody waits for any more: counted, and written where the output takes it; the error, this one's or that."""
        async for outcome in outcomes:  # none, unless the output failed
            self._counts.add(outcome)
        try:
            self._lines.flush()
        except CommandError as failed:
            error = error or failed
            self._lines.drop()
        return error

    async def _items(self) -> AsyncIterator[BatchItem]:
        """The rows that can be sent; the others end here."""
        async for row in self._reader:
            if row.request is None:
                await self._lines.bad_row(row)
            else:
                self._lines.given += 1
                yield BatchItem(row.key or "", row.request)

    @contextlib.contextmanager
    def _signals(self, outcomes: BatchRun) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP (a terminal that is closed) drain the run; the second of them cuts it off."""
        loop = asyncio.get_running_loop()
        closing: list[asyncio.Task[None]] = []

        def stop() -> None:
            if not self._interrupted:
                self._interrupted = True
                self._reader.stop()
                outcomes.drain()
                flying = outcomes.counts.in_flight
                text = f"no more rows; {flying} on their way may end. Once more cuts them off."
                print_note("stopping", text, "yellow", self._console)
            elif not closing:
                closing.append(loop.create_task(outcomes.aclose(grace=0)))

        caught = []
        # Windows has no signal handlers in its loop: there Ctrl-C ends the run at once.
        with contextlib.suppress(NotImplementedError):
            for number in _stop_signals():
                loop.add_signal_handler(number, stop)
                caught.append(number)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)

    def _exit_code(self, error: HPPError | CommandError | None) -> int:
        """The exit code: of an interruption, else of what stopped the run, else of the rows."""
        counts = self._counts
        code = Exit.OK
        if error is not None:
            reason = getattr(error, "last_error", None) or error
            code = reason.code if isinstance(reason, CommandError) else exit_code(reason)
            if isinstance(reason, PermissionDeniedError):  # of all rows: it is about the credentials
                code = Exit.CONFIG
            text = error.message if isinstance(error, CommandError) else f"{str(error).rstrip('.')}."
            next_step = " 'kustom-hpp check' shows what is set." if code is Exit.CONFIG else ""
            print_note("error", text + next_step, "bold red")
        if self._rows.unread is not None:
            text = f"{self._job.input} has a row that does not end.{unread_lines(self._rows)} Mend it and run it again."
            print_note("error", text, "bold red")
        if self._interrupted:
            return Exit.INTERRUPTED
        if error is None and not counts.done:  # an input that holds nothing is no success of whoever wrote it
            print_note("error", f"{self._job.input} has no rows.", "bold red")
            return Exit.USAGE
        if code in (Exit.CONFIG, Exit.USAGE):
            return code
        if counts.in_doubt or code is Exit.UNKNOWN:
            return Exit.UNKNOWN
        lacking = counts.failed or counts.conflicts or self._rows.unread is not None or error is not None
        return Exit.FAILED if lacking else Exit.OK


def _stop_signals() -> Iterator[signal.Signals]:
    yield from (signal.SIGINT, signal.SIGTERM)
    # Windows has none; and under nohup a closed terminal is meant to end nothing.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        yield signal.SIGHUP


class LineWriter:
    """The output's lines, counted; in ordered mode bad rows wait for the good ones before them."""

    def __init__(self, output: OutputFile, counts: BatchCounts, *, ordered: bool) -> None:
        self._output, self._counts, self._ordered = output, counts, ordered
        self.given = 0
        """Rows given to the engine; `_taken` are those whose outcomes came."""
        self._taken = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._room = asyncio.Event()

    async def bad_row(self, row: InputRow) -> None:
        """A row that cannot be sent."""
        line = invalid_row_line(row)
        if self._ordered and self.given > self._taken:
            self._waiting.append((self.given, line))
            while len(self._waiting) >= _MOST_WAITING:
                self._room.clear()
                await self._room.wait()
        else:
            self._bad(line)

    def outcome(self, outcome: Outcome) -> None:
        """A row that has ended."""
        self._counts.add(outcome)
        self._output.write(outcome_line(outcome))
        self._taken += 1
        self.flush(self._taken)

    def flush(self, position: float = float("inf")) -> None:
        """The bad rows whose turn it is."""
        while self._waiting and self._waiting[0][0] <= position:
            self._bad(self._waiting.popleft()[1])
        self._room.set()

    def drop(self) -> None:
        """Count the bad rows whose lines no output takes."""
        self._counts.failed += len(self._waiting)
        self._counts.bad += len(self._waiting)
        self._waiting.clear()

    def _bad(self, line: bytes) -> None:
        self._counts.failed += 1
        self._counts.bad += 1
        self._output.write(line)
