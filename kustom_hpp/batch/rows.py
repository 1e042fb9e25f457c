"""The input of a run: items of any iterable, as rows; and the recent keys of a stream."""

import hashlib
from asyncio import Future
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Any

from attrs import define

from kustom_hpp._protocol.codec import codec
from kustom_hpp.batch.journal import Claimed
from kustom_hpp.batch.outcomes import BatchItem, Outcome
from kustom_hpp.errors import ConfigError, HPPError, InvalidRequestError
from kustom_hpp.models import CreateSessionRequest
from kustom_hpp.models.urls import canonical_order_url

Items = Iterable[CreateSessionRequest | BatchItem] | AsyncIterable[CreateSessionRequest | BatchItem]
RECENT = 10_000
"""A run remembers at least this many of its newest keys, and of its newest session ids."""
_END = object()


@define(eq=False)
class Row:
    """One row on its way through a run."""

    number: int
    """Its position in the input, from 1."""
    key: str
    request: Any
    """A CreateSessionRequest; None if the row has a problem."""
    problem: HPPError | None = None
    """Why the row cannot be sent; None for a valid row."""
    attempts: int = 0
    pending_claim: Future[Any] | None = None
    """A call of the journal that has not returned yet."""
    claim: Claimed | None = None
    """The journal's claim; None until the journal has it."""
    last_error: HPPError | None = None
    """The error of the last attempt, if the API did not process the row."""
    earlier_doubt: Outcome | None = None
    """The outcome in doubt of an earlier run, if this run sends the row again."""
    generation: int = 0
    """The circuit breaker's generation in which the row was sent."""
    in_flight: bool = False
    """True while the row is with `create`."""
    unsettled: Outcome | None = None
    """The outcome, while the journal records it."""


def _read_item(item: object, number: int) -> Row:
    """Return the row of an item, whatever the item is."""
    if isinstance(item, BatchItem) and isinstance(item.request, InvalidRequestError):
        return Row(number, item.key or f"#{number}", None, item.request)
    request: object
    if type(item) is CreateSessionRequest:
        key, request = item.payment_session_url, item
    elif type(item) is BatchItem:
        key, request = item.key, item.request
    else:
        sentence = f"must be a CreateSessionRequest or a BatchItem, got a {type(item).__name__}"
        return _invalid_row(number, None, "$", sentence)
    if type(key) is not str or not key:
        path = "payment_session_url" if item is request else "key"
        return _invalid_row(number, None, path, f"must be a non-empty text, got a {type(key).__name__}")
    if type(request) is not CreateSessionRequest:
        sentence = f"must be a CreateSessionRequest, got a {type(request).__name__}"
        return _invalid_row(number, key, "request", sentence)
    return Row(number, key, request)


def _invalid_row(number: int, key: str | None, path: str, sentence: str) -> Row:
    problem = InvalidRequestError(problems=((path, sentence),))
    return Row(number, f"#{number}" if key is None else key, None, problem)


def digest_of(request: CreateSessionRequest) -> bytes:
    """Return the digest that identifies a payload: SHA-256 of its JSON.

    Raises:
        InvalidRequestError: the request cannot be encoded as JSON.

    """
    try:
        return hashlib.sha256(codec().encode_request(request)).digest()
    except (TypeError, ValueError, AttributeError, RecursionError):
        problems = request.problems() or (("$", "cannot be encoded as JSON"),)
    raise InvalidRequestError(problems=problems)


def order_of(request: CreateSessionRequest) -> str | None:
    """Return the KCO order, which may have one session only, in its canonical spelling; None for another payment session."""
    return canonical_order_url(request.payment_session_url)


class RecentKeys:
    """The newest texts of a long stream, each with a value: at least `size` of them, at most twice as many.

    Implementation note: two generations, of which the older one is dropped as a whole. Removing the oldest entry of one
    dict each time would search it from its start.
    """

    def __init__(self, size: int = RECENT) -> None:
        self._size = size
        self._newer: dict[str, str] = {}
        self._older: dict[str, str] = {}

    def add(self, text: str, value: str) -> str | None:
        """Remember a text; return its earlier value, or None if the text is new."""
        known = self._newer.get(text) or self._older.get(text)
        if known is None:
            self._newer[text] = value
            if len(self._newer) >= self._size:
                self._older, self._newer = self._newer, {}
        return known


class RowSource:
    """The items of a run, read one by one when a worker asks for a row.

    With `unique_order` it finds a repeated KCO order too; with a journal, the journal finds it.

    Raises:
        ConfigError: items is not iterable.

    """

    def __init__(self, items: Items, *, unique_order: bool) -> None:
        if not isinstance(items, (AsyncIterable, Iterable)):
            msg = f"items must be an iterable or async iterable of requests or BatchItems, got a {type(items).__name__}"
            raise ConfigError(msg)
        self._is_async = isinstance(items, AsyncIterable)
        self._items: Any = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._keys = RecentKeys()
        self._orders = RecentKeys() if unique_order else None
        self.exhausted = False
        self.pulled = 0

    async def take(self) -> Row | None:
        """Return the next row; None at the end."""
        item = await anext(self._items, _END) if self._is_async else next(self._items, _END)
        if item is _END:
            self.exhausted = True
            return None
        self.pulled += 1
        row = _read_item(item, self.pulled)
        if row.problem is None and (problem := self._repetition(row)) is not None:
            row.problem = InvalidRequestError(problems=(problem,))
        return row

    async def aclose(self) -> None:
        """Close the input if it is a generator; a generator has no other reader."""
        self.exhausted = True
        if isinstance(self._items, AsyncGenerator):
            await self._items.aclose()
        elif isinstance(self._items, Generator):
            self._items.close()

    def _repetition(self, row: Row) -> tuple[str, str] | None:
        if (first := self._keys.add(row.key, str(row.number))) is not None:
            return "key", f"is repeated: row {first} of this run has it already"
        if self._orders is None or (order := order_of(row.request)) is None:
            return None
        if (first := self._orders.add(order, str(row.number))) is not None:
            return "payment_session_url", f"is repeated: row {first} of this run is for the same KCO order"
        return None
