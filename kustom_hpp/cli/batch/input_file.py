"""The lines of a batch's input: a file or stdin, gzip or not, UTF-8 or UTF-16."""

import codecs
import contextlib
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from kustom_hpp.cli.console import STDIN, CommandError, Exit, print_note, require_stream

MAX_LINE = 8_000_000
"""Bytes. A request of the API's 1,000,000 bytes is shorter, even with every character escaped."""
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 16
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""UTF-32 first: the mark of UTF-16 is its beginning."""


class InputFile:
    """The lines of an input without their ends, in UTF-8.

    `line` is the number of the latest line, from 1. `has_buffered_line` says that the next one has been read already: a
    pipe may deliver a line now and the next in an hour.

    Args:
        name: The file, or `STDIN`.

    Raises:
        CommandError: The file cannot be read.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 0
        self.has_buffered_line = False
        self._decoder: codecs.IncrementalDecoder | None = None
        self._started = False
        try:
            self._file = _open(name)
            # The first two bytes decide, whatever the name says.
            zipped = self._file.peek(len(_GZIP))[: len(_GZIP)] == _GZIP
        except OSError as error:
            msg = f"{name} cannot be read: {error.strerror}. Give a file, or - for stdin."
            raise CommandError(msg, Exit.USAGE) from None
        self._content = gzip.GzipFile(fileobj=self._file) if zipped else self._file

    def __iter__(self) -> Iterator[bytes | None]:
        """Yield every line; None for a line that is too long for a row, which is not stored.

        Raises:
            CommandError: The input is cut off, or has another encoding.

        """
        pending, dropping = b"", False
        while piece := self._read():
            *lines, rest = piece.split(b"\n")
            for index, line in enumerate(lines):
                self.line += 1
                self.has_buffered_line = index + 1 < len(lines)
                whole, too_long = pending + line, dropping
                pending, dropping = b"", False
                yield None if too_long or len(whole) > MAX_LINE else whole
            pending += b"" if dropping else rest
            if len(pending) > MAX_LINE:
                pending, dropping = b"", True
        self.has_buffered_line = False
        if pending or dropping:
            self.line += 1
            yield None if dropping else pending

    def _read(self) -> bytes:
        """Return the next piece in UTF-8; empty at the end."""
        try:
            if not self._started:
                self._started = True
                start = self._content.read(4)
                self._choose_decoder(start)
                if piece := self._to_utf8(start):
                    return piece
            while raw := self._content.read1(_PIECE):
                if piece := self._to_utf8(raw):
                    return piece
            return self._to_utf8(b"")
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            msg = f"{self.name} cannot be read beyond line {self.line} ({reason})."
            raise CommandError(msg, Exit.USAGE) from None

    def _choose_decoder(self, start: bytes) -> None:
        """Choose the encoding by its byte order mark: PowerShell writes UTF-16."""
        for mark, encoding in _BYTE_ORDER_MARKS:
            if start.startswith(mark):
                self._decoder = codecs.getincrementaldecoder(encoding)()
                return
        if b"\0" in start:
            msg = f"{self.name} is not UTF-8 (it seems to be UTF-16 without a byte order mark). Save it as UTF-8."
            raise CommandError(msg, Exit.USAGE)

    def _to_utf8(self, raw: bytes) -> bytes:
        return (
            raw if self._decoder is None else self._decoder.decode(raw, final=not raw).encode("utf-8", "surrogatepass")
        )

    def close(self) -> None:
        """Close a regular file. Idempotent.

        A pipe stays open until the process ends: a thread may be waiting for its next line, and closing would wait too.
        """
        if self.name != STDIN and Path(self.name).is_file():
            self._file.close()


def _open(name: str) -> io.BufferedReader:
    if name != STDIN:
        return Path(name).open("rb")
    stream = require_stream(sys.stdin)
    if stream.isatty():
        print_note("reading", "rows from the keyboard; end them with Ctrl-D.", "dim")
    try:
        # A separate buffer: Python's own end fails fatally if a thread still waits in that of sys.stdin.
        raw = io.FileIO(stream.fileno(), closefd=False)
    except (OSError, ValueError):  # a replaced stream without a file descriptor
        return io.BufferedReader(cast("io.RawIOBase", stream.buffer))
    return io.BufferedReader(raw)


def count_rows(name: str, *, has_header: bool) -> int | None:
    """Return the number of rows of a regular file; None for anything else, which can be read only once."""
    if name == STDIN or not Path(name).is_file():
        return None
    with contextlib.closing(InputFile(name)) as file:
        rows = sum(line is None or bool(line.strip(b' \t\r;,"')) for line in file)
    return max(0, rows - has_header)
