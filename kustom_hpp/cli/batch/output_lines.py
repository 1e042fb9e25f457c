"""What a batch writes: one line of JSON for each row, as it ends."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch import Outcome, OutcomeState
from kustom_hpp.cli.batch.input_rows import InputRow, problems_text
from kustom_hpp.cli.console import CommandError, Exit, redirect_to_devnull, require_stream
from kustom_hpp.errors import HPPError

STDOUT = "-"


def outcome_line(outcome: Outcome) -> bytes:
    """An outcome as JSON, without the line's end: the session as the API answered it, nothing of the request."""
    session, error = outcome.session, outcome.error
    correlation_id = error.correlation_id if error is not None else session.info.correlation_id if session else None
    return _line(
        key=outcome.key,
        state=outcome.state,
        session=None if session is None else codec().unstructure(session),
        error=None if error is None else _error(error),
        attempts=outcome.attempts,
        correlation_id=correlation_id,
        earlier_run=outcome.earlier_run,
    )


def invalid_row_line(row: InputRow) -> bytes:
    """The line of a row that could not be sent; without a key where the row is too broken to have one."""
    error = {"type": "InvalidRequestError", "message": problems_text(row), "delivery": None, "line": row.line}
    return _line(
        key=row.key,
        state=OutcomeState.FAILED,
        session=None,
        error=error,
        attempts=0,
        correlation_id=None,
        earlier_run=False,
    )


def _line(**fields: Any) -> bytes:
    return codec().encode_model(fields)


def _error(error: HPPError) -> dict[str, Any]:
    """What went wrong: its class, its text, and the facts by which a script tells cases apart."""
    fields: dict[str, Any] = {"type": type(error).__name__, "message": str(error), "delivery": error.delivery}
    for name in ("status", "code", "session_id"):
        if (value := getattr(error, name, None)) is not None:
            fields[name] = value
    return fields


class OutputFile:
    """Where the lines go: a file that is written anew, or stdout. Each line is there when `write` returns.

    Raises:
        CommandError: the file cannot be made, or does not take a line.

    """

    def __init__(self, name: str) -> None:
        self.name = "stdout" if name == STDOUT else name
        self._file: BinaryIO
        self._broken = False
        try:
            if name == STDOUT:
                stream = require_stream(sys.stdout)
                stream.flush()
                self._file = stream.buffer
            else:
                self._file = Path(name).open("wb")  # noqa: SIM115 - closed below
        except OSError as error:
            msg = f"{self.name} cannot be written: {error.strerror}. Nothing was sent."
            raise CommandError(msg, Exit.USAGE) from None

    def write(self, line: bytes) -> None:
        """One more line."""
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._full(error) from None

    def _full(self, error: OSError) -> CommandError:
        self._broken = True
        if self.name == "stdout":
            redirect_to_devnull(sys.stdout)
        msg = (
            f"{self.name} does not take more lines ({error.strerror}), so the batch stopped. The journal holds every "
            "outcome: run the same command again, and they are all written."
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
            if not self._broken:  # else it was told, and closing has only tried once more
                raise self._full(failed) from None
