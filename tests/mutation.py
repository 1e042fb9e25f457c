"""Mutation testing of the rooms that decide: `python -m tests.mutation [--jobs N] [--only TEXT] [part of a file's name]`.

Each mutant is one small change to one file (a comparison, a constant, a boolean, a removed statement, a dropped element,
see `changes`), made in a copy of the project and met with the tests of that room. It is killed where they fail. The score
is killed / all; equivalent mutants are not taken out of it. Survivors are printed, with the reason where `SURVIVORS` has
one. The exit code is 1 where less than 90 % are killed in a file, or a survivor has no reason.

Implementation note: a runner of our own, because half of what matters here stands outside of functions
(PRE_SEND_EXCEPTIONS, the quota's numbers, the classes of a tuple), which mutmut leaves alone.
"""

import argparse
import ast
import copy
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from tests.support.mutants import changes

ROOT = Path(__file__).parent.parent
LEAST = 90.0
PATIENCE = 120.0
"""Seconds after which a mutant's tests count as hanging: killed."""


@frozen(kw_only=True)
class Room:
    """A file to change, and the tests that shall notice."""

    file: str
    tests: tuple[str, ...]
    only: str | None = None
    """The one module-level name whose statement is changed; None for the whole file."""


_RETRY = "kustom_hpp/retry.py"
_CALLBACKS = "kustom_hpp/callbacks.py"
_PACE = "kustom_hpp/pace.py"
_BREAKER = "kustom_hpp/batch/circuit_breaker.py"
_MAPPING = "tests/transport/test_exception_mapping.py"
ROOMS = (
    Room(file=_RETRY, tests=("tests/test_retry.py", "tests/test_retry_waits.py")),
    Room(file="kustom_hpp/transport/exception_mapping.py", tests=(_MAPPING,)),
    Room(file="kustom_hpp/transport/connector.py", tests=(_MAPPING,), only="PRE_SEND_EXCEPTIONS"),
    Room(file=_PACE, tests=("tests/test_pace.py", "tests/test_pace_learning.py")),
    # The rules are the same in each store: the one on a disk would take most of the time.
    Room(file="kustom_hpp/batch/journal_rules.py", tests=("tests/batch/test_journal.py", "-k", "not sqlite")),
    Room(
        file=_BREAKER,
        tests=("tests/batch/test_circuit_breaker_rules.py", "tests/batch/test_circuit_breaker.py"),
    ),
    Room(file=_CALLBACKS, tests=("tests/test_callbacks.py",)),
)

SURVIVORS: dict[str, str] = {
    f"{_PACE}: Pace.__init__: 1.0 -> +1": "the learned rate is never above the whole maximum, so more is the same",
    f"{_PACE}: Pace._apply_limit_headers: 1.0 -> +1": "the learned rate is never above the whole maximum",
    f"{_PACE}: Pace.acquire: return time.monotonic() removed": "the long way without a rate ends the same, only later",
    f"{_PACE}: Pace._wait: 0.0 -> +1": "`acquire` returns before without a rate: the lines are for the type checker",
    f"{_PACE}: Pace._take: self._full_at <= now -> Lt": "a bucket that is full at this very moment has had no pause to count",
    f"{_RETRY}: is_retryable: return False removed": ("what is no HPPError is none of the classes below it either"),
    f"{_RETRY}: run_with_retries: del failure, first removed": (
        "without it the same error is raised, and freed by the collector"
    ),
    f"{_RETRY}: _retry_with_tenacity: isinstance(error, DeadlineExceededError) and "
    "callbacks.last is not None -> without operand 2": (
        "a second attempt always comes after a wait, which sets it: the operand is for the type checker"
    ),
    f"{_RETRY}: _TenacityCallbacks.__init__: self.last: tuple[HPPError, Delivery | None] | None = None removed": (
        "the same: it is never read before it is set"
    ),
    f"{_RETRY}: _TenacityCallbacks.stop: 0.0 -> -1": "no cap is below 0, so no wish at all is below every cap either way",
    f"{_BREAKER}: CircuitBreaker.failed: self.half_open and generation == self.generation -> without operand 1": (
        "closing a breaker that is closed changes the doubts, which the next line sets, and the backoff, which is 0 then"
    ),
    **{
        f"{_BREAKER}: CircuitBreaker.{name}": "a function that ends returns None"
        for name in (
            "failed: return None removed",
            "failed: return None -> return None",
            "in_doubt: return None -> return None",
            "in_doubt: return None -> return None #2",
            "in_doubt: return None removed #3",
            "in_doubt: return None -> return None #3",
            "not_processed: return None removed",
            "not_processed: return None -> return None",
        )
    },
    f"{_PACE}: Pace.__init__: 1 -> -1 #2": "without a rate the burst is 1, whatever stands here",
    f"{_PACE}: Pace.record_response: return removed": "it only spares the usual case what would change nothing",
    f"{_PACE}: Pace._increase: self._full_at - now <= _IN_USE * self._burst_tolerance -> Lt": (
        "no clock hits the border of two floats"
    ),
    f"{_BREAKER}: CircuitBreaker: argument init=False dropped #8": "the class alone sets the field; no caller passes it",
    f"{_BREAKER}: CircuitBreaker._backoff: 16 -> +1": "the pause has its maximum from level 4 on",
    f"{_BREAKER}: CircuitBreaker._backoff: 16 -> -1": "the same",
    f"{_CALLBACKS}: _object: raise ValueError(f'is {{error}}') from None -> without its cause": (
        "what is raised in the end hangs on neither of the two"
    ),
    f"{_CALLBACKS}: _object: body.count(b'{{') + body.count(b'[') > _DEPTH and _is_deep(value) -> without operand 1": (
        "the first look only spares the second"
    ),
    f"{_CALLBACKS}: _object: body.count(b'{{') + body.count(b'[') > _DEPTH -> GtE": "the same",
    f"{_CALLBACKS}: _object: re.search(b'\\\\\\\\u[dD]', body) and (not _is_text(value)) -> without operand 1": "the same",
    f"{_CALLBACKS}: _details: return None removed": "a function that ends returns None",
    f"{_CALLBACKS}: _details: return None -> return None": "it is the same",
    f"{_CALLBACKS}: _is_text: return False -> return None": "None is no less false",
}
"""Why a mutant may live: its name as it is printed, and the reason."""


@frozen(kw_only=True)
class Mutant:
    room: Room
    name: str
    line: int
    source: str


def mutants(room: Room) -> Iterator[Mutant]:
    """Every mutant of a room."""
    tree = ast.parse((ROOT / room.file).read_text())
    seen: Counter[str] = Counter()
    sources = {ast.unparse(tree)}
    for path, line, what, change in changes(tree, room.only):
        source = ast.unparse(_changed(tree, path, change))
        if source in sources:
            continue  # no change, or one that was made already
        sources.add(source)
        name = f"{room.file}: {what}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" #{seen[name]}"
        yield Mutant(room=room, name=name, line=line, source=source)


def _changed(tree: ast.Module, path: tuple[Any, ...], change: Callable[[Any], Any]) -> ast.Module:
    """A copy of the tree in which the node at a path is another."""
    whole = copy.deepcopy(tree)
    parent: Any = whole
    for step in path[:-1]:
        parent = parent[step] if isinstance(step, int) else getattr(parent, step)
    last = path[-1]
    if isinstance(last, int):
        replacement = change(parent[last])
        parent[last : last + 1] = [] if replacement is None else [replacement]
    else:
        setattr(parent, last, change(getattr(parent, last)))
    return ast.fix_missing_locations(whole)


def _copy_of_the_project(to: Path) -> Path:
    for name in ("kustom_hpp", "tests"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


_QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
_PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout", "xdist.plugin", "kustom_hpp.testing.plugin")
"""All that these tests need: every other one that is installed would cost each mutant its import."""
_PRELOADED = (
    "aiohttp.web",
    "aiohttp.test_utils",
    "attrs",
    "blockbuster",
    "cattrs",
    "hypothesis",
    "multidict",
    "pytest",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "tenacity",
    "xdist.plugin",
    "yarl",
)
"""Libraries that a run of tests loads. Each mutant is met in a fork of this process, which spares it most of its start."""


def _start(project: Path, tests: tuple[str, ...], *, unchanged: bool = False) -> int:
    """Run tests against a copy in a forked process; return its id. It exits as pytest does."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        os.chdir(project)
        printed = os.open(project / "printed", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        for name in [name for name in sys.modules if name.partition(".")[0] in {"kustom_hpp", "tests"}]:
            del sys.modules[name]
        sys.path[:] = [str(project), *(path for path in sys.path if path not in {"", str(ROOT)})]
        # Bytecode of the unchanged files only: two mutants of one second and one size would share theirs.
        sys.dont_write_bytecode = not unchanged
        os.environ |= {"PYTHONPATH": str(project), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        os.environ |= {} if unchanged else {"PYTHONDONTWRITEBYTECODE": "1"}
        options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--timeout", "30", *_QUIET]
        options += [f"-p{plugin}" for plugin in _PLUGINS]
        code = int(importlib.import_module("pytest").main([*options, *tests]))
    except BaseException:  # noqa: BLE001 - a fork must not run on in its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(child: int, deadline: float) -> int | None:
    """Return the exit code of a fork that has ended; one that hangs is ended, and counts as a failure."""
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        code = os.waitstatus_to_exitcode(status)
        # 0 all passed, 1 a test failed, 2 not even collected: everything else says nothing about the mutant.
        if code not in {0, 1, 2}:
            raise RuntimeError(f"pytest ended with {code}")
        return code
    if time.monotonic() < deadline:
        return None
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1


def _judge(found: list[Mutant], projects: list[Path]) -> list[tuple[Mutant, bool]]:
    """Return each mutant, and whether the tests killed it; as many at a time as there are copies of the project."""
    waiting, verdicts = found[::-1], list[tuple[Mutant, bool]]()
    running: dict[int, tuple[Mutant, Path, bytes, float]] = {}
    while waiting or running:
        while waiting and projects:
            mutant, project = waiting.pop(), projects.pop()
            target = project / mutant.room.file
            original = target.read_bytes()
            target.write_text(mutant.source)
            child = _start(project, mutant.room.tests)
            running[child] = mutant, project, original, time.monotonic() + PATIENCE
        time.sleep(0.01)
        for child, (mutant, project, original, deadline) in list(running.items()):
            if (code := _end(child, deadline)) is not None:
                del running[child]
                (project / mutant.room.file).write_bytes(original)
                projects.append(project)
                verdicts.append((mutant, code != 0))
    return verdicts


def _run(room: Room, options: argparse.Namespace) -> bool:
    """Judge a room's mutants and print what came of it; True where all is well."""
    all_of_them = [mutant for mutant in mutants(room) if options.only in mutant.name][:: options.every]
    if not all_of_them:
        return True
    with tempfile.TemporaryDirectory() as scratch:
        first = _copy_of_the_project(Path(scratch) / "0")
        # A suite that fails by itself would kill every mutant.
        child = _start(first, room.tests, unchanged=True)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise SystemExit(f"the tests of {room.file} fail without any change:\n{(first / 'printed').read_text()}")
        for bytecode in (first / room.file).parent.glob(f"__pycache__/{Path(room.file).stem}.*"):
            bytecode.unlink()
        others = [Path(shutil.copytree(first, Path(scratch) / str(number))) for number in range(1, options.jobs)]
        projects = [first, *others]
        found = _judge(all_of_them, projects)
    survivors = [mutant for mutant, killed in found if not killed]
    score = 100 * (len(found) - len(survivors)) / len(found)
    print(f"{room.file}: {len(found) - len(survivors)} of {len(found)} killed ({score:.1f} %)")
    for mutant in survivors:
        print(f"  survived, line {mutant.line}: {mutant.name}\n    {SURVIVORS.get(mutant.name, 'NO REASON YET')}")
    return score >= LEAST and all(mutant.name in SURVIVORS for mutant in survivors)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Mutation testing; see the module.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="only mutants whose name has this text in it")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th mutant of a file")
    parser.add_argument("--tests", metavar="FILE", help="meet all mutants with these tests: a control")
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    parser.add_argument("rooms", nargs="*", help="parts of file names; all rooms if none is given")
    options = parser.parse_args()
    chosen = [room for room in ROOMS if not options.rooms or any(part in room.file for part in options.rooms)]
    if options.tests:
        chosen = [evolve(room, tests=(options.tests,)) for room in chosen]
    if options.list:
        for room in chosen:
            print(
                *(f"{mutant.line}: {mutant.name}" for mutant in mutants(room) if options.only in mutant.name), sep="\n"
            )
        return 0
    for library in _PRELOADED:
        importlib.import_module(library)
    verdicts = [_run(room, options) for room in chosen]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
