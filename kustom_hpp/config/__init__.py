"""Settings: a client's arguments, checked once, frozen. The only module that reads the environment.

Every mistake is a ConfigError that names the setting and the remedy, and never shows a secret: a value that may hold one is
wrapped in `Secret` before anything can fail.
"""

import os
import ssl as _ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen
from yarl import URL

from kustom_hpp._redaction import Secret
from kustom_hpp.config.credentials import authorization, environment_of_key
from kustom_hpp.config.endpoint import (
    check_plain_http,
    has_dot_segment,
    parse_proxy,
    proxy_secrets,
    proxy_variable,
    resolve_endpoint,
    resolve_proxy,
)
from kustom_hpp.config.headers import check_headers, merge_headers, user_agent
from kustom_hpp.config.options import (
    Environment,
    OnUnknown,
    Pool,
    RetrySettings,
    Timeouts,
    check_deadline,
    check_options,
)
from kustom_hpp.errors import ConfigError
from kustom_hpp.models.urls import is_loopback

__all__ = [
    "ENV_VARS",
    "Environment",
    "OnUnknown",
    "Pool",
    "RetrySettings",
    "Settings",
    "Timeouts",
    "build_settings",
    "check_deadline",
    "check_options",
    "from_environment",
    "has_dot_segment",
    "is_loopback",
    "merge_headers",
    "proxy_variable",
    "user_agent",
]

ENV_VARS = MappingProxyType(
    {
        "api_key": "KUSTOM_HPP_API_KEY",
        "username": "KUSTOM_HPP_USERNAME",
        "password": "KUSTOM_HPP_PASSWORD",
        "environment": "KUSTOM_HPP_ENVIRONMENT",
        "base_url": "KUSTOM_HPP_BASE_URL",
        "insecure_http": "KUSTOM_HPP_INSECURE_HTTP",
        "app_info": "KUSTOM_HPP_APP_INFO",
        "proxy": "KUSTOM_HPP_PROXY",
    }
)
"""The environment variable for each setting that `from_env` reads."""


@frozen(kw_only=True, slots=True)
class Settings:
    """A client's settings, checked. The `repr` masks credentials and the proxy."""

    environment: Environment | None
    """None with an explicit base_url: neither the key nor the payment session has to match it then."""
    base_url: URL
    insecure_http: bool
    """The client may send a test key, and let the API call private hosts, unencrypted."""
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
    """Every text that an error must not show."""


def build_settings(
    *,
    api_key: str | None,
    username: str | None,
    password: str | None,
    environment: Environment | str | None,
    base_url: str | None,
    insecure_http: bool,
    timeouts: Timeouts,
    retry: RetrySettings,
    pool: Pool,
    app_info: str | None,
    headers: Mapping[str, str] | None,
    ssl: _ssl.SSLContext | None,
    proxy: str | None,
    trust_env: bool,
    http_library: str,
) -> Settings:
    """Return the settings from a client's arguments; those that may hold a secret are `Secret`, so that no frame shows one.

    Raises:
        ConfigError: a setting is invalid, or two contradict each other.

    """
    for name, value, kind in (("timeouts", timeouts, Timeouts), ("retry", retry, RetrySettings), ("pool", pool, Pool)):
        if not isinstance(value, kind):
            raise ConfigError(f"{name} must be a {kind.__name__}, got a {type(value).__name__}")
    header, secrets = authorization(api_key, username, password)
    key_environment = environment_of_key(api_key or password)
    resolved, url = resolve_endpoint(environment, base_url, key_environment)
    check_plain_http(url, insecure_http=insecure_http, live_key=key_environment is Environment.LIVE)
    if ssl is not None and not isinstance(ssl, _ssl.SSLContext):
        raise ConfigError(
            f"ssl must be an ssl.SSLContext or None, got a {type(ssl).__name__}: verification cannot be disabled"
        )
    proxy_url = resolve_proxy(proxy, url, trust_env=trust_env)
    return Settings(
        environment=resolved,
        base_url=url,
        insecure_http=insecure_http,
        authorization=header,
        user_agent=user_agent(http_library, app_info),
        headers=check_headers(headers),
        timeouts=timeouts,
        retry=retry,
        pool=pool,
        ssl=ssl,
        proxy=proxy_url,
        secrets=secrets + proxy_secrets(proxy_url),
    )


_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
_QUOTES = frozenset("\"'`")


def from_environment() -> dict[str, Any]:
    """Return the client's arguments that the environment sets. Blanks around a value do not count, nor does an empty value.

    Raises:
        ConfigError: a value is in quotes, KUSTOM_HPP_INSECURE_HTTP is not a truth value, or KUSTOM_HPP_PROXY not a proxy.

    """
    found: dict[str, Any] = {}
    for name, variable in ENV_VARS.items():
        value = Secret(os.environ.get(variable, "").strip())
        if len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES:
            raise ConfigError(
                f"{variable} is in quotes, which are part of its value here: remove them (`docker --env-file` keeps quotes)"
            )
        if value:
            found[name] = value
    if "proxy" in found:
        found["proxy"] = parse_proxy(found["proxy"], ENV_VARS["proxy"])
    if (truth := found.pop("insecure_http", None)) is not None:
        if truth.lower() not in _TRUE | _FALSE:
            raise ConfigError(f"{ENV_VARS['insecure_http']} must be 1 or 0")
        found["insecure_http"] = truth.lower() in _TRUE
    return found
