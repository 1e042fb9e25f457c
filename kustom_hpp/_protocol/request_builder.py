"""Building of HTTP requests: which URL, which headers, which body."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen
from yarl import URL

from kustom_hpp._messages import HttpRequest
from kustom_hpp._protocol.operations import OPERATIONS, Operation
from kustom_hpp._redaction import describe_shape, mask_url
from kustom_hpp.config import Settings, has_dot_segment
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import Session, SessionDetails

_SESSION_ID = r"(?!\.+\Z)[A-Za-z0-9._~-]{1,128}"
"""A path segment that needs no encoding and is not "." or "..". Source: RFC 3986, sections 2.3 and 3.3."""
_URL = r"((?i:https?)://[^/?#@]+)(/[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]*)(?:#.*)?"
"""A URL without a user: its origin, and the part for the request line. Source: RFC 3986, section 2."""


class RequestDefaults:
    """The settings of a client, and what all its requests share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # Exactly the bytes on the wire, in this order, after Host and before Content-Length. Every request has the very
        # same mapping, so the transport prepares it once. Content-Type means nothing without a body (RFC 9110, 8.3).
        self.headers: Mapping[str, str] = {
            "Authorization": settings.authorization,
            "User-Agent": settings.user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            **dict(settings.headers),
        }
        self.fixed_urls = {row.path: _join(settings.base_url, row.path) for row in OPERATIONS if "{" not in row.path}
        """The URLs of operations that need no session, by path."""


@frozen(kw_only=True, slots=False)
class SessionRef:
    """A session that an operation is about."""

    session_id: str
    url: str | None = field(default=None, repr=mask_url)
    """The operation's URL as the API returned it; None if unknown."""


@frozen(slots=False)
class CallInput:
    """What the caller asks for: an operation, the session it is about, and the model of the request body."""

    operation: Operation = field(repr=lambda operation: operation.name)
    session: SessionRef | None = None
    body: Any = None
    may_send: Callable[[], bool] | None = None
    """Called directly before the first byte of each attempt; False stops the call."""


def session_ref(operation: Operation, session: Session | SessionDetails | str) -> SessionRef:
    """Return the session that the caller means.

    Raises:
        InvalidRequestError: `session` is neither a session nor an id.

    """
    if isinstance(session, Session):
        return SessionRef(session_id=session.session_id, url=getattr(session, operation.url_field or "", None))
    if isinstance(session, (SessionDetails, str)):
        return SessionRef(session_id=session if isinstance(session, str) else session.session_id)
    problem = f"must be a Session, SessionDetails or an id as text, got {describe_shape(session)}"
    raise InvalidRequestError(problems=(("session", problem),))


def build_request(defaults: RequestDefaults, call: CallInput, deadline: float | None = None) -> HttpRequest:
    """Return the HTTP request of a call. The body is encoded here, once for all attempts.

    Args:
        defaults: what all requests of the client share.
        call: what the caller asks for.
        deadline: the time on the event loop's clock after which the caller no longer waits; None for no limit.

    Raises:
        InvalidRequestError: with every problem and its path.

    """
    settings, operation, session = defaults.settings, call.operation, call.session
    return HttpRequest(
        method=operation.method,
        url=(
            defaults.fixed_urls[operation.path]
            if session is None
            else _session_url(settings.base_url, operation, session)
        ),
        headers=defaults.headers,
        body=None if operation.encode is None else operation.encode(settings, call.body),
        connect_timeout=settings.timeouts.connect,
        read_timeout=settings.timeouts.read,
        deadline=deadline,
        may_send=call.may_send,
        unknown_outcome_advice=operation.unknown_outcome_advice,
    )


def _session_url(base: URL, operation: Operation, session: SessionRef) -> URL:
    """Return the URL of an operation on a session.

    The client uses the URL that the API returned if it lies below the client's base URL (scheme, host, port and path).
    Otherwise it uses the operation's path with the id. Credentials never go anywhere else, whatever a response says.
    """
    match = re.fullmatch(_URL, session.url) if isinstance(session.url, str) else None
    if match is not None and _is_same_origin(match[1], base) and _is_subpath(match[2], base):
        # The client's own origin with the returned path: no second reading of the returned authority can matter.
        return URL(f"{base.origin()}{match[2]}", encoded=True)
    if not re.fullmatch(_SESSION_ID, session.session_id):
        problem = (
            f"must be the id alone (letters, digits, '-', '_', '.' and '~'), got {describe_shape(session.session_id)}"
        )
        raise InvalidRequestError(problems=(("session", problem),))
    return _join(base, operation.path.replace("{session_id}", session.session_id))


def _join(base: URL, path: str) -> URL:
    return URL(f"{base}{path}", encoded=True)


def _is_same_origin(url: str, base: URL) -> bool:
    """Return True if scheme, host and port of a URL are those of the base URL."""
    try:
        parsed = URL(url)
        origin = parsed.scheme, parsed.host, parsed.port
    except ValueError:
        return False
    return origin == (base.scheme, base.host, base.port)


def _is_subpath(path_and_query: str, base: URL) -> bool:
    """Return True if a path lies below the base URL's path and has no dot segment.

    An API behind a gateway may build its URLs without the gateway's path.
    """
    path = path_and_query.partition("?")[0]
    return path.startswith(base.raw_path.rstrip("/") + "/") and not has_dot_segment(path)
