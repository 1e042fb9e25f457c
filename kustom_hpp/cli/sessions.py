"""`kustom-hpp read`, `wait`, `disable` and `distribute`: the commands on a session that exists."""

from typing import Annotated, Any

from cyclopts import Parameter

from kustom_hpp._polling import MIN_POLL_INTERVAL
from kustom_hpp._protocol.codec import codec
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import CommandError, Exit, print_note, write_line
from kustom_hpp.cli.next_steps import DISABLE, DISTRIBUTE, READ
from kustom_hpp.cli.requests import SECONDS, call, load_json_file, number, open_client
from kustom_hpp.config import OnUnknown
from kustom_hpp.config.options import check_positive
from kustom_hpp.errors import clean_text
from kustom_hpp.models import (
    Distribution,
    EmailDistribution,
    SessionDetails,
    SessionStatus,
    SmsDistribution,
    TokenDistribution,
)
from kustom_hpp.models.distributions import distribution_from_json

SessionId = Annotated[str, Parameter(help="The session's id.")]
Whole = Annotated[bool, Parameter(name="--all", help="Write every field, personal data included.")]
Deadline = Annotated[float | None, SECONDS, Parameter(help="Seconds for the whole call.")]
_IMPERSONAL = ("session_id", "status", "updated_at", "expires_at", "order_id", "klarna_reference")
"""The fields that `read` and `wait` show without --all."""


def read(
    session: SessionId,
    /,
    *,
    connection: ConnectionOptions | None = None,
    whole: Whole = False,
    deadline: Deadline = None,
) -> int:
    """Read a session.

    The session goes to stdout as one line of JSON, spelled as in the API reference. Personal data and secrets (customer,
    manual_identification, authorization_token, fields that this release does not know) appear only with --all, because
    output ends up in logs.

    A read changes nothing, so it never exits with 4.
    """
    client = open_client(connection, READ)
    details = call(client, client.read_session(session, deadline=deadline), READ)
    if isinstance(details, Exit):
        return details
    _write(details, whole=whole)
    return Exit.OK


def wait(
    session: SessionId,
    /,
    *,
    deadline: Annotated[float, SECONDS, Parameter(help="Seconds to wait at most.")],
    connection: ConnectionOptions | None = None,
    poll: Annotated[
        float,
        number(check_positive, minimum=MIN_POLL_INTERVAL),
        Parameter(help="Seconds between two reads, at least 0.5."),
    ] = 2.0,
    whole: Whole = False,
) -> int:
    """Wait until a session has a final status.

    The final session goes to stdout as `read` writes it, each new status to stderr. Exits with 0 if the status is
    COMPLETED: the consumer paid. Exits with 1 if it is CANCELLED or DISABLED, if the session is gone, or if the deadline
    passes.

    Temporary failures (no connection, a lost response, the rate limit) do not end the wait.
    """
    statuses: list[SessionStatus | str | None] = []

    def on_read(details: SessionDetails) -> None:
        if not statuses or statuses[-1] != details.status:
            statuses.append(details.status)
            print_note("status", clean_text(details.status or "none"), "dim")

    client = open_client(connection, READ)
    final = client.wait_for_session(session, deadline=deadline, poll=poll, on_read=on_read)
    details = call(client, final, READ)
    if isinstance(details, Exit):
        return details
    _write(details, whole=whole)
    if details.status == SessionStatus.COMPLETED:
        return Exit.OK
    print_note("not paid", f"the session is {clean_text(details.status or '')}.", "bold yellow")
    return Exit.FAILED


def disable(
    session: SessionId,
    /,
    *,
    connection: ConnectionOptions | None = None,
    deadline: Deadline = None,
) -> int:
    """Disable a session permanently.

    The consumer's page shows an error from then on. A completed session cannot be disabled. It is safe to repeat the
    command, so it never exits with 4.
    """
    client = open_client(connection, DISABLE)
    failed = call(client, client.disable_session(session, deadline=deadline), DISABLE)
    if failed is not None:
        return failed
    print_note("disabled", "the session's page is closed permanently.", "green")
    return Exit.OK


def distribute(
    session: SessionId,
    file: Annotated[str | None, Parameter(help="The request's file, or - for stdin.")] = None,
    /,
    *,
    connection: ConnectionOptions | None = None,
    email: Annotated[str | None, Parameter(help="The address for an email.")] = None,
    phone: Annotated[str | None, Parameter(help="The number for an SMS.")] = None,
    phone_country: Annotated[
        str | None, Parameter(help="The number's country, two capital letters (ISO 3166-1 alpha-2).")
    ] = None,
    access_id: Annotated[str | None, Parameter(help="The text of the consumer's QR code.")] = None,
    on_unknown: Annotated[
        OnUnknown,
        Parameter(
            help='"resend" repeats a request that the API may have processed; a second message is then possible.'
        ),
    ] = "raise",
    deadline: Deadline = None,
) -> int:
    """Send a session's link to the consumer.

    Give one of --email, --phone with --phone-country, --access-id, or FILE with the request as the API reference spells
    it:

        {"method": "email", "contact_information": {"email": "..."}}

    Other users of this machine can see a command's arguments. A contact is personal data; prefer FILE, or - for stdin.
    """
    client = open_client(connection, DISTRIBUTE)
    request = _request(file, email, phone, phone_country, access_id)
    for path, sentence in request.warnings():
        print_note("warning", f"{path}: {sentence}", "yellow")
    sent = client.distribute_session(session, request, deadline=deadline, on_unknown=on_unknown)
    failed = call(client, sent, DISTRIBUTE)
    if failed is not None:
        return failed
    print_note("sent", f"the API accepted the message ({request.method}); delivery may take minutes.", "green")
    return Exit.OK


def _request(
    file: str | None, email: str | None, phone: str | None, country: str | None, access_id: str | None
) -> Distribution:
    """Return the request of the arguments.

    Raises:
        CommandError: The arguments give no request or several, or the file cannot be read.
        InvalidRequestError: The request is invalid.

    """
    present = [value is not None for value in (file, email, phone, access_id)]
    if sum(present) != 1 or (phone is None) != (country is None):
        msg = "Give one of FILE (or - for stdin), --email, --phone with --phone-country, --access-id."
        raise CommandError(msg, Exit.USAGE)
    if file is not None:
        return distribution_from_json(load_json_file(file))
    if email is not None:
        return EmailDistribution(email=email)
    if phone is not None and country is not None:
        return SmsDistribution(phone=phone, phone_country=country)
    return TokenDistribution(access_id=access_id or "")


def _write(details: SessionDetails, *, whole: bool) -> None:
    """Write the session to stdout, and the names of the omitted fields to stderr."""
    fields: dict[str, Any] = codec().unstructure(details)
    omitted = [] if whole else [name for name in fields if name not in _IMPERSONAL]
    write_line(codec().encode_model({name: value for name, value in fields.items() if name not in omitted}))
    if omitted:
        print_note("omitted", f"{', '.join(omitted)}; --all writes every field.", "dim")
