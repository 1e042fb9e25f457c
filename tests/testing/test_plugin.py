"""The pytest plugin, in pytest runs of their own: each as at a shop that uses one of the async plugins."""

import importlib.metadata
from dataclasses import dataclass

import pytest

pytest_plugins = ["pytester"]


@dataclass(frozen=True)
class Regime:
    """How a shop runs its async tests."""

    mark: str
    without: tuple[str, ...]
    ini: str = ""


REGIMES = {
    "pytest-asyncio, strict": Regime(
        "@pytest.mark.asyncio", ("aiohttp", "anyio"), "asyncio_default_fixture_loop_scope = function"
    ),
    "pytest-asyncio, auto": Regime(
        "", ("aiohttp", "anyio"), "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = session\n"
        "asyncio_default_test_loop_scope = session",
    ),
    "pytest-aiohttp": Regime("", ("anyio",), "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function"),
    "anyio": Regime('@pytest.mark.anyio\n@pytest.mark.parametrize("anyio_backend", ["asyncio"])', ("asyncio", "aiohttp")),
}  # fmt: skip
STRICT = REGIMES["pytest-asyncio, strict"]

SHOP = """
    import pytest
    import kustom_hpp as hpp

    async def payment_page(client, order_id="1001"):
        session = await client.create_session(
            hpp.CreateSessionRequest(
                payment_session_url=client.order_url(order_id),
                merchant_urls=hpp.MerchantUrls(success="https://shop.example/thanks/{{order_id}}"),
            )
        )
        return session.payment_page
"""


def run(pytester: pytest.Pytester, regime: Regime, *files: str, options: tuple[str, ...] = ()) -> pytest.RunResult:
    """Run these tests in a process of their own; every warning is an error there."""
    pytester.makeini(f"[pytest]\naddopts = --strict-markers -p no:cacheprovider -p no:cov\n{regime.ini}")
    for number, text in enumerate(files):
        source = "\n".join(line.removeprefix("    ") for line in (SHOP + text).split("\n"))
        pytester.makepyfile(**{f"test_shop_{number}": source.replace("@ASYNC", regime.mark)})
    without = [word for name in regime.without for word in ("-p", f"no:{name}")]
    return pytester.runpytest_subprocess("-W", "error", *without, *options, timeout=50)


def test_it_is_there_when_the_package_is_installed() -> None:
    [found] = importlib.metadata.entry_points(group="pytest11", name="kustom_hpp")
    assert found.value == "kustom_hpp.testing.plugin"


@pytest.mark.parametrize(
    "regime",
    [
        pytest.param(regime, id=name, marks=[] if "auto" in name else [pytest.mark.slow])
        for name, regime in REGIMES.items()
    ],
)
def test_async_tests(pytester: pytest.Pytester, regime: Regime) -> None:
    result = run(
        pytester,
        regime,
        """
    @ASYNC
    async def test_a_customer_pays(kustom_sandbox, kustom_client):
        async with kustom_client() as client:
            page = await payment_page(client)
        [made] = kustom_sandbox.record.created
        assert page == made.redirect_url
        assert kustom_sandbox.act(made.session_id, "pay") == "https://shop.example/thanks/1001"

    @ASYNC
    @pytest.mark.kustom_sandbox(faults=["status_429~times=2"])
    async def test_it_is_tried_again(kustom_sandbox, kustom_client):
        async with kustom_client() as client, kustom_client() as other:
            await payment_page(client)
            await payment_page(other)
        assert [post.status for post in kustom_sandbox.record.posts] == [429, 429, 201, 201]

    @ASYNC
    async def test_a_lost_answer_is_no_second_session(kustom_sandbox, kustom_client):
        kustom_sandbox.fault("reset_after_request")
        async with kustom_client() as client:
            with pytest.raises(hpp.OutcomeUnknownError):
                await payment_page(client)
        assert kustom_sandbox.record.counts.created == 1

    @ASYNC
    async def test_forgets(kustom_client):
        await payment_page(kustom_client())
        await payment_page(kustom_client())

    @ASYNC
    async def test_closes(kustom_client):
        client = kustom_client()
        await payment_page(client)
        await client.aclose()

    def test_makes_no_call(kustom_client):
        assert kustom_client().order_url("1").endswith("/checkout/v3/orders/1")
        kustom_client(transport=hpp.FakeTransport(lambda request: None), retry=hpp.RetrySettings())
    """,
    )
    # A client that is left open fails its own test, and no other one.
    result.assert_outcomes(passed=6, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_forgets*",
            "2 client(s) of kustom_client were left open: write `async with kustom_client() as client:`, or *",
        ]
    )
    result.stdout.no_fnmatch_line("*ResourceWarning*")
    assert "Unclosed" not in result.stderr.str()


@pytest.mark.slow
def test_with_the_test_client_of_aiohttp(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        REGIMES["pytest-aiohttp"],
        """
    from aiohttp import web

    async def test_the_shop_redirects(kustom_sandbox, kustom_client, aiohttp_client):
        async def pay(request):
            raise web.HTTPSeeOther(await payment_page(client))

        app = web.Application()
        app.router.add_post("/pay", pay)
        async with kustom_client() as client:
            shop = await aiohttp_client(app)
            answer = await shop.post("/pay", allow_redirects=False)
        assert answer.headers["Location"] == kustom_sandbox.record.created[0].redirect_url
    """,
    )
    result.assert_outcomes(passed=1)


def test_sync_tests(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        STRICT,
        """
    import asyncio

    def test_a_command(kustom_sandbox, monkeypatch):
        monkeypatch.setenv("KUSTOM_HPP_BASE_URL", kustom_sandbox.base_url)
        monkeypatch.setenv("KUSTOM_HPP_API_KEY", kustom_sandbox.api_key)

        async def command():
            async with hpp.HPPClient.from_env() as client:
                return await payment_page(client)

        assert asyncio.run(command()) == kustom_sandbox.record.created[0].redirect_url

    def test_forgets(kustom_client):
        async def command():
            await payment_page(kustom_client())

        asyncio.run(command())
    """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["1 client(s) of kustom_client were left open*"])
    result.stdout.no_fnmatch_line("*ResourceWarning*")


LIVE_SERVER = """
    import asyncio, gc, threading
    from kustom_hpp.testing import client_factory as clients

    class Live:
        def __init__(self, main):
            self.up, self.down = threading.Event(), threading.Event()
            self.thread = threading.Thread(target=asyncio.run, args=(self.serve(main),))
            self.thread.start()
            assert self.up.wait(10)

        async def serve(self, main):
            leave = await main()
            self.up.set()
            while not self.down.is_set():
                await leave()

        def stop(self):
            self.down.set()
            self.thread.join(10)
            assert not self.thread.is_alive()

    @pytest.fixture
    def live():
        lives = []
        yield lambda main: lives.append(Live(main))
        for one in lives:
            one.stop()
"""


@pytest.mark.slow
def test_a_client_in_the_loop_of_another_thread(pytester: pytest.Pytester) -> None:
    """As with a live server for a browser: that loop runs on while the test ends."""
    result = run(
        pytester,
        STRICT,
        LIVE_SERVER
        + """
    open_ones = []

    def test_forgets(live, kustom_client):
        async def main():
            for client in (kustom_client(), kustom_client()):
                await payment_page(client)
                open_ones.append(client)
            return lambda: asyncio.sleep(0.01)

        live(main)

    def test_closes(live, kustom_client):
        async def main():
            async with kustom_client() as client:
                await payment_page(client)
            return lambda: asyncio.sleep(0.01)

        live(main)

    def test_innocent():
        assert [client._create_context.transport.bound_loop for client in open_ones] == [None, None]
        open_ones.clear()
        gc.collect()
    """,
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["2 client(s) of kustom_client were left open*"])
    assert "Unclosed" not in result.stderr.str()


@pytest.mark.slow
def test_a_client_in_a_loop_that_does_not_turn(pytester: pytest.Pytester) -> None:
    """It is told, and closed when its loop turns again; the one beside it is closed at once."""
    result = run(
        pytester,
        STRICT,
        LIVE_SERVER
        + """
    stuck, free, made = threading.Event(), threading.Event(), []

    @pytest.fixture
    def frees(live):
        yield
        assert [client._create_context.transport.bound_loop is None for client in made] == [False, True]
        free.set()

    def test_forgets(frees, live, kustom_client, monkeypatch):
        monkeypatch.setattr(clients, "_CLOSE_TIMEOUT", 0.1)
        monkeypatch.setattr(clients, "_LOOP_TIMEOUT", 0.1)

        async def main():
            made.append(kustom_client())
            await payment_page(made[-1])
            return sticks if len(made) == 1 else lambda: asyncio.sleep(0.01)

        async def sticks():
            stuck.set()
            assert free.wait(10)
            while made[0]._create_context.transport.bound_loop is not None:
                await asyncio.sleep(0.01)

        live(main)
        live(main)
        assert stuck.wait(10)

    def test_innocent():
        made.clear()
        gc.collect()
    """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["2 client(s) of kustom_client were left open*"])
    result.stdout.no_fnmatch_line("*never awaited*")
    assert "Unclosed" not in result.stderr.str()


@pytest.mark.slow
def test_each_test_has_a_sandbox_of_its_own_and_nothing_stays(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        STRICT,
        """
    import threading
    seen = []

    @pytest.mark.parametrize("number", range(3))
    @ASYNC
    async def test_one(kustom_sandbox, kustom_client, number):
        assert kustom_sandbox.record.counts.connections == 0
        async with kustom_client() as client:
            await payment_page(client)
        assert kustom_sandbox.record.counts.created == 1
        seen.append(kustom_sandbox.api_key)

    def test_after():
        assert len(set(seen)) == 3
        assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
    """,
    )
    result.assert_outcomes(passed=4)


def test_the_marker_gives_the_sandbox_its_options(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        STRICT,
        """
    pytestmark = pytest.mark.kustom_sandbox(api_key="module", username="me")

    def test_of_the_module(kustom_sandbox):
        assert (kustom_sandbox.api_key, kustom_sandbox.username) == ("module", "me")

    @pytest.mark.kustom_sandbox(api_key="class")
    class TestNearer:
        def test_of_the_class(self, kustom_sandbox):
            assert (kustom_sandbox.api_key, kustom_sandbox.username) == ("class", "me")

        @pytest.mark.kustom_sandbox(api_key="test", rate_limit=2)
        def test_of_the_test(self, kustom_sandbox):
            assert (kustom_sandbox.api_key, kustom_sandbox.username) == ("test", "me")
            assert kustom_sandbox.call(lambda sandbox: sandbox.rate_limit.limit.rate) == 2

    @pytest.mark.kustom_sandbox(qouta=2)
    def test_unknown(kustom_sandbox):
        pass

    @pytest.mark.kustom_sandbox(faults=["hnag"])
    def test_bad(kustom_sandbox):
        pass

    @pytest.mark.kustom_sandbox(2)
    def test_by_position(kustom_sandbox):
        pass
    """,
    )
    result.assert_outcomes(passed=3, errors=3)
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.kustom_sandbox: *unexpected keyword argument 'qouta'*",
            "@pytest.mark.kustom_sandbox: no fault is called 'hnag'; did you mean hang?",
            "@pytest.mark.kustom_sandbox takes keyword options only, got (2,)",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result = pytester.runpytest_subprocess("--markers", timeout=50)
    result.stdout.fnmatch_lines(["@pytest.mark.kustom_sandbox(?*options): options of kustom_sandbox*"])


@pytest.mark.slow
def test_a_sandbox_whose_thread_dies_fails_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        STRICT,
        """
    def test_dies(kustom_sandbox):
        def leave():
            raise SystemExit("out")

        def die(sandbox):
            import asyncio
            asyncio.get_running_loop().call_soon(leave)

        kustom_sandbox.call(die)
    """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E*RuntimeError: the thread of the sandbox has died"])


@pytest.mark.slow
def test_many_processes(pytester: pytest.Pytester) -> None:
    text = """
    @pytest.mark.parametrize("number", range(4))
    @ASYNC
    async def test_one(kustom_sandbox, kustom_client, number):
        async with kustom_client() as client:
            await payment_page(client)
        assert kustom_sandbox.record.counts.created == 1
    """
    result = run(pytester, STRICT, text, text, options=("-n", "2"))
    result.assert_outcomes(passed=8)


def test_a_run_that_does_not_ask_for_it_loads_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_other="""
    import sys

    def test_other(request):
        assert request.config.pluginmanager.has_plugin("kustom_hpp")
        mine = {name for name in sys.modules if name.partition(".")[0] == "kustom_hpp"}
        assert mine == {"kustom_hpp", "kustom_hpp.testing", "kustom_hpp.testing.plugin"}
        assert not {"aiohttp", "cattrs", "yarl"} & set(sys.modules)
    """
    )
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:aiohttp", "-p", "no:asyncio", timeout=50)
    result.assert_outcomes(passed=1)
