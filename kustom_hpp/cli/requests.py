"""What the commands that call the API share: one call of a client, a JSON document, a deadline."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cyclopts import Parameter

from kustom_hpp._protocol.codec import codec
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import STDIN, CommandError, Exit, print_note, report_error, require_stream
from kustom_hpp.cli.next_steps import CallMessages
from kustom_hpp.config.options import check_positive
from kustom_hpp.errors import HPPError
from kustom_hpp.events import Event, Finished, Retrying

if TYPE_CHECKING:
    from kustom_hpp.client import HPPClient

T = TypeVar("T")


def number(check: Callable[..., None], **options: Any) -> Parameter:
    """Return the annotation of a number that a check of the library validates.

    The check raises a ConfigError, which is a ValueError: cyclopts' usage error.
    """

    def validate(_: Any, value: float | None) -> None:
        if value is not None:
            check("It", value, **options)

    return Parameter(validator=validate)


SECONDS = number(check_positive)
"""The annotation of an option in seconds."""


def call(client: "HPPClient", coroutine: Coroutine[Any, Any, T], messages: CallMessages) -> T | Exit:
    """Run a call of a client and close the client. Return the call's result, or the exit code of its failure."""

    async def run() -> T:
        async with client:
            return await coroutine

    try:
        return asyncio.run(run())
    except HPPError as error:
        return report_error(error, messages)


def open_client(connection: ConnectionOptions | None, messages: CallMessages) -> "HPPClient":
    """Return a client that reports its retries, and the state after an interruption."""

    def print_event(event: Event) -> None:
        if isinstance(event, Retrying):
            text = f"attempt {event.attempt} failed ({event.error}), next in {event.wait:.1f} s."
            print_note("retrying", text, "yellow")
        elif isinstance(event, Finished) and event.cancelled:
            unknown = event.delivery is not None and event.delivery.may_have_taken_effect
            print_note("interrupted", messages.in_doubt if unknown else messages.nothing_happened, "bold yellow")

    return (connection or ConnectionOptions()).client(hooks=[print_event])


def load_json_file(file: str) -> Any:
    """Return the JSON value in a file, or on stdin for `STDIN`.

    Raises:
        CommandError: The file cannot be read, or is not JSON.

    """
    if file == STDIN and sys.stdin is not None and sys.stdin.isatty():
        print_note("reading", "a request as JSON from the keyboard; end it with Ctrl-D.", "dim")
    body = read_file(file, "a JSON object")
    try:
        return codec().load_json(body)
    except ValueError as error:
        reason = _json_error_position(body) or error
        msg = f"{file} is {reason}. Nothing was sent; give one JSON object in UTF-8."
        raise CommandError(msg, Exit.USAGE) from None


def read_file(file: str, content: str) -> bytes:
    """Return the bytes of a file, or of stdin for `STDIN`.

    Raises:
        CommandError: The file cannot be read.

    """
    try:
        if file != STDIN:
            return Path(file).read_bytes()
        return require_stream(sys.stdin).buffer.read()
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}. Give a file with {content}, or - for stdin."
        raise CommandError(msg, Exit.USAGE) from None


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
