"""The User-Agent, and the caller's own headers."""

import re
from collections.abc import Mapping

from kustom_hpp._redaction import Secret
from kustom_hpp._version import __version__
from kustom_hpp.errors import ConfigError

_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}"
_PRINTABLE = r"[\x20-\x7e]*"
_RESERVED_HEADERS = frozenset(
    "host authorization user-agent accept accept-encoding content-type content-length content-encoding transfer-encoding "
    "connection cookie expect te trailer upgrade proxy-authorization keep-alive".split()
)
_MAX_APP_INFO = 256
_MAX_HEADER = 6 * 1024  # docs.klarna.com, request limits: one header at most 6 KB


def user_agent(http_library: str, app_info: str | None) -> str:
    """Return the User-Agent in the structured form of Klarna's SDKs, with the caller's part at its end.

    Raises:
        ConfigError: app_info is not 1 to 256 printable ASCII characters without blanks around them.

    """
    import platform  # takes long, and is needed once

    python, system = platform.python_version(), f"{platform.system()}_{platform.release()}"
    system = re.sub(r"[^A-Za-z0-9._+~-]", "-", system)
    agent = f"Library/kustom_hpp_{__version__} ({http_library}) Language/Python_{python} OS/{system}"
    if app_info is None:
        return agent
    if (
        not isinstance(app_info, str)
        or not 0 < len(app_info) <= _MAX_APP_INFO
        or app_info != app_info.strip()
        or not re.fullmatch(_PRINTABLE, app_info)
    ):
        raise ConfigError(
            f"app_info must be 1 to {_MAX_APP_INFO} printable ASCII characters without blanks around them, "
            "like 'MyShop/1.2'"
        )
    return f"{agent} {app_info}"


def merge_headers(earlier: tuple[tuple[str, str], ...], headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return headers with others in their place, by name without regard to case.

    Raises:
        ConfigError: a header is invalid.

    """
    later = check_headers(headers)
    replaced = {name.lower() for name, _ in later}
    return tuple((name, value) for name, value in earlier if name.lower() not in replaced) + later


def check_headers(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Return extra headers for every request; the client's own headers cannot be replaced."""
    if headers is not None and not isinstance(headers, Mapping):
        raise ConfigError(f"headers must be a mapping of names to values, got a {type(headers).__name__}")
    seen: set[str] = set()
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):
            msg = "headers has a name that HTTP does not allow: use ASCII letters, digits and dashes"
        elif name.lower() in seen:
            msg = f"headers has {name} twice: case does not count in a name"
        elif name.lower() in _RESERVED_HEADERS:
            msg = f"headers must not contain {name}: the client sets it"
        elif not isinstance(value, str) or not re.fullmatch(_PRINTABLE, value) or value != value.strip():
            msg = f"headers[{name!r}] must be printable ASCII text without blanks around it"
        elif len(value) > _MAX_HEADER:
            msg = f"headers[{name!r}] is longer than {_MAX_HEADER} characters, which the API refuses"
        else:
            seen.add(name.lower())
            continue
        raise ConfigError(msg)
    return tuple((name, Secret(value)) for name, value in (headers or {}).items())
