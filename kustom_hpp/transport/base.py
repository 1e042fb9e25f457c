"""The protocol of a transport."""

from typing import Protocol

from kustom_hpp._messages import HttpRequest, HttpResponse, SendMarker

__all__ = ["Transport"]


class Transport(Protocol):
    """Sends the requests of a client."""

    async def send(self, request: HttpRequest, marker: SendMarker) -> HttpResponse:
        """Make one attempt.

        Args:
            request: the request to send.
            marker: the transport sets it directly before it sends the first byte, if `request.may_send` permits it.

        Raises:
            ClientClosedError, WrongLoopError: nothing attempted.
            DeadlineExceededError, ConnectError, LeaseLostError: nothing sent.
            LostResponseError: the API may have processed the request.

        """
        ...

    async def aclose(self) -> None:
        """Wait for the attempts in flight, then close. Idempotent."""
        ...
