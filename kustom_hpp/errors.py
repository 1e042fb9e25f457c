"""The errors of this library, as a tree.

    HPPError(Exception)                 .delivery .attempts .correlation_id .cause
      ConfigError(ValueError)           a setting is invalid, or two contradict each other        nothing attempted
      InvalidRequestError(ValueError)   the API's documentation forbids the request: .problems    nothing attempted
      CallbackError(ValueError)         the callback body is invalid                              no call
      ClientClosedError                 the client is closed                                      nothing attempted
      WrongLoopError                    another event loop, or a forked process                   nothing attempted
      DeadlineExceededError             the deadline passed before sending: .details              NOT_SENT
      LeaseLostError                    may_send refused: another run may own the row             NOT_SENT
      ConnectError                      no connection: .timed_out                                 NOT_SENT
        CertificateError                the server's certificate is invalid                       NOT_SENT
      OutcomeUnknownError               the session may exist: do not retry                       UNKNOWN or ACCEPTED
        LostResponseError               no response: .timed_out .last_error
        DecodeError                     an unreadable 2xx: .body .session_id                      ACCEPTED
      ApiError                          the API refused: .status .code .messages .retry_after .body
        BadRequestError 400, AuthenticationError 401, PermissionDeniedError 403,
        NotFoundError 404, RateLimitError 429, any other 4xx                                      REJECTED
        ServerError 5xx                 also an OutcomeUnknownError                               UNKNOWN
        UnexpectedStatusError           101, 3xx, 408: also an OutcomeUnknownError                UNKNOWN
      JournalError, BatchStoppedError, DuplicateSessionError                                      a batch

This holds for every error and every state of a call:
`isinstance(error, OutcomeUnknownError) == (error.delivery in {Delivery.UNKNOWN, Delivery.ACCEPTED})`.
Around a create, `except OutcomeUnknownError` means "the session may exist, do not retry", and `except HPPError` after it
means "the session does not exist". A read changes nothing: it may be repeated after any error, and its error describes the
last attempt alone.

Every error can be pickled and copied. None refers to an object of another library: `cause` describes such an error as text.
"""

from typing import Any, ClassVar

from kustom_hpp._messages import Delivery

__all__ = [
    "ApiError", "AuthenticationError", "BadRequestError", "BatchStoppedError", "CallbackError", "CertificateError",
    "ClientClosedError", "ConfigError", "ConnectError", "DeadlineExceededError", "DecodeError",
    "DuplicateSessionError", "HPPError", "InvalidRequestError", "JournalError", "LeaseLostError",
    "LostResponseError", "NotFoundError", "OutcomeUnknownError", "PermissionDeniedError", "RateLimitError",
    "ServerError", "UnexpectedStatusError", "WrongLoopError",
]  # fmt: skip

MAX_SERVER_TEXT = 512
"""Characters of a server's text in an error. The rest is cut: a server may send megabytes."""


def clean_text(text: str, limit: int = MAX_SERVER_TEXT) -> str:
    """Return a server's text for a log line: control characters escaped, at most `limit` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:limit])
    return shown[:limit] + "…" if len(text) > limit or len(shown) > limit else shown


class HPPError(Exception):
    """Base class. Unless the error is an `OutcomeUnknownError`, the session does not exist.

    Attributes:
        delivery: what is known about the whole call, over all its attempts (for a read, about the last one); None if the
            error came before any attempt. A deadline that passed before an attempt is NOT_SENT.
        attempts: number of attempts. Each one tried to get a connection; not each one sent its request.
        correlation_id: the API's id for the request. Quote it when you write to Kustom's support.
        cause: the underlying failure as text (class, errno and phase); None if there is none.

    """

    delivery: Delivery | None = None
    attempts: int = 0
    correlation_id: str | None = None
    cause: str | None = None

    _default_message: ClassVar[str] = ""
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
        super().__init__(message or self._default_message)
        self.delivery = delivery if delivery is not None else self._default_delivery
        self.attempts = attempts
        self.correlation_id = correlation_id
        self.cause = cause


class ConfigError(HPPError, ValueError):
    """A setting is invalid, or two contradict each other. Nothing was attempted."""


class InvalidRequestError(HPPError, ValueError):
    """The request is invalid by the API's documentation. Nothing was attempted.

    Attributes:
        problems: every problem, as (JSON path, sentence). A sentence describes the shape of a value, never the value.

    """

    problems: tuple[tuple[str, str], ...] = ()

    def __init__(self, message: str = "", *, problems: tuple[tuple[str, str], ...] = (), **facts: Any) -> None:
        if problems and not message:
            lines = "".join(f"\n  {path}: {sentence}" for path, sentence in problems)
            message = f"the request is invalid, nothing was sent:{lines}"
        super().__init__(message, **facts)
        self.problems = problems


class CallbackError(HPPError, ValueError):
    """The callback body is invalid: not a JSON object, too long, or nested too deep. The text does not show it."""


class ClientClosedError(HPPError):
    """The client is closed. Nothing was attempted."""

    _default_message = "the client is closed. Create a new one, and keep it for the life of the process"


class WrongLoopError(HPPError):
    """The client belongs to another event loop, or to the parent process. Nothing was attempted."""


class DeadlineExceededError(HPPError):
    """The deadline passed before the request was sent, or before a session reached its final status.

    Attributes:
        details: the last `SessionDetails` that `wait_for_session` read; None if no read succeeded, and for other calls.

    """

    _default_delivery = Delivery.NOT_SENT
    details: Any = None


class LeaseLostError(HPPError):
    """The caller's lease ended before the request was sent (`may_send` returned False). Nothing was sent.

    Another run may have taken the row over. `batch.run` claims the row again before it sends it.
    """

    _default_delivery = Delivery.NOT_SENT


class ConnectError(HPPError):
    """No connection to the API (DNS, TCP, TLS or proxy). Nothing was sent.

    Attributes:
        timed_out: True if the connect timeout or the deadline ended the attempt.

    """

    _default_delivery = Delivery.NOT_SENT
    timed_out: bool = False

    def __init__(self, message: str = "", *, timed_out: bool = False, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.timed_out = timed_out


class CertificateError(ConnectError):
    """The server's certificate is expired, not trusted, or for another host. Never retried; nothing was sent."""


class OutcomeUnknownError(HPPError):
    """The API may have processed the call (UNKNOWN) or did process it (ACCEPTED); its result is not known.

    After `create_session`, the session may exist. Do not repeat the call; create a new order and session. No consumer has
    seen the lost session's link, and it expires within 48 hours. Source: docs.kustom.co, errors in checkout.

    After `distribute_session`, the API may have sent the message. `read_session` and `disable_session` may be repeated.
    """

    _default_delivery = Delivery.UNKNOWN

    @property
    def resendable(self) -> bool:
        """True if `on_unknown="resend"` allows a retry after it. An accepted request is never retried."""
        return self.delivery is Delivery.UNKNOWN


class LostResponseError(OutcomeUnknownError):
    """The request was sent, and no usable response came back.

    Attributes:
        timed_out: True if the read timeout or the deadline ended the wait.
        last_error: the error of the last attempt, if the response of an earlier attempt was lost; else None.

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
    """The API returned 2xx, so a created session exists, but the response is unreadable. A create is never retried.

    Attributes:
        status: HTTP status of the response.
        body: the response's body, at most 64 KiB; empty for a read, whose response contains personal data.
        session_id: the session's id, if at least that is readable; `disable_session` accepts it. Else None.

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
    """The API returned a status other than 2xx.

    Attributes:
        status: HTTP status.
        code: the API's `error_code`; None if the body has none.
        messages: the API's `error_messages`, with control characters escaped, each cut at 512 characters.
        retry_after: seconds that the API asks to wait (Retry-After, else x-ratelimit-reset on a 429), if it asks.
        body: the response's body, at most 64 KiB.

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
    """400: the API rejected a field."""


class AuthenticationError(ApiError):
    """401: the credentials are missing, invalid, or of the other environment."""


class PermissionDeniedError(ApiError):
    """403: the credentials are valid, but do not permit the call."""


class NotFoundError(ApiError):
    """404: the payment session or the HPP session is unknown or has expired.

    Attributes:
        details: the last `SessionDetails` that `wait_for_session` read; None if it read none, and for other calls.

    """

    details: Any = None


class RateLimitError(ApiError):
    """429: over the merchant's rate limit. Not processed. The client retries it within the attempts and the budget."""


class ServerError(ApiError, OutcomeUnknownError):
    """5xx: the API may have processed the call. A gateway may return 502, 503 or 504 after the API did the work."""

    _default_delivery = Delivery.UNKNOWN


class UnexpectedStatusError(ApiError, OutcomeUnknownError):
    """101, 300 to 303, 408 and undefined statuses: the API may have processed the call. Redirects are not followed."""

    _default_delivery = Delivery.UNKNOWN

    @property
    def resendable(self) -> bool:
        """True for 408 only: the others do not pass, and a 303 even says that the work was done."""
        return self.status == 408 and super().resendable  # noqa: PLR2004


class JournalError(HPPError):
    """A batch's journal cannot be read or written. The batch sends nothing more."""


class BatchStoppedError(HPPError):
    """A batch stopped before its end; the text says why. Unstarted rows are unchanged.

    Attributes:
        last_error: the error of the row that stopped the batch; None if no row did.

    """

    last_error: HPPError | None = None


class DuplicateSessionError(HPPError):
    """The API returned one session id for two keys. The batch stops before a customer gets another customer's page."""


STATUS_ERRORS: dict[int, type[ApiError]] = {
    307: ApiError,
    308: ApiError,
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: UnexpectedStatusError,
    429: RateLimitError,
}
"""The API did not process a 307 or 308, and the client does not follow it."""
_CLASS_ERRORS: dict[int, type[ApiError]] = {4: ApiError, 5: ServerError}
"""By a status's first digit (RFC 9110, section 15)."""


def error_for_status(status: int) -> type[ApiError]:
    """Return the error class of a status that is not 2xx."""
    return STATUS_ERRORS.get(status) or _CLASS_ERRORS.get(status // 100, UnexpectedStatusError)
