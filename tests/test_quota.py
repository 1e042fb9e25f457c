"""The use of a quota: every mode at full size in virtual time, over many seeds, and a short run over sockets.

`python -m tests.quota` is the full run over sockets.
"""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import kustom_hpp as hpp
from kustom_hpp._messages import HttpRequest, HttpResponse, SendMarker
from kustom_hpp.sandbox import MerchantRateLimit, TokenBucket
from tests import quota
from tests.support.golden import MINIMAL_ANSWER
from tests.support.virtual import virtual_time

ROWS, RATE = 2000, 40
MODES = pytest.mark.parametrize("mode", quota.MODES, ids=[mode.name for mode in quota.MODES])


class Network:
    """A transport to a quota: connecting takes up to 50 ms, and each way between a half and one and a half of `way`."""

    def __init__(self, bucket: TokenBucket, seed: int, way: float) -> None:
        self.bucket, self.dice, self.way = bucket, random.Random(seed), way
        self.statuses: list[int] = []
        self.connections = 0

    async def send(self, request: HttpRequest, marker: SendMarker) -> HttpResponse:
        marker.sent = True
        if self.connections < quota.WORKERS:
            self.connections += 1
            await asyncio.sleep(self.dice.uniform(0, 0.05))
        await asyncio.sleep(self.dice.uniform(0.5, 1.5) * self.way)
        status = 201 if self.bucket.take() else 429
        self.statuses.append(status)
        answer = hpp.FakeTransport.response(status, MINIMAL_ANSWER, dict(self.bucket.headers(status)))
        await asyncio.sleep(self.dice.uniform(0.5, 1.5) * self.way)
        return answer

    async def aclose(self) -> None:
        """Nothing is left to do."""


async def play(mode: quota.Mode, seed: int, way: float) -> quota.Result:
    random.seed(seed)  # the jitter of retries
    with virtual_time() as clock:
        network = Network(TokenBucket(MerchantRateLimit(RATE, announce=mode.announce)), seed, way)
        pace = hpp.Pace(RATE) if mode.knows else None
        client = hpp.HPPClient("kco_test_x", transport=network, pace=pace)
        began = clock.now

        def halfway() -> None:
            network.bucket.taken = RATE / 2

        failures = await quota.create_all(client, ROWS, halfway if mode.shared else None)
        took = clock.now - began
    assert network.statuses.count(201) == ROWS
    time = took / quota.ideal_time(mode, ROWS, RATE)
    throttled = network.statuses.count(429) / len(network.statuses)
    return quota.Result(mode=mode, time=time, throttled=throttled, failures=failures)


@MODES
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
async def test_every_mode_keeps_within_its_bounds(mode, seed):
    result = await play(mode, seed, way=0.001)
    assert result.good, result.row()
    assert result.time < 1.25
    assert result.throttled < 0.10


@MODES
async def test_a_distant_api_costs_a_little_more(mode):
    result = await play(mode, 1, way=0.05)
    assert result.failures == []
    assert result.time < 1.25
    assert result.throttled < 0.10


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(
            mode, id=mode.name, marks=[] if mode.name in {"told the rate", "bare 429s"} else [pytest.mark.slow]
        )
        for mode in quota.MODES
    ],
)
async def test_no_row_is_lost_over_sockets(mode):
    result = await quota.play(mode, rows=240, rate=120)
    assert result.failures == []


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"time": 1.0301}, False),
        ({"throttled": 0.0101}, False),
        ({"failures": ["row 5: LostResponseError()"]}, False),
    ],
)
def test_the_judge(change, good):
    mode = quota.Mode("told", "bare", 1.03, 0.01, knows=True)
    result = attrs.evolve(quota.Result(mode=mode, time=1.03, throttled=0.01, failures=[]), **change)
    assert result.good == good
    assert result.row().endswith("ok" if good else "MISSED")


@pytest.mark.parametrize(
    ("moments", "expected"), [([], 0), ([5.0], 1), ([0, 0.5, 1.0, 1.5], 3), ([0, 1.1, 2.2], 1), ([0, 0, 0, 9, 9], 3)]
)
def test_the_most_in_a_second(moments, expected):
    assert quota.most_in_a_second(moments) == expected


def test_the_command():
    command = [sys.executable, "-m", "tests.quota", "--rows", "40", "--rate", "400", "shared: bare"]
    run = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=30, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.split("  ")[0] for line in run.stdout.splitlines()] == ["mode", "shared: bare 429s"]
