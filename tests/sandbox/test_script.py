"""Which request meets which fault."""

import asyncio
import copy
import math
from collections import Counter

import pytest

from kustom_hpp.sandbox import Fault, FaultRules, Sandbox, Stage
from kustom_hpp.sandbox.faults import parse_fault
from tests.sandbox.support import ask, exchange, order, request, touch
from tests.support.faults import ALL_FAULTS as FAULTS
from tests.support.faults import find_fault


async def statuses(sandbox: Sandbox, count: int, number: int = 0) -> list[int]:
    return [(await ask(sandbox, request(sandbox, order(number)))).status for _ in range(count)]


# Spelling.


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("hang", {"seconds": 10.0}),
        ("hang~seconds=2", {"seconds": 2.0}),
        ("double_answer~late=0", {"late": 0.0}),
        ("retry_after_seconds~commit=1,seconds=0.5,status=503", {"status": 503, "seconds": 0.5, "commit": 1}),
        ("garbage", {}),
    ],
)
def test_a_fault_is_spelled(text: str, args: dict[str, object]) -> None:
    fault = find_fault(text)
    assert fault.args == args
    assert str(fault) == text
    assert repr(fault) == f"Fault({text!r})"
    assert find_fault(str(fault)) == fault
    assert len({fault, find_fault(text)}) == 1
    assert copy.copy(fault) == fault


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_can_be_spelled_with_all_its_parameters(name: str) -> None:
    fault = find_fault(name, **FAULTS[name].defaults)
    assert find_fault(str(fault)) == fault
    assert fault.args == dict(FAULTS[name].defaults)
    assert fault.processes_request is FAULTS[name].processes_request


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hnag", "did you mean hang"),
        ("", "no fault is called ''"),
        ("hang~minutes=2", "It has: seconds"),
        ("garbage~a=1", "It has: none"),
        ("hang~seconds=soon", "must be of type float"),
        ("hang~seconds", "is not name~"),
        ("hang~", "is not name~"),
        ("hang~=1", "is not name~"),
    ],
)
def test_what_is_misspelled_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_fault(text)
    with pytest.raises(ValueError, match=told):
        Sandbox(faults=[text])


FLOATS = [(name, key) for name in FAULTS for key, value in FAULTS[name].defaults.items() if isinstance(value, float)]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e10", "-1e10"])
@pytest.mark.parametrize(("name", "key"), FLOATS)
def test_a_number_that_no_clock_can_work_with_is_refused(name: str, key: str, value: str) -> None:
    for given in (value, float(value)):
        with pytest.raises(ValueError, match=f"{name}: {key} must be a number"):
            find_fault(name, **{key: given})


def test_numbers_of_faults_and_rules_that_are_none() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="error_huge: mib must be of type int"):
            find_fault("error_huge", mib=value)
        for name in ("nth", "skip", "times", "seed"):
            with pytest.raises(ValueError, match=f"{name} must be of type int"):
                FaultRules().add("hang", **{name: value})
        with pytest.raises(ValueError, match="'probability' must be"):
            FaultRules().add("hang", probability=value)
        with pytest.raises(ValueError, match="'probability' must be"):
            FaultRules().add_random(["hang"], value, 1)


@pytest.mark.parametrize("what", [[], [None], (None, None)], ids=str)
def test_a_sequence_without_a_fault_is_refused(what: list[None]) -> None:
    sandbox = Sandbox()
    with pytest.raises(ValueError, match="at least one fault; None stands for"):
        sandbox.fault(what)
    assert sandbox.faults.rules == ()


@pytest.mark.parametrize("where", [{"skpi": 1}, {"often": 2}])
def test_an_unknown_where_is_told(where: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="settings payment_session_url, nth, skip, times, probability, seed"):
        FaultRules().add("hang", **where)


def test_a_connection_fault_cannot_tell_requests_apart() -> None:
    script = FaultRules()
    with pytest.raises(ValueError, match="Add it alone"):
        script.add("accept_rst", payment_session_url=order(1))
    with pytest.raises(ValueError, match="Add it alone"):
        script.add(["accept_rst", "hang"])
    with pytest.raises(ValueError, match="Add it alone"):
        script.add_random(["hang", "accept_close"], 0.5, 1)
    with pytest.raises(ValueError, match="at least one"):
        script.add_random([], 0.5, 1)
    assert script.rules == ()


# Where it bites.


async def test_from_now_on_until_cleared(sandbox: Sandbox) -> None:
    assert await statuses(sandbox, 1) == [201]
    rule = sandbox.fault("status_503")
    assert await statuses(sandbox, 3) == [503] * 3
    assert (rule.checked, rule.triggered) == (3, 3)
    sandbox.faults.clear()
    assert await statuses(sandbox, 1) == [201]


async def test_given_at_the_start() -> None:
    async with Sandbox(faults=["status_500~times=1", find_fault("status_503")]) as sandbox:
        assert await statuses(sandbox, 3) == [500, 503, 503]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"nth": 3}, [201, 201, 429, 201, 201]),
        ({"skip": 2}, [201, 201, 429, 429, 429]),
        ({"times": 2}, [429, 429, 201, 201, 201]),
        ({"skip": 1, "times": 2}, [201, 429, 429, 201, 201]),
        ({"skip": 1, "times": None}, [201, 429, 429, 429, 429]),
    ],
)
async def test_the_nth_request(sandbox: Sandbox, where: dict[str, int | None], expected: list[int]) -> None:
    sandbox.fault("status_429", **where)
    assert await statuses(sandbox, 5) == expected
    sandbox.faults.clear()
    spelled = ",".join(f"{key}={value}" for key, value in where.items() if value is not None)
    sandbox.fault(f"status_429~{spelled}")
    assert await statuses(sandbox, 5) == expected


async def test_one_payment_session(sandbox: Sandbox) -> None:
    sandbox.fault("status_429", payment_session_url=order(1), skip=1)
    sandbox.fault("close_on_head", payment_session_url=order(2))
    assert await statuses(sandbox, 2, 1) == [201, 429]
    assert await statuses(sandbox, 2, 3) == [201, 201]
    assert (await exchange(sandbox, request(sandbox, order(2)))).end == "fin"
    assert [len(sandbox.record.created_for(order(number))) for number in (1, 2, 3)] == [1, 0, 2]
    assert [len(sandbox.record.posts_for(order(number))) for number in (1, 2, 3)] == [2, 1, 2]


async def test_a_sequence_and_then_normal(sandbox: Sandbox) -> None:
    sandbox.fault(["status_503", None, find_fault("status_429"), "status_500~commit=1"])
    assert await statuses(sandbox, 6) == [503, 201, 429, 500, 201, 201]
    assert len(sandbox.record.created) == 4


async def test_the_first_rule_that_bites_wins_and_all_of_them_count(sandbox: Sandbox) -> None:
    sandbox.fault("status_500", nth=2)
    later = sandbox.fault("status_429", skip=1)
    assert await statuses(sandbox, 4) == [201, 500, 429, 429]
    assert (later.checked, later.triggered) == (4, 2)
    sandbox.faults.remove(later)
    assert await statuses(sandbox, 1) == [201]


async def test_a_connection_fault_counts_connections(sandbox: Sandbox) -> None:
    sandbox.fault("accept_close~skip=1,times=1")
    assert [await touch(sandbox) for _ in range(3)] == [b"HTTP/1.1 201", b"", b"HTTP/1.1 201"]
    assert [seen.fault for seen in sandbox.record.connections] == [None, find_fault("accept_close"), None]


async def test_faults_bite_on_creates_alone(sandbox: Sandbox) -> None:
    rule = sandbox.fault("status_429")
    assert (await ask(sandbox, request(sandbox).replace(b"/hpp/v1/sessions", b"/elsewhere"))).status == 404
    assert rule.checked == 0


# Chance.


async def met(seed: int, numbers: list[int], probability: float = 0.5, *, at_once: bool = False) -> dict[int, str]:
    """What the creates for these orders meet, in this order, or all at once."""
    async with Sandbox() as sandbox:
        sandbox.faults.add_random(["status_429", "status_503", "garbage"], probability, seed)
        if at_once:
            await asyncio.gather(*(touch(sandbox, request(sandbox, order(number))) for number in numbers))
        else:
            for number in numbers:
                await touch(sandbox, request(sandbox, order(number)))
        await sandbox.wait_until_idle()
        return {number: str(post.fault) for number in numbers for post in sandbox.record.posts_for(order(number))}


async def test_a_seed_gives_the_same_faults_in_every_run_and_order() -> None:
    numbers = list(range(40))
    first = await met(1, numbers)
    assert set(first.values()) == {"None", "status_429", "status_503", "garbage"}
    assert await met(1, numbers) == first
    assert await met(1, numbers[::-1]) == first
    assert await met(1, numbers, at_once=True) == first
    assert await met(2, numbers) != first


def drawn_by(script: FaultRules, url: str) -> Fault | None:
    match = script.for_request(url)
    return None if match is None else match[1]


def test_the_draws_are_as_likely_as_they_say() -> None:
    script = FaultRules()
    script.add_random(["hang", "garbage"], 0.3, 7)
    drawn = Counter(str(drawn_by(script, order(number))) for number in range(4_000))
    # Five standard deviations: sqrt(4000 * 0.15 * 0.85) = 22.6.
    assert abs(drawn["hang"] - 600) < 113
    assert abs(drawn["garbage"] - 600) < 113
    assert drawn["None"] == 4_000 - drawn["hang"] - drawn["garbage"]


def test_repeats_of_one_request_are_drawn_anew() -> None:
    script = FaultRules()
    script.add("hang", probability=0.5, seed=3)
    drawn = [drawn_by(script, order(1)) is not None for _ in range(64)]
    assert True in drawn
    assert False in drawn
    again = FaultRules()
    again.add("hang~probability=0.5,seed=3")
    assert [drawn_by(again, order(1)) is not None for _ in range(64)] == drawn


def test_never_and_always() -> None:
    script = FaultRules()
    script.add("hang", probability=0.0)
    assert [drawn_by(script, order(number)) for number in range(50)] == [None] * 50
    script.add("garbage", probability=1.0)
    assert [str(drawn_by(script, order(number))) for number in range(50)] == ["garbage"] * 50


def test_only_rules_about_what_a_request_is_need_its_body() -> None:
    script = FaultRules()
    script.add("hang", skip=1)
    script.add(["hang", "garbage"])
    script.add("accept_rst", probability=0.5)
    assert not script.asks_for_url
    script.add("hang", probability=0.5)
    assert script.asks_for_url
    assert find_fault("accept_rst").stage is Stage.CONNECTION
