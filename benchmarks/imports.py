"""CPU of `from kustom_hpp import HPPClient` next to `import aiohttp`, each in fresh interpreters that alternate."""

import statistics
import subprocess
import sys
import tempfile

from benchmarks.environment import child_environment
from benchmarks.report import Figure, Section

ABOUT = "CPU of importing, in fresh interpreters, import aiohttp = 1"
TARGET = 1.20
_CODE = "import time; began = time.process_time(); {}; print(time.process_time() - began)"
_AIOHTTP, _OURS, _AGAIN = "import aiohttp", "from kustom_hpp import HPPClient", "import aiohttp "


def measure(*, rounds: int) -> Section:
    """The section.

    Args:
        rounds: interpreters for each import, after one that leaves the compiled files behind.

    """
    with tempfile.TemporaryDirectory() as compiled:
        return _measure(rounds, compiled)


def _measure(rounds: int, compiled: str) -> Section:
    names = [_AIOHTTP, _OURS, _AGAIN]  # the same again shows the noise
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            spent = _import(name, compiled)
            if number:
                seconds[name].append(spent)
    peer = f"import aiohttp, {statistics.median(seconds[_AIOHTTP]) * 1e3:.0f} ms"
    figures = []
    for name, what, target in ((_OURS, _OURS, TARGET), (_AGAIN, "import aiohttp again", None)):
        ratios = [ours / theirs for ours, theirs in zip(seconds[name], seconds[_AIOHTTP], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        note = f"{statistics.median(seconds[name]) * 1e3:.0f} ms" if target else "noise: 1.00 if there were none"
        figures.append(Figure(what=what, peer=peer, value=median, spread=(low, high), at_most=target, note=note))
    return Section("imports", ABOUT, figures)


def _import(statement: str, compiled: str) -> float:
    # An installed package is compiled; a checkout may not be, where the environment forbids to write the files. So all of
    # them are compiled here, into a folder of their own, by the round that does not count.
    environment = child_environment() | {"PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", _CODE.format(statement)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return float(done.stdout)
