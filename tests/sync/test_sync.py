"""SyncHPPClient in threads and forked processes; the sandbox's record is the judge."""

import asyncio
import contextlib
import inspect
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kustom_hpp as hpp
from kustom_hpp.sandbox.threaded import ThreadedSandbox

ROOT = Path(__file__).parents[2]
CREATING_FAULTS = ("reset_after_request", "close_after_request", "garbage", "half_headers", "body_empty")
"""After each of them the session exists, and the client cannot know its id."""
REFUSING_FAULTS = ("status_400", "status_403")
FAST_RETRIES = hpp.RetrySettings(initial=0.001, maximum=0.01)


def request(client: hpp.SyncHPPClient, order_id: object) -> hpp.CreateSessionRequest:
    return hpp.CreateSessionRequest(payment_session_url=client.order_url(str(order_id)))


@pytest.fixture
def sandbox():
    with ThreadedSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox):
    with hpp.SyncHPPClient(sandbox.api_key, base_url=sandbox.base_url, retry=FAST_RETRIES) as client:
        yield client


def outcome_of(client: hpp.SyncHPPClient, order_id: str) -> str | hpp.HPPError:
    """Return the id of a created session, or the error."""
    try:
        return client.create_session(request(client, order_id)).session_id
    except hpp.HPPError as error:
        return error


def judge(sandbox: ThreadedSandbox, outcomes: dict[str, str | hpp.HPPError]) -> Counter[str]:
    """Hold outcomes by order against the sandbox's record: no order twice, no session that nobody reported."""
    created = {each.payment_session_url.rpartition("/")[2]: each.session_id for each in sandbox.record.created}
    assert len(created) == len(sandbox.record.created)
    kinds: Counter[str] = Counter()
    for order_id, outcome in outcomes.items():
        if isinstance(outcome, str):
            assert created.get(order_id) == outcome
            kinds["created"] += 1
        elif isinstance(outcome, hpp.OutcomeUnknownError):
            kinds["unknown"] += 1
        else:
            assert order_id not in created
            kinds["refused"] += 1
    assert set(created) <= set(outcomes)
    return kinds


@pytest.mark.parametrize("calls", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_eight_threads(sandbox, client, calls):
    for seed, name in enumerate((*CREATING_FAULTS, *REFUSING_FAULTS)):
        sandbox.fault(name, probability=0.03, seed=seed)

    def work(thread: int) -> dict[str, str | hpp.HPPError]:
        return {order: outcome_of(client, order) for order in (f"{thread}-{number}" for number in range(calls))}

    with ThreadPoolExecutor(8) as threads:
        outcomes = {order: outcome for part in threads.map(work, range(8)) for order, outcome in part.items()}
    kinds = judge(sandbox, outcomes)
    assert kinds.total() == 8 * calls
    assert len(sandbox.record.created) == kinds["created"] + kinds["unknown"]
    assert min(kinds["unknown"], kinds["refused"]) > 0  # the faults did their work


def test_each_method_is_the_async_one_without_await(sandbox, client):
    session = client.create_session(request(client, 1))
    assert client.read_session(session).session_id == session.session_id
    client.distribute_session(session, hpp.EmailDistribution(email="a@b.example"))
    sandbox.act(session, "pay")
    assert client.wait_for_session(session, deadline=5).status is hpp.SessionStatus.COMPLETED
    other = client.create_session(request(client, 2))
    client.disable_session(other)
    assert client.read_session(other).status is hpp.SessionStatus.DISABLED


def test_it_has_every_method_with_the_same_arguments():
    methods = {name for name, each in vars(hpp.HPPClient).items() if name[0] != "_" and inspect.isfunction(each)}
    assert methods - {"aclose"} <= set(vars(hpp.SyncHPPClient))
    assert inspect.signature(hpp.SyncHPPClient) == inspect.signature(hpp.HPPClient)
    for name in methods - {"aclose", "with_options", "order_url"}:
        method = getattr(hpp.SyncHPPClient, name)
        assert not inspect.iscoroutinefunction(method)
        assert inspect.signature(method) == inspect.signature(getattr(hpp.HPPClient, name))


def test_errors_are_those_of_the_async_client(sandbox, client):
    with pytest.raises(hpp.InvalidRequestError) as caught:
        client.create_session(hpp.CreateSessionRequest(payment_session_url="x"))
    assert caught.value.problems[0][0] == "payment_session_url"
    with pytest.raises(hpp.NotFoundError):
        client.read_session("unknown")
    with pytest.raises(hpp.ConfigError):
        client.create_session(request(client, 1), deadline="soon")  # type: ignore[arg-type]
    assert len(sandbox.record.created) == 0


@pytest.mark.parametrize("options", [{"api_key": "kco_test_x", "environment": "live"}, {"base_url": "ftp://x"}])
def test_wrong_settings_are_refused_at_once(options):
    before = threading.active_count()
    with pytest.raises(hpp.ConfigError):
        hpp.SyncHPPClient(**options)
    assert threading.active_count() == before


def test_a_borrowed_session_is_refused():
    with pytest.raises(hpp.ConfigError, match="belongs to an event loop"):
        hpp.SyncHPPClient("kco_test_x", http_session=object())  # type: ignore[arg-type]


def test_from_env_and_repr(monkeypatch):
    monkeypatch.setenv("KUSTOM_HPP_API_KEY", "kco_test_secret")
    client = hpp.SyncHPPClient.from_env()
    assert repr(client) == "<SyncHPPClient at https://api.playground.kustom.co, playground>"
    assert client.settings.environment is hpp.Environment.PLAYGROUND


def test_a_view_shares_the_thread(sandbox, client):
    view = client.with_options(headers={"Kustom-Partner": "one"}).with_options(on_unknown="resend")
    client.create_session(request(client, 1))
    threads = threading.active_count()
    view.create_session(request(client, 2))
    assert threading.active_count() == threads
    assert [each.header("Kustom-Partner") for each in sandbox.record.posts] == [None, b"one"]
    assert view.settings.retry.on_unknown == "resend"
    with pytest.raises(hpp.ConfigError, match="view"):
        view.close()


# Closing


def test_close(sandbox):
    before = threading.active_count()
    client = hpp.SyncHPPClient(sandbox.api_key, base_url=sandbox.base_url)
    client.create_session(request(client, 1))
    client.close()
    client.close()
    assert threading.active_count() == before
    with pytest.raises(hpp.ClientClosedError):
        client.create_session(request(client, 2))
    assert len(sandbox.record.posts) == 1


def test_close_waits_for_calls_in_flight(sandbox, client):
    sandbox.fault("hang~seconds=0.5", nth=1)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(outcome_of, client, "1")
        sandbox.wait_for(lambda record: record.posts)
        client.close()
        assert call.done() or call.result(5)


def test_a_client_that_is_not_used_starts_no_thread(sandbox):
    before = threading.active_count()
    with hpp.SyncHPPClient(sandbox.api_key, base_url=sandbox.base_url):
        assert threading.active_count() == before


def test_a_forgotten_client_stops_its_thread(sandbox):
    before = threading.active_count()
    client = hpp.SyncHPPClient(sandbox.api_key, base_url=sandbox.base_url)
    client.create_session(request(client, 1))
    del client
    assert threading.active_count() == before


# Interrupts


class InterruptError(Exception):
    """What a signal handler raises: a soft time limit, say."""


@contextlib.contextmanager
def alarm(seconds: float, error: type[BaseException]):
    def ring(*_: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("error", [InterruptError, KeyboardInterrupt, TimeoutError])
def test_an_interrupt_after_sending_says_unknown(sandbox, client, error):
    sandbox.fault("hang", nth=1)
    with alarm(0.3, error), pytest.raises(error) as caught:
        client.create_session(request(client, 1))
    assert caught.value.delivery is hpp.Delivery.UNKNOWN
    assert caught.value.__notes__ == ["create_session was interrupted: the API may have processed the request"]
    assert len(sandbox.record.posts) == 1
    assert client.create_session(request(client, 2)).info.attempts == 1  # the client goes on


def test_an_interrupt_before_sending_says_not_sent(sandbox):
    with hpp.SyncHPPClient(sandbox.api_key, base_url=sandbox.base_url, pace=hpp.Pace(0.1)) as client:
        client.create_session(request(client, 1))
        with alarm(0.2, InterruptError), pytest.raises(InterruptError) as caught:
            client.create_session(request(client, 2))  # the rate limiter holds it back
    assert caught.value.delivery is None
    assert caught.value.__notes__ == ["create_session was interrupted: nothing was attempted"]
    assert len(sandbox.record.posts) == 1


def test_an_interrupt_between_attempts_says_what_the_first_one_did(sandbox):
    sandbox.fault("reset_after_request", nth=1)
    retrying = threading.Event()
    slow = hpp.RetrySettings(initial=20.0, maximum=20.0, budget=60.0, on_unknown="resend")

    def hook(event: object) -> None:
        if isinstance(event, hpp.Retrying):
            retrying.set()

    with hpp.SyncHPPClient(sandbox.api_key, base_url=sandbox.base_url, retry=slow, hooks=[hook]) as client:
        interrupter = threading.Thread(
            target=lambda: retrying.wait(10) and signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        )
        interrupter.start()
        with alarm(15, InterruptError), pytest.raises(InterruptError) as caught:
            client.create_session(request(client, 1))
        interrupter.join()
    assert caught.value.delivery is hpp.Delivery.UNKNOWN
    assert len(sandbox.record.created) == len(sandbox.record.posts) == 1


def test_a_hook_cannot_call_the_client_in_its_own_thread(sandbox):
    errors = []

    def hook(event: object) -> None:
        with pytest.raises(hpp.WrongLoopError) as caught:
            client.read_session("x")
        errors.append(caught.value)

    with hpp.SyncHPPClient(sandbox.api_key, base_url=sandbox.base_url, hooks=[hook]) as client:
        client.create_session(request(client, 1))
    assert len(errors) == 2
    assert [each.operation for each in sandbox.record.requests] == ["create_session"]


# One async client in several threads


def test_an_async_client_in_two_threads_sends_nothing_from_the_second(sandbox):
    client = hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url)
    barrier = threading.Barrier(8)

    def work(number: int) -> object:
        async def create() -> object:
            barrier.wait(5)
            try:
                return (
                    await client.create_session(
                        hpp.CreateSessionRequest(payment_session_url=client.order_url(str(number)))
                    )
                ).session_id
            except hpp.HPPError as error:
                return type(error)
            finally:
                with contextlib.suppress(hpp.WrongLoopError):
                    await client.aclose()

        return asyncio.run(create())

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(work, range(8)))
    assert set(outcomes) - {each.session_id for each in sandbox.record.created} <= {
        hpp.WrongLoopError,
        hpp.ClientClosedError,
    }
    assert len([each for each in outcomes if isinstance(each, str)]) == len(sandbox.record.created) == 1


# Fork


def _create_in_child(client: hpp.SyncHPPClient, order_id: str, results: "multiprocessing.Queue[str]") -> None:
    results.put(client.create_session(request(client, order_id)).session_id)
    client.close()


@pytest.mark.parametrize("used_before", [True, False])
def test_each_forked_process_starts_its_own(sandbox, client, used_before):
    if used_before:
        client.create_session(request(client, "parent"))
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    children = [
        context.Process(target=_create_in_child, args=(client, f"child-{number}", results)) for number in range(2)
    ]
    for child in children:
        child.start()
    ids = {results.get(timeout=20) for _ in children}
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0]
    after = client.create_session(request(client, "after")).session_id
    assert {each.session_id for each in sandbox.record.created} >= ids | {after}
    assert len(sandbox.record.created) == 3 + used_before


# The servers that shops use, started for real


def environment(sandbox: ThreadedSandbox, **more: str) -> dict[str, str]:
    return os.environ | {
        "KUSTOM_HPP_API_KEY": sandbox.api_key,
        "KUSTOM_HPP_BASE_URL": sandbox.base_url,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        **more,
    }


@contextlib.contextmanager
def running(command: list[str], env: dict[str, str], log: Path):
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def post(url: str) -> dict[str, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=20) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def as_outcome(reply: dict[str, str]) -> str | hpp.HPPError:
    return (
        reply["session_id"] if "session_id" in reply else getattr(hpp, reply["error"])("", delivery=reply["delivery"])
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_flask_under_gunicorn_gthread(sandbox, tmp_path, preload):
    for seed, name in enumerate(CREATING_FAULTS):
        sandbox.fault(name, probability=0.03, seed=seed)
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "-k", "gthread", "--workers", "2", "--threads", "8", *preload,
        "--bind", f"127.0.0.1:{port}", "tests.sync.flask_shop:app",
    ]  # fmt: skip
    log = tmp_path / "log"
    with running(command, environment(sandbox), log):
        deadline = time.monotonic() + 30
        while b"Listening at" not in log.read_bytes():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        with ThreadPoolExecutor(16) as threads:
            orders = [str(number) for number in range(400)]
            replies = threads.map(lambda order: post(f"http://127.0.0.1:{port}/pay/{order}"), orders)
            outcomes = dict(zip(orders, map(as_outcome, replies), strict=True))
    kinds = judge(sandbox, outcomes)
    assert len(sandbox.record.created) == kinds["created"] + kinds["unknown"] == 400
    assert "RuntimeError" not in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_celery_prefork(sandbox, tmp_path):
    sandbox.fault("hang", payment_session_url=f"{sandbox.base_url}/checkout/v3/orders/late")
    for seed, name in enumerate(CREATING_FAULTS):
        sandbox.fault(name, probability=0.03, seed=seed)
    for name in ("queue", "control", "results"):
        (tmp_path / name).mkdir()
    env = environment(sandbox, SHOP_FOLDER=str(tmp_path))
    command = [
        sys.executable, "-m", "celery", "-A", "tests.sync.celery_shop", "worker", "-P", "prefork", "-c", "4",
        "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "info",
    ]  # fmt: skip
    enqueue = """
import json, sys
from tests.sync.celery_shop import create, create_in_time
assert create_in_time.apply_async(["late"], soft_time_limit=1).get(timeout=60) == "unknown"
results = {str(number): create.delay(str(number)) for number in range(200)}
print(json.dumps({order: result.get(timeout=60) for order, result in results.items()}))
"""
    log = tmp_path / "log"
    with running(command, env, log):
        done = subprocess.run(
            [sys.executable, "-c", enqueue], env=env, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
        )
    assert done.returncode == 0, done.stderr + log.read_text()
    outcomes = {order: as_outcome(reply) for order, reply in json.loads(done.stdout).items()}
    kinds = judge(sandbox, outcomes | {"late": hpp.LostResponseError("the task had no more time")})
    assert len(sandbox.record.created) == kinds["created"] + kinds["unknown"] == 201
    assert "RuntimeError" not in log.read_text()
