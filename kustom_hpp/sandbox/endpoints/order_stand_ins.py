"""Stand-ins for what a shop calls before HPP. They meet no faults.

    POST /checkout/v3/orders         a KCO order: 201 with order_id, its URL in Location
    GET  /checkout/v3/orders/{id}    the order; its status is checkout_complete once a session of it was paid
    POST /payments/v1/sessions       a KP session: 200 with session_id and client_token, its URL in Location
    GET  /payments/v1/sessions/{id}  the KP session

The payment page then shows the order's lines. Checked: amounts, currency and lines, as far as the page needs them. Fields and
units: docs.kustom.co, Checkout API; docs.klarna.com, Payments API.
"""

import contextlib
import re
from types import MappingProxyType
from typing import Any

from yarl import URL

from kustom_hpp._redaction import describe_shape
from kustom_hpp.models.urls import KCO_ORDER_PATH, KP_SESSION_PATH
from kustom_hpp.sandbox.endpoints.request_body import TEXT, WHOLE_NUMBER, check_content_type, load_json, type_problems
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.http.request_context import ApiRefusal, RequestContext
from kustom_hpp.sandbox.http.server import Endpoint, Server
from kustom_hpp.sandbox.sample_orders import Order, OrderLine
from kustom_hpp.sandbox.stored_session import date_text, new_id, new_token

_SNIPPET = "<div>The sandbox has no checkout page: create an HPP session for this order.</div>"
_AMOUNTS = ("quantity", "unit_price", "tax_rate", "total_discount_amount", "total_amount")
_LINE_FIELDS = MappingProxyType({"name": TEXT} | dict.fromkeys(_AMOUNTS, WHOLE_NUMBER))
_NO_LINE = {"name": None, "quantity": None, "unit_price": None, "tax_rate": 0, "total_discount_amount": 0}
"""The required fields, and the defaults of the others."""


def _create_order(server: Server, context: RequestContext) -> RawResponse:
    body, order = _read(context)
    order_id, now = new_id(), date_text(server.state.clock.now())
    path = KCO_ORDER_PATH + order_id
    value = {**body, "order_id": order_id, "html_snippet": _SNIPPET, "started_at": now, "last_modified_at": now}
    server.state.add_order(path, value, order)
    response = context.response(201, _with_status(server, path))
    return response.with_headers(("Location", context.base_url + path))


def _create_payment_session(server: Server, context: RequestContext) -> RawResponse:
    body, order = _read(context)
    session_id, token = new_id(), new_token()
    path = KP_SESSION_PATH + session_id
    server.state.add_order(path, {**body, "client_token": token}, order)
    value = {"session_id": session_id, "client_token": token, "payment_method_categories": []}
    response = context.response(200, value)
    return response.with_headers(("Location", context.base_url + path))


def _read_stored(server: Server, context: RequestContext) -> RawResponse:
    path = context.recorded.path
    if path not in server.state.order_bodies:
        raise ApiRefusal(404, "NOT_FOUND", "the sandbox has no order or payment session with this id")
    return context.response(200, _with_status(server, path))


def _with_status(server: Server, path: str) -> dict[str, Any]:
    """Return what is stored for a path, with its status."""
    complete, incomplete = "complete", "incomplete"
    if path.startswith(KCO_ORDER_PATH):
        complete, incomplete = "checkout_complete", "checkout_incomplete"
    status = complete if server.state.is_completed(path) else incomplete
    return {**server.state.order_bodies[path], "status": status}


def _read(context: RequestContext) -> tuple[dict[str, Any], Order]:
    """Return a body and its order; raise a refusal with every problem."""
    check_content_type(context)
    body = load_json(context.recorded.body)
    if not isinstance(body, dict):
        raise ApiRefusal(400, "BAD_VALUE", f"$: must be a JSON object, got {describe_shape(body)}")
    problems: list[str] = []
    currency, lines = body.get("purchase_currency"), body.get("order_lines")
    if not isinstance(currency, str) or re.fullmatch("[A-Z]{3}", currency) is None:
        problems.append(f"purchase_currency: must be three capital letters (ISO 4217), got {describe_shape(currency)}")
    read: list[OrderLine] = []
    if isinstance(lines, list) and lines:
        for index, line in enumerate(lines):
            read += _line(f"order_lines[{index}]", line, problems)
    else:
        problems.append(f"order_lines: must be a list of at least one line, got {describe_shape(lines)}")
    amount = body.get("order_amount")
    if not problems and (type(amount) is not int or amount != sum(line.total_amount for line in read)):
        problems.append("order_amount: must be the sum of order_lines[].total_amount, in minor units")
    if problems:
        raise ApiRefusal(400, "BAD_VALUE", *problems)
    return body, Order(lines=read, currency=str(currency), shop=_shop(body))


def _line(at: str, line: Any, problems: list[str]) -> list[OrderLine]:
    """Return a line, or append what is wrong with it."""
    if not isinstance(line, dict):
        problems.append(f"{at}: must be an object, got {describe_shape(line)}")
        return []
    values = _NO_LINE | {name: line[name] for name in _LINE_FIELDS if line.get(name) is not None}
    if found := type_problems(values, _LINE_FIELDS, f"{at}."):
        problems += found
        return []
    total = values.pop("total_amount", None)
    try:
        read = OrderLine(**values)
    except ValueError as error:
        problems.append(f"{at}: {error.args[0]}")
        return []
    if total not in (None, read.total_amount):
        problems.append(f"{at}.total_amount: must be quantity * unit_price - total_discount_amount")
    return [read]


def _shop(body: dict[str, Any]) -> str | None:
    """Return the host of the order's own merchant URLs."""
    urls = body.get("merchant_urls")
    for url in urls.values() if isinstance(urls, dict) else ():
        with contextlib.suppress(ValueError, TypeError):
            if host := URL(url).host:
                return host
    return None


STAND_INS = (
    Endpoint("create_order", "POST", KCO_ORDER_PATH.rstrip("/"), _create_order, meets_faults=False),
    Endpoint("read_order", "GET", KCO_ORDER_PATH + "{order_id}", _read_stored, meets_faults=False),
    Endpoint(
        "create_payment_session", "POST", KP_SESSION_PATH.rstrip("/"), _create_payment_session, meets_faults=False
    ),
    Endpoint("read_payment_session", "GET", KP_SESSION_PATH + "{payment_session_id}", _read_stored, meets_faults=False),
)
"""Every stand-in."""
