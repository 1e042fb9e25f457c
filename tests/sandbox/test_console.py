"""The console, without a browser: what it shows, to whom, and what it sends while things happen."""

import asyncio
import contextlib
import datetime as dt
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kustom_hpp.sandbox import Sandbox, Script
from kustom_hpp.sandbox.pages import console
from kustom_hpp.sandbox.pages import console_views as log
from kustom_hpp.sandbox.recorded import RequestSeen
from tests.sandbox.pages import HOSTILE, KP, Page, browse, create
from tests.sandbox.support import ORDER, Wire, ask, order, request

STREAM = "/_sandbox/console/stream"
SECRETS = {
    "success": "https://user:in-user-info@shop.example/thanks?sid={{session_id}}&token=in-success#in-fragment",
    "status_update": "https://shop.example/status?secret=in-status-update",
}


class Stream:
    """A browser's event stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def comment(self) -> str:
        """The next line that is no event."""
        async with asyncio.timeout(5):
            while (line := (await self._answer.content.readline()).decode()).startswith("data:") or not line.strip():
                assert line
        return line

    async def event(self) -> dict[str, Any]:
        """The next event."""
        async with asyncio.timeout(5):
            while not (line := await self._answer.content.readline()).startswith(b"data: "):
                assert line, "the stream has ended"
        event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        return event

    async def event_with(self, text: str) -> dict[str, Any]:
        """The next event that holds a text: what happened may come in several."""
        while text not in json.dumps(event := await self.event()):
            pass
        return event


@contextlib.asynccontextmanager
async def streaming(sandbox: Sandbox, query: str = "") -> AsyncIterator[Stream]:
    async with (
        aiohttp.ClientSession(read_bufsize=1 << 22) as http,
        http.get(f"{sandbox.base_url}{STREAM}{query}") as answer,
    ):
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
        yield Stream(answer)


async def look(sandbox: Sandbox, query: str = "") -> Page:
    got = await browse(sandbox.base_url + "/" + query)
    assert got.status == 200
    return got.page


def sessions_on(page: Page) -> list[str | None]:
    """The ids of the sessions in the list, in its order."""
    return [item["id"].removeprefix("s-") for item in page.all("li") if item.get("class") == "session"]


def counts_on(page: Page) -> list[int]:
    start = page.texts.index("Created") - 1
    return [int(text) for text in page.texts[start : start + 10 : 2]]


# What it shows.


async def test_sessions_stand_newest_first_with_what_happened(sandbox: Sandbox) -> None:
    first, second = await create(sandbox, order(1)), await create(sandbox, KP)
    sandbox.act(first["session_id"], "decline")
    page = await look(sandbox)
    assert sessions_on(page) == [second["session_id"], first["session_id"]]
    [timeline] = [page.texts[i:] for i, text in enumerate(page.texts) if text == "What happened"][1:]
    assert timeline[2:7:2] == ["created", "opened", "declined"]
    assert {"WAITING", "FAILED", "KP", "KCO", "1"} <= set(page.texts)
    links = [link["href"] for link in page.all("a")]
    for made in (first, second):
        assert made["redirect_url"].removeprefix(sandbox.base_url) in links
        assert made["qr_code_url"].removeprefix(sandbox.base_url) in links


async def test_numbers_tell_how_the_sessions_stand(sandbox: Sandbox) -> None:
    made = [await create(sandbox, order(number)) for number in range(7)]
    for session, action in zip(made[1:], ("open", "back", "pay", "decline", "error", "cancel"), strict=True):
        sandbox.act(session["session_id"], action)
    # Back without a URL for it is back all the same.
    assert counts_on(await look(sandbox)) == [7, 3, 1, 2, 1]
    sandbox.expire(order(0))
    sandbox.expire(order(3))
    assert counts_on(await look(sandbox)) == [7, 2, 1, 2, 2]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "3210"),
        ("?status=paid", "1"),
        ("?status=open", "0"),
        ("?status=failed", "2"),
        ("?status=closed", "3"),
        ("?status=nothing", "3210"),
        ("?q=orders/2", "2"),
        ("?q=COMPLETED", "1"),
        ("?q=expired", "3"),
        ("?q=%20Complete%20", "1"),
        ("?q=summer+sale", "2"),
        ("?q=orders&status=failed", "2"),
        ("?q=nothing", ""),
        ("?q=" + "x" * 1_000, ""),
        ("?q=%00&q=2&status=", ""),
    ],
)
async def test_it_narrows_down(sandbox: Sandbox, query: str, found: str) -> None:
    ids = [(await create(sandbox, order(number)))["session_id"] for number in (0, 1)]
    ids.append((await create(sandbox, order(2), page_title="Summer Sale"))["session_id"])
    ids.append((await create(sandbox, order(3)))["session_id"])
    sandbox.act(ids[1], "pay")
    sandbox.act(ids[2], "decline")
    sandbox.expire(order(3))
    page = await look(sandbox, query)
    assert sessions_on(page) == [ids[int(number)] for number in found]
    assert ("hidden" in next(line for line in page.all("p") if line.get("id") == "nothing")) is bool(found)


async def test_one_session_can_be_found_by_its_ids_and_is_open_then(sandbox: Sandbox) -> None:
    made, _ = await create(sandbox, order(1)), await create(sandbox, order(2))
    sandbox.act(made["session_id"], "pay")
    stored = sandbox.state.sessions[made["session_id"]]
    for text in (made["session_id"], stored.page_id, stored.klarna_reference):
        assert sessions_on(await look(sandbox, f"?q={text}")) == [made["session_id"]]
    assert [found for found in (await look(sandbox)).all("details") if "open" in found] == []
    assert "open" in (await look(sandbox, f"?q={made['session_id']}")).all("details")[0]


async def test_the_newest_hundred_are_shown_and_older_ones_are_found(sandbox: Sandbox) -> None:
    ids = [sandbox.state.create(_asked(number)).session_id for number in range(102)]
    page = await look(sandbox)
    assert sessions_on(page) == ids[:1:-1]
    assert [line.get("id") for line in page.all("p") if "hidden" not in line and line.get("id") == "more"] == ["more"]
    assert sessions_on(await look(sandbox, "?q=orders/0")) == ids[:1]
    assert counts_on(page)[0] == 102


def _asked(number: int) -> Any:
    from kustom_hpp.models import CreateSessionRequest

    return CreateSessionRequest(payment_session_url=order(number))


async def test_faults_quota_and_refusals_are_told() -> None:
    async with Sandbox(quota=5) as sandbox:
        sandbox.fault("status_503", times=1)
        for _ in range(9):
            sandbox.fault(["hang", None], skip=50)
        assert (await ask(sandbox)).status == 503
        assert (await ask(sandbox, request(sandbox, authorization="Basic nonsense"))).status == 401
        page = await look(sandbox)
    start = page.texts.index("In force")
    sequence = ["hang, then none", "met 0 of 2", "create_session, from number 51 on"]
    assert page.texts[start + 1 : start + 28] == [
        "quota", "5 creates a second, 5 at once", *sequence * log.MAX_RULES, "and 2 more",
    ]  # fmt: skip
    start = page.texts.index("Refused, or met by a fault")
    assert [text for text in page.texts[start + 1 : start + 7] if ":" not in text or "/" in text] == [
        "POST /hpp/v1/sessions", "answered 401", "POST /hpp/v1/sessions", "met status_503, answered 503",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "where", "told"),
    [
        ("hang", {}, "create_session"),
        ("hang", {"nth": 3}, "create_session, from number 3 on, once"),
        ("hang", {"skip": 1000, "times": 2}, "create_session, from number 1,001 on, twice"),
        ("hang", {"times": 3, "operation": "read_session"}, "read_session, 3 times"),
        ("hang", {"times": 0, "operation": "any"}, "any operation, 0 times"),
        ("hang~probability=0.25", {}, "create_session, with probability 0.25"),
        ("hang", {"only": f"{ORDER}?token=secret"}, f"create_session, for {ORDER.rpartition('/')[2]}"),
        ("hang", {"only": "https://me:secret@shop.example?token=secret"}, "create_session, for ***@shop.example"),
        ("accept_rst", {"nth": 2}, "connections, from number 2 on, once"),
    ],
)
def test_a_rule_tells_when_it_applies(what: str, where: dict[str, Any], told: str) -> None:
    script = Script()
    script.add(what, **where)
    [shown] = log.rule_views(script.rules, None)
    assert (shown.what, shown.when, shown.met) == (what.partition("~")[0], told, "met 0 of 0")


def test_a_rule_that_draws_and_one_without_end_are_told() -> None:
    script = Script()
    script.chaos(["status_500", "hang~seconds=2"], 0.1, 1)
    script.add(["hang", None] * 5_000)
    drawn, endless = log.rule_views(script.rules, None)
    assert drawn.what == "status_500 or hang~seconds=2"
    assert endless.what.startswith("hang, then none, then hang, ")
    assert len(endless.what) == 201


async def test_rules_that_are_spent_come_last_and_say_so(sandbox: Sandbox) -> None:
    sandbox.fault("status_503", nth=1)
    sandbox.fault(["status_429", None])
    sandbox.fault("status_500", skip=9)
    assert [rule.spent for rule in sandbox.faults.rules] == [False, False, False]
    assert [(await ask(sandbox)).status for _ in range(3)] == [503, 429, 201]
    assert [rule.spent for rule in sandbox.faults.rules] == [True, True, False]
    got = await browse(sandbox.base_url + "/")
    start = got.page.texts.index("In force")
    assert got.page.texts[start + 1 : start + 10] == [
        "status_500", "met 0 of 3", "create_session, from number 10 on",
        "status_503", "spent, met 1 of 3", "create_session, once",
        "status_429, then none", "spent, met 2 of 3", "create_session",
    ]  # fmt: skip
    assert [row.get("class") for row in got.page.all("li")].count("spent") == 2


async def test_a_fault_that_met_a_session_stands_in_its_timeline(sandbox: Sandbox) -> None:
    sandbox.fault("status_503~commit=1", times=1)
    await ask(sandbox)
    assert "create_session met status_503~commit=1" in (await look(sandbox)).texts


def test_a_request_that_hangs_is_told_as_such() -> None:
    now = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    seen = RequestSeen(number=1, connection=1, method="POST", target="/x?secret", headers=(), fault=None, status=None)
    assert log.failed_requests([seen], lambda _: now) == ()
    from kustom_hpp.sandbox import Fault

    seen.fault = Fault("hang")
    [trouble] = log.failed_requests([seen], lambda _: now)
    assert (trouble.time, trouble.request, trouble.outcome) == ("03:04:05", "POST /x", "met hang, not answered yet")
    seen.done = True
    assert log.failed_requests([seen], lambda _: now)[0].outcome == "met hang"


async def test_nothing_yet_tells_what_to_do(sandbox: Sandbox) -> None:
    """The line is the one to paste: it works as it stands."""
    page = await look(sandbox)
    assert "No sessions yet" in page.texts
    line = next(text for text in page.texts if text.startswith("curl"))
    process = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert sessions_on(await look(sandbox)) == [json.loads(out)["session_id"]]


# Whom it tells what.


async def test_no_secret_is_shown(sandbox: Sandbox) -> None:
    body = {
        "payment_session_url": KP + "?key=in-payment-session",
        "merchant_urls": SECRETS,
        "options": {
            "logo_url": "https://cdn.example/logo.png?signature=in-logo",
            "background_images": [{"url": "https://cdn.example/?signature=in-image", "width": 480, "alt": "in-newest"}],
            "newer": "in-newer",
        },
        "x_new": {"token": "in-extra"},
    }
    assert (await ask(sandbox, request(sandbox, body=json.dumps(body).encode()))).status == 201
    [stored] = sandbox.state.sessions.values()
    sandbox.act(stored, "pay")
    shown = (await browse(sandbox.base_url + "/")).text
    async with streaming(sandbox) as stream:
        shown += json.dumps(await stream.event())
    assert stored.authorization_token is not None
    for secret in (stored.token, stored.authorization_token):
        assert secret not in shown
    for place in (
        "user-info",
        "success",
        "fragment",
        "status-update",
        "payment-session",
        "logo",
        "image",
        "new",
        "extra",
    ):
        assert f"in-{place}" not in shown
    assert "https://***@shop.example/thanks?***" in shown


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1:80", True),
        ("localhost:8000", True),
        ("shop.localhost", True),
        ("evil.example", False),
        ("10.0.0.1", False),
    ],
)
async def test_the_key_is_told_to_this_machine_alone(sandbox: Sandbox, host: str, told: bool) -> None:
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        reply = await wire.answer()
        wire.writer.write(f"GET {STREAM} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        event = await wire.reader.readuntil(b"data: ") + await wire.reader.readuntil(b"\n\n")
    for shown in (reply.body, event):
        assert (sandbox.api_key.encode() in shown) is told
        assert (b"$KUSTOM_HPP_API_KEY" in shown) is not told


async def test_hostile_texts_are_texts(sandbox: Sandbox) -> None:
    text = HOSTILE.translate(dict.fromkeys(map(ord, ' "<>`\\^'), "-"))
    await create(
        sandbox,
        ORDER + text + "x" * 10_000,
        merchant_urls={"success": f"https://shop.example/'{text}"},
        page_title=HOSTILE + "x" * 100_000,
    )
    [stored] = sandbox.state.sessions.values()
    sandbox.state.note(stored, "callback", HOSTILE)
    got = await browse(sandbox.base_url + "/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert [tag.get("src") for tag in got.page.all("script")] == ["/_sandbox/static/console.js"]
    got = await browse(sandbox.base_url + "/")
    assert [tag.get("src") for tag in got.page.all("script")] == ["/_sandbox/static/console.js"]
    attributes = {name for _, attributes in got.page.elements for name in attributes}
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert HOSTILE in got.page.texts
    # What would turn the direction of the JSON around is spelled out, and what is endless has an end.
    asked = next(text for text in got.page.texts if text.startswith("{"))
    assert "\u202e" not in asked
    assert "\\u202eRTL" in asked
    assert len(asked) < 21_000


async def test_its_policy_lets_only_its_own_script_run(sandbox: Sandbox) -> None:
    policy = (await browse(sandbox.base_url + "/")).policy
    assert policy["script-src"] == policy["connect-src"] == policy["form-action"] == ["'self'"]
    assert policy["default-src"] == policy["frame-ancestors"] == ["'none'"]


async def test_it_is_no_api(sandbox: Sandbox) -> None:
    sandbox.fault("status_503")
    await look(sandbox)
    async with streaming(sandbox) as stream:
        await stream.event()
    assert sandbox.record.counts.requests == 0


# What it sends while things happen.


async def test_what_happens_is_sent_and_nothing_else(sandbox: Sandbox) -> None:
    first = await create(sandbox, order(1))
    async with streaming(sandbox) as stream:
        event = await stream.event()
        assert event["order"] == list(event["items"]) == [first["session_id"]]
        assert event["counts"] == {"created": 1, "open": 1, "paid": 0, "failed": 0, "closed": 0}

        second = await create(sandbox, order(2))
        event = await stream.event()
        assert event["order"] == [second["session_id"], first["session_id"]]
        assert list(event["items"]) == [second["session_id"]]

        sandbox.act(first["session_id"], "pay")
        event = await stream.event_with("COMPLETED")
        assert list(event["items"]) == [first["session_id"]]
        assert event["counts"] == {"created": 2, "open": 1, "paid": 1, "failed": 0, "closed": 0}

        assert (await ask(sandbox, request(sandbox, authorization="Basic nonsense"))).status == 401
        event = await stream.event_with("answered 401")
        assert event["items"] == {}


async def test_a_stream_is_narrowed_down_as_its_page(sandbox: Sandbox) -> None:
    made = await create(sandbox, order(1))
    async with streaming(sandbox, "?status=paid") as stream:
        assert (await stream.event())["order"] == []
        await create(sandbox, order(2))
        assert (await stream.event())["order"] == []
        sandbox.act(made["session_id"], "pay")
        event = await stream.event_with("COMPLETED")
        assert event["order"] == list(event["items"]) == [made["session_id"]]


async def test_much_at_once_comes_in_few_events(sandbox: Sandbox) -> None:
    async with streaming(sandbox) as stream:
        await stream.event()
        ids = [sandbox.state.create(_asked(number)).session_id for number in range(300)]
        for session_id in ids:
            sandbox.act(session_id, "pay")
        event = await stream.event()
    assert event["order"] == list(event["items"]) == ids[:199:-1]
    assert event["counts"]["paid"] == 300


async def test_a_quiet_stream_says_that_it_is_alive(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_PING", 2)
    async with streaming(sandbox) as stream:
        await stream.event()
        assert await stream.comment() == ": still here\n"


async def test_a_browser_that_leaves_is_forgotten(sandbox: Sandbox) -> None:
    before = len(sandbox.state._listeners)
    async with streaming(sandbox) as stream:
        await stream.event()
        assert len(sandbox.state._listeners) == before + 1
    await sandbox.record.wait_for(lambda _: not sandbox._server.guests)
    assert len(sandbox.state._listeners) == before


async def test_an_open_console_holds_nothing_up() -> None:
    async with Sandbox() as sandbox:
        await asyncio.to_thread(__import__, "jinja2")
        http = aiohttp.ClientSession()
        answer = await http.get(sandbox.base_url + STREAM)
        await Stream(answer).event()
        await create(sandbox)
        await sandbox.settled()
    with contextlib.suppress(aiohttp.ClientError):
        await answer.read()
    await http.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_without_jinja2_the_console_names_the_extra(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for path in ("/", STREAM):
        got = await browse(sandbox.base_url + path)
        assert (got.status, got.text) == (501, "This page needs jinja2: pip install 'kustom_hpp[sandbox]'\n")
