"""The record of a sandbox, which tests compare with what a client did.

Only the server writes it. Times are `time.monotonic()`, in seconds.
"""

import asyncio
import copy
import datetime as dt
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field, frozen

from kustom_hpp._redaction import mask_url

MAX_RAW_BYTES = 65_536
"""Bytes of a connection that are recorded as they arrived."""
CREATE_PATH = "/hpp/v1/sessions"


@define(kw_only=True, eq=False)
class RecordedConnection:
    """One accepted connection. Over TLS it is recorded after its handshake."""

    number: int
    """Counts from 1 over all ports of the sandbox."""
    port: str = "api"
    """The port that accepted it: `api`, or `sink`."""
    opened_at: float = field(factory=time.monotonic)
    closed_at: float | None = None
    received: bytearray = field(factory=bytearray, repr=False)
    """The first 64 KiB that arrived, byte for byte (inside TLS)."""
    bytes_received: int = 0
    """Number of bytes that arrived."""
    requests: int = 0
    """Number of complete request heads that arrived."""
    fault: Any = None
    """The `Fault` of the stage CONNECTION that it got; None without one."""


@define(kw_only=True, eq=False)
class RecordedRequest:
    """One request whose head arrived completely."""

    number: int
    """Counts from 1, in the order in which the heads arrived."""
    connection: int
    """The number of its connection."""
    at: float = field(factory=time.monotonic)
    received_at: dt.datetime | None = None
    """When its head arrived, by the sandbox's clock."""
    method: str
    target: str
    """The request target, as in the request line."""
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    """Names and values as they arrived: order, case and duplicates unchanged."""
    body: bytes = field(default=b"", repr=False)
    """The body as far as it was read, at most 1,000,000 bytes."""
    complete: bool = False
    """True if the body was read to its end."""
    fault: Any = None
    """The fault that was chosen for it. A fault that processes the request does not trigger if the request is refused."""
    rule: str = ""
    """The rule that chose the fault, in words: its number and the requests that it applies to."""
    status: int | None = None
    """The status of the response; None if the response has none, or if there was no response."""
    response: bytes = field(default=b"", repr=False)
    """The response to a request that was refused or got a fault: its first 64 KiB, with status line and headers."""
    operation: str | None = None
    """The operation of the API, by the name of the client's method; None if it is for no operation."""
    processed: bool = False
    """True if the sandbox processed it: it was not refused, and got no fault without processing."""
    correlation_id: str = ""
    """The correlation id of its response."""
    created: str | None = None
    """The id of the session that it created."""
    done: bool = False
    """True once the sandbox has finished with it."""
    _url: str | None = field(default=None, init=False, repr=False)

    @property
    def path(self) -> str:
        """The path of the target: no query and, from a proxy's client, no origin."""
        _, scheme, rest = self.target.partition("?")[0].partition("://")
        return "/" + rest.partition("/")[2] if scheme else self.target.partition("?")[0]

    @property
    def is_create(self) -> bool:
        """True for POST /hpp/v1/sessions."""
        return self.method == "POST" and self.path == CREATE_PATH

    @property
    def payment_session_url(self) -> str | None:
        """The payment session in its body; None without one, or if incomplete."""
        if self._url is None and self.complete:
            self._url = payment_session_url(self.body)
        return self._url

    def header(self, name: str) -> bytes | None:
        """Return the value of the first header with this name, or None."""
        wanted = name.lower().encode()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


def payment_session_url(body: bytes) -> str | None:
    """Return the payment session in a create's body, or None."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    url = value.get("payment_session_url") if isinstance(value, dict) else None
    return url if isinstance(url, str) else None


@frozen(kw_only=True)
class CreatedSession:
    """One session that was created."""

    session_id: str
    payment_session_url: str = field(repr=False)
    redirect_url: str = field(repr=False)
    request: int
    """The number of the request that created it."""
    at: float = field(factory=time.monotonic)


@frozen(kw_only=True)
class SentMessage:
    """One message with a session's link that the API would have sent."""

    session_id: str
    method: str
    """`email`, `sms` or `token`."""
    contact: str
    """The first character of the address, number or access id. The request's body has all of it."""
    request: int
    """The number of the request that asked for it."""
    at: float = field(factory=time.monotonic)


@frozen(kw_only=True)
class RecordedCallback:
    """One call to a `status_update` URL; a repetition is another call."""

    session_id: str
    event_id: str
    """The same for all calls about one change."""
    attempt: int
    """Counts from 1."""
    url: str = field(repr=mask_url)
    """With its placeholders replaced."""
    body: bytes = field(repr=False)
    status: int | None
    """The status of the response; None without a response."""
    error: str | None
    """Why there was no response: a timeout, or the class of the failure."""
    at: float = field(factory=time.monotonic)
    """When the response arrived, or the call failed."""


@frozen(kw_only=True)
class Counts:
    """Totals, also of what the record no longer holds."""

    connections: int = 0
    requests: int = 0
    posts: int = 0
    """Creates whose heads arrived."""
    created: int = 0
    distributions: int = 0
    callbacks: int = 0
    sink: int = 0


class Record:
    """Everything that one sandbox received and sent.

    Args:
        remember: how many entries of each kind are recorded, the newest; None: all. The counts include all of them.

    """

    def __init__(self, *, remember: int | None = None) -> None:
        kinds = ("connections", "requests", "created", "distributions", "callbacks", "sink")
        self._entries: dict[str, deque[Any]] = {kind: deque(maxlen=remember) for kind in kinds}
        self._totals: Counter[str] = Counter()
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @property
    def connections(self) -> tuple[RecordedConnection, ...]:
        """Every accepted connection, oldest first."""
        return tuple(self._entries["connections"])

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request whose head arrived, oldest first; not those at the sink."""
        return tuple(self._entries["requests"])

    @property
    def posts(self) -> tuple[RecordedRequest, ...]:
        """The creates among the requests: POST /hpp/v1/sessions."""
        return tuple(request for request in self._entries["requests"] if request.is_create)

    @property
    def created(self) -> tuple[CreatedSession, ...]:
        """Every created session, oldest first."""
        return tuple(self._entries["created"])

    @property
    def distributions(self) -> tuple[SentMessage, ...]:
        """Every message that would have been sent, oldest first."""
        return tuple(self._entries["distributions"])

    @property
    def callbacks(self) -> tuple[RecordedCallback, ...]:
        """Every call to a `status_update` URL, oldest first."""
        return tuple(self._entries["callbacks"])

    @property
    def sink(self) -> tuple[RecordedRequest, ...]:
        """Every request at the sink, the target of the redirect faults."""
        return tuple(self._entries["sink"])

    @property
    def counts(self) -> Counts:
        """The totals."""
        return Counts(**self._totals)

    def created_for(self, payment_session_url: str) -> tuple[CreatedSession, ...]:
        """Return the sessions that were created for a payment session."""
        return tuple(created for created in self.created if created.payment_session_url == payment_session_url)

    def posts_for(self, payment_session_url: str) -> tuple[RecordedRequest, ...]:
        """Return the creates for a payment session whose bodies were read."""
        return tuple(request for request in self.posts if request.payment_session_url == payment_session_url)

    def clear(self) -> None:
        """Remove everything and set the counts to 0."""
        for entries in self._entries.values():
            entries.clear()
        self._totals.clear()

    def copy(self) -> "Record":
        """Return a copy that the server does not write to."""
        twin = Record()
        twin._entries = {kind: deque(map(copy.copy, entries)) for kind, entries in self._entries.items()}
        for connection in twin.connections:
            connection.received = bytearray(connection.received)
        twin._totals = self._totals.copy()
        return twin

    async def wait_for(self, predicate: "Callable[[Record], object]", timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Wait until the record meets a condition, checked at every change.

        Args:
            predicate: gets this record.
            timeout: in seconds.

        Raises:
            TimeoutError: it did not; the text has the counts.

        """
        if predicate(self):
            return
        entry = (lambda: bool(predicate(self))), asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(entry[1], timeout)
        except TimeoutError:
            msg = f"the condition was not met within {timeout} s: {self.counts}"
            raise TimeoutError(msg) from None
        finally:
            self._waiting.remove(entry)

    # For the server.

    def notify(self) -> None:
        """Check the conditions that callers wait for."""
        for predicate, future in self._waiting:
            if not future.done() and predicate():
                future.set_result(None)

    def add_connection(self, port: str) -> RecordedConnection:
        """Record an accepted connection."""
        connection = RecordedConnection(number=self._totals["connections"] + 1, port=port)
        self._add("connections", connection)
        return connection

    def add_request(
        self, connection: RecordedConnection, method: str, target: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> RecordedRequest:
        """Record the head of a request."""
        kind = "sink" if connection.port == "sink" else "requests"
        request = RecordedRequest(
            number=self._totals[kind] + 1,
            connection=connection.number,
            method=method,
            target=target,
            headers=tuple(headers),
        )
        connection.requests += 1
        if request.is_create and kind == "requests":
            self._totals["posts"] += 1
        self._add(kind, request)
        return request

    def add(self, entry: CreatedSession | SentMessage | RecordedCallback) -> None:
        """Record a created session, a message or a call to a `status_update` URL."""
        kinds = {CreatedSession: "created", SentMessage: "distributions", RecordedCallback: "callbacks"}
        self._add(kinds[type(entry)], entry)

    def _add(self, kind: str, entry: object) -> None:
        self._totals[kind] += 1
        self._entries[kind].append(entry)
        self.notify()
