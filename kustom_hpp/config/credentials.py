"""Credentials: the Authorization header, and the environment of a key."""

import base64
import re

from kustom_hpp._redaction import Secret
from kustom_hpp.config.options import Environment
from kustom_hpp.errors import ConfigError

_KEY_PREFIX = r"(?:kco|klarna)_(live|test)_"
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"


def environment_of_key(key: str | None) -> Environment | None:
    """Return the environment of a key, by its prefix.

    Source: docs.kustom.co, authentication (kco_<live|test>_<api>_<random>).
    """
    if key is None or (match := re.match(_KEY_PREFIX, key.strip())) is None:
        return None
    return Environment.LIVE if match[1] == "live" else Environment.PLAYGROUND


def authorization(api_key: str | None, username: str | None, password: str | None) -> tuple[Secret, tuple[Secret, ...]]:
    """Return the Authorization header, and every secret text in it.

    Source: docs.kustom.co, authentication: the raw key after "Basic ", or base64 of username and key.
    """
    if api_key is not None and password is not None:
        raise ConfigError("api_key and password are two names for one secret: give only one of them")
    if password is not None and username is None:
        raise ConfigError("password needs its username; pass a key alone as api_key")
    name, secret = ("api_key", api_key) if password is None else ("password", password)
    if secret is None:
        raise ConfigError(
            "no credentials: pass api_key= (or set KUSTOM_HPP_API_KEY), or username= and password="
            if username is None
            else "username needs its api_key or password"
        )
    secret = Secret(_credential(name, secret))
    if username is None:
        if not secret.isascii() or " " in secret:
            raise ConfigError(
                "api_key must be printable ASCII without blanks inside: copy it again from the merchant portal"
            )
        return Secret(f"Basic {secret}"), (secret,)
    user = _credential("username", username)
    if ":" in user:
        raise ConfigError("username must not contain a colon: the header separates username and key by it")
    encoded = Secret(base64.b64encode(f"{user}:{secret}".encode()).decode())
    return Secret(f"Basic {encoded}"), (secret, encoded)


def _credential(name: str, value: object) -> str:
    """Return a credential without the blanks around it that copying adds."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, got a {type(value).__name__}")
    value = Secret(value.strip())
    if not value:
        raise ConfigError(f"{name} is empty")
    if environment_of_key(value[1:]) is not None and not value[0].isalnum():
        raise ConfigError(f"{name} starts with a quote or another mark before the key's prefix: remove it")
    if re.search(_CONTROL, value) or any("\ud800" <= char <= "\udfff" for char in value):
        raise ConfigError(
            f"{name} contains a control character or half a character: copy it again from the merchant portal"
        )
    return value
