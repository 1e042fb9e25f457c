"""The sans-I/O middle: a request built from a value, a value or an error read from an answer.

Nothing here opens a socket, waits or tries again. An answer's body is never trusted to have a shape.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from yarl import URL

from kustom_hpp._messages import CallInfo, HttpRequest, HttpResponse, RateLimit
from kustom_hpp._protocol.codec import Codec, codec
from kustom_hpp._protocol.operations import CREATE_SESSION, Operation
from kustom_hpp._redaction import Secret
from kustom_hpp.config import Environment, Settings
from kustom_hpp.errors import (
    ApiError,
    AuthenticationError,
    DecodeError,
    InvalidRequestError,
    UnexpectedStatusError,
    clean_text,
    error_for_status,
)
from kustom_hpp.models import CreateSessionRequest, Session, secrets_in_request
from kustom_hpp.models.fast_validation import is_surely_valid

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an answer's body that an error keeps."""
_MOST_MESSAGES = 50
_SECRET_LENGTH = 8
"""Shorter values of headers are no secrets; hiding them would make error texts unreadable."""
_ID_CAP = 128


class Protocol:
    """Creating sessions at one place with one set of credentials. Holds what every request shares; has no other state.

    `SessionProtocol` is the same for the sessions that exist then.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._codec: Codec = codec()
        self._create_url = URL(f"{settings.base_url}{CREATE_SESSION.path}", encoded=True)
        self._orders = f"{settings.base_url}/checkout/v3/orders/"
        # Byte for byte what goes on the wire, in this order, after Host and before Content-Length.
        self.headers: Mapping[str, str] = {
            "Authorization": settings.authorization,
            "User-Agent": settings.user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            **dict(settings.headers),
        }

    def build(self, operation: Operation, request: Any, deadline: float | None) -> HttpRequest:
        """The HTTP request for a create; encoded once, whatever the number of attempts.

        Args:
            operation: the row.
            request: the operation's request.
            deadline: the time on the event loop's clock after which nobody waits; None for no end.

        Raises:
            InvalidRequestError: with every problem and its path.

        """
        body = self._body(request)
        return HttpRequest(
            method=operation.method,
            url=self._create_url,
            headers=self.headers,
            body=body,
            connect_timeout=self._settings.timeouts.connect,
            read_timeout=self._settings.timeouts.read,
            deadline=deadline,
        )

    def _body(self, request: CreateSessionRequest) -> bytes:
        if type(request) is not CreateSessionRequest:
            wrong = f"must be a CreateSessionRequest, got a {type(request).__name__}"
            raise InvalidRequestError(problems=(("$", wrong),))
        try:
            body = self._codec.encode(request)
        except (TypeError, ValueError, AttributeError, RecursionError):
            body = b""  # it has problems, or it could be written
        if is_surely_valid(body) and self._is_of_this_place(request.payment_session_url):
            return body
        if problems := request.problems() or self._place_problems(request):
            del body  # out of the traceback's locals: it holds what the merchant URLs hold
            raise InvalidRequestError(problems=problems)
        return body or self._codec.encode(request)

    def _is_of_this_place(self, url: str) -> bool:
        """True where a payment session is surely not of the other environment."""
        return self._settings.environment is None or url.startswith(self._orders)

    def _place_problems(self, request: CreateSessionRequest) -> tuple[tuple[str, str], ...]:
        """A payment session of the other environment: the API answers that with a bare 404 or 500."""
        ours = self._settings.environment
        theirs = _environment_of(request.payment_session_url) if ours else None
        if ours is None or theirs is None or theirs is ours:
            return ()
        way_out = f"create the order in {ours}, or the client with environment={theirs!s} and its key"
        return (("payment_session_url", f"is of {theirs}, but this client calls {ours}: {way_out}"),)

    def read(self, operation: Operation, request: Any, answer: HttpResponse) -> Any:
        """The value that an answer holds.

        Args:
            operation: the row.
            request: the operation's request, whose secrets must not show up in an error.
            answer: what came back.

        Raises:
            ApiError: the answer is not 2xx; the class says what is known.
            DecodeError: it is 2xx, and cannot be read.

        """
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - RFC 9110, section 15.3
            raise self._api_error(operation, request, answer)
        if answer.broken is None:
            try:
                return self._codec.decode(answer.body, Session)
            except ValueError as error:
                why = f"its body is {error}"
        else:
            why = f"its body is not whole: {answer.broken}"
        raise self._decode_error(operation, request, answer, why)

    def _decode_error(self, operation: Operation, request: Any, answer: HttpResponse, why: str) -> DecodeError:
        secrets = self._secrets(request)
        body = _redacted(answer.body, secrets)[:MAX_ERROR_BODY]
        found = re.search(_SESSION_ID, body)
        return DecodeError(
            f"{operation.name} was answered with {answer.status}, so the session exists, but {why}. "
            "Do not repeat it: make a new order and a session for it",
            status=answer.status,
            body=body,
            session_id=found[1].decode() if found else None,
            correlation_id=hidden(correlation_id(answer.headers), secrets) or None,
            cause=answer.broken,
        )

    def _api_error(self, operation: Operation, request: Any, answer: HttpResponse) -> ApiError:
        secrets = self._secrets(request)
        body = _redacted(answer.body, secrets)[:MAX_ERROR_BODY]
        told = self._error_body(body)
        code = told.get("error_code")
        code = clean_text(hidden(code, secrets), _ID_CAP) if isinstance(code, str) else None
        messages = tuple(clean_text(hidden(message, secrets)) for message in _messages(told)[:_MOST_MESSAGES])
        identity = told.get("correlation_id")
        if not isinstance(identity, str) or not identity:
            identity = correlation_id(answer.headers)
        identity = hidden(identity, secrets) or None
        kind = error_for_status(answer.status)
        text = f"{operation.name} was answered with {answer.status}" + (f" {code}" if code else "")
        if messages:
            text += ": " + "; ".join(messages[:5]) + ("; …" if len(messages) > 5 else "")  # noqa: PLR2004
        text += self._way_out(kind, answer)
        if answer.status in operation.meanings:
            text += f". {operation.meanings[answer.status]}"
        if identity:
            identity = clean_text(identity, _ID_CAP)
            text += f" (correlation id {identity})"
        return kind(
            text,
            status=answer.status,
            code=code,
            messages=messages,
            retry_after=wait_asked_for(answer),
            body=body,
            correlation_id=identity,
            cause=answer.broken,
        )

    def _error_body(self, body: bytes) -> dict[str, Any]:
        try:
            told = self._codec.load(body)
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    def _way_out(self, kind: type[ApiError], answer: HttpResponse) -> str:
        settings = self._settings
        if kind is AuthenticationError:
            where = f" ({settings.environment})" if settings.environment else ""
            return f". The credentials are not good at {settings.base_url.host}{where}: check key, username and environment"
        if kind is UnexpectedStatusError or answer.status in (307, 308):
            location = answer.headers.get("Location")
            return f". It points to {_origin(location)}, which is not followed" if location else ""
        return ""

    def _secrets(self, request: Any) -> list[Secret]:
        """What we sent and nobody should read again in an error, longest first: some servers echo what they get."""
        found = {*self._settings.secrets}
        found.update(Secret(value) for _, value in self._settings.headers if len(value) >= _SECRET_LENGTH)
        found.update(Secret(secret) for secret in self._sent(request))
        return sorted(found, key=len, reverse=True)

    def _sent(self, request: Any) -> Iterator[str]:
        """The secrets in a request."""
        if isinstance(request, CreateSessionRequest):
            yield from secrets_in_request(request)


def _redacted(body: bytes, secrets: list[Secret]) -> bytes:
    """A body without our secrets, as JSON spells them too: with "/" or what is not ASCII escaped."""
    shown = body.decode(errors="surrogateescape")
    for secret in secrets:
        spelled = {secret}
        if not secret.isascii():
            spelled |= {Secret(secret.lower()), Secret(secret.upper())}  # whose escapes are others
        spelled |= {
            Secret(json.dumps(one, ensure_ascii=ascii_only)[1:-1]) for one in spelled for ascii_only in (True, False)
        }
        spelled |= {Secret(spelling.replace("/", "\\/")) for spelling in spelled}
        for spelling in sorted(spelled, key=len, reverse=True):
            # What is no UTF-8, here or there, comes out as it went in.
            shown = _without(shown, spelling.encode(errors="surrogatepass").decode(errors="surrogateescape"))
    return shown.encode(errors="surrogateescape")


def hidden(text: str | None, secrets: list[Secret]) -> str:
    """A text without our secrets: whatever way they were escaped in the body, here they would be plain."""
    shown = text or ""
    for secret in secrets:
        shown = _without(shown, secret)
    return shown


def _without(text: str, secret: str) -> str:
    """A text without a secret, in small letters or large: servers normalise an e-mail address before they echo it."""
    # The quick look first: nearly always there is nothing to hide.
    return re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE) if secret.casefold() in text.casefold() else text


def _environment_of(url: str) -> Environment | None:
    """The environment of a payment session's URL; None where its host is not one of the API's own."""
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0].lower()
    if not host.endswith((".kustom.co", ".klarna.com")) or not host.startswith("api"):
        return None
    return Environment.PLAYGROUND if ".playground." in host else Environment.LIVE


def with_info(value: Any, info: CallInfo) -> Any:
    """A freshly read answer with how its call went.

    Implementation note: set in place. Nobody has seen the value yet, and making a second one costs more than reading it.
    """
    object.__setattr__(value, "info", info)
    return value


# ---------------------------------------------------------------------------------------------- what an answer says

_SESSION_ID = rb'"session_id"\s*:\s*"([A-Za-z0-9._~-]{1,64})"'
_SECONDS = r"(?a)[0-9]{1,9}"
_LIMIT = r"(?a)\s*([0-9]{1,9})(?![0-9])(?:.*?;\s*w=([0-9]{1,9})(?![0-9]))?"


def _messages(told: Mapping[str, Any]) -> list[str]:
    """The messages of an error body, in the spellings that were seen."""
    messages = told.get("error_messages")
    if not isinstance(messages, list):
        messages = [told.get("error_message"), told.get("internal_message")]
    return [message for message in messages if isinstance(message, str)]


_ID_ENDINGS = frozenset({"-Id", "-id", "-ID", "-iD"})


def correlation_id(headers: Mapping[str, str]) -> str | None:
    """The API's id for a request, from any header whose name ends in "correlation-id"."""
    for name in headers:
        if name[-3:] in _ID_ENDINGS and name.lower().endswith("correlation-id"):
            return clean_text(headers[name], _ID_CAP) or None
    return None


def rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """The merchant's quota from `x-ratelimit-limit: 40, 40;w=1`, `-remaining` and `-reset` (seconds); None without them."""
    limit, remaining = headers.get("x-ratelimit-limit"), headers.get("x-ratelimit-remaining")
    reset = headers.get("x-ratelimit-reset")
    if limit is None and remaining is None and reset is None:
        return None
    match = re.match(_LIMIT, limit) if limit else None
    return RateLimit(
        limit=int(match[1]) if match else None,
        window=float(match[2]) if match and match[2] else None,
        remaining=_whole_seconds(remaining),
        reset=_whole_seconds(reset),
    )


def _whole_seconds(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(_SECONDS, text.strip()) else None


def wait_asked_for(answer: HttpResponse) -> float | None:
    """Seconds that an answer asks to wait: Retry-After (RFC 9110, section 10.2.3), else x-ratelimit-reset on a 429.

    Anything that is neither 1 to 9 digits nor a date with its zone is taken for no hint at all.
    """
    told = answer.headers.get("Retry-After")
    if told is not None:
        if re.fullmatch(_SECONDS, told.strip()):
            return float(told)
        if (moment := _timestamp(told)) is not None:
            # Told by the server's own clock where it says what that is: ours may be off.
            now = _timestamp(answer.headers.get("Date"))
            return max(0.0, moment - (time.time() if now is None else now))
    if answer.status == 429:  # noqa: PLR2004
        return _whole_seconds(answer.headers.get("x-ratelimit-reset"))
    return None


def _timestamp(date: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date; None where it is none, or has no zone."""
    import email.utils  # heavy, and needed by few answers

    try:
        moment = email.utils.parsedate_to_datetime(date) if date else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.timestamp() if moment is not None and moment.tzinfo is not None else None


def _origin(location: str) -> str:
    """Scheme and host of a redirect's target: the rest may hold anything."""
    try:
        return clean_text(str(URL(location).origin()), _ID_CAP)
    except ValueError:
        return "a place on the same host"
