"""The summary of a journal, and its HTML file."""

import datetime as dt
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest

from kustom_hpp import CallInfo, errors
from kustom_hpp.batch import JournalEntry, Outcome, OutcomeState, Verdict
from kustom_hpp.batch.report import MAX_DOUBTS, JournalReport, next_step, summarize
from kustom_hpp.cli.journal_report import render_html
from tests.support.journal_contract import LOST, NOT_SENT, REJECTED, THROTTLED, session
from tests.support.memory_journal import MemoryJournal

START = dt.datetime(2026, 11, 27, 4, 0, 0, tzinfo=dt.UTC)
HOSTILE = "<img src=x onerror=alert(1)>\"'&\x1b[31m\u202e"


def entry(key: str, second: float = 0, **more: Any) -> JournalEntry:
    """A row that was created after so many seconds, unless `more` says otherwise."""
    elapsed = more.pop("elapsed", 0.1)
    made = attrs.evolve(session(f"session-{key}"), info=CallInfo(elapsed=elapsed))
    outcome = more.pop("outcome", Outcome(key=key, state=OutcomeState.CREATED, session=made))
    changed_at = START + dt.timedelta(seconds=second)
    plain = {"order": f"https://x.example/{key}", "unsettled": False, "note": None}
    return JournalEntry(key=key, outcome=outcome, changed_at=changed_at, **(plain | more))


def ended(key: str, state: OutcomeState, error: errors.HPPError | None) -> Outcome:
    return Outcome(key=key, state=state, error=error)


async def summary_of(*entries: JournalEntry) -> JournalReport:
    async def each() -> AsyncIterator[JournalEntry]:
        for one in entries:
            yield one

    return await summarize(each())


async def test_rows_are_counted_by_what_becomes_of_them() -> None:
    failed, doubt = OutcomeState.FAILED, OutcomeState.IN_DOUBT
    summary = await summary_of(
        entry("a"),
        entry("b", 7),
        entry("c", outcome=ended("c", failed, REJECTED)),
        entry("d", outcome=ended("d", failed, REJECTED)),
        entry("e", outcome=ended("e", failed, THROTTLED)),
        entry("f", outcome=ended("f", failed, NOT_SENT)),
        entry("g", 3, outcome=ended("g", doubt, LOST)),
        entry("h", -5, outcome=ended("h", doubt, None), unsettled=True, order=None),
        entry("i", outcome=ended("i", OutcomeState.CLAIMED_ELSEWHERE, None), unsettled=True),
    )
    assert {str(state): count for state, count in summary.states.items()} == {
        "created": 2, "failed": 2, "in_doubt": 2, "claimed_elsewhere": 1
    }  # fmt: skip
    assert (summary.rows, summary.to_send, summary.resolved) == (9, 2, 0)
    assert (summary.first, summary.last) == (START - dt.timedelta(seconds=5), START + dt.timedelta(seconds=7))
    assert [(each.code, each.count) for each in summary.failures] == [("400 BAD_VALUE", 2), ("429", 1), ("Connect", 1)]
    assert [(each.key, each.order, each.reason) for each in summary.doubts] == [
        ("g", "https://x.example/g", "gone"),
        ("h", None, "the run ended before it recorded an outcome"),
    ]


async def test_an_empty_journal() -> None:
    summary = await summary_of()
    assert (summary.rows, summary.first, summary.periods, summary.response_times) == (0, None, (), None)
    page = render_html(summary, title="j", scope="here", now=START)
    assert "The journal has no rows" in page
    assert "<h2>" not in page


async def test_rows_that_a_person_resolved_say_nothing_about_the_api() -> None:
    summary = await summary_of(entry("a", elapsed=0.0, note="created (by hand)"))
    assert (summary.resolved, summary.periods, summary.response_times) == (1, (), None)
    assert summary.states[OutcomeState.CREATED] == 1


async def test_a_rate_is_of_the_time_in_which_sessions_were_created() -> None:
    first = [entry(f"a{n}", n / 10) for n in range(100)]  # 10 a second for 10 seconds
    second = [entry(f"b{n}", 5000 + n * 2) for n in range(300)]  # one every other second
    summary = await summary_of(*first, *second)
    [one, two] = summary.periods
    assert (one.start, one.seconds, one.created, one.rate, one.peak) == (START, 10, 100, 10.0, 10)
    assert (one.bar_seconds, one.bars) == (1, (10.0,) * 10)
    assert (two.seconds, two.created, two.peak) == (599, 300, 1)
    assert (two.bar_seconds, len(two.bars), max(two.bars)) == (10, 60, 5 / 9)
    assert sum(two.bars[:-1]) * 10 + two.bars[-1] * 9 == pytest.approx(300)


@pytest.mark.parametrize(
    ("elapsed", "expected"),
    [([0.5], (0.5, 0.5, 0.5, 0.5)), ([n / 100 for n in range(1, 101)], (0.5, 0.9, 0.99, 1.0)), ([1, 2], (1, 2, 2, 2))],
)
async def test_percentiles_are_of_the_nearest_rank(elapsed: list[float], expected: tuple[float, ...]) -> None:
    times = (await summary_of(*(entry(str(n), elapsed=each) for n, each in enumerate(elapsed)))).response_times
    assert times is not None
    assert (times.p50, times.p90, times.p99, times.maximum) == expected
    assert sum(count for _, count in times.histogram) == times.count == len(elapsed)


async def test_the_histogram_begins_and_ends_with_a_response() -> None:
    times = (
        await summary_of(*(entry(str(n), elapsed=each) for n, each in enumerate([0.3, 0.31, 1.5, 99])))
    ).response_times
    assert times is not None
    [*bounds, (last, count)] = times.histogram
    assert bounds[:2] == [(0.3, 1), (0.5, 1)]
    assert (last, count) == (None, 1)


def error_of(status: int) -> errors.HPPError:
    return errors.error_for_status(status)("no", status=status)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.InvalidRequestError("x"), "Correct the request"),
        (NOT_SENT, "it sends these rows"),
        (THROTTLED, "it sends these rows"),
        (REJECTED, "it sends a changed request"),
        (error_of(401), "kustom-hpp check"),
        (error_of(403), "--retry-failed"),
        (error_of(404), "new order"),
        (errors.HPPError("resolved", delivery=errors.Delivery.REJECTED), "a person decided"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_failure_has_a_next_step(error: errors.HPPError, words: str) -> None:
    assert words in next_step(error)


async def test_a_journal_is_summarized_as_it_is() -> None:
    async with MemoryJournal() as journal:
        for key in "abc":
            await journal.claim(key, None, b"1")
        await journal.settle("a", Outcome(key="a", state=OutcomeState.CREATED, session=session("1")))
        await journal.settle("b", Outcome(key="b", state=OutcomeState.IN_DOUBT, error=LOST))
        await journal.resolve("b", Verdict.FAILED, note="asked")
        summary = await summarize(journal.rows())
    assert (summary.rows, summary.resolved, [each.key for each in summary.doubts]) == (3, 1, ["c"])
    [failure] = summary.failures
    assert "a person decided" in failure.next_step


# The page


class Page(HTMLParser):
    """What a browser makes of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "col"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


async def hostile_page() -> Page:
    error = errors.BadRequestError(HOSTILE, status=400, code=HOSTILE)
    summary = await summary_of(
        entry("a"),
        entry(HOSTILE, outcome=ended(HOSTILE, OutcomeState.IN_DOUBT, errors.LostResponseError(HOSTILE)), order=HOSTILE),
        entry("b", outcome=ended("b", OutcomeState.FAILED, error)),
    )
    return Page(render_html(summary, title=HOSTILE, scope=HOSTILE, now=START))


async def test_the_page_is_well_formed_and_loads_nothing() -> None:
    page = await hostile_page()
    assert page.open == []
    assert {"script", "img", "link", "a"} & {tag for tag, _ in page.tags} == set()
    assert not [name for _, found in page.tags for name in found if name in {"src", "href"} or name[:2] == "on"]
    policies = [found["content"] for _, found in page.tags if found.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


async def test_hostile_text_is_shown_and_does_nothing() -> None:
    page = await hostile_page()
    text = "".join(page.text)
    assert text.count("<img src=x onerror=alert(1)>") == 8  # title twice, scope, code and error, key, order, why
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)


async def test_the_page_says_what_the_summary_says() -> None:
    failed = [entry(f"f{n}", outcome=ended(f"f{n}", OutcomeState.FAILED, REJECTED)) for n in range(1234)]
    doubts = [entry(f"d{n}", outcome=ended(f"d{n}", OutcomeState.IN_DOUBT, LOST)) for n in range(MAX_DOUBTS + 5)]
    summary = await summary_of(entry("a", elapsed=0.25), *failed, *doubts)
    page = Page(render_html(summary, title="nightly.db", scope="here", now=START))
    text = "".join(page.text)
    for words in (
        "1,234",
        "1,005 rows are in doubt",
        "And 5 more",
        "median 250 ms",
        "400 BAD_VALUE",
        "1.0/s",
        "d999",
        "nightly.db",
    ):
        assert words in text
    assert "d1000" not in text
    assert [tag for tag, _ in page.tags].count("h2") == 4
