"""Where to call: the base URL, the environment, the proxy."""

import ipaddress
import os
import re
from urllib.parse import unquote

from yarl import URL

from kustom_hpp._redaction import Secret
from kustom_hpp.config.options import Environment
from kustom_hpp.errors import ConfigError
from kustom_hpp.models.urls import is_loopback

_API_PATH = r"(?i:/hpp/v1(?:/sessions)?)/?"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
# Source: RFC 3986, sections 3.2.2 (of a host, what names and addresses have) and 3.3 (a path segment).
_HOST_CHARACTERS = r"[A-Za-z0-9._-]"
_PROXY_HOST = r"[A-Za-z0-9._:%-]+"
_PATH_CHARACTERS = r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]"
_DOT_SEGMENT = r"(?:^|/)\.{1,2}(?:;[^/]*)?(?:/|$)"
_MAX_PORT = 65535

_ENVIRONMENTS: dict[str, Environment] = {str(environment): environment for environment in Environment}


def resolve_endpoint(
    environment: Environment | str | None, base_url: str | None, key_environment: Environment | None
) -> tuple[Environment | None, URL]:
    """Return the environment and the base URL. Without any hint that is the playground: LIVE is never the default."""
    chosen = None
    if environment is not None:
        chosen = _ENVIRONMENTS.get(environment.lower()) if isinstance(environment, str) else None
        if chosen is None:
            # Not shown: a key in the wrong variable must not end up in a log.
            raise ConfigError("environment must be 'live' or 'playground'")
    if base_url is not None:
        url = _parse_base_url(base_url)
        if chosen is not None and str(url) != chosen.base_url:
            raise ConfigError(f"environment ({chosen}) and base_url contradict each other: give only one of them")
        return None, url
    if chosen and key_environment and chosen is not key_environment:
        raise ConfigError(
            f"the key is a {key_environment} key, but environment is {chosen}: use the key of that environment"
        )
    resolved = chosen or key_environment or Environment.PLAYGROUND
    return resolved, URL(resolved.base_url)


def _parse_base_url(text: str) -> URL:
    if not isinstance(text, str):
        raise ConfigError(f"base_url must be text, got a {type(text).__name__}")
    if (reason := _why_invalid(text.strip(" "))) is not None:
        raise ConfigError(f"base_url is invalid: {reason}")
    scheme, _, rest = text.strip(" ").partition("://")
    authority, slash, path = rest.partition("/")
    # Only scheme and host are case-insensitive.
    return URL(f"{scheme.lower()}://{authority.lower()}{slash}{path}".removesuffix("/"), encoded=True)


def _why_invalid(text: str) -> str | None:
    """Return why a text is not a base URL; None if it is one. The reason shows no more of it than one character.

    The text is checked before a URL library sees it: yarl drops tabs, folds full-width letters to ASCII and keeps blanks and
    "%2e" in the host.
    """
    example = "Use a URL such as https://api.kustom.co."
    scheme, _, rest = text.partition("://")
    authority, _, path = rest.partition("/")
    if not scheme.isascii() or scheme.lower() not in ("http", "https"):
        return f"it must start with https:// or http://. {example}"
    for mark, part in (("?", "query"), ("#", "fragment")):
        if mark in rest:
            return f"a {part} is not allowed. {example}"
    if "@" in authority:
        return f"a user is not allowed. Pass the credentials as api_key, or as username and password. {example}"
    if reason := _why_invalid_authority(authority) or _why_invalid_path(f"/{path}".removesuffix("/")):
        return f"{reason}. {example}"
    if match := re.search(f"{_API_PATH}$", f"/{path}"):
        corrected = text[: len(text) - len(match[0])]
        return f"it contains the API's own path, which the client adds. Use {corrected}."
    return None


def _why_invalid_authority(authority: str) -> str | None:
    if authority.startswith("["):
        address, bracket, port = authority[1:].partition("]")
        colon, port = port[:1], port[1:]
        if not bracket or colon not in ("", ":") or not _is_ipv6(address):
            return "the host is not a valid IPv6 address in brackets"
    else:
        host, colon, port = authority.partition(":")
        if not host:
            return "the host is missing"
        if (character := _first_other(host, _HOST_CHARACTERS)) is not None:
            return f"{character} is not allowed in a host"
        if not all(re.fullmatch(_LABEL, label) for label in host.removesuffix(".").split(".")):
            return "a part of the host is empty, or starts or ends with '-'"
    if colon and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= _MAX_PORT):
        return f"the port must be a number from 1 to {_MAX_PORT}"
    return None


def _why_invalid_path(path: str) -> str | None:
    if (character := _first_other(path, _PATH_CHARACTERS)) is not None:
        return f"{character} is not allowed in a path"
    if re.search("%(?![0-9A-Fa-f]{2})", path):
        return "'%' is not followed by two hexadecimal digits in the path"
    if "//" in path or path == "/":
        return "the path has an empty segment"
    if has_dot_segment(path):
        return "the path has a dot segment"
    return None


def _first_other(text: str, allowed: str) -> str | None:
    """Return the first character that is not of the allowed ones, as it is written in ASCII."""
    return next((ascii(character) for character in text if not re.match(allowed, character)), None)


def _is_ipv6(address: str) -> bool:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return "%" not in address


def has_dot_segment(path: str) -> bool:
    """Return True if a path has a dot segment: another reader of the URL resolves it, and the request goes elsewhere.

    Servers may read `%2e%2e`, `..%2f` and `..;x` as dot segments too.
    """
    return re.search(_DOT_SEGMENT, unquote(path)) is not None


def check_plain_http(url: URL, *, insecure_http: bool, live_key: bool) -> None:
    """Refuse to send a key unencrypted to another machine; a test key may go with `insecure_http`, a live key never."""
    if url.scheme == "https" or is_loopback(url.host):
        return
    if not insecure_http:
        raise ConfigError(
            f"base_url is http at {url.host}, which would send the key unencrypted: use https, or insecure_http=True"
        )
    if live_key:
        raise ConfigError(
            f"base_url is http at {url.host} and the key is a live key, which is never sent unencrypted: use https"
        )


def resolve_proxy(proxy: str | None, url: URL, *, trust_env: bool) -> Secret | None:
    """Return the proxy, resolved once: aiohttp's own trust_env reads the environment and .netrc at each request."""
    if proxy is not None and trust_env:
        raise ConfigError("proxy and trust_env contradict each other: give only one of them")
    if proxy is not None:
        return parse_proxy(proxy, "proxy")
    return _proxy_from_environment(url) if trust_env else None


def parse_proxy(text: str, name: str) -> Secret:
    """Return a proxy's URL; without a scheme it is http.

    Args:
        text: the URL, or host and port.
        name: where the text comes from, for the error: it may hold a password and is not shown.

    Raises:
        ConfigError: the text is not the URL of an HTTP proxy.

    """
    proxy = Secret(text.strip()) if isinstance(text, str) else Secret()
    if proxy and "://" not in proxy:
        proxy = Secret(f"http://{proxy}")
    if not _is_proxy_url(proxy):
        raise ConfigError(
            f"{name} must be the URL of an HTTP proxy, like http://proxy.example:3128; user:password@ goes before the host"
        )
    return proxy


def _is_proxy_url(text: Secret) -> bool:
    """Return True for an absolute http(s) URL; a function, so that no URL stays in a traceback's locals."""
    try:
        host = URL(text).raw_host or ""
        return URL(text).scheme in ("http", "https") and bool(re.fullmatch(_PROXY_HOST, host)) and bool(URL(text).port)
    except ValueError:
        return False


def proxy_variable(scheme: str) -> str:
    """Return the name of the variable that sets the proxy for a scheme: the lower-case one wins."""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    return next((name for name in names if os.environ.get(name)), "the proxy of this system")


def _proxy_from_environment(url: URL) -> Secret | None:
    # Imported here: urllib.request takes long, and only trust_env needs it.
    from urllib.request import getproxies, proxy_bypass

    # NO_PROXY names a host, or a host with its port.
    if url.host is None or proxy_bypass(url.host) or proxy_bypass(url.host_port_subcomponent or ""):
        return None
    found = getproxies().get(url.scheme)
    return parse_proxy(found, proxy_variable(url.scheme)) if found else None


def proxy_secrets(proxy: Secret | None) -> tuple[Secret, ...]:
    """Return the proxy's password, as it is in the URL and decoded."""
    if proxy is None:
        return ()
    return tuple(Secret(part) for part in (URL(proxy).raw_password, URL(proxy).password) if part)
