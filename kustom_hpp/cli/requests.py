"""What the commands that call the API have in common: a document in, a deadline, and what a waiting person is told."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from kustom_hpp._protocol.codec import codec
from kustom_hpp.cli.batch.input_file import STDIN
from kustom_hpp.cli.console import CommandError, Exit, print_note, require_stream
from kustom_hpp.config.options import MAX_SECONDS
from kustom_hpp.events import Event, Finished, Hook, Retrying


def check_seconds(_: Any, value: float | None) -> None:
    """For cyclopts: a ValueError is a usage error."""
    if value is not None and not (math.isfinite(value) and value > 0):
        msg = "It must be a finite number of seconds above 0."
        raise ValueError(msg)
    if value is not None and value > MAX_SECONDS:
        msg = f"It must be at most {MAX_SECONDS:,.0f} seconds."
        raise ValueError(msg)


SECONDS = Parameter(validator=check_seconds)
"""What makes an option a time."""


def retry_notice_hook(in_doubt: str, otherwise: str) -> Hook:
    """A hook for a person who waits: that it is tried again, and what an interruption left behind.

    Args:
        in_doubt: what to say of an interruption after which nobody knows.
        otherwise: what to say of any other.

    """

    def tell_event(event: Event) -> None:
        if isinstance(event, Retrying):
            print_note(
                "retrying", f"attempt {event.attempt} failed ({event.error}), next in {event.wait:.1f} s.", "yellow"
            )
        elif isinstance(event, Finished) and event.cancelled:
            unknown = event.delivery is not None and event.delivery.may_have_taken_effect
            print_note("interrupted", in_doubt if unknown else otherwise, "bold yellow")

    return tell_event


def load_json_file(file: str) -> Any:
    """The JSON in a file, or on stdin for `STDIN`.

    Raises:
        CommandError: the file cannot be read, or holds no JSON.

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
        msg = f"{file} is {reason}. Nothing was sent: it must hold one request as a JSON object, in UTF-8."
        raise CommandError(msg, Exit.USAGE) from None


def _read_stdin() -> bytes:
    stream = require_stream(sys.stdin)
    if stream.isatty():
        print_note("reading", "a request as JSON from the keyboard; end it with Ctrl-D.", "dim")
    return stream.buffer.read()


def _json_error_position(body: bytes) -> str | None:
    """What is wrong with JSON text by line and column: the codec counts characters only, as an answer has one line."""
    try:
        json.loads(body.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}" if body.strip() else "empty"
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    except (ValueError, RecursionError):
        pass  # a number or a nesting too big for anybody
    return None
