"""The seal: a small file beside a journal that says up to which transaction the journal had come.

SQLite takes the end of a damaged or missing write-ahead log for the end of what was written: a single flipped bit there,
or a copy of the journal without its log, and the last rows would be forgotten and sent again. The seal is written after
a transaction is durable and before anybody is told so; a journal that has come less far than its seal was damaged.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from kustom_hpp.errors import JournalError

_LAYOUT: Final = "<16sQ"
_SIZE: Final = struct.calcsize(_LAYOUT) + 4


class Seal:
    """The seal of one journal, held open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def check(self, identity: bytes, turn: int) -> None:
        """Refuse a journal that has come less far than its seal. A missing seal, or another journal's, says nothing.

        Raises:
            JournalError: it has; or the seal is damaged.

        """
        try:
            with self._path.open("rb") as file:
                content = file.read(_SIZE + 1)
        except FileNotFoundError:
            return
        if not content:  # made, and never written
            return
        if len(content) != _SIZE or struct.unpack("<I", content[-4:])[0] != zlib.crc32(content[:-4]):
            raise JournalError(
                f"the seal {self._path} is damaged: with it, nobody can tell whether the journal is whole. "
                "If you know that it is, remove the seal"
            )
        sealed_identity, sealed_turn = struct.unpack(_LAYOUT, content[:-4])
        if sealed_identity == identity and sealed_turn > turn:
            raise JournalError(
                f"the journal has lost its end: it has come to transaction {turn}, and its seal says {sealed_turn} "
                "(damage, or a copy without its -wal file, or an older copy). Rows that it has forgotten would be sent "
                f"again. If you accept that, remove {self._path}"
            )

    def open(self, identity: bytes, turn: int) -> None:
        """Hold the seal open, made durable once: from then on writing it allocates nothing."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(handle, "r+b", buffering=0)
        self.write(identity, turn)
        os.fsync(handle)

    def write(self, identity: bytes, turn: int) -> None:
        """Say that the journal has come to a transaction. Not synced: the next transaction's sync may come first."""
        if self._file is None:
            return
        content = struct.pack(_LAYOUT, identity, turn)
        self._file.seek(0)
        self._file.write(content + struct.pack("<I", zlib.crc32(content)))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
