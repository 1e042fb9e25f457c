"""What every web framework needs: one client for an app, its work in the background, and the judging of status callbacks.

Knows no framework: each one's module hands in what a request is, and makes a response of what comes out.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from attrs import frozen

from kustom_hpp import callbacks
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import CallbackError, ConfigError

Request = TypeVar("Request")

OnUpdate = Callable[[Request, callbacks.StatusUpdate], Coroutine[Any, Any, None]]
"""What takes a status update: the request that brought it, and the update. It is begun when the answer is made, which may be
before the answer goes out, and holds it up only where it blocks the event loop."""
Secret = str | Callable[[Request], str | Awaitable[str | None] | None]
"""The secret that a callback must bring, or what finds it for a request: None where there is none, as for an order that
nobody knows."""
MakeClient = Callable[[], HPPClient]

GRACE = 5.0
"""Seconds that updates which were taken have to be finished when the app stops."""
_ANSWER_WITHIN = 2.5
"""Seconds for finding the secret and reading the body: the API waits 3 for the answer, see docs.kustom.co, "Status
callbacks"."""
_log = logging.getLogger("kustom_hpp")


class Running:
    """One app's client, and what the app does in the background. Made and closed in the app's event loop."""

    def __init__(self, client: HPPClient, grace: float) -> None:
        self.client = client
        self._grace = grace
        # The event loop itself keeps only weak references to tasks.
        self._updates: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()
        self._closing = False

    def take(self, update: Coroutine[Any, Any, None]) -> None:
        """Work on a status update; when the app stops it has the grace to be finished."""
        self._start(update, "work on a status update", self._updates)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do anything else; it is cancelled when the app stops."""
        self._start(work, "work in the background", self._others)

    def _start(self, work: Coroutine[Any, Any, None], what: str, tasks: set[asyncio.Task[None]]) -> None:
        if self._closing:
            work.close()
            msg = "the app is stopping: nothing is begun any more"
            raise RuntimeError(msg)
        task = asyncio.get_running_loop().create_task(_watched(work, what))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def aclose(self) -> None:
        """Let updates be finished within the grace, cancel all else, close the client."""
        self._closing = True
        try:
            for task in self._others:
                task.cancel()
            if self._updates:
                await asyncio.wait(self._updates, timeout=self._grace)
        finally:
            # The grace is over, or the stop itself was cancelled within it: nothing outlives the client either way.
            try:
                await self._end()
            finally:
                await self.client.aclose()

    async def _end(self) -> None:
        for task in self._updates:
            if not task.done():
                _log.warning("a status update was not worked off when the app stopped, with %g s of grace", self._grace)
                task.cancel()
        await asyncio.gather(*self._updates, *self._others, return_exceptions=True)


async def _watched(work: Coroutine[Any, Any, None], what: str) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001 - nobody awaits it: told here or nowhere
        _log.exception("%s failed", what)


@frozen(kw_only=True)
class Incoming:
    """A request to the status endpoint, as far as it is judged here."""

    method: str
    secrets: Sequence[str]
    """All that the query has under the secret's name; more than one is none."""
    length: int | None
    """As Content-Length tells it."""
    body: AsyncIterable[bytes]
    """Raises ConnectionError where it breaks off."""


@frozen(kw_only=True)
class Answer:
    """What to answer: 204, or why not."""

    status: int
    text: str = ""


class _RefusedError(Exception):
    """The request is no callback that may be taken."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status=status, text=text)


class StatusEndpoint(Generic[Request]):
    """Judges status callbacks and hands them on.

    Raises:
        ConfigError: the secret cannot be one, or `on_update` is no coroutine function.

    """

    def __init__(self, on_update: OnUpdate[Request], secret: Secret[Request], max_size: int) -> None:
        if not inspect.iscoroutinefunction(on_update) and not inspect.iscoroutinefunction(
            getattr(on_update, "__call__", None)  # noqa: B004 - an object whose call is a coroutine function is one too
        ):
            msg = "on_update must be an async function that takes the request and the update"
            raise ConfigError(msg)
        if not callable(secret):
            callbacks.check_secret(None, secret)
        self._on_update = on_update
        self._secret = secret
        self._max_size = max_size

    async def answer(self, running: Running, request: Request, incoming: Incoming) -> Answer:
        """Judge a request, hand the update on, and say what to answer.

        Implementation note: the update is begun here, and not once the answer has gone out. What was judged good is then
        worked off whatever becomes of its connection, and a stop that comes right now gives it the grace.
        """
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                update = await self._judge(request, incoming)
        except TimeoutError:
            return Answer(status=503, text="not now, come again")
        except _RefusedError as refusal:
            return refusal.answer
        except CallbackError as error:
            return Answer(status=400, text=str(error))
        running.take(self._on_update(request, update))
        return Answer(status=204)

    async def _judge(self, request: Request, incoming: Incoming) -> callbacks.StatusUpdate:
        if incoming.method != "POST":
            raise _RefusedError(405, "POST only")
        if not await self._knows(request, incoming.secrets):
            _log.warning("a status callback without the right secret was refused")
            raise _RefusedError(403, "the secret is not the session's")
        try:
            body = await self._read(incoming)
        except ConnectionError:
            raise _RefusedError(400, "the body broke off") from None
        return callbacks.parse(body, max_size=self._max_size)

    async def _knows(self, request: Request, given: Sequence[str]) -> bool:
        """Whether the secret is right; asked before a byte of the body is read."""
        expected = self._secret(request) if callable(self._secret) else self._secret
        if isinstance(expected, Awaitable):
            expected = await expected
        return expected is not None and callbacks.check_secret(given[0] if len(given) == 1 else None, expected)

    async def _read(self, incoming: Incoming) -> bytes:
        """The body; of one that is too long, no more than tells so."""
        body, told = bytearray(), incoming.length or 0
        if told <= self._max_size:
            async for chunk in incoming.body:
                body += chunk
                if len(body) > self._max_size:
                    break
        if max(len(body), told) > self._max_size:
            raise _RefusedError(413, f"the body has more than {self._max_size} bytes")
        return bytes(body)
