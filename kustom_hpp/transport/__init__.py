"""The only room with sockets: the session manager, the exact translation of failures, and a fake for tests."""

from typing import Protocol

from aiohttp import ClientSession

from kustom_hpp._messages import HttpRequest, HttpResponse, SendMarker
from kustom_hpp.transport.connector import guarded_connector
from kustom_hpp.transport.fake import FakeTransport
from kustom_hpp.transport.session_manager import HTTP_LIBRARY, MAX_RESPONSE_BODY, HTTPSessionManager

__all__ = [
    "HTTP_LIBRARY",
    "MAX_RESPONSE_BODY",
    "ClientSession",
    "FakeTransport",
    "HTTPSessionManager",
    "Transport",
    "guarded_connector",
]


class Transport(Protocol):
    """What a client sends its requests through."""

    async def send(self, request: HttpRequest, mark: SendMarker) -> HttpResponse:
        """Make one attempt.

        Args:
            request: what to send.
            mark: to be set just before the first byte leaves, if `request.may_send` allows it then.

        Raises:
            ClientClosedError, WrongLoopError: nothing attempted.
            DeadlineExceededError, ConnectError, LeaseLostError: nothing sent.
            LostResponseError: it may have been processed.

        """
        ...

    async def aclose(self) -> None:
        """Let attempts in flight end, then close. Idempotent."""
        ...
