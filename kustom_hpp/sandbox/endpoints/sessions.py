"""The operations of the API, as in the API reference and the guides.

If the documents say nothing:

- A POST with a body but without `Content-Type: application/json` is refused with 415.
- Error codes: BAD_VALUE for a request's fields, NOT_FOUND for an unknown or expired session, SESSION_COMPLETED and
  SESSION_CLOSED if a session's status forbids the operation. Only a fault responds with 403: the sandbox has one merchant,
  who may do everything.
- `manual-id-check` takes a POST without a body, starts an identity check, and responds 200 with the session as read.
- `distribution-module/token` takes a POST without a body, replaces the token (the old one becomes invalid), and responds
  201 with the `distribution_module`.

A distribution sends nothing, it is recorded. Its codes are those of the guide "Distribute an HPP session". If it says nothing:

- The session is checked before the request. A disabled, completed or cancelled session refuses a distribution
  (CONSTRAINT_VIOLATION; documented for a disabled one, without the code).
- SMS goes to the countries of `COUNTRIES`.
- An access id exists if it has one of the documented forms: a UUID, optionally after "klarna:", or 6 or 12 digits. Any
  other is NOT_FOUND.
- A second request sends a second message.
"""

import re

from kustom_hpp.config import is_loopback
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import EmailDistribution, SmsDistribution
from kustom_hpp.models.distributions import CONTACT, Distribution, contact_fields
from kustom_hpp.sandbox.endpoints.request_body import check_content_type, read_create, read_distribution
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.http.request_context import ApiRefusal, RequestContext
from kustom_hpp.sandbox.http.server import Endpoint, Server
from kustom_hpp.sandbox.record import CREATE_PATH, CreatedSession, SentMessage
from kustom_hpp.sandbox.stored_session import StoredSession

COUNTRIES = frozenset("AT AU BE CA CH CZ DE DK ES FI FR GB GR HU IE IT MX NL NO NZ PL PT RO SE SK US".split())
"""Countries to which SMS goes, as `phone_country`."""
ACCESS_ID = r"(?:klarna:)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9]{6}|[0-9]{12}"
"""The forms of an access id."""
_SESSION_PATH = f"{CREATE_PATH}/{{session_id}}"


def _create(server: Server, context: RequestContext) -> RawResponse:
    check_content_type(context)
    request, warnings = read_create(
        context.recorded.body, strict=server.strict, private_callbacks=not is_loopback(server.host)
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
    sent, warnings = _read_distribution(session, context.recorded.body, strict=server.strict)
    contact = f"{getattr(sent, contact_fields(type(sent))[0])[:1]}***"
    server.record.add(
        SentMessage(session_id=session.session_id, method=sent.method, contact=contact, request=context.recorded.number)
    )
    server.state.record_event(session, "distributed", f"{sent.method} to {contact}")
    _record_warnings(server, session, warnings)
    return context.response(204)


def _read_distribution(session: StoredSession, body: bytes, *, strict: bool) -> tuple[Distribution, list[str]]:
    """Return a distribution and its warnings, or raise the API's refusal."""
    if session.status.is_final:
        raise ApiRefusal(400, "CONSTRAINT_VIOLATION", f"the session is {session.status}")
    try:
        request, warnings = read_distribution(body, strict=strict)
    except InvalidRequestError as error:
        is_missing = any(sentence == "is required" or sentence.endswith("got null") for _, sentence in error.problems)
        only_contact = all(path.startswith(CONTACT) for path, _ in error.problems)
        code = "MISSING_CONTACT_DATA" if is_missing and only_contact else "CONSTRAINT_VIOLATION"
        raise ApiRefusal(400, code, *map(": ".join, error.problems)) from None
    if isinstance(request, SmsDistribution):
        if request.phone_country not in COUNTRIES:
            raise ApiRefusal(
                400, "UNSUPPORTED_COUNTRY", f"{CONTACT}.phone_country: SMS is not supported in this country"
            )
    elif not isinstance(request, EmailDistribution) and not re.fullmatch(ACCESS_ID, request.access_id):
        raise ApiRefusal(404, "NOT_FOUND", f"{CONTACT}.access_id: the access token was not found")
    return request, warnings


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
