"""`kustom-hpp sandbox`: the sandbox as a process."""

import asyncio
import contextlib
import json as _json
import signal
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from kustom_hpp.cli.console import CommandError, Exit, write_line
from kustom_hpp.cli.sandbox import options
from kustom_hpp.cli.sandbox.banner import greet, warn_of_exposure
from kustom_hpp.cli.sandbox.fault_list import list_all
from kustom_hpp.sandbox import Sandbox
from kustom_hpp.sandbox.limits import Announcement

REMEMBERED = 10_000
"""Sessions and requests that a sandbox remembers: it may run for weeks."""


async def sandbox(
    *,
    host: str | None = None,
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 0,
    expose: bool = False,
    key_from_env: bool = False,
    fault: list[str] | None = None,
    rate_limit: str | None = None,
    rate_limit_headers: Announcement | None = None,
    latency: str | None = None,
    lenient: bool = False,
    public_url: str | None = None,
    json: bool = False,
    list_faults: bool = False,
) -> int:
    """Run a local HPP server until Ctrl-C.

    It checks requests as the API does, creates sessions and shows their payment pages. Open its base URL in a browser to
    see the console. It is for development and tests: each run has a new key and starts empty.

        kustom-hpp sandbox --port 8000 --fault "status_503~nth=2" --rate-limit 40

    The endpoints below /_sandbox/ change its behaviour while it runs.

    Args:
        host: The address to listen on; default: loopback.
        port: The port to listen on; 0 chooses a free one.
        expose: Let other machines reach it, over plain http; status callbacks may then go to private hosts over http.
        key_from_env: Use KUSTOM_HPP_API_KEY and KUSTOM_HPP_USERNAME instead of a new key; the key is not shown.
        fault: A fault with its parameters, e.g. "hang~seconds=2", "status_503~nth=3", "garbage~times=2",
            "status_500~probability=0.1,seed=7", "status_429~operation=read_session"; repeatable.
        rate_limit: Creates per second, such as 40, or 40:80 with 80 at once.
        rate_limit_headers: Announce the rate limit by x-ratelimit headers, Retry-After in each 429, or not at all.
        latency: Seconds that each response is delayed, e.g. 0.2, or 0.1..0.5 for a random time.
        lenient: Accept enum values in another case, e.g. buy for BUY, with a warning in the console.
        public_url: What links begin with, if browsers reach the sandbox by another URL than clients, e.g. in a container.
        json: Write {"base_url": ..., "api_key": ..., "username": ...} as the only line of stdout, for scripts.
        list_faults: List the faults and exit; with --json, one line of JSON each.

    """
    if list_faults:
        return list_all(for_scripts=json)
    api_key, username = options.credentials(from_env=key_from_env)
    server = Sandbox(
        host=options.address(host, expose=expose),
        port=port,
        api_key=api_key,
        username=username,
        rate_limit=options.rate_limit(rate_limit, rate_limit_headers),
        latency=options.latency(latency),
        remember=REMEMBERED,
        strict=not lenient,
        public_url=options.public_url(public_url),
    )
    options.add_faults(server, fault or [])
    return await _serve(server, port, fault or [], for_scripts=json, key_is_known=key_from_env)


async def _serve(server: Sandbox, port: int, faults: list[str], *, for_scripts: bool, key_is_known: bool) -> int:
    stop = asyncio.Event()
    # Before the sandbox listens. SIGINT needs no handler: asyncio.run turns it into a cancellation.
    with contextlib.suppress(NotImplementedError):  # Windows, which has no SIGTERM
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        await server.open()
    except OSError as error:
        reason = (error.strerror or "").partition(" (")[0]  # Python repeats the text in parentheses
        msg = f"cannot listen on {server.host}, port {port} ({reason}). Choose another --port, or 0 for a free one."
        raise CommandError(msg, Exit.FAILED) from None
    try:
        if for_scripts:
            key = None if key_is_known else server.api_key
            facts = {"base_url": server.base_url, "api_key": key, "username": server.username}
            write_line(_json.dumps(facts).encode())
        else:
            greet(server, faults, key_is_known=key_is_known)
        warn_of_exposure(server)
        await stop.wait()
    finally:
        await server.aclose()
    return Exit.OK
