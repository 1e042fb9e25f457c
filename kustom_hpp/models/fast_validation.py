"""A pattern that matches only valid requests; a mismatch proves nothing.

`CreateSessionRequest.problems()` checks field by field in Python and says what is wrong. That takes three times as long as
one match over the bytes that are about to be sent, and most requests are valid. The pattern is derived from the declarations
of the fields. It does not match every valid request: one with an extra field, a URL beyond ASCII or http on loopback needs
`problems()`. A test holds the two against each other.
"""

import functools
import re

from kustom_hpp.models.fields import MAX_BODY, sure_json
from kustom_hpp.models.requests import CreateSessionRequest


@functools.cache
def _valid_request_pattern() -> re.Pattern[bytes]:
    """Return the compiled pattern; the first request compiles it, not the import."""
    return re.compile(sure_json(CreateSessionRequest).encode())


def is_surely_valid(body: bytes) -> bool:
    """Return True if a request's JSON, as the codec writes it, has no problems; False if `problems()` has to decide."""
    return (
        len(body) <= MAX_BODY
        and (b"%" not in body or b"%7" not in body)  # may begin a percent-encoded brace; one byte is found sooner
        and _valid_request_pattern().fullmatch(body) is not None
    )
