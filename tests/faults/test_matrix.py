"""The matrix: every row of the table, on an owned and on a borrowed session, with both answers to an unknown outcome.

The rows of a group run side by side, each with a sandbox of its own, and every broken rule is told with its row.
"""

import asyncio
import logging

import aiohttp.connector
import pytest

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.faults.judge import Facts, violations
from tests.faults.play import NoNames, Variant, play
from tests.faults.table import GROUPS, ROWS, SESSION, SETTINGS, Ending, Row, expected

AT_ONCE = 16

# Every row once with the settings that most users have; the other three runs of the table are slow.
variants = pytest.mark.parametrize(
    ("borrowed", "on_unknown"),
    [
        pytest.param(False, "raise", id="owned-raise"),
        pytest.param(False, "resend", id="owned-resend", marks=pytest.mark.slow),
        pytest.param(True, "raise", id="borrowed-raise", marks=pytest.mark.slow),
        pytest.param(True, "resend", id="borrowed-resend", marks=pytest.mark.slow),
    ],
)


@pytest.fixture(autouse=True)
def names_without_a_network(monkeypatch):
    # What an owned session resolves names with; addresses pass it by.
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", lambda **_: NoNames())


def differences(row: Row, variant: Variant, facts: Facts) -> list[str]:
    """Where a call did not come to what the table says."""
    wanted = expected(row, resend=variant.resend, once=variant.once)
    outcome = facts.outcome
    ending = SESSION
    if isinstance(outcome, hpp.HPPError):
        ending = Ending(type(outcome), outcome.delivery)
    counts = {
        "attempts": (facts.attempts, wanted.attempts),
        "POSTs": (len(facts.posts), wanted.posts),
        "sessions": (len(facts.created), wanted.sessions),
    }
    wrong = [f"{count} {what}, not {of}" for what, (count, of) in counts.items() if count not in of]
    if ending not in wanted.endings:
        wrong.append(f"ended with {outcome!r} ({ending.delivery}), not {wanted.endings}")
    return wrong


async def judged(row: Row, variant: Variant, turns: asyncio.Semaphore, log: pytest.LogCaptureFixture) -> list[str]:
    async with turns:
        facts = await play(row, variant)
    broken = [*violations(facts), *differences(row, variant, facts)]
    if any(secret in log.text for secret in facts.secrets):
        broken.append("a log line shows a secret")
    return [f"{row.name}{' once' if variant.once else ''}: {sentence}" for sentence in broken]


@variants
@pytest.mark.parametrize("group", GROUPS)
async def test_every_row(group, borrowed, on_unknown, caplog):
    caplog.set_level(logging.DEBUG)
    turns = asyncio.Semaphore(AT_ONCE)
    calls = []
    for row in ROWS:
        if row.group == group:
            for once in (False, True) if row.heals else (False,):
                variant = Variant(borrowed=borrowed, resend=on_unknown == "resend", once=once)
                calls.append(judged(row, variant, turns, caplog))
    assert [broken for row in await asyncio.gather(*calls) for broken in row] == []


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_settings_that_cannot_work_never_reach_a_socket(settings):
    async with Sandbox() as sandbox:
        with pytest.raises(hpp.ConfigError) as caught:
            hpp.HPPClient(**{"api_key": sandbox.api_key, "base_url": sandbox.base_url} | settings)
        assert caught.value.delivery is None
        assert caught.value.attempts == 0
        assert sandbox.record.counts.connections == 0
