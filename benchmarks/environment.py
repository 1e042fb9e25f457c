"""The machine, and the fresh interpreters that measurements run in."""

import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


def child_environment(*, more_paths: Sequence[str] = ()) -> dict[str, str]:
    """The environment of a child: it imports these benchmarks, and what we import, from the same places."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), *more_paths]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def in_fresh_interpreter(task: str, arguments: dict[str, Any], *, orjson: bool = True, path: Sequence[str] = ()) -> Any:
    """Run a task of `benchmarks.child` in an interpreter of its own, and give what it found.

    Args:
        task: its name.
        arguments: for the task; plain JSON values.
        orjson: False blocks orjson, whether it is installed or not.
        path: more places to import from, after all others.

    Raises:
        RuntimeError: the child failed; with what it said.

    """
    order = json.dumps({"task": task, "arguments": arguments, "orjson": orjson})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", order],
        env=child_environment(more_paths=path),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{task} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def has_orjson() -> bool:
    """Whether the extra `speed` is installed."""
    return importlib.util.find_spec("orjson") is not None


def facts() -> dict[str, str]:
    """What figures depend on: shown above them."""
    from aiohttp.http_parser import HttpResponseParser, HttpResponseParserPy
    from multidict import CIMultiDict

    compiled = [
        HttpResponseParser is not HttpResponseParserPy,
        CIMultiDict.__module__ == "multidict._multidict",
        importlib.util.find_spec("yarl._quoting_c") is not None,
    ]
    names = [name for name, is_compiled in zip(("aiohttp", "multidict", "yarl"), compiled, strict=True) if is_compiled]
    load = " ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}",
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}, load {load}",
        "aiohttp": version("aiohttp"),
        "C extensions": (", ".join(names) or "none") + ("" if all(compiled) else ": slower without the others"),
        "orjson": version("orjson") if has_orjson() else "not installed (extra `speed`)",
    }
