"""`kustom-hpp read`, `wait`, `disable`, `distribute`: what can be done with a session that exists."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from attrs import frozen
from cyclopts import Parameter

from kustom_hpp._polling import MIN_POLL_INTERVAL, check_poll_interval
from kustom_hpp._protocol.codec import codec
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import CommandError, Exit, print_note, report_error, write_line
from kustom_hpp.cli.requests import SECONDS, load_json_file, retry_notice_hook
from kustom_hpp.client import HPPClient
from kustom_hpp.config import OnUnknown
from kustom_hpp.errors import (
    ApiError,
    AuthenticationError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    HPPError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    clean_text,
)
from kustom_hpp.models import (
    Distribution,
    EmailDistribution,
    SessionDetails,
    SessionStatus,
    SmsDistribution,
    TokenDistribution,
    distribution_from_json,
)

T = TypeVar("T")

_PLAIN = ("session_id", "status", "updated_at", "expires_at", "order_id", "klarna_reference")
"""What tells how a session stands, and nothing about a person."""


def _check_poll(_: Any, value: float) -> None:
    """For cyclopts: a ValueError is a usage error."""
    try:
        check_poll_interval(value)
    except ConfigError:
        msg = f"It must be a finite number of seconds from {MIN_POLL_INTERVAL}."
        raise ValueError(msg) from None


def read(
    session: str,
    /,
    *,
    connection: ConnectionOptions | None = None,
    all: Annotated[bool, Parameter(negative="")] = False,  # noqa: A002 - the option's name
    deadline: Annotated[float | None, SECONDS] = None,
) -> int:
    """Read how a session stands: one line of JSON on stdout.

    It is the session as the API reference spells it: session_id, status, order_id and so on. What may be personal data
    or a secret (customer, manual_identification, authorization_token, fields newer than this release) is left out unless
    you ask for it with --all: output ends up in logs.

    A read changes nothing. Where it fails the exit code is 1, never 4, and it is safe to run it again.

    Args:
        session: The session's id.
        connection: Where to call and as whom.
        all: Everything that the API answers, personal data too.
        deadline: Seconds for the whole call, all attempts and waits.

    """
    client = _client(connection, READ_MESSAGES)
    details = _run(client, client.read_session(session, deadline=deadline), READ_MESSAGES)
    if isinstance(details, Exit):
        return details
    _write(details, whole=all)
    return Exit.OK


def wait(
    session: str,
    /,
    *,
    deadline: Annotated[float, SECONDS],
    connection: ConnectionOptions | None = None,
    poll: Annotated[float, Parameter(validator=_check_poll)] = 2.0,
    all: Annotated[bool, Parameter(negative="")] = False,  # noqa: A002 - the option's name
) -> int:
    """Wait for the end of a session: exit code 0 when it is paid.

    Each new status is told on stderr. At the end (COMPLETED, CANCELLED or DISABLED) stdout gets what `read` writes. Only
    COMPLETED is paid: CANCELLED and DISABLED exit with 1, as do a session that is gone and a deadline that passes.

    What passes by itself (no connection, a lost answer, too many requests) does not end the wait.

    Args:
        session: The session's id.
        deadline: Seconds to wait at most.
        connection: Where to call and as whom.
        poll: Seconds between two reads, from 0.5.
        all: Everything that the API answers, personal data too.

    """
    told: list[SessionStatus | str | None] = []

    def on_read(details: SessionDetails) -> None:
        if not told or told[-1] != details.status:
            told.append(details.status)
            print_note("status", clean_text(details.status or "none"), "dim")

    client = _client(connection, READ_MESSAGES)
    waiting = client.wait_for_session(session, deadline=deadline, poll=poll, on_read=on_read)
    details = _run(client, waiting, READ_MESSAGES)
    if isinstance(details, Exit):
        return details
    _write(details, whole=all)
    if details.status == SessionStatus.COMPLETED:
        return Exit.OK
    print_note("not paid", f"the session is {clean_text(details.status or '')}.", "bold yellow")
    return Exit.FAILED


def disable(
    session: str,
    /,
    *,
    connection: ConnectionOptions | None = None,
    deadline: Annotated[float | None, SECONDS] = None,
) -> int:
    """Disable a session for good: the consumer's page shows an error from then on.

    Doing it twice does no harm: where it fails the exit code is 1, never 4, and it is safe to run it again. A session
    that is completed cannot be disabled.

    Args:
        session: The session's id.
        connection: Where to call and as whom.
        deadline: Seconds for the whole call, all attempts and waits.

    """
    client = _client(connection, DISABLE_MESSAGES)
    failed = _run(client, client.disable_session(session, deadline=deadline), DISABLE_MESSAGES)
    if failed is not None:
        return failed
    print_note("disabled", "the session's page is closed for good.", "green")
    return Exit.OK


def distribute(
    session: str,
    file: str | None = None,
    /,
    *,
    connection: ConnectionOptions | None = None,
    email: str | None = None,
    phone: str | None = None,
    phone_country: str | None = None,
    access_id: str | None = None,
    on_unknown: OnUnknown = "raise",
    deadline: Annotated[float | None, SECONDS] = None,
) -> int:
    """Send a session's link to the consumer: by e-mail, by SMS, or to an app by its code.

    FILE holds the request as the API reference spells it:

        {"method": "email", "contact_information": {"email": "..."}}

    Or give one of --email, --phone with --phone-country, --access-id. Mind that other users of this machine can see the
    arguments of a command, and that a contact is personal data: FILE, or - for stdin, shows it to nobody.

    What may have been processed is not sent again: then the exit code is 4, and the message may have been sent.

    Args:
        session: The session's id.
        file: The request's file, or - for stdin.
        connection: Where to call and as whom.
        email: The address to send an e-mail to.
        phone: The number to send an SMS to.
        phone_country: The number's country, two capital letters (ISO 3166-1 alpha-2).
        access_id: What the consumer's QR code says.
        on_unknown: "resend" sends again what may have been processed, at the risk of a second message.
        deadline: Seconds for the whole call, all attempts and waits.

    """
    client = _client(connection, DISTRIBUTE_MESSAGES)
    request = _request(file, email=email, phone=phone, phone_country=phone_country, access_id=access_id)
    for path, sentence in request.warnings():
        print_note("warning", f"{path}: {sentence}", "yellow")
    sending = client.distribute_session(session, request, deadline=deadline, on_unknown=on_unknown)
    failed = _run(client, sending, DISTRIBUTE_MESSAGES)
    if failed is not None:
        return failed
    print_note("sent", f"the API has taken the message ({request.method}); it may be on its way for minutes.", "green")
    return Exit.OK


def _request(file: str | None, **given: str | None) -> Distribution:
    """The one request that the arguments tell.

    Raises:
        CommandError: they tell none, or several, or the file cannot be read.
        InvalidRequestError: it is no request that the API takes.

    """
    email, phone, country, access_id = (given[name] for name in ("email", "phone", "phone_country", "access_id"))
    ways = [way is not None for way in (file, email, phone, access_id)]
    if sum(ways) != 1 or (phone is None) != (country is None):
        msg = "Give one of FILE (or - for stdin), --email, --phone with --phone-country, --access-id."
        raise CommandError(msg, Exit.USAGE)
    if file is not None:
        return distribution_from_json(load_json_file(file))
    if email is not None:
        return EmailDistribution(email=email)
    if phone is not None and country is not None:
        return SmsDistribution(phone=phone, phone_country=country)
    return TokenDistribution(access_id=access_id or "")


@frozen(kw_only=True)
class CallMessages:
    """What is said of one kind of call."""

    in_doubt: str
    """Of an unknown outcome."""
    interrupted: str
    """Of an interruption before anything was sent."""
    repeatable: bool = True
    """An unknown outcome is no more than a failure."""


READ_MESSAGES = CallMessages(in_doubt="it is safe to run it again.", interrupted="nothing was changed.")
DISABLE_MESSAGES = CallMessages(
    in_doubt="it may be disabled already, and it is safe to run it again.", interrupted="nothing was changed."
)
DISTRIBUTE_MESSAGES = CallMessages(
    in_doubt="the message may have been sent, and running it again may send it twice.",
    interrupted="nothing was sent.",
    repeatable=False,
)


def _client(connection: ConnectionOptions | None, words: CallMessages) -> HPPClient:
    return (connection or ConnectionOptions()).client(hooks=[retry_notice_hook(words.in_doubt, words.interrupted)])


def _run(client: HPPClient, call: Coroutine[Any, Any, T], words: CallMessages) -> T | Exit:
    """What a call gives, or the exit code of its failure."""

    async def run() -> T:
        async with client:
            return await call

    try:
        return asyncio.run(run())
    except HPPError as error:
        code = report_error(error, _next_step(error, words))
        return Exit.FAILED if words.repeatable and code is Exit.UNKNOWN else code


def _next_step(error: HPPError, words: CallMessages) -> str:
    """What to do next, where the error's own text does not say it."""
    if isinstance(error, OutcomeUnknownError):
        return words.in_doubt.capitalize() if isinstance(error, ApiError) else ""
    return next((text for kinds, text in NEXT_STEPS if isinstance(error, kinds)), "")


NEXT_STEPS: tuple[tuple[type[HPPError] | tuple[type[HPPError], ...], str], ...] = (
    ((ConfigError, AuthenticationError), "'kustom-hpp check' shows what is set."),
    (PermissionDeniedError, "Ask Kustom whether this key may use the Hosted Payment Page."),
    (RateLimitError, "It is safe to run it again, more slowly."),
    (ConnectError, "It is safe to run it again; 'kustom-hpp check --online' tells whether the host answers."),
    (DeadlineExceededError, "It is safe to run it again, with more time (--deadline)."),
)
"""By class, the first that fits."""


def _write(details: SessionDetails, *, whole: bool) -> None:
    """The details on stdout; without --all, what is left out is named on stderr."""
    plain: dict[str, Any] = codec().unstructure(details)
    hidden = [] if whole else [name for name in plain if name not in _PLAIN]
    write_line(codec().encode_model({name: value for name, value in plain.items() if name not in hidden}))
    if hidden:
        print_note("left out", f"{', '.join(hidden)}; --all writes everything.", "dim")
