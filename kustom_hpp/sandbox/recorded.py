"""What the record is made of: connections, requests, sessions, messages and callbacks, as plain values.

Times are `time.monotonic()`, in seconds.
"""

import datetime as dt
import json
import time
from typing import Protocol

from attrs import define, field, frozen

from kustom_hpp._redaction import mask_url

RAW_CAP = 65_536
"""Bytes of a connection that are kept as they came."""
CREATE_PATH = "/hpp/v1/sessions"


class Scripted(Protocol):
    """What the record needs to know of a fault: a `Fault` stands here."""

    @property
    def name(self) -> str:
        """Its name in the table."""
        ...

    @property
    def commits(self) -> bool:
        """True where the session is made before it bites."""
        ...


@define(kw_only=True, eq=False)
class ConnectionSeen:
    """One accepted connection. Over TLS it is seen once its handshake is done."""

    number: int
    """Counts from 1 over all ports of the sandbox."""
    port: str = "api"
    """Where it came in: `api`, `sink`, `proxy`, or the name of a port fault."""
    opened_at: float = field(factory=time.monotonic)
    closed_at: float | None = None
    received: bytearray = field(factory=bytearray, repr=False)
    """The first 64 KiB that came over it, byte for byte (behind TLS)."""
    bytes_received: int = 0
    """How many bytes came over it in all."""
    requests: int = 0
    """How many request heads came over it whole."""
    fault: Scripted | None = None
    """The connection-level fault that met it."""


@define(kw_only=True, eq=False)
class RequestSeen:
    """One request whose head came in whole."""

    number: int
    """Counts from 1, in the order in which the heads came in."""
    connection: int
    """The number of its connection."""
    at: float = field(factory=time.monotonic)
    received_at: dt.datetime | None = None
    """When its head came in, by the sandbox's clock."""
    method: str
    target: str
    """The request target as it stood in the request line."""
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    """Names and values as they came: order, upper and lower case, and doubles kept."""
    body: bytes = field(default=b"", repr=False)
    """What was read of the body, at most 1,000,000 bytes."""
    complete: bool = False
    """True where the body was read to its end."""
    fault: Scripted | None = None
    """The fault that was chosen for it. One that commits does not bite on a request that is refused."""
    rule: str = ""
    """The rule that chose the fault, in words: its number and to which requests it applies."""
    status: int | None = None
    """The status that was answered; None where the answer has none, or where there was no answer."""
    response: bytes = field(default=b"", repr=False)
    """The response to a request that was refused or met a fault: its first 64 KiB, with status line and headers."""
    operation: str | None = None
    """The operation of the API that it asks for, as the client's method is called; None where it is none."""
    processed: bool = False
    """True where what it asks for was done: it was not refused, and met no fault that does not commit."""
    correlation_id: str = ""
    """What a well-formed answer told as its correlation id."""
    created: str | None = None
    """The id of the session that it made."""
    done: bool = False
    """True once the sandbox has finished with it."""
    _url: str | None = field(default=None, init=False, repr=False)

    @property
    def path(self) -> str:
        """The target's path, without a query, and without the origin that stands before it on the way through a proxy."""
        _, scheme, rest = self.target.partition("?")[0].partition("://")
        return "/" + rest.partition("/")[2] if scheme else self.target.partition("?")[0]

    @property
    def is_create(self) -> bool:
        """True for POST /hpp/v1/sessions."""
        if self.target == CREATE_PATH:  # nearly always, and not worth taking a target apart
            return self.method == "POST"
        return self.method == "POST" and self.path == CREATE_PATH

    @property
    def payment_session_url(self) -> str | None:
        """As its body told; None where the body was not read whole or tells none."""
        if self._url is None and self.complete:
            self._url = payment_session_url(self.body)
        return self._url

    def header(self, name: str) -> bytes | None:
        """The value of the first header with this name, in any case; None where there is none."""
        wanted = name.lower().encode()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


def payment_session_url(body: bytes) -> str | None:
    """What a create's body names as its payment session; None where it names none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    url = value.get("payment_session_url") if isinstance(value, dict) else None
    return url if isinstance(url, str) else None


@frozen(kw_only=True)
class Created:
    """One session that was made."""

    session_id: str
    payment_session_url: str = field(repr=False)
    redirect_url: str = field(repr=False)
    request: int
    """The number of the request that made it."""
    at: float = field(factory=time.monotonic)


@frozen(kw_only=True)
class Distributed:
    """One message with a session's link that a real API would have sent."""

    session_id: str
    method: str
    """`email`, `sms` or `token`."""
    contact: str
    """The address, number or access id: its first character, the rest masked. What came stands in the request's body."""
    request: int
    """The number of the request that asked for it."""
    at: float = field(factory=time.monotonic)


@frozen(kw_only=True)
class Callback:
    """One call to a `status_update` URL that was made; its repetitions are calls of their own."""

    session_id: str
    event_id: str
    """The same for all calls about one change."""
    attempt: int
    """Counts from 1."""
    url: str = field(repr=mask_url)
    """With its placeholders filled in."""
    body: bytes = field(repr=False)
    status: int | None
    """What was answered; None where nothing was."""
    error: str | None
    """Why nothing was: no answer in time, or the class of the failure."""
    at: float = field(factory=time.monotonic)
    """When the answer came, or when it was given up."""


@frozen(kw_only=True)
class Counts:
    """How much was seen in all, however much of it is remembered."""

    connections: int = 0
    requests: int = 0
    posts: int = 0
    """Creates, as far as their heads came in."""
    created: int = 0
    distributions: int = 0
    callbacks: int = 0
    sink: int = 0
