"""`kustom-hpp create`: one request as JSON in, one session as JSON out."""

import asyncio
import sys
from typing import Annotated

from kustom_hpp._protocol.codec import codec
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import CommandError, Exit, print_note, redirect_to_devnull, require_stream, write_line
from kustom_hpp.cli.requests import SECONDS, load_json_file, retry_notice_hook
from kustom_hpp.client import HPPClient
from kustom_hpp.config import OnUnknown
from kustom_hpp.models import CreateSessionRequest, Session


def create(
    file: str,
    /,
    *,
    connection: ConnectionOptions | None = None,
    on_unknown: OnUnknown = "raise",
    deadline: Annotated[float | None, SECONDS] = None,
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
        connection: Where to call and as whom.
        on_unknown: "resend" sends again what may have been processed, at the risk of a second session.
        deadline: Seconds for the whole call, all attempts and waits. Without it, four attempts within 30 seconds, each
            as long as the API may take (35 seconds).

    """
    hook = retry_notice_hook(
        "the request was on its way and the session may exist: do not send it again, make a new order.",
        "nothing was created.",
    )
    client = (connection or ConnectionOptions()).client(hooks=[hook])
    request = read_request(file)
    for path, sentence in request.warnings():
        print_note("warning", f"{path}: {sentence}", "yellow")
    require_stream(sys.stdout)  # or nobody would hear of the session
    session = asyncio.run(_create(client, request, on_unknown, deadline))
    try:
        write_line(codec().encode_model(session))
    except OSError as error:
        redirect_to_devnull(sys.stdout)
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


def read_request(file: str) -> CreateSessionRequest:
    """The request in a file, or on stdin for `STDIN`.

    Raises:
        CommandError: the file cannot be read, or holds no JSON.
        InvalidRequestError: the JSON is no request that the API takes.

    """
    return codec().structure_request(load_json_file(file))
