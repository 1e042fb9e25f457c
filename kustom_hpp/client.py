"""`HPPClient`: composes the rooms below, decides nothing."""

import asyncio
import ssl as _ssl
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import attrs

from kustom_hpp import _protocol, config, retry
from kustom_hpp.config import Environment, OnUnknown, Pool, RetrySettings, Timeouts
from kustom_hpp.errors import ConfigError, DeadlineExceededError, HPPError
from kustom_hpp.events import Finished, Hook, Hooks, Retrying, Started
from kustom_hpp.models import CreateSessionRequest, Session
from kustom_hpp.pace import Pace
from kustom_hpp.transport import HTTP_LIBRARY, HTTPSessionManager, Transport
from kustom_hpp.wire import CallInfo, Delivery, HttpRequest, HttpResponse, Mark, Secret

if TYPE_CHECKING:
    import aiohttp

_Quota = retry.Quota  # the constructor's argument `retry` hides the module there
_ORDER_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")


def _secret(value: Any) -> Any:
    """Text that may hold a secret, wrapped so that a traceback does not show it."""
    return Secret(value) if isinstance(value, str) else value


class HPPClient:
    """A client for Kustom's Hosted Payment Page: one for each process and event loop, kept for their life.

    It opens its connections at the first call. Close it with `async with` or `await client.aclose()`.

    Args:
        api_key: the key from the merchant portal, `kco_live_...` or `kco_test_...`; sent as `Basic <key>`.
        username: the portal's username, `<MID>-<suffix>`; then key or password are sent with it, as base64.
        password: the old name of the key that belongs to a username.
        environment: LIVE or PLAYGROUND; by default what the key's prefix says, and the playground where it says nothing.
        base_url: another place: a sandbox, a regional host. Then no environment is judged.
        insecure_http: let a test key go to an http base_url that is not loopback.
        timeouts: for each attempt, in seconds.
        retry: when to try again.
        pool: connections and their keep-alive.
        pace: the merchant's rate; share one among the clients of a merchant. None for no limit.
        app_info: the caller's part of the User-Agent, like "MyShop/1.2".
        headers: more headers for every request, like {"Kustom-Partner": "..."}.
        ssl: a TLS context; the default one verifies and takes TLS 1.2 and newer. There is no way to turn that off.
        proxy: URL of an HTTP proxy, perhaps with user and password.
        trust_env: take the proxy from HTTPS_PROXY, HTTP_PROXY and NO_PROXY, read once.
        http_session: an aiohttp session to borrow; it is never closed here. Make its connector with
            `guarded_connector()`.
        transport: another transport, such as `FakeTransport`; then pool, ssl, proxy and http_session are not for it.
        hooks: told what happens during calls, see `kustom_hpp.events`.

    Raises:
        ConfigError: a setting cannot work, or two contradict each other.

    """

    def __init__(  # noqa: PLR0913 - a client's settings, all of them optional and by name
        self,
        api_key: str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        environment: Environment | str | None = None,
        base_url: str | None = None,
        insecure_http: bool = False,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        retry: RetrySettings = RetrySettings(),  # noqa: B008 - frozen
        pool: Pool = Pool(),  # noqa: B008 - frozen
        pace: Pace | None = None,
        app_info: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl: _ssl.SSLContext | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        http_session: "aiohttp.ClientSession | None" = None,
        transport: Transport | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        # First of all, so that no frame of a later error holds one in the clear.
        api_key, password, proxy, base_url = _secret(api_key), _secret(password), _secret(proxy), _secret(base_url)
        headers = {name: _secret(value) for name, value in headers.items()} if headers else None
        if transport is not None and (ssl or proxy or trust_env or http_session):
            msg = "transport stands in for aiohttp: ssl, proxy, trust_env and http_session are not for it, leave them out"
            raise ConfigError(msg)
        self._settings = config.build(
            api_key=api_key,
            username=username,
            password=password,
            environment=environment,
            base_url=base_url,
            insecure_http=insecure_http,
            timeouts=timeouts,
            retry=retry,
            pool=pool,
            app_info=app_info,
            headers=headers,
            ssl=ssl,
            proxy=proxy,
            trust_env=trust_env,
            http_library=HTTP_LIBRARY,
        )
        self._protocol = _protocol.Protocol(self._settings)
        self._transport: Transport = transport or HTTPSessionManager(
            pool=pool, ssl=ssl, proxy=self._settings.proxy, http_session=http_session
        )
        self._pace = pace or Pace()
        self._quota = _Quota()
        self._hooks = Hooks(hooks)
        self._is_view = False

    @classmethod
    def from_env(cls, **arguments: Any) -> Self:
        """A client from KUSTOM_HPP_API_KEY, _USERNAME, _PASSWORD, _ENVIRONMENT, _BASE_URL, _INSECURE_HTTP and _APP_INFO.

        Args:
            arguments: as for the class; one that is given wins over its variable.

        Raises:
            ConfigError: as for the class.

        """
        arguments = {name: _secret(value) for name, value in arguments.items()}
        found = config.from_environment()
        # A key and its password are one setting, and so are the two names of a place.
        for one, other in (("api_key", "password"), ("environment", "base_url")):
            if arguments.get(one) is not None or arguments.get(other) is not None:
                found.pop(one, None)
                found.pop(other, None)
        return cls(**(found | {name: value for name, value in arguments.items() if value is not None}))

    def __repr__(self) -> str:
        where = f", {self._settings.environment}" if self._settings.environment else ""
        return f"<{type(self).__name__} at {self._settings.base_url}{where}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse new calls, let attempts in flight end within their timeouts, and close the connections. Idempotent.

        Raises:
            ConfigError: this is a view made by `with_options`; close the client that it was made of.
            WrongLoopError: called in another event loop while the client's own still lives.

        """
        if self._is_view:
            msg = "a view made by with_options shares its client's connections: close that client instead"
            raise ConfigError(msg)
        await self._transport.aclose()

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        retry: RetrySettings | None = None,
        on_unknown: OnUnknown | None = None,
        hooks: Iterable[Hook] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "HPPClient":
        """A view of this client with other options; it shares pool, gate, pace and quota, and is not closed by itself.

        Args:
            timeouts: instead of the client's.
            retry: instead of the client's.
            on_unknown: instead of the retry settings'.
            hooks: instead of the client's.
            headers: beside the client's; of one name the new one holds.

        Raises:
            ConfigError: an option cannot work.

        """
        settings = self._settings
        changes = config.check_options(timeouts=timeouts, retry=retry or settings.retry, on_unknown=on_unknown)
        if headers is not None:
            changes["headers"] = config.merge_headers(settings.headers, headers)
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._settings = attrs.evolve(settings, **changes)
        view._protocol = _protocol.Protocol(view._settings)
        view._is_view = True
        if hooks is not None:
            view._hooks = Hooks(hooks)
        return view

    def order_url(self, order_id: str) -> str:
        """The URL of a KCO order at this client's host, for `CreateSessionRequest.payment_session_url`.

        Args:
            order_id: the order's id as Kustom gave it, for example "92d97f60-7a78-46a5-8f68-c56fe52dc4af".

        Raises:
            ConfigError: the id is not letters, digits, "-", "_", "." and "~".

        """
        if not isinstance(order_id, str) or not order_id.strip(".") or not _ORDER_ID_CHARACTERS.issuperset(order_id):
            msg = "order_id must be the id alone: letters, digits, '-', '_', '.' and '~'"
            raise ConfigError(msg)
        return f"{self._settings.base_url}/checkout/v3/orders/{order_id}"

    async def create_session(
        self, request: CreateSessionRequest, *, deadline: float | None = None, on_unknown: OnUnknown | None = None
    ) -> Session:
        """Create a hosted page for a payment session: POST /hpp/v1/sessions.

        Not idempotent: what is known not to have been processed is sent again, what may have been processed never is,
        unless `on_unknown="resend"`.

        Args:
            request: the payment session's URL, merchant URLs and options.
            deadline: seconds from now for the whole call, all attempts and waits; None for no end.
            on_unknown: "resend" sends again what may have been processed, at the risk of a second session; None takes
                the client's setting.

        Returns:
            The session; `payment_page` is where the consumer goes, `info` tells how the call went.

        Raises:
            InvalidRequestError: the documents forbid the request; nothing attempted.
            ConfigError: deadline or on_unknown cannot work; nothing attempted.
            ClientClosedError: nothing attempted.
            WrongLoopError: nothing attempted.
            DeadlineExceededError: nothing sent.
            ConnectError: nothing sent.
            ApiError: refused, unless it is an OutcomeUnknownError too.
            OutcomeUnknownError: the session may exist; never repeat the call, make a new order and a session for it.

        Source: docs.kustom.co, "Create an HPP session".

        """
        session: Session = await self._call(_protocol.CREATE_SESSION, request, deadline, on_unknown)
        return session

    async def _call(
        self, operation: _protocol.Operation, request: Any, deadline: float | None, on_unknown: OnUnknown | None
    ) -> Any:
        now = asyncio.get_running_loop().time
        until = None if deadline is None else now() + config.check_deadline(deadline)
        settings = self._settings.retry
        if on_unknown is not None:
            settings = config.check_options(retry=settings, on_unknown=on_unknown)["retry"]
        rules = retry.Rules(settings=settings, repeatable=operation.repeatable, deadline=until)
        call = _Call(
            operation=operation,
            request=request,
            http_request=self._protocol.build(operation, request, until),
            client=self,
            rules=rules,
            now=now,
        )
        return await (call.run_with_hooks(self._hooks) if self._hooks else call.run())


class _Call:
    """One call: its attempts share an encoded request, a deadline and a progress."""

    __slots__ = ("answer", "client", "http_request", "mark", "now", "operation", "progress", "request", "rules")

    def __init__(
        self,
        *,
        operation: _protocol.Operation,
        request: Any,
        http_request: HttpRequest,
        client: HPPClient,
        rules: retry.Rules,
        now: Callable[[], float],
    ) -> None:
        self.operation = operation
        self.request = request
        self.http_request = http_request
        self.client = client
        self.rules = rules
        self.now = now
        self.progress = retry.Progress()
        self.mark: Mark | None = None
        """The attempt in flight; None between attempts."""
        self.answer: HttpResponse | None = None

    async def attempt(self) -> Any:
        """Take a turn, send, read."""
        client, until = self.client, self.rules.deadline
        # Pace counts on one clock for all event loops of the process.
        await client._pace.turn(None if until is None else until - self.now() + time.monotonic())  # noqa: SLF001
        began = self.now()
        if until is not None and began >= until:
            msg = "the deadline had passed before the request's turn: nothing was sent"
            raise DeadlineExceededError(msg)
        if self.progress.began is None:
            self.progress.began = began
        self.mark = Mark()
        try:
            answer = self.answer = await client._transport.send(self.http_request, self.mark)  # noqa: SLF001
            return client._protocol.read(self.operation, self.request, answer)  # noqa: SLF001
        except HPPError:
            self.mark = None
            raise

    async def run(self, on_retry: Callable[[int, float, HPPError], None] | None = None) -> Any:
        """The value, with how the call went."""
        progress = self.progress
        value = await retry.call(self.attempt, self.rules, self.client._quota, progress, on_retry)  # noqa: SLF001
        answer, began = self.answer, progress.began
        assert answer is not None  # noqa: S101 - a value was read from it
        assert began is not None  # noqa: S101
        info = CallInfo(
            attempts=progress.attempts,
            elapsed=self.now() - began,
            status=answer.status,
            correlation_id=_protocol.correlation_id(answer.headers),
            rate_limit=_protocol.rate_limit(answer.headers),
            earlier_unknown=progress.earlier is Delivery.UNKNOWN,
        )
        return _protocol.with_info(value, info)

    async def run_with_hooks(self, hooks: Hooks) -> Any:
        """The same, told to the hooks."""
        name, started = self.operation.name, self.now()
        hooks.emit(Started(operation=name, host=self.http_request.url.host or ""))

        def on_retry(attempt: int, wait: float, error: HPPError) -> None:
            hooks.emit(Retrying(operation=name, attempt=attempt, wait=wait, error=error))

        error: HPPError | None = None
        cancelled = True
        delivery: Delivery | None = None
        try:
            value = await self.run(on_retry)
            cancelled, delivery = False, Delivery.ACCEPTED
        except HPPError as failure:
            cancelled, error, delivery = False, failure, failure.delivery
            raise
        else:
            return value
        finally:
            if cancelled:
                delivery = Delivery.worst(self.progress.earlier, self.mark.delivery if self.mark else None)
            hooks.emit(
                Finished(
                    operation=name,
                    attempts=self.progress.attempts + (cancelled and self.mark is not None),
                    elapsed=self.now() - started,
                    delivery=delivery,
                    status=self.answer.status if self.answer else None,
                    correlation_id=error.correlation_id
                    if error
                    else _protocol.correlation_id(self.answer.headers)
                    if self.answer
                    else None,
                    error=error,
                    cancelled=cancelled,
                )
            )
