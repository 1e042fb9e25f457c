"""The banner of a sandbox that listens: its address, lines to paste, and a warning if others can reach it."""

import ipaddress
import shlex
import socket
from collections.abc import Iterable, Iterator
from types import MappingProxyType

from rich.text import Text
from yarl import URL

from kustom_hpp.cli.console import print_note, stderr, stdout
from kustom_hpp.config import ENV_VARS, is_loopback
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.pages.snippets import curl_snippet

UNUSED_ADDRESSES = MappingProxyType({socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)})
"""Addresses of no machine (RFC 5737, RFC 3849): the route to them is this machine's route to others."""
_IPV6 = 6


def greet(sandbox: Sandbox, faults: Iterable[str], *, key_is_known: bool) -> None:
    """Print the sandbox's address and settings, and lines to paste.

    Args:
        sandbox: A sandbox that listens.
        faults: Its faults, as the user spelled them.
        key_is_known: The user chose the key, so it is not shown.

    """
    base_url = sandbox.base_url
    exports = [f"export {ENV_VARS['base_url']}={shlex.quote(base_url)}"]
    if not key_is_known:
        exports.append(f"export {ENV_VARS['api_key']}={shlex.quote(sandbox.api_key)}")
    curl = curl_snippet(base_url, None if key_is_known else sandbox.api_key)
    text = Text.assemble(
        ("Kustom HPP sandbox", "bold"), f" at {base_url}, until Ctrl-C.\n",
        *(part for name, value in _facts(sandbox, faults) for part in ((f"  {name:<10} ", "dim"), f"{value}\n")), "\n",
        ("For kustom-hpp and HPPClient.from_env() in another terminal:\n", "dim"), "\n".join(exports), "\n\n",
        ("One session with curl:\n", "dim"), curl,
    )  # fmt: skip
    stdout().print(text, soft_wrap=True)  # unfolded, to be pasted


def _facts(sandbox: Sandbox, faults: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the console's URL and each setting that differs from a healthy API."""
    yield "console", f"{sandbox.base_url}/"
    yield "username", f"{sandbox.username} (for clients that send one with the key)"
    if sandbox.public_url is not None:
        yield "links", f"{sandbox.public_url}/"
    if not sandbox.strict:
        yield "lenient", "accepts enum values in another case"
    for fault in faults:
        yield "fault", fault
    if sandbox.rate_limit is not None:
        yield "rate limit", str(sandbox.rate_limit.limit)
    if sandbox.latency is not None:
        yield "latency", str(sandbox.latency)


def warn_of_exposure(sandbox: Sandbox) -> None:
    """Warn on stderr if other machines can reach the sandbox."""
    if is_loopback(sandbox.host):
        return
    outside = URL(sandbox.base_url).with_host(address(sandbox.host))
    console = stderr()
    if console.is_terminal:
        console.print()
    print_note(
        "warning",
        f"other machines can reach this sandbox, at {outside}. Everybody there can read the sessions in its console, open "
        "their payment pages and pay; who has the key can do everything. It speaks plain http, so a client on another "
        f"machine needs {ENV_VARS['insecure_http']}=1.",
        "bold yellow",
        console,
    )


def address(host: str) -> str:
    """Return the address by which other machines reach this one, as far as it is known."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == _IPV6 else socket.AF_INET
    except ValueError:
        return host
    if not ipaddress.ip_address(host).is_unspecified:
        return host
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(UNUSED_ADDRESSES[family])  # sends nothing
        except OSError:
            return socket.gethostname()
        return str(sock.getsockname()[0])
