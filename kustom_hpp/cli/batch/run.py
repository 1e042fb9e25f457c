"""One run of `kustom-hpp batch`: rows in, lines out, with progress, signals and a summary."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import attrs
from cyclopts import Parameter
from cyclopts.validators import Number

from kustom_hpp import config
from kustom_hpp.batch import BatchItem, BatchRun, Journal, Scope
from kustom_hpp.batch import run as run_batch
from kustom_hpp.batch.run import OnDoubt
from kustom_hpp.cli.batch.input_file import InputFile, count_rows
from kustom_hpp.cli.batch.input_rows import Format, InputRow, open_rows, read_template
from kustom_hpp.cli.batch.output_lines import OutputFile, outcome_line
from kustom_hpp.cli.batch.progress import BatchCounts, BatchProgress, LastFailure
from kustom_hpp.cli.batch.row_thread import RowThread
from kustom_hpp.cli.batch.summary import print_summary
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import STDIN, CommandError, Exit, exit_code, print_note, stderr, stdout
from kustom_hpp.cli.next_steps import RUN_CHECK
from kustom_hpp.cli.open_journal import is_ledger, ledger_at, open_journal
from kustom_hpp.cli.requests import number
from kustom_hpp.client import HPPClient
from kustom_hpp.config import Environment, Pool, Settings
from kustom_hpp.config.options import check_positive
from kustom_hpp.errors import HPPError, PermissionDeniedError
from kustom_hpp.pace import Pace

DEFAULT_RATES = {Environment.LIVE: 40.0, Environment.PLAYGROUND: 5.0}
"""Requests per second by environment, without --rate."""


@Parameter(name="*")  # its fields are options of the command itself
@attrs.frozen(kw_only=True)
class BatchOptions:
    """The options of a run that need no check."""

    format: Annotated[
        Format | None, Parameter(help="jsonl or csv; default: by the input's name, and jsonl for stdin.")
    ] = None
    template: Annotated[
        str | None, Parameter(help="A JSON file with the fields that all rows share; a row's own fields win.")
    ] = None
    concurrency: Annotated[int, Parameter(validator=Number(gte=1, lte=1000), help="Rows in flight at most.")] = 32
    rate: Annotated[
        float | None,
        number(check_positive, unit="requests per second"),
        Parameter(
            help="Requests per second, retries included; default: 40 live, 5 at the playground, otherwise learned from the "
            "responses."
        ),
    ] = None
    on_doubt: Annotated[
        OnDoubt,
        Parameter(
            help='What to do with rows that an earlier run left in doubt. "report" reports them; "resend" sends them again, '
            "and a second session is then possible."
        ),
    ] = "report"
    retry_failed: Annotated[bool, Parameter(help="Send the rows again that the API refused in an earlier run.")] = False
    ordered: Annotated[bool, Parameter(help="Write the outcomes in the order of the rows.")] = False
    quiet: Annotated[bool, Parameter(help="Print no progress and no summary.")] = False

    def format_of(self, name: str) -> Format:
        """Return the format of an input: table.csv and table.csv.gz are CSV by their names."""
        return self.format or ("csv" if name.lower().removesuffix(".gz").endswith(".csv") else "jsonl")

    def open_rows(self, file: InputFile) -> Iterator[InputRow]:
        """Return the rows of an input; see `input_rows.open_rows`."""
        return open_rows(file, self.format_of(file.name), read_template(self.template))


class BatchJob:
    """One run of the command: of an input, an output and a journal, each with its name on the command line."""

    def __init__(
        self, input_: str, output: str, journal: str, options: BatchOptions, connection: ConnectionOptions
    ) -> None:
        self._input, self._output, self._journal = input_, output, journal
        self._options, self._connection = options, connection
        self._ledger = ledger_at(journal) if is_ledger(journal) else None
        self._last_failure = LastFailure()
        self._counts = BatchCounts()
        self._console = stderr()
        self._input_error: CommandError | None = None
        self._interrupted = False

    async def run(self) -> int:
        """Run the batch and return its exit code.

        Raises:
            HPPError: The run could not begin.
            CommandError: The run could not begin.

        """
        options = self._options
        client = self.open_client()
        with contextlib.closing(InputFile(self._input)) as file:
            rows = RowThread(options.open_rows(file))
            has_header = options.format_of(self._input) == "csv"
            total = None if options.quiet else count_rows(self._input, has_header=has_header)
            async with client, open_journal(self._ledger or self._journal, self._scope(client.settings)) as journal:
                with OutputFile(self._output) as output:
                    return await self._run(client, rows, output, journal, total)

    def open_client(self) -> HPPClient:
        """Return the client, with the pace of its environment, or with the rate that all processes of a ledger share.

        Raises:
            ConfigError: The settings are invalid.

        """
        # A client that is thrown away knows the environment; a client opens nothing before its first call.
        settings = self._connection.client().settings
        rate = self._options.rate
        if rate is None and settings.environment is not None:
            rate = DEFAULT_RATES.get(settings.environment)
        if self._ledger is None or rate is None:
            pace = Pace(rate)
        else:
            pace = self._ledger.pace(rate, merchant=str(self._scope(settings)))
        pool = Pool(connections=max(Pool().connections, self._options.concurrency))
        hooks = [] if self._options.quiet else [self._last_failure]
        return self._connection.client(hooks, pace=pace, pool=pool)

    def _scope(self, settings: Settings) -> Scope:
        """Return the journal's scope. A username's part before its suffix names the merchant."""
        username = self._connection.username or config.from_environment().get("username", "")
        return Scope.of(settings, str(username).partition("_")[0])

    async def _run(
        self, client: HPPClient, rows: RowThread, output: OutputFile, journal: Journal, total: int | None
    ) -> int:
        options = self._options
        outcomes = run_batch(
            client.create_session,
            self._items(rows),
            concurrency=options.concurrency,
            journal=journal,
            on_doubt=options.on_doubt,
            retry_failed=options.retry_failed,
            ordered=options.ordered,
        )
        # A bar and data lines on one terminal would overwrite each other.
        plain = self._output == STDIN and stdout().is_terminal
        progress = BatchProgress(
            self._console, self._counts, total, plain=plain, quiet=options.quiet, last_failure=self._last_failure
        )
        error: HPPError | CommandError | None = None
        try:
            async with progress, outcomes:
                with self._signals(outcomes, rows):
                    async for outcome in outcomes:
                        self._counts.add(outcome)
                        output.write(outcome_line(outcome))
        except (HPPError, CommandError) as caught:
            error = caught
        finally:
            rows.stop()
        async for outcome in outcomes:  # none, unless the output failed
            self._counts.add(outcome)
        error = error or self._input_error
        is_empty = error is None and not self._interrupted and not self._counts.done
        if not options.quiet and not is_empty:
            print_summary(self._console, self._counts, journal=self._journal, interrupted=self._interrupted)
        return self._exit_code(error)

    async def _items(self, rows: RowThread) -> AsyncIterator[BatchItem]:
        """Yield the rows until the input ends or cannot be read."""
        try:
            async for row in rows:
                yield row.item()
        except CommandError as error:  # the rows before it are sent
            self._input_error = error

    @contextlib.contextmanager
    def _signals(self, outcomes: BatchRun, rows: RowThread) -> Iterator[None]:
        """Drain the run at the first SIGINT, SIGTERM or SIGHUP (a closed terminal); abort it at the second."""
        loop = asyncio.get_running_loop()
        closing: list[asyncio.Task[None]] = []

        def stop() -> None:
            if not self._interrupted:
                self._interrupted = True
                rows.stop()
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
            print_note("error", f"{self._input} has no rows.", "bold red")
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
