"""Settings: what a client is told, checked once, frozen. One builder for each field; the only reader of the environment.

Every mistake is a ConfigError that names the setting and the way out, and never shows a secret: what may hold one is
wrapped in `Secret` before anything can go wrong.
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
from kustom_hpp.config.endpoint import check_plain_http, find_proxy, is_loopback, place, proxy_secrets
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

__all__ = [
    "ENV_VARS",
    "Environment",
    "OnUnknown",
    "Pool",
    "RetrySettings",
    "Settings",
    "Timeouts",
    "build",
    "check_deadline",
    "check_options",
    "from_environment",
    "is_loopback",
    "merge_headers",
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
    }
)
"""The environment variable for each setting that `from_env` reads."""


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


def build(
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
    """Settings from a client's arguments. What may hold a secret comes as `Secret`, so that no frame here shows it.

    Raises:
        ConfigError: a setting cannot work, or two contradict each other.

    """
    for name, value, kind in (("timeouts", timeouts, Timeouts), ("retry", retry, RetrySettings), ("pool", pool, Pool)):
        if not isinstance(value, kind):
            msg = f"{name} must be a {kind.__name__}, got a {type(value).__name__}"
            raise ConfigError(msg)
    header, secrets = authorization(api_key, username, password)
    key_environment = environment_of_key(api_key or password)
    where, url = place(environment, base_url, key_environment)
    check_plain_http(url, insecure_http=insecure_http, live_key=key_environment is Environment.LIVE)
    if ssl is not None and not isinstance(ssl, _ssl.SSLContext):
        msg = f"ssl must be an ssl.SSLContext or None, got a {type(ssl).__name__}: verification cannot be turned off"
        raise ConfigError(msg)
    proxy_url = find_proxy(proxy, url, trust_env=trust_env)
    return Settings(
        environment=where,
        base_url=url,
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


def from_environment() -> dict[str, Any]:
    """The client's arguments that the environment gives; a variable that is empty counts as not set.

    Raises:
        ConfigError: KUSTOM_HPP_INSECURE_HTTP is no truth value.

    """
    found: dict[str, Any] = {}
    for name, variable in ENV_VARS.items():
        if os.environ.get(variable):
            found[name] = Secret(os.environ[variable])
    for name in ("username", "environment", "app_info"):
        if name in found:
            found[name] = Secret(found[name].strip())
    if (truth := found.pop("insecure_http", None)) is not None:
        if truth.strip().lower() not in _TRUE | _FALSE:
            msg = f"{ENV_VARS['insecure_http']} must be 1 or 0"
            raise ConfigError(msg)
        found["insecure_http"] = truth.strip().lower() in _TRUE
    return found
