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

__all__ = ["AUTHORIZATION_TOKEN", "ORDER_ID", "SESSION_ID", "with_secret"]

KCO_ORDER_PATH = "/checkout/v3/orders/"
"""What precedes the id in the path of a KCO order."""
KP_SESSION_PATH = "/payments/v1/sessions/"
"""What precedes the id in the path of a KP session."""

_UUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"

SESSION_ID = "{{session_id}}"
"""Placeholder in a merchant URL: the API fills in the session's id. In an f-string, write `f"...?hpp={SESSION_ID}"`."""
ORDER_ID = "{{order_id}}"
"""Placeholder in a merchant URL: the API fills in the order's id, for KCO orders and KP sessions that place the order."""
AUTHORIZATION_TOKEN = "{{authorization_token}}"  # noqa: S105 - a placeholder
"""Placeholder in `MerchantUrls.success`: the API fills in the token of a KP session that does not place the order."""

_NOT_IN_URL = rf'\u0000-\u0020\u007f-\u009f{BLANKS}"<>\\^`'
_HOST = rf"[^/?#{_NOT_IN_URL}{{}}]+"
_REST = rf"(?:[/?#][^{_NOT_IN_URL}]*)?"
_HTTP, _HTTPS = "[hH][tT][tT][pP]", "[hH][tT][tT][pP][sS]"
_USER, _PORT = rf"(?:[^@/?#{_NOT_IN_URL}{{}}]*@)?", "(?::[0-9]+)?"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LOOPBACK = rf"{_USER}(?:localhost|127\.{_BYTE}\.{_BYTE}\.{_BYTE}|\[::1\]){_PORT}"
# A name without a dot, such as a service of docker compose; names that are never public; addresses of RFC 1918 and RFC 4193.
_PRIVATE = (
    rf"{_USER}(?:[A-Za-z][A-Za-z0-9_-]*|[A-Za-z0-9._-]+\.(?:internal|local)|10\.{_BYTE}\.{_BYTE}\.{_BYTE}"
    rf"|192\.168\.{_BYTE}\.{_BYTE}|172\.(?:1[6-9]|2[0-9]|3[01])\.{_BYTE}\.{_BYTE}"
    rf"|\[[fF][cCdD][0-9a-fA-F:]+\]){_PORT}"
)
_ENCODED_BRACES = r"%7[bB](?:%7[bB]|\{)|\{%7[bB]|%7[dD](?:%7[dD]|\})|\}%7[dD]"
_NAMES = r"session_id|order_id|authorization_token|checkout\.order\.id"
_SINGLE_BRACES = rf"(?:^|[^{{])\{{[A-Za-z_][A-Za-z0-9_.]*\}}(?:[^}}]|$)|%7[bB](?:{_NAMES})%7[dD]"
_NO_WRONG_BRACES = rf"(?!.*(?:{_ENCODED_BRACES}|{_SINGLE_BRACES}))"

_URL = rf"({_HTTP}[sS]?)://({_HOST}){_REST}"
"""An absolute http(s) URL. Its path, query and fragment may have braces, for placeholders."""
ANY_URL = _NO_WRONG_BRACES + _URL
"""A URL that has no problems if http is allowed."""
HTTPS_URL = rf"{_NO_WRONG_BRACES}(?:{_HTTPS}://{_HOST}|{_HTTP}://{_LOOPBACK}){_REST}"
"""A URL that has no problems if it must be https: http is for loopback."""

# Schemes that no app registers: scripts, local files, and other protocols.
_NO_APP = (
    "about blob chrome data file filesystem ftp ftps http https jar javascript mailto sftp vbscript view-source ws wss"
)
_NOT_AN_APP = "|".join(
    "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in scheme)
    for scheme in _NO_APP.split()
)
_APP_LINK = rf"(?!(?:{_NOT_AN_APP}):)[A-Za-z][A-Za-z0-9+.-]*://[^{_NOT_IN_URL}]+"
ANY_LINK = rf"(?:{ANY_URL}|{_NO_WRONG_BRACES}{_APP_LINK})"
"""A URL or an app link that has no problems."""

_HTML_ESCAPE = r"&(?:amp|#0*38|#[xX]0*26);"
_HALF_PLACEHOLDER = r"\{\{|\}\}"
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
        return self.scheme.lower() == "http" and not is_loopback(self.host)

    @property
    def is_private(self) -> bool:
        """True if the host can only be one of a private network, such as a service of docker compose."""
        return re.fullmatch(_PRIVATE, self.authority) is not None


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
    if not isinstance(url, str):
        return None
    text = url.partition("?")[0].partition("#")[0].rstrip("/")
    # Without a regular expression: a batch does this for every row.
    lower = text.lower() if text.isascii() else text
    start, path, order_id = lower.rpartition(KCO_ORDER_PATH)
    scheme, _, rest = start.partition("://")
    if scheme not in ("http", "https") or not rest.partition("/")[0] or not order_id or "/" in order_id:
        return None
    return f"{start}{path}{order_id if re.fullmatch(_UUID, order_id) else text[-len(order_id) :]}"


def check_url(
    problems: Problems,
    path: str,
    value: object,
    *,
    https: str = "",
    private_http: bool = False,
    app_link: bool = False,
) -> None:
    """Check an absolute http(s) URL as text; the options are those of `UrlKind`."""
    if not isinstance(value, str):
        remedy = ": build it as text, so that placeholders stay as they are" if isinstance(value, URL) else ""
        problems.append((path, f"must be text, got {describe_shape(value)}{remedy}"))
    elif "%7" in value and re.search(_ENCODED_BRACES, value):
        problems.append((path, "has percent-encoded braces (%7B%7B), which are not a placeholder: build it as text"))
    elif ("%7" in value or "{" in value.replace("{{", "")) and (wrong := re.search(_SINGLE_BRACES, value)):
        problems.append(
            (path, f"has a placeholder in single braces, which stays as it is: write {_spelling(wrong[0])}")
        )
    elif has_surrogate(value) or (match := re.fullmatch(_URL, value)) is None:
        if not (app_link and is_app_link(value)):
            problems.append((path, f"must be an absolute http(s) URL without blanks, got {describe_shape(value)}"))
    elif https and (parts := UrlParts(*match.groups())).is_plain_http and not (private_http and parts.is_private):
        problems.append((path, f"must be https: {https} (http is for loopback)"))


def _spelling(wrong: str) -> str:
    """Return how a placeholder in single braces is written."""
    for name, constant in (("session_id", SESSION_ID), ("authorization_token", AUTHORIZATION_TOKEN)):
        if name in wrong:
            return f"{constant} (hpp.{name.upper()})"
    if "order_id" in wrong or "checkout.order.id" in wrong:
        return f"{ORDER_ID} (hpp.ORDER_ID)"
    return f"{SESSION_ID}, {ORDER_ID} or {AUTHORIZATION_TOKEN} (hpp.SESSION_ID, hpp.ORDER_ID, hpp.AUTHORIZATION_TOKEN)"


def is_app_link(text: str) -> bool:
    """Return True for a link with an app's own scheme, such as `myshop://paid`."""
    return re.fullmatch(_APP_LINK, text) is not None and not has_surrogate(text)


def warn_url(warnings: Problems, path: str, url: str, *, app_link: bool, has_token: bool) -> None:
    """Warn about a URL that the page or the API calls; the options are those of `UrlKind`."""
    if (parts := split_url(url)) is not None and parts.is_plain_http:
        private = "is http to a private host: only a sandbox in the same network can call it"
        warnings.append((path, private if parts.is_private else "is http: consumers and browsers expect https"))
    if app_link and is_app_link(url):
        warnings.append(
            (path, "is an app link, and the API does not document whether it accepts one: try the playground")
        )
    if re.search(_HTML_ESCAPE, url):
        warnings.append((path, "has an ampersand that HTML escaping has changed: write & alone"))
    if re.search(_HALF_PLACEHOLDER, re.sub(_PLACEHOLDER, "", url)):
        warnings.append((path, "has {{ without }}, or }} without {{, so it is not a placeholder"))
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
        raise ConfigError(f"url has a parameter named {name} already: use another name for the secret")
    separator = "?" if not mark else "" if not query or query.endswith("&") else "&"
    return f"{rest}{separator}{name}={secret}{hash_mark}{fragment}"
