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
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""UTF-32 first: the mark of UTF-16 is its beginning."""


class InputFile:
    """The lines of an input without their ends, in UTF-8. `line` is the number of the latest line, from 1.

    Args:
        name: The file, or `STDIN`.

    Raises:
        CommandError: The file cannot be read.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 0
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
        try:
            content = self._decoded()
            while line := content.readline(MAX_LINE + 1):
                self.line += 1
                if len(line) <= MAX_LINE or line.endswith(b"\n"):
                    yield line.removesuffix(b"\n")
                    continue
                while line and not line.endswith(b"\n"):
                    line = content.readline(MAX_LINE)
                yield None
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            msg = f"{self.name} cannot be read beyond line {self.line} ({reason})."
            raise CommandError(msg, Exit.USAGE) from None

    def _decoded(self) -> io.BufferedIOBase:
        """Return the input in UTF-8, by its byte order mark: PowerShell writes UTF-16, which is read as a whole."""
        start = self._content.peek(4)[:4]
        for mark, encoding in _BYTE_ORDER_MARKS:
            if start.startswith(mark):
                return io.BytesIO(self._content.read().decode(encoding).encode("utf-8", "surrogatepass"))
        if b"\0" in start:
            msg = f"{self.name} is not UTF-8 (it seems to be UTF-16 without a byte order mark). Save it as UTF-8."
            raise CommandError(msg, Exit.USAGE)
        return self._content

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
