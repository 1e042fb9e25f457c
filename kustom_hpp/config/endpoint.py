"""Where to call: the base URL, the environment, the proxy."""

import ipaddress
import re

from yarl import URL

from kustom_hpp._redaction import Secret
from kustom_hpp.config.options import Environment
from kustom_hpp.errors import ConfigError

# Judged as text, before any URL library has had a chance to repair it: yarl drops tabs, folds full-width letters to
# ASCII and keeps blanks and "%2e" inside the host.
_BASE_URL = (
    r"(?a)(?P<scheme>https?)://(?P<host>\[::1\]|(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)*)/?"
)


_ENVIRONMENTS: dict[str, Environment] = {str(environment): environment for environment in Environment}


def place(
    environment: Environment | str | None, base_url: str | None, key_environment: Environment | None
) -> tuple[Environment | None, URL]:
    """Where to call. Without a hint it is the playground: never LIVE by default."""
    chosen = None
    if environment is not None:
        chosen = _ENVIRONMENTS.get(environment.lower()) if isinstance(environment, str) else None
        if chosen is None:
            # Not shown: a key that went into the wrong variable must not end up in a log.
            msg = "environment must be 'live' or 'playground'"
            raise ConfigError(msg)
    if base_url is not None:
        url = _base_url(base_url)
        if chosen is not None and str(url) != chosen.base_url:
            msg = f"environment ({chosen}) and base_url contradict each other: give only one of them"
            raise ConfigError(msg)
        return None, url
    if chosen and key_environment and chosen is not key_environment:
        msg = f"the key is a {key_environment} key, but environment is {chosen}: use the key of that environment"
        raise ConfigError(msg)
    where = chosen or key_environment or Environment.PLAYGROUND
    return where, URL(where.base_url)


def _base_url(text: str) -> URL:
    if not isinstance(text, str):
        msg = f"base_url must be text, got a {type(text).__name__}"
        raise ConfigError(msg)
    stripped = Secret(text.strip(" "))
    scheme, slashes, rest = stripped.partition("://")
    authority, slash, path = rest.partition("/")
    # Only scheme and host are case-insensitive.
    match = re.fullmatch(_BASE_URL, Secret(scheme.lower() + slashes + authority.lower() + slash + path))
    del rest, authority, path, scheme  # a mistyped base_url may hold a password: out of the traceback's locals
    # ASCII before lower(): that makes a "k" of the Kelvin sign.
    if match is None or not text.isascii() or not 0 < int(match["port"] or 443) <= 65535:  # noqa: PLR2004 - TCP's last port
        msg = (
            "base_url must look like https://api.kustom.co: http(s), a host of ASCII letters, digits, '-' and '.', "
            "perhaps a port and a path; no user, query or fragment"
        )
        raise ConfigError(msg)
    port = f":{match['port']}" if match["port"] else ""
    return URL(f"{match['scheme']}://{match['host']}{port}{match['path']}", encoded=True)


def is_loopback(host: str | None) -> bool:
    """True for localhost, 127.0.0.0/8 in four parts, and ::1."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def check_plain_http(url: URL, *, insecure_http: bool, live_key: bool) -> None:
    """Refuse to send a key in the clear to anything but this machine, unless told so, and a live key always."""
    if url.scheme == "https" or is_loopback(url.host):
        return
    if not insecure_http:
        msg = f"base_url is http at {url.host}, which would send the key in the clear: use https, or insecure_http=True"
        raise ConfigError(msg)
    if live_key:
        msg = f"base_url is http at {url.host} and the key is a live key, which never goes out in the clear: use https"
        raise ConfigError(msg)


def find_proxy(proxy: str | None, url: URL, *, trust_env: bool) -> Secret | None:
    """The proxy, found once: aiohttp's own trust_env looks into the environment and .netrc at each request."""
    if proxy is not None and trust_env:
        msg = "proxy and trust_env contradict each other: give only one of them"
        raise ConfigError(msg)
    if proxy is None and trust_env:
        proxy = _proxy_from_environment(url)
    if proxy is None:
        return None
    parsed = Secret(proxy.strip()) if isinstance(proxy, str) else Secret()
    try:
        good = URL(parsed).scheme in ("http", "https") and bool(URL(parsed).host)
    except ValueError:
        good = False
    if not good:
        msg = "proxy must be the URL of an HTTP proxy, like http://proxy.example:3128 or http://user:password@..."
        raise ConfigError(msg)
    return parsed


def _proxy_from_environment(url: URL) -> Secret | None:
    # Imported here: urllib.request is heavy, and only needed by who asks for it.
    from urllib.request import getproxies, proxy_bypass

    if url.host is None or proxy_bypass(url.host):
        return None
    found = getproxies().get(url.scheme)
    return Secret(found) if found else None


def proxy_secrets(proxy: Secret | None) -> tuple[Secret, ...]:
    """The proxy password, as it is written in the URL and as it is meant."""
    if proxy is None:
        return ()
    return tuple(Secret(part) for part in (URL(proxy).raw_password, URL(proxy).password) if part)
