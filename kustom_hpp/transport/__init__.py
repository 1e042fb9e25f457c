"""The sockets: the session manager, the mapping of its exceptions, and a fake for tests."""

from aiohttp import ClientSession

from kustom_hpp.transport.base import Transport
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
