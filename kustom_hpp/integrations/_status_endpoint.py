"""The checks of status callbacks, the same in every web framework."""

import asyncio
import inspect
import logging
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, get_args

from attrs import frozen

from kustom_hpp import callbacks
from kustom_hpp.errors import ConfigError, clean_text

RequestT = TypeVar("RequestT")

UpdateHandler = Callable[[RequestT, callbacks.StatusUpdate], Coroutine[Any, Any, None]]
"""Processes a status update: an async function of the request that brought it, and the update."""
SecretSource = str | Callable[[RequestT], str | Awaitable[str | None] | None]
"""The secret that a callback must bring, or a function that finds it for a request; None if there is none."""
Acknowledge = Literal["before", "after"]
"""When the endpoint responds: before the handler runs, or after it has finished."""
StartUpdate = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[bool]"]
"""Starts to process an update in the background; the result is True if that ended without an error."""

BADLY_COMPRESSED = "the body is not compressed as its Content-Encoding says"
_RESPOND_WITHIN = 2.5
"""Seconds for the response: the API waits 3, see docs.kustom.co, "Status callbacks"."""
_MAX_CONTENT_TYPE = 100
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_log = logging.getLogger("kustom_hpp")


@frozen(kw_only=True)
class CallbackRequest:
    """A request to the status endpoint, as far as its checks need it."""

    method: str
    secrets: Sequence[str]
    """All values that the query has under the secret's name; the endpoint refuses more than one."""
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: AsyncIterable[bytes]
    """The body. Raises ConnectionError if it breaks off, and ValueError if the framework could not decompress it."""
    decompressed: bool = False
    """True if the framework has decompressed the body."""

    @property
    def length(self) -> int | None:
        """The Content-Length; None if there is none, or no number."""
        # Not every server checks it. int() refuses thousands of digits; 18 are more than any body has.
        text = self.headers.get("content-length", "")
        return int(text[:18]) if text.isdecimal() else None


@frozen(kw_only=True)
class CallbackResponse:
    """The endpoint's response: 204, or the reason of a refusal."""

    status: int
    text: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that its status needs."""
        return {"Allow": "POST"} if self.status == 405 else {}  # noqa: PLR2004


class _RefusedError(Exception):
    """The request is not a valid callback."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.response = CallbackResponse(status=status, text=text)


class StatusEndpoint(Generic[RequestT]):
    """Checks status callbacks and passes their updates to a handler.

    Raises:
        ConfigError: the secret is invalid, `on_update` is not a coroutine function, or `acknowledge` is unknown.

    """

    def __init__(
        self,
        on_update: UpdateHandler[RequestT],
        secret: SecretSource[RequestT],
        max_size: int,
        acknowledge: Acknowledge = "before",
    ) -> None:
        if not inspect.iscoroutinefunction(on_update) and not inspect.iscoroutinefunction(
            getattr(on_update, "__call__", None)  # noqa: B004 - an object whose call is a coroutine function is one too
        ):
            raise ConfigError("on_update must be an async function that takes the request and the update")
        if acknowledge not in get_args(Acknowledge):
            raise ConfigError(f"acknowledge must be 'before' or 'after', got {acknowledge!r}")
        if not callable(secret):
            callbacks.check_secret(None, secret)
        self._on_update = on_update
        self._secret = secret
        self._max_size = max_size
        self._acknowledge = acknowledge

    async def handle(self, start_update: StartUpdate, request: RequestT, incoming: CallbackRequest) -> CallbackResponse:
        """Check a request, start the handler, and return the response.

        Implementation note: the handler is a task of the app, not of the connection. A valid update is processed even if the
        connection breaks, and it has the grace if the app stops at this moment.
        """
        deadline = asyncio.get_running_loop().time() + _RESPOND_WITHIN
        try:
            async with asyncio.timeout_at(deadline):
                update = await self._check(request, incoming)
        except TimeoutError:
            return CallbackResponse(status=503, text="no response in time, call again")
        except _RefusedError as refusal:
            return refusal.response
        task = start_update(self._on_update(request, update))
        if self._acknowledge == "before":
            return CallbackResponse(status=204)
        return await _result_of(task, deadline)

    async def _check(self, request: RequestT, incoming: CallbackRequest) -> callbacks.StatusUpdate:
        if incoming.method != "POST":
            raise _RefusedError(405, "POST only")
        if not await self._secret_matches(request, incoming.secrets):
            _log.warning("a status callback without the right secret was refused")
            raise _RefusedError(403, "the secret is not the session's")
        status, size = 400, incoming.length
        try:
            body = await self._read_body(incoming)
            size = len(body)
            return callbacks.parse(body, max_size=self._max_size)
        except ConnectionError:
            reason = "the body broke off"
        except _TooLongError:
            status, reason = 413, f"the body has more than {self._max_size} bytes"
        except ValueError as error:  # a CallbackError is one too
            reason = str(error)
        # The caller knew the secret, so it is the API, or a proxy in between: somebody has to look at this.
        kind = clean_text(incoming.headers.get("content-type", ""), _MAX_CONTENT_TYPE) or "none"
        length = "unknown" if size is None else f"{size} bytes"
        _log.warning("a status callback was refused: content type %s, length %s: %s", kind, length, reason)
        raise _RefusedError(status, reason)

    async def _secret_matches(self, request: RequestT, secrets: Sequence[str]) -> bool:
        """Return True if the secret is right; checked before the first byte of the body is read."""
        expected = self._secret(request) if callable(self._secret) else self._secret
        if isinstance(expected, Awaitable):
            expected = await expected
        return expected is not None and callbacks.check_secret(secrets[0] if len(secrets) == 1 else None, expected)

    async def _read_body(self, incoming: CallbackRequest) -> bytes:
        if (incoming.length or 0) > self._max_size:
            raise _TooLongError
        encoding = "" if incoming.decompressed else incoming.headers.get("content-encoding", "")
        body = bytearray()
        async for chunk in _decompress(incoming.body, encoding):
            body += chunk
            if len(body) > self._max_size:
                raise _TooLongError
        return bytes(body)


class _TooLongError(Exception):
    """The body is longer than the endpoint reads."""


async def _result_of(task: asyncio.Task[bool], deadline: float) -> CallbackResponse:
    """Return 204 if the handler finishes without an error before the deadline; else 503, and the API calls again."""
    await asyncio.wait([task], timeout=deadline - asyncio.get_running_loop().time())
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
        _log.warning("work on a status update took more than %g s and was cancelled", _RESPOND_WITHIN)
        return CallbackResponse(status=503, text="no response in time, call again")
    if task.cancelled() or not task.result():
        return CallbackResponse(status=503, text="the update was not processed, call again")
    return CallbackResponse(status=204)


async def _decompress(body: AsyncIterable[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Yield a body without its Content-Encoding, in pieces of limited size.

    Raises:
        ValueError: the encoding is unknown, or the body is not encoded so.

    """
    names = [name.strip().lower() for name in encoding.split(",") if name.strip().lower() not in ("", "identity")]
    if names and names not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise ValueError("the body has an unknown Content-Encoding")
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB) if names else None
    async for chunk in body:
        if decoder is None:
            yield chunk
            continue
        rest = chunk
        while rest:
            try:
                yield decoder.decompress(rest, callbacks.MAX_BODY)
            except zlib.error:
                raise ValueError(BADLY_COMPRESSED) from None
            rest = decoder.unconsumed_tail
    if decoder is not None and not decoder.eof:
        raise ValueError(BADLY_COMPRESSED)
