"""The plain case of many claims and settlings, in a few statements for all of them.

Plain is what nearly every row is: a new key, claimed for an order that nobody else has; and a row that this opening of the
file has claimed, settled. Whatever else there is, is done by the book, one by one, in `ledger`.
"""

from collections.abc import Sequence
from typing import Any

from kustom_hpp.batch.journal import Claimed
from kustom_hpp.batch.journal_rules import Claiming, Settling, now
from kustom_hpp.batch.kept import Kept, settled
from kustom_hpp.batch.sqlite.rows import Table
from kustom_hpp.errors import InvalidRequestError, JournalError

_FRESH = Claimed()


def together(table: Table, works: Sequence[Any]) -> dict[int, Claimed | None]:
    """Do what is plain of some works.

    Returns:
        The results of what was done, by its place among the works; what is not in it is still to be done, in order.

    """
    keys = [work.key for work in works if isinstance(work, (Claiming, Settling))]
    if len(set(keys)) < len(keys):
        return {}  # of one key, the one after the other
    settlings: list[tuple[int, Kept]] = []
    claims: list[tuple[int, Kept]] = []
    orders: set[str] = set()
    for place, work in enumerate(works):
        if type(work) is Settling:
            if (new := _settled(table, work)) is not None:
                settlings.append((place, new))
        elif type(work) is Claiming and (row := _claimed(table, work, orders)) is not None:
            claims.append((place, row))
    kept = table.settle([row for _, row in settlings])
    done: dict[int, Claimed | None] = {place: None for place, _ in settlings[:kept]}
    kept = table.add([row for _, row in claims])
    done.update((place, _FRESH) for place, _ in claims[:kept])
    return done


def _claimed(table: Table, work: Claiming, orders: set[str]) -> Kept | None:
    try:
        row = work.row()
    except InvalidRequestError:
        return None
    if work.alone and work.order is not None:
        if work.order in orders or table.holder_of_order(work.order, work.key) is not None:
            return None
        orders.add(work.order)
    return row


def _settled(table: Table, work: Settling) -> Kept | None:
    row = table.claimed(work.key)
    if row is None or row.run != work.run:
        return None
    try:
        return settled(row, work.outcome, now())
    except JournalError:
        return None
