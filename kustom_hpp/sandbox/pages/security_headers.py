"""Security headers of the pages, with the policy for content. No I/O.

The texts of a request or an order are only text on a page. The policy holds even if one got past the escaping.
Source: www.w3.org/TR/CSP3.

Implementation note: Chromium applies `form-action` to the redirect after a form, and to the redirects after that. So
the policy names the merchant's origins, and on loopback every port, because a shop in development has its front end on
another one. A shop elsewhere that redirects to another host is blocked; the browser's console says so.
"""

import contextlib
import re
from collections.abc import Iterable
from urllib.parse import quote

from yarl import URL

_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    # Other sites learn no address; a form of ours says which page it comes from.
    ("Referrer-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
# A host that a policy can name. It cannot name IPv6 addresses or names with an underscore, and a `;` would end the
# directive and start one of the merchant's choice.
_HOST = r"(?:[a-z0-9-]+\.)*[a-z0-9-]+"
_LOOPBACK = r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|.+\.localhost"
_MAX_HOST = 253
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def headers(*, images: Iterable[str] = (), forms_to: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """Return the headers of a page.

    Args:
        images: URLs of the images that it shows in addition to ours.
        forms_to: URLs to which its forms redirect, in addition to ours.

    """
    sources = {
        "default-src": ["'none'"],
        "style-src": ["'self'"],
        "script-src": ["'self'"],
        "connect-src": ["'self'"],
        "img-src": ["'self'", *(origin for url in images if (origin := origin_of(url)))],
        "form-action": ["'self'", *(source for url in forms_to for source in _destinations(url))],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
    policy = "; ".join(f"{name} {' '.join(dict.fromkeys(values))}" for name, values in sources.items())
    return (("Content-Security-Policy", policy), *_HEADERS)


def origin_of(url: str) -> str | None:
    """Return the origin of a URL; None if a policy cannot name it."""
    try:
        parsed = URL(url)
        host, port = (parsed.raw_host or "").lower(), parsed.explicit_port
    except ValueError:
        return None
    if parsed.scheme not in {"http", "https"} or len(host) > _MAX_HOST or not re.fullmatch(_HOST, host):
        return None
    return f"{parsed.scheme}://{host}" + (f":{port}" if port is not None else "")


def _destinations(url: str) -> list[str]:
    origin = origin_of(url)
    if origin is None:
        # The form has to work, so the policy allows every URL of this scheme.
        return ["https:" if url.lower().startswith("https:") else "http:"]
    scheme, _, rest = origin.partition("://")
    host = rest.partition(":")[0]
    if re.fullmatch(_LOOPBACK, host):
        return [f"{scheme}://{name}:*" for name in dict.fromkeys((host, "localhost", "127.0.0.1"))]
    return [origin]


def location(url: str) -> str:
    """Return a merchant's URL for Location, encoded as a browser does it."""
    scheme, slashes, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not authority.isascii():
        with contextlib.suppress(ValueError):
            rest = URL(url).raw_authority + rest.removeprefix(authority)
    return quote(scheme + slashes + rest, safe=_ASCII)
