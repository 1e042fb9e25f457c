"""What the commands that call the API share: a JSON document, a deadline, notices of retries."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from kustom_hpp._protocol.codec import codec
from kustom_hpp.cli.console import STDIN, CommandError, Exit, print_note, require_stream
from kustom_hpp.config.options import MAX_SECONDS
from kustom_hpp.events import Event, Finished, Hook, Retrying


def check_seconds(_: Any, value: float | None) -> None:
    """Refuse a duration that is not positive and finite: a ValueError is cyclopts' usage error."""
    if value is not None and not (math.isfinite(value) and value > 0):
        msg = "It must be a finite number of seconds above 0."
        raise ValueError(msg)
    if value is not None and value > MAX_SECONDS:
        msg = f"It must be at most {MAX_SECONDS:,.0f} seconds."
        raise ValueError(msg)


SECONDS = Parameter(validator=check_seconds)
"""The annotation of an option in seconds."""


def retry_notice_hook(in_doubt: str, otherwise: str) -> Hook:
    """Return a hook that reports retries, and the state after an interruption.

    Args:
        in_doubt: The text after an interruption whose outcome is unknown.
        otherwise: The text after any other interruption.

    """

    def print_event(event: Event) -> None:
        if isinstance(event, Retrying):
            text = f"attempt {event.attempt} failed ({event.error}), next in {event.wait:.1f} s."
            print_note("retrying", text, "yellow")
        elif isinstance(event, Finished) and event.cancelled:
            unknown = event.delivery is not None and event.delivery.may_have_taken_effect
            print_note("interrupted", in_doubt if unknown else otherwise, "bold yellow")

    return print_event


def load_json_file(file: str) -> Any:
    """Return the JSON value in a file, or on stdin for `STDIN`.

    Raises:
        CommandError: The file cannot be read, or is not JSON.

    """
    try:
        body = _read_stdin() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}. Give a file with a request as JSON, or - for stdin."
        raise CommandError(msg, Exit.USAGE) from None
    try:
        return codec().load_json(body)
    except ValueError as error:
        reason = _json_error_position(body) or error
        msg = f"{file} is {reason}. Nothing was sent; give one request as a JSON object in UTF-8."
        raise CommandError(msg, Exit.USAGE) from None


def _read_stdin() -> bytes:
    stream = require_stream(sys.stdin)
    if stream.isatty():
        print_note("reading", "a request as JSON from the keyboard; end it with Ctrl-D.", "dim")
    return stream.buffer.read()


def _json_error_position(body: bytes) -> str | None:
    """Return what is wrong with JSON text by line and column: the codec gives the character alone."""
    try:
        json.loads(body.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}" if body.strip() else "empty"
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    except (ValueError, RecursionError):
        pass  # a number or a nesting beyond every limit
    return None
