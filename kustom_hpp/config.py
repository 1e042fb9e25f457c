"""Settings: what a client is told, checked once, frozen. One builder for each field; the only reader of the environment.

Every mistake is a ConfigError that names the setting and the way out, and never shows a secret: what may hold one is
wrapped in `Secret` before anything can go wrong.
"""

import base64
import ipaddress
import math
import os
import platform
import re
import ssl as _ssl
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, get_args

from attrs import evolve, field, frozen

from yarl import URL

from kustom_hpp._version import __version__
from kustom_hpp.errors import ConfigError
from kustom_hpp.wire import Secret

OnUnknown = Literal["raise", "resend"]
"""What a call does when an attempt may have been processed: tell the caller, or send it again at the risk of a second session."""

VARIABLES = MappingProxyType(
    {
        "api_key": "KUSTOM_HPP_API_KEY",
        "username": "KUSTOM_HPP_USERNAME",
        "password": "KUSTOM_HPP_PASSWORD",
        "environment": "KUSTOM_HPP_ENVIRONMENT",
        "base_url": "KUSTOM_HPP_BASE_URL",
        "insecure_http": "KUSTOM_HPP_INSECURE_HTTP",
        "app_info": "KUSTOM_HPP_APP_INFO",
    }
)
"""The environment variable for each setting that `from_env` reads."""


class Environment(StrEnum):
    """Which of Kustom's two worlds. Source: Kustom's endpoint switch guide (api.kustom.co, ".co, not .com")."""

    LIVE = "live"
    PLAYGROUND = "playground"

    @property
    def base_url(self) -> str:
        """The API's base URL in this environment, without a slash at its end."""
        return "https://api.kustom.co" if self is Environment.LIVE else "https://api.playground.kustom.co"


def _positive(name: str, value: object, *, zero: bool = False) -> None:
    """Seconds and the like: a finite number above zero."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or (value == 0 and not zero):  # type: ignore[operator]
        msg = f"{name} must be a finite number {'from' if zero else 'above'} 0, got {value!r}"
        raise ConfigError(msg)


def _whole(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        msg = f"{name} must be a whole number from 1, got {value!r}"
        raise ConfigError(msg)


@frozen(kw_only=True, slots=True)
class Timeouts:
    """How long one attempt may take, in seconds. The wait for a free connection counts into neither.

    Raises:
        ConfigError: a value is not a finite number above 0.

    """

    connect: float = 5.0
    """DNS, TCP, TLS and a proxy's CONNECT together. When it ends, nothing was sent."""
    read: float = 35.0
    """From the last byte sent to the last byte received. The API answers 504 after 30 seconds, so less than that turns
    its answers into unknown outcomes. Source: docs.kustom.co, errors in checkout."""

    def __attrs_post_init__(self) -> None:
        _positive("Timeouts.connect", self.connect)
        _positive("Timeouts.read", self.read)


@frozen(kw_only=True, slots=True)
class Pool:
    """The connections that a client keeps.

    Raises:
        ConfigError: a value is out of its range.

    """

    connections: int = 100
    """At most so many at once; further calls wait for their turn, outside of every timeout but the deadline."""
    keepalive: float = 4.0
    """Seconds that an idle connection is kept. Below the usual 5 seconds of servers: a request that meets the server's
    closing of the connection is lost, and nobody can say whether it was processed."""

    def __attrs_post_init__(self) -> None:
        _whole("Pool.connections", self.connections)
        _positive("Pool.keepalive", self.keepalive)


@frozen(kw_only=True, slots=True)
class RetrySettings:
    """When a call is tried again: only after "nothing was sent" and after 429, unless `on_unknown` says otherwise.

    Raises:
        ConfigError: a value is out of its range.

    """

    max_attempts: int = 4
    """The first one included; 1 means never again."""
    budget: float = 30.0
    """Seconds from the first attempt's turn in which further attempts may begin; cuts none that has begun."""
    initial: float = 0.5
    """Upper end of the first random wait, in seconds; doubles with each attempt (full jitter)."""
    maximum: float = 8.0
    """Upper end of every random wait, in seconds."""
    retry_after_cap: float = 30.0
    """The longest wait, in seconds, that an answer may ask for; a longer one ends the call with its error."""
    on_unknown: OnUnknown = "raise"
    """"resend" sends again what may have been processed: for callers who prefer two sessions to none."""

    def __attrs_post_init__(self) -> None:
        _whole("RetrySettings.max_attempts", self.max_attempts)
        _positive("RetrySettings.budget", self.budget, zero=True)
        _positive("RetrySettings.initial", self.initial, zero=True)
        _positive("RetrySettings.maximum", self.maximum, zero=True)
        _positive("RetrySettings.retry_after_cap", self.retry_after_cap, zero=True)
        check_on_unknown(self.on_unknown)


def check_on_unknown(value: object) -> None:
    """Refuse anything but "raise" and "resend" with a ConfigError."""
    if value not in get_args(OnUnknown):
        msg = f"on_unknown must be 'raise' or 'resend', got {value!r}"
        raise ConfigError(msg)


def check_deadline(seconds: object) -> float:
    """A caller's deadline in seconds from now. What has run out already is no mistake: the call says so itself.

    Raises:
        ConfigError: it is no finite number.

    """
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds):
        return seconds
    msg = f"deadline must be a finite number of seconds from now, or None, got {seconds!r}"
    raise ConfigError(msg)


def check_options(
    *, retry: RetrySettings, timeouts: Timeouts | None = None, on_unknown: OnUnknown | None = None
) -> dict[str, Any]:
    """Changes to Settings from the options of one call or view.

    Raises:
        ConfigError: an option cannot work.

    """
    changes: dict[str, Any] = {}
    for name, value, kind in (("timeouts", timeouts, Timeouts), ("retry", retry, RetrySettings)):
        if value is not None:
            if not isinstance(value, kind):
                msg = f"{name} must be a {kind.__name__}, got a {type(value).__name__}"
                raise ConfigError(msg)
            changes[name] = value
    if on_unknown is not None:
        changes["retry"] = evolve(retry, on_unknown=on_unknown)
    return changes


@frozen(kw_only=True, slots=True)
class Settings:
    """All that a client was told, checked. Its `repr` masks credentials and the proxy."""

    environment: Environment | None
    """None with an explicit base_url: then neither the key nor the payment session's URL is judged."""
    base_url: URL
    authorization: Secret
    """The value of the Authorization header."""
    user_agent: str
    headers: tuple[tuple[str, str], ...] = field(repr=lambda headers: repr([name for name, _ in headers]))
    timeouts: Timeouts
    retry: RetrySettings
    pool: Pool
    ssl: _ssl.SSLContext | None
    proxy: Secret | None
    secrets: tuple[Secret, ...]
    """Every text that must not show up in an error."""


def build(  # noqa: PLR0913 - the one place where all settings meet
    *,
    api_key: Secret | None,
    username: str | None,
    password: Secret | None,
    environment: Environment | str | None,
    base_url: Secret | None,
    insecure_http: bool,
    timeouts: Timeouts,
    retry: RetrySettings,
    pool: Pool,
    app_info: str | None,
    headers: Mapping[str, str] | None,
    ssl: _ssl.SSLContext | None,
    proxy: Secret | None,
    trust_env: bool,
    http_library: str,
) -> Settings:
    """Settings from a client's arguments.

    Raises:
        ConfigError: a setting cannot work, or two contradict each other.

    """
    for name, value, kind in (("timeouts", timeouts, Timeouts), ("retry", retry, RetrySettings), ("pool", pool, Pool)):
        if not isinstance(value, kind):
            msg = f"{name} must be a {kind.__name__}, got a {type(value).__name__}"
            raise ConfigError(msg)
    authorization, secrets = _authorization(api_key, username, password)
    key_environment = _environment_of_key(api_key or password)
    where, url = _place(environment, base_url, key_environment)
    _check_plain_http(url, insecure_http=insecure_http, live_key=key_environment is Environment.LIVE)
    if ssl is not None and not isinstance(ssl, _ssl.SSLContext):
        msg = f"ssl must be an ssl.SSLContext or None, got a {type(ssl).__name__}: verification cannot be turned off"
        raise ConfigError(msg)
    proxy_url = _proxy(proxy, url, trust_env=trust_env)
    return Settings(
        environment=where,
        base_url=url,
        authorization=authorization,
        user_agent=user_agent(http_library, app_info),
        headers=_headers(headers),
        timeouts=timeouts,
        retry=retry,
        pool=pool,
        ssl=ssl,
        proxy=proxy_url,
        secrets=secrets + _proxy_secrets(proxy_url),
    )


# ------------------------------------------------------------------------------------------------------ credentials

_KEY_PREFIX = re.compile(r"(?:kco|klarna)_(live|test)_")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _environment_of_key(key: Secret | None) -> Environment | None:
    """Where a key belongs, by its prefix. Source: docs.kustom.co, authentication (kco_<live|test>_<api>_<random>)."""
    if key is None or (match := _KEY_PREFIX.match(key.strip())) is None:
        return None
    return Environment.LIVE if match[1] == "live" else Environment.PLAYGROUND


def _authorization(
    api_key: Secret | None, username: str | None, password: Secret | None
) -> tuple[Secret, tuple[Secret, ...]]:
    """The Authorization header, and every text in it that is secret.

    Source: docs.kustom.co, authentication: the raw key after "Basic ", or base64 of username and key.
    """
    if api_key is not None and password is not None:
        msg = "api_key and password are two names for one secret: give only one of them"
        raise ConfigError(msg)
    if password is not None and username is None:
        msg = "password needs its username; a key alone is given as api_key"
        raise ConfigError(msg)
    name, secret = ("api_key", api_key) if password is None else ("password", password)
    if secret is None:
        msg = (
            f"no credentials: give api_key= (or set {VARIABLES['api_key']}), or username= and password="
            if username is None
            else "username needs its api_key or password"
        )
        raise ConfigError(msg)
    secret = Secret(_credential(name, secret))
    if username is None:
        if not secret.isascii() or " " in secret:
            msg = "api_key must be printable ASCII without blanks inside: copy it again from the merchant portal"
            raise ConfigError(msg)
        return Secret(f"Basic {secret}"), (secret,)
    user = _credential("username", username)
    if ":" in user:
        msg = "username must not hold a colon: the header separates username and key by it"
        raise ConfigError(msg)
    encoded = Secret(base64.b64encode(f"{user}:{secret}".encode()).decode())
    return Secret(f"Basic {encoded}"), (secret, encoded)


def _credential(name: str, value: object) -> str:
    """A credential without the blanks around it that copying adds."""
    if not isinstance(value, str):
        msg = f"{name} must be text, got a {type(value).__name__}"
        raise ConfigError(msg)
    value = Secret(value.strip())
    if not value:
        msg = f"{name} is empty"
        raise ConfigError(msg)
    if _CONTROL.search(value) or any("\ud800" <= char <= "\udfff" for char in value):
        msg = f"{name} holds a control character or half a character: copy it again from the merchant portal"
        raise ConfigError(msg)
    return value


# ------------------------------------------------------------------------------------------------------------ place

# Judged as text, before any URL library has had a chance to repair it: yarl drops tabs, folds full-width letters to
# ASCII and keeps blanks and "%2e" inside the host.
_BASE_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[::1\]|(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?",
    re.ASCII,
)


def _place(
    environment: Environment | str | None, base_url: Secret | None, key_environment: Environment | None
) -> tuple[Environment | None, URL]:
    """Where to call. Without a hint it is the playground: never LIVE by default."""
    chosen = None
    if environment is not None:
        try:
            chosen = Environment(environment.lower() if isinstance(environment, str) else environment)
        except ValueError:
            msg = f"environment must be 'live' or 'playground', got {environment!r}"
            raise ConfigError(msg) from None
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


def _base_url(text: Secret) -> URL:
    if not isinstance(text, str):
        msg = f"base_url must be text, got a {type(text).__name__}"
        raise ConfigError(msg)
    stripped = Secret(text.strip(" "))
    scheme, slashes, rest = stripped.partition("://")
    authority, slash, path = rest.partition("/")
    # Only scheme and host are case-insensitive.
    match = _BASE_URL.fullmatch(Secret(scheme.lower() + slashes + authority.lower() + slash + path))
    del rest, authority, path, scheme  # a mistyped base_url may hold a password: out of the traceback's locals
    if match is None or not 0 < int(match["port"] or 443) <= 65535:  # noqa: PLR2004 - TCP's last port
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


def _check_plain_http(url: URL, *, insecure_http: bool, live_key: bool) -> None:
    if url.scheme == "https" or is_loopback(url.host):
        return
    if not insecure_http:
        msg = f"base_url is http at {url.host}, which would send the key in the clear: use https, or insecure_http=True"
        raise ConfigError(msg)
    if live_key:
        msg = f"base_url is http at {url.host} and the key is a live key, which never goes out in the clear: use https"
        raise ConfigError(msg)


def _proxy(proxy: Secret | None, url: URL, *, trust_env: bool) -> Secret | None:
    """The proxy, found once: aiohttp's own trust_env looks into the environment and .netrc at each request."""
    if proxy is not None and trust_env:
        msg = "proxy and trust_env contradict each other: give only one of them"
        raise ConfigError(msg)
    if proxy is None and trust_env:
        proxy = _proxy_from_environment(url)
    if proxy is None:
        return None
    try:
        parsed = Secret(proxy.strip())
        good = URL(parsed).scheme in ("http", "https") and bool(URL(parsed).host)
    except (AttributeError, ValueError):
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


def _proxy_secrets(proxy: Secret | None) -> tuple[Secret, ...]:
    if proxy is None:
        return ()
    return tuple(Secret(part) for part in (URL(proxy).raw_password, URL(proxy).password) if part)


# ---------------------------------------------------------------------------------------------------------- headers

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_OURS = frozenset(
    "host authorization user-agent accept accept-encoding content-type content-length content-encoding transfer-encoding "
    "connection cookie expect te trailer upgrade proxy-authorization keep-alive".split()
)
_LONGEST_APP_INFO = 256
_LONGEST_HEADER = 6 * 1024  # docs.klarna.com, request limits: one header at most 6 KB


def user_agent(http_library: str, app_info: str | None) -> str:
    """The User-Agent in the structured form of Klarna's SDKs, with the caller's part at its end.

    Raises:
        ConfigError: app_info is not 1 to 256 printable ASCII characters without blanks around them.

    """
    python, system = platform.python_version(), f"{platform.system()}_{platform.release()}"
    system = re.sub(r"[^A-Za-z0-9._+~-]", "-", system)
    agent = f"Library/kustom_hpp_{__version__} ({http_library}) Language/Python_{python} OS/{system}"
    if app_info is None:
        return agent
    if (
        not isinstance(app_info, str)
        or not 0 < len(app_info) <= _LONGEST_APP_INFO
        or app_info != app_info.strip()
        or not _PRINTABLE.fullmatch(app_info)
    ):
        msg = (
            f"app_info must be 1 to {_LONGEST_APP_INFO} printable ASCII characters without blanks around them, "
            "like 'MyShop/1.2'"
        )
        raise ConfigError(msg)
    return f"{agent} {app_info}"


def merge_headers(
    earlier: tuple[tuple[str, str], ...], headers: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Headers with others laid over them, by name without regard to case.

    Raises:
        ConfigError: a header cannot be sent.

    """
    later = _headers(headers)
    replaced = {name.lower() for name, _ in later}
    return tuple((name, value) for name, value in earlier if name.lower() not in replaced) + later


def _headers(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Extra headers for every request; the ones that the library sends itself cannot be replaced."""
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            msg = "headers has a name that HTTP does not allow: a name is made of ASCII letters, digits and dashes"
        elif name.lower() in _OURS:
            msg = f"headers must not hold {name}: the library sends it itself"
        elif not isinstance(value, str) or not _PRINTABLE.fullmatch(value) or value != value.strip():
            msg = f"headers[{name!r}] must be printable ASCII text without blanks around it"
        elif len(value) > _LONGEST_HEADER:
            msg = f"headers[{name!r}] is longer than {_LONGEST_HEADER} characters, which the API refuses"
        else:
            continue
        raise ConfigError(msg)
    return tuple((name, Secret(value)) for name, value in (headers or {}).items())


# ------------------------------------------------------------------------------------------------------ environment

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def from_environment() -> dict[str, Any]:
    """The client's arguments that the environment gives; a variable that is empty counts as not set.

    Raises:
        ConfigError: KUSTOM_HPP_INSECURE_HTTP is no truth value.

    """
    found: dict[str, Any] = {}
    for name, variable in VARIABLES.items():
        if os.environ.get(variable):
            found[name] = Secret(os.environ[variable])
    for name in ("username", "environment", "app_info"):
        if name in found:
            found[name] = str(found[name]).strip()
    if (truth := found.pop("insecure_http", None)) is not None:
        if truth.strip().lower() not in _TRUE | _FALSE:
            msg = f"{VARIABLES['insecure_http']} must be 1 or 0"
            raise ConfigError(msg)
        found["insecure_http"] = truth.strip().lower() in _TRUE
    return found


