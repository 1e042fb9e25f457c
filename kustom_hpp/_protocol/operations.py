"""The table of the API's endpoints: one row for each, with what decides about sending it again."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from attrs import field, frozen

from kustom_hpp._messages import IN_DOUBT
from kustom_hpp.models import Session, SessionDetails

_NONE: Mapping[int, str] = MappingProxyType({})


@frozen(kw_only=True, slots=True)
class Operation:
    """One endpoint of the API."""

    name: str
    """As the client's method is called."""
    method: str
    path: str
    """Below the base URL; an id stands in it as `{session_id}`."""
    link: Literal["session_url", "distribution_url"] | None = None
    """The field of a created session that has this endpoint's URL."""
    answer: type[Any] | None = None
    """The model of a 2xx answer; None where there is nothing to read in it, whatever its body."""
    repeatable: bool = False
    """True where doing it twice does no harm, so that an attempt of unknown outcome may be followed by another."""
    safe: bool = False
    """True where it changes nothing, so that what came of the earlier attempts of a call does not matter."""
    try_again: frozenset[int] = frozenset()
    """Statuses that the documents answer with "try again", though the operation is not repeatable."""
    gone_is_done: bool = False
    """True where a 404 after an attempt of unknown outcome says that this attempt has done it."""
    in_doubt: str = IN_DOUBT
    """What an unknown outcome means for the caller: the end of that error's text."""
    meanings: Mapping[int, str] = field(default=_NONE)
    """What the documents say about a status of this endpoint, for the error's text."""


CREATE_SESSION = Operation(name="create_session", method="POST", path="/hpp/v1/sessions", answer=Session)
"""Source: docs.kustom.co, "Create an HPP session". Not idempotent, and no key makes it so."""

_GONE = "The session has expired, or is none of these credentials' here"

READ_SESSION = Operation(
    name="read_session",
    method="GET",
    path="/hpp/v1/sessions/{session_id}",
    link="session_url",
    answer=SessionDetails,
    repeatable=True,
    safe=True,
    in_doubt="nothing was changed, it is safe to read it again",
    meanings=MappingProxyType({404: _GONE}),
)
"""Source: docs.kustom.co, "Read an HPP session". A GET changes nothing (RFC 9110, section 9.2.1)."""

DISABLE_SESSION = Operation(
    name="disable_session",
    method="DELETE",
    path="/hpp/v1/sessions/{session_id}",
    link="session_url",
    repeatable=True,
    gone_is_done=True,
    in_doubt="it may be disabled already, it is safe to disable it again",
    meanings=MappingProxyType({400: "A session that is completed cannot be disabled", 404: _GONE}),
)
"""Source: docs.kustom.co, "Disable an HPP session" (400: completed, 404: expired or unknown). A DELETE is idempotent (RFC
9110, section 9.2.2): the second one finds what the first one left, and may well say 404 to that."""

DISTRIBUTE_SESSION = Operation(
    name="distribute_session",
    method="POST",
    path="/hpp/v1/sessions/{session_id}/distribution",
    link="distribution_url",
    try_again=frozenset({503}),
    in_doubt="the message may have been sent, and sending it again may send it twice",
    meanings=MappingProxyType({404: f"{_GONE}, or the access id is unknown"}),
)
"""Source: docs.kustom.co, "Distribute an HPP session" (503: internal error, please try again). Each one sends a message.

A 503 in the API's own words is that documented one, and is tried again as it says. One without an `error_code` of the
API's form is some gateway's, which sends it after the API behind it did the work too. How far an internal error came nobody
knows, so that either is of unknown outcome in the end.
"""

OPERATIONS = (CREATE_SESSION, READ_SESSION, DISABLE_SESSION, DISTRIBUTE_SESSION)
