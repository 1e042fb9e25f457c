"""What a text, a URL, an enum value or a piece of JSON may be: the checks that requests are made of.

Plain calls that append to a list. No sentence here ever holds a value: values carry secrets.
"""

import math
import re
from collections.abc import Callable, Iterable
from enum import StrEnum

from yarl import URL

from kustom_hpp._redaction import describe_shape

Problems = list[tuple[str, str]]
"""What checks append to: (JSON path, sentence)."""

# Patterns are text here and in the other rooms: they are compiled at their first use, and kept, by `re` itself.
#
# An authority, then anything but blanks, control characters and what a URL may not hold raw. Braces are wanted:
# placeholders have them. The classes are plain ASCII, which is what makes them quick; _NOT_IN_URL looks at the rest.
URL_PATTERN = r"(https?)://([^/?#\x00-\x20\x7f\"<>\\^`{}]+)([/?#][^\x00-\x20\x7f\"<>\\^`]*)?"
_NOT_IN_URL = r"[\s\u0080-\u009f\ud800-\udfff]"
_ENCODED_BRACES = r"%7[bB](?:%7[bB]|\{)|\{%7[bB]|%7[dD](?:%7[dD]|\})|\}%7[dD]"
SURROGATE = r"[\ud800-\udfff]"
LOOPBACK = r"(?:[^@]*@)?(?:localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(?::\d+)?"


def check_list(found: Problems, path: str, value: object, check: Callable[[Problems, str, object], None]) -> None:
    """A list, each item with its check."""
    if not isinstance(value, tuple):
        found.append((path, f"must be a list or tuple, got {describe_shape(value)}"))
        return
    for index, item in enumerate(value):
        check(found, f"{path}[{index}]", item)


def check_url(found: Problems, at: str, name: str, value: object, *, required: bool = False, https: str = "") -> None:
    """An absolute http(s) URL as text; `https` says why it must be https, where it must."""
    if value is None or value == "":
        # "" means "show a generic page" where a URL may be left out.
        if required:
            found.append((at + name, f"is required, got {describe_shape(value)}"))
    elif not isinstance(value, str):
        way_out = ": build it as text, so that placeholders stay as they are" if isinstance(value, URL) else ""
        found.append((at + name, f"must be text, got {describe_shape(value)}{way_out}"))
    elif "%7" in value and re.search(_ENCODED_BRACES, value):
        found.append((at + name, "has percent-encoded braces (%7B%7B), which are no placeholder: build it as text"))
    elif (match := re.fullmatch(URL_PATTERN, value)) is None or (not value.isascii() and re.search(_NOT_IN_URL, value)):
        found.append((at + name, f"must be an absolute http(s) URL without blanks, got {describe_shape(value)}"))
    elif https and match[1] == "http" and not re.fullmatch(LOOPBACK, match[2]):
        found.append((at + name, f"must be https: {https} (http is for loopback)"))


def check_text(found: Problems, at: str, name: str, value: object) -> None:
    """Any text that can be written as UTF-8."""
    if value is None:
        return
    if not isinstance(value, str):
        found.append((at + name, f"must be text, got {describe_shape(value)}"))
    elif not value.isascii() and re.search(SURROGATE, value):
        found.append((at + name, "has half a surrogate pair, which is no character"))


def check_enum(
    found: Problems, at: str, name: str, value: object, kind: type[StrEnum], *, required: bool = False
) -> None:
    """One of the values that the reference lists, in its spelling."""
    if value is None and not required:
        return
    allowed = kind._value2member_map_
    if not isinstance(value, str):
        found.append((at + name, f"must be one of {', '.join(kind)}, got {describe_shape(value)}"))
    elif value not in allowed:
        hint = f"; did you mean {value.upper()}?" if value.upper() in allowed else ""
        found.append((at + name, f"must be one of {', '.join(kind)}, got {describe_shape(value)}{hint}"))


def check_extra(found: Problems, at: str, extra: object, known: Iterable[str], owner: str) -> None:
    """Fields newer than this release: their names must be new, their values plain JSON."""
    if not isinstance(extra, dict):
        found.append((f"{at}extra", f"must be a dict of field names to JSON values, got {describe_shape(extra)}"))
        return
    for key, value in extra.items():
        if not _is_name(key):
            found.append((f"{at}extra", f"has a field name that is no plain text: {describe_shape(key)}"))
        elif key in known:
            found.append((f"{at}extra.{key}", f"is a field of this release: give it as {owner}({key}=...)"))
        else:
            check_json(found, f"{at}extra.{key}", value)


def warn_extra(found: Problems, at: str, extra: Iterable[object], known: Iterable[str]) -> None:
    """Fields newer than this release: perhaps one of ours, mistyped."""
    import difflib

    for key in extra:
        close = difflib.get_close_matches(str(key), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        found.append((f"{at}{key}", f"is not a field that this release knows, and is sent as it is{hint}"))


def _is_name(key: object) -> bool:
    """Whether every JSON library writes this as a name: orjson refuses an enum member, nobody writes half a character."""
    return type(key) is str and not re.search(SURROGATE, key)


_DEEPEST = 32
"""Levels of nesting that an extra field may have: far more than any field of this API, far less than a parser's end."""


def check_json(found: Problems, path: str, value: object, within: tuple[int, ...] = ()) -> None:
    """An extra field must be plain JSON: what we write has to be what was meant, whichever JSON library writes it."""
    if id(value) in within:
        found.append((path, "holds itself, which JSON cannot say"))
    elif len(within) > _DEEPEST:
        found.append((path, f"is nested deeper than {_DEEPEST} levels"))
    elif isinstance(value, str):
        check_text(found, "", path, value)
    elif type(value) is dict:
        for key, item in value.items():
            if _is_name(key):
                check_json(found, f"{path}.{key}", item, (*within, id(value)))
            else:
                found.append((path, f"has a field name that is no plain text: {describe_shape(key)}"))
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):  # type: ignore[arg-type]
            check_json(found, f"{path}[{index}]", item, (*within, id(value)))
    elif (why := _not_json(value)) is not None:
        found.append((path, why))


def _not_json(value: object) -> str | None:
    """Why a value that is neither text, list nor object is no JSON that everybody writes and reads alike."""
    if type(value) is float and not math.isfinite(value):
        return "is not a finite number, which JSON cannot say"
    if type(value) is int and not -(1 << 63) <= value < 1 << 64:
        return "is a whole number of more than 64 bits: send it as text"
    if value is None or type(value) in (bool, int, float):
        return None
    return f"must be a JSON value, got {describe_shape(value)}"


_PLACEHOLDER = r"\{\{(.*?)\}\}"
_KNOWN_PLACEHOLDERS = frozenset({"session_id", "order_id", "authorization_token"})
_HINTS = {"sid": "'sid' is the name of a query parameter in the documents' examples; "}


def warn_url(found: Problems, path: str, url: str, *, is_kco: bool) -> None:
    """What is odd about a URL that the page or the API will call."""
    match = re.fullmatch(URL_PATTERN, url)
    if match is not None and match[1] == "http" and not re.fullmatch(LOOPBACK, match[2]):
        found.append((path, "is http: consumers and browsers expect https"))
    for name in re.findall(_PLACEHOLDER, url):
        if name not in _KNOWN_PLACEHOLDERS:
            known = "known are {{session_id}}, {{order_id}} and {{authorization_token}}"
            found.append((path, f"has a placeholder that the API does not document: {_HINTS.get(name, '')}{known}"))
        elif name == "authorization_token" and (is_kco or path != "merchant_urls.success"):
            found.append(
                (path, "has {{authorization_token}}, which is filled in only for KP sessions, only in success")
            )
