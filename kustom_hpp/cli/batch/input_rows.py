"""The rows of a batch's input: JSONL or CSV, each with its line, and with all that is wrong with it."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs
from attrs import frozen

from kustom_hpp._protocol.codec import codec
from kustom_hpp._redaction import describe_shape
from kustom_hpp.cli.batch.csv_columns import KEY, fill_template, merge, read_header
from kustom_hpp.cli.batch.input_file import LONGEST_LINE, InputFile
from kustom_hpp.cli.batch.seen_keys import Seen
from kustom_hpp.cli.console import CommandError, Exit
from kustom_hpp.errors import InvalidRequestError, clean_text
from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.models.urls import canonical_order_url
from kustom_hpp.models.validation import check_text

Format = Literal["jsonl", "csv"]
Problems = tuple[tuple[str, str], ...]

LINE = "$"
"""The path of what is wrong with a whole line."""
LONGEST_PATH = 100
"""Characters of a path that are shown: it is made of names that the input gives."""
_TOO_LONG = ((LINE, f"is longer than {LONGEST_LINE:,} bytes"),)
_LONGEST_KEY = 2_000


@frozen
class InputRow:
    """One row of the input."""

    line: int
    """Where it begins, from 1."""
    key: str | None
    """None where the row is too broken to have one."""
    request: CreateSessionRequest | None
    """None where there are problems."""
    problems: Problems = ()
    """All that is wrong with it, as (path, sentence); with any, it is not sent."""
    end: int = 0
    """Its last line, where it goes over several."""


class RowReader(Protocol):
    """Rows of one format; iterating gives each row, good or not."""

    unread: tuple[int, int] | None
    """The first and the last of the lines that could not be told apart as rows; None where all were."""

    def __iter__(self) -> Iterator[InputRow]:
        """Every row, in the input's order."""
        ...


def read_template(file: str | None) -> dict[str, Any]:
    """What all rows share; empty without a file.

    Raises:
        CommandError: the file cannot be read, or holds no JSON object.

    """
    if file is None:
        return {}
    try:
        value = codec().load_json(Path(file).read_bytes())
    except OSError as error:
        msg = f"the template {file} cannot be read: {error.strerror}."
        raise CommandError(msg, Exit.USAGE) from None
    except ValueError as error:
        msg = f"the template {file} is {error}. Nothing was sent: it must hold a JSON object, in UTF-8."
        raise CommandError(msg, Exit.USAGE) from None
    if not isinstance(value, dict):
        msg = f"the template {file} must hold a JSON object with fields of a request, not {describe_shape(value)}."
        raise CommandError(msg, Exit.USAGE)
    return value


def open_rows(source: InputFile, form: Format, template: Mapping[str, Any]) -> RowReader:
    """The rows of a source. Of CSV the header is read here, before anybody begins.

    Raises:
        CommandError: the CSV has no header, or one with unknown columns.

    """
    return JsonLines(source, template) if form == "jsonl" else CsvTable(source, template)


class JsonLines:
    """Lines of `{"key": ..., "request": {...}}`; blank ones are passed over."""

    unread: tuple[int, int] | None = None

    def __init__(self, source: InputFile, template: Mapping[str, Any]) -> None:
        self._source, self._template = source, template

    def __iter__(self) -> Iterator[InputRow]:
        with Seen() as seen:
            for line in self._source:
                if line is None:
                    yield InputRow(self._source.line, None, None, _TOO_LONG)
                elif line.strip():
                    yield _unrepeated(self._row(line), seen)

    def _row(self, line: bytes) -> InputRow:
        number = self._source.line
        try:
            value = codec().load_json(line)
        except ValueError as error:
            return InputRow(number, None, None, ((LINE, f"is {error}"),))
        if not isinstance(value, dict):
            sentence = f'must be {{"key": ..., "request": {{...}}}}, got {describe_shape(value)}'
            return InputRow(number, None, None, ((LINE, sentence),))
        unknown = tuple((name, _UNKNOWN) for name in value if name not in (KEY, "request"))
        return _row(number, value.get(KEY), merge(dict(self._template), value.get("request")), unknown)


_UNKNOWN = 'is not a field of a line: a request stands in "request", beside "key"'


class CsvTable:
    """A table whose header names fields of a request. Its cells are parted by comma, or by semicolon or tab.

    A quote that is not closed makes one cell of the lines behind it, and nobody knows where the next row begins. So the
    rows end there: what follows is read, counted in `unread`, and never taken for rows.
    """

    def __init__(self, source: InputFile, template: Mapping[str, Any]) -> None:
        self._source, self._template = source, template
        self.unread: tuple[int, int] | None = None
        self._text = _Text(source)
        self._parting, names = ",", list[str]()
        try:
            head = next(self._text, "")
            # No name of a column has one of these. Where a comma is a number's decimal sign, tables come with semicolons.
            self._parting = next((sign for sign in ",;\t" if sign in head), ",")
            names = next(csv.reader([head], delimiter=self._parting, strict=True), [])
            fault = self._text.fault
        except (ValueError, csv.Error) as error:
            fault = _why(error)
        if fault:
            msg = f"{source.name}, line 1: {fault}. It must be the header of a CSV table, in UTF-8."
            raise CommandError(msg, Exit.USAGE)
        if not names:
            msg = f"{source.name} is empty: its first line must be the header of a CSV table."
            raise CommandError(msg, Exit.USAGE)
        self._columns = read_header(source.name, [name.strip() for name in names])
        # Lists are filled from their first item on, wherever its column stands.
        self._order = sorted(
            range(len(names)), key=lambda index: [str(step).zfill(3) for step in self._columns[index].path]
        )
        self._reader = csv.reader(self._text, delimiter=self._parting, strict=True)

    def __iter__(self) -> Iterator[InputRow]:
        with Seen() as seen:
            while self.unread is None:
                self._text.begin()
                first = self._source.line + 1
                try:
                    cells = next(self._reader, None)
                except (ValueError, csv.Error) as error:
                    yield self._broken(first, error)
                    continue
                if cells is None:
                    return
                if cells:
                    row, end = _unrepeated(self._row(first, cells), seen), self._source.line
                    yield attrs.evolve(row, end=end) if end > first else row
        self._text.drop()
        self.unread = (self.unread[0], self._source.line)

    def _broken(self, first: int, error: Exception) -> InputRow:
        """The row of lines that are none. The last one there is, unless it can be told where it ends."""
        last, opened = self._source.line, first + self._text.opened(self._parting)
        sentence = f"is no row of a CSV table: {_why(error)}"
        # What is wrong within one line ends with it.
        if opened < last:
            self.unread = (first, last)
            self._source.has_buffered_line = (
                False  # the row is told now, and the rest read when the next one is asked for
            )
            sentence = (
                f"is no row of a CSV table: a quote opened on line {opened} {_how(error, last)}; lines {first} to {last} "
                "were read as one row. Close the quote, or double it where it is meant"
            )
        return InputRow(first, None, None, ((LINE, sentence),))

    def _row(self, line: int, cells: list[str]) -> InputRow:
        if self._text.fault:
            return InputRow(line, None, None, ((LINE, f"is no row of a CSV table: {self._text.fault}"),))
        if len(cells) != len(self._columns):
            return InputRow(line, None, None, ((LINE, f"has {len(cells)} cells, and the header {len(self._columns)}"),))
        given = [(self._columns[index], cells[index]) for index in self._order if cells[index]]
        key = next((cell for column, cell in given if column.name == KEY), None)
        fields = [(column, cell) for column, cell in given if column.name != KEY]
        return _row(line, key, fill_template(self._template, fields))


_LONE_CR = "it has a CR that ends no line: lines must end with LF or with CR and LF"
_UNCLOSED = "unexpected end"
_LONG_CELL = "field larger"


def _why(error: Exception) -> str:
    """What the CSV reader says, in words for those who do not write Python."""
    text = str(error)
    if text.startswith("new-line character"):
        return _LONE_CR
    if text.startswith(_LONG_CELL):
        return f"a cell is longer than {csv.field_size_limit():,} characters"
    return "a quote is not closed" if text.startswith(_UNCLOSED) else text


def _how(error: Exception, last: int) -> str:
    """How a quoted cell of several lines ended."""
    text = str(error)
    if text.startswith(_UNCLOSED):
        return "is not closed"
    if text.startswith(_LONG_CELL):
        return f"is not closed within {csv.field_size_limit():,} characters"
    if isinstance(error, csv.Error):
        return f"is closed on line {last}, in the middle of a cell"
    return f"is not closed within {LONGEST_LINE:,} bytes"


class _Text:
    """A source's lines as text for the CSV reader.

    Implementation note: a class and no generator, because a generator is at its end once it has raised.
    """

    def __init__(self, source: InputFile) -> None:
        self._source, self._lines = source, iter(source)
        self.begin()

    def begin(self) -> None:
        """What is read from here on is another row."""
        self._row: list[str] = []
        self._size = 0
        self.fault = ""
        """What is wrong with the row's text; its quotes count nevertheless."""

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._size += 0 if line is None else len(line)
        if line is None or self._size > LONGEST_LINE:
            msg = f"longer than {LONGEST_LINE:,} bytes"
            raise ValueError(msg)
        encoding = "utf-8-sig" if self._source.line == 1 else "utf-8"
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            self.fault = self.fault or f"not UTF-8 at byte {error.start}"
            text = line.decode(encoding, "replace")
        self._row.append(text + "\n")
        return self._row[-1]

    def opened(self, parting: str) -> int:
        """In which line of the row, from 0, that quoted cell begins which does not end as it should; else the last one."""
        text = "".join(self._row)
        for cell in re.finditer(rf'(?:^|{parting})("[^"]*(?:""[^"]*)*"?)', text):
            behind = text[cell.end() : cell.end() + 1]
            if not behind or behind not in f"{parting}\r\n" or len(cell[1]) > csv.field_size_limit():
                return text.count("\n", 0, cell.start(1))
        return max(0, len(self._row) - 1)

    def drop(self) -> None:
        """Read on to the end, and keep nothing."""
        deque(self._lines, maxlen=0)


def _row(line: int, key: Any, request: Any, problems: Problems = ()) -> InputRow:
    """A row from plain JSON values."""
    url = request.get("payment_session_url") if isinstance(request, dict) else None
    if key is None and isinstance(url, str):
        key = url
    found: list[tuple[str, str]] = list(problems)
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY):
        found.append((KEY, f"must be text of 1 to {_LONGEST_KEY:,} characters, got {describe_shape(key)}"))
    else:
        check_text(found, KEY, key)
    if request is None:
        found.append(("request", "is required"))
    checked = None
    try:
        checked = codec().structure_request(request) if request is not None else None
    except InvalidRequestError as error:
        found += [("request" if path == LINE else path, sentence) for path, sentence in error.problems]
    # A key that is none cannot be told either.
    name = None if any(path == KEY for path, _ in found) else key
    return InputRow(line, name, None, tuple(found)) if found else InputRow(line, name, checked)


def _unrepeated(row: InputRow, seen: Seen) -> InputRow:
    """The row itself, or with the problem that an earlier line has its key, or its order: one order, one session."""
    found = list(row.problems)
    order = canonical_order_url(row.request.payment_session_url) if row.request is not None else None
    if row.key is not None and (first := seen.first(f"key {row.key}", row.line)) != row.line:
        found.append((KEY, f"is that of line {first} too"))
    elif order is not None and (first := seen.first(f"order {order}", row.line)) != row.line:
        found.append(("payment_session_url", f"is that of line {first} too, and an order has one session"))
    return attrs.evolve(row, request=None, problems=tuple(found)) if len(found) > len(row.problems) else row


def problems_text(row: InputRow) -> str:
    """A row's problems in one sentence, for an error text."""
    return "; ".join(f"{clean_text(path, LONGEST_PATH)}: {sentence}" for path, sentence in row.problems)


def unread_lines(rows: RowReader) -> str:
    """A sentence on the lines that were not read as rows, to stand behind another one; empty where all were."""
    if rows.unread is None:
        return ""
    first, last = rows.unread
    return f" {last - first + 1:,} lines were not read as rows: {first} to {last}."
