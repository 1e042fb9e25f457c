"""A Kustom HPP that runs on your machine: it creates sessions, remembers them, and misbehaves on demand.

    async with Sandbox() as sandbox:
        sandbox.fault("reset_after_request", nth=2)
        ...                                          # a client at sandbox.base_url with sandbox.api_key
        assert len(sandbox.record.created) == 2

`FAULTS` has every fault by its name, with a line on what it does and whether the session exists after it; `PORTS` those of
a whole port, `PROXY_BEHAVIOURS` those of a proxy on the way.
"""

import asyncio
import secrets
import ssl as _ssl
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from kustom_hpp.models import Session
from kustom_hpp.sandbox.faults import FAULTS, Fault, Kind, Stage
from kustom_hpp.sandbox.faults.rules import Rule, Script
from kustom_hpp.sandbox.http.listener import HERE, Listener
from kustom_hpp.sandbox.http.request_context import Credentials
from kustom_hpp.sandbox.http.routes import application
from kustom_hpp.sandbox.http.server import Server
from kustom_hpp.sandbox.latency import Given, Latency, latency_of
from kustom_hpp.sandbox.limits import Bucket, Quota
from kustom_hpp.sandbox.orders import Order, OrderLine
from kustom_hpp.sandbox.ports import PORTS, Port, PortKind, open_port
from kustom_hpp.sandbox.proxy import PROXY_BEHAVIOURS, Proxy, ProxyRequest, open_proxy
from kustom_hpp.sandbox.record import Record
from kustom_hpp.sandbox.recorded import Callback, ConnectionSeen, Created, Distributed, RequestSeen
from kustom_hpp.sandbox.state import Clock, State
from kustom_hpp.sandbox.status_callbacks import Updates
from kustom_hpp.sandbox.stored_session import Action, ClosedError, Moment, StoredSession

__all__ = [
    "FAULTS", "PORTS", "PROXY_BEHAVIOURS", "Action", "Bucket", "Callback", "Clock", "ClosedError", "ConnectionSeen",
    "Created", "Distributed", "Fault", "Kind", "Latency", "Moment", "Order", "OrderLine", "Port", "PortKind", "Proxy",
    "ProxyRequest", "Quota", "Record", "RequestSeen", "Rule", "Sandbox", "Script", "Stage", "State", "StoredSession",
]  # fmt: skip

_TURNS = 20


class Sandbox:
    """The sandbox: `async with Sandbox() as sandbox`.

    Args:
        host: where it listens; on 0.0.0.0 or :: the URLs in its answers are as the client called it.
        port: 0 for any free one.
        api_key: the key that it takes; None makes a new one.
        username: goes with the key where a client sends both.
        quota: creates per second that the key has, with a burst of one second's worth; or a `Quota`. None for no limit.
        latency: seconds that the API keeps each answer back, once its work is done; a pair for a random number between the
            two, the same in every run; or a `Latency`. None for no delay.
        faults: what `fault` is called with at the start, one by one.
        ssl: serves https with this context; None serves http.
        keepalive: seconds after which an idle connection is closed.
        callback_timeout: seconds that a status callback may take.
        callback_delay: seconds until a status callback that was not taken is repeated.
        remember: how many connections, requests and sessions are kept, the newest of each; None keeps all.

    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        *,
        username: str = "K000000_sandbox",
        quota: float | Quota | None = None,
        latency: Given = None,
        faults: Iterable[str | Fault] = (),
        ssl: _ssl.SSLContext | None = None,
        keepalive: float = 75.0,
        callback_timeout: float = 3.0,
        callback_delay: float = 3.0,
        remember: int | None = None,
    ) -> None:
        self.api_key = f"kco_test_api_{secrets.token_urlsafe(24)}" if api_key is None else api_key
        """The key that it takes."""
        self.username = username
        """The user name that goes with the key."""
        self.host = host
        """The address that it listens on."""
        self.base_url = ""
        """Where it listens, as a client's base URL; empty until it is open."""
        self.record = Record(remember=remember)
        """What it saw and what it made."""
        self.state = State(remember=remember)
        """What it remembers between requests."""
        self.faults = Script()
        """The rules by which requests meet faults: `rules`, `add`, `chaos`, `remove`, `clear`."""
        for fault in faults:
            self.faults.add(fault)
        self._port, self._tls, self._keepalive = port, ssl, keepalive
        self._server = Server(
            credentials=Credentials(username=username, api_key=self.api_key),
            state=self.state,
            record=self.record,
            script=self.faults,
            quota=None if quota is None else Bucket(quota if isinstance(quota, Quota) else Quota(quota)),
            latency=latency_of(latency),
        )
        self._server.open_sink = self.sink
        self._updates = Updates(self.state, self.record, timeout=callback_timeout, delay=callback_delay)
        self._server.repeat_callback = self._updates.repeat
        self._runner: web.AppRunner | None = None
        self._listeners: list[Listener] = []
        self._sink = ""
        self._sink_lock = asyncio.Lock()

    @property
    def quota(self) -> Bucket | None:
        """The quota in use, None without one; `quota.taken = 20` lets another client take 20 a second from now on.

        It can be set, to a full `Bucket` or to None.
        """
        return self._server.quota

    @quota.setter
    def quota(self, quota: Bucket | None) -> None:
        self._server.quota = quota

    @property
    def latency(self) -> Latency | None:
        """How long answers are kept back, None for not at all. It can be set, as the argument."""
        return self._server.latency

    @latency.setter
    def latency(self, latency: Given) -> None:
        self._server.latency = latency_of(latency)

    @property
    def clock(self) -> Clock:
        """The clock by which sessions expire: `clock.advance(hours=48)`."""
        return self.state.clock

    def fault(self, what: str | Fault | Sequence[str | Fault | None], **where: Any) -> Rule:
        """Let requests meet a fault, or a sequence of them; see `Script.add`.

        Examples:
            >>> sandbox = Sandbox()
            >>> _ = sandbox.fault("hang~seconds=2")                        # from now on
            >>> _ = sandbox.fault("reset_after_request", nth=3)            # the third create from now, alone
            >>> _ = sandbox.fault("status_429", only="https://...")        # creates for this payment session
            >>> _ = sandbox.fault(["status_503", None, "garbage"])         # the next three, then normal
            >>> _ = sandbox.fault("hang", probability=0.1, seed=7)
            >>> _ = sandbox.fault("status_503", operation="read_session")  # creates alone where none is told

        Every fault can meet every operation. Where its line in `FAULTS` speaks of a 201, it is the operation's own healthy
        answer; a fault of the answer's body makes of an empty 204 a 200 with the session as read.

        Raises:
            ValueError: an unknown fault or parameter.

        """
        return self.faults.add(what, **where)

    def expire(self, payment_session_url: str) -> None:
        """Let a payment session be expired: creates for it are answered 404, and its HPP sessions are gone."""
        self.state.expire(payment_session_url)

    def act(self, session: Session | StoredSession | str, action: Action | str) -> str | None:
        """Do what a consumer does on the page: `sandbox.act(session, "pay")`. It opens the page first.

        Args:
            session: a session of this sandbox, or its id.
            action: `open`, `pay`, `decline`, `back`, `cancel` or `error`.

        Returns:
            The merchant URL to which the browser goes, its placeholders filled in; None where it stays on the page.

        Raises:
            LookupError: there is no such session here.
            ValueError: there is no such action. A `ClosedError` where the session is expired, disabled, completed or
                cancelled.

        """
        return self.state.act(self._stored(session), Action(action))

    def _stored(self, session: Session | StoredSession | str) -> StoredSession:
        session_id = session if isinstance(session, str) else session.session_id
        stored = self.state.sessions.get(session_id)
        if stored is None:
            raise LookupError(f"the sandbox has no session {session_id}")
        return stored

    def repeat_callback(self, session: Session | StoredSession | str) -> None:
        """Send the newest status callback of a session again, with the same event id.

        Raises:
            LookupError: there is no such session here, or no callback has been sent for it.

        """
        self._updates.repeat(self._stored(session))

    def order(
        self, payment_session_url: str, *lines: OrderLine, currency: str = "SEK", shop: str | None = None
    ) -> Order:
        """Say what the payment page shows as the order; without it every payment session has a sample.

        Examples:
            >>> sandbox = Sandbox()
            >>> order = sandbox.order("https://...", OrderLine(name="Mug", quantity=2, unit_price=1900), currency="EUR")
            >>> order.order_amount
            3800

        Args:
            payment_session_url: as in the request that creates the session, before that or after it.
            *lines: at least one.
            currency: three letters, ISO 4217.
            shop: the shop's name; None for the host of its URLs.

        Raises:
            ValueError: there are no lines, or the currency is none.

        """
        order = Order(lines=lines, currency=currency, shop=shop)
        self.state.orders.give(payment_session_url, order)
        return order

    def port(self, name: str) -> AbstractAsyncContextManager[Port]:
        """Open a port with a fault of `PORTS`: `async with sandbox.port("tls_hang") as port: ... port.base_url`.

        Raises:
            ValueError: there is no port fault of this name (when it is entered).

        """
        return open_port(name, self.host, self.record)

    def proxy(self, *behaviours: str) -> AbstractAsyncContextManager[Proxy]:
        """Open a forward proxy: `async with sandbox.proxy("status_407", "ok") as proxy: ... proxy.url, proxy.seen`.

        Args:
            *behaviours: what it does with the next requests, of `PROXY_BEHAVIOURS`; the last one stays. None given: ok.

        Raises:
            ValueError: the proxy cannot do this (when it is entered).

        """
        return open_proxy(self.host, self.record, *behaviours)

    async def settled(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Wait until everything that was sent to the sandbox so far has been read, processed and written down.

        The record tells the truth about a request that its sender gave up on only after this. A fault that keeps silent
        is waited for as long as its client stays. Status callbacks that are due are waited for too; one that waits for its
        repetition is not due.

        Args:
            timeout: in seconds.

        Raises:
            TimeoutError: requests are still being served.

        """
        loop = asyncio.get_running_loop()
        end, quiet = loop.time() + timeout, 0
        # Between a byte's arrival and the first line of its handler lie a few turns of the loop and no waiting for
        # anything outside: that many quiet turns in a row mean that nothing is on its way.
        while quiet < _TURNS:
            idle = (
                not self._server.handlers
                and self._updates.is_quiet
                and all(listener.is_quiet() for listener in self._listeners)
            )
            quiet = quiet + 1 if idle else 0
            if loop.time() > end:
                raise TimeoutError(f"still serving after {timeout} s: {self.record.counts}")
            await asyncio.sleep(0)

    async def sink(self) -> str:
        """The base URL of the sink, a port of its own where nothing should ever come: `record.sink` has what did."""
        async with self._sink_lock:
            if not self._sink:
                self._sink = await self._listen("sink", 0, None)
        return self._sink

    async def open(self) -> Self:
        """Listen."""
        if self._runner is not None:
            raise RuntimeError("the sandbox is open already")
        self._runner = web.AppRunner(application(self._server), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self._server.is_everywhere = self.host in HERE
        self.base_url = self._server.base_url = await self._listen("api", self._port, self._tls)
        self._updates.open()
        return self

    async def aclose(self) -> None:
        """Stop at once: nothing of it is left in the loop. The record stays."""
        if self._runner is None:
            return
        for handler in (*self._server.handlers, *self._server.guests):
            handler.cancel()
        await self._updates.aclose()
        while self._listeners:
            await self._listeners.pop().aclose()
        await self._runner.cleanup()
        self._runner, self._sink = None, ""

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _listen(self, name: str, port: int, tls: _ssl.SSLContext | None) -> str:
        listener = Listener(name, self.record, self._aiohttp_server, self.faults if name == "api" else None)
        self._listeners.append(listener)
        return await listener.open(self.host, port, tls=tls, keepalive=self._keepalive)

    def _aiohttp_server(self) -> web.Server:
        server = None if self._runner is None else self._runner.server
        assert server is not None  # noqa: S101 - for the type checker: we listen only while the runner is set up
        return server
