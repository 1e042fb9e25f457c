"""Checks of single values: text, enum values, JSON.

A check appends to a list of problems. No sentence contains a value, because values carry secrets.

Patterns are text, here and in the other modules: `re` compiles them at their first use and caches them.
"""

import math
import re
from collections.abc import Iterable
from enum import StrEnum

from kustom_hpp._redaction import describe_shape

Problems = list[tuple[str, str]]
"""What a check appends to: (JSON path, sentence)."""

BLANKS = r"\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Blanks beyond ASCII, for a class in a pattern: Python and ECMAScript disagree on what \\s is."""
SURROGATE = r"[\ud800-\udfff]"
_MAX_NESTING = 32
"""Levels of nesting in an extra field: far more than any field of this API has, far less than a parser can read."""


def check_text(problems: Problems, path: str, value: object) -> None:
    """Check a text: every character must have an encoding in UTF-8."""
    if not isinstance(value, str):
        problems.append((path, f"must be text, got {describe_shape(value)}"))
    elif has_surrogate(value):
        problems.append((path, "has half a surrogate pair, which is not a character"))


def has_surrogate(text: str) -> bool:
    """Return True if a text has half a surrogate pair: no encoding of Unicode can express it."""
    return not text.isascii() and re.search(SURROGATE, text) is not None


def check_enum(problems: Problems, path: str, value: object, kind: type[StrEnum]) -> None:
    """Check a value of an enum, in the spelling of the API reference."""
    allowed = kind._value2member_map_
    if not isinstance(value, str):
        problems.append((path, f"must be one of {', '.join(kind)}, got {describe_shape(value)}"))
    elif value not in allowed:
        hint = f"; did you mean {value.upper()}?" if value.upper() in allowed else ""
        problems.append((path, f"must be one of {', '.join(kind)}, got {describe_shape(value)}{hint}"))


def check_extra(problems: Problems, at: str, extra: object, known: Iterable[str], owner: str) -> None:
    """Check fields newer than this release: new names, and values of plain JSON."""
    if not isinstance(extra, dict):
        problems.append((f"{at}extra", f"must be a dict of field names to JSON values, got {describe_shape(extra)}"))
        return
    for key, value in extra.items():
        if not _is_name(key):
            problems.append((f"{at}extra", f"has a field name that is not plain text: {describe_shape(key)}"))
        elif key in known:
            problems.append((f"{at}extra.{key}", f"is a field of this release: pass it as {owner}({key}=...)"))
        else:
            check_json(problems, f"{at}extra.{key}", value)


def warn_extra(warnings: Problems, at: str, extra: Iterable[object], known: Iterable[str]) -> None:
    """Warn about fields newer than this release: each may be a known one, mistyped."""
    import difflib

    for key in extra:
        close = difflib.get_close_matches(str(key), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        warnings.append((f"{at}{key}", f"is not a field of this release, and is sent unchanged{hint}"))


def _is_name(key: object) -> bool:
    """Return True if every JSON library writes this as a name: orjson refuses subclasses of str."""
    return type(key) is str and not has_surrogate(key)


def check_json(problems: Problems, path: str, value: object, parents: tuple[int, ...] = ()) -> None:
    """Check plain JSON: every JSON library must write it in the same way."""
    if id(value) in parents:
        problems.append((path, "contains itself, which JSON cannot express"))
    elif len(parents) > _MAX_NESTING:
        problems.append((path, f"is nested deeper than {_MAX_NESTING} levels"))
    elif isinstance(value, str):
        check_text(problems, path, value)
    elif type(value) is dict:
        for key, item in value.items():
            if _is_name(key):
                check_json(problems, f"{path}.{key}", item, (*parents, id(value)))
            else:
                problems.append((path, f"has a field name that is not plain text: {describe_shape(key)}"))
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):  # type: ignore[arg-type]
            check_json(problems, f"{path}[{index}]", item, (*parents, id(value)))
    elif (reason := _why_not_json(value)) is not None:
        problems.append((path, reason))


def _why_not_json(value: object) -> str | None:
    """Return why a value other than text, list and object is not portable JSON; None if it is."""
    if type(value) is float and not math.isfinite(value):
        return "is not a finite number, which JSON cannot express"
    if type(value) is int and not -(1 << 63) <= value < 1 << 64:
        return "is a whole number of more than 64 bits: send it as text"
    if value is None or type(value) in (bool, int, float):
        return None
    return f"must be a JSON value, got {describe_shape(value)}"
