"""What every web framework needs: one client for an app, its background work, and the status endpoint.

It knows no framework. The module of a framework makes a `WebFramework`, which says how to describe its requests and how to
make its responses, and has the functions `client_context`, `client_from`, `run_in_background` and `status_endpoint` of it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypeVar

from attrs import frozen

from kustom_hpp.callbacks import MAX_BODY
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import ConfigError
from kustom_hpp.integrations._status_endpoint import (
    Acknowledge,
    CallbackRequest,
    CallbackResponse,
    SecretSource,
    StatusEndpoint,
    UpdateHandler,
)

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
StartT = TypeVar("StartT")

_log = logging.getLogger("kustom_hpp")


class AppClient:
    """One app's client, and the app's background work. The app's event loop creates and closes it."""

    def __init__(self, client: HPPClient, grace: float) -> None:
        self.client = client
        self._grace = grace
        # The event loop itself has only weak references to tasks.
        self._updates: set[asyncio.Task[bool]] = set()
        self._others: set[asyncio.Task[bool]] = set()
        self._closing = False

    def start_update(self, update: Coroutine[Any, Any, None]) -> asyncio.Task[bool]:
        """Start to process a status update; it has the grace to finish when the app stops. True means without an error."""
        return self._start(update, "work on a status update", self._updates)

    def start_work(self, work: Coroutine[Any, Any, None]) -> None:
        """Start anything else; it is cancelled when the app stops."""
        self._start(work, "work in the background", self._others)

    def _start(self, work: Coroutine[Any, Any, None], name: str, tasks: set[asyncio.Task[bool]]) -> asyncio.Task[bool]:
        if self._closing:
            work.close()
            raise RuntimeError("the app is stopping: it starts no more work")
        task = asyncio.get_running_loop().create_task(_log_failures(work, name))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    async def aclose(self) -> None:
        """Let updates finish within the grace, cancel everything else, and close the client."""
        self._closing = True
        try:
            for task in self._others:
                task.cancel()
            if self._updates:
                await asyncio.wait(self._updates, timeout=self._grace)
        finally:
            # The grace is over, or the stop itself was cancelled: in both cases nothing outlives the client.
            try:
                await self._cancel_all()
            finally:
                await self.client.aclose()

    async def _cancel_all(self) -> None:
        for task in self._updates:
            if not task.done():
                _log.warning("a status update was not finished when the app stopped, with %g s of grace", self._grace)
                task.cancel()
        await asyncio.gather(*self._updates, *self._others, return_exceptions=True)


async def _log_failures(work: Coroutine[Any, Any, None], name: str) -> bool:
    try:
        await work
    except Exception:  # noqa: BLE001 - nothing awaits background work: its error is logged here or lost
        _log.exception("%s failed", name)
        return False
    return True


@frozen(kw_only=True)
class WebFramework(Generic[RequestT, ResponseT, StartT]):
    """What distinguishes a web framework from the others, and the functions that its module has of this."""

    attach: Callable[[Any, AppClient], object]
    """Attaches the client to an app that starts; returns what the app's context yields."""
    find: Callable[[RequestT | StartT], AppClient | None]
    """Finds it again: in a request, or in what has it when the app starts."""
    remedy: str
    """How the app gets a client, for the error if it has none."""
    request: type[RequestT]
    response: type[ResponseT]
    describe: Callable[[RequestT, str], CallbackRequest]
    """Describes a request to the status endpoint, by the name of the secret in its query."""
    respond: Callable[[CallbackResponse], ResponseT]

    def client_context(
        self, make_client: Callable[[], HPPClient] = HPPClient.from_env, *, grace: float = 5.0
    ) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
        """Return the context of an app: it opens one client when the app starts, and closes it when the app stops.

        Args:
            make_client: creates the client when the app starts; by default from the environment.
            grace: seconds in which accepted status updates may finish when the app stops.

        """

        @asynccontextmanager
        async def context(app: Any) -> AsyncIterator[object]:
            app_client = AppClient(make_client(), grace)
            try:
                yield self.attach(app, app_client)
            finally:
                await app_client.aclose()

        return context

    def app_client(self, source: RequestT | StartT) -> AppClient:
        """Return the client and the work of an app.

        Raises:
            ConfigError: the app has no client.

        """
        app_client = self.find(source)
        if app_client is None:
            raise ConfigError(f"the app has no client: {self.remedy}")
        return app_client

    def client_from(self, source: RequestT | StartT) -> HPPClient:
        """Return the app's client.

        Args:
            source: a request; or what has the client when the app starts, after `client_context`.

        Raises:
            ConfigError: the app has no client.

        """
        return self.app_client(source).client

    def run_in_background(self, source: RequestT | StartT, work: Coroutine[Any, Any, None]) -> None:
        """Start work that no response waits for, such as a wait for the session. Its errors are logged.

        It is cancelled when the app stops, so the next start must be able to find unfinished work.

        Args:
            source: a request; or what has the client when the app starts, after `client_context`.
            work: a coroutine.

        Raises:
            ConfigError: the app has no client.
            RuntimeError: the app is stopping.

        """
        self.app_client(source).start_work(work)

    def status_endpoint(
        self,
        on_update: UpdateHandler[RequestT],
        *,
        secret: SecretSource[RequestT],
        parameter: str = "secret",
        max_size: int = MAX_BODY,
        acknowledge: Acknowledge = "before",
    ) -> Callable[[RequestT], Coroutine[Any, Any, ResponseT]]:
        """Return the handler of the route for `MerchantUrls.status_update`.

        It responds with 204; 403 for a wrong secret, before it reads the body; 413, 400 and 405 for an invalid callback;
        503 if the response is not ready in time, so that the API calls again. It logs one line for an invalid callback,
        without its body.

        Args:
            on_update: an async function that takes the request and the update, `async def on_update(request, update)`. It
                must not block the event loop. Its errors are logged. The API repeats calls: de-duplicate by
                `update.event_id`.
            secret: the expected secret, or a function, async or not, that finds it for a request by its URL, and returns
                None if there is none.
            parameter: the secret's name in the query, the `name` of `with_secret`.
            max_size: the most bytes of a body, decompressed.
            acknowledge: "before" responds before `on_update` has run: an update is lost if `on_update` raises or the
                process dies, because the API does not call again. "after" responds when `on_update` has finished: 204, or
                503 if it raised or took more than 2.5 seconds (then it is cancelled). The API calls again after a 503, at
                most four times in all; `on_update` may then run twice for one update, and the update is lost if all calls
                fail.

        Raises:
            ConfigError: `on_update` is not an async function, or the secret or `acknowledge` is invalid.

        """
        endpoint = StatusEndpoint(on_update, secret, max_size, acknowledge)

        async def handle(request: RequestT) -> ResponseT:
            start_update = self.app_client(request).start_update
            return self.respond(await endpoint.handle(start_update, request, self.describe(request, parameter)))

        # Frameworks read the annotations of a handler.
        handle.__annotations__ = {"request": self.request, "return": self.response}
        return handle
