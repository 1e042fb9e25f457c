"""The order on a payment page: the shop's, a test's, or a sample. No I/O.

Names and units are those of a Kustom Checkout order: amounts in minor units (1999 is 19.99), tax included, rates in
hundredths of a percent (2500 is 25 %). Source: docs.kustom.co, Checkout API, order_lines.
"""

import hashlib
import re
from collections import OrderedDict
from typing import Any

from attrs import Attribute, field, frozen, validators

from kustom_hpp._redaction import masked_url

_MAX_ID = 200


def _whole(least: int) -> Any:
    return [validators.instance_of(int), validators.ge(least)]


def _currency(instance: object, attribute: "Attribute[str]", value: str) -> None:  # noqa: ARG001 - attrs' shape
    if not isinstance(value, str) or re.fullmatch(r"[A-Z]{3}", value) is None:
        raise ValueError("currency must be three capital letters (ISO 4217), such as SEK")


@frozen(kw_only=True)
class OrderLine:
    """One line of an order."""

    name: str = field(validator=validators.instance_of(str))
    quantity: int = field(default=1, validator=_whole(1))
    unit_price: int = field(validator=validators.instance_of(int))
    """In minor units, tax included; negative for a discount."""
    tax_rate: int = field(default=2500, validator=_whole(0))
    """In hundredths of a percent."""
    total_discount_amount: int = field(default=0, validator=_whole(0))
    """In minor units, tax included."""

    @property
    def total_amount(self) -> int:
        """In minor units, tax included."""
        return self.quantity * self.unit_price - self.total_discount_amount

    @property
    def total_tax_amount(self) -> int:
        """The tax in `total_amount`, in minor units."""
        gross, divisor = self.total_amount * 10_000, 10_000 + self.tax_rate
        net = (2 * gross + divisor) // (2 * divisor)  # halves are rounded up
        return self.total_amount - net


@frozen(kw_only=True)
class Order:
    """An order on the page: `Order(lines=[OrderLine(...)], currency="EUR")`."""

    lines: tuple[OrderLine, ...] = field(
        converter=tuple[OrderLine, ...],
        validator=[validators.min_len(1), validators.deep_iterable(validators.instance_of(OrderLine))],
    )
    currency: str = field(default="SEK", validator=_currency)
    shop: str | None = field(default=None, validator=validators.optional(validators.instance_of(str)))
    """The shop's name; None: the host of its URLs."""

    @property
    def order_amount(self) -> int:
        """In minor units, tax included."""
        return sum(line.total_amount for line in self.lines)

    @property
    def order_tax_amount(self) -> int:
        """The tax in `order_amount`, in minor units."""
        return sum(line.total_tax_amount for line in self.lines)


class SampleOrders:
    """The orders of payment sessions; a sample for one without an order.

    Args:
        remember: how many orders are stored, the newest; None: all.

    """

    def __init__(self, *, remember: int | None = None) -> None:
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._remember = remember

    def set(self, payment_session_url: str, order: Order) -> None:
        """Set the order of a payment session."""
        self._orders[payment_session_url] = order
        self._orders.move_to_end(payment_session_url)
        while self._remember is not None and len(self._orders) > self._remember:
            self._orders.popitem(last=False)

    def has(self, payment_session_url: str) -> bool:
        """Return True if a payment session has an order: `get` has no sample."""
        return payment_session_url in self._orders or order_path(payment_session_url) in self._orders

    def get(self, payment_session_url: str) -> Order:
        """Return the order of a payment session, or its sample."""
        order = self._orders.get(payment_session_url) or self._orders.get(order_path(payment_session_url))
        return order or sample_order(payment_session_url)


def order_path(payment_session_url: str) -> str:
    """Return the path of a payment session's URL, the key of an own order."""
    return "/" + re.split("[?#]", payment_session_url, maxsplit=1)[0].partition("://")[2].partition("/")[2]


def payment_id(payment_session_url: str) -> str:
    """Return the id at the end of a payment session's URL, for display."""
    path = masked_url(payment_session_url).partition("?")[0].partition("#")[0]
    return path.rstrip("/").rpartition("/")[2][:_MAX_ID]


def money(amount: int, currency: str) -> str:
    """Return an amount in minor units as text: `SEK 1,249.00`."""
    sign, whole, minor = "\N{MINUS SIGN}" if amount < 0 else "", *divmod(abs(amount), 100)
    return f"{sign}{currency}\u00a0{whole:,}.{minor:02}"


def percent(rate: int) -> str:
    """Return a rate in hundredths of a percent as text: `25 %`, `25.5 %`."""
    return f"{rate / 100:g}\u00a0%"


_GOODS = (
    # name, price in hundredths of a euro, largest quantity, food
    ("Wool blanket, oatmeal", 8900, 1, False),
    ("Stoneware mug, 30\u00a0cl", 1900, 4, False),
    ("Linen tea towel, set of two", 2400, 2, False),
    ("Oak serving board", 4500, 1, False),
    ("Coffee beans, 500\u00a0g", 1250, 3, True),
    ("Beeswax candle, tall", 950, 6, False),
    ("Enamel pour-over kettle", 6900, 1, False),
    ("Cotton tote, natural", 1500, 2, False),
    ("Raspberry jam, 280\u00a0g", 690, 3, True),
    ("Dotted notebook, A5", 1400, 3, False),
)
_COUNTRIES = (
    # currency, its price of a euro, tax on goods and on food, price of delivery (in minor units)
    ("SEK", 11, 2500, 1200, 4900),
    ("EUR", 1, 2550, 1400, 490),
    ("NOK", 11, 2500, 1500, 5900),
    ("DKK", 7, 2500, 2500, 3900),
)


def sample_order(payment_session_url: str) -> Order:
    """Return a sample order, always the same for the same URL."""
    seed = hashlib.sha256(payment_session_url.encode("utf-8", "surrogatepass")).digest()
    currency, rate, tax, food_tax, delivery = _COUNTRIES[seed[0] % len(_COUNTRIES)]
    first, step = seed[1] % len(_GOODS), (1, 3, 7, 9)[seed[2] % 4]  # steps that meet no article twice
    lines = []
    for number in range(2 + seed[3] % 3):
        name, price, most, is_food = _GOODS[(first + number * step) % len(_GOODS)]
        quantity = 1 + seed[4 + number] % most
        # Whole crowns look like a price tag; cents stay cents.
        unit_price = price if rate == 1 else price * rate // 100 * 100
        lines.append(
            OrderLine(name=name, quantity=quantity, unit_price=unit_price, tax_rate=food_tax if is_food else tax)
        )
    lines.append(OrderLine(name="Delivery, 2 to 4 days", unit_price=delivery, tax_rate=tax))
    return Order(lines=lines, currency=currency)
