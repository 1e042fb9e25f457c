"""What `kustom-hpp batch` reads: formats, templates, and everything that is wrong, listed by `--dry-run`."""

import contextlib
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kustom_hpp.cli.batch import input_file as source
from kustom_hpp.cli.batch.csv_columns import fill_template, merge, read_header
from kustom_hpp.cli.batch.input_file import InputFile, count_rows
from kustom_hpp.cli.batch.input_rows import InputRow, open_rows
from kustom_hpp.cli.console import STDIN
from kustom_hpp.models import BackgroundImage, PurchaseType
from tests.cli.conftest import Cli, variables
from tests.support.batch_files import line, order, write


def rows_of(path: Path, form: str = "jsonl", template: dict[str, object] | None = None) -> list[InputRow]:
    with contextlib.closing(InputFile(str(path))) as opened:
        return list(open_rows(opened, form, template or {}))


def problems(rows: list[InputRow]) -> list[tuple[int, str]]:
    return [(row.line, path) for row in rows for path, _ in row.problems]


# JSONL


def test_jsonl_rows_with_and_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(
        f"{line(1)}\r\n\n  \n".encode() + json.dumps({"request": {"payment_session_url": order(2)}}).encode()
    )
    first, second = rows_of(path)
    assert (first.line, first.key, first.problems) == (1, "row 1", ())
    assert (second.line, second.key) == (4, order(2))
    assert second.request is not None
    assert second.request.payment_session_url == order(2)


BROKEN = [
    # a line, the path of its problem, what is said
    (b"{", "$", "is not JSON at character"),
    (b"\xff", "$", "is not "),
    (b"[1]", "$", "must be {"),
    (b"{}", "request", "is required"),
    (b'{"key": "a", "reqest": {}}', "reqest", "is not a field of a line"),
    (b'{"payment_session_url": "https://x.example/1"}', "payment_session_url", 'put the request into "request"'),
    (b'{"key": 1001, "request": {"payment_session_url": "https://x.example/1"}}', "key", "must be text of 1 to"),
    (b'{"key": "", "request": {"payment_session_url": "https://x.example/1"}}', "key", "must be text of 1 to"),
    # One JSON library refuses it, the other lets it pass, to be refused by us.
    (b'{"key": "\\ud800", "request": {"payment_session_url": "https://x.example/1"}}', "", ""),
    (b'{"key": "a", "request": []}', "request", "must be a JSON object"),
    (b'{"key": "a", "request": {}}', "payment_session_url", "is required"),
    (b'{"key": "a", "request": {"payment_session_url": "x"}}', "payment_session_url", "must be an absolute"),
]


@pytest.mark.parametrize(("text", "path", "due"), BROKEN, ids=[str(text) for text, _, _ in BROKEN])
def test_a_broken_line_is_named_with_line_and_field_and_the_next_is_good(
    tmp_path: Path, text: bytes, path: str, due: str
) -> None:
    (tmp_path / "in").write_bytes(b"\n" + text + b"\n" + line(1).encode())
    bad, good = rows_of(tmp_path / "in")
    assert (bad.line, bad.request, good.line, good.problems) == (2, None, 3, ())
    assert any(found.startswith(path) and due in sentence for found, sentence in bad.problems)


def test_a_line_without_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_LINE", 1000)
    (tmp_path / "in").write_text("x" * 5000 + "\n" + line(1) + "\n" + "y" * 1001)
    first, good, last = rows_of(tmp_path / "in")
    assert (first.problems[0][1][:14], last.problems[0][1][:14]) == ("is longer than", "is longer than")
    assert (good.line, good.problems, last.line) == (2, (), 3)


def test_every_repeat_is_named_however_far_apart(tmp_path: Path) -> None:
    texts = [line(number) for number in range(5000)]
    texts += [line(0), json.dumps({"key": "another", "request": {"payment_session_url": order(7)}})]
    texts += [json.dumps({"key": order(8), "request": {"payment_session_url": "https://x.example/1"}})]
    (tmp_path / "in").write_text("\n".join(texts))
    bad = [row for row in rows_of(tmp_path / "in") if row.problems]
    assert [(row.line, row.key, row.problems) for row in bad] == [
        (5001, "row 0", (("key", "is that of line 1 too"),)),
        (5002, "another", (("payment_session_url", "is that of line 8 too, and an order has one session"),)),
    ]


ID = "0000abcd-0000-4000-8000-00000000000a"
ONE_ORDER = [
    f"https://API.playground.kustom.co/checkout/v3/orders/{ID}",
    f"https://api.playground.kustom.co/checkout/v3/orders/{ID.upper()}",
    f"https://api.playground.kustom.co/checkout/v3/orders/{ID}/",
    f"https://api.playground.kustom.co/checkout/v3/orders/{ID}?utm=1",
    f"https://api.playground.kustom.co/checkout/v3/orders/{ID}#a",
    f"HTTPS://api.playground.kustom.co/Checkout/V3/Orders/{ID}//?a=/",
]


@pytest.mark.parametrize("spelling", ONE_ORDER)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_order_in_another_spelling_is_a_repeat(tmp_path: Path, spelling: str, form: str) -> None:
    urls = [f"https://api.playground.kustom.co/checkout/v3/orders/{ID}", order(1), spelling]
    texts = [json.dumps({"key": f"k{n}", "request": {"payment_session_url": url}}) for n, url in enumerate(urls)]
    if form == "csv":
        texts = ["key,payment_session_url", *(f"k{n},{url}" for n, url in enumerate(urls))]
    (tmp_path / "in").write_text("\n".join(texts))
    first, other, again = rows_of(tmp_path / "in", form)
    assert (first.problems, other.problems) == ((), ())
    assert again.problems == (
        ("payment_session_url", f"is that of line {first.line} too, and an order has one session"),
    )
    assert again.request is None


def test_gzip_is_told_by_its_bytes(tmp_path: Path) -> None:
    text = "".join(f"{line(number)}\n" for number in range(2000)).encode()
    for name in ("in.jsonl.gz", "in.jsonl"):
        # Two members, as `cat a.gz b.gz` makes them.
        (tmp_path / name).write_bytes(gzip.compress(text[:100_000]) + gzip.compress(text[100_000:]))
        rows = rows_of(tmp_path / name)
        assert ([row.key for row in rows], problems(rows)) == ([f"row {number}" for number in range(2000)], [])


def test_gzip_that_breaks_off_is_an_error_after_the_rows_before_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in.gz").write_bytes(gzip.compress((line(1) + "\n").encode() * 9000)[:-20])
    done = cli("batch", str(tmp_path / "in.gz"), "--dry-run")
    assert done.code == 2
    assert f"{tmp_path / 'in.gz'} cannot be read beyond line " in done.err
    assert "in.gz:2: error: key: is that of line 1 too" in done.out


# CSV and templates


def csv_rows(tmp_path: Path, text: str, template: dict[str, object] | None = None) -> list[InputRow]:
    (tmp_path / "in.csv").write_bytes(text.encode())
    return rows_of(tmp_path / "in.csv", "csv", template)


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize(("start", "end"), [("", "\n"), ("\ufeff", "\r\n")])
def test_csv_columns_are_paths(tmp_path: Path, sign: str, start: str, end: str) -> None:
    head = (
        "key,payment_session_url,merchant_urls.success,options.purchase_type,options.background_images[1].url,"
        "options.background_images[0].url,options.background_images[0].width,options.page_title"
    )
    cells = (
        f'a,{order(1)},https://s.example/?a={{{{session_id}}}},RENT,,https://i.example/1.jpg,640,"One ""fine"" thing"'
    )
    bare = f",{order(2)},,,https://i.example/2.jpg,,,"
    one, two = csv_rows(tmp_path, start + end.join([head, cells, bare]).replace(",", sign) + end)
    assert (one.key, one.line, one.problems) == ("a", 2, ())
    assert one.request is not None
    assert one.request.merchant_urls is not None
    assert one.request.merchant_urls.success == "https://s.example/?a={{session_id}}"
    assert one.request.options is not None
    assert one.request.options.purchase_type is PurchaseType.RENT
    assert one.request.options.page_title == 'One "fine" thing'
    assert one.request.options.background_images == (BackgroundImage(url="https://i.example/1.jpg", width=640),)
    assert (two.key, two.line, two.problems) == (order(2), 3, ())
    assert two.request is not None
    assert two.request.merchant_urls is None
    assert two.request.options is not None
    assert two.request.options.background_images == (BackgroundImage(url="https://i.example/2.jpg"),)


def test_broken_csv_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    text = (
        f"payment_session_url,options.page_title,options.background_images[0].width\n"
        f'{order(1)},"one, two",\n\n'
        f"{order(2)}\n\n"
        f'{order(3)},"a"b,\n'
        f"{order(4)},,wide\n"
        f"{order(5)},,\n"
    )
    rows = csv_rows(tmp_path, text)
    assert [(row.line, bool(row.problems)) for row in rows] == [
        (2, False), (4, True), (6, True), (7, True), (8, False),
    ]  # fmt: skip
    sentences = [sentence for row in rows for _, sentence in row.problems]
    assert sentences[0] == "has 1 cells, but the header has 3"
    assert sentences[1].startswith("is not a row of a CSV table: ")
    assert "must be a whole number of pixels, got text of 4 characters" in sentences
    (tmp_path / "in.csv").write_bytes(b"payment_session_url,key\n\xff,a\n" + f"{order(1)},b\n".encode())
    bad, good = rows_of(tmp_path / "in.csv", "csv")
    assert (bad.line, bad.problems) == (2, (("$", "is not UTF-8 at byte 0; save the table as UTF-8"),))
    assert (good.line, good.key, good.problems) == (3, "b", ())


def test_unknown_columns_are_all_named_at_once(cli: Cli, tmp_path: Path) -> None:
    names = "key,success,options.purchase_typ,merchant_urls,options.background_images[0],payment_session_url.x,key"
    (tmp_path / "in.csv").write_text(f"{names}\n{order(1)}\n")
    done = cli("batch", str(tmp_path / "in.csv"), "--dry-run")
    assert (done.code, done.out) == (2, "")
    [paragraph] = done.err.splitlines()
    assert "in.csv, line 1: unknown column 'success' (did you mean 'merchant_urls.success'?);" in paragraph
    assert "'options.purchase_typ' (did you mean 'options.purchase_type'?)" in paragraph
    for name in ("'merchant_urls'", "'options.background_images[0]'", "'payment_session_url.x'"):
        assert f"unknown column {name}" in paragraph
    assert "column 'key' appears twice" in paragraph


@pytest.mark.parametrize(
    ("content", "due"),
    [
        (b"", "in.csv: it is empty. The first line must be the header"),
        (b"\xff\n", "in.csv: line 1 is not UTF-8 at byte 0."),
        (b'"key\n', "in.csv: line 1: a quoted cell does not end on this line."),
        (b"key,payment_session_url\ra,b\r", "in.csv: line 1: it has a CR that does not end a line; end lines with LF"),
    ],
)
def test_a_table_without_a_header(cli: Cli, tmp_path: Path, content: bytes, due: str) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    done = cli("batch", str(tmp_path / "in.csv"), "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert due in done.err


def test_a_template_lies_under_each_row(tmp_path: Path) -> None:
    template = {
        "merchant_urls": {"success": "https://t.example/s", "back": "https://t.example/b"},
        "options": {"background_images": [{"url": "https://t.example/1.jpg", "width": 1}], "page_title": "T"},
    }
    before = json.dumps(template)
    row, own = csv_rows(
        tmp_path,
        "payment_session_url,merchant_urls.success,options.background_images[0].width,options.background_images[1].url\n"
        f"{order(1)},,,\n{order(2)},https://r.example/s,640,https://r.example/2.jpg\n",
        template,
    )
    assert row.request is not None
    assert own.request is not None
    assert row.request.merchant_urls.success == "https://t.example/s"
    assert row.request.options.background_images == (BackgroundImage(url="https://t.example/1.jpg", width=1),)
    assert own.request.merchant_urls.success == "https://r.example/s"
    assert own.request.merchant_urls.back == "https://t.example/b"
    assert own.request.options.background_images == (
        BackgroundImage(url="https://t.example/1.jpg", width=640),
        BackgroundImage(url="https://r.example/2.jpg"),
    )
    (tmp_path / "in.jsonl").write_text(line(3, options={"page_title": "R", "background_images": []}))
    [lined] = rows_of(tmp_path / "in.jsonl", template=template)
    assert lined.request.options.page_title == "R"
    assert lined.request.options.background_images == ()
    assert lined.request.merchant_urls.back == "https://t.example/b"
    assert json.dumps(template) == before


def test_a_cell_wins_over_a_template_of_another_shape() -> None:
    [column] = read_header("x", ["options.background_images[2].url"])
    assert fill_template({"options": "text"}, [(column, "u")]) == {"options": {"background_images": [{"url": "u"}]}}
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None}, "d": 3}) == {"a": {"b": None, "c": 2}, "d": 3}


@pytest.mark.parametrize(
    ("content", "due"),
    [(None, "cannot be read: No such file"), ("[", "is not JSON"), ("[]", "must hold a JSON object")],
)
def test_a_template_that_is_none(cli: Cli, tmp_path: Path, content: str | None, due: str) -> None:
    if content is not None:
        (tmp_path / "t.json").write_text(content)
    done = cli("batch", write(tmp_path / "in", 1), "--dry-run", "--template", str(tmp_path / "t.json"))
    assert (done.code, done.out) == (2, "")
    assert due in done.err


# Dry run


def test_a_dry_run_lists_every_problem_and_warning_with_file_line_and_field(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    odd = {"bakc\x1b[31m": "x"}
    bad = line(2, options={"purchase_type": "buy"}, merchant_urls=odd | {"success": "shop"})
    path.write_text("\n".join([line(1), "nope", bad, line(3, merchant_urls=odd)]))
    done = cli("batch", str(path), "--dry-run")
    assert done.code == 2
    assert [text.split(": ")[:3] for text in done.out.splitlines()] == [
        [f"{path}:2", "error", "$"],
        [f"{path}:3", "error", "merchant_urls.success"],
        [f"{path}:3", "error", "options.purchase_type"],
        [f"{path}:4", "warning", "merchant_urls.bakc\\x1b[31m"],
    ]
    assert done.err.startswith("error: 4 rows checked in 0.")
    assert "nothing was sent: 3 problems in 2 rows, 1 warnings." in done.err
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_dry_run_of_good_rows_needs_no_key_no_output_and_no_journal(cli: Cli, tmp_path: Path) -> None:
    done = cli("batch", write(tmp_path / "in", 3), "--dry-run")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("valid: 3 rows checked in ")
    assert cli("batch", "-", "--dry-run", stdin=line(1).encode()).code == 0
    assert (
        cli("batch", "-", "--dry-run", "--format", "csv", stdin=f"payment_session_url\n{order(1)}".encode()).code == 0
    )
    done = cli("batch", "-", "--dry-run")
    assert (done.code, done.err) == (2, "error: <stdin> has no rows.\n")


def test_a_file_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    assert cli("batch", path, "--dry-run") == type(cli("check"))(
        2, "", f"error: {path} cannot be read: No such file or directory. Give a file, or - for stdin.\n"
    )


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(f"{line(1)}\n\n{line(2)}".encode())
    (tmp_path / "in.gz").write_bytes(gzip.compress(f"{line(1)}\n{line(2)}\n".encode()))
    (tmp_path / "in.csv").write_text(f"payment_session_url,options.page_title\n{order(1)},a\n\n,\n{order(2)},d")
    assert [count_rows(str(tmp_path / name), has_header=False) for name in ("in", "in.gz")] == [2, 2]
    assert count_rows(str(tmp_path / "in.csv"), has_header=True) == 2
    assert len(rows_of(tmp_path / "in.csv", "csv")) == 2
    assert count_rows(STDIN, has_header=False) is None
    assert count_rows("/dev/null", has_header=False) is None


PEAK = """
import resource, sys
from kustom_hpp.cli import main
code = main(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_of_a_dry_run(rows: int) -> int:
    """MiB at most; the rows are made while they are read."""
    command = [sys.executable, "-c", PEAK, "batch", "-", "--dry-run"]
    with subprocess.Popen(
        command, env=variables(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.writelines(f"{line(number)}\n" for number in range(rows))
        out, _ = process.communicate(timeout=50)
    code, peak = out.split()
    assert code == "0"
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    return int(peak) // unit


def test_memory_of_a_row_is_that_of_its_digests() -> None:
    few, many = peak_of_a_dry_run(2_000), peak_of_a_dry_run(100_000)
    # Two digests a row, about 240 bytes together; the rows alone would take more than 100 MiB.
    assert many - few <= 32
