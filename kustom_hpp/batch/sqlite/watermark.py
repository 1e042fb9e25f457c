"""The commit watermark: a small file next to a journal with the number of its last transaction.

SQLite takes the end of a damaged or missing write-ahead log for the end of what was written. A single flipped bit there, or
a copy of the journal without its log, and the last rows would be forgotten and sent again. The watermark is written when a
transaction is durable and before its results are delivered: a journal that ends before its watermark was damaged.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from kustom_hpp.errors import JournalError

_LAYOUT: Final = "<16sQ"
_SIZE: Final = struct.calcsize(_LAYOUT) + 4


class CommitWatermark:
    """The watermark file of one journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def check(self, identity: bytes, transaction_id: int) -> None:
        """Refuse a journal that ends before its watermark.

        A missing watermark, or one of another journal, proves nothing.

        Raises:
            JournalError: the journal ends too early, or the watermark is damaged.

        """
        try:
            with self._path.open("rb") as file:
                content = file.read(_SIZE + 1)
        except FileNotFoundError:
            return
        if not content:  # created, and never written
            return
        if len(content) != _SIZE or struct.unpack("<I", content[-4:])[0] != zlib.crc32(content[:-4]):
            raise JournalError(
                f"the watermark {self._path} is damaged, so the journal may have lost its last rows. If you know that it "
                "has not, remove the watermark"
            )
        expected_identity, expected = struct.unpack(_LAYOUT, content[:-4])
        if expected_identity == identity and expected > transaction_id:
            raise JournalError(
                f"the journal has lost its end: its last transaction is {transaction_id}, and its watermark says "
                f"{expected} (damage, a copy without its -wal file, or an older copy). The lost rows would be sent again. "
                f"If you accept that, remove {self._path}"
            )

    def open(self, identity: bytes, transaction_id: int) -> None:
        """Open the file and make it durable: later writes allocate nothing."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(handle, "r+b", buffering=0)
        self.write(identity, transaction_id)
        os.fsync(handle)

    def write(self, identity: bytes, transaction_id: int) -> None:
        """Record that a transaction is durable. Not synced: the sync of the next transaction may come first."""
        if self._file is None:
            return
        content = struct.pack(_LAYOUT, identity, transaction_id)
        self._file.seek(0)
        self._file.write(content + struct.pack("<I", zlib.crc32(content)))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
