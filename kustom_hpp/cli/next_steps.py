"""What the command line says after a failed call: its outcome, and the next step."""

from attrs import frozen

from kustom_hpp.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    CertificateError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    HPPError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
)

RUN_CHECK = "Run 'kustom-hpp check' to see the settings."


@frozen(kw_only=True)
class CallMessages:
    """What to say when a call of one kind ends early."""

    in_doubt: str
    """After an unknown outcome."""
    nothing_happened: str
    """After a refusal, or an interruption before the request was sent."""
    lost: str = ""
    """What becomes of a result that was lost."""
    idempotent: bool = True
    """An unknown outcome is a failure like any other."""


CREATE = CallMessages(
    in_doubt="the session may exist. Do not run it again; create a new order.",
    nothing_happened="nothing was created.",
    lost="The lost session's link was never shown and expires within 48 hours.",
    idempotent=False,
)
READ = CallMessages(in_doubt="it is safe to run it again.", nothing_happened="nothing was changed.")
DISABLE = CallMessages(
    in_doubt="the session may be disabled already. It is safe to run it again.", nothing_happened="nothing was changed."
)
DISTRIBUTE = CallMessages(
    in_doubt="the message may have been sent. Running it again may send it twice.",
    nothing_happened="nothing was sent.",
    idempotent=False,
)

_NEXT_STEPS: tuple[tuple[type[HPPError] | tuple[type[HPPError], ...], str], ...] = (
    ((ConfigError, AuthenticationError), RUN_CHECK),
    (PermissionDeniedError, "Ask Kustom whether this key may use the Hosted Payment Page."),
    (RateLimitError, "It is safe to run it again, more slowly."),
    (CertificateError, ""),
    (ConnectError, "It is safe to run it again; 'kustom-hpp check --online' tests the connection."),
    (DeadlineExceededError, "It is safe to run it again with a longer --deadline."),
)
"""By class; the first match counts."""


def next_step(error: HPPError, messages: CallMessages | None = None) -> str:
    """Return what to do after an error, as far as its text does not say it.

    Args:
        error: The error.
        messages: The messages of the call; None for an error outside a call.

    """
    if messages is not None and isinstance(error, OutcomeUnknownError):
        # The text of the other errors says what is in doubt.
        session_id = getattr(error, "session_id", None)
        sentences = (
            _sentence(messages.in_doubt) if isinstance(error, ApiError) else "",
            f"The session's id is {session_id}." if session_id else "",
            messages.lost,
        )
        return " ".join(filter(None, sentences))
    step = next((text for kinds, text in _NEXT_STEPS if isinstance(error, kinds)), "")
    if messages is None or messages.idempotent or not isinstance(error, ApiError):
        return step
    if isinstance(error, BadRequestError):
        step = "Correct the request and run it again."
    return f"{_sentence(messages.nothing_happened)} {step}".rstrip()


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
