"""Secrets: the `Secret` text, masks for reprs, and the removal of secrets from texts."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import attrs


class Secret(str):
    """Text with a masked `repr` that cannot be pickled.

    A `repr`, a traceback with locals or the log of a container does not show it. `str()` and formatting do, so that it can
    be sent as a header.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> Any:
        raise TypeError("a secret cannot be pickled. Read it from its source again in the other process")

    # Without these two, copying would call __reduce__ and fail.
    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: Any) -> "Secret":
        return self


def mask_url(url: object) -> str:
    """Return the repr of a URL with user info, query and fragment masked: they may contain secrets."""
    if not isinstance(url, str):
        return repr(url) if url is None else f"<{type(url).__name__}>"
    if url and "://" not in url:  # not a URL; it may be a token in the wrong field
        return f"<{describe_shape(url)}>"
    return repr(masked_url(url))


def masked_url(url: str) -> str:
    """Return a URL with user info, query and fragment masked."""
    shown, mark, _ = url.partition("?")
    shown, hash_mark, _ = shown.partition("#")
    scheme, slashes, rest = shown.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = "***@" + authority.rpartition("@")[2]
    shown = scheme + slashes + authority + slash + path
    return shown + ("?***" if mark else "") + ("#***" if hash_mark else "")


def mask(value: object) -> str:
    """Return a repr that shows only whether there is a value."""
    return "None" if value is None else "'***'"


def mask_extra_fields(extra: object) -> str:
    """Return a repr of extra fields with their names only: the values may be secrets."""
    return "{" + ", ".join(f"{key!r}: ..." for key in extra) + "}" if isinstance(extra, dict) else describe_shape(extra)


def mask_model(value: object) -> str:
    """Return the repr of a part of a request: a model masks itself, anything else shows only its shape."""
    if isinstance(value, tuple):
        return "(" + "".join(f"{mask_model(item)}, " for item in value).rstrip() + ")"
    return repr(value) if value is None or attrs.has(type(value)) else f"<{describe_shape(value)}>"


def describe_shape(value: object) -> str:
    """Return the JSON type and size of a value for an error text, never the value itself."""
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
    """Yield the parts of a URL that an error must not show: its query, and the values in it."""
    query = url.partition("?")[2]
    if query:
        # A few characters alone occur in ordinary words.
        yield query if len(query) >= MIN_SECRET_LENGTH else f"?{query}"
    for pair in query.partition("#")[0].split("&"):
        value = pair.partition("=")[2]
        if len(value) >= MIN_SECRET_LENGTH and not re.fullmatch(_PLACEHOLDER, value):
            yield value


def secrets_in_api_url(url: str) -> Iterator[str]:
    """Yield the secrets in a URL of the API: as above, and user info and fragment, which it should not have."""
    rest, _, fragment = url.partition("#")
    for secret in secrets_in_url(rest):
        yield secret
        if (plain := unquote(secret)) != secret:
            yield plain
    user = re.split("[/?]", rest.partition("://")[2], maxsplit=1)[0].rpartition("@")[0]
    yield from (part for part in (user, user.partition(":")[2], fragment) if len(part) >= MIN_SECRET_LENGTH)


def secrets_in_extra(value: object) -> Iterator[str]:
    """Yield the texts in an extra field: this release does not know what they mean."""
    if isinstance(value, str):
        yield from secrets_in_url(value)
        if len(value) >= MIN_SECRET_LENGTH:
            yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from secrets_in_extra(item)


MIN_SECRET_LENGTH = 8
"""Shorter values in a query are not secrets. Masking them would make error texts unreadable."""

_PLACEHOLDER = r"\{\{(.*?)\}\}"


def redact_body(body: bytes, secrets: list[Secret]) -> bytes:
    """Return a body without the secrets, however JSON escapes them."""
    shown = body.decode(errors="surrogateescape")
    for secret in secrets:
        spellings = {secret}
        if not secret.isascii():
            spellings |= {Secret(secret.lower()), Secret(secret.upper())}  # other case, other escapes
        spellings |= {
            Secret(json.dumps(one, ensure_ascii=ascii_only)[1:-1]) for one in spellings for ascii_only in (True, False)
        }
        spellings |= {Secret(spelling.replace("/", "\\/")) for spelling in spellings}
        for spelling in sorted(spellings, key=len, reverse=True):
            # Bytes that are not UTF-8 stay unchanged.
            shown = _mask_ignoring_case(shown, spelling.encode(errors="surrogatepass").decode(errors="surrogateescape"))
    return shown.encode(errors="surrogateescape")


def redact_text(text: str | None, secrets: list[Secret]) -> str:
    """Return a text without the secrets."""
    shown = text or ""
    for secret in secrets:
        shown = _mask_ignoring_case(shown, secret)
    return shown


def _mask_ignoring_case(text: str, secret: str) -> str:
    # Servers may change the case of an e-mail address. The cheap check comes first: there is rarely anything to mask.
    return re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE) if secret.casefold() in text.casefold() else text
