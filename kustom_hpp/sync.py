"""`SyncHPPClient`: the client for code without an event loop, such as Django, Flask and Celery."""

import asyncio
import concurrent.futures
import copy
import functools
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from kustom_hpp import config
from kustom_hpp._messages import Delivery
from kustom_hpp.client import HPPClient
from kustom_hpp.errors import ClientClosedError, ConfigError, WrongLoopError

__all__ = ["SyncHPPClient"]

P = ParamSpec("P")
R = TypeVar("R")


class _ClientThread:
    """An event loop in a thread of this process, and the client that runs in it."""

    def __init__(self, client: HPPClient) -> None:
        self.client = client
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._stopping = False
        self._closers: list[asyncio.Task[None]] = []
        self.thread = threading.Thread(target=self._run, name="kustom_hpp", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def start_call(
        self, call: Coroutine[Any, Any, R], done: "concurrent.futures.Future[R]"
    ) -> "concurrent.futures.Future[asyncio.Task[None]]":
        """Run a call in the loop; its result or its error goes into `done`.

        Raises:
            ClientClosedError: the thread stops.

        """

        async def run() -> None:
            try:
                done.set_result(await call)
            except BaseException as error:  # noqa: BLE001 - the calling thread gets it, a cancellation too
                done.set_exception(error)

        started: concurrent.futures.Future[asyncio.Task[None]] = concurrent.futures.Future()
        with self._lock:
            if self._stopping:
                call.close()
                raise ClientClosedError
            self.loop.call_soon_threadsafe(lambda: started.set_result(self.loop.create_task(run())))
        return started

    def stop(self) -> None:
        """Close the client, wait for its calls, and end the thread; in a forked process, do nothing."""
        if self.pid != os.getpid():
            return
        with self._lock:
            if not self._stopping:
                self._stopping = True
                # Calls that were started before are scheduled before this.
                self.loop.call_soon_threadsafe(lambda: self._closers.append(self.loop.create_task(self._close())))
        if threading.current_thread() is not self.thread:  # the collector may run this anywhere
            self.thread.join()

    async def _close(self) -> None:
        try:
            await self.client.aclose()
            await asyncio.gather(*(asyncio.all_tasks() - set(self._closers)), return_exceptions=True)
        finally:
            self.loop.stop()


class _Lifecycle:
    """The client thread of each process: started at the first call, stopped once. A client and its views share it."""

    def __init__(self, make_client: Callable[[], HPPClient]) -> None:
        self._make_client = make_client
        self.first_client = make_client()
        self._current: _ClientThread | None = None
        self._inherited: list[_ClientThread] = []
        """Threads of the processes that this one was forked from. Never collected: that would touch their sockets."""
        self._locks: dict[int, threading.Lock] = {}
        self._closed = False

    def current(self) -> _ClientThread:
        """Return this process's client thread.

        Raises:
            ClientClosedError: the client is closed.

        """
        current = self._current
        if current is None or current.pid != os.getpid():
            with self._lock():
                current = self._current
                if not self._closed and (current is None or current.pid != os.getpid()):
                    client = self.first_client
                    if current is not None:
                        self._inherited.append(current)
                        client = self._make_client()
                    current = self._current = _ClientThread(client)
                    weakref.finalize(self, current.stop)
        if self._closed or current is None:
            raise ClientClosedError
        return current

    def close(self) -> None:
        """Refuse new calls, wait for the attempts in flight, and stop the thread."""
        with self._lock():
            self._closed = True
            current = self._current
        if current is not None:
            current.stop()

    def _lock(self) -> threading.Lock:
        # One for each process: a fork may happen while another thread holds it. setdefault is atomic.
        return self._locks.setdefault(os.getpid(), threading.Lock())


def _blocking(
    method: Callable[Concatenate[HPPClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["SyncHPPClient", P], R]:
    """Return the blocking version of a method of HPPClient."""

    def call(self: "SyncHPPClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(lambda client: method(client, *args, **kwargs), method.__name__)

    functools.update_wrapper(call, method)
    vars(call).pop("__wrapped__")  # nobody should take it for a coroutine function
    vars(call)["__signature__"] = inspect.signature(method)
    return call


def _same_arguments(
    method: Callable[Concatenate[Any, P], Any],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give a method the signature of another one."""
    return functools.wraps(method)


class SyncHPPClient:
    """A client for code without an event loop: the methods of `HPPClient` without `await`.

    Arguments, return values and errors are those of `HPPClient`, except that it takes no `http_session`. Create one for
    the application and share it among its threads: it runs an event loop in a background thread, which starts at the
    first call. After a fork (gunicorn, Celery prefork) each process starts its own. Close it with `with` or `close()`.

    An exception that interrupts a waiting call in the calling thread (KeyboardInterrupt, a signal handler's timeout,
    Celery's SoftTimeLimitExceeded) cancels the call. The exception then has an attribute `delivery` and a note that say
    what is known: after UNKNOWN the session may exist. Prefer `deadline=`, which raises an error of the library.

    Inside a running event loop, use `HPPClient`: this client would block the loop.
    """

    _lifecycle: _Lifecycle
    _view: Callable[[HPPClient], HPPClient] | None = None

    @_same_arguments(HPPClient.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("http_session") is not None:
            raise ConfigError(
                "http_session belongs to an event loop of the caller's. Leave it out, or use HPPClient in that loop"
            )
        self._start(functools.partial(HPPClient, *args, **kwargs))

    @classmethod
    def from_env(cls, **arguments: Any) -> Self:
        """Create a client from the KUSTOM_HPP_* variables; see `HPPClient.from_env`."""
        client = cls.__new__(cls)
        client._start(functools.partial(HPPClient.from_env, **arguments))  # noqa: SLF001 - of this class
        return client

    def _start(self, make_client: Callable[[], HPPClient]) -> None:
        self._lifecycle = _Lifecycle(make_client)
        self._template = self._lifecycle.first_client

    def __repr__(self) -> str:
        if "_template" not in vars(self):  # a traceback with locals of the ConfigError in __init__
            return f"<{type(self).__name__}, not created>"
        return repr(self._template).replace(type(self._template).__name__, type(self).__name__, 1)

    @property
    def settings(self) -> config.Settings:
        """The checked settings; their `repr` masks secrets."""
        return self._template.settings

    def order_url(self, order_id: str) -> str:
        """Return the URL of a KCO order; see `HPPClient.order_url`."""
        return self._template.order_url(order_id)

    create_session = _blocking(HPPClient.create_session)
    read_session = _blocking(HPPClient.read_session)
    wait_for_session = _blocking(HPPClient.wait_for_session)
    disable_session = _blocking(HPPClient.disable_session)
    distribute_session = _blocking(HPPClient.distribute_session)

    def with_options(self, **options: Any) -> "SyncHPPClient":
        """Return a view of this client with other options; see `HPPClient.with_options`. It shares thread and pool."""
        outer, view = self._view, copy.copy(self)
        view._view = lambda client: (outer(client) if outer else client).with_options(**options)  # noqa: SLF001
        view._template = self._template.with_options(**options)  # noqa: SLF001
        return view

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse new calls, wait for the attempts in flight, close the connections and stop the thread. Idempotent.

        Raises:
            ConfigError: this is a view made by `with_options`. Close the client that it was made of.

        """
        if self._view is not None:
            raise ConfigError("a view made by with_options shares its client's connections. Close that client instead")
        self._lifecycle.close()

    def _call(self, start: Callable[[HPPClient], Coroutine[Any, Any, R]], name: str) -> R:
        current = self._lifecycle.current()
        if threading.current_thread() is current.thread:
            raise WrongLoopError(
                f"{name} was called in the client's own thread, by a hook or on_read. Call it in another thread"
            )
        client = current.client if self._view is None else self._view_of(current.client)
        done: concurrent.futures.Future[R] = concurrent.futures.Future()
        started = current.start_call(start(client), done)
        try:
            return done.result()
        except BaseException as error:
            if done.done() and done.exception() is error:
                raise  # the call's own error
            # Cancel, and wait for what is known. A second interrupt ends this wait.
            current.loop.call_soon_threadsafe(lambda: started.result().cancel())
            concurrent.futures.wait([done])
            _report_interrupt(error, done, name)
            raise
        finally:
            del done  # otherwise the error, its traceback and this frame refer to each other until the collector runs

    def _view_of(self, client: HPPClient) -> HPPClient:
        if client is self._lifecycle.first_client:
            return self._template
        assert self._view is not None  # noqa: S101 - the caller checked
        return self._view(client)


def _report_interrupt(interrupt: BaseException, done: "concurrent.futures.Future[Any]", name: str) -> None:
    """Say on an exception of the calling thread what is known about the call that it interrupted."""
    error = done.exception()
    delivery = Delivery.ACCEPTED if error is None else getattr(error, "delivery", None)
    facts = {
        None: "nothing was attempted",
        Delivery.NOT_SENT: "nothing was sent",
        Delivery.REJECTED: "the API refused the request",
        Delivery.UNKNOWN: "the API may have processed the request",
        Delivery.ACCEPTED: "the API processed the request",
    }
    session_id = getattr(done.result(), "session_id", None) if error is None else None
    detail = f", session {session_id}" if session_id else f" ({error})" if error is not None and str(error) else ""
    interrupt.delivery = delivery  # type: ignore[attr-defined]
    interrupt.add_note(f"{name} was interrupted: {facts[delivery]}{detail}")
