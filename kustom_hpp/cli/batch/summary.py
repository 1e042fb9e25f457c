"""The summary of a batch: what happened, and the next step for each kind of outcome."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kustom_hpp.cli.batch.progress import BatchCounts, duration
from kustom_hpp.cli.console import print_note, table


def print_summary(console: Console, counts: BatchCounts, *, journal: str, interrupted: bool) -> None:
    """Print a small table, and a paragraph for each kind of outcome that needs a person."""
    console.print(_table(counts))
    if counts.in_doubt:
        text = (
            f"{_rows(counts.in_doubt)} may have a session and will not be sent again. For each, create a new order and "
            "session; the old link was never shown and expires within 48 hours. If you know how a row ended, record it "
            f"with 'kustom-hpp journal resolve {journal} KEY'. 'kustom-hpp journal show {journal}' lists the rows."
        )
        print_note("in doubt", text, "bold yellow", console)
    if counts.conflicts:
        text = (
            f"{_rows(counts.conflicts)} had a session already, created for another payload. It stays, and nothing was "
            "sent. A changed request needs a new order and a new key."
        )
        print_note("conflict", text, "bold yellow", console)
    if counts.elsewhere:
        late = (
            f" This run sent {counts.too_late:,} of them too late, so a second session may exist; the output says what to do."
            if counts.too_late
            else ""
        )
        text = f"{_rows(counts.elsewhere)} left to another live run, which reports how they end.{late}"
        print_note("claimed elsewhere", text, "bold yellow" if late else "dim", console)
    if counts.failed:
        invalid = (
            f" {counts.invalid:,} of them could not be sent; --dry-run lists the problems." if counts.invalid else ""
        )
        again = " --retry-failed sends the rows again that the API refused." if counts.refused else ""
        text = f"{_rows(counts.failed)} without a session; the output has the reasons.{invalid}{again}"
        print_note("failed", text, "bold red", console)
    if counts.unrecorded:
        text = f"{_rows(counts.unrecorded)} are in the output but not in the journal. Store that output."
        print_note("not recorded", text, "bold red", console)
    if interrupted:
        text = "unstarted rows are unchanged. Run the same command again."
        print_note("interrupted", text, "bold yellow", console)


def _table(counts: BatchCounts) -> Table:
    earlier = f"{counts.earlier:,} of them by earlier runs" if counts.earlier else ""
    rate = counts.sent / counts.elapsed if counts.elapsed else 0.0
    rows: list[tuple[str | Text, ...]] = [
        ("created", Text(f"{counts.created:,}", "green"), earlier),
        ("failed", Text(f"{counts.failed:,}", "red" if counts.failed else ""), ""),
        ("in doubt", Text(f"{counts.in_doubt:,}", "yellow" if counts.in_doubt else ""), ""),
        *([("claimed elsewhere", f"{counts.elsewhere:,}", "")] if counts.elsewhere else []),
        ("time", duration(counts.elapsed), f"{counts.sent:,} sent, {rate:,.1f}/s"),
    ]
    return table(None, ("", ">", ""), rows, show_header=False)


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
