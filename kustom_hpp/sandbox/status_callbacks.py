"""Status callbacks: a POST to `status_update` whenever a status changes.

The body is `{"event_id": ..., "session": the response to a read}`. Any 2xx within 3 seconds accepts it. Otherwise the sandbox
repeats the call with the same event id after a delay, up to four calls. Source: docs.kustom.co, "Status callbacks".

If the documents say nothing:

- Creating a session is not a change of its status. The body has the session as it was at the change.
- Every response but a 2xx repeats the call. Redirects are not followed, and the response body is not read.
- The changes of one session arrive in order: the next call waits until the one before succeeded or failed for the last time.
  If more than 100 wait, the oldest are dropped.
- Names that RFC 2606 and 6761 reserve (`shop.example`, `example.com`, ...) are not resolved: the call fails immediately.
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
from kustom_hpp.sandbox.record import Record, RecordedCallback
from kustom_hpp.sandbox.state import SandboxState
from kustom_hpp.sandbox.stored_session import StoredSession, TimelineEntry

ATTEMPTS = 4
"""Calls for one event."""
_MAX_CONCURRENT = 50
"""Concurrent calls, for different sessions."""
_MAX_WAITING = 100
"""Waiting events of one session."""
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
    """Sends the status callbacks of one sandbox, between `open` and `aclose`.

    Args:
        timeout: seconds until a call fails.
        delay: seconds until a failed call is repeated.

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
        self._call_slots: asyncio.Semaphore
        self._unsubscribe = _nothing

    @property
    def is_quiet(self) -> bool:
        """True if no call is due. A call that waits for its repetition is not due."""
        return self._pending == 0

    def open(self) -> None:
        """Start to listen for changes."""
        self._call_slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._unsubscribe = self._state.listen(self._on_status_change)

    async def aclose(self) -> None:
        """Stop, and cancel the calls in flight."""
        self._unsubscribe()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._waiting.clear()
        self._pending = 0
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _on_status_change(self, session: StoredSession, entry: TimelineEntry) -> None:
        if entry.status is None or entry.what == "created":
            return
        url = session.merchant_url("status_update")
        if url is None:
            return
        event_id = str(uuid.uuid4())
        body = dumps({"event_id": event_id, "session": session.read_json()})
        self._add(_Event(session=session, status=str(entry.status), url=url, body=body, event_id=event_id))

    def repeat(self, session: StoredSession) -> None:
        """Send a session's newest callback again; a LookupError without one."""
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
        self._waiting[session.session_id] = deque([event], maxlen=_MAX_WAITING)
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
        """Make one call; return True if the shop accepted it."""
        status, error = None, ""
        try:
            async with self._call_slots:
                status = await self._post(event)
        except TimeoutError:
            error = f"no response within {self._timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            error = type(failure).__name__
        self._record.add(
            RecordedCallback(
                session_id=event.session.session_id,
                event_id=event.event_id,
                attempt=attempt,
                url=event.url,
                body=event.body,
                status=status,
                error=error or None,
            )
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
            self._client.post(url, data=event.body, allow_redirects=False, timeout=aiohttp.ClientTimeout()) as response,
        ):
            return response.status
