"""Output and exit codes: results go to stdout, everything else to stderr."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import IO, Any, TextIO, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kustom_hpp.cli.next_steps import CallMessages, next_step
from kustom_hpp.errors import (
    AuthenticationError,
    ConfigError,
    HPPError,
    InvalidRequestError,
    OutcomeUnknownError,
    clean_text,
)

STDIN = "<stdin>"
"""The name of stdin: `app.run` puts it in the place of the argument "-"."""
_PIPE_WIDTH = 400
"""Columns for a file or a pipe: no table folds a URL that a script looks for."""
_MAX_CELL = 4_000
"""Characters of a table's cell."""


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    """Usage or invalid input."""
    CONFIG = 3
    """Configuration or authentication."""
    UNKNOWN = 4
    """An outcome is unknown; wins over FAILED, and not over the others."""
    INTERRUPTED = 130


class CommandError(Exception):
    """A failure of a command that is not an HPPError, with its exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code


class BestEffortStream:
    """A stream that loses what it cannot write.

    A closed pipe (Ctrl-C ends `tee` first), a full disk or a closed terminal must not end a batch or change an exit code.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or lose it."""
        with contextlib.suppress(ValueError):  # closed
            try:
                return self._stream.write(text)
            except OSError:
                redirect_to_devnull(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush the stream if it works."""
        with contextlib.suppress(ValueError):
            try:
                self._stream.flush()
            except OSError:
                redirect_to_devnull(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def stdout() -> Console:
    """Return the console for results: plain and wide if stdout is not a terminal."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return the console for everything that is not a result."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    # Without a file, rich uses sys.stderr, or writes nothing if the process started with stderr closed.
    file = cast("IO[str]", BestEffortStream(sys.stderr)) if stderr and sys.stderr is not None else None
    settings: dict[str, Any] = {
        "file": file, "stderr": stderr, "highlight": False, "markup": False, "emoji": False,
    }  # fmt: skip
    console = Console(**settings)
    return console if console.is_terminal else Console(**settings, width=_PIPE_WIDTH)


def table(title: str | None, columns: Iterable[str], rows: Iterable[Iterable[str | Text]], **options: Any) -> Table:
    """Return a table without lines. The name of a column of numbers begins with ">"."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False, **options
    )
    for name in columns:
        made.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(clean_text(cell, _MAX_CELL)) for cell in row))
    return made


def write_line(line: bytes) -> None:
    """Write one line to stdout at once, as bytes whatever the terminal's encoding.

    Raises:
        OSError: stdout does not accept it.

    """
    stream = require_stream(sys.stdout)
    stream.flush()
    stream.buffer.write(line + b"\n")
    stream.buffer.flush()


def require_stream(stream: TextIO | None) -> TextIO:
    """Return a standard stream. It is None if the process started with it closed.

    Raises:
        OSError: The stream is closed.

    """
    if stream is None:
        raise OSError(errno.EBADF, "it is closed")
    return stream


def redirect_to_devnull(stream: IO[str] | None) -> None:
    """Point a stream that failed at the null device: Python's flush at exit would fail again and say so."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def print_note(label: str, text: str, style: str, console: Console | None = None) -> None:
    """Print one paragraph to stderr: `label: text`. While a console shows a progress bar, print to that console."""
    console = console or stderr()
    # A terminal wraps at words; in a log file a paragraph stays one line.
    console.print(Text.assemble((f"{label}:", style), " ", text), soft_wrap=not console.is_terminal)


def report_error(error: HPPError, messages: CallMessages | None = None) -> Exit:
    """Print an error and its next step to stderr, and return its exit code."""
    text = str(error).rstrip(".\n")
    if not isinstance(error, InvalidRequestError):  # its text is a list, one problem a line
        text += "."
    print_note("error", f"{text} {next_step(error, messages)}".rstrip(), "bold red")
    code = exit_code(error)
    return Exit.FAILED if code is Exit.UNKNOWN and messages is not None and messages.idempotent else code


def exit_code(error: HPPError) -> Exit:
    """Return the exit code for an error of the library."""
    if isinstance(error, OutcomeUnknownError):
        return Exit.UNKNOWN
    if isinstance(error, (ConfigError, AuthenticationError)):
        return Exit.CONFIG
    return Exit.USAGE if isinstance(error, InvalidRequestError) else Exit.FAILED
