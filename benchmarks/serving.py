"""A server in a process of its own that reports its own CPU: `python -m benchmarks.serving bare|sandbox`.

`bare` is an aiohttp.web application whose one handler reads the body and returns a fixed 201, `sandbox` is what `kustom-hpp
sandbox` runs. Its first line is its base URL; for each line that it reads it writes {"cpu": seconds, "created": sessions}.
It ends with its standard input.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from benchmarks import payloads
from benchmarks.environment import child_environment
from kustom_hpp.cli.sandbox.command import REMEMBERED
from kustom_hpp.sandbox import Sandbox

Served = tuple[str, Callable[[], int]]
"""The base URL, and how many sessions were created."""


@asynccontextmanager
async def bare() -> AsyncIterator[Served]:
    """A bare handler."""
    count = 0

    async def create(request: web.Request) -> web.Response:
        nonlocal count
        await request.read()
        count += 1
        return web.Response(status=201, body=payloads.RESPONSE_BODY, content_type="application/json")

    app = web.Application()
    app.router.add_post(payloads.CREATE_PATH, create)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", lambda: count
    finally:
        await runner.cleanup()


@asynccontextmanager
async def sandbox() -> AsyncIterator[Served]:
    """The sandbox, with the settings of `kustom-hpp sandbox`."""
    async with Sandbox(api_key=payloads.API_KEY, remember=REMEMBERED) as server:
        yield server.base_url, lambda: server.record.counts.created


async def serve(kind: str) -> None:
    """Serve until standard input ends."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    async with {"bare": bare, "sandbox": sandbox}[kind]() as (base_url, created):
        print(base_url, flush=True)

        def report() -> None:
            print(json.dumps({"cpu": time.process_time(), "created": created()}), flush=True)

        def listen() -> None:
            for _ in sys.stdin:
                loop.call_soon_threadsafe(report)
            loop.call_soon_threadsafe(over.set)

        threading.Thread(target=listen, daemon=True).start()
        await over.wait()


class Process(AbstractContextManager["Process"]):
    """One such process, for the length of a `with`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving", self.kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(), text=True,
        )  # fmt: skip
        self.base_url = self._line().strip()
        return self

    def report(self) -> dict[str, Any]:
        """Return the CPU and the number of sessions so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        reported: dict[str, Any] = json.loads(self._line())
        return reported

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
