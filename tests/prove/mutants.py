"""Clients that are made to break a promise: each one is what a control must notice."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import kustom_hpp as hpp
from kustom_hpp import retry
from kustom_hpp._protocol import response_reader
from kustom_hpp.batch.circuit_breaker import CircuitBreaker
from kustom_hpp.transport import session_manager


@contextlib.contextmanager
def foreign_errors() -> Iterator[None]:
    """A client that lets aiohttp's exceptions escape."""

    real = session_manager.HTTPSessionManager.send

    async def send(self: Any, request: Any, marker: Any) -> Any:
        try:
            return await real(self, request, marker)
        except hpp.HPPError as error:
            raise OSError(str(error)) from None

    with mock.patch.object(session_manager.HTTPSessionManager, "send", send):
        yield


@contextlib.contextmanager
def judges_by_class() -> Iterator[None]:
    """A client that takes every exception of the connection for NOT_SENT, as hand-written clients do."""

    def connect_error(*_: object, **__: object) -> hpp.HPPError:
        return hpp.ConnectError("no connection")

    with mock.patch.object(session_manager, "map_exception", connect_error):
        yield


@contextlib.contextmanager
def resends_unknown() -> Iterator[None]:
    """A client that retries whatever failed."""
    with mock.patch.object(retry, "is_retryable", lambda error, _: isinstance(error, hpp.HPPError)):
        yield


@contextlib.contextmanager
def redacts_nothing() -> Iterator[None]:
    """A client that shows the API's words as they come."""
    with (
        mock.patch.object(response_reader, "redact_text", lambda text, _: text or ""),
        mock.patch.object(response_reader, "redact_body", lambda body, _: body),
    ):
        yield


@contextlib.contextmanager
def follows_redirects() -> Iterator[None]:
    """A client that leaves redirects to aiohttp."""
    real = session_manager.HTTPSessionManager.__init__

    def init(self: Any, **options: Any) -> None:
        real(self, **options)
        self._options["allow_redirects"] = True

    with mock.patch.object(session_manager.HTTPSessionManager, "__init__", init):
        yield


@contextlib.contextmanager
def never_marks() -> Iterator[None]:
    """A client whose send marker stays unset."""
    real = session_manager.HTTPSessionManager.send

    async def send(self: Any, request: Any, marker: Any) -> Any:
        return await real(self, request, type(marker)())

    with mock.patch.object(session_manager.HTTPSessionManager, "send", send):
        yield


@contextlib.contextmanager
def ignores_deadlines() -> Iterator[None]:
    """A client that takes deadlines for a comment."""
    real = hpp.HPPClient.create_session

    async def create_session(self: hpp.HPPClient, request: Any, *, deadline: object = None, **options: Any) -> Any:
        return await real(self, request, **options)

    with mock.patch.object(hpp.HPPClient, "create_session", create_session):
        yield


@contextlib.contextmanager
def unlimited_retries() -> Iterator[None]:
    """A client without a retry quota."""
    with mock.patch.object(retry.RetryQuota, "acquire", return_value=True):
        yield


@contextlib.contextmanager
def serves_any_loop() -> Iterator[None]:
    """A client that moves to whatever event loop, thread or process calls it."""

    def bind_to_loop(self: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._pid, self._session = loop, os.getpid(), None

    with mock.patch.object(session_manager.HTTPSessionManager, "_bind_to_loop", bind_to_loop):
        yield


@contextlib.contextmanager
def leaves_tasks() -> Iterator[None]:
    """A client that leaves a task behind for each call that is cancelled."""
    real, left = session_manager.HTTPSessionManager.send, list[asyncio.Task[None]]()

    async def send(self: Any, request: Any, marker: Any) -> Any:
        try:
            return await real(self, request, marker)
        except asyncio.CancelledError:
            left.append(asyncio.create_task(asyncio.sleep(3600)))
            raise

    with mock.patch.object(session_manager.HTTPSessionManager, "send", send):
        yield
    for task in left:
        task.cancel()


@contextlib.contextmanager
def never_stops() -> Iterator[None]:
    """A batch whose circuit breaker never opens."""
    with mock.patch.object(CircuitBreaker, "in_doubt", return_value=None):
        yield
