"""The output of a batch: one line of JSON for each row, written when the row ends."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch import Outcome
from kustom_hpp.cli.batch.input_rows import InvalidRowError
from kustom_hpp.cli.console import STDIN, CommandError, Exit, redirect_to_devnull, require_stream
from kustom_hpp.errors import HPPError, InvalidRequestError


def outcome_line(outcome: Outcome) -> bytes:
    """Return an outcome as JSON: the session as the API sent it, nothing of the request.

    The key of a row without a valid key is null.
    """
    session, error = outcome.session, outcome.error
    correlation_id = error.correlation_id if error is not None else session.info.correlation_id if session else None
    fields = {
        "key": error.key if isinstance(error, InvalidRowError) else outcome.key,
        "state": outcome.state,
        "session": None if session is None else codec().unstructure(session),
        "error": None if error is None else _error(error),
        "attempts": outcome.attempts,
        "correlation_id": correlation_id,
        "earlier_run": outcome.earlier_run,
    }
    return codec().encode_model(fields)


def _error(error: HPPError) -> dict[str, Any]:
    """Return an error's class, its text, and the facts by which a script distinguishes cases."""
    kind = InvalidRequestError if isinstance(error, InvalidRowError) else type(error)
    fields: dict[str, Any] = {"type": kind.__name__, "message": str(error), "delivery": error.delivery}
    for name in ("status", "code", "session_id", "line"):
        if (value := getattr(error, name, None)) is not None:
            fields[name] = value
    return fields


class OutputFile:
    """The file of the output lines, overwritten, or stdout. A line has been written when `write` returns.

    Args:
        name: The file; `STDIN`, which is "-" on the command line, for stdout.

    Raises:
        CommandError: The file cannot be created, or does not accept a line.

    """

    def __init__(self, name: str) -> None:
        self.name = "stdout" if name == STDIN else name
        self._file: BinaryIO
        self._has_failed = False
        try:
            if name == STDIN:
                stream = require_stream(sys.stdout)
                stream.flush()
                self._file = stream.buffer
            else:
                self._file = Path(name).open("wb")  # noqa: SIM115 - closed below
        except OSError as error:
            msg = f"{self.name} cannot be written: {error.strerror}. Nothing was sent."
            raise CommandError(msg, Exit.USAGE) from None

    def write(self, line: bytes) -> None:
        """Write one line."""
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> CommandError:
        self._has_failed = True
        if self.name == "stdout":
            redirect_to_devnull(sys.stdout)
        msg = (
            f"{self.name} does not accept more lines ({error.strerror}), so the batch stopped. The journal has every "
            "outcome; run the same command again to write them all."
        )
        return CommandError(msg, Exit.FAILED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.name == "stdout":
            return
        try:
            self._file.close()
        except OSError as failed:
            if not self._has_failed:  # closing tries the last write again
                raise self._failure(failed) from None
