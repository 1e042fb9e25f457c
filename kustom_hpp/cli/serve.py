"""`kustom-hpp sandbox`: the sandbox as a process of its own."""

import asyncio
import contextlib
import json as _json
import shlex
import signal
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.text import Text

from kustom_hpp.cli.output import CommandError, Exit, stdout, write_line
from kustom_hpp.config import VARIABLES
from kustom_hpp.sandbox import Sandbox

_REMEMBERED = 10_000
"""Sessions and requests that a sandbox keeps which may run for weeks."""
_ORDER = "92d97f60-7a78-46a5-8f68-c56fe52dc4af"


def sandbox(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 0,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run a Kustom HPP on this machine until Ctrl-C or SIGTERM.

    It creates sessions, remembers them, and checks each request as the API does. It is for development and tests: each
    run has a new key, and everything is forgotten when it ends.

    Args:
        host: The address to listen on. It speaks plain http: leave it on loopback.
        port: The port to listen on; 0 takes any free one.
        json: The first line of stdout is {"base_url": ..., "api_key": ...}, and nothing else follows: for scripts.

    """
    return asyncio.run(_serve(host, port, for_scripts=json))


async def _serve(host: str, port: int, *, for_scripts: bool) -> int:
    stop = asyncio.Event()
    # Before anybody can know that we run. SIGINT needs no handler: asyncio.run turns it into a cancellation.
    with contextlib.suppress(NotImplementedError):  # Windows, where nobody sends SIGTERM
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = Sandbox(host=host, port=port, remember=_REMEMBERED)
    try:
        await server.open()
    except OSError as error:
        why = (error.strerror or "").partition(" (")[0]  # what Python adds in parentheses says the same again
        msg = f"cannot listen on {host}, port {port} ({why}): choose another --port, or 0 for any free one."
        raise CommandError(msg, Exit.FAILED) from None
    try:
        if for_scripts:
            write_line(_json.dumps({"base_url": server.base_url, "api_key": server.api_key}).encode())
        else:
            _announce(server.base_url, server.api_key)
        await stop.wait()
    finally:
        await server.aclose()
    return Exit.OK


def _announce(base_url: str, api_key: str) -> None:
    """For people: what it is, and lines to paste."""
    body = _json.dumps({"payment_session_url": f"{base_url}/checkout/v3/orders/{_ORDER}"})
    exports = "\n".join(
        f"export {VARIABLES[name]}={shlex.quote(value)}"
        for name, value in (("base_url", base_url), ("api_key", api_key))
    )
    curl = " \\\n".join(
        [
            f"curl -sS {base_url}/hpp/v1/sessions",
            f"  -H {shlex.quote(f'Authorization: Basic {api_key}')}",
            "  -H 'Content-Type: application/json'",
            f"  -d {shlex.quote(body)}",
        ]
    )
    text = Text.assemble(
        ("Kustom HPP sandbox", "bold"), f" at {base_url}, until Ctrl-C.\n\n",
        ("For kustom-hpp and HPPClient.from_env() in another terminal:\n", "dim"), f"{exports}\n\n",
        ("One session with curl:\n", "dim"), curl,
    )  # fmt: skip
    stdout().print(text, soft_wrap=True)  # not folded: it is there to be pasted
