"""Where a batch's lines come from: a file or stdin, gzip or not, one line at a time."""

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from kustom_hpp.cli.console import STDIN, CommandError, Exit, print_note, require_stream

LONGEST_LINE = 8_000_000
"""Bytes. A request of the 1,000,000 that the API takes is shorter, even with every character escaped."""
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 16


class InputFile:
    """The lines of an input, each without its end: `line` is the number of the latest, from 1.

    `waiting` tells whether the next one has been read already, so that asking for it waits for nobody: a pipe may give a
    line now and the next in an hour.

    Args:
        name: the file, or `STDIN`.

    Raises:
        CommandError: it cannot be read.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 0
        self.has_buffered_line = False
        try:
            self._file = _open(name)
            # Told by its first two bytes, whatever its name.
            zipped = self._file.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
        except OSError as error:
            msg = f"{name} cannot be read: {error.strerror}. Give a file, or - for stdin."
            raise CommandError(msg, Exit.USAGE) from None
        self._content = gzip.GzipFile(fileobj=self._file) if zipped else self._file

    def __iter__(self) -> Iterator[bytes | None]:
        """Every line; None for one that is too long to be a row, and is not kept.

        Raises:
            CommandError: the input breaks off.

        """
        kept, dropping = b"", False
        while piece := self._read():
            *lines, rest = piece.split(b"\n")
            for index, line in enumerate(lines):
                self.line += 1
                self.has_buffered_line = index + 1 < len(lines)
                whole, too_long = kept + line, dropping
                kept, dropping = b"", False
                yield None if too_long or len(whole) > LONGEST_LINE else whole
            kept += b"" if dropping else rest
            if len(kept) > LONGEST_LINE:
                kept, dropping = b"", True
        self.has_buffered_line = False
        if kept or dropping:
            self.line += 1
            yield None if dropping else kept

    def _read(self) -> bytes:
        try:
            return self._content.read1(_PIECE)
        except (OSError, EOFError, zlib.error) as error:
            why = getattr(error, "strerror", None) or error
            msg = f"{self.name} cannot be read beyond line {self.line} ({why})."
            raise CommandError(msg, Exit.USAGE) from None

    def close(self) -> None:
        """Close a regular file. Idempotent.

        A pipe is left to the end of the process: a thread may be waiting for its next line, and whoever closes what
        another thread reads waits for that line too.
        """
        if self.name != STDIN and Path(self.name).is_file():
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _open(name: str) -> io.BufferedReader:
    if name != STDIN:
        return Path(name).open("rb")
    stream = require_stream(sys.stdin)
    if stream.isatty():
        print_note("reading", "rows from the keyboard; end them with Ctrl-D.", "dim")
    try:
        # A buffer of our own: a thread that still waits in that of sys.stdin makes Python's own end a fatal error.
        raw = io.FileIO(stream.fileno(), closefd=False)
    except (OSError, ValueError):  # somebody put another stream in its place
        return io.BufferedReader(cast("io.RawIOBase", stream.buffer))
    return io.BufferedReader(raw)


def count_rows(name: str, *, quoted: bool) -> int | None:
    """How many rows a regular file has; None for anything else, which can be read but once.

    Args:
        name: of the file.
        quoted: a line's end between two quotes ends no row, and the first row is the header: CSV.

    """
    if name == STDIN or not Path(name).is_file():
        return None
    rows, quotes = 0, 0
    with InputFile(name) as source:
        for line in source:
            quotes += line.count(b'"') if quoted and line else 0
            rows += (line is None or bool(line.strip())) and quotes % 2 == 0
    return max(0, rows - 1) if quoted else rows
