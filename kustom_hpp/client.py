"""`HPPClient`: composes the rooms below, decides nothing."""

import copy
import ssl as _ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import attrs

from kustom_hpp import config
from kustom_hpp._call import Parts
from kustom_hpp._protocol.request_builder import Protocol
from kustom_hpp._protocol.session_requests import SessionProtocol
from kustom_hpp._redaction import Secret
from kustom_hpp._verbs import Verbs, rules_of
from kustom_hpp.config import Environment, OnUnknown, Pool, RetrySettings, Timeouts
from kustom_hpp.errors import ConfigError
from kustom_hpp.events import Hook, Hooks
from kustom_hpp.pace import Pace
from kustom_hpp.retry import Quota
from kustom_hpp.transport import HTTP_LIBRARY, ClientSession, HTTPSessionManager, Transport

_ORDER_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")


def _secret(value: Any) -> Any:
    """Text that may hold a secret, wrapped so that a traceback does not show it."""
    return Secret(value) if isinstance(value, str) else value


def _secrets(headers: Any) -> Any:
    """Headers with their values wrapped; what is no mapping is left to whoever checks it."""
    return {name: _secret(value) for name, value in headers.items()} if isinstance(headers, Mapping) else headers


class HPPClient(Verbs):
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
        pace: the rate at which sessions are created; share one among the clients of a merchant. None makes one that
            learns: the first 429 slows this client down. The API counts all other operations apart (200 a second to 40
            creates), and so does the client: they take no turn of this pace, but of one that learns from their answers.
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

    def __init__(
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
        http_session: ClientSession | None = None,
        transport: Transport | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        # First of all, so that no frame of a later error holds one in the clear.
        api_key, password, proxy = _secret(api_key), _secret(password), _secret(proxy)
        base_url, environment = _secret(base_url), _secret(environment)
        headers = _secrets(headers)
        if transport is not None and (ssl or proxy or trust_env or http_session):
            msg = (
                "transport stands in for aiohttp: ssl, proxy, trust_env and http_session are not for it, leave them out"
            )
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
        protocol = Protocol(self._settings)
        self._parts = Parts(
            protocol=protocol,
            transport=transport
            or HTTPSessionManager(
                pool=pool, ssl=ssl, proxy=self._settings.proxy, headers=protocol.headers, http_session=http_session
            ),
            pace=pace or Pace(),
            quota=Quota(),
            hooks=Hooks(hooks),
        )
        # Of the merchant's quota for creates, and of what retries may cost them, the other operations take nothing.
        self._session_parts = attrs.evolve(
            self._parts, protocol=SessionProtocol(self._settings, protocol), pace=Pace(), quota=Quota()
        )
        self._rules = rules_of(retry)
        self._is_view = False

    @classmethod
    def from_env(cls, **arguments: Any) -> Self:
        """A client from KUSTOM_HPP_API_KEY, _USERNAME, _PASSWORD, _ENVIRONMENT, _BASE_URL, _INSECURE_HTTP and _APP_INFO.

        Args:
            arguments: as for the class; one that is given wins over its variable.

        Raises:
            ConfigError: as for the class.

        """
        arguments = {name: _secrets(_secret(value)) for name, value in arguments.items()}
        found = config.from_environment()
        # A key of the caller's own replaces all credentials, a password the secret alone; a place has two names.
        for given, replaced in (
            (("api_key",), ("api_key", "password", "username")),
            (("password",), ("api_key", "password")),
            (("environment", "base_url"), ("environment", "base_url")),
        ):
            if any(arguments.get(name) is not None for name in given):
                for name in replaced:
                    found.pop(name, None)
        return cls(**(found | {name: value for name, value in arguments.items() if value is not None}))

    def __repr__(self) -> str:
        if "_settings" not in vars(self):  # a traceback with locals of the ConfigError that its making ended with
            return f"<{type(self).__name__}, not made>"
        where = f", {self._settings.environment}" if self._settings.environment else ""
        return f"<{type(self).__name__} at {self._settings.base_url}{where}>"

    @property
    def settings(self) -> config.Settings:
        """All that this client was told, checked; its `repr` masks what is secret."""
        return self._settings

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
        await self._parts.transport.aclose()

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
        settings, headers = self._settings, _secrets(headers)
        changes = config.check_options(timeouts=timeouts, retry=retry or settings.retry, on_unknown=on_unknown)
        if headers is not None:
            changes["headers"] = config.merge_headers(settings.headers, headers)
        view = copy.copy(self)
        view._settings = attrs.evolve(settings, **changes)  # noqa: SLF001 - it is of our own class
        protocol = Protocol(view._settings)  # noqa: SLF001
        its_hooks = self._parts.hooks if hooks is None else Hooks(hooks)
        view._parts = attrs.evolve(self._parts, protocol=protocol, hooks=its_hooks)  # noqa: SLF001
        view._session_parts = attrs.evolve(  # noqa: SLF001
            self._session_parts,
            protocol=SessionProtocol(view._settings, protocol),  # noqa: SLF001
            hooks=its_hooks,
        )
        view._rules = rules_of(view._settings.retry)  # noqa: SLF001
        view._is_view = True  # noqa: SLF001
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
