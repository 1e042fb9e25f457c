"""The operations of the API: what each takes, does and answers, as the API reference and the guides have it.

Where the documents are silent, chosen here:

- A POST with a body that does not say `Content-Type: application/json` is refused with 415.
- Codes of refusals: BAD_VALUE for a request's fields, NOT_FOUND for what is unknown or expired, SESSION_COMPLETED and
  SESSION_CLOSED for what a session's status forbids; for a distribution see there. 403 is never answered but
  by a fault: the sandbox knows one merchant, who may do everything.
- `manual-id-check` takes a POST without a body, begins an identity check, and answers 200 with the session as read.
- `distribution-module/token` takes a POST without a body, makes a new token (the old one is void), and answers 201 with
  the `distribution_module`.
"""

import datetime as dt
import functools
from typing import Any

from aiohttp import web

from kustom_hpp._protocol.codec import codec
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.sandbox.endpoints import distribution
from kustom_hpp.sandbox.http import raw_response as answer
from kustom_hpp.sandbox.http.raw_response import Answer
from kustom_hpp.sandbox.http.request_context import Exchange, RefusedError
from kustom_hpp.sandbox.http.server import Endpoint, Server
from kustom_hpp.sandbox.recorded import CREATE_PATH
from kustom_hpp.sandbox.stored_session import ClosedError, StoredSession, date_text, new_session

_SESSION_PATH = f"{CREATE_PATH}/{{session_id}}"


def _as_created(session: StoredSession, base_url: str) -> dict[str, Any]:
    return session.wire(base_url)


def _as_read(session: StoredSession, base_url: str) -> dict[str, Any]:  # noqa: ARG001 - Endpoint's shape
    return session.details()


def _as_module(session: StoredSession, base_url: str) -> dict[str, Any]:
    return session.distribution_module(base_url)


def _create(server: Server, exchange: Exchange) -> Answer:
    _must_be_json(exchange)
    try:
        request = codec().decode_request(exchange.seen.body)
    except InvalidRequestError as error:
        raise RefusedError(400, "BAD_VALUE", *_sentences(error)) from None
    # Last of all, right before the session is written down: the record is as exact as the bucket.
    if server.quota is not None and not server.quota.take():
        raise RefusedError(429, "TOO_MANY_REQUESTS", "the merchant's quota is used up")
    session = server.state.create(request)
    if session is None:
        raise RefusedError(404, "NOT_FOUND", "the payment session has expired or is completed: make a new one")
    exchange.session = session
    base_url = server.base_url_for(exchange.request)
    page = session.page_url(base_url)
    server.record.session(exchange.seen, session.session_id, request.payment_session_url, page)
    return answer.json_bytes(201, _created_json(session, base_url), exchange.seen.correlation_id)


def _created_json(session: StoredSession, base_url: str) -> bytes:
    """`session.wire(base_url)` as JSON.

    Implementation note: of one create's answer and the next only these four texts differ, and they need no escapes. To put
    them into the JSON takes a fifth of the time that writing JSON takes.
    """
    own = {
        "session_id": session.session_id,
        "page_id": session.page_id,
        "token": session.token,
        "expires_at": date_text(session.expires_at),
    }
    return (_template(base_url) % own).encode()


@functools.lru_cache(maxsize=8)
def _template(base_url: str) -> str:
    """The JSON with `%(name)s` in the place of those four."""
    blank = new_session(CreateSessionRequest(payment_session_url=""), dt.datetime.now(dt.UTC))
    blank.session_id, blank.page_id, blank.token = "(session_id)", "(page_id)", "(token)"
    text = answer.dumps(blank.wire(base_url) | {"expires_at": "(expires_at)"}).decode().replace("%", "%%")
    for mark in (blank.session_id, blank.page_id, blank.token, "(expires_at)"):
        text = text.replace(mark, f"%{mark}s")
    return text


def _read(server: Server, exchange: Exchange) -> Answer:
    return answer.json_answer(200, _session(server, exchange).details(), exchange.seen.correlation_id)


def _disable(server: Server, exchange: Exchange) -> Answer:
    try:
        server.state.disable(_session(server, exchange))
    except ClosedError as closed:
        raise RefusedError(400, "SESSION_COMPLETED", str(closed)) from None
    return answer.empty(exchange.seen.correlation_id)


def _distribute(server: Server, exchange: Exchange) -> Answer:
    _must_be_json(exchange)
    session = _session(server, exchange)
    asked = distribution.judge(session, exchange.seen.body)
    contact = distribution.masked(asked)
    server.record.distribution(exchange.seen, session.session_id, asked.method, contact)
    server.state.note(session, "distributed", f"{asked.method} to {contact}")
    return answer.empty(exchange.seen.correlation_id)


def _check_identity(server: Server, exchange: Exchange) -> Answer:
    session = _session(server, exchange)
    try:
        server.state.check_identity(session)
    except ClosedError as closed:
        raise RefusedError(400, "SESSION_CLOSED", str(closed)) from None
    return answer.json_answer(200, session.details(), exchange.seen.correlation_id)


def _renew_token(server: Server, exchange: Exchange) -> Answer:
    session = _session(server, exchange)
    if session.status.is_final:
        raise RefusedError(400, "SESSION_CLOSED", f"the session is {session.status}")
    server.state.renew_token(session)
    module = session.distribution_module(server.base_url_for(exchange.request))
    return answer.json_answer(201, module, exchange.seen.correlation_id)


def _session(server: Server, exchange: Exchange) -> StoredSession:
    """The session that the path names."""
    session = server.state.find(exchange.request.match_info["session_id"])
    if session is None:
        raise RefusedError(404, "NOT_FOUND", "the session has expired or never was")
    exchange.session = session
    return session


def _must_be_json(exchange: Exchange) -> None:
    request = exchange.request
    if request.headers.get("Content-Type") != "application/json" and request.content_type != "application/json":
        raise RefusedError(415, "UNSUPPORTED_MEDIA_TYPE", "the body must come with Content-Type: application/json")


def _sentences(error: InvalidRequestError) -> list[str]:
    return [f"{path}: {sentence}" for path, sentence in error.problems]


ENDPOINTS = (
    Endpoint(name="create_session", method="POST", path=CREATE_PATH, do=_create, show=_as_created),
    Endpoint(name="read_session", method="GET", path=_SESSION_PATH, do=_read, show=_as_read),
    Endpoint(name="disable_session", method="DELETE", path=_SESSION_PATH, do=_disable, show=_as_read),
    Endpoint(
        name="distribute_session",
        method="POST",
        path=f"{_SESSION_PATH}/distribution",
        do=_distribute,
        show=_as_read,
    ),
    Endpoint(
        name="check_identity",
        method="POST",
        path=f"{_SESSION_PATH}/manual-id-check",
        do=_check_identity,
        show=_as_read,
    ),
    Endpoint(
        name="renew_distribution_token",
        method="POST",
        path=f"{_SESSION_PATH}/distribution-module/token",
        do=_renew_token,
        show=_as_module,
    ),
)
"""Every operation of the API."""


def add_routes(app: web.Application, server: Server) -> None:
    """Serve the API."""
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, endpoint.path, server.handler(endpoint))
