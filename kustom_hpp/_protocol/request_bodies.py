"""Encoders: a request model becomes the JSON bytes of a body, or an error that lists every problem."""

from typing import Any

from kustom_hpp._protocol.codec import codec
from kustom_hpp.config import Environment, Settings
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import (
    CreateSessionRequest,
    EmailDistribution,
    SmsDistribution,
    TokenDistribution,
)
from kustom_hpp.models.fast_validation import is_surely_valid
from kustom_hpp.models.requests import private_http_problems


def encode_create_request(settings: Settings, request: Any) -> bytes:
    """Return the body of a create.

    Raises:
        InvalidRequestError: with every problem and its path.

    """
    if type(request) is not CreateSessionRequest:
        problem = f"must be a CreateSessionRequest, got a {type(request).__name__}"
        raise InvalidRequestError(problems=(("$", problem),))
    try:
        body = codec().encode_request(request)
    except (TypeError, ValueError, AttributeError, RecursionError):
        body = b""  # problems() below says why
    if is_surely_valid(body) and _matches_environment(settings, request.payment_session_url):
        return body
    problems = request.problems() or _environment_problems(settings, request.payment_session_url)
    if not problems and not settings.insecure_http:
        problems = private_http_problems(request)
    if problems:
        del body  # the traceback's locals must not show the secrets of the merchant URLs
        raise InvalidRequestError(problems=problems)
    return body or codec().encode_request(request)


def encode_distribution(_: Settings, request: Any) -> bytes:
    """Return the body of a distribute; see `encode_create_request`."""
    if not isinstance(request, (EmailDistribution, SmsDistribution, TokenDistribution)):
        problem = f"must be an EmailDistribution, SmsDistribution or TokenDistribution, got a {type(request).__name__}"
        raise InvalidRequestError(problems=(("$", problem),))
    if problems := request.problems():
        raise InvalidRequestError(problems=problems)
    return codec().encode_model(request)


def _matches_environment(settings: Settings, url: str) -> bool:
    """Return True if a payment session certainly belongs to the client's environment."""
    return settings.environment is None or url.startswith(f"https://{settings.base_url.raw_host}/")


def _environment_problems(settings: Settings, url: str) -> tuple[tuple[str, str], ...]:
    """Return a problem for a payment session of the other environment. The API returns a bare 404 or 500 for it."""
    ours = settings.environment
    theirs = _environment_of(url) if ours else None
    if ours is None or theirs is None or theirs is ours:
        return ()
    remedy = f"create the order in {ours}, or the client with environment={theirs!s} and its key"
    return (("payment_session_url", f"is of {theirs}, but this client calls {ours}: {remedy}"),)


def _environment_of(url: str) -> Environment | None:
    """Return the environment of a payment session's URL; None if its host is not one of the API's."""
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0].lower()
    if not host.endswith((".kustom.co", ".klarna.com")) or not host.startswith("api"):
        return None
    return Environment.PLAYGROUND if ".playground." in host else Environment.LIVE
