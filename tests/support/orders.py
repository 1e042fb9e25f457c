"""Rows for batches on real sockets, and the judge of what became of them: the sandbox's record alone."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator

import kustom_hpp as hpp
from kustom_hpp.batch import BatchItem, Outcome, OutcomeState
from kustom_hpp.sandbox import CreatedSession

CALLBACK_SECRET = os.environ.get("KUSTOM_HPP_CALLBACK_SECRET", "")
"""A secret in the callback's URL of all requests, for the search for secrets (tests/support/secret_watch.py)."""
STATUS_UPDATE = f"https://shop.example/status?secret={CALLBACK_SECRET}" if CALLBACK_SECRET else None
ORDER_ID = "0000abcd-0000-4000-8000-00000000000a"
SPELLINGS: dict[str, Callable[[str], str]] = {
    "host in capitals": lambda url: url.replace("localhost", "LOCALHOST"),
    "id in capitals": lambda url: url.replace(ORDER_ID, ORDER_ID.upper()),
    "slash at the end": lambda url: f"{url}/",
    "query": lambda url: f"{url}?utm_source=mail",
    "all": lambda url: f"{url.replace('localhost', 'LocalHost').replace(ORDER_ID, ORDER_ID.upper())}//?a=/b/",
}
"""Other spellings of the URL of the order ORDER_ID at localhost."""


def rows(base_url: str, count: int, prefix: str = "row") -> Iterator[BatchItem]:
    """Rows for so many orders, made as they are asked for."""
    for number in range(count):
        key = f"{prefix}-{number}"
        yield BatchItem(key, request(base_url, key))


def request(base_url: str, key: str) -> hpp.CreateSessionRequest:
    return hpp.CreateSessionRequest(
        payment_session_url=url_of(base_url, key),
        merchant_urls=hpp.MerchantUrls(
            success="https://shop.example/thanks?sid={{session_id}}", status_update=STATUS_UPDATE
        ),
    )


def url_of(base_url: str, key: str) -> str:
    return f"{base_url}/checkout/v3/orders/{key}"


def violations(
    outcomes: Iterable[Outcome], made: Collection[CreatedSession], keys: Collection[str], *, complete: bool = True
) -> Iterator[str]:
    """Every promise that a batch broke, one sentence each.

    Args:
        outcomes: of its rows.
        made: all sessions that the server made.
        keys: of all rows.
        complete: whether every row must have ended.

    """
    sessions: dict[str, list[str]] = {}
    for one in made:
        sessions.setdefault(one.payment_session_url.rpartition("/")[2], []).append(one.session_id)
    yield from (f"{key}: {len(ids)} sessions" for key, ids in sessions.items() if len(ids) > 1)
    ended: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.key in ended:
            yield f"{outcome.key}: two outcomes"
        ended[outcome.key] = outcome
        ids = sessions.get(outcome.key, [])
        if outcome.state is OutcomeState.CREATED and (outcome.session is None or [outcome.session.session_id] != ids):
            yield f"{outcome.key}: CREATED with {outcome.session and outcome.session.session_id}, the server made {ids}"
        if outcome.state is OutcomeState.FAILED and ids:
            yield f"{outcome.key}: FAILED ({outcome.error!r}), and the server made {ids}"
    for key in sessions.keys() - ended.keys():
        yield f"{key}: a session that no row tells of"
    missing = set(keys) - ended.keys()
    if complete and missing:
        yield f"{len(missing)} rows have no outcome, for example {min(missing)}"
    if strangers := ended.keys() - set(keys):
        yield f"outcomes of rows that there are not: {sorted(strangers)[:3]}"


def states(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How many rows ended how."""
    return Counter(str(outcome.state) for outcome in outcomes)
