"""What people see of a batch while it runs."""

import asyncio
import io
import re

import attrs
import pytest
from rich.console import Console

from kustom_hpp._messages import Delivery
from kustom_hpp.batch import Outcome, OutcomeState
from kustom_hpp.cli.batch import progress
from kustom_hpp.cli.batch.progress import BatchCounts, BatchProgress, LastFailure, duration
from kustom_hpp.cli.batch.summary import print_summary
from kustom_hpp.errors import (
    AuthenticationError,
    ConnectError,
    HPPError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
)
from kustom_hpp.events import Finished, Retrying


def terminal(width: int = 80, **settings: bool) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=24, legacy_windows=False, color_system="standard",
        **settings,
    )  # fmt: skip


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class Clock(BatchCounts):
    """A counts whose time is told."""

    now = 0.0

    @property
    def elapsed(self) -> float:
        return self.now


def tally_of(created: int, failed: int, in_doubt: int, earlier: int = 0) -> Clock:
    counts = Clock()
    counts.created, counts.failed, counts.in_doubt, counts.earlier = created, failed, in_doubt, earlier
    return counts


def test_an_outcome_is_counted_where_it_belongs() -> None:
    counts = BatchCounts()
    for state in OutcomeState:
        counts.add(Outcome(key="a", state=state, attempts=1))
    counts.add(Outcome(key="a", state=OutcomeState.CREATED, earlier_run=True))
    counts.add(Outcome(key="a", state=OutcomeState.CREATED, attempts=2, recorded=False))
    assert (counts.created, counts.earlier, counts.failed, counts.in_doubt, counts.elsewhere) == (3, 1, 1, 1, 1)
    assert (counts.done, counts.sent, counts.unrecorded) == (6, 5, 1)


@pytest.mark.parametrize(("done", "total"), [(0, 10), (987_654, 1_000_000), (1_000_000, 1_000_000), (12, None)])
def test_the_bar_is_two_lines_in_80_columns(environment: pytest.MonkeyPatch, done: int, total: int | None) -> None:
    counts = tally_of(0, 0, 0)
    console = terminal()
    shower = BatchProgress(console, counts, total)
    for second, created in ((95.0, done // 2), (100.0, done)):
        counts.now, counts.created = second, created
        shower.update_texts()
    counts.failed, counts.in_doubt = 12_345, 123
    shower.update_texts()
    console.print(shower.get_renderable())
    lines = plain(shown(console)).splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert f"{counts.done:,}" in lines[0]
    assert lines[1].split("   ") == [f"{done:,} created", "12,345 failed", "123 in doubt"]
    assert (" left" in lines[0]) is (total is not None and done > 0)


def test_rate_and_time_left_are_those_of_the_last_seconds(environment: pytest.MonkeyPatch) -> None:
    counts = tally_of(0, 0, 0)
    shower = BatchProgress(terminal(), counts, 10_000)
    # The 5,000 rows of an earlier run come at once, the others at 40 a second.
    for second in range(31):
        counts.now, counts.created = float(second), 5_000 + 40 * second
        shower.update_texts()
    assert shower.update_texts() == ["6,200 of 10,000", "40.0/s", f"{duration(3_800 / 40)} left"]
    counts.now += 60  # nothing ends
    assert shower.update_texts() == ["6,200 of 10,000", "0.0/s"]


async def test_a_terminal_gets_a_bar_that_goes_away(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(progress, "_FRAME", 0.001)
    console, counts = terminal(), tally_of(7, 0, 0)
    async with BatchProgress(console, counts, 10):
        while "7 created" not in plain(shown(console)):
            await asyncio.sleep(0)
        counts.created = 9
        while "9 created" not in plain(shown(console)):
            await asyncio.sleep(0.001)
    assert "\x1b[?25h" in shown(console)  # the cursor is back
    assert "\x1b[32m9 created" in shown(console)


@pytest.mark.parametrize("settings", [{"quiet": True}, {"plain": True}])
async def test_no_bar_where_none_is_wanted(environment: pytest.MonkeyPatch, settings: dict[str, bool]) -> None:
    environment.setattr(progress, "PLAIN_EVERY", 0.001)
    console, counts = terminal(), tally_of(7, 1, 0)
    counts.now = 1.0
    async with BatchProgress(console, counts, 10, **settings):
        for _ in range(20):
            await asyncio.sleep(0.001)
        while "plain" in settings and shown(console).count("\n") < 3:
            await asyncio.sleep(0.001)
    lines = shown(console).splitlines()
    assert bool(lines) is ("plain" in settings)
    assert all(text.startswith("8 of 10 rows: 7 created, 1 failed, 0 in doubt; ") for text in lines)


@pytest.mark.parametrize("width", [80, 400])
def test_in_times_of_trouble_it_says_what_is_awaited(environment: pytest.MonkeyPatch, width: int) -> None:
    trouble, console = LastFailure(), terminal(width)
    counts = tally_of(1, 0, 0)
    bar = BatchProgress(console, counts, 10, last_failure=trouble)
    lost = ConnectError("no connection to hpp.example (refused), and so on until the line is full: nothing was sent")
    trouble(Retrying(call_id="c", operation="create_session", attempt=1, wait=0.5, error=lost))
    console.print(bar.get_renderable())
    lines = plain(shown(console)).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("waiting: no connection to hpp.example (refused), and so on")
    assert bar.plain_line().endswith(f"; waiting: {lost}")
    finished = Finished(call_id="c", operation="create_session", attempts=1, elapsed=0.1, delivery=lost.delivery, status=None,
        correlation_id=None, error=lost,
    )  # fmt: skip
    for event, waits in (
        (finished, True),
        (attrs.evolve(finished, error=None, status=201), False),
        (attrs.evolve(finished, error=RateLimitError("slower"), status=429), True),
        (attrs.evolve(finished, error=NotFoundError("no"), status=404), False),
    ):
        trouble(event)
        assert ("waiting: " in bar.plain_line()) is waits


async def test_no_color_is_respected(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("NO_COLOR", "1")
    console = terminal()
    async with BatchProgress(console, tally_of(7, 1, 1), 10):
        pass
    print_summary(console, tally_of(7, 1, 1), journal="j.db", interrupted=True)
    assert "7 created" in plain(shown(console))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown(console))


def test_the_summary_says_what_to_do(environment: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=400)
    counts = tally_of(20, 3, 2, earlier=5)
    counts.invalid, counts.refused, counts.conflicts, counts.unrecorded, counts.sent, counts.now = 1, 1, 1, 1, 20, 10.0
    print_summary(console, counts, journal="j.db", interrupted=True)
    text = shown(console)
    assert re.search(r"created +20  5 of them by earlier runs", text)
    assert re.search(r"time +0:00:10  20 sent, 2\.0/s", text)
    for due in (
        "in doubt: 2 rows may have a session", "create a new order", "'kustom-hpp journal resolve j.db KEY'",
        "conflict: 1 row had a session already", "failed: 3 rows without a session",
        "1 of them could not be sent; --dry-run lists the problems. --retry-failed sends the rows again that the API refused.",
        "not recorded: 1 row", "interrupted: unstarted rows are unchanged",
    ):  # fmt: skip
        assert due in text
    console = Console(file=io.StringIO(), width=400)
    print_summary(console, tally_of(3, 0, 0), journal="j.db", interrupted=False)
    assert len(shown(console).splitlines()) == 4


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (NotFoundError("no", status=404, delivery=Delivery.REJECTED), 1),
        # These are sent again by the next run, with or without the option.
        (AuthenticationError("no", status=401, delivery=Delivery.REJECTED), 0),
        (RateLimitError("slower", status=429, delivery=Delivery.REJECTED), 0),
        (ConnectError("no connection", delivery=Delivery.NOT_SENT), 0),
        (InvalidRequestError("a key that was there"), 0),
    ],
)
def test_the_option_that_sends_again_is_named_where_it_does(error: HPPError, refused: int) -> None:
    console, counts = Console(file=io.StringIO(), width=400), BatchCounts()
    counts.add(Outcome(key="a", state=OutcomeState.FAILED, error=error))
    assert (counts.failed, counts.refused) == (1, refused)
    print_summary(console, counts, journal="j.db", interrupted=False)
    assert ("--retry-failed" in shown(console)) is bool(refused)
