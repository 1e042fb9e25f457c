"""Secrets and how they are hidden: the `Secret` text, masks for reprs, and what in a value must not be shown."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import attrs


class Secret(str):
    """Text that never shows itself: its `repr` is masked, and it refuses to be pickled.

    It is still the text that it holds, so it can be sent as a header. `str()` and formatting reveal it on purpose; a
    traceback with locals, a `repr`, a log of a container or a pickle does not.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> Any:
        msg = "a secret is not pickled: read it from its source again where it is needed"
        raise TypeError(msg)

    # Frozen text: a copy of it is itself. Without these, copying would go through __reduce__ and fail.
    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: Any) -> "Secret":
        return self


def mask_url(url: object) -> str:
    """A URL for people's eyes: user info, query and fragment masked, as they may carry secrets."""
    if not isinstance(url, str):
        return repr(url) if url is None else f"<{type(url).__name__}>"
    if url and "://" not in url:  # no URL: a token in the wrong place, perhaps
        return f"<{describe_shape(url)}>"
    return repr(masked_url(url))


def masked_url(url: str) -> str:
    """A URL with user info, query and fragment masked."""
    shown, mark, _ = url.partition("?")
    shown, hash_mark, _ = shown.partition("#")
    scheme, slashes, rest = shown.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = "***@" + authority.rpartition("@")[2]
    shown = scheme + slashes + authority + slash + path
    return shown + ("?***" if mark else "") + ("#***" if hash_mark else "")


def mask(value: object) -> str:
    """Whether there is a value, and nothing else of it."""
    return "None" if value is None else "'***'"


def mask_extra_fields(extra: object) -> str:
    """The names of the extra fields; their values may be anything, secrets too."""
    return "{" + ", ".join(f"{key!r}: ..." for key in extra) + "}" if isinstance(extra, dict) else describe_shape(extra)


def mask_model(value: object) -> str:
    """A part of a request: one of our models masks itself, of anything else (a dict in its place) only the shape."""
    if isinstance(value, tuple):
        return "(" + "".join(f"{mask_model(item)}, " for item in value).rstrip() + ")"
    return repr(value) if value is None or attrs.has(type(value)) else f"<{describe_shape(value)}>"


def describe_shape(value: object) -> str:
    """Return what a value looks like, in the words of JSON, for an error text: never the value itself."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return f"an object of {len(value)} fields" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def secrets_in_url(url: str) -> Iterator[str]:
    """The parts of a URL that must not show up in an error: its query, and the values in it."""
    query = url.partition("?")[2]
    if query:
        # A few characters alone would be found in every other word.
        yield query if len(query) >= MIN_SECRET_LENGTH else f"?{query}"
    for pair in query.partition("#")[0].split("&"):
        value = pair.partition("=")[2]
        if len(value) >= MIN_SECRET_LENGTH and not re.fullmatch(_PLACEHOLDER, value):
            yield value


def secrets_in_api_url(url: str) -> Iterator[str]:
    """The same of a URL that the API gave: its query, and the user info and the fragment that it should not have."""
    rest, _, fragment = url.partition("#")
    for secret in secrets_in_url(rest):
        yield secret
        if (plain := unquote(secret)) != secret:
            yield plain
    user = re.split("[/?]", rest.partition("://")[2], maxsplit=1)[0].rpartition("@")[0]
    yield from (part for part in (user, user.partition(":")[2], fragment) if len(part) >= MIN_SECRET_LENGTH)


def secrets_in_extra(value: object) -> Iterator[str]:
    """The texts in an extra field: nobody knows what they are, so nobody shows them."""
    if isinstance(value, str):
        yield from secrets_in_url(value)
        if len(value) >= MIN_SECRET_LENGTH:
            yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from secrets_in_extra(item)


MIN_SECRET_LENGTH = 8
"""Shorter values of a query are no secrets; hiding them would make error texts unreadable."""

_PLACEHOLDER = r"\{\{(.*?)\}\}"


def redact_body(body: bytes, secrets: list[Secret]) -> bytes:
    """Return a body without the secrets, in each of the ways that JSON may escape them."""
    shown = body.decode(errors="surrogateescape")
    for secret in secrets:
        spellings = {secret}
        if not secret.isascii():
            spellings |= {Secret(secret.lower()), Secret(secret.upper())}  # they are escaped in another way
        spellings |= {
            Secret(json.dumps(one, ensure_ascii=ascii_only)[1:-1]) for one in spellings for ascii_only in (True, False)
        }
        spellings |= {Secret(spelling.replace("/", "\\/")) for spelling in spellings}
        for spelling in sorted(spellings, key=len, reverse=True):
            # Bytes that are not UTF-8, here or there, come out as they went in.
            shown = _mask_ignoring_case(shown, spelling.encode(errors="surrogatepass").decode(errors="surrogateescape"))
    return shown.encode(errors="surrogateescape")


def redact_text(text: str | None, secrets: list[Secret]) -> str:
    """Return a text without the secrets."""
    shown = text or ""
    for secret in secrets:
        shown = _mask_ignoring_case(shown, secret)
    return shown


def _mask_ignoring_case(text: str, secret: str) -> str:
    # Servers may change the case of an e-mail address. The cheap check first: nearly always there is nothing to mask.
    return re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE) if secret.casefold() in text.casefold() else text
