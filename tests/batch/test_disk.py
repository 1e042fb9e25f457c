"""A share of what `python -m tests.batch.disk` does whole; strace and a mount are asked for there, and a limit everywhere."""

import asyncio
from pathlib import Path

import pytest

from kustom_hpp import errors
from kustom_hpp.batch import SqliteJournal
from tests.batch import disk


@pytest.mark.parametrize("size", [8, 24, 40, 64, 104])
def test_files_that_cannot_grow(tmp_path: Path, size: int) -> None:
    assert disk.limited(tmp_path / "disk", size * 1024) == []


def test_a_disk_that_is_well(tmp_path: Path) -> None:
    seen = disk.run(tmp_path / "journal.db")
    assert (len(seen.claimed), len(seen.created), seen.denied) == (48, 48, set())
    assert asyncio.run(disk.complaints(tmp_path / "journal.db", seen)) == []


def test_the_judge_sees_what_is_lost(tmp_path: Path) -> None:
    disk.run(tmp_path / "journal.db")
    seen = disk.Seen({"0-0", "lost"}, {"0-1", "never"}, {"0-2"}, 1)
    reported = asyncio.run(disk.complaints(tmp_path / "journal.db", seen))
    assert reported == [
        "1 acknowledged after an error",
        "lost was claimed, and is lost",
        "never was created, and is None",
        "0-2 was denied, and is created",
    ]


async def test_a_full_device_is_no_journal() -> None:
    with pytest.raises(errors.JournalError):
        await SqliteJournal("/dev/full", scope="here").__aenter__()
