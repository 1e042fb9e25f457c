"""`kustom-hpp check`: what is installed, what is set, and whether the API accepts the key."""

import asyncio
import platform
import re
import sys
import time
from importlib import metadata
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text
from yarl import URL

from kustom_hpp import config
from kustom_hpp._messages import SendMarker
from kustom_hpp._protocol.operations import READ_SESSION
from kustom_hpp._protocol.request_builder import CallInput, RequestDefaults, build_request, session_ref
from kustom_hpp._protocol.response_reader import read_response
from kustom_hpp._version import __version__
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import CommandError, Exit, print_note, stdout
from kustom_hpp.errors import ApiError, AuthenticationError, HPPError, NotFoundError, PermissionDeniedError
from kustom_hpp.transport import HTTPSessionManager

_LIBRARIES = ("aiohttp", "yarl", "multidict", "frozenlist", "propcache", "attrs", "cattrs", "tenacity")
_EXTRAS = (("orjson", "extra speed"), ("cyclopts", "extra cli"), ("rich", "extra cli"))
_EXTENSIONS = (
    ("aiohttp", "aiohttp._http_parser"),
    ("aiohttp", "aiohttp._http_writer"),
    ("yarl", "yarl._quoting_c"),
    ("multidict", "multidict._multidict"),
    ("frozenlist", "frozenlist._frozenlist"),
    ("propcache", "propcache._helpers_c"),
)
"""The libraries' modules in C. A library works without them, more slowly."""
UNUSED_SESSION_ID = "00000000-0000-0000-0000-000000000000"
_KEY_PREFIX = re.compile(r"(?:kco|klarna)_(?:live|test)_")
_SHORT = 8
"""Characters of a credential that is too short to show any of it."""


def check(
    *, connection: ConnectionOptions | None = None, online: Annotated[bool, Parameter(negative="")] = False
) -> int:
    """Show versions and settings, and report what is wrong.

    Secrets are masked.

    Args:
        connection: Options that select the API.
        online: Also read a session that does not exist, to test host and key; this creates nothing.

    """
    connection = connection or ConnectionOptions()
    versions, missing = _versions()
    _show("Versions", versions)
    found = config.from_environment()
    configured = found | {name: value for name, value in connection.settings().items() if value is not None}
    _show(
        "Variables", [(variable, "set" if name in found else "not set") for name, variable in config.ENV_VARS.items()]
    )
    if missing:
        text = (
            f"{', '.join(missing)} run without C extensions, so each call costs 1.3 to 2.9 times the CPU. Reinstall from "
            "wheels (pip install --only-binary :all:), and unset variables like AIOHTTP_NO_EXTENSIONS."
        )
        print_note("warning", text, "yellow")
    settings = connection.client().settings
    _show("Configuration", _configuration(settings, configured))
    return asyncio.run(_check_online(settings)) if online else Exit.OK


def _show(title: str, rows: list[tuple[str, str]]) -> None:
    """Print one part of the report."""
    console = stdout()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), pad_edge=True)
    table.add_column(no_wrap=True, style="cyan" if console.is_terminal else "")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    console.print(Text(title, "bold"))
    console.print(table)


def _versions() -> tuple[list[tuple[str, str]], list[str]]:
    """Return the report's rows, and the libraries that run without their C extensions."""
    # A file on disk proves nothing: an extension may be switched off, or built for another Python.
    missing = list(dict.fromkeys(name for name, module in _EXTENSIONS if module not in sys.modules))
    with_c = {name for name, _ in _EXTENSIONS}
    rows = [
        ("kustom_hpp", __version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()})"),
    ]
    for name in _LIBRARIES:
        state = "" if name not in with_c else ", without C extensions" if name in missing else ", C extensions active"
        rows.append((name, metadata.version(name) + state))
    for name, extra in _EXTRAS:
        rows.append((name, _version_or_none(name) or f"not installed ({extra})"))
    return rows, missing


def _version_or_none(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _configuration(settings: config.Settings, configured: dict[str, Any]) -> list[tuple[str, str]]:
    environment = "any, because base_url is set" if settings.environment is None else str(settings.environment)
    return [
        ("environment", environment),
        ("base URL", str(settings.base_url)),
        ("User-Agent", settings.user_agent),
        *((name, mask(configured[name])) for name in ("username", "api_key", "password") if name in configured),
        ("proxy", _proxy(settings, configured)),
    ]


def _proxy(settings: config.Settings, configured: dict[str, Any]) -> str:
    """Return the proxy without its credentials, and where it is set."""
    if settings.proxy is None:
        return "none"
    if configured.get("proxy") is None:
        source = config.proxy_variable(settings.base_url.scheme)
    else:
        source = "KUSTOM_HPP_PROXY" if configured["proxy"] == config.from_environment().get("proxy") else "--proxy"
    return f"{URL(settings.proxy).origin()} (from {source})"


def mask(credential: str) -> str:
    """Return enough of a credential to recognise it: a key's prefix or two characters, and the length."""
    text = credential.strip()
    match = _KEY_PREFIX.match(text)
    shown = "" if len(text) <= _SHORT else match[0] if match else text[:2]
    return f"{shown}…({len(text)} characters)"


async def _check_online(settings: config.Settings) -> int:
    """Send one request that creates nothing, as the client sends it, and report the response."""
    call = CallInput(READ_SESSION, session_ref(READ_SESSION, UNUSED_SESSION_ID))
    request = build_request(RequestDefaults(settings), call)
    transport = HTTPSessionManager(pool=config.Pool(connections=1), ssl=settings.ssl, proxy=settings.proxy)
    began = time.perf_counter()
    try:
        response = await transport.send(request, SendMarker())
        if response.status < 200 or response.status >= 300:  # noqa: PLR2004 - the classes of RFC 9110, section 15
            read_response(settings, call, response)
    except NotFoundError:
        elapsed = (time.perf_counter() - began) * 1000
        _show("Online", [(str(settings.base_url), f"accepts the key ({elapsed:.0f} ms); nothing was created")])
        return Exit.OK
    except HPPError as error:
        raise _failure(error, settings) from None
    finally:
        await transport.aclose()
    msg = (
        f"{settings.base_url} is not the API: it returned {response.status} for an unused session. Check the base URL."
    )
    raise CommandError(msg, Exit.FAILED)


def _failure(error: HPPError, settings: config.Settings) -> CommandError:
    """Return the error in words for this request: it creates nothing, so nothing is in doubt."""
    host = settings.base_url.host
    if isinstance(error, AuthenticationError):
        environment = f" ({settings.environment})" if settings.environment else ""
        msg = f"{host} rejected the key (401). Check key, username and environment{environment}."
        return CommandError(msg, Exit.CONFIG)
    if isinstance(error, PermissionDeniedError):
        msg = f"{host} knows the key, but does not allow this (403). Ask Kustom to enable HPP for it."
        return CommandError(msg, Exit.CONFIG)
    if isinstance(error, ApiError):
        msg = f"{host} returned {error.status} to a harmless request{_api_message(error)}. Try again later."
        return CommandError(msg, Exit.FAILED)
    msg = f"{host} did not respond ({error.cause}). Check the base URL, the network and the proxy."
    return CommandError(msg, Exit.FAILED)


def _api_message(error: ApiError) -> str:
    """Return the API's own message and correlation id, in parentheses."""
    parts = [*error.messages[:1], *([f"correlation id {error.correlation_id}"] if error.correlation_id else [])]
    return f" ({'; '.join(parts)})" if parts else ""
