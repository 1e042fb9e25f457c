"""The matrix for read, disable and distribute: every row of the table, on an owned and on a borrowed session."""

import asyncio
import logging

import aiohttp.connector
import attrs
import pytest

import kustom_hpp as hpp
from kustom_hpp import Delivery
from tests.faults.play import NoNames, Variant
from tests.faults.sessions import (
    DISABLE,
    DISTRIBUTE,
    OPERATIONS,
    READ,
    differences,
    expected,
    play,
    rows_of,
    violations,
)
from tests.faults.table import GROUPS, ROWS, Row

AT_ONCE = 32


@pytest.fixture(autouse=True)
def names_without_a_network(monkeypatch):
    # What an owned session resolves names with; addresses pass it by.
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", lambda **_: NoNames())


async def judged(operation: str, row: Row, variant: Variant, turns: asyncio.Semaphore, log) -> list[str]:
    async with turns:
        facts = await play(operation, row, variant)
    broken = [*violations(facts), *differences(facts, once=variant.once)]
    if any(secret in log.text for secret in facts.secrets):
        broken.append("a log line shows a secret")
    return [f"{operation}, {row.name}{' once' if variant.once else ''}: {sentence}" for sentence in broken]


BORROWED = pytest.param(True, id="borrowed", marks=pytest.mark.slow)
SLOW_GROUPS = {"silence", "ports", "proxies", "connections", "waits"}
"""Groups with many rows that wait for a timeout, three times for the three operations."""


@pytest.mark.parametrize("borrowed", [pytest.param(False, id="owned"), BORROWED])
@pytest.mark.parametrize(
    "group",
    [pytest.param(group, marks=[pytest.mark.slow] if group in SLOW_GROUPS else []) for group in GROUPS],
)
async def test_every_row(group, borrowed, caplog):
    caplog.set_level(logging.DEBUG)
    turns = asyncio.Semaphore(AT_ONCE)
    calls = [
        judged(operation, row, Variant(borrowed=borrowed, resend=False, once=once), turns, caplog)
        for row in rows_of(group)
        for once in ((False, True) if row.heals and not borrowed else (False,))
        for operation in OPERATIONS
    ]
    assert [broken for row in await asyncio.gather(*calls) for broken in row] == []


# ------------------------------------------------------------------------------------------------ the judge notices


def row_named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


ALWAYS = Variant(borrowed=False, resend=False, once=False)


async def test_a_message_that_is_sent_twice_is_noticed(monkeypatch):
    # A client that takes a distribution for repeatable, as its being safe to read would have it.
    real = hpp.HPPClient._call

    def careless(self, call, deadline, on_unknown=None):
        return real(self, call, deadline, "resend")

    monkeypatch.setattr(hpp.HPPClient, "_call", careless)
    for name in ("reset_after_request", "close_after_request", "status_500~commit=1", "garbage"):
        facts = await play(DISTRIBUTE, row_named(name), ALWAYS)
        assert facts.distributions == 3
        assert any("messages, after" in sentence for sentence in violations(facts))


@pytest.mark.parametrize("name", ["status_503~commit=1", "status_503_retry_after~commit=1"])
async def test_only_the_documented_503_may_send_twice(name):
    facts = await play(DISTRIBUTE, row_named(name), ALWAYS)
    assert facts.distributions == 3
    assert [*violations(facts), *differences(facts, once=False)] == []
    other = attrs.evolve(facts, row=row_named("error_html~status=502"))
    assert any("messages, after" in sentence for sentence in violations(other))


async def test_lies_are_noticed():
    good = await play(DISABLE, row_named("interim_103"), ALWAYS)
    assert [*violations(good), *differences(good, once=False)] == []
    lost = hpp.LostResponseError("x", delivery=Delivery.REJECTED)
    refused = hpp.NotFoundError("x", status=404)
    lies = {
        "a foreign exception": attrs.evolve(good, outcome=RuntimeError("x")),
        "a LostResponseError with delivery rejected": attrs.evolve(good, outcome=lost),
        "and the server did it 1 times": attrs.evolve(good, outcome=refused),
        "and the server saw 1 requests": attrs.evolve(good, outcome=hpp.ConnectError("x")),
        "but the hooks were told": attrs.evolve(good, outcome=hpp.LostResponseError("x")),
        "a create's advice": attrs.evolve(good, outcome=hpp.LostResponseError("Do not retry")),
        "shows a secret": attrs.evolve(good, outcome=hpp.LostResponseError(f"at {good.secrets[0]}")),
        "may hold personal data": attrs.evolve(good, outcome=hpp.DecodeError("x", body=b"{}")),
        "it took": attrs.evolve(good, elapsed=99.0),
        "a redirect was followed": attrs.evolve(good, sink=1),
        "requests of 1 attempts": attrs.evolve(good, heads=2),
        "it read": attrs.evolve(good, operation=READ, outcome=hpp.SessionDetails(session_id="another")),
        "no message was sent": attrs.evolve(good, operation=DISTRIBUTE),
    }
    for sentence, lie in lies.items():
        assert [told for told in violations(lie) if sentence in told], sentence
    other = await play(DISABLE, row_named("status_401"), ALWAYS)
    assert any("a success, and the session is" in told for told in violations(attrs.evolve(other, outcome=None)))


def test_the_rules_are_written_down_for_each_operation():
    """The table says something: the same row means different things to the three."""
    lost = row_named("reset_after_request")
    assert [len(expected(operation, lost, once=False).attempts) for operation in OPERATIONS] == [1, 1, 1]
    assert [expected(operation, lost, once=False).attempts[0] for operation in OPERATIONS] == [3, 3, 1]
    documented = row_named("status_503")
    assert [expected(operation, documented, once=True).attempts[0] for operation in OPERATIONS] == [2, 2, 2]
    other = row_named("status_502")
    assert [expected(operation, other, once=True).attempts[0] for operation in OPERATIONS] == [2, 2, 1]
