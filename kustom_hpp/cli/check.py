"""`kustom-hpp check`: what is installed, what is set, and whether the API accepts the key."""

import platform
import re
import sys
import time
from importlib import metadata
from typing import Any

from rich.text import Text
from yarl import URL

from kustom_hpp import config
from kustom_hpp._messages import HttpResponse, SendMarker
from kustom_hpp._protocol.codec import codec
from kustom_hpp._protocol.operations import READ_SESSION
from kustom_hpp._protocol.request_builder import CallInput, RequestDefaults, build_request, session_ref
from kustom_hpp._protocol.response_headers import correlation_id
from kustom_hpp._protocol.response_reader import read_response
from kustom_hpp._version import __version__
from kustom_hpp.cli.connection_options import ConnectionOptions
from kustom_hpp.cli.console import CommandError, Exit, print_note, stdout, table
from kustom_hpp.errors import ApiError, AuthenticationError, HPPError, NotFoundError, PermissionDeniedError
from kustom_hpp.transport import HTTPSessionManager

_EXTRAS = (("orjson", "extra speed"), ("cyclopts", "extra cli"), ("rich", "extra cli"))
_LIBRARIES = {
    "aiohttp": {"aiohttp._http_parser", "aiohttp._http_writer"},
    "yarl": {"yarl._quoting_c"},
    "multidict": {"multidict._multidict"},
    "frozenlist": {"frozenlist._frozenlist"},
    "propcache": {"propcache._helpers_c"},
    "attrs": set[str](),
    "cattrs": set[str](),
    "tenacity": set[str](),
}
"""Each with its modules in C: it works without them, more slowly."""
UNUSED_SESSION_ID = "00000000-0000-0000-0000-000000000000"
_KEY_PREFIX = re.compile(r"(?:kco|klarna)_(?:live|test)_")
_SHORT = 8
"""Characters of a credential that is too short to show any of it."""


async def check(*, connection: ConnectionOptions | None = None, online: bool = False) -> int:
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
    return await _check_online(settings) if online else Exit.OK


def _show(title: str, rows: list[tuple[str, str]]) -> None:
    """Print one part of the report."""
    console = stdout()
    console.print(
        table(title, ("", ""), [(Text(f"  {name}", "cyan"), value) for name, value in rows], show_header=False)
    )


def _versions() -> tuple[list[tuple[str, str]], list[str]]:
    """Return the report's rows, and the libraries that run without their C extensions."""
    # A file on disk proves nothing: an extension may be switched off, or built for another Python.
    missing = [name for name, modules in _LIBRARIES.items() if not modules <= sys.modules.keys()]
    rows = [
        ("kustom_hpp", __version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()})"),
    ]
    for name, modules in _LIBRARIES.items():
        state = "" if not modules else ", without C extensions" if name in missing else ", C extensions active"
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
    started = time.perf_counter()
    try:
        response = await transport.send(request, SendMarker())
    except HPPError as error:
        msg = (
            f"{settings.base_url.host} did not respond ({error.cause}). Check the base URL, the network and the proxy."
        )
        raise CommandError(msg, Exit.FAILED) from None
    finally:
        await transport.aclose()
    elapsed = (time.perf_counter() - started) * 1000
    is_api = _has_api_shape(response)
    if response.status < _REDIRECTION or (response.status not in _KEY_REJECTED and not is_api):
        raise CommandError(_not_the_api(response, settings), Exit.FAILED)
    try:
        read_response(settings, call, response)
    except NotFoundError:
        _warn_of_path(settings.base_url)
    except ApiError as error:
        raise _failure(error, settings, is_api=is_api) from None
    _show("Online", [(str(settings.base_url), f"accepts the key ({elapsed:.0f} ms); nothing was created")])
    return Exit.OK


def _warn_of_path(base_url: URL) -> None:
    """Warn if the 404 may be about the base URL's path instead of the session."""
    if base_url.path.strip("/"):
        text = (
            f"the base URL has the path {base_url.path}, and the response does not show whether the API is below it. Remove "
            "the path, unless your gateway serves the API there."
        )
        print_note("warning", text, "yellow")


_KEY_REJECTED = (401, 403)
"""A gateway in front of the API may send these, without the API's error body."""


def _has_api_shape(response: HttpResponse) -> bool:
    """Return True for the API's error body: code, messages, and a correlation id there or in a header."""
    try:
        body = codec().load_json(response.body)
    except ValueError:
        return False
    return (
        isinstance(body, dict)
        and isinstance(body.get("error_code"), str)
        and isinstance(body.get("error_messages"), list)
        and bool(body.get("correlation_id") or correlation_id(response.headers))
    )


def _not_the_api(response: HttpResponse, settings: config.Settings) -> str:
    """Return the message for a response that is not the API's, with the likely cause."""
    content_type = response.headers.get("content-type", "").lower()
    kind = (
        "an HTML page" if "html" in content_type else "JSON of another shape" if "json" in content_type else "no JSON"
    )
    url = settings.base_url
    if response.status == _PROXY_AUTHENTICATION:
        cause = "the proxy asks for credentials. Put user and password into the proxy's URL"
    elif url.path.strip("/"):
        cause = f"the base URL has the path {url.path}. Remove it, unless your gateway serves the API below it"
    elif response.status >= _SERVER_ERROR:
        cause = "a gateway in front of the API sent this page. Try again later"
    elif settings.environment is not None or settings.proxy is not None:
        cause = "a proxy or a firewall on the path responded. Check the network and the proxy"
    else:
        cause = "another server responds at this host. Check the base URL"
    return (
        f"{url} does not look like the HPP API: it returned {response.status} with {kind} for an unused session. Likely "
        f"cause: {cause}."
    )


_REDIRECTION, _PROXY_AUTHENTICATION, _SERVER_ERROR = 300, 407, 500


def _failure(error: ApiError, settings: config.Settings, *, is_api: bool) -> CommandError:
    """Return the error in words for this request: it creates nothing, so nothing is in doubt."""
    host = settings.base_url.host
    environment = f" ({settings.environment})" if settings.environment else ""
    doubt = "" if is_api else " The response does not look like the HPP API's, so check the base URL too."
    if isinstance(error, AuthenticationError):
        msg = f"{host} rejected the key (401). Check key, username and environment{environment}.{doubt}"
        return CommandError(msg, Exit.CONFIG)
    if isinstance(error, PermissionDeniedError):
        msg = f"{host} knows the key, but does not allow this (403). Ask Kustom to enable HPP for it.{doubt}"
        return CommandError(msg, Exit.CONFIG)
    msg = f"{host} returned {error.status} to a harmless request{_api_message(error)}. Try again later."
    return CommandError(msg, Exit.FAILED)


def _api_message(error: ApiError) -> str:
    """Return the API's own message and correlation id, in parentheses."""
    parts = [*error.messages[:1], *([f"correlation id {error.correlation_id}"] if error.correlation_id else [])]
    return f" ({'; '.join(parts)})" if parts else ""
