"""`HPPClient`: settings, lifecycle, and one method for each operation."""

import asyncio
import copy
import ssl as _ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Self

import attrs

from kustom_hpp import config
from kustom_hpp._call import CallContext, execute
from kustom_hpp._polling import check_poll_interval, poll_until_final
from kustom_hpp._protocol.operations import (
    CREATE_SESSION,
    DISABLE_SESSION,
    DISTRIBUTE_SESSION,
    OPERATIONS,
    READ_SESSION,
)
from kustom_hpp._protocol.request_builder import CallInput, RequestDefaults, build_request, session_ref
from kustom_hpp._redaction import Secret
from kustom_hpp.config import Environment, OnUnknown, Pool, RetrySettings, Timeouts
from kustom_hpp.errors import ConfigError
from kustom_hpp.events import Hook, Hooks
from kustom_hpp.models import CreateSessionRequest, Distribution, Session, SessionDetails
from kustom_hpp.models.urls import KCO_ORDER_PATH
from kustom_hpp.pace import Pace
from kustom_hpp.retry import RetryPolicy, RetryQuota
from kustom_hpp.transport import HTTP_LIBRARY, ClientSession, HTTPSessionManager, Transport

__all__ = ["HPPClient"]

_ORDER_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")


def _wrap_text(value: Any) -> Any:
    """Wrap a text that may hold a secret, so that a traceback does not show it. A key may be in the wrong argument."""
    return Secret(value) if isinstance(value, str) else value


def _wrap_header_values(headers: Any) -> Any:
    """Wrap the values of headers; config refuses anything that is not a mapping."""
    return {name: _wrap_text(value) for name, value in headers.items()} if isinstance(headers, Mapping) else headers


class HPPClient:
    """A client for Kustom's Hosted Payment Page API.

    Create one for each process and event loop, and keep it for their lifetime. It opens its connections at the first
    call. Close it with `async with` or `await client.aclose()`.

    Args:
        api_key: the key from the merchant portal, `kco_live_...` or `kco_test_...`; sent as `Basic <key>`.
        username: the portal's username, `<MID>-<suffix>`. With it, key or password are sent as base64.
        password: the older name of the key that belongs to a username.
        environment: LIVE or PLAYGROUND. Default: from the key's prefix, else PLAYGROUND.
        base_url: another API host, such as a sandbox. The client then does not check the environment.
        insecure_http: send a test key to an http base_url that is not loopback.
        timeouts: seconds for each attempt.
        retry: when the client retries.
        pool: connections and their keep-alive.
        pace: the merchant's rate limiter for creates; share one among the clients of a merchant. None: a new one that
            learns, so the first 429 slows this client down. The API limits all other operations separately; for them the
            client has a second rate limiter, which learns.
        app_info: the caller's part of the User-Agent, such as "MyShop/1.2".
        headers: more headers for every request, such as {"Kustom-Partner": "..."}.
        ssl: a TLS context. The default one verifies and accepts TLS 1.2 and newer; nothing turns that off.
        proxy: URL of an HTTP proxy, with user and password if it needs them.
        trust_env: read the proxy from HTTPS_PROXY, HTTP_PROXY and NO_PROXY, once.
        http_session: an aiohttp session of the caller's. The client does not close it. Make its connector with
            `guarded_connector()`.
        transport: another transport, such as `FakeTransport`. It excludes ssl, proxy, trust_env and http_session.
        hooks: called with the events of each call, see `kustom_hpp.events`.

    Every method that calls the API raises:

    - `InvalidRequestError` (`.problems`), `ConfigError` (an argument), `ClientClosedError`, `WrongLoopError`: the client
      attempted nothing.
    - `DeadlineExceededError`, `ConnectError`, `LeaseLostError` (`may_send` returned False): the client sent nothing.
    - `ApiError` that is not an `OutcomeUnknownError`: the API refused the request.
    - `OutcomeUnknownError`: the API may have processed the request, or did.

    Raises:
        ConfigError: a setting is invalid, or two contradict each other.

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
        # First of all, so that the traceback of a later error shows no secret.
        api_key, password, proxy = _wrap_text(api_key), _wrap_text(password), _wrap_text(proxy)
        base_url, environment = _wrap_text(base_url), _wrap_text(environment)
        headers = _wrap_header_values(headers)
        if transport is not None and (ssl or proxy or trust_env or http_session):
            raise ConfigError(
                "transport replaces aiohttp, so ssl, proxy, trust_env and http_session have no effect. Remove them"
            )
        self._settings = config.build_settings(
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
        defaults = RequestDefaults(self._settings)
        self._create_context = CallContext(
            defaults=defaults,
            transport=transport
            or HTTPSessionManager(
                pool=pool, ssl=ssl, proxy=self._settings.proxy, headers=defaults.headers, http_session=http_session
            ),
            pace=pace or Pace(),
            retry_quota=RetryQuota(),
            hooks=Hooks(hooks),
        )
        # Both contexts share one transport. The API limits the rate of creates separately. Each context has its own retry
        # tokens, so that failing reads cannot stop creates from retrying.
        self._other_context = attrs.evolve(self._create_context, pace=Pace(), retry_quota=RetryQuota())
        self._policies = _policies(retry)
        self._is_view = False

    @classmethod
    def from_env(cls, **arguments: Any) -> Self:
        """Create a client from environment variables.

        They are KUSTOM_HPP_API_KEY, _USERNAME, _PASSWORD, _ENVIRONMENT, _BASE_URL, _INSECURE_HTTP, _APP_INFO
        and _PROXY.

        Args:
            arguments: as for the class. An argument overrides its variable.

        Raises:
            ConfigError: as for the class.

        """
        arguments = {name: _wrap_header_values(_wrap_text(value)) for name, value in arguments.items()}
        found = config.from_environment()
        # An api_key replaces all credentials, a password only the secret; environment and base_url exclude each other.
        for names, replaced in (
            (("api_key",), ("api_key", "password", "username")),
            (("password",), ("api_key", "password")),
            (("environment", "base_url"), ("environment", "base_url")),
            (("transport",), ("proxy",)),
        ):
            if any(arguments.get(name) is not None for name in names):
                for name in replaced:
                    found.pop(name, None)
        if "proxy" in found:  # it says more than HTTPS_PROXY does
            arguments.pop("trust_env", None)
        return cls(**(found | {name: value for name, value in arguments.items() if value is not None}))

    def __repr__(self) -> str:
        if "_settings" not in vars(self):  # in a traceback with locals, after __init__ raised
            return f"<{type(self).__name__}, not initialised>"
        environment = f", {self._settings.environment}" if self._settings.environment else ""
        return f"<{type(self).__name__} at {self._settings.base_url}{environment}>"

    @property
    def settings(self) -> config.Settings:
        """The checked settings of this client. Their `repr` masks secrets."""
        return self._settings

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse new calls, wait for the attempts in flight, and close the connections. Idempotent.

        Raises:
            ConfigError: this is a view from `with_options`. Close the original client.
            WrongLoopError: the client's event loop is another one and still open.

        """
        if self._is_view:
            raise ConfigError("a view from with_options shares its client's connections. Close that client instead")
        await self._create_context.transport.aclose()

    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        retry: RetrySettings | None = None,
        on_unknown: OnUnknown | None = None,
        hooks: Iterable[Hook] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "HPPClient":
        """Return a view of this client with other options. It shares connections and rate limits, and is never closed.

        Args:
            timeouts: replace the client's.
            retry: replaces the client's.
            on_unknown: replaces that of the retry settings.
            hooks: replace the client's.
            headers: added to the client's; a new value replaces one of the same name.

        Raises:
            ConfigError: an option is invalid.

        """
        settings, headers = self._settings, _wrap_header_values(headers)
        changes = config.check_options(timeouts=timeouts, retry=retry or settings.retry, on_unknown=on_unknown)
        if headers is not None:
            changes["headers"] = config.merge_headers(settings.headers, headers)
        settings = attrs.evolve(settings, **changes)
        parts: dict[str, Any] = {"defaults": RequestDefaults(settings)}
        if hooks is not None:
            parts["hooks"] = Hooks(hooks)
        view = copy.copy(self)
        vars(view).update(
            _settings=settings,
            _create_context=attrs.evolve(self._create_context, **parts),
            _other_context=attrs.evolve(self._other_context, **parts),
            _policies=_policies(settings.retry),
            _is_view=True,
        )
        return view

    async def create_session(
        self,
        request: CreateSessionRequest,
        *,
        deadline: float | None = None,
        on_unknown: OnUnknown | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Session:
        """Create a hosted page for a payment session: POST /hpp/v1/sessions.

        Not idempotent. The client retries an attempt that the API may have processed only with `on_unknown="resend"`.

        Args:
            request: the payment session's URL, merchant URLs and options.
            deadline: seconds from now for the whole call, all attempts and waits included; None for no deadline.
            on_unknown: "resend" retries an unknown outcome, at the risk of a second session. Default: the client's
                setting.
            may_send: called directly before each request is sent; False ends the call with a LeaseLostError. A batch
                uses it, so that a run whose lease on a row has ended sends nothing.

        Returns:
            The session. `payment_page` is the URL for the consumer, `info` has facts about the call.

        Raises:
            OutcomeUnknownError: the session may exist. Do not repeat the call; create a new order and a session for it.

        Source: docs.kustom.co, "Create an HPP session".

        """
        session: Session = await self._call(CallInput(CREATE_SESSION, None, request, may_send), deadline, on_unknown)
        return session

    async def read_session(
        self, session: Session | SessionDetails | str, *, deadline: float | None = None
    ) -> SessionDetails:
        """Read a session: GET its `session_url`, or /hpp/v1/sessions/{session_id}.

        A read changes nothing. The client retries every temporary failure, and the caller may repeat the call.

        Args:
            session: the session, its details, or its id.
            deadline: seconds from now for the whole call; None for no deadline.

        Returns:
            The details; `status` is the session's state, `is_final` says whether it can still change.

        Raises:
            NotFoundError: the session expired, or these credentials have no such session.

        Source: docs.kustom.co, "Read an HPP session".

        """
        details: SessionDetails = await self._call(
            CallInput(READ_SESSION, session_ref(READ_SESSION, session)), deadline
        )
        return details

    async def wait_for_session(
        self,
        session: Session | SessionDetails | str,
        *,
        deadline: float,
        poll: float = 2.0,
        on_read: Callable[[SessionDetails], object] | None = None,
    ) -> SessionDetails:
        """Read a session until its status is final: COMPLETED, CANCELLED or DISABLED.

        The fallback for a lost status callback. Temporary failures (no connection, a lost response, 429, 5xx) do not end
        the wait. The client makes each interval up to a tenth longer, at random, and longer if a response asks for it.

        Args:
            session: the session, its details, or its id.
            deadline: seconds from now for the whole wait.
            poll: seconds from the end of one read to the start of the next, at least 0.5.
            on_read: called with the details of each read, in the call's task. It must not block; an exception in it ends
                the wait.

        Returns:
            The details, with a final status. Only COMPLETED is paid.

        Raises:
            DeadlineExceededError: the status is not final yet; `details` has the last ones. Reads may have been sent.
            NotFoundError: the session expired, or these credentials have no such session; `details` has the last ones.
                It can no longer be paid. Read the order to learn whether it was paid before.

        Source: docs.kustom.co, "Tracking session status".

        """
        config.check_deadline(deadline, required=True)
        check_poll_interval(poll)
        # An invalid session is reported as such, whatever the deadline.
        build_request(self._other_context.defaults, CallInput(READ_SESSION, session_ref(READ_SESSION, session)))

        async def read(left: float) -> SessionDetails:
            return await self.read_session(session, deadline=left)

        policy = self._policies[READ_SESSION.name]
        return await poll_until_final(read, policy, deadline=deadline, poll=poll, on_read=on_read)

    async def disable_session(self, session: Session | SessionDetails | str, *, deadline: float | None = None) -> None:
        """Disable a session permanently: DELETE its `session_url`, or /hpp/v1/sessions/{session_id}.

        The consumer's page then shows an error. Idempotent: the client retries every temporary failure, and a 404 after
        an attempt without a response counts as success.

        Args:
            session: the session, its details, or its id.
            deadline: seconds from now for the whole call; None for no deadline.

        Raises:
            BadRequestError: the session is completed.
            NotFoundError: the session expired, or these credentials have no such session.

        Source: docs.kustom.co, "Disable an HPP session".

        """
        await self._call(CallInput(DISABLE_SESSION, session_ref(DISABLE_SESSION, session)), deadline)

    async def distribute_session(
        self,
        session: Session | SessionDetails | str,
        request: Distribution,
        *,
        deadline: float | None = None,
        on_unknown: OnUnknown | None = None,
    ) -> None:
        """Send a session's link to the consumer: POST its `distribution_url`.

        Each call sends a message, so it is not idempotent. The client retries it like a create. It also retries a 503 with
        an API error code, for which the documents say "please try again". The message may arrive minutes later.

        Args:
            session: the session, its details, or its id.
            request: an `EmailDistribution`, `SmsDistribution` or `TokenDistribution`.
            deadline: seconds from now for the whole call; None for no deadline.
            on_unknown: "resend" retries an unknown outcome, at the risk of a second message. Default: the client's
                setting.

        Raises:
            NotFoundError: the session expired, these credentials have no such session, or the access id is unknown.
            ApiError: `code` may be MISSING_CONTACT_DATA, CONSTRAINT_VIOLATION, UNSUPPORTED_COUNTRY and others.
            OutcomeUnknownError: the API may have sent the message.

        Source: docs.kustom.co, "Distribute an HPP session".

        """
        call = CallInput(DISTRIBUTE_SESSION, session_ref(DISTRIBUTE_SESSION, session), request)
        await self._call(call, deadline, on_unknown)

    def _call(
        self, call: CallInput, deadline: float | None, on_unknown: OnUnknown | None = None
    ) -> Coroutine[Any, Any, Any]:
        operation = call.operation
        policy = self._policies[operation.name]
        if deadline is not None or on_unknown is not None:
            until = None if deadline is None else asyncio.get_running_loop().time() + config.check_deadline(deadline)
            retry = config.check_options(retry=self._settings.retry, on_unknown=on_unknown)["retry"]
            policy = RetryPolicy(operation, retry, until)
        context = self._create_context if operation.rate_limit_group == "creates" else self._other_context
        return execute(context, call, policy)

    def order_url(self, order_id: str) -> str:
        """Return the URL of a KCO order at this client's host, for `CreateSessionRequest.payment_session_url`.

        Args:
            order_id: the order's id from Kustom, for example "92d97f60-7a78-46a5-8f68-c56fe52dc4af".

        Raises:
            ConfigError: the id has characters other than letters, digits, "-", "_", "." and "~".

        """
        if not isinstance(order_id, str) or not order_id.strip(".") or not _ORDER_ID_CHARACTERS.issuperset(order_id):
            raise ConfigError("order_id must be the id alone: letters, digits, '-', '_', '.' and '~'")
        return f"{self._settings.base_url}{KCO_ORDER_PATH}{order_id}"


def _policies(settings: RetrySettings) -> dict[str, RetryPolicy]:
    """Return the policies of calls without options of their own, by the operation's name."""
    return {operation.name: RetryPolicy(operation, settings) for operation in OPERATIONS}
