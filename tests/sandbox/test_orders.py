"""What a payment page shows as the order."""

import pytest

from kustom_hpp.sandbox import Order, OrderLine, Sandbox
from kustom_hpp.sandbox.sample_orders import SampleOrders, money, percent, sample_order


def test_a_sample_is_always_the_same_for_the_same_payment_session() -> None:
    urls = [f"https://api.kustom.co/checkout/v3/orders/{number}" for number in range(50)]
    assert [sample_order(url) for url in urls] == [sample_order(url) for url in urls]
    assert len({sample_order(url) for url in urls}) > 30
    assert {sample_order(url).currency for url in urls} == {"SEK", "EUR", "NOK", "DKK"}


@pytest.mark.parametrize("url", ["", "x", "https://shop.example/" + "x" * 10_000, "\ud800"])
def test_a_sample_is_an_order_like_any_other(url: str) -> None:
    order = sample_order(url)
    assert 3 <= len(order.lines) <= 5
    assert len({line.name for line in order.lines}) == len(order.lines)
    assert all(line.unit_price > 0 for line in order.lines)


@pytest.mark.parametrize(
    ("unit_price", "quantity", "rate", "tax"),
    # 25 % of 80.00 is 20.00; 0.99 with 25 % has 0.198; a discount has a tax below zero; and no tax is none
    [(10_000, 1, 2500, 2_000), (99, 1, 2500, 20), (333, 3, 600, 57), (-10_000, 1, 2500, -2_000), (500, 2, 0, 0)],
)
def test_the_tax_is_in_the_price(unit_price: int, quantity: int, rate: int, tax: int) -> None:
    line = OrderLine(name="x", unit_price=unit_price, quantity=quantity, tax_rate=rate)
    assert (line.total_amount, line.total_tax_amount) == (unit_price * quantity, tax)


def test_an_order_sums_its_lines() -> None:
    order = Order(lines=[OrderLine(name="a", unit_price=10_000), OrderLine(name="b", unit_price=100, tax_rate=0)])
    assert (order.order_amount, order.order_tax_amount) == (10_100, 2_000)


@pytest.mark.parametrize(
    ("amount", "shown"), [(0, "SEK 0.00"), (5, "SEK 0.05"), (124_900, "SEK 1,249.00"), (-1_050, "−SEK 10.50")]
)
def test_money_for_people(amount: int, shown: str) -> None:
    assert money(amount, "SEK") == shown.replace(" ", "\u00a0")


def test_a_rate_for_people() -> None:
    assert [percent(rate) for rate in (0, 2500, 2550)] == ["0\u00a0%", "25\u00a0%", "25.5\u00a0%"]


@pytest.mark.parametrize(
    "given",
    [
        {"lines": []},
        {"lines": ["Mug"]},
        {"lines": [OrderLine(name="Mug", unit_price=1)], "currency": "kr"},
        {"lines": [OrderLine(name="Mug", unit_price=1)], "currency": None},
        {"lines": [OrderLine(name="Mug", unit_price=1)], "shop": 5},
    ],
    ids=["no lines", "no line", "no code", "no currency", "no name"],
)
def test_what_is_no_order(given: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Order(**given)


@pytest.mark.parametrize(
    "given",
    [{"quantity": 0}, {"unit_price": 1.5}, {"tax_rate": -1}, {"name": None}],
    ids=lambda given: next(iter(given)),
)
def test_what_is_no_line(given: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        OrderLine(**{"name": "Mug", "unit_price": 100} | given)


def test_a_test_gives_another_order() -> None:
    sandbox = Sandbox()
    order = sandbox.order("https://a.example/1", OrderLine(name="Mug", unit_price=1_900), currency="EUR", shop="Shop")
    assert order == Order(lines=(OrderLine(name="Mug", unit_price=1_900),), currency="EUR", shop="Shop")
    assert sandbox.state.orders.get("https://a.example/1") is order
    assert sandbox.state.orders.get("https://a.example/2") == sample_order("https://a.example/2")


def test_the_newest_given_orders_are_kept() -> None:
    orders, mug = SampleOrders(remember=2), Order(lines=[OrderLine(name="Mug", unit_price=1)])
    for url in "abac":
        orders.set(url, mug)
    assert [orders.get(url) is mug for url in "abc"] == [True, False, True]
