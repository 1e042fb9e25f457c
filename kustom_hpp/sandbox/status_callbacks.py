"""Status callbacks: a POST to `merchant_urls.status_update` whenever a session's status changes.

Wire shape: `{"event_id": ..., "session": as a read answers it}`. What counts is any 2xx within 3 seconds; else the same call
with the same event id is made again after a delay, four times in all. Source: docs.kustom.co, "Status callbacks".

Where the documents are silent, chosen here:

- Creating a session is no change of its status. The body tells how the session stood at the change.
- An answer that is no 2xx is as good as none: the call is repeated. Redirects are not followed, the answer's body is not
  read.
- The changes of one session arrive in their order: the next one waits until the one before is answered or given up. Of more
  than 100 that wait the oldest are dropped.
- Names that are nobody's by RFC 2606 and 6761 (`shop.example`, `example.com`, ...) are not looked up: the call fails at once.
"""

import asyncio
import json
import uuid
from collections import deque

import aiohttp
from attrs import field, frozen
from yarl import URL

from kustom_hpp._redaction import masked_url
from kustom_hpp.sandbox.http.raw_response import dumps
from kustom_hpp.sandbox.record import Record
from kustom_hpp.sandbox.state import SandboxState
from kustom_hpp.sandbox.stored_session import StoredSession, TimelineEntry

ATTEMPTS = 4
"""Calls for one event."""
_AT_ONCE = 50
"""Calls that are made side by side, of different sessions."""
_MOST_WAITING = 100
"""Events of one session that wait for the ones before."""
_RESERVED_DOMAINS = (".example", ".invalid", ".example.com", ".example.net", ".example.org")
_HEADERS = {"Content-Type": "application/json", "User-Agent": "kustom_hpp sandbox"}


@frozen(kw_only=True)
class _Event:
    session: StoredSession
    status: str
    url: str = field(repr=False)
    body: bytes = field(repr=False)
    event_id: str


def _nothing() -> None:
    pass


class CallbackSender:
    """The status callbacks of one sandbox, between `open` and `aclose`.

    Args:
        timeout: seconds that a call may take.
        delay: seconds until it is repeated.

    """

    def __init__(self, state: SandboxState, record: Record, *, timeout: float, delay: float) -> None:
        self._state = state
        self._record = record
        self._timeout = timeout
        self._delay = delay
        self._waiting: dict[str, deque[_Event]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._client: aiohttp.ClientSession | None = None
        self._turns: asyncio.Semaphore
        self._unsubscribe = _nothing

    @property
    def is_quiet(self) -> bool:
        """True where no call is due now. One that waits for its repetition is not due."""
        return self._pending == 0

    def open(self) -> None:
        """Listen for changes."""
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._unsubscribe = self._state.listen(self._on_status_change)

    async def aclose(self) -> None:
        """Stop: what is not answered yet is given up."""
        self._unsubscribe()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._waiting.clear()
        self._pending = 0
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _on_status_change(self, session: StoredSession, moment: TimelineEntry) -> None:
        if moment.status is None or moment.what == "created":
            return
        url = session.merchant_url("status_update")
        if url is None:
            return
        event_id = str(uuid.uuid4())
        body = dumps({"event_id": event_id, "session": session.read_json()})
        self._add(_Event(session=session, status=str(moment.status), url=url, body=body, event_id=event_id))

    def repeat(self, session: StoredSession) -> None:
        """Send the newest callback for a session again, with the same event id and body.

        Raises:
            LookupError: no callback has been sent for it.

        """
        sent = next((sent for sent in reversed(self._record.callbacks) if sent.session_id == session.session_id), None)
        if sent is None:
            raise LookupError("no status callback has been sent for this session")
        status = str(json.loads(sent.body)["session"]["status"])
        self._add(_Event(session=session, status=status, url=sent.url, body=sent.body, event_id=sent.event_id))

    def _add(self, event: _Event) -> None:
        session = event.session
        waiting = self._waiting.get(session.session_id)
        if waiting is not None:
            waiting.append(event)
            return
        self._waiting[session.session_id] = deque([event], maxlen=_MOST_WAITING)
        worker = asyncio.get_running_loop().create_task(self._notify(session.session_id))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)
        self._pending += 1

    async def _notify(self, session_id: str) -> None:
        """Make the calls for one session until none is left."""
        waiting = self._waiting[session_id]
        try:
            while waiting:
                event = waiting.popleft()
                for attempt in range(1, ATTEMPTS + 1):
                    if await self._call(event, attempt) or attempt == ATTEMPTS:
                        break
                    self._pending -= 1
                    try:
                        await asyncio.sleep(self._delay)
                    finally:
                        self._pending += 1
        finally:
            self._pending -= 1
            self._waiting.pop(session_id, None)
            self._record.notify()

    async def _call(self, event: _Event, attempt: int) -> bool:
        """One call; whether it was taken."""
        status, error = None, ""
        try:
            async with self._turns:
                status = await self._post(event)
        except TimeoutError:
            error = f"no answer within {self._timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            error = type(failure).__name__
        self._record.add_callback(
            event.session.session_id, event.event_id, attempt, event.url, event.body, status=status, error=error or None
        )
        accepted = status is not None and 200 <= status < 300  # noqa: PLR2004
        # The outcome comes first: a row shows the beginning of a long text.
        outcome = f"{error or status}, attempt {attempt} of {ATTEMPTS}"
        detail = f"{outcome}: {event.status} to {masked_url(event.url)}"
        self._state.record_event(event.session, "callback", detail, failed=not accepted)
        return accepted

    async def _post(self, event: _Event) -> int:
        url = URL(event.url)
        if f".{url.host}".endswith(_RESERVED_DOMAINS):
            raise ConnectionError
        if self._client is None:
            # A connection for each call: one that the shop has just closed would fail for no reason of the shop's.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._client = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, headers=_HEADERS
            )
        async with (
            asyncio.timeout(self._timeout),
            self._client.post(url, data=event.body, allow_redirects=False, timeout=aiohttp.ClientTimeout()) as answer,
        ):
            return answer.status
