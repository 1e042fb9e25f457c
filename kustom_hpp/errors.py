"""Everything that this library raises, drawn as a tree.

    HPPError(Exception)               .delivery .attempts .correlation_id .cause
      ConfigError(ValueError)         the settings cannot work                        nothing attempted
      InvalidRequestError(ValueError) the documents forbid this request: .problems    nothing attempted
      CallbackError(ValueError)       a callback's body that is none                  no call at all
      ClientClosedError               the client was closed                           nothing attempted
      WrongLoopError                  another event loop, or a forked process         nothing attempted
      DeadlineExceededError           time ran out while waiting: .details            NOT_SENT
      LeaseLostError                  may_send refused: another run may own the row   NOT_SENT
      ConnectError                    no connection: .timed_out                       NOT_SENT
        CertificateError              the server's certificate is not good            NOT_SENT
      OutcomeUnknownError             it may exist: never repeat it                   UNKNOWN or ACCEPTED
        LostResponseError               no answer, or a broken one: .timed_out
        DecodeError                   a 2xx that cannot be read: .body                ACCEPTED
      ApiError                        the API answered no: .status .code .messages .retry_after .body
        BadRequestError 400, AuthenticationError 401, PermissionDeniedError 403,
        NotFoundError 404, RateLimitError 429, any other 4xx                          REJECTED
        ServerError 5xx               also an OutcomeUnknownError                     UNKNOWN
        UnexpectedStatusError         101, 3xx, 408: also an OutcomeUnknownError      UNKNOWN
      JournalError, BatchStoppedError, DuplicateSessionError                                          a batch

The invariant, for every error and every state of a call:
`isinstance(error, OutcomeUnknownError) == (error.delivery in {Delivery.UNKNOWN, Delivery.ACCEPTED})`.
So around a create `except OutcomeUnknownError` means "the session may exist, never send it again", and `except HPPError`
after it means "it does not exist". A read changes nothing: whatever it ends with, it may be repeated, and what is known
of it is known of its last attempt alone.

Every error can be pickled and copied, and none holds an object of another library: what went wrong below is told as text
in `cause`.
"""

from typing import Any, ClassVar

from kustom_hpp._messages import Delivery

_TEXT_CAP = 512
"""Characters of a server's text that an error shows; the rest is cut (a server may send megabytes)."""


def clean_text(text: str, cap: int = _TEXT_CAP) -> str:
    """A server's text made fit for a log line: control and format characters escaped, at most `cap` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:cap])
    return shown[:cap] + "…" if len(text) > cap or len(shown) > cap else shown


class HPPError(Exception):
    """The root of all errors of this library. It does not exist unless it is an `OutcomeUnknownError`.

    Attributes:
        delivery: what is known about the whole call, over all its attempts (of a read, about the last one alone); None
            where no request was made.
        attempts: how many requests were made.
        correlation_id: the API's id for the request; quote it when you write to Kustom's support.
        cause: what went wrong below, as text: class, errno and phase; None where there is nothing below.

    """

    delivery: Delivery | None = None
    attempts: int = 0
    correlation_id: str | None = None
    cause: str | None = None

    _default_delivery: ClassVar[Delivery | None] = None

    def __init__(
        self,
        message: str = "",
        *,
        delivery: Delivery | None = None,
        attempts: int = 0,
        correlation_id: str | None = None,
        cause: str | None = None,
    ) -> None:
        # Only the message is an argument of the exception, so the default pickling works: it calls the class with
        # `args` and then restores the attributes.
        super().__init__(message)
        self.delivery = delivery if delivery is not None else self._default_delivery
        self.attempts = attempts
        self.correlation_id = correlation_id
        self.cause = cause


class ConfigError(HPPError, ValueError):
    """The settings cannot work, or contradict each other. Nothing was attempted."""


class InvalidRequestError(HPPError, ValueError):
    """The documents forbid this request. Nothing was attempted.

    Attributes:
        problems: every problem, as (JSON path, sentence). The sentences tell a value's shape, never the value.

    """

    problems: tuple[tuple[str, str], ...] = ()

    def __init__(self, message: str = "", *, problems: tuple[tuple[str, str], ...] = (), **facts: Any) -> None:
        if problems and not message:
            lines = "".join(f"\n  {path}: {sentence}" for path, sentence in problems)
            message = f"the request is not valid, nothing was sent:{lines}"
        super().__init__(message, **facts)
        self.problems = problems


class CallbackError(HPPError, ValueError):
    """The body of a status callback that is none: no JSON object, too long, or nested too deep. It shows nothing of it."""


class ClientClosedError(HPPError):
    """The client was closed. It stays closed: make a new one. Nothing was attempted."""


class WrongLoopError(HPPError):
    """The client belongs to another event loop or to the process that this one was forked from. Nothing was attempted."""


class DeadlineExceededError(HPPError):
    """The deadline passed while waiting: for the call's turn, so that nothing was sent, or for the end of a session.

    Attributes:
        details: of `wait_for_session`, how the session stood when it was read last (a `SessionDetails`); None where no
            read told its status, and for all other calls.

    """

    _default_delivery = Delivery.NOT_SENT
    details: Any = None


class LeaseLostError(HPPError):
    """The caller's lease ended before the request was sent (`may_send` returned False). Nothing was sent.

    Another run may have taken the row over. `batch.run` claims the row again before it sends it.
    """

    _default_delivery = Delivery.NOT_SENT


class ConnectError(HPPError):
    """No connection to the API (DNS, TCP, TLS, proxy): nothing was sent.

    Attributes:
        timed_out: True where the connect timeout or the deadline ended it.

    """

    _default_delivery = Delivery.NOT_SENT
    timed_out: bool = False

    def __init__(self, message: str = "", *, timed_out: bool = False, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.timed_out = timed_out


class CertificateError(ConnectError):
    """The server's certificate is expired, not trusted, or for another host. Never tried again: nothing was sent."""


class OutcomeUnknownError(HPPError):
    """The call may have been processed (UNKNOWN) or was processed (ACCEPTED), and its outcome is not known.

    Of `create_session`: the session may exist, or does. Never repeat the call: make a new order and a session for it. The
    lost session's link was shown to nobody and dies within 48 hours. Source: docs.kustom.co, errors in checkout ("create
    a new order").

    Of `distribute_session`: the message may have been sent. Of `read_session` and `disable_session`: it is safe to repeat
    the call; a read changes nothing, so that nothing has to be settled.
    """

    _default_delivery = Delivery.UNKNOWN

    @property
    def resendable(self) -> bool:
        """Whether `on_unknown="resend"` sends it again: never what was accepted."""
        return self.delivery is Delivery.UNKNOWN


class LostResponseError(OutcomeUnknownError):
    """The request left, and no usable answer came back.

    Attributes:
        timed_out: True where the read timeout or the deadline ended the wait.
        last_error: where an earlier attempt of the call was lost, what the last attempt said; else None.

    """

    timed_out: bool = False
    last_error: HPPError | None = None

    def __init__(
        self, message: str = "", *, timed_out: bool = False, last_error: HPPError | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.timed_out = timed_out
        self.last_error = last_error


class DecodeError(OutcomeUnknownError):
    """The API answered 2xx, so a created session exists, but its answer cannot be read. A create is never sent again.

    Attributes:
        status: HTTP status of the answer.
        body: the answer's body, at most 64 KiB of it; empty for a read, whose answer has personal data in it.
        session_id: the session's id, where at least that could be read; `disable_session` takes it. Else None.

    """

    _default_delivery = Delivery.ACCEPTED
    status: int = 0
    body: bytes = b""
    session_id: str | None = None

    def __init__(
        self, message: str = "", *, status: int = 0, body: bytes = b"", session_id: str | None = None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.status = status
        self.body = body
        self.session_id = session_id


class ApiError(HPPError):
    """The API answered, and not with 2xx.

    Attributes:
        status: HTTP status.
        code: the API's `error_code`; None where the body has none.
        messages: the API's `error_messages`, control characters escaped and each cut at 512 characters.
        retry_after: seconds that the answer asks to wait (Retry-After, else x-ratelimit-reset on a 429); None if none.
        body: the answer's body, at most 64 KiB of it.

    Source: docs.kustom.co, errors in checkout: `{error_code, error_messages[], correlation_id}`.

    """

    _default_delivery = Delivery.REJECTED
    status: int = 0
    code: str | None = None
    messages: tuple[str, ...] = ()
    retry_after: float | None = None
    body: bytes = b""

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        code: str | None = None,
        messages: tuple[str, ...] = (),
        retry_after: float | None = None,
        body: bytes = b"",
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.status = status
        self.code = code
        self.messages = messages
        self.retry_after = retry_after
        self.body = body


class BadRequestError(ApiError):
    """400: a field is not as the API wants it."""


class AuthenticationError(ApiError):
    """401: the credentials are missing, wrong, or of the other environment."""


class PermissionDeniedError(ApiError):
    """403: the credentials are good, but not for this."""


class NotFoundError(ApiError):
    """404: the payment session or the HPP session is unknown or has expired.

    Attributes:
        details: of `wait_for_session`, how the session stood when it was read last (a `SessionDetails`); None where it was
            not found at the first read, and for all other calls.

    """

    details: Any = None


class RateLimitError(ApiError):
    """429: over the merchant's quota. Not processed: sent again by itself as far as attempts and budget reach."""


class ServerError(ApiError, OutcomeUnknownError):
    """5xx: it may have been processed. Gateways answer 502, 503 and 504 after the API behind them did the work too."""

    _default_delivery = Delivery.UNKNOWN


class UnexpectedStatusError(ApiError, OutcomeUnknownError):
    """101, 300 to 303, 408 and other odd statuses: it may have been processed. Redirects are never followed."""

    _default_delivery = Delivery.UNKNOWN

    @property
    def resendable(self) -> bool:
        """Of these, 408 alone speaks of a fault that passes; a 303 even says that the work was done."""
        return self.status == 408 and super().resendable  # noqa: PLR2004


class JournalError(HPPError):
    """A batch's journal cannot be used, or cannot keep what it is told: nothing more is sent."""


class BatchStoppedError(HPPError):
    """A batch stopped before its end: the text says why. Rows that were not begun are untouched.

    Attributes:
        last_error: what the row that stopped it ended with; None where no row did.

    """

    last_error: HPPError | None = None


class DuplicateSessionError(HPPError):
    """The API gave one session id to two keys: the batch stops before a customer gets another customer's page."""


STATUS_ERRORS: dict[int, type[ApiError]] = {
    101: UnexpectedStatusError,
    307: ApiError,
    308: ApiError,
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: UnexpectedStatusError,
    429: RateLimitError,
}
"""The one table from status to error. 307 and 308 say "not here": they were not processed and are not followed."""


def error_for_status(status: int) -> type[ApiError]:
    """The class for an answer that is not 2xx; 4xx without a row is an ApiError, 5xx a ServerError, all else odd."""
    if row := STATUS_ERRORS.get(status):
        return row
    if 400 <= status < 500:  # noqa: PLR2004 - the classes of RFC 9110, section 15
        return ApiError
    if 500 <= status < 600:  # noqa: PLR2004
        return ServerError
    return UnexpectedStatusError
