"""Every fault can meet every operation on a session, and the record tells the truth about it there too."""

import json

import pytest

from kustom_hpp.sandbox import Sandbox, Stage
from tests.sandbox.support import PATH, Reply, Wire, ask, call, exchange, order, request, short
from tests.sandbox.test_faults import WELL_FORMED
from tests.sandbox.test_operations import EMAIL
from tests.support.faults import ALL_FAULTS as FAULTS
from tests.support.faults import find_fault

QUICK = {
    "status_503",
    "redirect_302",
    "reset_after_request",
    "close_on_head",
    "hang_uncommitted",
    "new_fields",
    "garbage",
}
REQUEST_FAULTS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name, kind in sorted(FAULTS.items())
    if kind.stage is not Stage.CONNECTION
]
LINES = {
    "read_session": ("GET {path}", None),
    "disable_session": ("DELETE {path}", None),
    "distribute_session": ("POST {path}/distribution", json.dumps(EMAIL).encode()),
}


def asking(sandbox: Sandbox, operation: str, session_id: str) -> bytes:
    line, body = LINES[operation]
    return call(sandbox, line.format(path=f"{PATH}/{session_id}"), body)


async def created(sandbox: Sandbox, number: int = 1) -> str:
    return str((await ask(sandbox, request(sandbox, order(number)))).json["session_id"])


async def meet(sandbox: Sandbox, operation: str, session_id: str, name: str) -> Reply:
    sandbox.fault(short(name), operation=operation, times=1)
    data = asking(sandbox, operation, session_id)
    if name in WELL_FORMED and name != "interim_103":
        return await ask(sandbox, data)
    return await exchange(sandbox, data, seconds=0.2)


def was_done(sandbox: Sandbox, operation: str, session_id: str) -> bool:
    """What the state tells, which no fault writes to."""
    session = sandbox.state.sessions[session_id]
    if operation == "disable_session":
        return session.status == "DISABLED"
    return "distributed" in [moment.what for moment in session.timeline]


@pytest.mark.parametrize("name", REQUEST_FAULTS)
async def test_the_record_tells_the_truth(sandbox: Sandbox, name: str) -> None:
    fault = short(name)
    for number, operation in enumerate(LINES):
        session_id = await created(sandbox, number)
        reply = await meet(sandbox, operation, session_id, name)
        await sandbox.wait_until_idle()
        seen = sandbox.record.requests[-1]
        assert (seen.operation, seen.fault, seen.done) == (operation, fault, True)
        assert seen.processed is fault.processes_request
        assert seen.complete is (fault.stage is Stage.REQUEST)
        assert seen.created is None
        if operation != "read_session":
            assert was_done(sandbox, operation, session_id) is fault.processes_request
        if name in WELL_FORMED - {"interim_103"}:
            assert seen.status == reply.status
        # And the next one is answered as ever.
        assert (await ask(sandbox, asking(sandbox, "read_session", session_id))).status == 200
    assert len(sandbox.record.created) == len(LINES)


async def test_bodies_are_made_from_the_operation_s_own_answer(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    for operation in LINES:
        reply = await meet(sandbox, operation, session_id, "new_fields")
        details = sandbox.state.sessions[session_id].read_json()
        assert (reply.status, reply.json) == (200, details | {"x_new": {"a": [1, None]}})
        if operation == "disable_session":
            session_id = await created(sandbox, 2)

    reply = await meet(sandbox, "read_session", session_id, "wrong_types")
    details = sandbox.state.sessions[session_id].read_json()
    assert set(reply.json) == set(details)
    assert {name for name in details if reply.json[name] == details[name]} == {"session_id"}
    assert all(type(reply.json[name]) is not str for name in details if name != "session_id")


async def test_a_redirect_leads_to_the_path_that_was_asked_for(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    reply = await meet(sandbox, "read_session", session_id, "redirect_307_same")
    assert reply.header("location") == f"{sandbox.base_url}{PATH}/{session_id}"


async def test_a_stray_answer_is_of_the_same_kind(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    sandbox.fault(find_fault("double_answer~late=0"), operation="read_session")
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(asking(sandbox, "read_session", session_id))
        first, second = await wire.answer(), await wire.answer()
    assert set(first.json) == set(second.json) == {"session_id", "status", "expires_at", "updated_at"}
    assert second.json["session_id"] not in sandbox.state.sessions


# Which operations.


async def test_faults_meet_creates_alone_unless_told(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    rule = sandbox.fault("status_503")
    assert (await ask(sandbox, asking(sandbox, "read_session", session_id))).status == 200
    assert (rule.checked, (await ask(sandbox)).status) == (0, 503)


async def test_any_operation(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    rule = sandbox.fault("status_503", operation="any")
    for operation in LINES:
        assert (await ask(sandbox, asking(sandbox, operation, session_id))).status == 503
    assert (await ask(sandbox)).status == 503
    assert (rule.checked, rule.triggered) == (4, 4)


async def test_it_is_spelled_too(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    sandbox.fault("status_503~operation=disable_session,times=1")
    statuses = [(await ask(sandbox, asking(sandbox, name, session_id))).status for name in ("read_session", *LINES)]
    assert statuses == [200, 200, 503, 204]


async def test_a_sequence_for_an_operation(sandbox: Sandbox) -> None:
    session_id = await created(sandbox)
    sandbox.fault(["status_503", None, find_fault("status_429")], operation="read_session")
    statuses = [(await ask(sandbox, asking(sandbox, "read_session", session_id))).status for _ in range(4)]
    assert statuses == [503, 200, 429, 200]
    assert (await ask(sandbox)).status == 201


async def test_one_payment_session(sandbox: Sandbox) -> None:
    mine, other = await created(sandbox, 1), await created(sandbox, 2)
    sandbox.fault("status_503", operation="any", payment_session_url=order(1))
    reads = [(await ask(sandbox, asking(sandbox, "read_session", one))).status for one in (mine, other, "nobody")]
    creates = [(await ask(sandbox, request(sandbox, order(number)))).status for number in (1, 2)]
    assert (reads, creates) == ([503, 200, 404], [503, 201])


async def test_chaos_is_the_same_in_every_run() -> None:
    met = []
    for _ in range(2):
        async with Sandbox() as sandbox:
            ids = [await created(sandbox, number) for number in range(20)]
            sandbox.faults.add_random(["status_429", "status_503"], 0.5, 3, operation="read_session")
            met.append([(await ask(sandbox, asking(sandbox, "read_session", one))).status for one in ids])
    assert set(met[0]) == {200, 429, 503}
    assert met[0] == met[1]


@pytest.mark.parametrize("wrong", ["create", "", "ANY", 5])
def test_an_operation_that_is_none(wrong: object) -> None:
    sandbox = Sandbox()
    with pytest.raises(ValueError, match=r"no operation is called .*read_session.*any"):
        sandbox.fault("hang", operation=wrong)


def test_a_connection_has_no_operation() -> None:
    with pytest.raises(ValueError, match="Add it alone"):
        Sandbox().fault("accept_rst", operation="read_session")


async def test_a_refused_request_meets_no_fault_that_commits(sandbox: Sandbox) -> None:
    sandbox.fault("reset_after_request", operation="any")
    assert (await ask(sandbox, asking(sandbox, "read_session", "nobody"))).status == 404
    data = asking(sandbox, "disable_session", "nobody").replace(b"Basic ", b"Basic x")
    assert (await ask(sandbox, data)).status == 401


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_a_distribution_can_succeed_with_each_documented_status(sandbox: Sandbox, status: int) -> None:
    """The documents list several: some clients accept only one of them."""
    made = (await ask(sandbox)).json
    sandbox.fault(f"status_{status}", operation="distribute_session")
    body = json.dumps({"method": "email", "contact_information": {"email": "a@example.com"}}).encode()
    reply = await ask(sandbox, call(sandbox, f"POST {PATH}/{made['session_id']}/distribution", body))
    assert (reply.status, reply.body) == (status, b"")
    assert [sent.method for sent in sandbox.record.distributions] == ["email"]
