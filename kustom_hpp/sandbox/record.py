"""The record of a sandbox: every connection, request, session, message and callback. Tests compare it with what a client did.

Only the server writes it. Times are `time.monotonic()`, in seconds.
"""

import asyncio
import copy
import datetime as dt
import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field, fields_dict, frozen

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
        """The path of the target, without the query and, for a request to a proxy, without the origin."""
        _, scheme, rest = self.target.partition("?")[0].partition("://")
        return "/" + rest.partition("/")[2] if scheme else self.target.partition("?")[0]

    @property
    def is_create(self) -> bool:
        """True for POST /hpp/v1/sessions."""
        if self.target == CREATE_PATH:
            return self.method == "POST"
        return self.method == "POST" and self.path == CREATE_PATH

    @property
    def payment_session_url(self) -> str | None:
        """The payment session in its body; None if the body was not read to its end, or names none."""
        if self._url is None and self.complete:
            self._url = payment_session_url(self.body)
        return self._url

    def header(self, name: str) -> bytes | None:
        """Return the value of the first header with this name, in any case, or None."""
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
    """One call to a `status_update` URL; each repetition is recorded as another call."""

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


_COUNTED = tuple(fields_dict(Counts))


class Record:
    """Everything that one sandbox received and sent.

    Args:
        remember: how many connections, requests and sessions are recorded, the newest of each; None: all. The counts
            include all of them.

    """

    def __init__(self, *, remember: int | None = None) -> None:
        self._connections: deque[RecordedConnection] = deque(maxlen=remember)
        self._requests: deque[RecordedRequest] = deque(maxlen=remember)
        self._created: deque[CreatedSession] = deque(maxlen=remember)
        self._distributions: deque[SentMessage] = deque(maxlen=remember)
        self._callbacks: deque[RecordedCallback] = deque(maxlen=remember)
        self._sink: deque[RecordedRequest] = deque(maxlen=remember)
        self._numbers: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @property
    def connections(self) -> tuple[RecordedConnection, ...]:
        """Every accepted connection, oldest first."""
        return tuple(self._connections)

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every request whose head arrived completely, oldest first; not those at the sink."""
        return tuple(self._requests)

    @property
    def posts(self) -> tuple[RecordedRequest, ...]:
        """The creates among the requests: POST /hpp/v1/sessions."""
        return tuple(request for request in self._requests if request.is_create)

    @property
    def created(self) -> tuple[CreatedSession, ...]:
        """Every created session, oldest first."""
        return tuple(self._created)

    @property
    def distributions(self) -> tuple[SentMessage, ...]:
        """Every message that would have been sent, oldest first."""
        return tuple(self._distributions)

    @property
    def callbacks(self) -> tuple[RecordedCallback, ...]:
        """Every call to a `status_update` URL, oldest first."""
        return tuple(self._callbacks)

    @property
    def sink(self) -> tuple[RecordedRequest, ...]:
        """Every request that arrived at the sink, the target of the redirect faults."""
        return tuple(self._sink)

    @property
    def counts(self) -> Counts:
        """The totals."""
        return Counts(**self._numbers)

    def created_for(self, payment_session_url: str) -> tuple[CreatedSession, ...]:
        """Return the sessions that were created for a payment session."""
        return tuple(created for created in self._created if created.payment_session_url == payment_session_url)

    def posts_for(self, payment_session_url: str) -> tuple[RecordedRequest, ...]:
        """Return the creates for a payment session whose bodies were read."""
        return tuple(request for request in self.posts if request.payment_session_url == payment_session_url)

    def clear(self) -> None:
        """Remove everything and set the counts to 0."""
        self._connections.clear()
        self._requests.clear()
        self._created.clear()
        self._distributions.clear()
        self._callbacks.clear()
        self._sink.clear()
        self._numbers = dict.fromkeys(_COUNTED, 0)

    def copy(self) -> "Record":
        """Return a copy that the server does not write to."""
        twin = Record()
        for name, value in vars(self).items():
            if isinstance(value, deque):
                setattr(twin, name, deque(map(copy.copy, value), value.maxlen))
        for connection in twin._connections:
            connection.received = bytearray(connection.received)
        twin._numbers = dict(self._numbers)
        return twin

    async def wait_for(self, predicate: "Callable[[Record], object]", timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Wait until the record meets a condition, which is checked at every change.

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
        recorded = RecordedConnection(number=self._count("connections"), port=port)
        self._connections.append(recorded)
        self.notify()
        return recorded

    def add_request(
        self, connection: RecordedConnection, method: str, target: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> RecordedRequest:
        """Record the head of a request."""
        at_sink = connection.port == "sink"
        recorded = RecordedRequest(
            number=self._count("sink" if at_sink else "requests"),
            connection=connection.number,
            method=method,
            target=target,
            headers=tuple(headers),
        )
        connection.requests += 1
        (self._sink if at_sink else self._requests).append(recorded)
        if recorded.is_create and not at_sink:
            self._count("posts")
        self.notify()
        return recorded

    def add_session(
        self, request: RecordedRequest, session_id: str, payment_session_url: str, redirect_url: str
    ) -> None:
        """Record a created session."""
        request.created = session_id
        self._count("created")
        self._created.append(
            CreatedSession(
                session_id=session_id,
                payment_session_url=payment_session_url,
                redirect_url=redirect_url,
                request=request.number,
            )
        )
        self.notify()

    def add_distribution(self, request: RecordedRequest, session_id: str, method: str, contact: str) -> None:
        """Record a message. `contact` must be masked."""
        self._count("distributions")
        self._distributions.append(
            SentMessage(session_id=session_id, method=method, contact=contact, request=request.number)
        )
        self.notify()

    def add_callback(
        self,
        session_id: str,
        event_id: str,
        attempt: int,
        url: str,
        body: bytes,
        *,
        status: int | None,
        error: str | None,
    ) -> None:
        """Record a call to a `status_update` URL."""
        self._count("callbacks")
        callback = RecordedCallback(
            session_id=session_id, event_id=event_id, attempt=attempt, url=url, body=body, status=status, error=error
        )
        self._callbacks.append(callback)
        self.notify()

    def _count(self, what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]
