"""The console's forms, without a browser: what they do, and from whom the sandbox takes them."""

import base64
from typing import Any

import pytest

from kustom_hpp.sandbox import Sandbox
from tests.sandbox.pages import Got, browse, create
from tests.sandbox.support import Wire

ROOT = "/_sandbox/console"
OURS = {"Sec-Fetch-Site": "same-origin"}


async def send(sandbox: Sandbox, path: str, headers: dict[str, str] | None = None, **form: Any) -> Got:
    return await browse(sandbox.base_url + ROOT + path, "POST", data=form, headers=OURS if headers is None else headers)


def notice(got: Got) -> str:
    """The notice on the page."""
    start = got.text.index('<p class="notice">') + len('<p class="notice">')
    return got.text[start : got.text.index("</p>", start)].replace("&#39;", "'")


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("open", "IN_PROGRESS"),
        ("pay", "COMPLETED"),
        ("decline", "FAILED"),
        ("error", "ERROR"),
        ("back", "BACK"),
        ("cancel", "CANCELLED"),
    ],
)
async def test_an_action_does_what_act_does(sandbox: Sandbox, action: str, status: str) -> None:
    made = await create(sandbox)
    got = await send(sandbox, f"/sessions/{made['session_id']}/{action}")
    assert (got.status, got.headers["Location"]) == (303, "/")
    assert sandbox.state.sessions[made["session_id"]].status == status


async def test_a_session_can_be_expired(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    assert (await send(sandbox, f"/sessions/{made['session_id']}/expire")).status == 303
    assert sandbox.state.find(made["session_id"]) is None


async def test_a_callback_can_be_repeated(sandbox: Sandbox) -> None:
    made = await create(sandbox, merchant_urls={"success": "", "status_update": "https://shop.example/"})
    path = f"/sessions/{made['session_id']}/repeat_callback"
    got = await send(sandbox, path)
    assert (got.status, notice(got)) == (404, "No status callback has been sent for this session.")
    sandbox.act(made["session_id"], "open")
    await sandbox.record.wait_for(lambda record: len(record.callbacks) == 1)
    page = (await browse(sandbox.base_url + "/")).page
    assert ROOT + path in page.forms
    assert (await send(sandbox, path)).status == 303


async def test_the_buttons_of_a_session_are_what_can_be_done_with_it(sandbox: Sandbox) -> None:
    made = await create(sandbox, merchant_urls={"success": "", "back": "https://shop.example/"})
    root = f"{ROOT}/sessions/{made['session_id']}/"

    async def actions() -> list[str]:
        page = (await browse(sandbox.base_url + "/")).page
        return [form.removeprefix(root) for form in page.forms if form and form.startswith(root)]

    assert await actions() == ["pay", "decline", "error", "back", "expire"]
    sandbox.act(made["session_id"], "pay")
    assert await actions() == []


async def test_faults_can_be_added_and_removed_and_cleared(sandbox: Sandbox) -> None:
    got = await send(sandbox, "/faults", fault=" hang~seconds=2 ", operation="read_session", nth="3", times="")
    assert got.status == 303
    got = await send(sandbox, "/faults", fault="status_503", operation="any", probability="0.5", times="2")
    assert got.status == 303
    first, second = sandbox.faults.rules
    assert (str(first.faults[0]), first.when) == ("hang~seconds=2", "read_session, from number 3 on, once")
    assert second.when == "any operation, twice, with probability 0.5"
    assert (await send(sandbox, "/faults/1/remove")).status == 303
    assert sandbox.faults.rules == (second,)
    got = await send(sandbox, "/faults/1/remove")
    assert (got.status, notice(got)) == (404, "Rule 1 has been removed already.")
    assert (await send(sandbox, "/faults/clear")).status == 303
    assert sandbox.faults.rules == ()


async def test_limits_can_be_set_and_removed(sandbox: Sandbox) -> None:
    assert (await send(sandbox, "/rate_limit", rate="40", burst="80")).status == 303
    assert sandbox.rate_limit is not None
    assert (sandbox.rate_limit.limit.rate, sandbox.rate_limit.limit.size) == (40, 80)
    assert (await send(sandbox, "/rate_limit", rate="", burst="")).status == 303
    assert sandbox.rate_limit is None
    for form, low, high in (({"low": "0.1", "high": "0.5"}, 0.1, 0.5), ({"low": "0.2"}, 0.2, None)):
        assert (await send(sandbox, "/latency", **form)).status == 303
        assert sandbox.latency is not None
        assert (sandbox.latency.low, sandbox.latency.high) == (low, high)
    assert (await send(sandbox, "/latency")).status == 303
    assert sandbox.latency is None


@pytest.mark.parametrize(
    ("path", "form", "status", "says"),
    [
        ("/faults", {"fault": "status_5O3"}, 400, "did you mean status_503?"),
        ("/faults", {}, 400, "Choose a fault."),
        ("/faults", {"fault": "hang", "nth": "0"}, 400, "counts from 1"),
        ("/rate_limit", {"rate": "many"}, 400, "Rate is not a number: 'many'."),
        ("/rate_limit", {"rate": "0"}, 400, "must be from 0.00001"),
        ("/rate_limit", {"rate": "1", "burst": "inf"}, 400, "infinity"),
        ("/latency", {"low": "2", "high": "1"}, 400, "from a lower number"),
        ("/latency", {"low": "nan"}, 400, "low"),
        ("/sessions/nothing/pay", {}, 404, "The sandbox has no such session."),
        ("/faults", {"fault": "x" * 20_000}, 413, "The form is too large."),
    ],
)
async def test_a_wrong_value_is_a_notice_and_changes_nothing(
    sandbox: Sandbox, path: str, form: dict[str, str], status: int, says: str
) -> None:
    got = await send(sandbox, path, **form)
    assert got.status == status
    assert says in notice(got)
    assert (sandbox.faults.rules, sandbox.rate_limit, sandbox.latency) == ((), None, None)


async def test_a_closed_session_and_an_unknown_action_are_notices(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    sandbox.act(made["session_id"], "pay")
    got = await send(sandbox, f"/sessions/{made['session_id']}/cancel")
    assert (got.status, notice(got)) == (400, "The session is COMPLETED.")
    got = await send(sandbox, f"/sessions/{made['session_id']}/dance")
    assert (got.status, notice(got)) == (404, "There is no action 'dance'.")


async def test_a_form_leads_back_to_the_filter_that_it_came_from(sandbox: Sandbox) -> None:
    headers = OURS | {"Referer": f"{sandbox.base_url}/?q=100&status=paid&other=1"}
    assert (await send(sandbox, "/faults/clear", headers)).headers["Location"] == "/?q=100&status=paid"
    got = await send(sandbox, "/faults/clear", OURS | {"Referer": "http://[broken"})
    assert got.headers["Location"] == "/"


# From whom.


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{own}"}, False),
        ({"Origin": "{own}"}, True),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({}, False),
    ],
)
async def test_a_form_of_another_site_is_refused(sandbox: Sandbox, headers: dict[str, str], accepted: bool) -> None:
    made = await create(sandbox)
    headers = {name: value.replace("{own}", sandbox.base_url) for name, value in headers.items()}
    for path in (f"/sessions/{made['session_id']}/pay", "/faults", "/rate_limit", "/latency"):
        got = await send(sandbox, path, headers, fault="hang", rate="1", low="0.001")
        assert got.status == (303 if accepted else 403)
    changed = len(sandbox.faults.rules), sandbox.rate_limit is not None, sandbox.latency is not None
    assert changed == ((1, True, True) if accepted else (0, False, False))
    assert sandbox.state.sessions[made["session_id"]].status == ("COMPLETED" if accepted else "WAITING")


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1", "192.168.0.7:8000"])
async def test_another_machine_needs_the_key(sandbox: Sandbox, host: str) -> None:
    """A name that is not this machine's own counts as another machine: an attacker's may resolve to it."""
    basic = base64.b64encode(f"{sandbox.username}:{sandbox.api_key}".encode()).decode()
    for authorization, status in ((None, 401), ("Basic bm9ib2R5Om5vdGhpbmc=", 401), (f"Basic {basic}", 303)):
        sent = f"Authorization: {authorization}\r\n" if authorization else ""
        async with await Wire.open(sandbox.base_url) as wire:
            wire.writer.write(
                f"POST {ROOT}/rate_limit HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{sent}"
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\nrate=5".encode()
            )
            reply = await wire.answer()
        assert reply.status == status
        assert (reply.header("WWW-Authenticate") is not None) is (status == 401)
        assert (sandbox.rate_limit is not None) is (status == 303)


async def test_actions_are_no_requests_of_the_api(sandbox: Sandbox) -> None:
    sandbox.fault("status_503", operation="any")
    await send(sandbox, "/latency", low="0")
    assert sandbox.record.counts.requests == 0
    assert (await browse(f"{sandbox.base_url}{ROOT}/latency")).status in {401, 404, 405}
