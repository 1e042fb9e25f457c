"""The distribution of a session's link: its checks and error codes. The sandbox sends nothing, it records the message.

Codes of the guide "Distribute an HPP session": MISSING_CONTACT_DATA, CONSTRAINT_VIOLATION, UNSUPPORTED_COUNTRY, NOT_FOUND.
If it says nothing:

- The session is checked before the request. A disabled, completed or cancelled session refuses a distribution
  (CONSTRAINT_VIOLATION; documented for a disabled one, without the code).
- SMS goes to the countries of `COUNTRIES`.
- An access id exists if it has one of the documented forms: a UUID, optionally after "klarna:", or 6 or 12 digits. Any
  other is NOT_FOUND.
- A second request sends a second message.
"""

import re

from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import EmailDistribution, SmsDistribution
from kustom_hpp.models.distributions import CONTACT, Distribution, contact_fields
from kustom_hpp.sandbox.endpoints.request_body import read_distribution
from kustom_hpp.sandbox.http.request_context import ApiRefusal
from kustom_hpp.sandbox.stored_session import StoredSession

COUNTRIES = frozenset("AT AU BE CA CH CZ DE DK ES FI FR GB GR HU IE IT MX NL NO NZ PL PT RO SE SK US".split())
"""Countries to which SMS goes, as `phone_country`."""
ACCESS_ID = r"(?:klarna:)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9]{6}|[0-9]{12}"
"""The forms of an access id."""


def check_distribution(session: StoredSession, body: bytes, *, strict: bool) -> tuple[Distribution, list[str]]:
    """Return the distribution in a body, and the warnings about it, or raise the API's refusal."""
    if session.status.is_final:
        raise ApiRefusal(400, "CONSTRAINT_VIOLATION", f"the session is {session.status}")
    try:
        request, warnings = read_distribution(body, strict=strict)
    except InvalidRequestError as error:
        missing = [
            sentence for path, sentence in error.problems if path.startswith(CONTACT) and _is_about_absence(sentence)
        ]
        only_contact = all(path.startswith(CONTACT) for path, _ in error.problems)
        code = "MISSING_CONTACT_DATA" if missing and only_contact else "CONSTRAINT_VIOLATION"
        raise ApiRefusal(400, code, *(f"{path}: {sentence}" for path, sentence in error.problems)) from None
    if isinstance(request, SmsDistribution):
        if request.phone_country not in COUNTRIES:
            raise ApiRefusal(
                400, "UNSUPPORTED_COUNTRY", f"{CONTACT}.phone_country: SMS is not supported in this country"
            )
    elif not isinstance(request, EmailDistribution) and not re.fullmatch(ACCESS_ID, request.access_id):
        raise ApiRefusal(404, "NOT_FOUND", f"{CONTACT}.access_id: the access token was not found")
    return request, warnings


def _is_about_absence(sentence: str) -> bool:
    return sentence == "is required" or sentence.endswith("got null")


def masked_contact(request: Distribution) -> str:
    """Return the contact for display: its first character."""
    text = getattr(request, contact_fields(type(request))[0])
    return f"{text[:1]}***"
