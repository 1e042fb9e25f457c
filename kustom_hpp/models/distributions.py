"""Requests that send a session's link to the consumer: by e-mail, by SMS, or to an app by its code.

There are three classes, because each method has fields of its own. Contact data is personal data: no `repr` and no sentence
shows it.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

from attrs import field, frozen

from kustom_hpp._redaction import describe_shape, mask, secrets_in_extra
from kustom_hpp.errors import InvalidRequestError
from kustom_hpp.models import fields
from kustom_hpp.models.field_kinds import ContactKind
from kustom_hpp.models.validation import BLANKS, Problems, check_extra, warn_extra

__all__ = ["Distribution", "DistributionTemplate", "EmailDistribution", "SmsDistribution", "TokenDistribution"]

CONTACT = "contact_information"
"""The JSON object that holds what the method needs."""

_EMAIL = rf"[^@\u0000-\u0020\u007f{BLANKS}]+@[^@\u0000-\u0020\u007f{BLANKS}]+"
_PHONE = r"\+?[ ()./-]*[0-9][0-9 ()./-]*"
_COUNTRY = r"[A-Z]{2}"


class DistributionTemplate(StrEnum):
    """`template` of a distribution: without effect today, and it may be removed. Source: docs.kustom.co, "Distribute"."""

    INSTORE_PURCHASE = "INSTORE_PURCHASE"


def _contact(pattern: str = "", rule: str = "", *, is_number: bool = False) -> dict[str, Any]:
    return fields.kind(ContactKind(pattern=pattern, rule=rule, is_number=is_number))


class _Distribution:
    """What the three methods have in common."""

    __slots__ = ()

    method: ClassVar[str]
    template: DistributionTemplate | None
    extra: dict[str, Any]

    def problems(self) -> tuple[tuple[str, str], ...]:
        """Return everything that the API's documents forbid, as (JSON path, sentence); empty if the request is valid.

        A sentence describes the shape of a value and the remedy. It never contains the value.
        """
        problems: Problems = []
        declared = fields.declared(type(self))
        contact = [item for item in declared if isinstance(item.kind, ContactKind)]
        fields.check_fields(problems, f"{CONTACT}.", self, contact)
        fields.check_fields(problems, "", self, (item for item in declared if item not in contact))
        _check_extra(problems, self)
        if not problems:
            fields.check_size(problems, distribution_to_json(self))
        return tuple(problems)

    def warnings(self) -> tuple[tuple[str, str], ...]:
        """Return everything that is legal but suspicious, as (JSON path, sentence). The client sends such a request."""
        warnings: Problems = []
        self._warn(warnings)
        if isinstance(self.extra, dict):
            warn_extra(warnings, "", (name for name in self.extra if name != CONTACT), (CONTACT, "template"))
            contact = self.extra.get(CONTACT)
            if isinstance(contact, dict):
                # The field of another method is not new: the API reference's own example has an address and a phone.
                known = [name for kind in METHODS.values() for name in contact_fields(kind)]
                warn_extra(warnings, f"{CONTACT}.", (name for name in contact if name not in known), known)
        return tuple(warnings)

    def _warn(self, warnings: Problems) -> None:
        """Append what is suspicious about the method."""


@frozen(slots=True)
class EmailDistribution(_Distribution):
    """Send the link by e-mail, in the session's language.

    Wire shape: `{"method": "email", "contact_information": {"email": ...}}`. The address prefills the page too. The
    playground sends 100 e-mails a day.
    """

    method: ClassVar[str] = "email"

    email: str = field(repr=mask, metadata=_contact(_EMAIL, "an address like name@host"))
    """The address; the API checks it before it responds, and refuses an invalid one."""
    template: DistributionTemplate | None = fields.enum(DistributionTemplate, kw_only=True)
    extra: dict[str, Any] = fields.extra()
    """Fields newer than this release, sent unchanged; `contact_information` in it holds more of the contact."""


@frozen(slots=True)
class SmsDistribution(_Distribution):
    """Send the link by SMS, in the session's language.

    Wire shape: `{"method": "sms", "contact_information": {"phone": ..., "phone_country": ...}}`. The API's reference has this
    method, its guide no longer: it may be refused.
    """

    method: ClassVar[str] = "sms"

    phone: str = field(repr=mask, metadata=_contact(_PHONE, "digits, optionally with +", is_number=True))
    """The number as it is dialled in `phone_country`, or with + and the country's code."""
    phone_country: str = field(
        repr=mask, metadata=_contact(_COUNTRY, 'two capital letters (ISO 3166-1 alpha-2, like "SE")')
    )
    """ISO 3166-1 alpha-2, in capitals: "SE"."""
    template: DistributionTemplate | None = fields.enum(DistributionTemplate, kw_only=True)
    extra: dict[str, Any] = fields.extra()
    """Fields newer than this release, sent unchanged; `contact_information` in it holds more of the contact."""

    def _warn(self, warnings: Problems) -> None:
        warnings.append(("method", "is sms, which the API's guide no longer names: it may be refused"))


@frozen(slots=True)
class TokenDistribution(_Distribution):
    """Send the link to the app whose QR code the consumer shows.

    Wire shape: `{"method": "token", "contact_information": {"access_id": ...}}`.
    """

    method: ClassVar[str] = "token"

    access_id: str = field(repr=mask, metadata=_contact())
    """The content of the QR code, unchanged."""
    template: DistributionTemplate | None = fields.enum(DistributionTemplate, kw_only=True)
    extra: dict[str, Any] = fields.extra()
    """Fields newer than this release, sent unchanged; `contact_information` in it holds more of the contact."""


Distribution: TypeAlias = EmailDistribution | SmsDistribution | TokenDistribution
"""The body of POST /hpp/v1/sessions/{session_id}/distribution: one of the three."""

METHODS: dict[str, type[Distribution]] = {
    kind.method: kind for kind in (EmailDistribution, SmsDistribution, TokenDistribution)
}
"""The class for each `method` in the JSON."""


def contact_fields(kind: type[_Distribution]) -> list[str]:
    """Return the names of the fields in `contact_information`."""
    return [item.name for item in fields.declared(kind) if isinstance(item.kind, ContactKind)]


def distribution_to_json(request: _Distribution) -> dict[str, Any]:
    """Return a distribution as plain JSON values; `extra` goes next to and into `contact_information`."""
    extra = dict(request.extra)
    contact = {name: getattr(request, name) for name in contact_fields(type(request))} | extra.pop(CONTACT, {})
    template = {} if request.template is None else {"template": request.template}
    return {"method": request.method, CONTACT: contact, **template, **extra}


def distribution_from_json(value: Any) -> Distribution:
    """Return a distribution from plain JSON values, strictly, as the sandbox and the command line read it.

    Unknown fields go into `extra`.

    Raises:
        InvalidRequestError: with every problem and its path.

    """
    if not isinstance(value, dict):
        raise InvalidRequestError(problems=(("$", f"must be a JSON object, got {describe_shape(value)}"),))
    problems: Problems = []
    method, contact, template = value.get("method"), value.get(CONTACT), value.get("template")
    kind = METHODS.get(method) if isinstance(method, str) else None
    if kind is None:
        problems.append(("method", f"must be one of {', '.join(METHODS)}, got {describe_shape(method)}"))
    if not isinstance(contact, dict):
        problems.append((CONTACT, f"must be an object, got {describe_shape(contact)}"))
    if kind is None or not isinstance(contact, dict):
        raise InvalidRequestError(problems=tuple(problems))
    names = contact_fields(kind)
    more = {name: contact[name] for name in contact if name not in names}
    extra = {name: value[name] for name in value if name not in ("method", CONTACT, "template")}
    templates = DistributionTemplate._value2member_map_
    create: Any = kind  # the names of its fields are known only here
    request: Distribution = create(
        **{name: contact.get(name) for name in names},
        template=templates.get(template, template) if isinstance(template, str) else template,
        extra=extra | ({CONTACT: more} if more else {}),
    )
    if invalid := request.problems():
        raise InvalidRequestError(problems=invalid)
    return request


def secrets_in_distribution(request: Distribution) -> Iterator[str]:
    """Yield the texts in a distribution that an error must not show: the contact, and texts of extra fields."""
    for item in fields.declared(type(request)):
        yield from item.kind.secrets(getattr(request, item.name))
    yield from secrets_in_extra(request.extra)


def _check_extra(problems: Problems, request: _Distribution) -> None:
    extra, owner = request.extra, type(request).__name__
    contact = extra.get(CONTACT, {}) if isinstance(extra, dict) else {}
    if not isinstance(contact, dict):
        sentence = f"must be a dict of field names to JSON values, got {describe_shape(contact)}"
        problems.append((f"extra.{CONTACT}", sentence))
        contact = {}
    for name in contact_fields(type(request)):
        if name in contact:
            sentence = f"is a field of this release: pass it as {owner}({name}=...)"
            problems.append((f"extra.{CONTACT}.{name}", sentence))
    if isinstance(extra, dict) and "method" in extra:
        problems.append(
            ("extra.method", f"is {request.method} in the class {owner}: use the class of the other method")
        )
        extra = {name: value for name, value in extra.items() if name != "method"}
    check_extra(problems, "", extra, ("template", "extra"), owner)
