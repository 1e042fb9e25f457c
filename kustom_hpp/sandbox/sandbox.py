"""The sandbox: its settings, its lifecycle, and its methods for tests."""

import asyncio
import secrets
import ssl as _ssl
from collections.abc import Iterable, Sequence
from typing import Any, Self

from aiohttp import web
from yarl import URL

from kustom_hpp._redaction import masked_url
from kustom_hpp.models import Session
from kustom_hpp.sandbox.faults import Fault
from kustom_hpp.sandbox.faults.rules import FaultRules, Rule
from kustom_hpp.sandbox.http.listener import Listener
from kustom_hpp.sandbox.http.request_context import Credentials
from kustom_hpp.sandbox.http.routes import application
from kustom_hpp.sandbox.http.server import Server
from kustom_hpp.sandbox.limits import Latency, LatencyOption, RateLimitOption, TokenBucket, bucket_of, latency_of
from kustom_hpp.sandbox.record import Record
from kustom_hpp.sandbox.sample_orders import Order, OrderLine
from kustom_hpp.sandbox.state import MovableClock, SandboxState
from kustom_hpp.sandbox.status_callbacks import CallbackSender
from kustom_hpp.sandbox.stored_session import Action, StoredSession

_QUIET_ITERATIONS = 20
"""Iterations of the event loop without work, after which the sandbox is idle. A byte that has arrived reaches its handler in
fewer."""


class Sandbox:
    """A local HPP server: `async with Sandbox() as sandbox`.

    Args:
        host: the address to listen on. With 0.0.0.0 or ::, the URLs in responses have the host of the request.
        port: 0 for any free port.
        api_key: the accepted key; None creates one.
        username: the username that belongs to the key.
        rate_limit: creates per second, with a burst of one second's worth; or a `MerchantRateLimit`. None: no limit.
        latency: seconds between processing and response; a pair for a random number between the two, the same in every
            run; or a `Latency`. None: no delay.
        faults: faults to add at the start, as for `fault`.
        ssl: the TLS context for https; None serves http.
        keepalive: seconds until an idle connection is closed.
        callback_timeout: seconds until a status callback without a response fails.
        callback_delay: seconds until a failed status callback is repeated.
        remember: how many connections, requests and sessions are recorded, the newest of each; None: all.
        strict: False accepts enum values in another case (`buy` for `BUY`), with a warning in the console.
        public_url: the base URL in responses, if clients and browsers reach the sandbox by another one than it listens on.

    Raises:
        ValueError: an invalid fault, rate limit, latency or public URL.

    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        *,
        username: str = "K000000_sandbox",
        rate_limit: RateLimitOption = None,
        latency: LatencyOption = None,
        faults: Iterable[str | Fault] = (),
        ssl: _ssl.SSLContext | None = None,
        keepalive: float = 75.0,
        callback_timeout: float = 3.0,
        callback_delay: float = 3.0,
        remember: int | None = None,
        strict: bool = True,
        public_url: str | None = None,
    ) -> None:
        self.api_key = f"kco_test_api_{secrets.token_urlsafe(24)}" if api_key is None else api_key
        self.username, self.strict, self.host = username, strict, host
        self.public_url = None if public_url is None else check_public_url(public_url)
        self.base_url = ""
        """The base URL for a client; empty until the sandbox is open."""
        self.record = Record(remember=remember)
        """The connections, requests, sessions and callbacks so far."""
        self.state = SandboxState(remember=remember)
        """The payment sessions and HPP sessions."""
        self.faults = FaultRules()
        """The rules that say which requests get a fault: `rules`, `add`, `add_random`, `remove`, `clear`."""
        for fault in faults:
            self.faults.add(fault)
        self._port, self._tls, self._keepalive = port, ssl, keepalive
        self._callbacks = CallbackSender(self.state, self.record, timeout=callback_timeout, delay=callback_delay)
        self._server = Server(
            credentials=Credentials(username=username, api_key=self.api_key),
            state=self.state,
            record=self.record,
            rules=self.faults,
            callbacks=self._callbacks,
            open_sink=self.redirect_target,
            rate_limit=bucket_of(rate_limit),
            latency=latency_of(latency),
            strict=strict,
            host=host,
            public_url=self.public_url,
        )
        self._runner: web.AppRunner | None = None
        self._listeners: list[Listener] = []
        self._sink = ""
        self._sink_lock = asyncio.Lock()

    @property
    def rate_limit(self) -> TokenBucket | None:
        """The rate limit in use, or None. Assign what the argument takes.

        `rate_limit.other_client_rate = 20` lets another client of the merchant take 20 creates a second from now on.
        """
        return self._server.rate_limit

    @rate_limit.setter
    def rate_limit(self, rate_limit: RateLimitOption) -> None:
        self._server.rate_limit = bucket_of(rate_limit)

    @property
    def latency(self) -> Latency | None:
        """The delay of responses, or None. Assign what the argument takes."""
        return self._server.latency

    @latency.setter
    def latency(self, latency: LatencyOption) -> None:
        self._server.latency = latency_of(latency)

    @property
    def clock(self) -> MovableClock:
        """The clock by which sessions expire: `clock.advance(hours=48)`."""
        return self.state.clock

    def fault(self, /, what: str | Fault | Sequence[str | Fault | None], **conditions: Any) -> Rule:
        """Add a fault, or a sequence of faults; see `FaultRules.add`.

        Examples:
            >>> sandbox = Sandbox()
            >>> _ = sandbox.fault("hang~seconds=2")                        # from now on
            >>> _ = sandbox.fault("reset_after_request", nth=3)            # the third create from now, alone
            >>> _ = sandbox.fault("status_429", payment_session_url="https://...")
            >>> _ = sandbox.fault(["status_503", None, "garbage"])         # the next three, then normal
            >>> _ = sandbox.fault("hang", probability=0.1, seed=7)
            >>> _ = sandbox.fault("status_503", operation="read_session")  # default: creates alone

        Every fault works for every operation. A fault of the body turns an empty 204 into a 200 with the session.

        Raises:
            ValueError: an unknown fault or parameter.

        """
        return self.faults.add(what, **conditions)

    def expire(self, payment_session_url: str) -> None:
        """Let a payment session and its HPP sessions expire: creates get a 404."""
        self.state.expire(payment_session_url)

    def act(self, session: Session | StoredSession | str, action: Action | str) -> str | None:
        """Open the payment page and act as the consumer: `act(session, "pay")`.

        Args:
            session: a session of this sandbox, or its id.
            action: `open`, `pay`, `decline`, `back`, `cancel` or `error`.

        Returns:
            The merchant URL to which the browser goes, with its placeholders replaced; None if it stays on the page.

        Raises:
            LookupError: the sandbox has no such session.
            ValueError: an unknown action. A `SessionClosedError` if the session is expired, disabled, completed or cancelled.

        """
        return self.state.act(self._stored(session), Action(action))

    def repeat_callback(self, session: Session | StoredSession | str) -> None:
        """Send the newest status callback again, with the same event id.

        Raises:
            LookupError: the sandbox has no such session, or has sent no callback for it.

        """
        self._callbacks.repeat(self._stored(session))

    def _stored(self, session: Session | StoredSession | str) -> StoredSession:
        session_id = session if isinstance(session, str) else session.session_id
        stored = self.state.sessions.get(session_id)
        if stored is None:
            raise LookupError(f"the sandbox has no session {session_id}")
        return stored

    def order(
        self, payment_session_url: str, *lines: OrderLine, currency: str = "SEK", shop: str | None = None
    ) -> Order:
        """Set the order on the payment page, which shows a sample without one.

        Examples:
            >>> sandbox = Sandbox()
            >>> order = sandbox.order("https://...", OrderLine(name="Mug", quantity=2, unit_price=1900), currency="EUR")
            >>> order.order_amount
            3800

        Args:
            payment_session_url: as in the create request; before or after it.
            *lines: at least one.
            currency: three letters, ISO 4217.
            shop: the shop's name; None: the host of its URLs.

        Raises:
            ValueError: no lines, or an invalid currency.

        """
        order = Order(lines=lines, currency=currency, shop=shop)
        self.state.orders.set(payment_session_url, order)
        return order

    async def wait_until_idle(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Wait until everything that was sent so far is processed and recorded.

        Call it before you compare the record, if a client has given up on a request: the sandbox may still process it. A
        fault that sends nothing ends when its client leaves. Status callbacks count too, but not the wait for a repetition.

        Args:
            timeout: in seconds.

        Raises:
            TimeoutError: requests are still being served.

        """
        loop = asyncio.get_running_loop()
        end, quiet = loop.time() + timeout, 0
        while quiet < _QUIET_ITERATIONS:
            idle = (
                not self._server.handlers
                and self._callbacks.is_quiet
                and all(listener.is_quiet() for listener in self._listeners)
            )
            quiet = quiet + 1 if idle else 0
            if loop.time() > end:
                raise TimeoutError(f"still serving after {timeout} s: {self.record.counts}")
            await asyncio.sleep(0)

    async def redirect_target(self) -> str:
        """Return the base URL of the sink; `record.sink` has its requests."""
        async with self._sink_lock:
            if not self._sink:
                self._sink = await self._listen("sink", 0, None)
        return self._sink

    async def open(self) -> Self:
        """Start to listen."""
        if self._runner is not None:
            raise RuntimeError("the sandbox is open already")
        self._runner = web.AppRunner(application(self._server), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self.base_url = self._server.base_url = await self._listen("api", self._port, self._tls)
        self._callbacks.open()
        return self

    async def aclose(self) -> None:
        """Stop at once. The record stays."""
        if self._runner is None:
            return
        for handler in (*self._server.handlers, *self._server.page_tasks):
            handler.cancel()
        await self._callbacks.aclose()
        while self._listeners:
            await self._listeners.pop().aclose()
        await self._runner.cleanup()
        self._runner, self._sink = None, ""

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _listen(self, name: str, port: int, tls: _ssl.SSLContext | None) -> str:
        assert self._runner is not None  # noqa: S101 - for the type checker
        assert self._runner.server is not None  # noqa: S101 - the same
        listener = Listener(name, self.record, self._runner.server, self.faults if name == "api" else None)
        self._listeners.append(listener)
        return await listener.open(self.host, port, tls=tls, keepalive=self._keepalive)


def check_public_url(public_url: str) -> str:
    """Return a public URL without its last slash, or raise a ValueError."""
    try:
        url = URL(public_url)
        is_valid = (
            url.scheme in {"http", "https"} and bool(url.host) and not (url.query_string or url.fragment or url.user)
        )
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"public_url is invalid: {masked_url(public_url)}. Use a URL such as http://localhost:8000")
    return public_url.rstrip("/")
