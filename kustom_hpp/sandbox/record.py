"""The record of a sandbox: every connection, request, session, message and callback. Tests judge a client by it.

The server alone writes it. Times are `time.monotonic()`, in seconds.
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
"""Bytes of a connection that are kept as they came."""
CREATE_PATH = "/hpp/v1/sessions"


@define(kw_only=True, eq=False)
class RecordedConnection:
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
    fault: Any = None
    """The `Fault` of the stage CONNECTION that it got; None without one."""


@define(kw_only=True, eq=False)
class RecordedRequest:
    """One request whose head came in whole."""

    number: int
    """Counts from 1, in the order in which the heads came in."""
    connection: int
    """The number of its connection."""
    at: float = field(factory=time.monotonic)
    received_at: dt.datetime | None = None
    """When its head arrived, by the sandbox's clock."""
    method: str
    target: str
    """The request target as it stood in the request line."""
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    """Names and values as they came: order, upper and lower case, and doubles kept."""
    body: bytes = field(default=b"", repr=False)
    """What was read of the body, at most 1,000,000 bytes."""
    complete: bool = False
    """True where the body was read to its end."""
    fault: Any = None
    """The fault that was chosen for it. One that commits does not bite on a request that is refused."""
    rule: str = ""
    """The rule that chose the fault, in words: its number and the requests that it applies to."""
    status: int | None = None
    """The status that was answered; None where the answer has none, or where there was no answer."""
    response: bytes = field(default=b"", repr=False)
    """The response to a request that was refused or got a fault: its first 64 KiB, with status line and headers."""
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
class CreatedSession:
    """One session that was made."""

    session_id: str
    payment_session_url: str = field(repr=False)
    redirect_url: str = field(repr=False)
    request: int
    """The number of the request that made it."""
    at: float = field(factory=time.monotonic)


@frozen(kw_only=True)
class SentMessage:
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
class RecordedCallback:
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


_COUNTED = tuple(fields_dict(Counts))


class Record:
    """The ledger of one sandbox.

    Args:
        remember: how many connections, requests and sessions are kept, the newest of each; None keeps all. The counts
            are of all either way.

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
        """Every request whose head came in whole, oldest first; not those at the sink."""
        return tuple(self._requests)

    @property
    def posts(self) -> tuple[RecordedRequest, ...]:
        """The creates among the requests: POST /hpp/v1/sessions."""
        return tuple(request for request in self._requests if request.is_create)

    @property
    def created(self) -> tuple[CreatedSession, ...]:
        """Every session that was made, oldest first."""
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
        """Every request that came in at the sink, where the redirect faults point to."""
        return tuple(self._sink)

    @property
    def counts(self) -> Counts:
        """How much was seen in all."""
        return Counts(**self._numbers)

    def created_for(self, payment_session_url: str) -> tuple[CreatedSession, ...]:
        """The sessions that were made for a payment session."""
        return tuple(made for made in self._created if made.payment_session_url == payment_session_url)

    def posts_for(self, payment_session_url: str) -> tuple[RecordedRequest, ...]:
        """The creates for a payment session, as far as their bodies were read."""
        return tuple(request for request in self.posts if request.payment_session_url == payment_session_url)

    def clear(self) -> None:
        """Forget everything, the counts too. The numbering starts anew."""
        self._connections.clear()
        self._requests.clear()
        self._created.clear()
        self._distributions.clear()
        self._callbacks.clear()
        self._sink.clear()
        self._numbers = dict.fromkeys(_COUNTED, 0)

    def copy(self) -> "Record":
        """A copy that nobody writes to any more."""
        twin = Record()
        for name, kept in vars(self).items():
            if isinstance(kept, deque):
                setattr(twin, name, deque(map(copy.copy, kept), kept.maxlen))
        for connection in twin._connections:
            connection.received = bytearray(connection.received)
        twin._numbers = dict(self._numbers)
        return twin

    async def wait_for(self, predicate: "Callable[[Record], object]", timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Wait until the record fulfils a condition, which is asked again at every change.

        Args:
            predicate: gets this record.
            timeout: in seconds.

        Raises:
            TimeoutError: it did not; the text tells what was seen instead.

        """
        if predicate(self):
            return
        entry = (lambda: bool(predicate(self))), asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(entry[1], timeout)
        except TimeoutError:
            msg = f"not so within {timeout} s: {self.counts}"
            raise TimeoutError(msg) from None
        finally:
            self._waiting.remove(entry)

    # What the server writes.

    def notify(self) -> None:
        """Something was written: those who wait look again."""
        for predicate, future in self._waiting:
            if not future.done() and predicate():
                future.set_result(None)

    def add_connection(self, port: str) -> RecordedConnection:
        """A connection was accepted."""
        seen = RecordedConnection(number=self._count("connections"), port=port)
        self._connections.append(seen)
        self.notify()
        return seen

    def add_request(
        self, connection: RecordedConnection, method: str, target: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> RecordedRequest:
        """A request's head came in."""
        at_sink = connection.port == "sink"
        seen = RecordedRequest(
            number=self._count("sink" if at_sink else "requests"),
            connection=connection.number,
            method=method,
            target=target,
            headers=tuple(headers),
        )
        connection.requests += 1
        (self._sink if at_sink else self._requests).append(seen)
        if seen.is_create and not at_sink:
            self._count("posts")
        self.notify()
        return seen

    def add_session(
        self, request: RecordedRequest, session_id: str, payment_session_url: str, redirect_url: str
    ) -> None:
        """A session was made."""
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
        """A message was sent. `contact` is masked."""
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
        """A call to a `status_update` URL was answered, or failed."""
        self._count("callbacks")
        made = RecordedCallback(
            session_id=session_id, event_id=event_id, attempt=attempt, url=url, body=body, status=status, error=error
        )
        self._callbacks.append(made)
        self.notify()

    def _count(self, what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]
