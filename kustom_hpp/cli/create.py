"""`kustom-hpp create`: a request in, a session out."""

import sys
from typing import Annotated

from kustom_hpp._protocol.codec import codec
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import CommandError, Exit, print_note, redirect_to_devnull, require_stream, write_line
from kustom_hpp.cli.next_steps import CREATE
from kustom_hpp.cli.requests import SECONDS, call, load_json_file, open_client
from kustom_hpp.config import OnUnknown


def create(
    file: str,
    /,
    *,
    connection: ConnectionOptions | None = None,
    on_unknown: OnUnknown = "raise",
    deadline: Annotated[float | None, SECONDS] = None,
) -> int:
    """Create one session from a JSON request.

    FILE is one JSON object with the API's field names:

        {"payment_session_url": "https://api.playground.kustom.co/checkout/v3/orders/...",
         "merchant_urls": {"success": "https://shop.example/thanks?hpp={{session_id}}"}}

    The session goes to stdout as one line of JSON; send the consumer to its redirect_url. Everything else goes to stderr.

    The client retries only if the API did not process the request. If the API may have processed it, the command exits with
    4: create a new order. If the API refused it, the command exits with 1 or 3.

    Args:
        file: The request's file, or - for stdin.
        connection: Options that select the API.
        on_unknown: What to do if the API may have processed the request. "raise" exits with 4; "resend" sends it again,
            and a second session is then possible.
        deadline: Seconds for the whole call. Default: none; at most four attempts, the last one starts within 30 seconds.

    """
    client = open_client(connection, CREATE)
    request = codec().structure_request(load_json_file(file))
    for path, sentence in request.warnings():
        print_note("warning", f"{path}: {sentence}", "yellow")
    require_stream(sys.stdout)  # before the session exists
    session = call(client, client.create_session(request, on_unknown=on_unknown, deadline=deadline), CREATE)
    if isinstance(session, Exit):
        return session
    try:
        write_line(codec().encode_model(session))
    except OSError as error:
        redirect_to_devnull(sys.stdout)
        # Without this message a script would run the command again and create a second session.
        msg = (
            f"session {session.session_id} was created, but stdout did not accept it ({error.strerror}). Do not send this "
            "request again; create a new order and session."
        )
        raise CommandError(msg, Exit.UNKNOWN) from None
    return Exit.OK
