"""`kustom-hpp demo`."""

import asyncio
import contextlib
import io
import re
import webbrowser

import aiohttp
import pytest
from rich.console import Console

from kustom_hpp._protocol.codec import codec
from kustom_hpp.cli.demo import example_batch, example_orders, run_demo
from kustom_hpp.sandbox import Sandbox
from tests.cli.conftest import Cli, run

ROW = re.compile(r"(\S.*?) +([0-9a-f-]{36})  (http://127\.0\.0\.1:\d+/eu/hpp/payments/\w+) +(\d+(?:\.\d)?)")


def test_the_example_orders_are_requests_without_a_flaw() -> None:
    orders = example_orders()
    assert 5 <= len(orders) <= 8
    assert len({order["order_id"] for order in orders}) == len(orders)
    for order in orders:
        url = f"https://api.kustom.co/checkout/v3/orders/{order['order_id']}"
        request = codec().structure_request({"payment_session_url": url, **order["request"]})
        assert (request.problems(), request.warnings()) == ((), ())


def test_the_batch_is_made_of_the_shipped_orders_and_none_is_there_twice() -> None:
    orders = example_batch()
    assert orders[: len(example_orders())] == example_orders()
    assert len({order["order_id"] for order in orders}) == len({order["name"] for order in orders}) == len(orders) == 24
    assert example_batch() == orders


def test_a_pipe_gets_plain_lines() -> None:
    done = run("demo", NO_COLOR="")
    assert (done.code, done.err) == (0, "")
    head, *lines, summary, retried, lost, console = done.out.splitlines()
    assert head.split() == ["Order", "Session", "id", "Redirect", "URL", "ms"]
    created = [row for line in lines if (row := ROW.fullmatch(line.strip()))]
    names = [order["name"] for order in example_batch()]
    assert [row[1] for row in created] == [*names[:9], *names[10:]]
    assert len({row[2] for row in created}) == len(created)
    assert summary.startswith("23 of 24 sessions created, 1 in doubt, in ")
    assert (retried, lost) == (
        f"{names[4]}: a 429 means not processed, so it was sent again.",
        f"{names[9]}: the session may exist, so it was not sent again.",
    )
    assert console == "Open the sandbox's console with: kustom-hpp demo --open"
    assert [line.strip() for line in lines].count("created by attempt 2") == 1
    assert [line for line in lines if line.startswith(names[9]) and "LostResponseError, delivery unknown" in line]
    assert done.out.isascii()


async def test_one_create_is_retried_and_one_is_not(environment: pytest.MonkeyPatch) -> None:
    """Judged by what the sandbox saw."""
    opened: list[str] = []
    posts: list[tuple[int, bool]] = []
    environment.setattr(webbrowser, "open", opened.append)
    closed = Sandbox.aclose

    async def aclose(sandbox: Sandbox) -> None:
        for order in (example_batch()[4], example_batch()[9]):
            url = f"{sandbox.base_url}/checkout/v3/orders/{order['order_id']}"
            posts.append((len(sandbox.record.posts_for(url)), len(sandbox.record.created_for(url)) == 1))
        await closed(sandbox)

    environment.setattr(Sandbox, "aclose", aclose)
    console = Console(file=io.StringIO(), width=400)
    demo = asyncio.create_task(run_demo(console, open_console=True))
    async with asyncio.timeout(20):
        while not opened:
            await asyncio.sleep(0.01)
    async with aiohttp.ClientSession() as http, http.get(opened[0]) as response:
        page = await response.text()
    assert page.count('<li class="row session"') == 24
    assert page.count('<li class="row request"') == 2
    demo.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await demo
    assert posts == [(2, True), (1, True)]
    assert f"The sandbox's console is at {opened[0]} until Ctrl-C." in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_settings_of_the_environment_are_left_alone(cli: Cli, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KUSTOM_HPP_BASE_URL", "https://api.kustom.co")
    environment.setenv("KUSTOM_HPP_API_KEY", "kco_live_api_xxxxxxxx")
    done = cli("demo")
    assert done.code == 0
    assert "kustom.co" not in done.out


def terminal(width: int, **settings: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False, **settings)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return shown[shown.rindex("╭") :].rpartition("╯")[0]  # the last state of a table that grew


@pytest.mark.parametrize("width", [60, 80, 120, 200])
async def test_at_every_width_nothing_is_cut(environment: pytest.MonkeyPatch, width: int) -> None:
    console = terminal(width)
    assert await run_demo(console) == 0
    shown = text_of(console)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    # A folded text goes on in the same column: read down the columns, it is whole again.
    rows = [line.split("│")[2:-2] for line in shown.splitlines() if line.startswith("│")]
    shown = " ".join("".join(cell.strip() for cell in column) for column in zip(*rows, strict=True))
    ids = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", shown)
    urls = re.findall(r"http://127\.0\.0\.1:\d+/eu/hpp/payments/\w{10}", shown)
    assert len(ids) == len(urls) == len(example_batch()) - 1


async def test_at_80_columns_a_url_is_not_even_folded(environment: pytest.MonkeyPatch) -> None:
    console = terminal(80)
    await run_demo(console)
    assert len(re.findall(r"/eu/hpp/payments/\w{10} ", text_of(console))) == len(example_batch()) - 1


async def test_no_color_is_respected(environment: pytest.MonkeyPatch) -> None:
    colour, plain = terminal(80, color_system="standard"), terminal(80, no_color=True, color_system="standard")  # type: ignore[arg-type]
    await run_demo(colour)
    await run_demo(plain)
    assert "\x1b[36m" in colour.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[36m" not in plain.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("faults", "code", "due"),
    [
        (["status_404~times=2"], 1, "NotFoundError, delivery rejected"),
        (["status_404~times=2", "status_503~skip=3,times=2"], 4, "ServerError, delivery unknown"),
        (["reset_after_request~nth=2"], 4, "LostResponseError, delivery unknown"),
    ],
)
async def test_a_failure_is_a_row_and_the_exit_code(faults: list[str], code: int, due: str) -> None:
    console = Console(file=io.StringIO(), width=400)
    assert await run_demo(console, faults) == code
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert due in shown
    failed = shown.count(", delivery ")
    assert f"{len(example_batch()) - failed} of {len(example_batch())} sessions created" in shown


async def test_a_batch_that_stops_shows_what_it_did() -> None:
    console = Console(file=io.StringIO(), width=400)
    assert await run_demo(console, ["status_503~skip=3"]) == 4
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("http://127.0.0.1:") >= 3
    assert "\n3 of 24 sessions created, " in shown
    assert "so it was not sent again" not in shown
