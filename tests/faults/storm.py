"""A storm of cancellations: calls that are given up at random moments, and what is left of them afterwards.

    python -m tests.faults.storm [CALLS [SEED]]          # 10000 by default, about 20 seconds; the test suite runs 300

It prints how many calls were given up before and after their request had begun to leave, and every rule that was broken;
its exit code is 1 where one was.
"""

import asyncio
import gc
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
from attrs import define, field, frozen

import kustom_hpp as hpp
from kustom_hpp import Delivery
from kustom_hpp.events import Event
from kustom_hpp.sandbox import Sandbox
from tests.faults.play import PATIENT, order

LATEST = 0.03
"""Seconds after its start by which every call is given up; more on a machine that is too busy to send by then."""
AT_ONCE = 64
CONNECTIONS = 16
"""Fewer than calls, so that some are given up while they wait for a connection."""
WEATHER = ("slow_head~seconds=0.01", "keepalive_close~after=0", "headers_then_hang", "status_429", "hang_uncommitted")


@frozen(kw_only=True)
class Call:
    """One call, and what became of it."""

    url: str
    task: "asyncio.Task[hpp.Session]"
    given_up: bool
    """Whether it was still running when it was cancelled."""
    events: list[Event]

    @property
    def delivery(self) -> Delivery | None:
        """What the hooks were told at the end; None where it ended before it began."""
        last = self.events[-1] if self.events else None
        return last.delivery if isinstance(last, hpp.Finished) else None


@define(kw_only=True)
class Aftermath:
    """What a storm left."""

    calls: int
    before: int = 0
    """Given up before the request began to leave."""
    after: int = 0
    """Given up after that."""
    made: int = 0
    """Sessions that the server made for those."""
    ended: int = 0
    """Ended by themselves before it came to that."""
    broken: list[str] = field(factory=list)

    def __str__(self) -> str:
        told = (
            f"{self.calls} calls: {self.before} given up before sending, {self.after} after it began (of which the "
            f"server made {self.made} sessions), {self.ended} ended by themselves"
        )
        return "\n".join([told, *(f"  BROKEN: {sentence}" for sentence in self.broken or ["nothing"])])


async def storm(calls: int, seed: int, *, borrowed: bool) -> Aftermath:
    """Let a storm pass over a client, and look at what is left."""
    loop = asyncio.get_running_loop()
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, context: complaints.append(str(context.get("message"))))
    others = asyncio.all_tasks()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            aftermath = await _over_a_client(calls, seed, borrowed=borrowed)
            gc.collect()  # what was not closed complains when it is collected
            await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    left = asyncio.all_tasks() - others
    aftermath.broken += [f"the loop complained: {text}" for text in complaints]
    aftermath.broken += [f"a warning: {warning.message}" for warning in warned]
    aftermath.broken += [f"a task is left: {task!r}" for task in left]
    return aftermath


async def _over_a_client(calls: int, seed: int, *, borrowed: bool) -> Aftermath:
    async with Sandbox() as sandbox:
        lent = aiohttp.ClientSession(connector=hpp.guarded_connector()) if borrowed else None
        retry = hpp.RetrySettings(initial=0.005)
        pool = hpp.Pool(connections=CONNECTIONS)
        client = hpp.HPPClient(
            sandbox.api_key,
            base_url=sandbox.base_url,
            timeouts=PATIENT,
            pool=pool,
            retry=retry,
            pace=hpp.Pace(1e6),  # one that learns would let the weather's 429s keep nearly all calls from being sent
            http_session=lent,
        )
        latest = max(LATEST, await _many_at_once(client, AT_ONCE))
        sandbox.faults.add_random(WEATHER, probability=0.5, seed=seed)
        done = await _blow(client, calls, latest, random.Random(seed))
        await sandbox.wait_until_idle()
        aftermath = Aftermath(calls=calls)
        made = Counter(one.payment_session_url for one in sandbox.record.created)
        for call in done:
            aftermath.broken += _judge(call, made[call.url], aftermath)
        manager: Any = client._create_context.transport
        session = manager._session
        aftermath.broken += _left_in(manager, session)
        sandbox.faults.clear()
        # More at once than there are connections: a place that was lost would be missed here.
        async with asyncio.timeout(20):
            await _many_at_once(client, 2 * CONNECTIONS)
        await client.aclose()
        if lent is not None:
            await lent.close()
    return aftermath


async def _many_at_once(client: hpp.HPPClient, calls: int) -> float:
    """How many seconds so many calls take in calm weather."""
    now = asyncio.get_running_loop().time
    began = now()
    await asyncio.gather(*(client.create_session(order(client, f"calm-{number}")) for number in range(calls)))
    return now() - began


async def _blow(client: hpp.HPPClient, calls: int, latest: float, dice: random.Random) -> list[Call]:
    """Make the calls, many at once, and give each of them up after a moment."""
    done: list[Call] = []
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            events: list[Event] = []
            view = client.with_options(hooks=[events.append])
            request = order(client, f"storm-{number}")
            task = asyncio.ensure_future(view.create_session(request))
            await asyncio.sleep(dice.uniform(0, latest))
            given_up = task.cancel()
            await asyncio.wait([task])
            done.append(Call(url=request.payment_session_url, task=task, given_up=given_up, events=events))

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(worker())
    return done


def _judge(call: Call, made: int, aftermath: Aftermath) -> Iterator[str]:
    """What a call broke; counts it too."""
    if call.given_up != call.task.cancelled():
        yield f"a cancellation was swallowed: {call.task!r}"
        return
    if not call.given_up:
        aftermath.ended += 1
        error = call.task.exception()
        if error is None and made != 1:
            yield f"a session was handed out, and the server made {made}"
        if error is not None and not isinstance(error, hpp.HPPError):
            yield f"a foreign exception: {error!r}"
    elif call.delivery is not None and call.delivery.may_have_taken_effect:
        aftermath.after += 1
        aftermath.made += made
        if made > 1:
            yield f"{made} sessions for one call"
    else:
        aftermath.before += 1
        if made:
            yield f"given up with delivery {call.delivery}, and the server made {made} session(s)"


def _left_in(manager: Any, session: aiohttp.ClientSession) -> Iterator[str]:
    connector: Any = session.connector
    if connector._acquired:
        yield f"{len(connector._acquired)} connections are still taken"
    if manager._slots.free != manager._slots.width:
        yield f"{manager._slots.width - manager._slots.free} connection slots are still in use"


def main() -> int:
    """Run a storm on an owned and on a borrowed session."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    broken = False
    for borrowed in (False, True):
        aftermath = asyncio.run(storm(calls, seed, borrowed=borrowed))
        print("borrowed" if borrowed else "owned", aftermath)
        broken = broken or bool(aftermath.broken)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
