"""CSV whose quotes are not closed, and cells of several lines: nothing goes missing untold."""

from pathlib import Path

import pytest

from kustom_hpp.cli.batch.input_file import InputFile
from kustom_hpp.cli.batch.input_rows import InputRow, open_rows
from tests.cli.batches import order
from tests.cli.conftest import Cli


def csv_rows(tmp_path: Path, text: str) -> list[InputRow]:
    path = tmp_path / "in.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with InputFile(str(path)) as opened:
        return list(open_rows(opened, "csv", {}))


HEAD = "key,payment_session_url,options.page_title"
UNCLOSED = [
    # the broken row's number and its last cell, that of another row, the lines read as one, what is said of the quote
    (10, '"title', 1000, "title", 11, 1001, "opened on line 11 is not closed;"),
    (10, '"title', 20, '"a title"', 11, 21, "opened on line 11 is closed on line 21, in the middle of a cell;"),
    (10, '"title', 20, '""', 11, 1001, "opened on line 11 is not closed;"),
    (10, '"two\nlines" ', 1000, "title", 11, 12, "opened on line 11 is closed on line 12, in the middle of a cell;"),
    (10, '"title', 100, "x" * 140_000, 11, 101, "opened on line 11 is not closed within 131,072 characters;"),
]


@pytest.mark.parametrize(("number", "cell", "other", "its", "first", "last", "due"), UNCLOSED)
def test_a_quote_that_is_not_closed_ends_the_rows_and_all_that_is_lost_is_told(  # noqa: PLR0917
    cli: Cli, tmp_path: Path, number: int, cell: str, other: int, its: str, first: int, last: int, due: str
) -> None:
    cells = ["title"] * 1001
    cells[number], cells[other] = cell, its
    table = [f"k{n},{order(n)},{cells[n]}" for n in range(1, 1001)]
    path = tmp_path / "in.csv"
    path.write_text("\n".join([HEAD, *table]) + "\n")
    lines = len(path.read_text().splitlines())
    with InputFile(str(path)) as opened:
        rows = open_rows(opened, "csv", {})
        found = iter(rows)
        good = [next(found) for _ in range(number - 1)]
        bad = next(found)
        assert (opened.line, opened.has_buffered_line) == (last, False)
        assert (list(found), rows.unread) == ([], (first, lines))
    assert not any(row.problems for row in good)
    [(_, sentence)] = bad.problems
    assert (bad.line, bad.key) == (first, None)
    assert f"is no row of a CSV table: a quote {due} lines {first} to {last} were read as one row" in sentence
    done = cli("batch", str(path), "--dry-run")
    assert (done.code, done.out) == (2, f"{path}:{first}: error: $: {sentence}\n")
    assert f"{lines - first + 1:,} lines were not read as rows: {first} to {lines}." in done.err


def test_the_quote_is_told_not_the_row_where_they_begin_on_two_lines(tmp_path: Path) -> None:
    [bad] = csv_rows(tmp_path, f'{HEAD}\n"k\n1","https://x.example/""1""","title\nk2,,\n')
    assert bad.line == 2
    assert "a quote opened on line 3 is not closed; lines 2 to 4 were read as one row" in bad.problems[0][1]


def test_rows_of_several_lines_are_rows_and_a_dry_run_points_at_them(cli: Cli, tmp_path: Path) -> None:
    text = f'{HEAD}\nk1,{order(1)},"two\n""lines"""\nk2,{order(2)},"three\r\n\r\nlines"\nk3,{order(3)},one\n'
    rows = csv_rows(tmp_path, text)
    assert [(row.key, row.line, row.end, row.problems) for row in rows] == [
        ("k1", 2, 3, ()), ("k2", 4, 6, ()), ("k3", 7, 0, ()),
    ]  # fmt: skip
    done = cli("batch", str(tmp_path / "in.csv"), "--dry-run")
    path = tmp_path / "in.csv"
    assert (done.code, done.out.splitlines()) == (0, [
        f"{path}:2: warning: $: lines 2 to 3 are one row: a quoted cell goes over them",
        f"{path}:4: warning: $: lines 4 to 6 are one row: a quoted cell goes over them",
    ])  # fmt: skip


def test_what_is_wrong_within_one_line_costs_its_row_alone(tmp_path: Path) -> None:
    text = (
        f'{HEAD}\nk1,{order(1)},"two\nlines","more"of\nk2,{order(2)},{"x" * 140_000}\nk3,{order(3)},a\rb\n'
        f'k4,{order(4)},"bad\udcff\nlines"\nk5,{order(5)},\n'
    )
    rows = csv_rows(tmp_path, text)
    assert [(row.line, row.problems[0][1] if row.problems else "") for row in rows] == [
        (2, "is no row of a CSV table: ',' expected after '\"'"),
        (4, "is no row of a CSV table: a cell is longer than 131,072 characters"),
        (5, "is no row of a CSV table: it has a CR that ends no line: lines must end with LF or with CR and LF"),
        (6, f"is no row of a CSV table: not UTF-8 at byte {len(f'k4,{order(4)},') + 4}"),
        (8, ""),
    ]


def test_a_row_without_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kustom_hpp.cli.batch.input_rows.LONGEST_LINE", 1000)
    [bad] = csv_rows(tmp_path, f"{HEAD}\n" + 'k,"' + '\n","' * 500 + "\nk2,,\n")
    assert "is not closed within 1,000 bytes; lines 2 to " in bad.problems[0][1]
