"""Maps an exception around one attempt to one of the library's errors, by the phase of the attempt.

aiohttp raises the same classes before and after it sent a request, and makes up a status 400 for a response that it
cannot parse. So NOT_SENT needs both: the send marker is unset, and the exception is known to come before sending. In all
other cases the API may have processed the request.
"""

from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

from kustom_hpp._messages import UNKNOWN_OUTCOME_ADVICE, SendMarker
from kustom_hpp.errors import CertificateError, ConnectError, HPPError, LostResponseError
from kustom_hpp.transport.attempt_timeout import AttemptTimeout
from kustom_hpp.transport.connector import PRE_SEND_EXCEPTIONS, NoConnectionError

_WRITE_AT_ONCE = 1 << 16
"""Bytes that a socket's buffer accepts without waiting (asyncio's high-water mark)."""


class OneShotPayload(BytesPayload):
    """A body that sets the send marker directly before it is written, and refuses a second write.

    This works on borrowed sessions too, which have no trace hook. The refusal stops a retrying subclass or middleware of
    the session from making two POSTs of one.
    """

    def __init__(
        self,
        body: bytes,
        marker: SendMarker,
        timeout: AttemptTimeout,
        read_timeout: float,
        may_send: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(body)
        self._may_send = may_send
        self._marker = marker
        self._timeout: AttemptTimeout | None = timeout
        self._read_timeout = read_timeout
        self._written = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002
        """Set the marker, write, and start the read timeout; start it again if the write may have waited."""
        if self._written:
            raise SecondWriteError("a request is sent once")
        if self._may_send is not None and not self._may_send():
            self._marker.refused = True  # aiohttp has written nothing yet: it writes head and body together
            raise RuntimeError("may_send returned False")
        self._written = self._marker.sent = True
        if self._timeout is not None:
            self._timeout.restart(self._read_timeout)
        await writer.write(self._value)
        if len(self._value) > _WRITE_AT_ONCE and self._timeout is not None:
            self._timeout.restart(self._read_timeout)

    def detach(self) -> None:
        """Forget the attempt, which is over; aiohttp may still be writing."""
        self._timeout = None

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the whole body."""
        await self.write_with_length(writer, None)

    def __deepcopy__(self, memo: object) -> "OneShotPayload":
        """Return itself: aioresponses copies the requests that it records, and a timer cannot be copied."""
        return self


class SecondWriteError(RuntimeError):
    """Code around the session tried to send a request again."""


def describe_exception(error: BaseException, phase: str) -> str:
    """Describe a foreign exception: class, errno, phase. Its own text may hold headers and is left out."""
    number = getattr(error, "errno", None)
    status = getattr(error, "status", None) if isinstance(error, aiohttp.ClientHttpProxyError) else None
    parts = [type(error).__name__.lstrip("_")]
    if isinstance(number, int):
        parts.append(f"errno {number}")
    if isinstance(status, int):
        parts.append(f"status {status} from the proxy")
    if isinstance(error, NoConnectionError):
        parts.append(str(error))  # written by this library
    return ", ".join([*parts, phase])


def map_exception(
    error: Exception,
    *,
    sent: bool,
    expired: str | None,
    host: str,
    unknown_outcome_advice: str = UNKNOWN_OUTCOME_ADVICE,
) -> HPPError:
    """Return the library's error for an exception around one attempt.

    Args:
        error: the exception of aiohttp, the loop or the socket.
        sent: True if the first byte may have been sent.
        expired: the timeout that ended the attempt ("connect timeout", "read timeout", "deadline"), if one did.
        host: the API's host, for the text.
        unknown_outcome_advice: the end of the text if the outcome is unknown.

    """
    if not sent:
        if expired:
            cause = f"{expired} while connecting"
            return ConnectError(f"no connection to {host} ({cause}): nothing was sent", timed_out=True, cause=cause)
        cause = describe_exception(error, "while connecting")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return CertificateError(
                f"{host} presented an invalid certificate ({_certificate_reason(error)}): nothing was sent. Check base_url, "
                "the clock and the trusted authorities (ssl=)",
                cause=cause,
            )
        if isinstance(error, PRE_SEND_EXCEPTIONS):
            return ConnectError(
                f"no connection to {host} ({cause}): nothing was sent",
                timed_out=isinstance(error, TimeoutError),
                cause=cause,
            )
    cause = f"{expired} while waiting for the response" if expired else describe_exception(error, "after sending began")
    return LostResponseError(
        f"the response of {host} was lost ({cause}): {unknown_outcome_advice}",
        timed_out=bool(expired) or isinstance(error, TimeoutError),
        cause=cause,
    )


def _certificate_reason(error: aiohttp.ClientConnectorCertificateError) -> str:
    message = getattr(error.certificate_error, "verify_message", None)
    return message if isinstance(message, str) else type(error.certificate_error).__name__
