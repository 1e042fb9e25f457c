"""What becomes of a damaged journal: `python -m tests.batch.damage [--every N] [--jobs N] [name of a trial ...]`.

Flips every single bit (with `--every N` one bit of every N-th byte) of a small journal's file, of a write-ahead log that a
crash left, and of the watermark; and cuts the file and the log at every length. After each, the journal must be refused and
left byte for byte as it was, or give the same rows. A cut log must be refused, or give the same rows; if its watermark is
missing, too, the rows of an earlier committed state. The exit code is 1 where anything else happens.

As a control, the log's flips are done once more without the watermark: some must be missed then, or the watermark is
useless.
"""

import argparse
import concurrent.futures
import hashlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import frozen

from kustom_hpp.batch import Outcome, OutcomeState
from kustom_hpp.batch.journal_row import JournalRow
from kustom_hpp.batch.journal_rules import ClaimRow, SettleRow
from kustom_hpp.batch.sqlite.database import JournalDatabase
from kustom_hpp.errors import BadRequestError, JournalError, LostResponseError
from kustom_hpp.models import Session

NAME, SCOPE = "journal.db", "here"
FILE, WAL, WATERMARK = NAME, f"{NAME}-wal", f"{NAME}-watermark"
Rows = list[JournalRow]


@frozen
class Sample:
    """A journal as it lies on a disk, and all states that it was in."""

    files: dict[str, bytes]
    states: list[Rows]


def rows_of(file: JournalDatabase) -> Rows:
    return [row for _, row in file.rows.page(0, 1000)]


def _claim(key: str) -> ClaimRow:
    digest = hashlib.sha256(key.encode()).digest()
    return ClaimRow("run", key, f"https://api.example/{key}", digest, force=False)


def _settle(key: str, state: OutcomeState, length: int = 100) -> SettleRow:
    session = error = None
    if state is OutcomeState.CREATED:
        session = Session(session_id=f"id-{key}", redirect_url="https://pay.example/" + "x" * length)
    elif state is OutcomeState.FAILED:
        error = BadRequestError("no", status=400, code="BAD_VALUE", attempts=1)
    else:
        error = LostResponseError("gone", attempts=1)
    return SettleRow("run", key, Outcome(key=key, state=state, session=session, error=error, attempts=1))


def samples(folder: Path) -> tuple[Sample, Sample]:
    """A journal that was closed, and the same one after two more transactions and a crash."""
    path = folder / NAME
    file = JournalDatabase(str(path), SCOPE)
    file.execute([_claim(key) for key in "abcd"])
    long = _settle("a", OutcomeState.CREATED, length=5000)  # longer than a page
    file.execute([long, _settle("b", OutcomeState.FAILED), _settle("c", OutcomeState.IN_DOUBT)])
    states = [rows_of(file)]
    file.close()
    closed = Sample(_read(folder), states)
    file = JournalDatabase(str(path), SCOPE)
    file.execute([_claim("e")])
    states = [*states, rows_of(file)]
    file.execute([_settle("e", OutcomeState.CREATED)])
    states = [*states, rows_of(file)]
    crashed = Sample(_read(folder), states)
    file.close_without_writing()
    return closed, crashed


def _read(folder: Path) -> dict[str, bytes]:
    return _whole({name: (folder / name).read_bytes() for name in (FILE, WAL, WATERMARK) if (folder / name).exists()})


def _whole(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, without an empty log: that is none."""
    return {name: content for name, content in files.items() if content or name != WAL}


def verdict(folder: Path, files: dict[str, bytes], states: list[Rows], *, earlier: bool = False) -> str:
    """What the library makes of a journal: "refused", "same rows", "earlier state"; in capitals what must not be."""
    for name in (FILE, WAL, WATERMARK):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        file = JournalDatabase(str(folder / NAME), SCOPE)
    except JournalError:
        return "refused" if _read(folder) == _whole(files) else "REFUSED, BUT TOUCHED"
    except Exception as error:  # noqa: BLE001 - whatever else escapes is a find
        return f"RAISED {error!r}"
    try:
        rows = rows_of(file)
    except Exception as error:  # noqa: BLE001
        return f"OPENED, THEN {type(error).__name__}"
    finally:
        file.close_without_writing()
    if rows == states[-1]:
        return "same rows"
    if rows in states:
        return "earlier state" if earlier else "ROWS FORGOTTEN"
    return "ROWS MISREAD"


def flips(content: bytes, every: int) -> Iterator[bytes]:
    """The content with one bit flipped: each bit, or one bit of every so many bytes."""
    for place in range(0, len(content), every):
        for bit in range(8) if every == 1 else [place // every % 8]:
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            yield bytes(flipped)


def cuts(content: bytes, every: int) -> Iterator[bytes]:
    """The content cut at each length."""
    return (content[:length] for length in range(0, len(content), every))


Damage = Callable[[bytes, int], Iterator[bytes]]
TRIALS: dict[str, tuple[str, str, Damage, bool, set[str]]] = {
    # name: sample, file, damage, with the watermark, what may come of it
    "file, bits": ("closed", FILE, flips, True, {"refused", "same rows"}),
    "log, bits": ("crashed", WAL, flips, True, {"refused", "same rows"}),
    "watermark, bits": ("crashed", WATERMARK, flips, True, {"refused", "same rows"}),
    "file, cuts": ("closed", FILE, cuts, True, {"refused"}),
    "file with a log, cuts": ("crashed", FILE, cuts, True, {"refused"}),
    "log, cuts": ("crashed", WAL, cuts, True, {"refused", "same rows"}),
    "log without a watermark, cuts": ("crashed", WAL, cuts, False, {"refused", "earlier state", "same rows"}),
}
CONTROL = ("crashed", WAL, flips, False, {"refused", "same rows", "earlier state"})


def trial(name: str, every: int, part: int, parts: int) -> Counter[str]:
    """Do one trial's share of damages, in a folder of its own."""
    which, target, damage, marked, _ = TRIALS.get(name, CONTROL)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        sample = dict(zip(("closed", "crashed"), samples(made), strict=True))[which]
        place = Path(folder)
        files = {name: content for name, content in sample.files.items() if marked or name != WATERMARK}
        counted: Counter[str] = Counter()
        for number, damaged in enumerate(damage(sample.files[target], every)):
            if number % parts == part:
                counted[verdict(place, {**files, target: damaged}, sample.states, earlier=not marked)] += 1
        return counted


def main() -> int:
    """Do all trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    wrong = 0
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        for name in options.names or [*TRIALS, "control: log without a watermark, bits"]:
            started = time.monotonic()
            every = options.every if name in TRIALS else max(options.every, 7)
            shares = [pool.submit(trial, name, every, part, options.jobs) for part in range(options.jobs)]
            counted = sum((share.result() for share in shares), Counter[str]())
            reported = ", ".join(f"{what} {count}" for what, count in sorted(counted.items()))
            bad = set(counted) - TRIALS.get(name, CONTROL)[4]
            if name not in TRIALS and not counted["earlier state"]:
                bad.add("THE CONTROL SAW NOTHING")
            wrong += bool(bad)
            seconds = time.monotonic() - started
            print(f"{name:34} {counted.total():8} {seconds:6.0f} s   {reported} {'WRONG' if bad else ''}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
