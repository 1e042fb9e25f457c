"""What sends a session's link to the consumer: by e-mail, by SMS, or to an app by the code that it shows.

Three values rather than one with a method: each has the fields that its method needs, and no other can be given. Contact
data is personal data: no `repr` and no sentence shows it.
"""

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from attrs import field, frozen

from kustom_hpp._redaction import describe_shape, mask, secrets_in_extra
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models.fields import extra_field
from kustom_hpp.models.requests import MAX_BODY
from kustom_hpp.models.validation import Problems, check_enum, check_extra, check_text, warn_extra

CONTACT = "contact_information"
"""The object on the wire that holds what the method needs."""

_EMAIL = r"[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+"
_PHONE = r"(?a)\+?[ ()./-]*\d[\d ()./-]*"
_COUNTRY = r"[A-Z]{2}"


class DistributionTemplate(StrEnum):
    """`template` of a distribution: without effect today, and it may be removed. Source: docs.kustom.co, "Distribute"."""

    INSTORE_PURCHASE = "INSTORE_PURCHASE"


class _Distribution:
    """What the three have in common."""

    __slots__ = ()

    method: ClassVar[str]
    contact_fields: ClassVar[tuple[str, ...]]
    template: DistributionTemplate | None
    extra: dict[str, Any]

    def problems(self) -> tuple[tuple[str, str], ...]:
        """All that the documents forbid, as (JSON path, sentence); empty where the request may be sent.

        The sentences tell the shape of a value and the way out, never the value.
        """
        found: Problems = []
        self._check(found)
        check_enum(found, "", "template", self.template, DistributionTemplate)
        _check_extra(found, self)
        if not found and (size := _wire_size(self)) > MAX_BODY:
            found.append(("$", f"is {size:,} bytes of JSON; the API takes at most {MAX_BODY:,}: shorten its texts"))
        return tuple(found)

    def warnings(self) -> tuple[tuple[str, str], ...]:
        """All that is odd but may be meant, as (JSON path, sentence). Nothing here keeps the request from being sent."""
        found: Problems = []
        self._warn(found)
        if isinstance(self.extra, dict):
            warn_extra(found, "", (name for name in self.extra if name != CONTACT), (CONTACT, "template"))
            contact = self.extra.get(CONTACT)
            if isinstance(contact, dict):
                # Another method's field is none that is new: the reference's own example has an address beside a phone.
                newer = (name for name in contact if name not in _CONTACT_FIELDS)
                warn_extra(found, f"{CONTACT}.", newer, _CONTACT_FIELDS)
        return tuple(found)

    def _check(self, found: Problems) -> None:
        raise NotImplementedError

    def _warn(self, found: Problems) -> None:
        """Nothing is odd about most."""


@frozen(slots=True)
class EmailDistribution(_Distribution):
    """Send the link by e-mail, in the session's language.

    Wire shape: `{"method": "email", "contact_information": {"email": ...}}`. The address prefills the page too. At the
    playground 100 e-mails a day go out.
    """

    method: ClassVar[str] = "email"
    contact_fields: ClassVar[tuple[str, ...]] = ("email",)

    email: str = field(repr=mask)
    """The address; the API looks at it before it answers, and refuses a bad one."""
    template: DistributionTemplate | None = field(default=None, kw_only=True)
    extra: dict[str, Any] = extra_field()
    """Fields newer than this release, sent as they are; `contact_information` in it holds more of the contact."""

    def _check(self, found: Problems) -> None:
        if _is_text(found, "email", self.email) and not re.fullmatch(_EMAIL, self.email):
            found.append((f"{CONTACT}.email", f"must be an address like name@host, got {describe_shape(self.email)}"))


@frozen(slots=True)
class SmsDistribution(_Distribution):
    """Send the link by SMS, in the session's language.

    Wire shape: `{"method": "sms", "contact_information": {"phone": ..., "phone_country": ...}}`. In the reference of the
    API, but no longer in its guide: it may be refused.
    """

    method: ClassVar[str] = "sms"
    contact_fields: ClassVar[tuple[str, ...]] = ("phone", "phone_country")

    phone: str = field(repr=mask)
    """The number as it is dialled in `phone_country`, or with + and the country's code."""
    phone_country: str = field(repr=mask)
    """ISO 3166-1 alpha-2, in capitals: "SE"."""
    template: DistributionTemplate | None = field(default=None, kw_only=True)
    extra: dict[str, Any] = extra_field()
    """Fields newer than this release, sent as they are; `contact_information` in it holds more of the contact."""

    def _check(self, found: Problems) -> None:
        if _is_text(found, "phone", self.phone) and not re.fullmatch(_PHONE, self.phone):
            found.append((f"{CONTACT}.phone", f"must be digits, perhaps with +, got {describe_shape(self.phone)}"))
        country = self.phone_country
        if _is_text(found, "phone_country", country) and not re.fullmatch(_COUNTRY, country):
            sentence = f'must be two capital letters (ISO 3166-1 alpha-2, like "SE"), got {describe_shape(country)}'
            found.append((f"{CONTACT}.phone_country", sentence))

    def _warn(self, found: Problems) -> None:
        found.append(("method", "is sms, which the API's guide names no longer: it may be refused"))


@frozen(slots=True)
class TokenDistribution(_Distribution):
    """Send the link to the app whose QR code the consumer shows.

    Wire shape: `{"method": "token", "contact_information": {"access_id": ...}}`.
    """

    method: ClassVar[str] = "token"
    contact_fields: ClassVar[tuple[str, ...]] = ("access_id",)

    access_id: str = field(repr=mask)
    """What the QR code says, unchanged."""
    template: DistributionTemplate | None = field(default=None, kw_only=True)
    extra: dict[str, Any] = extra_field()
    """Fields newer than this release, sent as they are; `contact_information` in it holds more of the contact."""

    def _check(self, found: Problems) -> None:
        _is_text(found, "access_id", self.access_id)


Distribution: TypeAlias = EmailDistribution | SmsDistribution | TokenDistribution
"""The body of POST /hpp/v1/sessions/{session_id}/distribution: one of the three."""

METHODS: dict[str, type[Distribution]] = {
    kind.method: kind for kind in (EmailDistribution, SmsDistribution, TokenDistribution)
}
"""The class for each `method` on the wire."""

_CONTACT_FIELDS = ("email", "phone", "phone_country", "access_id")


def distribution_to_json(request: _Distribution) -> dict[str, Any]:
    """A distribution as plain JSON values, as the API spells it; `extra` beside and inside of `contact_information`."""
    extra = dict(request.extra)
    contact = {name: getattr(request, name) for name in request.contact_fields} | extra.pop(CONTACT, {})
    template = {} if request.template is None else {"template": request.template}
    return {"method": request.method, CONTACT: contact, **template, **extra}


def distribution_from_json(value: Any) -> Distribution:
    """A distribution from plain JSON values, strictly: as the sandbox and the command line read it.

    Unknown fields are kept in `extra`.

    Raises:
        InvalidRequestError: with every problem and its path.

    """
    if not isinstance(value, dict):
        raise InvalidRequestError(problems=(("$", f"must be a JSON object, got a {type(value).__name__}"),))
    found: Problems = []
    method, contact, template = value.get("method"), value.get(CONTACT), value.get("template")
    kind = METHODS.get(method) if isinstance(method, str) else None
    if kind is None:
        found.append(("method", f"must be one of {', '.join(METHODS)}, got {describe_shape(method)}"))
    if not isinstance(contact, dict):
        found.append((CONTACT, f"must be an object, got {describe_shape(contact)}"))
    if kind is None or not isinstance(contact, dict):
        raise InvalidRequestError(problems=tuple(found))
    more = {name: contact[name] for name in contact if name not in kind.contact_fields}
    extra = {name: value[name] for name in value if name not in ("method", CONTACT, "template")}
    templates = DistributionTemplate._value2member_map_
    make: Any = kind  # its fields are named by the class itself
    request: Distribution = make(
        **{name: contact.get(name) for name in kind.contact_fields},
        template=templates.get(template, template) if isinstance(template, str) else template,
        extra=extra | ({CONTACT: more} if more else {}),
    )
    if problems := request.problems():
        raise InvalidRequestError(problems=problems)
    return request


def secrets_in_distribution(request: Distribution) -> Iterator[str]:
    """What must not show up again in an error: the contact, and the texts of extra fields.

    Servers spell a number their own way, so that its digits are hidden too. Fewer than four characters would be found in
    every other word.
    """
    contact = [getattr(request, name) for name in request.contact_fields]
    if isinstance(request, SmsDistribution):
        contact.append("".join(re.findall(r"(?a)\d", request.phone)).lstrip("0"))
    yield from (text for text in contact if len(text) >= _SECRET_LENGTH)
    yield from secrets_in_extra(request.extra)


_SECRET_LENGTH = 4


def _wire_size(request: _Distribution) -> int:
    return len(json.dumps(distribution_to_json(request), ensure_ascii=False, separators=(",", ":")).encode())


def _is_text(found: Problems, name: str, value: object) -> bool:
    """Whether there is text to look at; what is wrong otherwise is found."""
    before = len(found)
    if value is None or value == "":
        found.append((f"{CONTACT}.{name}", f"is required, got {describe_shape(value)}"))
    else:
        check_text(found, f"{CONTACT}.", name, value)
    return len(found) == before


def _check_extra(found: Problems, request: _Distribution) -> None:
    extra, owner = request.extra, type(request).__name__
    contact = extra.get(CONTACT, {}) if isinstance(extra, dict) else {}
    if not isinstance(contact, dict):
        found.append(
            (f"extra.{CONTACT}", f"must be a dict of field names to JSON values, got {describe_shape(contact)}")
        )
        contact = {}
    for name in request.contact_fields:
        if name in contact:
            found.append((f"extra.{CONTACT}.{name}", f"is a field of this release: give it as {owner}({name}=...)"))
    if isinstance(extra, dict) and "method" in extra:
        found.append(("extra.method", f"is {request.method} by the class {owner}: take the class of the other method"))
        extra = {name: value for name, value in extra.items() if name != "method"}
    check_extra(found, "", extra, ("template", "extra"), owner)
