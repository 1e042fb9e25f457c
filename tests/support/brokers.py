"""RabbitMQ and NATS of our own: each in a temporary folder, on free ports, for one proof."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.postgres import free_port

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_START = 60.0


@contextlib.contextmanager
def rabbitmq() -> Iterator[str]:
    """Start RabbitMQ; yield its URL."""
    port, distribution = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="kustom_hpp-rabbitmq-") as folder:
        environment = {
            **os.environ,
            "HOME": folder,  # of the cookie
            "RABBITMQ_NODENAME": f"proof{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
        }
        with _running([str(RABBITMQ)], port, environment):
            yield f"amqp://guest:guest@127.0.0.1:{port}//"


@contextlib.contextmanager
def nats() -> Iterator[str]:
    """Start NATS with JetStream; yield its URL."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="kustom_hpp-nats-") as folder:
        command = [str(shutil.which("nats-server")), "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", folder]
        with _running(command, port, dict(os.environ)):
            yield f"nats://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            deadline = time.monotonic() + _START
            while not _accepts(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise RuntimeError(f"{command[0]} does not listen: {output.read().decode()[-2000:]}")
                time.sleep(0.05)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
