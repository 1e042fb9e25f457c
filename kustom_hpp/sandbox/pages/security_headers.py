"""What a browser may do with a page: the Content-Security-Policy and its companions, and the addresses they name. No I/O.

Whatever a request or an order says is text on the page and nothing else: the policy holds even if a text got past the
escaping. Source: www.w3.org/TR/CSP3.

Implementation note: Chromium applies `form-action` to the redirect that answers a form, and to those that follow it. So it
names the merchant's addresses; and on loopback every port, as a shop on a desk has its front end on another one. A shop
elsewhere whose URL redirects to another host is stopped there: the browser's console says so.
"""

import contextlib
import re
from collections.abc import Iterable
from urllib.parse import quote

from yarl import URL

_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
# A host that a policy can name. What it cannot: IPv6 addresses, names with underscores or odder characters, a `;` that
# would end the directive and begin one of the merchant's own.
_HOST = r"(?:[a-z0-9-]+\.)*[a-z0-9-]+"
_LOOPBACK = r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|.+\.localhost"
_MAX_HOST = 253
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def headers(
    *, images: Iterable[str] = (), forms_to: Iterable[str] = (), scripts: bool = False
) -> tuple[tuple[str, str], ...]:
    """The headers of a page.

    Args:
        images: URLs of images that it shows, beside our own.
        forms_to: URLs to which the answers to its forms lead, beside our own.
        scripts: True where it has a script of ours, which may listen to us.

    """
    sources = {
        "default-src": ["'none'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", *(origin for url in images if (origin := origin_of(url)))],
        "form-action": ["'self'", *(source for url in forms_to for source in _destinations(url))],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
    if scripts:
        sources |= {"script-src": ["'self'"], "connect-src": ["'self'"]}
    policy = "; ".join(f"{name} {' '.join(dict.fromkeys(values))}" for name, values in sources.items())
    return (("Content-Security-Policy", policy), *_HEADERS)


def origin_of(url: str) -> str | None:
    """Scheme, host and port of a URL as a policy can name them; None where it cannot."""
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
        # The form has to work, so everything of this scheme is let through.
        return ["https:" if url.lower().startswith("https:") else "http:"]
    scheme, _, rest = origin.partition("://")
    if re.fullmatch(_LOOPBACK, rest.partition(":")[0]):
        return [f"{scheme}://{host}:*" for host in dict.fromkeys((rest.partition(":")[0], "localhost", "127.0.0.1"))]
    return [origin]


def location(url: str) -> str:
    """A merchant's URL for a Location header: what is not ASCII encoded as a browser does, all else as it was given."""
    scheme, slashes, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not authority.isascii():
        with contextlib.suppress(ValueError):
            rest = URL(url).raw_authority + rest.removeprefix(authority)
    return quote(scheme + slashes + rest, safe=_ASCII)
