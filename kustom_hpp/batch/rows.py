"""What goes into a run: items of any iterable, made rows; and which keys were seen of late."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Generator, Iterable, Iterator
from typing import Any

from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch.outcomes import BatchItem, Outcome
from kustom_hpp.errors import ConfigError, HPPError, InvalidRequestError
from kustom_hpp.models import CreateSessionRequest

Items = Iterable[CreateSessionRequest | BatchItem] | AsyncIterable[CreateSessionRequest | BatchItem]
WINDOW = 10_000
"""Keys, and session ids, that a run remembers at least: the newest."""
_KCO_PATH = "/checkout/v3/orders/"
_END = object()


class Row:
    """One row on its way through a run."""

    __slots__ = (
        "answered", "asked", "attempts", "claimed", "doubt", "flies", "key", "number", "problem", "request", "sent", "wave",
    )  # fmt: skip

    def __init__(self, number: int, key: str, request: CreateSessionRequest | None, problem: HPPError | None) -> None:
        self.number = number
        """Its place in the input, from 1."""
        self.key = key
        self.request: Any = request
        self.problem = problem
        """Why it cannot be sent; None for a good one."""
        self.attempts = 0
        self.asked: Awaitable[Any] | None = None
        """What the journal will say to its claim, where that was begun before its turn."""
        self.claimed = False
        """True once the journal holds its intent."""
        self.sent: HPPError | None = None
        """What it ended with where it was sent and was not processed."""
        self.doubt: Outcome | None = None
        """The outcome in doubt of an earlier run, which this one sends again."""
        self.wave = 0
        self.flies = False
        """True while it is with `create`."""
        self.answered: Outcome | None = None
        """How it ended, while the journal is told."""


def _read(item: object, number: int) -> Row:
    """A row of an item, whatever the item is."""
    if type(item) is CreateSessionRequest:
        key, request = item.payment_session_url, item
    elif type(item) is BatchItem:
        key, request = item.key, item.request
    else:
        return _bad(number, None, "$", f"must be a CreateSessionRequest or a BatchItem, got a {type(item).__name__}")
    if type(key) is not str or not key:
        where = "payment_session_url" if item is request else "key"
        return _bad(number, None, where, f"must be a text that is not empty, got a {type(key).__name__}")
    if type(request) is not CreateSessionRequest:
        return _bad(number, key, "request", f"must be a CreateSessionRequest, got a {type(request).__name__}")
    return Row(number, key, request, None)


def _bad(number: int, key: str | None, path: str, sentence: str) -> Row:
    problem = InvalidRequestError(problems=((path, sentence),))
    return Row(number, f"#{number}" if key is None else key, None, problem)


def digest_of(request: CreateSessionRequest) -> bytes:
    """What tells one payload from another: SHA-256 of its JSON.

    Raises:
        InvalidRequestError: it cannot be written as JSON.

    """
    try:
        return hashlib.sha256(codec().encode(request)).digest()
    except (TypeError, ValueError, AttributeError, RecursionError):
        problems = request.problems() or (("$", "cannot be written as JSON"),)
    raise InvalidRequestError(problems=problems)


def order_of(request: CreateSessionRequest) -> str | None:
    """The URL of the KCO order that it is for, which may have one session only; None for another payment session."""
    url = request.payment_session_url
    return url if isinstance(url, str) and _KCO_PATH in url else None


class Recent:
    """The newest texts of a long stream, each with what belongs to it: `size` of them at least, twice as many at most.

    Implementation note: two generations, the older one thrown away as a whole. A dict that loses its oldest entry each time
    would be looked through from its start for every one.
    """

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._newer: dict[str, str] = {}
        self._older: dict[str, str] = {}

    def add(self, text: str, value: str) -> str | None:
        """Remember a text; what belonged to it where it was known already, and None where it is new."""
        known = self._newer.get(text) or self._older.get(text)
        if known is None:
            self._newer[text] = value
            if len(self._newer) >= self._size:
                self._older, self._newer = self._newer, {}
        return known


class Source:
    """The items of a run, read one by one as they are asked for.

    Raises:
        ConfigError: there is nothing to iterate.

    """

    def __init__(self, items: Items) -> None:
        if not isinstance(items, (AsyncIterable, Iterable)):
            msg = f"items must be an iterable or async iterable of requests or BatchItems, got a {type(items).__name__}"
            raise ConfigError(msg)
        self._later: AsyncIterator[Any] | None = aiter(items) if isinstance(items, AsyncIterable) else None
        self._now: Iterator[Any] = iter(()) if isinstance(items, AsyncIterable) else iter(items)
        self._keys = Recent()
        self.is_async = self._later is not None
        self.exhausted = False
        self.pulled = 0

    def take(self) -> Row | None:
        """The next row of a plain iterable; None at its end."""
        item = next(self._now, _END)
        return self._row(item)

    async def take_later(self) -> Row | None:
        """The next row of an async iterable; None at its end."""
        assert self._later is not None  # noqa: S101 - for the type checker
        return self._row(await anext(self._later, _END))

    async def aclose(self) -> None:
        """Close a generator: nobody else has it."""
        self.exhausted = True
        if isinstance(self._later, AsyncGenerator):
            await self._later.aclose()
        elif isinstance(self._now, Generator):
            self._now.close()

    def _row(self, item: object) -> Row | None:
        if item is _END:
            self.exhausted = True
            return None
        self.pulled += 1
        row = _read(item, self.pulled)
        if row.problem is None and (first := self._keys.add(row.key, str(self.pulled))) is not None:
            row.problem = InvalidRequestError(
                problems=(("key", f"is repeated: row {first} of this run has it already"),)
            )
        return row
