"""What the commands say, and where: results on stdout, everything else on stderr; and how they end."""

import contextlib
import errno
import os
import sys
from enum import IntEnum
from typing import IO, Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from kustom_hpp.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    CertificateError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    HPPError,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
)

_NO_TERMINAL = 400
"""Columns for a file or a pipe: wide enough that no table folds a URL that a script looks for."""


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    """Usage or bad input."""
    CONFIG = 3
    """Configuration or authentication."""
    UNKNOWN = 4
    """An outcome is unknown; wins over FAILED."""
    INTERRUPTED = 130


class CommandError(Exception):
    """What ends a command that is not an HPPError: told in one paragraph, with its exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code


def stdout() -> Console:
    """The console for results; plain and wide where stdout is no terminal."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for everything that is not the result."""
    return _console(stderr=True)


class BestEffortStream:
    """stderr, for those who have something better to do than to be heard: what it does not take is lost, and no error.

    A reader that went away (Ctrl-C ends `tee` first), a full disk or a closed terminal must end no batch and change no exit
    code.
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


def _console(*, stderr: bool) -> Console:
    # Where stderr is closed from the start there is none, and rich writes nowhere by itself.
    file = cast("IO[str]", BestEffortStream(sys.stderr)) if stderr and sys.stderr is not None else None
    settings: dict[str, Any] = {
        "file": file, "stderr": stderr, "highlight": False, "markup": False, "emoji": False,
    }  # fmt: skip
    console = Console(**settings)
    return console if console.is_terminal else Console(**settings, width=_NO_TERMINAL)


def write_line(line: bytes) -> None:
    """One line of machine-readable output on stdout, as these bytes whatever the terminal's encoding, and at once.

    Raises:
        OSError: stdout does not take it.

    """
    stream = require_stream(sys.stdout)
    stream.flush()
    stream.buffer.write(line + b"\n")
    stream.buffer.flush()


def require_stream(stream: TextIO | None) -> TextIO:
    """A standard stream, which is None where the process was started with it closed.

    Raises:
        OSError: it is.

    """
    if stream is None:
        raise OSError(errno.EBADF, "it is closed")
    return stream


def redirect_to_devnull(stream: IO[str] | None) -> None:
    """After stdout or stderr has failed: Python would try, fail and complain once more when it flushes at its end."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def print_note(label: str, text: str, style: str, console: Console | None = None) -> None:
    """One paragraph on stderr: `label: text`.

    Args:
        label: what it is.
        text: the paragraph.
        style: of the label.
        console: the one that draws something at the moment, which then makes room; None for one of its own.

    """
    console = console or stderr()
    # A terminal's lines are wrapped at words; in a log file a paragraph stays one line.
    console.print(Text.assemble((f"{label}:", style), " ", text), soft_wrap=not console.is_terminal)


def report_error(error: HPPError, next_step: str | None = None) -> Exit:
    """Say on stderr what happened and what to do next; the exit code that goes with it.

    Args:
        error: what happened.
        next_step: what to do next, where the error's own text does not say it; None for what goes for a create.

    """
    if next_step is None:
        next_step = _next_step(error)
    text = str(error).rstrip(".\n")
    if not isinstance(error, InvalidRequestError):  # its text is a list, one line for each problem
        text += "."
    print_note("error", f"{text} {next_step}".rstrip(), "bold red")
    return exit_code(error)


def exit_code(error: HPPError) -> Exit:
    """The exit code for an error of the library."""
    if isinstance(error, OutcomeUnknownError):
        return Exit.UNKNOWN
    if isinstance(error, (ConfigError, AuthenticationError)):
        return Exit.CONFIG
    return Exit.USAGE if isinstance(error, InvalidRequestError) else Exit.FAILED


def _next_step(error: HPPError) -> str:
    """What to do next, where the error's own text does not say it."""
    if isinstance(error, OutcomeUnknownError):
        told = (
            ""
            if not isinstance(error, ApiError)
            else ("The session may exist: do not send this request again, make a new order and a session for it. ")
        )
        session_id = getattr(error, "session_id", None)
        found = f"The session's id is {session_id}. " if session_id else ""
        return f"{told}{found}The lost session's link was shown to nobody and dies within 48 hours."
    return next((words for kinds, words in NEXT_STEPS if isinstance(error, kinds)), "")


NEXT_STEPS: tuple[tuple[type[HPPError], str], ...] = (
    (ConfigError, "'kustom-hpp check' shows what is set."),
    (AuthenticationError, "Nothing was created. 'kustom-hpp check' shows what is set."),
    (PermissionDeniedError, "Nothing was created. Ask Kustom whether this key may use the Hosted Payment Page."),
    (BadRequestError, "Nothing was created: correct the request and run it again."),
    (NotFoundError, "Nothing was created: the order is unknown here or has expired, make a new one at this host."),
    (RateLimitError, "Nothing was created: it is safe to run it again, more slowly."),
    (ApiError, "Nothing was created."),
    (CertificateError, ""),
    (ConnectError, "It is safe to run it again; 'kustom-hpp check --online' tells whether the host answers."),
    (DeadlineExceededError, "It is safe to run it again, with more time (--deadline)."),
)
"""By class, the first that fits."""
