"""What a shop needs whatever its web framework: its orders, the request for a session, and what to do when one changes.

Three things say that an order is paid, and none of them alone is enough: the consumer comes to the success page (or closes
the browser on the way), the API calls back (or the call is lost), a poll finds it (a little later). Each of them only makes
the shop look: what counts is how the session stands when it is read.
"""

import html
import logging
import os
import secrets
import sqlite3
import uuid
from collections.abc import Awaitable

from attrs import frozen

import kustom_hpp as hpp

log = logging.getLogger("shop")


@frozen(kw_only=True)
class Order:
    """An order of the shop."""

    id: str
    secret: str
    """What the API must bring when it calls back about this order."""
    session_id: str | None
    status: str
    """`open` until its session comes to an end; then `COMPLETED`, which is paid, `CANCELLED` or `DISABLED`. `unknown` where
    the session was gone before its end was seen: it may be paid."""


class Orders:
    """The shop's memory. It outlives the process where `path` is a file.

    Implementation note: sqlite3 blocks for a moment. That is good enough here; with a database across the network use its
    async driver.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript("""
            CREATE TABLE IF NOT EXISTS orders
                (id TEXT PRIMARY KEY, secret TEXT NOT NULL, session_id TEXT, status TEXT NOT NULL DEFAULT 'open');
            CREATE TABLE IF NOT EXISTS events
                (event_id TEXT PRIMARY KEY);  -- a unique index: the same event counts once, however often it comes
        """)

    def new(self) -> Order:
        """A new order. A real shop makes it at the Checkout API too, and has its id from there."""
        order_id, secret = str(uuid.uuid4()), secrets.token_urlsafe(32)
        self._database.execute("INSERT INTO orders (id, secret) VALUES (?, ?)", (order_id, secret))
        return Order(id=order_id, secret=secret, session_id=None, status="open")

    def find(self, order_id: str) -> Order | None:
        """The order with this id; None where there is none."""
        row = self._database.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
        return None if row is None else Order(id=row[0], secret=row[1], session_id=row[2], status=row[3])

    def unsettled(self) -> list[str]:
        """The ids of orders that have a session whose end is not known."""
        rows = self._database.execute("SELECT id FROM orders WHERE status = 'open' AND session_id IS NOT NULL")
        return [order_id for (order_id,) in rows]

    def has_session(self, order_id: str, session_id: str) -> None:
        """Keep the session beside its order: nobody can look it up by the order."""
        self._database.execute("UPDATE orders SET session_id = ? WHERE id = ?", (session_id, order_id))

    def is_known(self, event_id: str | None) -> bool:
        """Whether this event was worked off."""
        found = self._database.execute("SELECT 1 FROM events WHERE event_id = ?", (event_id,))
        return found.fetchone() is not None

    def settle(self, order_id: str, status: str, event_id: str | None = None) -> None:
        """Write down how an order ended, once, and the event that told of it, both or neither. `unknown` is no end."""
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            if event_id is not None:
                self._database.execute("INSERT OR IGNORE INTO events VALUES (?)", (event_id,))
            update = "UPDATE orders SET status = ? WHERE id = ? AND status IN ('open', 'unknown') AND status <> ?"
            first = self._database.execute(update, (status, order_id, status)).rowcount == 1
        if first:  # the callback and the poll both come here: what happens once, happens once
            log.info("order %s: %s", order_id, status)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


@frozen(kw_only=True)
class Shop:
    """The shop."""

    orders: Orders
    url: str
    """Where consumers reach it, without a slash at the end. From the settings, never from a request's Host header."""
    callback_url: str
    """Where the API reaches it: the same, or a tunnel to a machine that the internet does not see."""
    host: str | None = None
    """What it listens on, if not the host of `url`: in a container, all addresses."""
    poll: float = 10.0
    """Seconds between two looks at a session whose end is awaited."""

    @classmethod
    def from_env(cls) -> "Shop":
        """The shop that SHOP_URL, SHOP_CALLBACK_URL, SHOP_HOST and SHOP_DB tell."""
        url = os.environ.get("SHOP_URL", "http://127.0.0.1:8080")
        orders = Orders(os.environ.get("SHOP_DB", ":memory:"))
        callback_url = os.environ.get("SHOP_CALLBACK_URL", url)
        return cls(orders=orders, url=url, callback_url=callback_url, host=os.environ.get("SHOP_HOST"))

    async def payment_page(self, client: hpp.HPPClient, order: Order) -> str:
        """Make a hosted page for an order; gives its URL.

        Raises:
            HPPError: there is none. An order is for one try: the next press of the button makes a new one, also where the
                outcome is unknown.

        """
        session = await client.create_session(
            hpp.CreateSessionRequest(
                payment_session_url=client.order_url(order.id),
                merchant_urls=hpp.MerchantUrls(
                    success=f"{self.url}/orders/{order.id}",
                    back=f"{self.url}/",
                    failure=f"{self.url}/",
                    status_update=hpp.with_secret(f"{self.callback_url}/status/{order.id}", order.secret),
                ),
            ),
            deadline=10,
        )
        self.orders.has_session(order.id, session.session_id)
        return session.payment_page

    async def look(self, client: hpp.HPPClient, order_id: str, event_id: str | None) -> None:
        """Something changed: see what. The callback tells too, but a read is as good whoever called."""
        order = self.orders.find(order_id)
        if order is None or order.session_id is None or self.orders.is_known(event_id):
            return
        await self._settle(order_id, client.read_session(order.session_id, deadline=30), event_id)

    async def follow(self, client: hpp.HPPClient, order_id: str) -> None:
        """The back-up for lost callbacks: look from time to time until the session comes to its end."""
        order = self.orders.find(order_id)
        if order is None or order.session_id is None:
            return
        await self._settle(
            order_id, client.wait_for_session(order.session_id, deadline=48 * 3600, poll=self.poll), event_id=None
        )

    async def _settle(self, order_id: str, reading: Awaitable[hpp.SessionDetails], event_id: str | None) -> None:
        try:
            details = await reading
        except hpp.NotFoundError:
            # The session is gone, and nobody can say from here whether it was paid before. A real shop reads the order now:
            # GET /checkout/v3/orders/{id} at the Checkout API, where checkout_complete is paid; where it has expired there
            # too, GET /ordermanagement/v1/orders/{id}, the API for orders that are completed.
            self.orders.settle(order_id, "unknown")
            return
        if details.is_final:
            self.orders.settle(order_id, str(details.status), event_id)

    def page(self, order: Order | None = None) -> str:
        """The shop's one page: the button, or how an order stands; that one looks again by itself."""
        if order is None:
            return _html('<form method="post" action="/buy"><button id="buy">Buy the mug</button></form>')
        if order.status == "open":
            wait = '<p id="status">Waiting for your payment ...</p>'
            return _html(wait, head='<meta http-equiv="refresh" content="1">')
        told = {"COMPLETED": "paid, thank you!", "unknown": "not known here: the order at Kustom tells"}.get(
            order.status, f"not paid ({html.escape(order.status)})"
        )
        return _html(f'<p id="status">Order {html.escape(order.id)}: {told}</p><p><a href="/">Back to the shop</a></p>')

    def sorry(self) -> str:
        """The page for when there is no payment page."""
        return _html('<p id="status">We cannot take payments right now. <a href="/">Try again</a> in a minute.</p>')


def _html(body: str, head: str = "") -> str:
    head = f'<meta charset="utf-8"><title>The mug shop</title><link rel="icon" href="data:,">{head}'
    return f'<!doctype html><html lang="en">{head}<h1>The mug shop</h1>{body}</html>'
