"""The sandbox held against its own description by schemathesis: `python -m tests.sandbox.contract [--examples N] [--seed S]`.

It starts `kustom-hpp sandbox` as users do, and lets schemathesis (extra `lint`) send what /openapi.json allows and what it
does not: statuses, bodies, headers and content types must be as described, what fits must be taken, what does not must be
refused, nobody gets in without the key, and no answer is a 5xx. The exit code is 1 where one is not so.

Two checks do not apply everywhere. `use_after_free` takes DELETE for an end after which a read is 404: to disable a session
is none. And along chains of requests (`stateful`) what fits the description may be refused all the same, since the session
may be disabled by then: `positive_data_acceptance` is for the other phases.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from kustom_hpp.sandbox.endpoints.sessions import ENDPOINTS

RUNS = {
    "examples,coverage,fuzzing": ("use_after_free",),
    "stateful": ("use_after_free", "positive_data_acceptance"),
}
"""Phases of schemathesis, and the checks that do not apply to them."""


@contextmanager
def served() -> Iterator[dict[str, str]]:
    """A sandbox in a process of its own: its `base_url` and `api_key`."""
    command = [sys.executable, "-m", "kustom_hpp", "sandbox", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def run(where: dict[str, str], phases: str, without: tuple[str, ...], examples: int, seed: int) -> bool:
    """One run of schemathesis; whether it found nothing, in all operations."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{where['base_url']}/openapi.json",
        "--header", f"Authorization: Basic {where['api_key']}", "--phases", phases,
        "--checks", "all", "--exclude-checks", ",".join(without),
        "--max-examples", str(examples), "--continue-on-failure", "--no-color",
        "--seed", str(seed),
    ]  # fmt: skip
    # It writes what it found into the folder where it runs.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout.replace(where["api_key"], "..."))
    tested = re.search(r"Tested: (\d+)", done.stdout)
    return done.returncode == 0 and tested is not None and int(tested[1]) == len(ENDPOINTS)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=60, help="requests for each operation and phase")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other requests")
    given = parser.parse_args()
    with served() as where:
        good = [run(where, phases, without, given.examples, given.seed) for phases, without in RUNS.items()]
    print("nothing found" if all(good) else "FAILED")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
