"""The peer that a user would pick: a client that openapi-python-client generates from a description of the API.

Its best case: the asynchronous functions, one httpx client for all requests, a pool as wide as needed, prebuilt models.
The generator is used if it can be imported, else installed into a temporary folder; what it generates is deleted.
"""

import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import payloads
from benchmarks.clients import Ours, check_same, headers_of
from benchmarks.environment import child_environment, in_fresh_interpreter
from benchmarks.measure import Client, Ratio, alternate
from benchmarks.openapi import DESCRIPTION
from benchmarks.report import Figure, Section

ABOUT = "CPU per request of a generated client, create_session = 1"
GENERATOR = "openapi-python-client"
PACKAGE = "hpp_generated"
CONCURRENCY = 16
TARGET = 3.0


class Generated:
    """The generated package's `create_session.asyncio`."""

    name = "generated"

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        import httpx  # type: ignore[import-not-found, unused-ignore] # comes with the generator

        client, operation, models = (
            importlib.import_module(f"{PACKAGE}.{name}") for name in ("client", "api.sessions.create_session", "models")
        )
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        self._client: Any = client.Client(
            base_url=f"{url}/{self.name}",
            headers=headers,
            raise_on_unexpected_status=True,
            httpx_args={"limits": limits, "trust_env": False},
        )
        self._create: Any = operation.asyncio
        self._bodies = [models.CreateSession.from_dict(payloads.plain(index)) for index in range(payloads.DISTINCT)]

    async def send(self, index: int) -> bool:
        """One session."""
        session = await self._create(client=self._client, body=self._bodies[index % payloads.DISTINCT])
        return bool(session.session_id == payloads.SESSION_ID and session.expires_at.year == 2038)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.get_async_httpx_client().aclose()


async def task(url: str, rounds: int, requests: int) -> dict[str, dict[str, float]]:
    """In a child: {client: Ratio}."""
    clients: list[Client] = [Ours(url)]
    try:
        clients.append(Generated(url, await headers_of(clients[0], url)))
        await check_same(clients, url, headers=False)  # httpx adds Connection: keep-alive
        seconds = await alternate(clients, url=url, concurrency=CONCURRENCY, rounds=rounds, requests=requests)
        return {name: asdict(Ratio.of(seconds[name], seconds["ours"])) for name in seconds}
    finally:
        for client in clients:
            await client.aclose()


def measure(url: str, *, rounds: int, requests: int, patience: float) -> Section:
    """The section.

    Args:
        url: of the server.
        rounds: see `alternate`.
        requests: see `alternate`.
        patience: seconds that installing the generator may take.

    """
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        if why := generate(Path(folder), patience):
            return Section("generated", ABOUT, skipped=why)
        found = in_fresh_interpreter(
            "generated", {"url": url, "rounds": rounds, "requests": requests}, path=_paths(Path(folder))
        )
    ours, theirs = Ratio(**found["ours"]), Ratio(**found["generated"])
    figure = Figure(
        what=f"{GENERATOR}, httpx, {CONCURRENCY} in flight",
        peer=f"create_session, {ours.micros:.0f} us",
        value=theirs.median,
        spread=(theirs.low, theirs.high),
        at_least=TARGET,
        note=f"{theirs.micros:.0f} us",
    )
    return Section("generated", ABOUT, [figure])


def _paths(folder: Path) -> list[str]:
    return [str(folder), str(folder / "installed")]


def generate(folder: Path, patience: float) -> str:
    """Generate the client into a folder; empty, or why that could not be done and what to do about it."""
    remedy = f"install it next to kustom_hpp (pip install {GENERATOR}) and run this again"
    if importlib.util.find_spec("openapi_python_client") is None:
        target = str(folder / "installed")
        command = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", target, GENERATOR]
        if why := _run(command, folder, patience):
            return f"{GENERATOR} could not be installed ({why}): {remedy}"
    (folder / "description.json").write_text(json.dumps(DESCRIPTION))
    (folder / "config.json").write_text(
        json.dumps({"post_hooks": []})
    )  # the code is not read, so it need not be formatted
    command = ["-m", "openapi_python_client", "generate", "--path", "description.json", "--config", "config.json"]
    if why := _run([*command, "--meta", "none", "--output-path", PACKAGE], folder, 60):
        return f"{GENERATOR} could not generate the client ({why}): {remedy}"
    return ""


def _run(command: list[str], folder: Path, patience: float) -> str:
    """Run Python; empty, or what went wrong in one line."""
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=child_environment(more_paths=_paths(folder)),
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {patience:.0f} s"
    if done.returncode == 0:
        return ""
    return next(iter((done.stderr or done.stdout).strip().splitlines()[-1:]), "without a word")
