"""URLs of the merchant and of payment sessions, as text: a library for URLs would encode the placeholders.

The patterns are also part of `openapi.json`, so they use only what Python's and ECMAScript's expressions have in common.
"""

import ipaddress
import re
from urllib.parse import unquote_plus

from attrs import frozen
from yarl import URL

from kustom_hpp._redaction import describe_shape
from kustom_hpp.errors import ConfigError
from kustom_hpp.models.validation import BLANKS, Problems, has_surrogate

KCO_ORDER_PATH = "/checkout/v3/orders/"
"""What precedes the id in the path of a KCO order."""
KP_SESSION_PATH = "/payments/v1/sessions/"
"""What precedes the id in the path of a KP session."""

_CANONICAL = rf"(?i:(https?://[^/?#]+(?:/[^?#]*)?{KCO_ORDER_PATH}))([^/?#]+)/*(?:[?#].*)?"
_UUID = r"(?i:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"

_NOT_IN_URL = rf'\u0000-\u0020\u007f-\u009f{BLANKS}"<>\\^`'
_HOST = rf"[^/?#{_NOT_IN_URL}{{}}]+"
_REST = rf"(?:[/?#][^{_NOT_IN_URL}]*)?"
_LOOPBACK = r"(?:[^@/?#]*@)?(?:localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])(?::[0-9]+)?"
_ENCODED_BRACES = r"%7[bB](?:%7[bB]|\{)|\{%7[bB]|%7[dD](?:%7[dD]|\})|\}%7[dD]"

_URL = rf"(https?)://({_HOST}){_REST}"
"""An absolute http(s) URL. Its path, query and fragment may have braces, for placeholders."""
ANY_URL = rf"(?!.*(?:{_ENCODED_BRACES})){_URL}"
"""A URL that has no problems if http is allowed."""
HTTPS_URL = rf"(?!.*(?:{_ENCODED_BRACES}))(?:https://{_HOST}|http://{_LOOPBACK}){_REST}"
"""A URL that has no problems if it must be https: http is for loopback."""

_PLACEHOLDER = r"\{\{(.*?)\}\}"
_KNOWN_PLACEHOLDERS = frozenset({"session_id", "order_id", "authorization_token"})
_HINTS = {"sid": "'sid' is the name of a query parameter in the documents' examples; "}

_UNRESERVED = r"[A-Za-z0-9._~-]+"
"""What a query holds without any encoding. Source: RFC 3986, section 2.3."""
_MIN_SECRET = 16
"""Characters of a secret that cannot be guessed: 16 of `secrets.token_urlsafe` are 96 bits."""


@frozen(slots=True)
class UrlParts:
    """The parts of an absolute http(s) URL."""

    scheme: str
    authority: str

    @property
    def host(self) -> str:
        """The host, without user and port."""
        host = self.authority.rpartition("@")[2]
        return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]

    @property
    def is_plain_http(self) -> bool:
        """True if the URL is http and its host is not this machine."""
        return self.scheme == "http" and not is_loopback(self.host)


def split_url(url: str) -> UrlParts | None:
    """Return the parts of a URL; None if it is not an absolute http(s) URL."""
    match = re.fullmatch(_URL, url)
    return None if match is None else UrlParts(match[1], match[2])


def is_loopback(host: str | None) -> bool:
    """Return True for localhost, 127.0.0.0/8 in four parts, and ::1."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def canonical_order_url(url: object) -> str | None:
    """Return the one spelling of a KCO order's URL, to compare orders by; None if it is not such a URL.

    Scheme, host and path are in lower case, as is an id that is a UUID. Query, fragment and slashes at the end are left out.
    """
    match = re.fullmatch(_CANONICAL, url) if isinstance(url, str) else None
    if match is None:
        return None
    return match[1].lower() + (match[2].lower() if re.fullmatch(_UUID, match[2]) else match[2])


def check_url(problems: Problems, path: str, value: object, *, https: str = "") -> None:
    """Check an absolute http(s) URL as text; `https` is the reason if it must be https."""
    if not isinstance(value, str):
        remedy = ": build it as text, so that placeholders stay as they are" if isinstance(value, URL) else ""
        problems.append((path, f"must be text, got {describe_shape(value)}{remedy}"))
    elif "%7" in value and re.search(_ENCODED_BRACES, value):
        problems.append((path, "has percent-encoded braces (%7B%7B), which are not a placeholder: build it as text"))
    elif (match := re.fullmatch(_URL, value)) is None or has_surrogate(value):
        problems.append((path, f"must be an absolute http(s) URL without blanks, got {describe_shape(value)}"))
    elif https and match[1] == "http" and UrlParts(*match.groups()).is_plain_http:
        problems.append((path, f"must be https: {https} (http is for loopback)"))


def warn_url(warnings: Problems, path: str, url: str, *, has_token: bool) -> None:
    """Warn about a URL that the page or the API calls: legal but suspicious.

    Args:
        warnings: the list to append to.
        path: the URL's JSON path.
        url: the URL.
        has_token: whether the API fills in `{{authorization_token}}` here.

    """
    if (parts := split_url(url)) is not None and parts.is_plain_http:
        warnings.append((path, "is http: consumers and browsers expect https"))
    for name in re.findall(_PLACEHOLDER, url):
        if name not in _KNOWN_PLACEHOLDERS:
            known = "known are {{session_id}}, {{order_id}} and {{authorization_token}}"
            warnings.append((path, f"has a placeholder that the API does not document: {_HINTS.get(name, '')}{known}"))
        elif name == "authorization_token" and not has_token:
            sentence = "has {{authorization_token}}, which the API fills in only in success, only for KP sessions"
            warnings.append((path, sentence))


def with_secret(url: str, secret: str, name: str = "secret") -> str:
    """Return a URL with a secret in its query, for `MerchantUrls.status_update`: status callbacks carry no signature.

    Create a new secret for each session, `secrets.token_urlsafe(32)`. Store it with your order, and compare it in the
    callback with `callbacks.check_secret`. The rest of the URL stays byte for byte: placeholders, query and fragment.

        with_secret("https://shop.example/status?hpp={{session_id}}", "...")
        # "https://shop.example/status?hpp={{session_id}}&secret=..."

    Args:
        url: an absolute http(s) URL, as text.
        secret: at least 16 letters, digits, "-", "_", "." and "~".
        name: the name of the query parameter; the URL must not have it yet.

    Raises:
        ConfigError: an argument cannot be used; the text shows no value.

    Source: docs.kustom.co, "Status callbacks" (a one-time secret in the URL).

    """
    problems: Problems = []
    check_url(problems, "url", url)
    if not isinstance(secret, str) or len(secret) < _MIN_SECRET or not re.fullmatch(_UNRESERVED, secret):
        rule = f"at least {_MIN_SECRET} letters, digits, -._~, such as secrets.token_urlsafe(32)"
        problems.append(("secret", f"must be {rule}; got {describe_shape(secret)}"))
    if not isinstance(name, str) or not re.fullmatch(_UNRESERVED, name):
        problems.append(("name", f"must be letters, digits, -._~; got {describe_shape(name)}"))
    if problems:
        raise ConfigError("; ".join(f"{field} {sentence}" for field, sentence in problems))
    rest, hash_mark, fragment = url.partition("#")
    _, mark, query = rest.partition("?")
    if name in (unquote_plus(pair.partition("=")[0]) for pair in query.split("&")):
        msg = f"url has a parameter named {name} already: use another name for the secret"
        raise ConfigError(msg)
    separator = "?" if not mark else "" if not query or query.endswith("&") else "&"
    return f"{rest}{separator}{name}={secret}{hash_mark}{fragment}"
