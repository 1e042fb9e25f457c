"""CSV: each row is one line, and what spreadsheets write is accepted."""

import codecs
import contextlib
import json
from pathlib import Path

import pytest

from kustom_hpp.cli.batch.input_file import InputFile
from kustom_hpp.cli.batch.input_rows import InputRow, open_rows
from kustom_hpp.cli.console import CommandError
from kustom_hpp.sandbox.threaded import ThreadedSandbox
from tests.cli.conftest import Cli
from tests.support.batch_files import line, order, read

HEAD = "key,payment_session_url,options.page_title"


def csv_rows(tmp_path: Path, text: str | bytes) -> list[InputRow]:
    path = tmp_path / "in.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogateescape"))
    with contextlib.closing(InputFile(str(path))) as opened:
        return list(open_rows(opened, "csv", {}))


@pytest.mark.parametrize(
    ("cell", "cause"),
    [
        ('"title', "a quoted cell does not end on this line"),
        ('"two\nlines"', "a quoted cell does not end on this line"),
        ('"a"b,"c', "',' expected after '\"'"),
        ('"' + "x" * 140_000, "a cell is longer than 131,072 characters"),
    ],
    ids=["not closed", "two lines", "broken twice", "long"],
)
def test_a_cell_that_does_not_end_on_its_line_ends_the_rows(cli: Cli, tmp_path: Path, cell: str, cause: str) -> None:
    table = [f"k{number},{order(number)},title" for number in range(1, 100)]
    table[9] = f"k10,{order(10)},{cell}"
    path = tmp_path / "in.csv"
    path.write_text("\n".join([HEAD, *table]) + "\n")
    with contextlib.closing(InputFile(str(path))) as opened:
        rows = open_rows(opened, "csv", {})
        valid = [next(rows) for _ in range(9)]
        invalid = next(rows)
        with pytest.raises(CommandError, match="a row that does not end on line 11"):
            next(rows)
    assert not any(row.problems for row in valid)
    [(_, sentence)] = invalid.problems
    assert (invalid.line, invalid.key) == (11, None)
    assert sentence == f"is not a row of a CSV table: {cause}"
    done = cli("batch", str(path), "--dry-run")
    assert (done.code, done.out) == (2, f"{path}:11: error: $: {sentence}\n")
    assert "has a row that does not end on line 11. The rows from there on were not read" in done.err


def test_a_problem_within_one_line_costs_its_row_alone(tmp_path: Path) -> None:
    text = (
        f'{HEAD}\nk1,{order(1)},"more"of\nk2,{order(2)},{"x" * 140_000}\nk3,{order(3)},a\rb\n'
        f'k4,{order(4)},"bad\udcff"\nk5,{order(5)}\nk6,{order(6)},a,b\nk7,{order(7)},\n'
    )
    rows = csv_rows(tmp_path, text)
    assert [(row.line, row.problems[0][1] if row.problems else "") for row in rows] == [
        (2, "is not a row of a CSV table: ',' expected after '\"'"),
        (3, "is not a row of a CSV table: a cell is longer than 131,072 characters"),
        (4, "is not a row of a CSV table: it has a CR that does not end a line; end lines with LF or with CR and LF"),
        (5, f"is not UTF-8 at byte {len(f'k4,{order(4)},') + 4}; save the table as UTF-8"),
        (6, "has 2 cells, but the header has 3"),
        (7, "has 4 cells, but the header has 3"),
        (8, ""),
    ]


def test_a_line_without_end_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kustom_hpp.cli.batch.input_file.MAX_LINE", 1000)
    path = tmp_path / "in.csv"
    path.write_text(f"{HEAD}\nk1,{order(1)},{'x' * 1000}\nk2,{order(2)},\n")
    with contextlib.closing(InputFile(str(path))) as opened:
        rows = open_rows(opened, "csv", {})
        assert next(rows).problems[0][1].startswith("is not a row of a CSV table: is longer than")
        with pytest.raises(CommandError, match="does not end on line 2"):
            next(rows)


# What spreadsheets write

PLAIN = [("a", order(1), "One"), ("b", order(2), None)]
SPREADSHEETS = {
    "empty columns at the end": f"{HEAD},,\na,{order(1)},One,,\nb,{order(2)},,,\n",
    "empty cells beyond the header": f"{HEAD}\na,{order(1)},One,,\nb,{order(2)},, ,\n",
    "empty rows": f"{HEAD}\na,{order(1)},One\n,,\nb,{order(2)},\n,,\n , ,\n",
    "empty rows of semicolons": f"{HEAD}\na,{order(1)},One\n,,,,\nb,{order(2)},\n".replace(",", ";"),
    "a separator in the first line": f"sep=;\n{HEAD}\na,{order(1)},One\nb,{order(2)},\n".replace(",", ";"),
    "a quoted separator, CRLF": f'\ufeff"sep=;"\r\n{HEAD}\r\na,{order(1)},One\r\nb,{order(2)},\r\n'.replace(",", ";"),
    "a separator of its own": f"sep=|\n{HEAD}\na,{order(1)},One\nb,{order(2)},\n".replace(",", "|"),
    "a blank first line": f"\n  \n{HEAD}\na,{order(1)},One\nb,{order(2)},\n",
    "an empty first row": f",,\n{HEAD}\na,{order(1)},One\nb,{order(2)},\n",
    "spaces in the header": f" key , payment_session_url , options.page_title \na,{order(1)},One\nb,{order(2)},\n",
}


def seen(rows: list[InputRow]) -> list[tuple[str | None, str, str | None]]:
    assert [row.problems for row in rows] == [()] * len(rows)
    return [
        (row.key, row.request.payment_session_url, row.request.options and row.request.options.page_title)
        for row in rows
    ]


@pytest.mark.parametrize("text", SPREADSHEETS.values(), ids=SPREADSHEETS)
def test_what_spreadsheets_write_is_read(tmp_path: Path, text: str) -> None:
    assert seen(csv_rows(tmp_path, text)) == PLAIN


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-8"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_byte_order_mark_chooses_the_encoding(tmp_path: Path, encoding: str, form: str) -> None:
    title = "Slutför 🎁"
    text = f"{HEAD}\r\na,{order(1)},{title}\r\n" if form == "csv" else line(1, options={"page_title": title}) + "\r\n"
    path = tmp_path / "in"
    path.write_bytes(f"\ufeff{text}".encode(encoding))
    with contextlib.closing(InputFile(str(path))) as opened:
        [row] = open_rows(opened, form, {})  # type: ignore[arg-type]
    assert row.request is not None
    assert row.request.options is not None
    assert (row.problems, row.request.options.page_title) == ((), title)


@pytest.mark.parametrize(
    ("content", "due"),
    [
        (f"{HEAD}\n".encode("utf-16-le"), "is not UTF-8 (it seems to be UTF-16 without a byte order mark)"),
        (f"{HEAD}\n".encode("utf-16-be"), "is not UTF-8 (it seems to be UTF-16 without a byte order mark)"),
        (codecs.BOM_UTF16_LE + f"{HEAD}\n".encode("utf-16-le")[:-1], "cannot be read beyond line"),
        (f"key,,payment_session_url\na,b,{order(1)}\n".encode(), "column 2 has no name"),
        (b"\n;;;\n \n", "it is empty. The first line must be the header"),
        (b"sep=;\n", "it is empty. The first line must be the header"),
    ],
)
def test_what_has_no_clear_meaning_is_refused_with_its_cause(
    cli: Cli, tmp_path: Path, content: bytes, due: str
) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    done = cli("batch", str(tmp_path / "in.csv"), "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert due in done.err
    assert "failed" not in done.err


@pytest.mark.parametrize(("cell", "width"), [("1280", 1280), ("1280.0", 1280), ("1280,00", 1280), (" 1280 ", 1280)])
def test_a_whole_number_with_a_decimal_part_of_zeros_is_one(tmp_path: Path, cell: str, width: int) -> None:
    head = "payment_session_url;options.background_images[0].url;options.background_images[0].width"
    [row] = csv_rows(tmp_path, f"{head}\n{order(1)};https://i.example/1.jpg;{cell}\n")
    assert row.request is not None
    assert row.request.options is not None
    assert [image.width for image in row.request.options.background_images or ()] == [width]


@pytest.mark.parametrize("cell", ["1280.5", "1,280", "1280px", "1e3"])
def test_a_number_that_is_not_whole_is_a_problem(tmp_path: Path, cell: str) -> None:
    head = "payment_session_url;options.background_images[0].url;options.background_images[0].width"
    [row] = csv_rows(tmp_path, f"{head}\n{order(1)};https://i.example/1.jpg;{cell}\n")
    assert [path for path, _ in row.problems] == ["options.background_images[0].width"]


def test_a_spreadsheet_is_sent_without_a_failed_row(
    cli: Cli, at_sandbox: ThreadedSandbox, tmp_path: Path, paths: list[str]
) -> None:
    text = f"\ufeffsep=;\r\n\r\nkey;payment_session_url;;\r\n;;;\r\na;{order(1)};;\r\n;;;;\r\nb;{order(2)};;\r\n;;;\r\n"
    (tmp_path / "in.csv").write_bytes(text.encode("utf-16-le"))
    done = cli("batch", str(tmp_path / "in.csv"), *paths)
    assert (done.code, [json.loads(seen.body) for seen in at_sandbox.record.requests]) == (
        0, [{"payment_session_url": order(1)}, {"payment_session_url": order(2)}],
    )  # fmt: skip
    assert {row["key"]: row["state"] for row in read(tmp_path / "out.jsonl")} == {"a": "created", "b": "created"}
