"""The sans-I/O middle for a session that exists: which URL, which body, and what an answer about it may be."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from attrs import field, frozen
from yarl import URL

from kustom_hpp._messages import CallInfo, HttpRequest, HttpResponse
from kustom_hpp._protocol.operations import Operation
from kustom_hpp._protocol.request_builder import Protocol, correlation_id, hidden
from kustom_hpp._redaction import describe_shape, mask_url, secrets_in_api_url
from kustom_hpp.config import Settings
from kustom_hpp.errors import DecodeError, InvalidRequestError
from kustom_hpp.models import (
    Distribution,
    EmailDistribution,
    Session,
    SessionDetails,
    SmsDistribution,
    TokenDistribution,
    secrets_in_distribution,
)

_ID = r"(?!\.+\Z)[A-Za-z0-9._~-]{1,128}"
"""What is a path's segment as it stands, and no way up. Source: RFC 3986, sections 2.3 and 3.3."""
_URL = r"((?i:https?)://[^/?#@]+)(/[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]*)(?:#.*)?"
"""A URL without a user: its origin, and what goes into the request line. Source: RFC 3986, section 2."""


@frozen(kw_only=True, slots=True)
class Target:
    """Which session a call is about, and what it sends there."""

    session_id: str
    url: str | None = field(default=None, repr=mask_url)
    """The URL that the API gave for this; None where it gave none."""
    request: Distribution | None = None


@frozen(kw_only=True, slots=False)
class Done:
    """A 2xx of an operation that has nothing to tell."""

    info: CallInfo = field(default=CallInfo(), eq=False)


def target_of(operation: Operation, session: Session | SessionDetails | str, request: Any = None) -> Target:
    """What a caller gave, as a target.

    Raises:
        InvalidRequestError: it is no session and no id, or the request is none of the operation's.

    """
    if isinstance(session, Session):
        target = Target(
            session_id=session.session_id, url=getattr(session, operation.link or "", None), request=request
        )
    elif isinstance(session, (SessionDetails, str)):
        target = Target(session_id=session if isinstance(session, str) else session.session_id, request=request)
    else:
        wrong = f"must be a Session, SessionDetails or an id as text, got {describe_shape(session)}"
        raise InvalidRequestError(problems=(("session", wrong),))
    return target


class SessionProtocol(Protocol):
    """The operations on a session that exists; else as the `Protocol` whose sessions they are."""

    def __init__(self, settings: Settings, creating: Protocol) -> None:
        super().__init__(settings)
        # The very same mapping costs nothing to prepare. What it says about content says nothing where there is none
        # (RFC 9110, section 8.3).
        self.headers = creating.headers

    def build(self, operation: Operation, request: Target, deadline: float | None) -> HttpRequest:
        """The HTTP request for an operation on a session.

        Goes to the URL that the API gave with the session, where that is below this client's own base URL (scheme, host,
        port and path), and else to the path with the id. Credentials go nowhere else, whatever an answer says.

        Args:
            operation: the row.
            request: which session, and what is sent.
            deadline: the time on the event loop's clock after which nobody waits; None for no end.

        Raises:
            InvalidRequestError: the id is none, or the request has problems.

        """
        return HttpRequest(
            method=operation.method,
            url=self._url(operation, request),
            headers=self.headers,
            body=self._distribution(request.request) if operation.method == "POST" else None,
            connect_timeout=self._settings.timeouts.connect,
            read_timeout=self._settings.timeouts.read,
            deadline=deadline,
            in_doubt=operation.in_doubt,
        )

    def read(self, operation: Operation, request: Target, answer: HttpResponse) -> Any:
        """The details that an answer holds, or `Done`.

        Raises:
            ApiError: the answer is not 2xx; the class says what is known.
            DecodeError: it is 2xx, and cannot be read, or is about another session.

        """
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
            raise self._api_error(operation, request, answer)
        if operation.answer is None:
            return Done()
        if answer.broken is None:
            try:
                details = self._codec.decode(answer.body, operation.answer, {"session_id": request.session_id})
            except ValueError as error:
                why = f"its body is {error}"
            else:
                if details.session_id.lower() == request.session_id.lower():
                    return details
                why = "it is about another session than the one asked for"
        else:
            why = f"its body is not whole: {answer.broken}"
        # Without its body: that may have the consumer's personal data in it.
        raise DecodeError(
            f"{operation.name} was answered with {answer.status}, but {why}: {operation.in_doubt}",
            status=answer.status,
            correlation_id=hidden(correlation_id(answer.headers), self._secrets(request)) or None,
            # What is too long was not cut off on its way: it comes as long the next time.
            cause=None if answer.too_long else answer.broken,
        )

    def _url(self, operation: Operation, target: Target) -> URL:
        base = self._settings.base_url
        match = re.fullmatch(_URL, target.url) if isinstance(target.url, str) else None
        if match is not None and _is_origin(match[1], base) and _is_below(match[2], base):
            # Our own origin with their path, so that no other reading of their authority can count.
            return URL(f"{base.origin()}{match[2]}", encoded=True)
        if not re.fullmatch(_ID, target.session_id):
            wrong = f"must be the id alone (letters, digits, '-', '_', '.' and '~'), got {describe_shape(target.session_id)}"
            raise InvalidRequestError(problems=(("session", wrong),))
        return URL(f"{base}{operation.path.replace('{session_id}', target.session_id)}", encoded=True)

    def _distribution(self, request: Any) -> bytes:
        if not isinstance(request, (EmailDistribution, SmsDistribution, TokenDistribution)):
            wrong = (
                f"must be an EmailDistribution, SmsDistribution or TokenDistribution, got a {type(request).__name__}"
            )
            raise InvalidRequestError(problems=(("$", wrong),))
        if problems := request.problems():
            raise InvalidRequestError(problems=problems)
        return self._codec.dumps(request)

    def _sent(self, request: Target) -> Iterator[str]:
        if isinstance(request.url, str):
            yield from secrets_in_api_url(request.url)
        if request.request is not None:
            yield from secrets_in_distribution(request.request)


def _is_origin(url: str, base: URL) -> bool:
    """Whether a URL's scheme, host and port are the base URL's."""
    try:
        given = URL(url)
        origin = given.scheme, given.host, given.port
    except ValueError:
        return False
    return origin == (base.scheme, base.host, base.port)


def _is_below(path_and_query: str, base: URL) -> bool:
    """Whether a path stands below the base URL's, with no way up in it: an API behind a gateway may know itself without.

    There is a way up in what a server may take for one too: `%2e%2e`, `..%2f` and `..;x`.
    """
    path = path_and_query.partition("?")[0]
    if not path.startswith(base.raw_path.rstrip("/") + "/"):
        return False
    return not re.search(r"(?:^|/)\.{1,2}(?:;[^/]*)?(?:/|$)", unquote(path))
