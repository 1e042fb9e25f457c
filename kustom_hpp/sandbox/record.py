"""What the sandbox saw and what it made: the ledger that tests judge a client by.

Everything is written down by the server as it happens and changed by nobody else. What stands in it is in `seen`.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Iterable

from attrs import fields_dict

from kustom_hpp.sandbox.recorded import Callback, ConnectionSeen, Counts, Created, Distributed, RequestSeen

_COUNTED = tuple(fields_dict(Counts))


class Record:
    """The ledger of one sandbox.

    Args:
        remember: how many connections, requests and sessions are kept, the newest of each; None keeps all. The counts
            are of all either way.

    """

    def __init__(self, *, remember: int | None = None) -> None:
        self._connections: deque[ConnectionSeen] = deque(maxlen=remember)
        self._requests: deque[RequestSeen] = deque(maxlen=remember)
        self._created: deque[Created] = deque(maxlen=remember)
        self._distributions: deque[Distributed] = deque(maxlen=remember)
        self._callbacks: deque[Callback] = deque(maxlen=remember)
        self._sink: deque[RequestSeen] = deque(maxlen=remember)
        self._numbers: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @property
    def connections(self) -> tuple[ConnectionSeen, ...]:
        """Every accepted connection, oldest first."""
        return tuple(self._connections)

    @property
    def requests(self) -> tuple[RequestSeen, ...]:
        """Every request whose head came in whole, oldest first; not those at the sink."""
        return tuple(self._requests)

    @property
    def posts(self) -> tuple[RequestSeen, ...]:
        """The creates among the requests: POST /hpp/v1/sessions."""
        return tuple(request for request in self._requests if request.is_create)

    @property
    def created(self) -> tuple[Created, ...]:
        """Every session that was made, oldest first."""
        return tuple(self._created)

    @property
    def distributions(self) -> tuple[Distributed, ...]:
        """Every message that would have been sent, oldest first."""
        return tuple(self._distributions)

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """Every call to a `status_update` URL, oldest first."""
        return tuple(self._callbacks)

    @property
    def sink(self) -> tuple[RequestSeen, ...]:
        """Every request that came in at the sink, where the redirect faults point to."""
        return tuple(self._sink)

    @property
    def counts(self) -> Counts:
        """How much was seen in all."""
        return Counts(**self._numbers)

    def created_for(self, payment_session_url: str) -> tuple[Created, ...]:
        """The sessions that were made for a payment session."""
        return tuple(made for made in self._created if made.payment_session_url == payment_session_url)

    def posts_for(self, payment_session_url: str) -> tuple[RequestSeen, ...]:
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

    def changed(self) -> None:
        """Something was written: those who wait look again."""
        for predicate, future in self._waiting:
            if not future.done() and predicate():
                future.set_result(None)

    def connection(self, port: str) -> ConnectionSeen:
        """A connection was accepted."""
        seen = ConnectionSeen(number=self._count("connections"), port=port)
        self._connections.append(seen)
        self.changed()
        return seen

    def request(
        self, connection: ConnectionSeen, method: str, target: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> RequestSeen:
        """A request's head came in."""
        at_sink = connection.port == "sink"
        seen = RequestSeen(
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
        self.changed()
        return seen

    def session(self, request: RequestSeen, session_id: str, payment_session_url: str, redirect_url: str) -> None:
        """A session was made."""
        request.created = session_id
        self._count("created")
        self._created.append(
            Created(
                session_id=session_id,
                payment_session_url=payment_session_url,
                redirect_url=redirect_url,
                request=request.number,
            )
        )
        self.changed()

    def distribution(self, request: RequestSeen, session_id: str, method: str, contact: str) -> None:
        """A message was sent. `contact` is masked."""
        self._count("distributions")
        self._distributions.append(
            Distributed(session_id=session_id, method=method, contact=contact, request=request.number)
        )
        self.changed()

    def callback(
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
        made = Callback(
            session_id=session_id, event_id=event_id, attempt=attempt, url=url, body=body, status=status, error=error
        )
        self._callbacks.append(made)
        self.changed()

    def _count(self, what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]
