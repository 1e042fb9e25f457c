"""The search for secrets: in everything that an error tells, and in everything that is told on the way to it."""

import logging
import pickle
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import aiohttp

import kustom_hpp as hpp

LIBRARIES = tuple(str(Path(str(module.__file__)).parent / "_")[:-1] for module in (hpp, aiohttp))


def all_errors(error: BaseException) -> Iterator[BaseException]:
    """An error and whatever hangs on it."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if any(found is other for other in seen):
            continue
        seen.append(found)
        waiting += [found.__cause__] if found.__cause__ is not None else []
        waiting += [found.__context__] if found.__context__ is not None else []
        waiting += [value for value in vars(found).values() if isinstance(value, BaseException)]
    yield from seen


def shown(value: object) -> str:
    """As a debugger shows it: a value that is only half made may have no repr yet."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - whatever a repr raises
        return f"<no repr: {error!r}>"


def frames_of(error: BaseException) -> Iterator[tuple[str, object]]:
    """The locals of every frame of the library's and of aiohttp's that a traceback goes through."""
    step: TracebackType | None = error.__traceback__
    while step is not None:
        frame = step.tb_frame
        if frame.f_code.co_filename.startswith(LIBRARIES):
            for name, value in frame.f_locals.items():
                yield f"local {name} of {frame.f_code.co_qualname}", value
        step = step.tb_next


def told_by(error: BaseException) -> Iterator[tuple[str, str]]:
    """All texts that an error gives away, each with where it was found."""
    for found in all_errors(error):
        name = type(found).__name__
        yield f"str of {name}", str(found)
        yield f"repr of {name}", repr(found)
        yield f"args of {name}", repr(found.args)
        yield f"__dict__ of {name}", repr(vars(found))
        for place, value in frames_of(found):
            yield place, shown(value)
        caught = traceback.TracebackException.from_exception(found, capture_locals=True)
        for line in caught.stack:
            if line.filename.startswith(LIBRARIES):
                yield f"traceback at {line.name}", repr(line.locals)
        if isinstance(found, hpp.HPPError):
            yield f"pickle of {name}", pickle.dumps(found).decode("latin-1")


def told_by_logs(records: Sequence[logging.LogRecord]) -> Iterator[tuple[str, str]]:
    """All texts of log records, their arguments and their tracebacks too."""
    formatter = logging.Formatter("%(message)s")
    for record in records:
        place = f"log of {record.name}"
        yield place, formatter.format(record)
        yield place, repr(record.args)
        if record.exc_info and record.exc_info[1] is not None:
            for where, text in told_by(record.exc_info[1]):
                yield f"{place}, {where}", text


def leaks(told: Iterator[tuple[str, str]], secrets: Sequence[str]) -> list[str]:
    """Where a secret was found."""
    return sorted({place for place, text in told for secret in secrets if secret in text})
