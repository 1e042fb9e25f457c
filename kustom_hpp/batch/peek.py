"""What a journal's file says about itself, read without opening it as a journal: nothing is made, locked or changed."""

import contextlib
import sqlite3
from pathlib import Path

from kustom_hpp.errors import JournalError


def read_scope(path: str) -> str:
    """The scope that was recorded when a journal was made, for who wants to look at it and has no client.

    Args:
        path: the journal's file.

    Raises:
        JournalError: there is no such file, or it is no journal.

    """
    file = Path(path).resolve()
    if not file.is_file():
        msg = f"there is no journal {path}"
        raise JournalError(msg)
    try:
        # Immutable: without a look at the write-ahead log, which would leave traces. The scope is older than any log.
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)) as database:
            [[scope]] = database.execute("SELECT scope FROM about")
    except (sqlite3.Error, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
    else:
        return str(scope)
    msg = f"{path} is not a journal of this library, or it is damaged ({why})"
    raise JournalError(msg, cause=why)
