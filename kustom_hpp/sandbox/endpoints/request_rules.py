"""What a create asks for: judged at once, and read into its model only where somebody looks at it.

Implementation note: most requests are good, and most sessions of a load test are never looked at. The client's grammar of
requests that are good beyond doubt says so for a third of what the model takes; whatever it does not know, the model judges.
"""

from typing import Any

from kustom_hpp._protocol.codec import codec
from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.models.fast_validation import is_surely_valid
from kustom_hpp.sandbox.http.raw_response import dumps


class Asked:
    """A create's request that was found good."""

    __slots__ = ("_request", "payment_session_url")

    def __init__(self, payment_session_url: str, request: CreateSessionRequest | bytes) -> None:
        self.payment_session_url = payment_session_url
        """The payment session to host."""
        self._request = request

    @classmethod
    def of(cls, request: CreateSessionRequest) -> "Asked":
        """What a request asks for that has no problems."""
        return cls(request.payment_session_url, request)

    @property
    def request(self) -> CreateSessionRequest:
        """The request."""
        if isinstance(self._request, bytes):
            self._request = codec().decode_request(self._request)
        return self._request


def read(body: bytes) -> Asked:
    """What a create's body asks for.

    Raises:
        InvalidRequestError: with every problem and its path.

    """
    try:
        value = codec().load(body)
    except ValueError:
        return Asked.of(codec().decode_request(body))
    if isinstance(value, dict) and _is_good(body, value):
        return Asked(value["payment_session_url"], body)
    return Asked.of(codec().request_from(value))


def _is_good(body: bytes, value: dict[str, Any]) -> bool:
    """True where the model would find nothing, False where it has to look.

    The grammar is that of JSON as our own writer has it: another's blanks are taken out first. Which of two fields that
    exclude each other comes first is the only thing that it leaves to the writer.
    """
    options = value.get("options")
    if not isinstance(options, dict):
        options = {}
    if "payment_method_category" in options and "payment_method_categories" in options:
        return False
    texts = f"{value.get('profile_id')}{options.get('page_title')}"
    try:
        return is_surely_valid(body, texts) or is_surely_valid(dumps(value), texts)
    except RecursionError:
        return False
