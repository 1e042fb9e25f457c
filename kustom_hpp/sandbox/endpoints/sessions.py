"""The operations of the API, as in the API reference and the guides.

If the documents say nothing:

- A POST with a body but without `Content-Type: application/json` is refused with 415.
- Error codes: BAD_VALUE for a request's fields, NOT_FOUND for an unknown or expired session, SESSION_COMPLETED and
  SESSION_CLOSED if a session's status forbids the operation; for a distribution see `distribution`. Only a fault responds
  with 403: the sandbox has one merchant, who may do everything.
- `manual-id-check` takes a POST without a body, starts an identity check, and responds 200 with the session as read.
- `distribution-module/token` takes a POST without a body, replaces the token (the old one becomes invalid), and responds
  201 with the `distribution_module`.
"""

from kustom_hpp.sandbox.endpoints import distribution
from kustom_hpp.sandbox.endpoints.request_body import check_content_type, read_create
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.http.request_context import ApiRefusal, RequestContext
from kustom_hpp.sandbox.http.server import Endpoint, Server
from kustom_hpp.sandbox.record import CREATE_PATH, CreatedSession, SentMessage
from kustom_hpp.sandbox.stored_session import StoredSession

_SESSION_PATH = f"{CREATE_PATH}/{{session_id}}"


def _create(server: Server, context: RequestContext) -> RawResponse:
    check_content_type(context)
    request, warnings = read_create(
        context.recorded.body, strict=server.strict, private_callbacks=server.accepts_private_callbacks
    )
    # The last check before the session is recorded, so that the record agrees with the bucket.
    if server.rate_limit is not None and not server.rate_limit.take():
        raise ApiRefusal(429, "TOO_MANY_REQUESTS", "the merchant's rate limit is exceeded")
    session = server.state.create(request)
    if session is None:
        raise ApiRefusal(404, "NOT_FOUND", "the payment session has expired or is completed: create a new one")
    context.session = session
    context.recorded.created = session.session_id
    server.record.add(
        CreatedSession(
            session_id=session.session_id,
            payment_session_url=request.payment_session_url,
            redirect_url=session.page_url(context.base_url),
            request=context.recorded.number,
        )
    )
    _record_warnings(server, session, warnings)
    return context.response(201, session.created_json(context.base_url))


def _read(server: Server, context: RequestContext) -> RawResponse:
    return context.response(200, _session(server, context).read_json())


def _disable(server: Server, context: RequestContext) -> RawResponse:
    server.state.disable(_session(server, context))
    return context.response(204)


def _distribute(server: Server, context: RequestContext) -> RawResponse:
    check_content_type(context)
    session = _session(server, context)
    sent, warnings = distribution.check_distribution(session, context.recorded.body, strict=server.strict)
    contact = distribution.masked_contact(sent)
    server.record.add(
        SentMessage(session_id=session.session_id, method=sent.method, contact=contact, request=context.recorded.number)
    )
    server.state.record_event(session, "distributed", f"{sent.method} to {contact}")
    _record_warnings(server, session, warnings)
    return context.response(204)


def _check_identity(server: Server, context: RequestContext) -> RawResponse:
    session = _session(server, context)
    server.state.check_identity(session)
    return context.response(200, session.read_json())


def _renew_token(server: Server, context: RequestContext) -> RawResponse:
    session = _session(server, context)
    server.state.renew_token(session)
    return context.response(201, session.distribution_module(context.base_url))


def _session(server: Server, context: RequestContext) -> StoredSession:
    """Return the session that the path names."""
    session = server.state.find(context.request.match_info["session_id"])
    if session is None:
        raise ApiRefusal(404, "NOT_FOUND", "the session has expired or does not exist")
    context.session = session
    return session


def _record_warnings(server: Server, session: StoredSession, warnings: list[str]) -> None:
    for warning in warnings:
        server.state.record_event(session, "warning", warning)


ENDPOINTS = (
    Endpoint("create_session", "POST", CREATE_PATH, _create, StoredSession.created_json),
    Endpoint("read_session", "GET", _SESSION_PATH, _read),
    Endpoint("disable_session", "DELETE", _SESSION_PATH, _disable),
    Endpoint("distribute_session", "POST", f"{_SESSION_PATH}/distribution", _distribute),
    Endpoint("check_identity", "POST", f"{_SESSION_PATH}/manual-id-check", _check_identity),
    Endpoint(
        "renew_distribution_token",
        "POST",
        f"{_SESSION_PATH}/distribution-module/token",
        _renew_token,
        StoredSession.distribution_module,
    ),
)
"""Every operation of the API."""
