"""Inputs for `kustom-hpp batch`, and what came out."""

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from kustom_hpp.sandbox.threaded import ThreadedSandbox

BASE = "https://api.playground.kustom.co"


def order(number: int, base: str = BASE) -> str:
    """The URL of a KCO order."""
    return f"{base}/checkout/v3/orders/{uuid.UUID(int=number)}"


def line(number: int, **fields: Any) -> str:
    """A good line of JSONL."""
    return json.dumps({"key": f"row {number}", "request": {"payment_session_url": order(number), **fields}})


def write(path: Path, rows: int) -> str:
    """A file of good rows; its name."""
    path.write_text("".join(f"{line(number)}\n" for number in range(rows)))
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of an output."""
    return [json.loads(text) for text in path.read_bytes().splitlines()]


def states(path: Path) -> dict[str | None, str]:
    """The state of each key; fails where a key has two lines."""
    lines = read(path)
    found = {row["key"]: row["state"] for row in lines}
    assert len(found) == len(lines)
    return found


def made(sandbox: ThreadedSandbox) -> Counter[str]:
    """How many sessions each order has."""
    return Counter(created.payment_session_url for created in sandbox.record.created)
