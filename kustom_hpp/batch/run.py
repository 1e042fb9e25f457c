"""`batch.run`: the options of a run, checked, and its parts, put together."""

import inspect
from typing import Literal, get_args

from kustom_hpp.batch.batch_run import BatchRun
from kustom_hpp.batch.circuit_breaker import CircuitBreaker
from kustom_hpp.batch.journal import Journal
from kustom_hpp.batch.outcome_queue import OutcomeQueue
from kustom_hpp.batch.row_processor import Create, RowProcessor
from kustom_hpp.batch.rows import Items, RowSource
from kustom_hpp.batch.stop_signal import StopSignal
from kustom_hpp.config.options import check_positive, check_positive_int
from kustom_hpp.errors import ConfigError

OnDoubt = Literal["report", "resend"]


def run(
    create: Create,
    items: Items,
    *,
    concurrency: int = 32,
    rate: float | None = None,
    journal: Journal | None = None,
    on_doubt: OnDoubt = "report",
    retry_failed: bool = False,
    ordered: bool = False,
    max_failures: int | None = None,
    max_doubts: int = 10,
    patience: float = 300.0,
) -> BatchRun:
    """Create a session for each item, with none lost and none created twice.

        async with batch.run(client.create_session, items, journal=journal) as outcomes:
            async for outcome in outcomes:
                ...

    Only the rows in flight are in memory, so the items may be endless. A caller that takes the outcomes slowly slows the
    sending down. An item that cannot be sent (not a request, an invalid request, a repeated key or KCO order) is a FAILED row
    with an InvalidRequestError, and the rest goes on. The run finds a repetition among the newest 10,000 rows; with a journal
    a repetition never leads to a second session, however far apart the two rows are.

    Args:
        create: creates one session; normally `client.create_session`. With a shared journal it is called with
            `may_send=`, which it must pass on to `create_session`.
        items: requests (the key is then the payment_session_url) or `BatchItem`s, from any iterable or async iterable. The
            run reads them as it goes on, and closes an async generator at its end.
        concurrency: rows in flight, from 1. More than the client's `Pool.connections` is of no use.
        rate: rows sent per second at most; None leaves that to the client's `Pace`.
        journal: the memory over runs; None for no memory. The run does not close it.
        on_doubt: "resend" sends rows that an earlier run left in doubt, once in this run, at the risk of a second session;
            never rows that the API accepted, nor rows whose payload has changed. Not allowed with a shared journal, in
            which a person frees each doubt with `resolve`.
        retry_failed: sends rows again that the API refused in an earlier run.
        ordered: outcomes come in the order of the items.
        max_failures: the run stops after this many FAILED rows, from 1; None for no limit.
        max_doubts: after this many rows IN_DOUBT in a row, the run waits for one row to succeed; the second time it stops.
        patience: seconds without a success after which a run stops whose rows cannot be sent.

    Returns:
        The run. Entering it (`async with`) starts it, iterating takes its outcomes, leaving it ends it. When the outcomes
        of all rows in flight have been taken, iterating raises:

        - BatchStoppedError: the credentials are refused, nothing can be sent, too many rows are in doubt, or max_failures;
        - JournalError: the journal has failed; outcomes that it could not record have `recorded=False`;
        - DuplicateSessionError: the API gave one session id to two keys (without a journal: of the newest 10,000 ids);
        - any other exception of the items or of `create`.

        A row without an outcome was not processed: the next run sends it.

    Raises:
        ConfigError: an argument is invalid.

    """
    if on_doubt not in get_args(OnDoubt):
        msg = f'on_doubt must be "report" or "resend", got {on_doubt!r}'
        raise ConfigError(msg)
    check_positive_int("concurrency", concurrency)
    check_positive_int("max_doubts", max_doubts)
    if max_failures is not None:
        check_positive_int("max_failures", max_failures)
    check_positive("patience", patience)
    if rate is not None:
        check_positive("rate", rate, "rows per second")
    if journal is not None and journal.shared:
        _check_shared(create, on_doubt)
    breaker = CircuitBreaker(patience=patience, max_doubts=max_doubts, max_failures=max_failures)
    signal = StopSignal()
    processor = RowProcessor(
        create=create,
        journal=journal,
        breaker=breaker,
        signal=signal,
        resend=on_doubt == "resend",
        retry_failed=retry_failed,
    )
    return BatchRun(
        processor=processor,
        source=RowSource(items, unique_order=journal is None),
        breaker=breaker,
        signal=signal,
        outcomes=OutcomeQueue(concurrency, ordered=ordered, on_space=signal.notify),
        concurrency=concurrency,
        interval=1 / rate if rate else 0.0,
    )


def _check_shared(create: Create, on_doubt: OnDoubt) -> None:
    if on_doubt == "resend":
        msg = 'on_doubt="resend" is not allowed with a shared journal: every run would send the doubts. Resolve them instead'
        raise ConfigError(msg)
    try:
        inspect.signature(create).bind(None, may_send=None)
    except TypeError:
        msg = "with a shared journal, create must accept may_send= and pass it on to create_session"
    except ValueError:  # a callable without a signature
        return
    else:
        return
    raise ConfigError(msg)
