"""What a batch came to, and what to do about it."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kustom_hpp.cli.batch.progress import BatchCounts, duration
from kustom_hpp.cli.console import print_note


def summary(console: Console, counts: BatchCounts, *, journal: str, interrupted: bool) -> None:
    """A small table, and a paragraph for each thing that somebody has to do.

    Args:
        console: where to.
        counts: of the run.
        journal: the journal's file, for the command that ends a doubt.
        interrupted: whether rows were left for another run on purpose.

    """
    console.print(_table(counts))
    if counts.in_doubt:
        text = (
            f"{_rows(counts.in_doubt)} may have a session, and will not be sent again. For each, make a new order and a "
            "session for it: the old link was shown to nobody and dies within 48 hours. If you know better, say so with "
            f"'kustom-hpp journal resolve {journal} KEY'; 'kustom-hpp journal show {journal}' lists them."
        )
        print_note("in doubt", text, "bold yellow", console)
    if counts.conflicts:
        text = (
            f"{_rows(counts.conflicts)} had a session already, made for another payload; it was kept, and nothing was "
            "sent. A changed request needs an order and a key of its own."
        )
        print_note("conflict", text, "bold yellow", console)
    if counts.failed:
        bad = f" {counts.bad:,} of them could not be sent: --dry-run lists what is wrong." if counts.bad else ""
        again = " --retry-failed sends again what the API refused." if counts.refused else ""
        text = f"{_rows(counts.failed)} without a session; the output tells why.{bad}{again}"
        print_note("failed", text, "bold red", console)
    if counts.unrecorded:
        text = f"{_rows(counts.unrecorded)} stand in the output but not in the journal: keep that output."
        print_note("not recorded", text, "bold red", console)
    if interrupted:
        print_note(
            "interrupted",
            "the rows that were not begun are untouched: run the same command again.",
            "bold yellow",
            console,
        )


def _table(counts: BatchCounts) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    earlier = f"{counts.earlier:,} of them by earlier runs" if counts.earlier else ""
    rate = counts.sent / counts.elapsed if counts.elapsed else 0.0
    for name, figure, remark, style in (
        ("created", f"{counts.created:,}", earlier, "green"),
        ("failed", f"{counts.failed:,}", "", "red" if counts.failed else ""),
        ("in doubt", f"{counts.in_doubt:,}", "", "yellow" if counts.in_doubt else ""),
        ("time", duration(counts.elapsed), f"{counts.sent:,} sent, {rate:,.1f}/s", ""),
    ):
        table.add_row(Text(name), Text(figure, style), Text(remark))
    return table


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
