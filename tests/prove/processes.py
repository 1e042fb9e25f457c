"""Trials of threads, event loops and processes: who uses a client, and what happens to its process meanwhile."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.faults.play import order
from tests.prove import mutants
from tests.prove.table import Row, Size, trial

THREADS = 8


def create_elsewhere(client: hpp.HPPClient, name: str) -> str:
    """Create a session in a new event loop of this thread; return how it ended."""
    try:
        asyncio.run(client.create_session(order(client, name)))
    except hpp.WrongLoopError as error:
        return "WrongLoopError" if error.delivery is None else f"delivery {error.delivery}"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return f"{type(error).__name__}: {error}"
    return "created"


async def race(rounds: int) -> tuple[Counter[str], int, int]:
    """Let threads make the first call of a client at the same moment.

    Returns:
        How the calls ended, how many POSTs the server got, and in how many rounds more than one thread sent something.

    """
    ended, several, loop = Counter[str](), 0, asyncio.get_running_loop()
    with ThreadPoolExecutor(THREADS) as pool:
        async with Sandbox() as sandbox:
            for number in range(rounds):
                client = hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url)
                start = threading.Barrier(THREADS)

                def call(thread: int, client: hpp.HPPClient, start: threading.Barrier, number: int = number) -> str:
                    start.wait()
                    return create_elsewhere(client, f"thread-{number}-{thread}")

                before = sandbox.record.counts.posts
                calls = (loop.run_in_executor(pool, call, thread, client, start) for thread in range(THREADS))
                ended.update(await asyncio.gather(*calls))
                several += sandbox.record.counts.posts - before > 1
            return ended, sandbox.record.counts.posts, several


def misuse(promise: str, tried: str, broken: list[str], control: list[str]) -> Row:
    """Return the row of a trial that uses a client where it must not be used."""
    return Row(
        promise=promise,
        tried=tried,
        figure=f"{len(broken)} other errors or bytes sent {broken[:1] or ''}".strip(),
        target="0",
        held=not broken,
        control=f"a client that serves any loop: {len(control)} noticed",
        noticed=bool(control),
    )


@trial("P1", short=3, whole=8)
async def threads(size: Size) -> list[Row]:
    """One client in several threads: one of them gets it, the others get WrongLoopError before a byte is sent."""
    rounds = size.pick(20, 500)

    async def broken(count: int) -> list[str]:
        ended, posts, several = await race(count)
        wrong = [ending for ending in ended if ending not in {"created", "WrongLoopError"}]
        wrong += [f"{posts} POSTs for {ended['created']} sessions"] * (posts != ended["created"])
        return wrong + [f"{several} clients served several threads"] * bool(several)

    found = await broken(rounds)
    with mutants.serves_any_loop():
        control = await broken(3)
    return [misuse("P1", f"{rounds} clients, each used by {THREADS} threads at once", found, control)]


async def in_two_loops(rounds: int) -> list[str]:
    """Use a client in a second loop while its own is open; return what went wrong."""
    async with Sandbox() as sandbox:

        def use() -> list[str]:
            client = hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url)
            wrong = []
            with asyncio.Runner() as own:
                own.run(client.create_session(order(client, "first")))
                for number in range(rounds):
                    before = sandbox.record.counts.posts
                    ending = create_elsewhere(client, f"second-{number}")
                    if ending != "WrongLoopError" or sandbox.record.counts.posts != before:
                        wrong.append(ending)
                own.run(client.create_session(order(client, "last")))
                own.run(client.aclose())
            return wrong

        return await asyncio.to_thread(use)


@trial("P1", short=2, whole=4)
async def two_loops(size: Size) -> list[Row]:
    """A client in a second event loop while the first one is open; then in the first one again."""
    rounds = size.pick(50, 2_000)
    found = await in_two_loops(rounds)
    with mutants.serves_any_loop():
        try:
            control = await in_two_loops(3)
        except Exception as error:  # noqa: BLE001 - the mutant fails somehow
            control = [repr(error)]
    return [misuse("P1", f"{rounds:,} calls in a second event loop", found, control)]


def in_child(call: Callable[[], str]) -> str:
    """Fork, make a call in the child, and return what it returned there."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.write(theirs, call().encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


async def forked(rounds: int) -> list[str]:
    """Use a client with an open connection in a forked process, and then here again; return what went wrong."""
    wrong, quick = list[str](), hpp.Timeouts(read=3)
    async with (
        Sandbox() as sandbox,
        hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, timeouts=quick) as client,
    ):
        for number in range(rounds):
            await client.create_session(order(client, f"before-{number}"))
            before = sandbox.record.counts.posts
            name = f"child-{number}"
            ending = await asyncio.to_thread(in_child, lambda name=name: create_elsewhere(client, name))
            if ending != "WrongLoopError" or sandbox.record.counts.posts != before:
                wrong.append(ending or "the child ended without a word")
            try:
                after = await client.create_session(order(client, f"after-{number}"))
            except hpp.HPPError as error:
                return [*wrong, f"the parent's next call: {error}"]
            if after.session_id != sandbox.record.created[-1].session_id:
                wrong.append("another call's session")
        connections = len(sandbox.record.connections)
    return wrong or [f"{connections} connections"] * (connections != 1)


@trial("P1", short=3, whole=20)
async def fork(size: Size) -> list[Row]:
    """A forked process that uses its parent's client, whose connection is open; the parent goes on with it."""
    rounds = size.pick(15, 500)
    found = await forked(rounds)
    with mutants.serves_any_loop():
        control = await forked(2)
    return [misuse("P1", f"{rounds} forked processes that use their parent's client", found, control)]


# ------------------------------------------------------------------------------------------------ a process that stands still
LATE = 0.5
DEADLINE = 1.5


async def child(base_url: str, api_key: str) -> None:
    """Make one call with a deadline, and print how it ended and when: a process of its own."""
    async with hpp.HPPClient(api_key, base_url=base_url, timeouts=hpp.Timeouts(connect=60, read=60)) as client:
        print("begins", flush=True)
        delivery = "created"
        try:
            await client.create_session(order(client, "stopped"), deadline=DEADLINE)
        except hpp.HPPError as error:
            delivery = str(error.delivery)
        print(json.dumps([delivery, time.monotonic()]), flush=True)


async def stop_a_call(seconds: float, *, control: bool = False) -> tuple[str, float]:
    """Stop a process whose call waits for a response; return how the call ended, and how long after the continuation."""
    async with Sandbox() as sandbox:
        sandbox.fault("hang")
        options = [sandbox.base_url, sandbox.api_key, *(["--control"] if control else [])]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.prove.processes", *options, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            await process.stdout.readline()
            await sandbox.record.wait_for(lambda seen: seen.counts.posts == 1, 30)
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            continued = time.monotonic()
            process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(LATE + 2):
                delivery, ended = json.loads(await process.stdout.readline())
        except TimeoutError:
            return "it hangs", LATE + 2
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        return delivery, ended - continued


@trial("P9", short=8, whole=130, waits=True)
async def stopped_call(size: Size) -> list[Row]:
    """A process that is stopped (SIGSTOP) while its call waits: the call ends at once when the process continues."""
    seconds, calls = size.pick(2, 60), size.pick(2, 6)
    ended = await asyncio.gather(*(stop_a_call(seconds) for _ in range(calls)))
    _, control = await stop_a_call(2, control=True)
    late, deliveries = max(late for _, late in ended), {delivery for delivery, _ in ended}
    return [
        Row(
            promise="P9",
            tried=f"{calls} calls whose process stands still for {seconds} s, beyond their deadline",
            figure=f"they end at most {late:.2f} s after it continues, as {', '.join(sorted(deliveries))}",
            target=f"{LATE:g} s, unknown",
            held=late <= LATE and deliveries == {"unknown"},
            control=f"a client that ignores deadlines: {control:.1f} s",
            noticed=control > LATE,
        )
    ]


def main() -> int:
    """Be the process that is stopped."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("base_url")
    parser.add_argument("api_key")
    parser.add_argument("--control", action="store_true", help="with a client that ignores deadlines")
    options = parser.parse_args()
    with mutants.ignores_deadlines() if options.control else contextlib.nullcontext():
        asyncio.run(child(options.base_url, options.api_key))
    return 0


if __name__ == "__main__":
    sys.exit(main())
