"""Plays a compose file without a container engine: each service has a network namespace of its own.

`python -m tests.browser.compose README.md FOLDER` re-executes itself in new namespaces (user, network, mount, process), where
it may do what a container engine does. There a bridge joins the services, each of which knows the others by their names only;
a published port is a relay on localhost of the outermost namespace, where the browser is. Nothing outlives the process.

It takes the compose file from the README, buys a mug in the shop, and prints what was seen as one line of JSON.
"""

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from attrs import frozen

from tests.browser import driver
from tests.browser.driver import Browser

ROOT = Path(__file__).parents[2]
UNSHARE = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--mount-proc",
    "--fork",
    "--kill-child",
)
SHOP_COMMAND = f"{shlex.quote(sys.executable)} -m tests.shops.fastapi_shop"
"""The service that the compose file builds, and what its image would set."""
SHOP_SETTINGS = {
    "SHOP_HOST": "0.0.0.0",
    "SHOP_URL": "http://localhost:8080",
    "SHOP_CALLBACK_URL": "http://shop:8080",
}
_SUBNET = "10.77.0."
_PATIENCE = 30.0


def missing() -> str | None:
    """Return what is missing to play a compose file; None if nothing is."""
    lacking = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    return f"no {' and no '.join(lacking)} on this machine: apt-get install util-linux iproute2" if lacking else None


def forbidden() -> str | None:
    """Return why this user may not create namespaces; None if it may."""
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return f"this user may not create namespaces ({tried.stderr.strip()})" if tried.returncode else None


@frozen(kw_only=True)
class Service:
    """A service of a compose file, at its address."""

    name: str
    command: str
    environment: Mapping[str, str]
    ports: tuple[tuple[int, int], ...]
    """Published port, port of the service."""
    address: str


def read_services(readme: Path) -> list[Service]:
    """Return the services of the README's compose file."""
    import yaml  # an extra of the slow tests

    (text,) = [part.partition("```")[0] for part in readme.read_text(encoding="utf-8").split("```yaml\n")[1:]]
    return [
        Service(
            name=name,
            command=service.get("command", SHOP_COMMAND),
            environment={key: str(value) for key, value in service["environment"].items()},
            ports=tuple((int(outer), int(inner)) for outer, inner in (port.split(":") for port in service["ports"])),
            address=f"{_SUBNET}{number}",
        )
        for number, (name, service) in enumerate(yaml.safe_load(text)["services"].items(), start=2)
    ]


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True)


def lay_network(services: list[Service], folder: Path) -> None:
    """Join the namespaces of the services by a bridge."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")  # `ip netns` writes there
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "compose0", "type", "bridge")
    run("ip", "address", "add", f"{_SUBNET}1/24", "dev", "compose0")
    run("ip", "link", "set", "compose0", "up")
    for service in services:
        run("ip", "netns", "add", service.name)
        run("ip", "link", "add", f"to-{service.name}", "type", "veth", "peer", "name", "eth0", "netns", service.name)
        run("ip", "link", "set", f"to-{service.name}", "master", "compose0", "up")
        run("ip", "-n", service.name, "address", "add", f"{service.address}/24", "dev", "eth0")
        run("ip", "-n", service.name, "link", "set", "eth0", "up")
        run("ip", "-n", service.name, "link", "set", "lo", "up")
    names = "".join(f"{service.address} {service.name}\n" for service in services)
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
    (folder / "pip").write_text("#!/bin/sh\nexit 0\n")  # what the images install is here already
    (folder / "pip").chmod(0o755)


@contextlib.contextmanager
def running(service: Service, folder: Path) -> Iterator[None]:
    """Run a service in its namespace; its output is in FOLDER/NAME.log."""
    inside = f"mount --bind {shlex.quote(str(folder / 'hosts'))} /etc/hosts && cd {ROOT} && exec {service.command}"
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    with (folder / f"{service.name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", service.name, "sh", "-c", inside],
            env={
                "PATH": path,
                "HOME": str(folder),
                "SHOP_DB": str(folder / "shop.db"),
                **SHOP_SETTINGS,
                **service.environment,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(_PATIENCE)


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the sender closes."""
    with contextlib.suppress(ConnectionError), contextlib.closing(writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def published(service: Service) -> AsyncIterator[None]:
    """Publish the ports of a service on localhost."""
    async with contextlib.AsyncExitStack() as stack:
        for outer, inner in service.ports:

            async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inner: int = inner) -> None:
                try:
                    there, back = await asyncio.open_connection(service.address, inner)
                except OSError:
                    writer.close()
                    return
                await asyncio.gather(relay(reader, back), relay(there, writer))

            await stack.enter_async_context(await asyncio.start_server(connect, "localhost", outer))
        yield


async def until_served(http: aiohttp.ClientSession, url: str) -> None:
    """Wait until a page is there."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)


async def final_record(http: aiohttp.ClientSession, sandbox: str, key: str) -> dict[str, Any]:
    """Return the sandbox's record when both of the session's callbacks have ended."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            headers = {"Authorization": f"Basic {key}"}
            async with http.get(f"{sandbox}/_sandbox/record", headers=headers, raise_for_status=True) as response:
                record: dict[str, Any] = await response.json()
            if len(record["callbacks"]) >= 2:
                return record
            await asyncio.sleep(0.1)


async def buy(folder: Path, key: str) -> dict[str, Any]:
    """Buy a mug in a browser; returns where the browser was, and the sandbox's record."""
    sandbox, shop = "http://localhost:8000", "http://localhost:8080"
    seen = []
    chrome = await asyncio.to_thread(driver.start, folder / "profile")
    try:
        browser = Browser(chrome)
        async with aiohttp.ClientSession() as http:
            await until_served(http, f"{sandbox}/")
            await until_served(http, f"{shop}/")
            await browser.open(f"{shop}/")
            for button in ("Buy the mug", "Buy"):
                await browser.press(button)
                seen.append(await browser.url())
            await browser.until("return document.body?.innerText.includes('paid, thank you!')")
            record = await final_record(http, sandbox, key)
        return {"seen": seen, "complaints": await browser.complaints(), "record": record}
    finally:
        await asyncio.to_thread(chrome.quit)


async def play(services: list[Service], folder: Path) -> dict[str, Any]:
    """Run the services and buy."""
    async with contextlib.AsyncExitStack() as stack:
        for service in services:
            stack.enter_context(running(service, folder))
            await stack.enter_async_context(published(service))
        return await buy(folder, services[0].environment["KUSTOM_HPP_API_KEY"])


def main() -> None:
    """Play the compose file of a README."""
    if sys.argv[-1] != "inside":
        os.execvp(UNSHARE[0], [*UNSHARE, sys.executable, "-m", __spec__.name, *sys.argv[1:], "inside"])
    readme, folder = map(Path, sys.argv[1:3])
    services = read_services(readme)
    lay_network(services, folder)
    print(json.dumps(asyncio.run(play(services, folder))))


if __name__ == "__main__":
    main()
