"""`kustom-hpp create`: one request as JSON in, one session as JSON out."""

import asyncio
import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kustom_hpp._codec import codec
from kustom_hpp.cli.output import CommandError, Exit, drop_stdout, note, write_line
from kustom_hpp.cli.source import STDIN
from kustom_hpp.cli.target import Target
from kustom_hpp.client import HPPClient
from kustom_hpp.config import OnUnknown
from kustom_hpp.events import Event, Finished, Retrying
from kustom_hpp.models import CreateSessionRequest, Session


def _check_seconds(_: Any, value: float | None) -> None:
    """For cyclopts: a ValueError is a usage error."""
    if value is not None and not (math.isfinite(value) and value > 0):
        msg = "It must be a finite number of seconds above 0."
        raise ValueError(msg)


def create(
    file: str,
    /,
    *,
    target: Target | None = None,
    on_unknown: OnUnknown = "raise",
    deadline: Annotated[float | None, Parameter(validator=_check_seconds)] = None,
) -> int:
    """Create one session: a request as JSON in, the session as one line of JSON on stdout.

    FILE holds a CreateSessionRequest as the API reference spells it:

        {"payment_session_url": "https://api.playground.kustom.co/checkout/v3/orders/...",
         "merchant_urls": {"success": "https://shop.example/thanks?hpp={{session_id}}"}}

    The session's redirect_url is the page to send the consumer to. Everything that is not the session goes to stderr:
    what is odd about the request, retries, errors.

    What was surely not processed is sent again by itself, what may have been processed never is: then the exit code is
    4, the session may exist, and the way out is a new order.

    Args:
        file: The request's file, or - for stdin.
        target: Where to call and as whom.
        on_unknown: "resend" sends again what may have been processed, at the risk of a second session.
        deadline: Seconds for the whole call, all attempts and waits. Without it, four attempts within 30 seconds, each
            as long as the API may take (35 seconds).

    """
    client = (target or Target()).client(hooks=[_tell_event])
    request = read_request(file)
    for path, sentence in request.warnings():
        note("warning", f"{path}: {sentence}", "yellow")
    session = asyncio.run(_create(client, request, on_unknown, deadline))
    try:
        write_line(codec().dumps(session))
    except OSError as error:
        drop_stdout()
        # Silence here would make a script run it again, and that would be a second session.
        msg = (
            f"session {session.session_id} was created, but stdout did not take it ({error.strerror}). Do not send this "
            "request again: make a new order and a session for it."
        )
        raise CommandError(msg, Exit.UNKNOWN) from None
    return Exit.OK


async def _create(
    client: HPPClient, request: CreateSessionRequest, on_unknown: OnUnknown, deadline: float | None
) -> Session:
    async with client:
        return await client.create_session(request, on_unknown=on_unknown, deadline=deadline)


def _tell_event(event: Event) -> None:
    """What a person who waits wants to know: that it is tried again, and what an interruption left behind."""
    if isinstance(event, Retrying):
        note("retrying", f"attempt {event.attempt} failed ({event.error}), next in {event.wait:.1f} s.", "yellow")
    elif isinstance(event, Finished) and event.cancelled:
        may_exist = event.delivery is not None and event.delivery.may_exist
        text = (
            "the request was on its way and the session may exist: do not send it again, make a new order."
            if may_exist
            else "nothing was created."
        )
        note("interrupted", text, "bold yellow")


def read_request(file: str) -> CreateSessionRequest:
    """The request in a file, or on stdin for `STDIN`.

    Raises:
        CommandError: the file cannot be read, or holds no JSON.
        InvalidRequestError: the JSON is no request that the API takes.

    """
    try:
        body = _read_stdin() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}. Give a file with a request as JSON, or - for stdin."
        raise CommandError(msg, Exit.USAGE) from None
    try:
        value = codec().load(body)
    except ValueError as error:
        msg = (
            f"{file} is {_where(body) or error}. Nothing was sent: it must hold one request as a JSON object, in UTF-8."
        )
        raise CommandError(msg, Exit.USAGE) from None
    return codec().request_from(value)


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        note("reading", "a request as JSON from the keyboard; end it with Ctrl-D.", "dim")
    return sys.stdin.buffer.read()


def _where(body: bytes) -> str | None:
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
