"""The kinds of fields that hold one value: a URL, a text, an enum value, a number, a contact.

A kind says how a value is checked, what is suspicious about it, what in it is secret, which JSON is surely valid, and what its
OpenAPI schema is.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from attrs import frozen

from kustom_hpp._redaction import describe_shape, secrets_in_url
from kustom_hpp.models.urls import ANY_LINK, ANY_URL, HTTPS_URL, check_url, warn_url
from kustom_hpp.models.validation import Problems, check_enum, check_text

JsonObject = dict[str, Any]

_MAX_PIXELS = (1 << 63) - 1
_MIN_CONTACT = 4

# The JSON of most valid URLs, as bytes: all of ASCII that a URL may contain; braces in placeholders only. Python
# matches a set that lists its members faster than one with "^". Only sets have possessive quantifiers, and an atomic group
# stands around the rest: Python before 3.11.5 matches possessive groups wrongly (gh-106052).
_AUTHORITY = r"!$-.0-;=@-[\]_a-z|~"
_PATH = rf"{_AUTHORITY}/?#"
_SURE_REST = rf"[{_AUTHORITY}]++(?>(?:[/?#][{_PATH}]*+(?:\{{\{{[a-z_]++\}}\}}[{_PATH}]*+)*)?)"


@frozen(slots=True)
class FieldKind:
    """What a field's value may be."""

    def check(self, problems: Problems, path: str, value: object) -> None:
        """Append what is wrong with a value that is not None."""
        raise NotImplementedError

    def warn(self, warnings: Problems, path: str, value: Any, *, is_kco: bool) -> None:
        """Append what is suspicious about a text; `is_kco` if the request is for a KCO order."""

    def secrets(self, value: Any) -> Iterator[str]:  # noqa: ARG002 - for the kinds that have some
        """Yield the texts in a value that an error must not show."""
        yield from ()

    def to_json(self, value: Any) -> Any:
        """Return a value without problems as plain JSON."""
        return value

    def sure_json(self, *, required: bool) -> str:
        """Return a pattern that matches only valid JSON; other JSON needs `check`."""
        raise NotImplementedError

    def schema(self, *, required: bool) -> JsonObject:
        """Return the value's schema in OpenAPI 3.1."""
        raise NotImplementedError


@frozen(slots=True, kw_only=True)
class UrlKind(FieldKind):
    """An absolute http(s) URL as text; an optional one may be empty."""

    https: str = ""
    """Why the URL must be https; http is then for loopback only. Empty if http is allowed."""
    private_http: bool = False
    """http is for private hosts too: a sandbox in the same network calls them."""
    app_link: bool = False
    """A link with a custom scheme is valid too."""
    has_token: bool = False
    """The API fills in `{{authorization_token}}` here."""

    def check(self, problems: Problems, path: str, value: object) -> None:
        """Append what is wrong with a URL."""
        check_url(problems, path, value, https=self.https, private_http=self.private_http, app_link=self.app_link)

    def warn(self, warnings: Problems, path: str, value: Any, *, is_kco: bool) -> None:
        """Append what is suspicious about a URL."""
        warn_url(warnings, path, value, app_link=self.app_link, has_token=self.has_token and not is_kco)

    def secrets(self, value: Any) -> Iterator[str]:
        """Yield the query and its values."""
        if isinstance(value, str):
            yield from secrets_in_url(value)

    def sure_json(self, *, required: bool) -> str:
        """Return the pattern of a URL in ASCII without percent-encoded braces."""
        url = f"https{'' if self.https else '?'}://{_SURE_REST}"
        return f'"{url}"' if required else f'"(?:{url})?"'

    def schema(self, *, required: bool) -> JsonObject:
        """Return the schema; its description says why the URL must be https."""
        pattern = ANY_LINK if self.app_link else ANY_URL
        about = {}
        if self.https:
            pattern = HTTPS_URL
            private = "; a sandbox with --expose accepts private hosts too" if self.private_http else ""
            about = {"description": f"Must be https: {self.https}. http is for loopback{private}."}
        return (
            _text_schema(required=required) | {"pattern": f"^{pattern}$" if required else f"^(?:{pattern})?$"} | about
        )


@frozen(slots=True)
class TextKind(FieldKind):
    """Any text that UTF-8 can encode."""

    def check(self, problems: Problems, path: str, value: object) -> None:
        """Append what is wrong with a text."""
        check_text(problems, path, value)

    def sure_json(self, *, required: bool) -> str:  # noqa: ARG002 - the same for both
        """Return the pattern of a text without escapes."""
        return r'"[ !#-[\]-\xff]*+"'

    def schema(self, *, required: bool) -> JsonObject:
        """Return the schema of any text."""
        return _text_schema(required=required)


@frozen(slots=True)
class EnumKind(FieldKind):
    """One of the values that the API reference lists, as a member or as text."""

    values: type[StrEnum]

    def check(self, problems: Problems, path: str, value: object) -> None:
        """Append what is wrong with a value of the enum."""
        check_enum(problems, path, value, self.values)

    def sure_json(self, *, required: bool) -> str:  # noqa: ARG002 - the same for both
        """Return the pattern of the enum's values."""
        return f'"(?:{"|".join(self.values)})"'

    def schema(self, *, required: bool) -> JsonObject:
        """Return a reference to the enum's schema."""
        return reference(self.values, optional=not required)


@frozen(slots=True)
class PixelsKind(FieldKind):
    """A whole number of pixels."""

    def check(self, problems: Problems, path: str, value: object) -> None:
        """Append what is wrong with a number of pixels."""
        if type(value) is not int or not 0 <= value <= _MAX_PIXELS:
            problems.append((path, f"must be a whole number of pixels, got {describe_shape(value)}"))

    def sure_json(self, *, required: bool) -> str:  # noqa: ARG002 - the same for both
        """Return the pattern of a number of at most 18 digits."""
        return "[0-9]{1,18}"

    def schema(self, *, required: bool) -> JsonObject:
        """Return the schema of a whole number."""
        kind = "integer" if required else ["integer", "null"]
        return {"type": kind, "minimum": 0, "maximum": _MAX_PIXELS, "description": "In pixels."}


@frozen(slots=True, kw_only=True)
class ContactKind(FieldKind):
    """TextKind to reach a consumer: personal data, wholly secret."""

    pattern: str
    """In the common part of Python's and ECMAScript's expressions; empty if any text is valid."""
    rule: str = ""
    """What the text must be, for the error message."""
    is_number: bool = False
    """A telephone number: servers spell it their own way, so its digits are secret too."""

    def check(self, problems: Problems, path: str, value: object) -> None:
        """Append what is wrong with a contact."""
        before = len(problems)
        check_text(problems, path, value)
        if len(problems) == before and self.pattern and not re.fullmatch(self.pattern, str(value)):
            problems.append((path, f"must be {self.rule}, got {describe_shape(value)}"))

    def secrets(self, value: Any) -> Iterator[str]:
        """Yield the text; fewer than four characters would be found in every other word."""
        texts = [value, re.sub("[^0-9]", "", value).lstrip("0")] if self.is_number else [value]
        yield from (text for text in texts if len(text) >= _MIN_CONTACT)

    def schema(self, *, required: bool) -> JsonObject:
        """Return the schema of the contact."""
        return _text_schema(required=required) | ({"pattern": f"^{self.pattern}$"} if self.pattern else {})


def reference(kind: type, *, optional: bool = False) -> JsonObject:
    """Return a reference to the schema of a model or an enum."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"anyOf": [schema, {"type": "null"}]} if optional else schema


def _text_schema(*, required: bool) -> JsonObject:
    return {"type": "string" if required else ["string", "null"]}
