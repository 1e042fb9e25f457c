"""A journal on a disk that fails: `python -m tests.batch.disk [--most N]`.

Each trial runs 8 workers over a journal in a process of its own and lets its disk fail: the N-th sync ends with EIO, or the
N-th write with ENOSPC (strace injects it, once: the disk is "well" again at once), the file system is full (a tiny tmpfs), or
the file may grow no longer (RLIMIT_FSIZE). Then the journal must have said JournalError to every call since, and have
synced nothing any more; and what it had acknowledged must be there when it is opened again, and nothing that it denied as
a fact. A control does the same with a journal that acknowledges what failed, and must be noticed. The exit code is 1 where
that is not so, or where a trial could not be made; the last lines are the journal's
speed, in records (claims and outcomes) per second.
"""

import argparse
import asyncio
import contextlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import field, frozen

from kustom_hpp.batch import Outcome, OutcomeState, SqliteJournal
from kustom_hpp.errors import JournalError
from kustom_hpp.models import Session
from tests.support.child_environment import unmeasured

SCOPE, DIGEST, WORKERS = "here", b"d" * 32, 8
ROWS = 6
"""Of each worker."""
SYNCS = "fsync,fdatasync"


@frozen
class Seen:
    """What the journal reported to one trial's process."""

    claimed: set[str] = field(factory=set)
    created: set[str] = field(factory=set)
    denied: set[str] = field(factory=set)
    """Rows whose claim was refused by JournalError."""
    after: int = 0
    """Calls that were acknowledged after the first JournalError: none may be."""
    reported: bool = False
    """Whether any call, of whatever kind, was refused by JournalError."""


def outcome(key: str) -> Outcome:
    session = Session(session_id=f"id-{key}", redirect_url="https://pay.example/" + "x" * 300)
    return Outcome(key=key, state=OutcomeState.CREATED, session=session, attempts=1)


class Careless:
    """The control: a journal that acknowledges what its file refused."""

    def __init__(self, path: str) -> None:
        self._journal = SqliteJournal(path, scope=SCOPE)

    async def claim(self, *arguments: Any) -> None:
        with contextlib.suppress(JournalError):
            await self._journal.claim(*arguments)

    async def settle(self, *arguments: Any) -> None:
        with contextlib.suppress(JournalError):
            await self._journal.settle(*arguments)

    async def aclose(self) -> None:
        await self._journal.aclose()


async def child(path: str, rows: int, *, careless: bool) -> None:
    """Work, and tell each acknowledgement when it comes."""
    journal = Careless(path) if careless else SqliteJournal(path, scope=SCOPE)

    async def worker(number: int) -> None:
        for row in range(rows):
            key = f"{number}-{row}"
            for what in ("claim", "create"):
                try:
                    await (journal.claim(key, None, DIGEST) if what == "claim" else journal.settle(key, outcome(key)))
                except JournalError:
                    print("denied", what, key)
                else:
                    print("done", what, key)

    await asyncio.gather(*(worker(number) for number in range(WORKERS)))
    await journal.aclose()
    print("end", flush=True)


def run(path: Path, *prefix: str, rows: int = ROWS, limit: int | None = None, careless: bool = False) -> Seen:
    """Run a child, and read what its journal reported."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*prefix, sys.executable, "-W", "error", "-m", "tests.batch.disk", "--child", str(path), str(rows)]
    command += ["--careless"] * careless
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=unmeasured(), preexec_fn=small if limit else None
    )
    lines = done.stdout.splitlines()
    if lines[-1:] != ["end"] or done.stderr:
        raise AssertionError(f"the child did not come to its end: {done.stdout[-300:]} {done.stderr[-1000:]}")
    claimed, created, denied = set[str](), set[str](), set[str]()
    after, failed = 0, False
    for word, what, key in (line.split() for line in lines[:-1]):
        if word == "done":
            (claimed if what == "claim" else created).add(key)
            after += failed
        else:
            failed = True
            if what == "claim":
                denied.add(key)
    return Seen(claimed, created, denied, after, failed)


async def complaints(path: Path, seen: Seen) -> list[str]:
    """What is wrong with a journal after its trial."""
    found: list[str] = [f"{seen.after} acknowledged after an error"] * bool(seen.after)
    states = {}
    try:
        async with SqliteJournal(path, scope=SCOPE) as journal:
            async for row in journal.rows():
                states[row.key] = row.outcome.state
                if row.outcome.session is not None and row.outcome.session.session_id != f"id-{row.key}":
                    found.append(f"{row.key} has another session")
    except JournalError as error:
        return [*found, f"not opened again: {error}"]
    found += [f"{key} was claimed, and is lost" for key in seen.claimed - set(states)]
    found += [f"{key} was created, and is {states.get(key)}" for key in seen.created if states.get(key) != "created"]
    # A write that failed may nevertheless be there: then the row was never sent, and is in doubt, which is the safe side.
    found += [f"{key} was denied, and is {states[key]}" for key in seen.denied if states.get(key) == "created"]
    return found


def injected(folder: Path, calls: str, error: str, number: int) -> tuple[list[str], bool]:
    """One trial with strace: complaints, and whether a call failed that the journal must notice."""
    folder.mkdir()
    log = folder / "strace"
    prefix = ["strace", "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={calls}"]
    seen = run(folder / "journal.db", *prefix, "-e", f"inject={calls}:error={error}:when={number}")
    lines = log.read_text().splitlines()
    hits = [place for place, line in enumerate(lines) if "(INJECTED)" in line]
    found = asyncio.run(complaints(folder / "journal.db", seen))
    if hits and "fdatasync" in lines[hits[0]] and "journal.db" not in lines[hits[0]]:
        # SQLite's sync of the folder: it does not look at the result, and the journal has synced the folder itself.
        return found, False
    # In closing there is nobody to tell, and nothing to lose: the log stays.
    if hits and not seen.reported and len(seen.created) < WORKERS * ROWS:
        found.append(f"{lines[hits[0]]}: no call failed")
    if hits and calls == SYNCS and lines[hits[0] + 1 :]:
        found.append(f"synced again: {lines[hits[0] + 1 :]}")
    return found, bool(hits)


@contextlib.contextmanager
def tiny_disk(size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True, capture_output=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def full(folder: Path, size: int) -> list[str]:
    """One trial on a full file system; judged on a copy, as who frees space would see it."""
    folder.mkdir()
    with tiny_disk(size) as disk:
        seen = run(disk / "journal.db")
        for file in disk.iterdir():
            shutil.copy(file, folder)
    return ([] if seen.reported else ["no call failed"]) + asyncio.run(complaints(folder / "journal.db", seen))


def limited(folder: Path, size: int, *, careless: bool = False) -> list[str]:
    """One trial with files that cannot grow."""
    folder.mkdir()
    seen = run(folder / "journal.db", limit=size, careless=careless)
    return ([] if seen.reported else ["no call failed"]) + asyncio.run(complaints(folder / "journal.db", seen))


async def speed(folder: Path, writers: int, seconds: float) -> float:
    """Records per second that so many writers come to."""
    count, end = 0, time.monotonic() + seconds
    async with SqliteJournal(folder / f"speed-{writers}.db", scope=SCOPE) as journal:

        async def writer(number: int) -> None:
            nonlocal count
            row = 0
            while time.monotonic() < end:
                key = f"{number}-{(row := row + 1)}"
                await journal.claim(key, f"https://api.example/orders/{key}", DIGEST)
                await journal.settle(key, outcome(key))
                count += 2

        started = time.monotonic()
        await asyncio.gather(*(writer(number) for number in range(writers)))
        return count / (time.monotonic() - started)


def main() -> int:
    """Do all trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=60, help="inject at the 1st to this one")
    parser.add_argument("--child", nargs=2)
    parser.add_argument("--careless", action="store_true")
    options = parser.parse_args()
    if options.child:
        asyncio.run(child(options.child[0], int(options.child[1]), careless=options.careless))
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = [0, *range(8 * 1024, 200 * 1024, 8 * 1024)]
        for title, call, numbers in [
            ("EIO from fsync, fdatasync", lambda n: injected(folder / f"sync{n}", SYNCS, "EIO", n), options.most),
            ("ENOSPC from pwrite64", lambda n: injected(folder / f"write{n}", "pwrite64", "ENOSPC", n), options.most),
        ]:
            reported = {n: call(n) for n in range(1, numbers + 1)}
            wrong += report(title, {str(n): found for n, (found, _) in reported.items()})
            print(f"  of these failed what the journal must notice: {sum(hit for _, hit in reported.values())}")
        wrong += report("RLIMIT_FSIZE", {str(n): limited(folder / f"limit{n}", n) for n in sizes if n})
        control = [limited(folder / f"control{n}", n, careless=True) for n in sizes[6:12:2]]
        noticed = sum(any("is lost" in sentence for sentence in found) for found in control)
        print(f"control: a journal that acknowledges what failed: {noticed} of {len(control)} noticed")
        wrong += not noticed
        try:
            wrong += report("full tmpfs", {str(n): full(folder / f"full{n}", n) for n in sizes if n})
        except subprocess.CalledProcessError as error:
            print(f"full tmpfs: NOT MADE, it cannot be mounted here ({error.stderr.decode().strip()})")
            wrong += 1
        for writers in (1, 32, 256):
            print(f"{writers:4} writers: {asyncio.run(speed(folder, writers, 3)):8.0f} records/s", flush=True)
    return 1 if wrong else 0


def report(title: str, found: dict[str, list[str]]) -> int:
    """Print what was found; how many trials went wrong."""
    wrong = {number: complaint for number, complaint in found.items() if complaint}
    print(f"{title}: {len(found)} trials, {len(wrong)} wrong", flush=True)
    for number, complaint in wrong.items():
        print(f"  {number}: {complaint[:3]}")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
