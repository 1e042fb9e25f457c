"""The phase of an attempt, and what an exception in that phase means.

The phase decides, not the exception's class alone: aiohttp raises the same classes before and after a request left, and
invents a status 400 for an answer that it cannot parse. "Nothing was sent" needs both, the mark on the payload unset and
an exception that is known to come before sending. Everything else may have been processed.
"""

from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

from kustom_hpp._messages import IN_DOUBT, SendMarker
from kustom_hpp.errors import CertificateError, ConnectError, HPPError, LostResponseError
from kustom_hpp.transport.attempt_timeout import Clock
from kustom_hpp.transport.connector import PRE_SEND, NoConnectionError

_WRITE_AT_ONCE = 1 << 16
"""Bytes that a socket's buffer takes without waiting (asyncio's high-water mark)."""


class SingleShot(BytesPayload):
    """A body that sets the mark just before it is written, and that refuses to be written twice.

    The mark works on borrowed sessions too, where there is no trace hook, and costs nothing. The refusal keeps whatever
    is around the session (a retrying subclass, aiohttp's own repetition) from making two POSTs of one.
    """

    def __init__(
        self,
        body: bytes,
        mark: SendMarker,
        clock: Clock,
        read_timeout: float,
        may_send: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(body)
        self._may_send = may_send
        self._mark = mark
        self._clock: Clock | None = clock
        self._read_timeout = read_timeout
        self._written = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002
        """Set the mark, write, and begin the answer's time: once before, and again where the writing may have waited."""
        if self._written:
            msg = "a request is sent once"
            raise SecondWriteError(msg)
        if self._may_send is not None and not self._may_send():
            self._mark.refused = True  # aiohttp has written nothing: the head goes out together with the body
            msg = "may_send returned False"
            raise RuntimeError(msg)
        self._written = self._mark.sent = True
        if self._clock is not None:
            self._clock.phase(self._read_timeout)
        await writer.write(self._value)
        if len(self._value) > _WRITE_AT_ONCE and self._clock is not None:
            self._clock.phase(self._read_timeout)

    def settle(self) -> None:
        """The attempt is over; aiohttp may still be writing what nobody waits for any more."""
        self._clock = None

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it."""
        await self.write_with_length(writer, None)

    def __deepcopy__(self, memo: object) -> "SingleShot":
        """Itself: what records requests for tests (aioresponses) copies them, and a clock with its loop has no copy."""
        return self


class SecondWriteError(RuntimeError):
    """Something around the session wanted to send a request again."""


def describe(error: BaseException, phase: str) -> str:
    """An exception of another library as text: class, errno, phase. Never its own text, which may hold headers."""
    number = getattr(error, "errno", None)
    status = getattr(error, "status", None) if isinstance(error, aiohttp.ClientHttpProxyError) else None
    parts = [type(error).__name__.lstrip("_")]
    if isinstance(number, int):
        parts.append(f"errno {number}")
    if isinstance(status, int):
        parts.append(f"status {status} from the proxy")
    if isinstance(error, NoConnectionError):
        parts.append(str(error))  # our own words
    return ", ".join([*parts, phase])


def translate(error: Exception, *, sent: bool, expired: str | None, host: str, in_doubt: str = IN_DOUBT) -> HPPError:
    """What an exception around one attempt means.

    Args:
        error: what aiohttp, the loop or the socket raised.
        sent: whether the request had begun to leave.
        expired: which of our clocks ended it ("connect timeout", "read timeout", "deadline"); None where none did.
        host: the API's host, for the text.
        in_doubt: what an unknown outcome means for the caller, for the text.

    """
    if not sent:
        if expired:
            cause = f"{expired} while connecting"
            return ConnectError(
                f"no connection to {host} in time ({cause}): nothing was sent", timed_out=True, cause=cause
            )
        cause = describe(error, "while connecting")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return CertificateError(
                f"the certificate of {host} is not good ({_why(error)}): nothing was sent. Check base_url, the clock, "
                "and the trusted authorities (ssl=)",
                cause=cause,
            )
        if isinstance(error, PRE_SEND):
            return ConnectError(
                f"no connection to {host} ({cause}): nothing was sent",
                timed_out=isinstance(error, TimeoutError),
                cause=cause,
            )
    cause = f"{expired} while waiting for the answer" if expired else describe(error, "after sending began")
    return LostResponseError(
        f"the answer of {host} was lost ({cause}): {in_doubt}",
        timed_out=bool(expired) or isinstance(error, TimeoutError),
        cause=cause,
    )


def _why(error: aiohttp.ClientConnectorCertificateError) -> str:
    message = getattr(error.certificate_error, "verify_message", None)
    return message if isinstance(message, str) else type(error.certificate_error).__name__
