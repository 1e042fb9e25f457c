"""The rows of a batch's input, JSONL or CSV: each with its line and its problems."""

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs
from attrs import frozen

from kustom_hpp._protocol.codec import codec
from kustom_hpp._redaction import describe_shape
from kustom_hpp.batch import BatchItem
from kustom_hpp.cli.batch.csv_columns import KEY, fill_template, merge, read_header
from kustom_hpp.cli.batch.input_file import MAX_LINE, InputFile
from kustom_hpp.cli.console import CommandError, Exit
from kustom_hpp.cli.requests import load_json_file
from kustom_hpp.errors import InvalidRequestError, clean_text
from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.models.urls import canonical_order_url
from kustom_hpp.models.validation import check_text

Format = Literal["jsonl", "csv"]

LINE = "$"
"""The path of a problem of the whole line."""
MAX_PATH = 100
"""Characters of a path in a message: the input chooses the names in it."""
_TOO_LONG = f"is longer than {MAX_LINE:,} bytes"
_MAX_KEY = 2_000
_SEPARATORS = ",;\t"
"""No column's name has one of these. Where the comma is the decimal sign, spreadsheets write semicolons."""


class InvalidRowError(InvalidRequestError):
    """A row of the input that cannot be sent."""

    line = 0
    key: str | None = None
    """None if the row has no valid key."""


@frozen
class InputRow:
    """One row of the input."""

    line: int
    """Its line, from 1."""
    key: str | None
    """None if the row has no valid key."""
    request: CreateSessionRequest | None
    """None if there are problems."""
    problems: tuple[tuple[str, str], ...] = ()
    """Its problems as (path, sentence). A row with problems is not sent."""

    def item(self) -> BatchItem:
        """Return the row for the run."""
        if self.request is not None:
            return BatchItem(self.key or "", self.request)
        text = "; ".join(f"{clean_text(path, MAX_PATH)}: {sentence}" for path, sentence in self.problems)
        error = InvalidRowError(text, problems=self.problems)
        error.line, error.key = self.line, self.key
        return BatchItem(self.key or "", error)


def read_template(file: str | None) -> dict[str, Any]:
    """Return the fields that all rows share; empty without a file.

    Raises:
        CommandError: The file cannot be read, or does not hold a JSON object.

    """
    if file is None:
        return {}
    value = load_json_file(file)
    if not isinstance(value, dict):
        msg = f"The template {file} must hold a JSON object with fields of a request, not {describe_shape(value)}."
        raise CommandError(msg, Exit.USAGE)
    return value


def open_rows(file: InputFile, form: Format, template: Mapping[str, Any]) -> Iterator[InputRow]:
    """Return the rows of an input. The header of CSV is read here, before anything begins.

    The iterator raises a CommandError at a line after which rows cannot be recognised.

    Raises:
        CommandError: The CSV has no header, or one with unknown columns.

    """
    rows = _json_rows(file, template) if form == "jsonl" else CsvTable(file, template).rows()
    return _without_repeats(rows)


def _without_repeats(rows: Iterator[InputRow]) -> Iterator[InputRow]:
    """Add a problem to each row that has the key or the order of an earlier one: one order, one session."""
    seen = SeenKeys()
    for row in rows:
        order = canonical_order_url(row.request.payment_session_url) if row.request is not None else None
        problem = None
        if row.key is not None and (first := seen.first_line(f"key {row.key}", row.line)) != row.line:
            problem = (KEY, f"is that of line {first} too")
        elif order is not None and (first := seen.first_line(f"order {order}", row.line)) != row.line:
            problem = ("payment_session_url", f"is that of line {first} too, and an order has one session")
        yield row if problem is None else attrs.evolve(row, request=None, problems=(*row.problems, problem))


class SeenKeys:
    """Texts, each with the line where it appeared first.

    It stores digests, about 120 bytes a text however long the text is.
    """

    def __init__(self) -> None:
        self._lines: dict[bytes, int] = {}

    def first_line(self, text: str, line: int) -> int:
        """Return the line where a text appeared first: `line` itself for a new one."""
        # 15 bytes: two texts of a billion rows share a digest with a probability of 1e-18.
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=15).digest()
        return self._lines.setdefault(digest, line)


def _invalid(line: int, sentence: str) -> InputRow:
    return InputRow(line, None, None, ((LINE, sentence),))


def _row(line: int, key: Any, request: Any, problems: tuple[tuple[str, str], ...] = ()) -> InputRow:
    """Return a row from plain JSON values."""
    url = request.get("payment_session_url") if isinstance(request, dict) else None
    if key is None and isinstance(url, str):
        key = url
    found: list[tuple[str, str]] = list(problems)
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY):
        found.append((KEY, f"must be text of 1 to {_MAX_KEY:,} characters, got {describe_shape(key)}"))
    else:
        check_text(found, KEY, key)
    if request is None:
        found.append(("request", "is required"))
    checked = None
    try:
        checked = codec().structure_request(request) if request is not None else None
    except InvalidRequestError as error:
        found += [("request" if path == LINE else path, sentence) for path, sentence in error.problems]
    valid_key = None if any(path == KEY for path, _ in found) else key
    return InputRow(line, valid_key, None, tuple(found)) if found else InputRow(line, valid_key, checked)


# JSONL


def _json_rows(file: InputFile, template: Mapping[str, Any]) -> Iterator[InputRow]:
    """Yield the rows of lines of `{"key": ..., "request": {...}}`; skip blank lines."""
    for line in file:
        if line is None:
            yield _invalid(file.line, _TOO_LONG)
        elif line.strip():
            yield _json_row(file.line, line, template)


def _json_row(number: int, line: bytes, template: Mapping[str, Any]) -> InputRow:
    try:
        value = codec().load_json(line)
    except ValueError as error:
        return _invalid(number, f"is {error}")
    if not isinstance(value, dict):
        return _invalid(number, f'must be {{"key": ..., "request": {{...}}}}, got {describe_shape(value)}')
    unknown = tuple((name, _UNKNOWN) for name in value if name not in (KEY, "request"))
    return _row(number, value.get(KEY), merge(dict(template), value.get("request")), unknown)


_UNKNOWN = 'is not a field of a line: put the request into "request", next to "key"'


# CSV


class CsvTable:
    """A table whose header names fields of a request. Each row is one line.

    Spreadsheets' habits are accepted: a first line `sep=;`, empty lines, empty rows (`;;;`), empty columns at the end.

    Raises:
        CommandError: There is no header, or one with unknown columns.

    """

    def __init__(self, file: InputFile, template: Mapping[str, Any]) -> None:
        self._file, self._template, self._lines = file, template, iter(file)
        names, self._separator = self._read_names()
        self._columns = read_header(f"{file.name}, line {file.line}", names)
        # A list is filled from its first item on, wherever the item's column is.
        self._order = sorted(
            range(len(names)), key=lambda index: [str(step).zfill(3) for step in self._columns[index].path]
        )

    def rows(self) -> Iterator[InputRow]:
        """Yield every row.

        Raises:
            CommandError: A quoted cell does not end on its line, so the next row's beginning is unknown.

        """
        for line in self._lines:
            number = self._file.line
            text, encoding_error = _decode(line)
            try:
                cells = _cells(text, self._separator)
            except (ValueError, csv.Error) as error:
                yield _invalid(number, f"is not a row of a CSV table: {_csv_error(error)}")
                if text is None or text.count('"') % 2:
                    msg = (
                        f"{self._file.name} has a row that does not end on line {number}. The rows from there on were not "
                        "read; put every row on one line and run it again."
                    )
                    raise CommandError(msg, Exit.FAILED) from None
                continue
            if not any(cell.strip() for cell in cells):
                continue
            yield _invalid(number, encoding_error) if encoding_error else self._row(number, cells)

    def _read_names(self) -> tuple[list[str], str]:
        """Return the header's cells and the separator."""
        cause, declared = "it is empty", ""
        for line in self._lines:
            try:
                text = (line or b"").decode("utf-8-sig")
                if self._file.line == 1 and (found := re.fullmatch(r'"?sep=(.)"?\s*', text, re.IGNORECASE)):
                    declared = found[1]
                    continue
                separator = declared or next((sign for sign in _SEPARATORS if sign in text), ",")
                names = [name.strip() for name in _cells(text, separator)]
            except UnicodeDecodeError as error:
                cause = f"line {self._file.line} is not UTF-8 at byte {error.start}"
                break
            except (ValueError, csv.Error) as error:
                cause = f"line {self._file.line}: {_csv_error(error)}"
                break
            while names and not names[-1]:
                names.pop()
            if names:
                return names, separator
        msg = f"{self._file.name}: {cause}. The first line must be the header of a CSV table in UTF-8."
        raise CommandError(msg, Exit.USAGE)

    def _row(self, number: int, cells: list[str]) -> InputRow:
        columns = self._columns
        while len(cells) > len(columns) and not cells[-1].strip():
            cells.pop()
        if len(cells) != len(columns):
            return _invalid(number, f"has {len(cells)} cells, but the header has {len(columns)}")
        filled = [(columns[index], cells[index]) for index in self._order if cells[index]]
        key = next((cell for column, cell in filled if column.name == KEY), None)
        fields = [(column, cell) for column, cell in filled if column.name != KEY]
        return _row(number, key, fill_template(self._template, fields))


def _decode(line: bytes | None) -> tuple[str | None, str]:
    """Return a line's text, and what is wrong with its encoding."""
    if line is None:
        return None, ""
    try:
        return line.decode(), ""
    except UnicodeDecodeError as error:
        return line.decode("utf-8", "replace"), f"is not UTF-8 at byte {error.start}; save the table as UTF-8"


def _cells(text: str | None, separator: str) -> list[str]:
    """Return the cells of a line.

    Raises:
        ValueError: The line is too long, or the separator cannot be one.
        csv.Error: The line is not a row.

    """
    if text is None:
        raise ValueError(_TOO_LONG)
    return next(csv.reader([text.rstrip("\r\n")], delimiter=separator, strict=True), [])


def _csv_error(error: Exception) -> str:
    """Return the CSV reader's error in words for people who do not write Python."""
    text = str(error)
    if text.startswith("new-line character"):
        return "it has a CR that does not end a line; end lines with LF or with CR and LF"
    if text.startswith("field larger"):
        return f"a cell is longer than {csv.field_size_limit():,} characters"
    return "a quoted cell does not end on this line" if text.startswith("unexpected end") else text
