"""A loop in a thread: what it is asked comes back, also where the thread is gone."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest

from kustom_hpp.sandbox import loop_thread
from kustom_hpp.sandbox.loop_thread import LoopThread


class Life:
    """Says where it was entered and left."""

    def __init__(self) -> None:
        self.entered: threading.Thread | None = None
        self.left: threading.Thread | None = None

    async def __aenter__(self) -> None:
        self.entered = threading.current_thread()

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        self.left = threading.current_thread()


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    thread = LoopThread("the thing", Life())
    thread.start()
    yield thread
    thread.stop()


async def forever(began: "Future[None]") -> None:
    began.set_result(None)
    await asyncio.get_running_loop().create_future()


def die() -> None:
    """Let the loop end as a call of sys.exit in one of its callbacks does."""

    def leave() -> None:
        raise SystemExit("out")

    asyncio.get_running_loop().call_soon(leave)


def test_its_life_is_lived_in_the_thread() -> None:
    before, life = set(threading.enumerate()), Life()
    thread = LoopThread("the thing", life)
    thread.start()
    assert life.entered is not threading.current_thread()
    assert (life.entered.name, life.left) == ("the thing", None)
    thread.stop()
    assert life.left is life.entered
    assert set(threading.enumerate()) == before
    thread.stop()


def test_what_runs_in_it_gives_its_result_or_its_error(thread: LoopThread) -> None:
    async def sleep() -> str:
        return await asyncio.sleep(0, "slept")

    async def fail() -> None:
        raise KeyError("no")

    assert thread.run(sleep()) == "slept"
    assert thread.call(lambda: threading.current_thread().name) == "the thing"
    with pytest.raises(KeyError, match="no"):
        thread.run(fail())
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)


def test_what_cancels_itself_is_cancelled_and_no_end(thread: LoopThread) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(CancelledError):
        thread.run(give_up())
    assert thread.call(lambda: "goes on") == "goes on"


def test_many_may_ask_at_once(thread: LoopThread) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda number: thread.call(lambda: number), range(500))) == list(range(500))


def test_its_own_thread_is_answered_at_once_and_waits_for_nothing(thread: LoopThread) -> None:
    async def inside() -> str:
        assert thread.call(lambda: "at once") == "at once"
        with pytest.raises(RuntimeError, match="cannot wait for its own answer"):
            thread.run(asyncio.sleep(0))
        return "went on"

    assert thread.run(inside()) == "went on"


def test_it_is_not_asked_before_or_after_its_life() -> None:
    thread = LoopThread("the thing", Life())
    thread.stop()
    with pytest.raises(RuntimeError, match="the thing is closed"):
        thread.call(int)
    thread.start()
    thread.stop()
    with pytest.raises(RuntimeError, match="the thing is closed"):
        thread.run(asyncio.sleep(0))
    with pytest.raises(RuntimeError, match="the thing was opened before: make a new one"):
        thread.start()


def test_a_life_that_cannot_begin_raises_what_kept_it() -> None:
    @contextlib.asynccontextmanager
    async def life() -> AsyncIterator[None]:
        raise OSError("no port")
        yield

    before = set(threading.enumerate())
    thread = LoopThread("the thing", life())
    with pytest.raises(OSError, match="no port"):
        thread.start()
    assert set(threading.enumerate()) == before
    thread.stop()


def test_closing_ends_those_who_wait() -> None:
    thread = LoopThread("the thing", Life())
    thread.start()
    began: Future[None] = Future()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(thread.run, forever(began))
        began.result(5)
        thread.stop()
        with pytest.raises(RuntimeError, match="the thing is closed"):
            waiting.result(5)


def test_a_thread_that_dies_tells_everyone() -> None:
    life = Life()
    thread = LoopThread("the thing", life)
    thread.start()
    began: Future[None] = Future()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(thread.run, forever(began))
        began.result(5)
        thread.call(die)
        for ask in (waiting.result, lambda: thread.call(int), thread.stop, thread.stop):
            with pytest.raises(RuntimeError, match=r"the thread of the thing has died: SystemExit\('out'\)") as caught:
                ask()
            assert isinstance(caught.value.__cause__, SystemExit)
    assert life.left is not None


def test_what_was_asked_in_the_moment_of_its_death_is_answered() -> None:
    thread = LoopThread("the thing", Life())
    thread.start()
    blocked, go_on = threading.Event(), threading.Event()

    def wait_and_leave() -> None:
        blocked.set()
        go_on.wait()
        raise SystemExit("out")

    thread._loop.call_soon_threadsafe(wait_and_leave)
    blocked.wait()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(thread.run, asyncio.sleep(1000))
        while not thread._waiting:
            time.sleep(0)
        go_on.set()
        with pytest.raises(RuntimeError, match="the thread of the thing has died"):
            asked.result(5)
    with pytest.raises(RuntimeError, match="has died"):
        thread.stop()


def test_a_life_that_ends_badly_is_told() -> None:
    @contextlib.asynccontextmanager
    async def life() -> AsyncIterator[None]:
        yield
        raise ValueError("at the end")

    thread = LoopThread("the thing", life())
    thread.start()
    with pytest.raises(RuntimeError, match="has died: ValueError"):
        thread.stop()


def test_a_thread_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_thread, "_PATIENCE", 0.05)
    thread = LoopThread("the thing", Life())
    thread.start()
    blocked, go_on = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        go_on.wait()

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(thread.call, block)
        blocked.wait()
        with pytest.raises(RuntimeError, match="does not end: something blocks its event loop"):
            thread.stop()
        go_on.set()
        asked.result(5)
    monkeypatch.undo()
    thread.stop()
