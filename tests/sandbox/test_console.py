"""The console, without a browser: what it shows, to whom, and what it sends while things happen."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kustom_hpp.sandbox import FAULTS, FaultRules, Latency, MerchantRateLimit, Sandbox, TokenBucket
from kustom_hpp.sandbox.faults import parse_fault
from kustom_hpp.sandbox.pages import console
from kustom_hpp.sandbox.pages import console_views as views
from kustom_hpp.sandbox.pages.console_views import is_failed, request_view
from kustom_hpp.sandbox.record import RecordedRequest
from tests.sandbox.pages import HOSTILE, KP, Page, browse, create
from tests.sandbox.support import ORDER, Wire, ask, exchange, order, request

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


def rows_on(page: Page) -> list[str]:
    """The keys of the rows, in their order."""
    return [str(item["id"]) for item in page.all("li") if (item.get("class") or "").startswith("row ")]


def sessions_on(page: Page) -> list[str]:
    """The ids of the sessions in the list, in its order."""
    return [key.removeprefix("s-") for key in rows_on(page) if key.startswith("s-")]


def counts_on(page: Page) -> list[int]:
    """How many rows the filters have: all, open, paid, failed, closed, refused."""
    start = page.texts.index("All") + 1
    return [int(text) for text in page.texts[start : start + 12 : 2]]


# What it shows.


async def test_rows_stand_in_the_order_of_their_last_event(sandbox: Sandbox) -> None:
    first, second = await create(sandbox, order(1), page_title="Almost there"), await create(sandbox, KP)
    assert (await ask(sandbox, request(sandbox, authorization="Basic nonsense"))).status == 401
    page = await look(sandbox)
    assert rows_on(page) == ["r-3", f"s-{second['session_id']}", f"s-{first['session_id']}"]
    sandbox.act(first["session_id"], "decline")
    page = await look(sandbox)
    assert rows_on(page) == [f"s-{first['session_id']}", "r-3", f"s-{second['session_id']}"]
    assert "Newest event first" in page.texts
    start = page.texts.index("What happened")
    assert page.texts[start + 1 : start + 7 : 2] == ["created", "opened", "declined"]
    assert {"WAITING", "FAILED", "Almost there", "KCO order 1", "KP session"} <= set(page.texts)
    links = [link["href"] for link in page.all("a")]
    for made in (first, second):
        assert made["redirect_url"].removeprefix(sandbox.base_url) in links
        assert made["qr_code_url"].removeprefix(sandbox.base_url) in links


async def test_columns_have_headings_and_times_a_date_and_a_zone(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    page = await look(sandbox)
    start = page.texts.index("Status")
    assert page.texts[start : start + 4] == ["Status", "Session or request", "Last event", "Time"]
    created = sandbox.state.sessions[made["session_id"]].created_at
    assert f"{created:%Y-%m-%d %H:%M:%S} UTC" in page.texts
    assert {time["datetime"] for time in page.all("time")} == {created.isoformat()}


async def test_filters_show_how_many_rows_they_have(sandbox: Sandbox) -> None:
    made = [await create(sandbox, order(number)) for number in range(7)]
    for session, action in zip(made[1:], ("open", "back", "pay", "decline", "error", "cancel"), strict=True):
        sandbox.act(session["session_id"], action)
    await ask(sandbox, request(sandbox, authorization="Basic nonsense"))
    # Back without a URL for it is back all the same.
    assert counts_on(await look(sandbox)) == [8, 3, 1, 2, 1, 1]
    sandbox.expire(order(0))
    sandbox.expire(order(3))
    assert counts_on(await look(sandbox)) == [8, 2, 1, 2, 2, 1]


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
        ("?status=refused", ""),
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
    assert sorted(sessions_on(page)) == sorted(ids[int(number)] for number in found)
    assert ("hidden" in next(line for line in page.all("p") if line.get("id") == "nothing")) is bool(found)


async def test_one_session_can_be_found_by_its_ids_and_is_open_then(sandbox: Sandbox) -> None:
    made, _ = await create(sandbox, order(1)), await create(sandbox, order(2))
    sandbox.act(made["session_id"], "pay")
    stored = sandbox.state.sessions[made["session_id"]]
    for text in (made["session_id"], stored.page_id, stored.klarna_reference):
        assert sessions_on(await look(sandbox, f"?q={text}")) == [made["session_id"]]
    assert [row for row in (await look(sandbox)).all("details") if "open" in row] == []
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


REFUSED = {
    "payment_session_url": ORDER + "?key=in-payment-session",
    "merchant_urls": {"success": "no-url", "back": "https://user:in-user-info@shop.example/?sid=in-back"},
    "options": {"purchase_type": "buy", "newer": "in-newer"},
}


async def test_a_refused_request_says_why(sandbox: Sandbox) -> None:
    reply = await ask(sandbox, request(sandbox, body=json.dumps(REFUSED).encode()))
    assert reply.status == 400
    page = await look(sandbox)
    assert rows_on(page) == ["r-1"]
    start = page.texts.index("Why")
    sentences = [message.split(": ", 1) for message in reply.json["error_messages"]]
    assert len(sentences) > 1
    assert page.texts[start + 1 : start + 1 + 2 * len(sentences)] == [text for pair in sentences for text in pair]
    assert {"400", "BAD_VALUE", reply.json["correlation_id"]} <= set(page.texts)
    asked, answered = (text for text in page.texts if text.startswith(("POST /hpp/v1/sessions HTTP", "HTTP/1.1 400")))
    assert "Authorization: Basic ***" in asked
    shown = json.loads(asked.partition("\n\n")[2])
    assert shown["payment_session_url"] == ORDER + "?***"
    assert shown["merchant_urls"] == {"success": "<text of 6 characters>", "back": "https://***@shop.example/?***"}
    assert shown["options"] == {"purchase_type": "buy", "newer": "***"}
    assert json.loads(answered.partition("\n\n")[2]) == reply.json
    assert sandbox.api_key not in asked + answered


async def test_a_request_that_met_a_fault_says_which_and_what_became_of_it(sandbox: Sandbox) -> None:
    sandbox.fault("status_503", nth=1)
    sandbox.fault("status_503~commit=1", nth=2)
    sandbox.fault("reset_after_request", nth=3)
    await ask(sandbox)
    await ask(sandbox)
    await exchange(sandbox)
    refused, committed, lost = (request_view(seen, None) for seen in sandbox.record.requests)
    assert (refused["badge"], refused["group"], refused["fault"]) == ("503", "fault", "status_503")
    assert refused["rule"] == "rule 1: create_session, once"
    assert (refused["effect"], committed["effect"]) == ("The request was not processed.", "The session exists.")
    assert (lost["badge"], lost["response"], lost["effect"]) == ("no response", "", "The session exists.")
    page = await look(sandbox)
    assert {"met status_503", "Chosen by rule 1: create_session, once.", "The sandbox sent none."} <= set(page.texts)


async def test_a_session_says_which_callback_failed_and_how(sandbox: Sandbox) -> None:
    made = await create(sandbox, merchant_urls={"success": "", "status_update": "https://shop.example/" + "a" * 5_000})
    sandbox.act(made["session_id"], "open")
    await sandbox.record.wait_for(lambda record: record.callbacks)
    view = views.session_view(sandbox.state.sessions[made["session_id"]], sandbox.clock.now())
    assert (view["last"]["what"], view["last"]["group"]) == ("callback", "failed")
    assert view["last"]["detail"].startswith(
        "ClientConnectionError, attempt 1 of 4: IN_PROGRESS to https://shop.example/a"
    ) or (view["last"]["detail"].startswith("ConnectionError, attempt 1 of 4: IN_PROGRESS to https://shop.example/a"))
    classes = [line.get("class") for line in (await look(sandbox)).all("span")]
    assert "last failed" in classes


async def test_a_session_says_what_the_api_would_refuse(sandbox: Sandbox) -> None:
    made = await create(sandbox)
    stored = sandbox.state.sessions[made["session_id"]]
    sandbox.state.record_event(stored, "warning", "options.purchase_type: buy is BUY")
    sandbox.act(stored, "open")
    view = views.session_view(stored, sandbox.clock.now())
    assert (view["warnings"], [entry["group"] for entry in view["timeline"]]) == (1, ["open", "warning", "open"])
    assert {"1 warning", "options.purchase_type: buy is BUY"} <= set((await look(sandbox)).texts)


async def test_rules_and_limits_are_shown() -> None:
    async with Sandbox(rate_limit=5) as sandbox:
        sandbox.fault("status_503", times=1)
        for _ in range(30):
            sandbox.fault(["hang", None], skip=50)
        assert (await ask(sandbox)).status == 503
        page = await look(sandbox)
    start = page.texts.index("Faults", page.texts.index("Python"))
    sequence = ["hang, then none", "create_session, from number 51 on", "Triggered 0 of 1", "Remove"]
    assert page.texts[start + 1 : start + 9] == sequence * 2
    assert "Rate limit 5 creates a second, 5 at once; no latency." in page.texts


def test_limits_in_words() -> None:
    assert views.limits_text(None, None) == "No rate limit; no latency."
    bucket = TokenBucket(MerchantRateLimit(0.5, burst=3))
    assert views.limits_text(bucket, Latency(0.25)) == "Rate limit 0.5 creates a second, 3 at once; latency 0.25 s."
    assert views.limits_text(None, Latency(0, 1)) == "No rate limit; latency 0 to 1 s."


@pytest.mark.parametrize(
    ("what", "where", "words"),
    [
        ("hang", {}, "create_session"),
        ("hang", {"nth": 3}, "create_session, from number 3 on, once"),
        ("hang", {"skip": 1000, "times": 2}, "create_session, from number 1,001 on, twice"),
        ("hang", {"times": 3, "operation": "read_session"}, "read_session, 3 times"),
        ("hang", {"times": 0, "operation": "any"}, "any operation, 0 times"),
        ("hang~probability=0.25", {}, "create_session, with probability 0.25"),
        ("hang", {"payment_session_url": f"{ORDER}?token=secret"}, f"create_session, for {ORDER.rpartition('/')[2]}"),
        (
            "hang",
            {"payment_session_url": "https://me:secret@shop.example?token=secret"},
            "create_session, for ***@shop.example",
        ),
        ("accept_rst", {"nth": 2}, "connections, from number 2 on, once"),
    ],
)
def test_a_rule_says_when_it_applies(what: str, where: dict[str, Any], words: str) -> None:
    script = FaultRules()
    script.add(what, **where)
    [shown] = views.rule_views(script.rules)
    assert (shown["faults"], shown["rule"].when) == (what.partition("~")[0], words)


def test_a_random_rule_and_an_endless_one_in_words() -> None:
    script = FaultRules()
    script.add_random(["status_500", "hang~seconds=2"], 0.1, 1)
    script.add(["hang", None] * 5_000)
    drawn, endless = views.rule_views(script.rules)
    assert drawn["faults"] == "status_500 or hang~seconds=2"
    assert endless["faults"].startswith("hang, then none, then hang, ")
    assert len(endless["faults"]) == 201


async def test_exhausted_rules_come_last_and_say_so(sandbox: Sandbox) -> None:
    sandbox.fault("status_503", nth=1)
    sandbox.fault(["status_429", None])
    sandbox.fault("status_500", skip=9)
    assert [rule.exhausted for rule in sandbox.faults.rules] == [False, False, False]
    assert [(await ask(sandbox)).status for _ in range(3)] == [503, 429, 201]
    assert [rule.exhausted for rule in sandbox.faults.rules] == [True, True, False]
    page = await look(sandbox)
    start = page.texts.index("Faults", page.texts.index("Python"))
    assert page.texts[start + 1 : start + 14] == [
        "status_500", "create_session, from number 10 on", "Triggered 0 of 3", "Remove",
        "status_503", "create_session, once", "Exhausted, triggered 1 of 3", "Remove",
        "status_429, then none", "create_session", "Exhausted, triggered 2 of 3", "Remove", "Clear all faults",
    ]  # fmt: skip
    assert [row.get("class") for row in page.all("li")].count("exhausted") == 2


async def test_a_fault_that_met_a_session_stands_in_its_timeline(sandbox: Sandbox) -> None:
    sandbox.fault("status_503~commit=1", times=1)
    await ask(sandbox)
    assert "create_session got status_503~commit=1" in (await look(sandbox)).texts


def test_a_request_without_a_response_yet_is_in_flight() -> None:
    seen = RecordedRequest(
        number=1, connection=1, method="POST", target="/x?secret", headers=(), fault=None, status=None
    )
    assert not is_failed(seen)
    seen.fault = parse_fault("hang")
    assert is_failed(seen)
    view = request_view(seen, None)
    assert (view["badge"], view["title"], view["subtitle"], view["summary"]) == (
        "in flight",
        "Unknown endpoint",
        "POST /x",
        "met hang",
    )
    seen.done = True
    assert request_view(seen, None)["badge"] == "no response"


async def test_the_command_works_as_it_stands(sandbox: Sandbox) -> None:
    """The line is the one to paste: it works as it stands."""
    page = await look(sandbox)
    assert {"hidden", "id"} <= next(part for part in page.all("section") if part["id"] == "activity").keys()
    assert "Send your first request" in page.texts
    line = next(text for text in page.texts if text.startswith("curl -sS"))
    process = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert sessions_on(await look(sandbox)) == [json.loads(out)["session_id"]]


async def test_the_program_works_as_it_stands(sandbox: Sandbox) -> None:
    await create(sandbox)
    page = await look(sandbox)
    program = next(text for text in page.texts if text.startswith("import asyncio"))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode().strip() == sandbox.record.created[1].redirect_url


async def test_how_to_connect_stays_after_the_first_session(sandbox: Sandbox) -> None:
    await create(sandbox)
    page = await look(sandbox)
    assert {sandbox.base_url, sandbox.username, sandbox.api_key, "curl", "Python"} <= set(page.texts)
    copied = {button["data-copy"] for button in page.all("button") if "data-copy" in button}
    assert copied == {"base-url", "username", "key", "curl", "python"}
    assert {"/openapi.json", "/faults"} <= {link["href"] for link in page.all("a")}


async def test_the_list_of_faults_has_every_fault(sandbox: Sandbox) -> None:
    texts = (await browse(sandbox.base_url + "/faults")).page.texts
    assert [name for name in FAULTS if name not in texts] == []


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
    ("host", "shown"),
    [
        ("127.0.0.1:80", True),
        ("localhost:8000", True),
        ("shop.localhost", True),
        ("evil.example", False),
        ("10.0.0.1", False),
    ],
)
async def test_the_key_is_shown_on_this_machine_only(sandbox: Sandbox, host: str, shown: bool) -> None:
    async with await Wire.open(sandbox.base_url) as wire:
        wire.writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        reply = await wire.answer()
    assert (sandbox.api_key.encode() in reply.body) is shown
    assert (b"$KUSTOM_HPP_API_KEY" in reply.body) is not shown
    assert (b"os.environ[&#34;KUSTOM_HPP_API_KEY&#34;]" in reply.body) is not shown


async def test_hostile_texts_are_texts(sandbox: Sandbox) -> None:
    text = HOSTILE.translate(dict.fromkeys(map(ord, ' "<>`\\^'), "-"))
    await create(
        sandbox,
        ORDER + text + "x" * 10_000,
        merchant_urls={"success": f"https://shop.example/'{text}"},
        page_title=HOSTILE + "x" * 100_000,
    )
    [stored] = sandbox.state.sessions.values()
    sandbox.state.record_event(stored, "callback", HOSTILE)
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
    first_key = f"s-{first['session_id']}"
    async with streaming(sandbox) as stream:
        event = await stream.event()
        assert event["order"] == list(event["items"]) == [first_key]
        assert event["counts"] == {"all": 1, "open": 1, "paid": 0, "failed": 0, "closed": 0, "refused": 0}

        second_key = f"s-{(await create(sandbox, order(2)))['session_id']}"
        event = await stream.event()
        assert event["order"] == [second_key, first_key]
        assert list(event["items"]) == [second_key]

        sandbox.act(first["session_id"], "pay")
        event = await stream.event_with("COMPLETED")
        assert list(event["items"]) == [first_key]
        assert event["counts"] == {"all": 2, "open": 1, "paid": 1, "failed": 0, "closed": 0, "refused": 0}

        assert (await ask(sandbox, request(sandbox, authorization="Basic nonsense"))).status == 401
        event = await stream.event_with("UNAUTHORIZED")
        assert list(event["items"]) == ["r-3"]

        sandbox.fault("hang")
        event = await stream.event_with("Triggered 0 of 0")
        assert event["items"] == {}
        sandbox.latency = 0.5
        assert (await stream.event())["limits"] == "No rate limit; latency 0.5 s."
        sandbox.clock.advance(hours=48)
        assert list((await stream.event_with("EXPIRED"))["items"])[-1:] == [second_key]


async def test_a_stream_is_narrowed_down_as_its_page(sandbox: Sandbox) -> None:
    made = await create(sandbox, order(1))
    async with streaming(sandbox, "?status=paid") as stream:
        assert (await stream.event())["order"] == []
        await create(sandbox, order(2))
        assert (await stream.event())["order"] == []
        sandbox.act(made["session_id"], "pay")
        event = await stream.event_with("COMPLETED")
        assert event["order"] == list(event["items"]) == [f"s-{made['session_id']}"]


async def test_much_at_once_comes_in_few_events(sandbox: Sandbox) -> None:
    async with streaming(sandbox) as stream:
        await stream.event()
        ids = [sandbox.state.create(_asked(number)).session_id for number in range(300)]
        for session_id in ids:
            sandbox.act(session_id, "pay")
        event = await stream.event()
    assert event["order"] == list(event["items"]) == [f"s-{session_id}" for session_id in ids[:199:-1]]
    assert event["counts"]["paid"] == 300


async def test_a_quiet_stream_says_that_it_is_alive(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_KEEPALIVE", 2)
    async with streaming(sandbox) as stream:
        await stream.event()
        assert await stream.comment() == ": still here\n"


async def test_a_browser_that_leaves_is_forgotten(sandbox: Sandbox) -> None:
    before = len(sandbox.state._listeners)
    async with streaming(sandbox) as stream:
        await stream.event()
        assert len(sandbox.state._listeners) == before + 1
    await sandbox.record.wait_for(lambda _: not sandbox._server.page_tasks)
    assert len(sandbox.state._listeners) == before


async def test_an_open_console_holds_nothing_up() -> None:
    async with Sandbox() as sandbox:
        await asyncio.to_thread(__import__, "jinja2")
        http = aiohttp.ClientSession()
        answer = await http.get(sandbox.base_url + STREAM)
        await Stream(answer).event()
        await create(sandbox)
        await sandbox.wait_until_idle()
    with contextlib.suppress(aiohttp.ClientError):
        await answer.read()
    await http.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_without_jinja2_the_console_names_the_extra(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for path in ("/", STREAM):
        got = await browse(sandbox.base_url + path)
        assert (got.status, got.text) == (501, "This page needs jinja2: pip install 'kustom_hpp[sandbox]'\n")
