"""One run of `kustom-hpp batch`: rows in, lines out, with progress, signals and a summary."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from kustom_hpp import config
from kustom_hpp.batch import BatchItem, BatchRun, Journal, PostgresLedger, Scope
from kustom_hpp.batch import run as run_batch
from kustom_hpp.cli.batch.input_file import InputFile, count_rows
from kustom_hpp.cli.batch.input_rows import Format, open_rows
from kustom_hpp.cli.batch.output_lines import STDOUT, OutputFile, outcome_line
from kustom_hpp.cli.batch.progress import BatchCounts, BatchProgress, LastFailure
from kustom_hpp.cli.batch.row_thread import RowThread
from kustom_hpp.cli.batch.summary import print_summary
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import CommandError, Exit, exit_code, print_note, stderr, stdout
from kustom_hpp.cli.next_steps import RUN_CHECK
from kustom_hpp.cli.open_journal import is_ledger, ledger_at, open_journal
from kustom_hpp.client import HPPClient
from kustom_hpp.config import Environment, Pool, Settings
from kustom_hpp.errors import HPPError, PermissionDeniedError
from kustom_hpp.events import Hook
from kustom_hpp.pace import Pace

DEFAULT_RATES = {Environment.LIVE: 40.0, Environment.PLAYGROUND: 5.0}
"""Requests per second by environment, without --rate."""


@attrs.frozen(kw_only=True)
class BatchJob:
    """The arguments of the command, checked."""

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
    """Run a batch and return its exit code.

    Raises:
        HPPError: The run could not begin.
        CommandError: The run could not begin.

    """
    last_failure = LastFailure()
    ledger = ledger_at(job.journal) if is_ledger(job.journal) else None
    client = open_client(job, [] if job.quiet else [last_failure], ledger)
    with contextlib.closing(InputFile(job.input)) as file:
        rows = RowThread(open_rows(file, job.form, job.template), file)
        total = None if job.quiet else count_rows(job.input, has_header=job.form == "csv")
        async with client, open_journal(ledger or job.journal, _scope_of(client.settings, job.connection)) as journal:
            with OutputFile(job.output) as output:
                return await BatchCommand(job, rows, output, last_failure).run(client, journal, total)


def open_client(job: BatchJob, hooks: Iterable[Hook] = (), ledger: PostgresLedger | None = None) -> HPPClient:
    """Return the client, with the pace of its environment, or with the rate that all processes of a ledger share.

    Raises:
        ConfigError: The settings are invalid.

    """
    # A client that is thrown away knows the environment; a client opens nothing before its first call.
    settings = job.connection.client().settings
    environment = settings.environment
    rate = job.rate if job.rate is not None else DEFAULT_RATES.get(environment) if environment is not None else None
    pool = Pool(connections=max(Pool().connections, job.concurrency))
    if ledger is None or rate is None:
        pace = Pace(rate)
    else:
        pace = ledger.pace(rate, merchant=str(_scope_of(settings, job.connection)))
    return job.connection.client(hooks, pace=pace, pool=pool)


def _scope_of(settings: Settings, connection: ConnectionOptions) -> Scope:
    """Return the journal's scope. A username's part before its suffix names the merchant."""
    username = connection.username or config.from_environment().get("username", "")
    return Scope.of(settings, str(username).partition("_")[0])


class BatchCommand:
    """One run of the command."""

    def __init__(self, job: BatchJob, rows: RowThread, output: OutputFile, last_failure: LastFailure) -> None:
        self._job, self._rows, self._last_failure = job, rows, last_failure
        self._counts = BatchCounts()
        self._console = stderr()
        self._output = output
        self._input_error: CommandError | None = None
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
        # A bar and data lines on one terminal would overwrite each other.
        plain = job.output == STDOUT and stdout().is_terminal
        progress = BatchProgress(
            self._console, self._counts, total, plain=plain, quiet=job.quiet, last_failure=self._last_failure
        )
        error: HPPError | CommandError | None = None
        try:
            async with progress, outcomes:
                with self._signals(outcomes):
                    async for outcome in outcomes:
                        self._counts.add(outcome)
                        self._output.write(outcome_line(outcome))
        except (HPPError, CommandError) as caught:
            error = caught
        finally:
            self._rows.stop()
        async for outcome in outcomes:  # none, unless the output failed
            self._counts.add(outcome)
        error = error or self._input_error
        is_empty = error is None and not self._interrupted and not self._counts.done
        if not job.quiet and not is_empty:
            print_summary(self._console, self._counts, journal=job.journal, interrupted=self._interrupted)
        return self._exit_code(error)

    async def _items(self) -> AsyncIterator[BatchItem]:
        """Yield the rows until the input ends or cannot be read."""
        try:
            async for row in self._rows:
                yield row.item()
        except CommandError as error:  # the rows before it are sent
            self._input_error = error

    @contextlib.contextmanager
    def _signals(self, outcomes: BatchRun) -> Iterator[None]:
        """Drain the run at the first SIGINT, SIGTERM or SIGHUP (a closed terminal); abort it at the second."""
        loop = asyncio.get_running_loop()
        closing: list[asyncio.Task[None]] = []

        def stop() -> None:
            if not self._interrupted:
                self._interrupted = True
                self._rows.stop()
                outcomes.drain()
                text = f"no more rows; waiting for {outcomes.counts.in_flight} in flight. A second signal aborts them."
                print_note("stopping", text, "yellow", self._console)
            elif not closing:
                closing.append(loop.create_task(outcomes.aclose(grace=0)))

        handled = []
        # On Windows the loop has no signal handlers, so Ctrl-C ends the run at once.
        with contextlib.suppress(NotImplementedError):
            for number in _stop_signals():
                loop.add_signal_handler(number, stop)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _exit_code(self, error: HPPError | CommandError | None) -> int:
        """Return the exit code: of an interruption, else of what stopped the run, else of the rows."""
        counts = self._counts
        code = Exit.OK
        if error is not None:
            reason = getattr(error, "last_error", None) or error
            code = reason.code if isinstance(reason, CommandError) else exit_code(reason)
            if isinstance(reason, PermissionDeniedError):  # of all rows, so it is about the credentials
                code = Exit.CONFIG
            text = error.message if isinstance(error, CommandError) else f"{str(error).rstrip('.')}."
            print_note("error", f"{text} {RUN_CHECK}" if code is Exit.CONFIG else text, "bold red")
        if self._interrupted:
            return Exit.INTERRUPTED
        if error is None and not counts.done:  # probably a mistake
            print_note("error", f"{self._job.input} has no rows.", "bold red")
            return Exit.USAGE
        if code in (Exit.CONFIG, Exit.USAGE):
            return code
        if counts.in_doubt or counts.too_late or code is Exit.UNKNOWN:
            return Exit.UNKNOWN
        return Exit.FAILED if counts.failed or counts.conflicts or error is not None else Exit.OK


def _stop_signals() -> Iterator[signal.Signals]:
    yield from (signal.SIGINT, signal.SIGTERM)
    # Windows has no SIGHUP; under nohup a closed terminal must not end the run.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        yield signal.SIGHUP
