"""The table of the API's endpoints: one row each, with everything that distinguishes it from the others."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from attrs import field, frozen

from kustom_hpp._messages import UNKNOWN_OUTCOME_ADVICE
from kustom_hpp._protocol.request_bodies import encode_create_request, encode_distribution
from kustom_hpp.config import Settings
from kustom_hpp.models import Session, SessionDetails
from kustom_hpp.models.distributions import secrets_in_distribution
from kustom_hpp.models.requests import secrets_in_request

RateLimitGroup = Literal["creates", "others"]
"""The API limits the rate of creates separately from all other operations, and so does a client.

Source: docs.klarna.com/api-reference/rate-limit: 40 creates and 200 others a second in live, 5 and 50 in the playground.
"""

_NO_HINTS: Mapping[int, str] = MappingProxyType({})
_NOT_FOUND_HINT = "The session has expired, or these credentials have no such session"


def _no_secrets(_: Any) -> Iterable[str]:
    return ()


@frozen(kw_only=True, slots=True)
class Operation:
    """One endpoint of the API."""

    name: str
    """The name of the client's method."""
    method: str
    path: str
    """The path below the base URL, with `{session_id}` as a placeholder."""
    rate_limit_group: RateLimitGroup = "others"
    url_field: Literal["session_url", "distribution_url"] | None = None
    """The field of a created session that contains this endpoint's URL."""

    # The request.
    encode: Callable[[Settings, Any], bytes] | None = None
    """Returns the body, or raises an InvalidRequestError with every problem; None if a request has no body."""
    secrets_in_body: Callable[[Any], Iterable[str]] = _no_secrets
    """Returns the parts of the request model that must not appear in an error."""

    # The response.
    response_model: type[Any] | None = None
    """The model of a 2xx response; None if its body does not matter."""
    unreadable_body_in_error: bool = False
    """True if a DecodeError may show the body. False if the body may contain personal data."""

    # What decides about another attempt.
    idempotent: bool = False
    """True if the effect of two requests equals that of one, so that a retry is safe after an unknown outcome."""
    safe: bool = False
    """True if it changes nothing, so that the outcome of earlier attempts does not matter."""
    retry_statuses: frozenset[int] = frozenset()
    """Statuses for which the API's documentation asks to try again, although the operation is not idempotent."""
    not_found_means_done: bool = False
    """True if a 404 after an attempt of unknown outcome means that this attempt succeeded."""

    # The texts of errors.
    unknown_outcome_advice: str = UNKNOWN_OUTCOME_ADVICE
    """What an unknown outcome means for the caller."""
    unreadable_response_advice: str | None = None
    """What an unreadable 2xx means for the caller; None for the same as an unknown outcome."""
    status_hints: Mapping[int, str] = field(default=_NO_HINTS)
    """What the API's documentation says about a status of this endpoint."""


CREATE_SESSION = Operation(
    name="create_session",
    method="POST",
    path="/hpp/v1/sessions",
    rate_limit_group="creates",
    encode=encode_create_request,
    secrets_in_body=secrets_in_request,
    response_model=Session,
    unreadable_body_in_error=True,
    unreadable_response_advice="the session exists. Do not retry; create a new order and session",
    status_hints=MappingProxyType({404: "The order is unknown to this API or has expired; create a new order"}),
)
"""Source: docs.kustom.co, "Create an HPP session". Not idempotent, and the API has no idempotency key."""

READ_SESSION = Operation(
    name="read_session",
    method="GET",
    path="/hpp/v1/sessions/{session_id}",
    url_field="session_url",
    response_model=SessionDetails,
    idempotent=True,
    safe=True,
    unknown_outcome_advice="a read changes nothing. Read it again",
    status_hints=MappingProxyType({404: _NOT_FOUND_HINT}),
)
"""Source: docs.kustom.co, "Read an HPP session". A GET is safe (RFC 9110, section 9.2.1)."""

DISABLE_SESSION = Operation(
    name="disable_session",
    method="DELETE",
    path="/hpp/v1/sessions/{session_id}",
    url_field="session_url",
    idempotent=True,
    not_found_means_done=True,
    unknown_outcome_advice="the session may be disabled already. Disable it again",
    status_hints=MappingProxyType({400: "A completed session cannot be disabled", 404: _NOT_FOUND_HINT}),
)
"""Source: docs.kustom.co, "Disable an HPP session" (400: completed, 404: expired or unknown).

A DELETE is idempotent (RFC 9110, section 9.2.2). A second one may return 404 because the first one succeeded.
"""

DISTRIBUTE_SESSION = Operation(
    name="distribute_session",
    method="POST",
    path="/hpp/v1/sessions/{session_id}/distribution",
    url_field="distribution_url",
    encode=encode_distribution,
    secrets_in_body=secrets_in_distribution,
    retry_statuses=frozenset({503}),
    unknown_outcome_advice="the API may have sent the message. A second call may send it twice",
    status_hints=MappingProxyType({404: f"{_NOT_FOUND_HINT}, or the access id is unknown"}),
)
"""Source: docs.kustom.co, "Distribute an HPP session" (503: internal error, please try again). Each call sends a message.

The client retries a 503 only if it has an `error_code` of the API's form. Any other 503 may come from a gateway, after the
API has sent the message. In both cases the outcome stays unknown if all attempts fail.
"""

OPERATIONS = (CREATE_SESSION, READ_SESSION, DISABLE_SESSION, DISTRIBUTE_SESSION)
