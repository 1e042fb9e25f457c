"""URLs of the merchant, built as text: a library for URLs would encode the placeholders away."""

import re
from urllib.parse import unquote_plus

from kustom_hpp._redaction import describe_shape
from kustom_hpp.errors import ConfigError
from kustom_hpp.models.validation import Problems, check_url

_PLAIN = r"[A-Za-z0-9._~-]+"
"""What a query holds without any encoding. Source: RFC 3986, section 2.3."""
_LEAST = 16
"""Characters of a secret that nobody guesses: 16 of `secrets.token_urlsafe` are 96 bits."""


def with_secret(url: str, secret: str, name: str = "secret") -> str:
    """A URL with a secret in its query, for `MerchantUrls.status_update`: status callbacks carry no signature.

    Make a new secret for each session, `secrets.token_urlsafe(32)`, keep it beside your order, and compare it in the
    callback with `callbacks.check_secret`. All else of the URL stays byte for byte: placeholders, query and fragment.

        with_secret("https://shop.example/status?hpp={{session_id}}", "...")
        # "https://shop.example/status?hpp={{session_id}}&secret=..."

    Args:
        url: an absolute http(s) URL, as text.
        secret: at least 16 letters, digits, "-", "_", "." and "~".
        name: of the query's parameter; one that the URL does not have yet.

    Raises:
        ConfigError: one of them cannot be used; the text shows no value.

    Source: docs.kustom.co, "Status callbacks" (a one-time secret in the URL).

    """
    found: Problems = []
    check_url(found, "", "url", url, required=True)
    if not isinstance(secret, str) or len(secret) < _LEAST or not re.fullmatch(_PLAIN, secret):
        way_out = "as secrets.token_urlsafe(32) makes them"
        found.append(
            ("secret", f"must be at least {_LEAST} letters, digits, -._~, {way_out}; got {describe_shape(secret)}")
        )
    if not isinstance(name, str) or not re.fullmatch(_PLAIN, name):
        found.append(("name", f"must be letters, digits, -._~; got {describe_shape(name)}"))
    if found:
        raise ConfigError("; ".join(f"{field} {sentence}" for field, sentence in found))
    rest, hash_mark, fragment = url.partition("#")
    _, mark, query = rest.partition("?")
    if name in (unquote_plus(pair.partition("=")[0]) for pair in query.split("&")):
        msg = f"url has a parameter named {name} already: give the secret another name"
        raise ConfigError(msg)
    joint = "?" if not mark else "" if not query or query.endswith("&") else "&"
    return f"{rest}{joint}{name}={secret}{hash_mark}{fragment}"
