"""Who may see the key, and change the sandbox from its console. No I/O.

Everyone who reaches the sandbox may look at the console and use the payment pages. The key and the actions are for a browser
on the sandbox's own machine, or for one that sends the sandbox's credentials. An action must also come from the console.
"""

from aiohttp import web

from kustom_hpp.config import is_loopback
from kustom_hpp.sandbox.http.request_context import Credentials


def is_trusted(request: web.Request, credentials: Credentials) -> bool:
    """Return True for a request from this machine or with the credentials.

    A browser on this machine must also use one of the machine's own names: a foreign name that resolves to it may belong to
    a page of an attacker (DNS rebinding).
    """
    local = is_loopback(request.remote or "") and _is_own_name(request.url.host or "")
    return local or credentials.matches(request.headers.get("Authorization"))


def is_same_origin(request: web.Request) -> bool:
    """Return True if a page of this sandbox sent the request.

    Source: www.w3.org/TR/fetch-metadata, RFC 6454.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    # A browser sends no Sec-Fetch-Site to a plain http URL of another machine, but it always sends Origin with a POST.
    return request.headers.get("Origin") == f"{request.scheme}://{request.host}"


def _is_own_name(host: str) -> bool:
    return is_loopback(host) or host.endswith(".localhost")
