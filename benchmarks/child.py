"""Where a measurement runs: `python -m benchmarks.child '{"task": ..., "arguments": {...}, "orjson": true}'`.

The last line that it writes is what it found, as JSON.
"""

import asyncio
import importlib
import json
import sys

TASKS = {
    "overhead": ("benchmarks.overhead", "task"),
    "generated": ("benchmarks.generated", "task"),
    "growth": ("benchmarks.memory", "growth_task"),
    "idle": ("benchmarks.memory", "idle_task"),
    "callbacks": ("benchmarks.callbacks", "task"),
    "batch": ("benchmarks.batch", "cpu_task"),
    "sync": ("benchmarks.sync", "task"),
    "batch-first": ("benchmarks.batch", "first_task"),
    "batch-peak": ("benchmarks.batch", "peak_task"),
}


def main() -> None:
    """Run the task that the argument names."""
    order = json.loads(sys.argv[1])
    if not order["orjson"]:
        sys.modules["orjson"] = None  # type: ignore[assignment] # importing it fails as if it were not installed
    module, name = TASKS[order["task"]]
    # Imported only now, so that a blocked library stays out.
    task = getattr(importlib.import_module(module), name)
    print(json.dumps(asyncio.run(task(**order["arguments"]))))


if __name__ == "__main__":
    main()
