"""What the tests of batches share: a scripted API, and functions that take the outcomes of a run."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import kustom_hpp as hpp
from kustom_hpp import Delivery, errors
from kustom_hpp.batch import BatchItem, BatchRun, Outcome
from kustom_hpp.batch.rows import digest_of

ORDER = "https://api.kustom.co/checkout/v3/orders/"


def request(name: object, **more: Any) -> hpp.CreateSessionRequest:
    return hpp.CreateSessionRequest(payment_session_url=f"{ORDER}{name}", **more)


def item(name: object, **more: Any) -> BatchItem:
    return BatchItem(str(name), request(name, **more))


def items(count: int) -> list[BatchItem]:
    return [item(number) for number in range(count)]


def digest(name: object, **more: Any) -> bytes:
    return digest_of(request(name, **more))


def session(identity: str) -> hpp.Session:
    return hpp.Session(session_id=identity, redirect_url=f"https://pay.kustom.co/eu/hpp/payments/{identity}")


def not_sent() -> hpp.HPPError:
    return hpp.ConnectError("refused", attempts=1)


def throttled(retry_after: float | None = None) -> hpp.HPPError:
    return hpp.RateLimitError("too many", status=429, retry_after=retry_after, attempts=1)


def rejected() -> hpp.HPPError:
    return hpp.BadRequestError("bad", status=400, attempts=1)


def lost() -> hpp.HPPError:
    return hpp.ServerError("oops", status=500, attempts=1)


def unreadable() -> hpp.HPPError:
    return hpp.DecodeError("what is this", status=201, attempts=1)


Result = Callable[[], BaseException] | None


class Api:
    """`create` for tests. Each row gets the results planned for it, in order, and then a session."""

    def __init__(self, **plan: list[Result]) -> None:
        self.plan: defaultdict[str, list[Result]] = defaultdict(list, plan)
        self.sent: list[str] = []
        """The rows in the order in which they were sent."""
        self.made: list[str] = []
        """The rows that got a session, in the order in which they got it."""
        self.times: list[float] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.delay = 0.0
        """Seconds that every call takes."""
        self.gate: asyncio.Event | None = None
        """What every call waits for."""
        self.always: Result = None
        """The result of every call without a plan; None for a session."""

    async def create(self, request: hpp.CreateSessionRequest) -> hpp.Session:
        name = request.payment_session_url.removeprefix(ORDER)
        self.sent.append(name)
        self.times.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay)
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.in_flight -= 1
        planned = self.plan[name]
        result = planned.pop(0) if planned else self.always
        if result is not None:
            raise result()
        self.made.append(name)
        return session(f"session-of-{name}-{self.sent.count(name)}")

    @property
    def repeated(self) -> dict[str, int]:
        """The rows that were sent more than once."""
        return {name: times for name, times in Counter(self.sent).items() if times > 1}


async def take(run: BatchRun) -> list[Outcome]:
    """All outcomes of a run."""
    async with run as outcomes:
        return [outcome async for outcome in outcomes]


async def take_until_it_stops(run: BatchRun) -> tuple[list[Outcome], BaseException]:
    """All outcomes of a run that ends with an error, and that error."""
    taken: list[Outcome] = []
    try:
        async with run as outcomes:
            async for outcome in outcomes:
                taken.append(outcome)  # noqa: PERF401 - what came before the error is what it is about
    except (errors.HPPError, LookupError) as error:
        return taken, error
    raise AssertionError(f"it did not stop, and handed out {len(taken)} outcomes")


def state_by_key(outcomes: list[Outcome]) -> dict[str, str]:
    """State by key."""
    return {outcome.key: str(outcome.state) for outcome in outcomes}


def obeys_the_invariant(outcome: Outcome) -> bool:
    """Return whether an outcome and its error agree."""
    delivery = None if outcome.error is None else outcome.error.delivery
    if outcome.state == "created":
        return outcome.session is not None
    exists = delivery in {Delivery.UNKNOWN, Delivery.ACCEPTED} or isinstance(
        outcome.error, errors.DuplicateSessionError
    )
    return outcome.session is None and exists == (outcome.state == "in_doubt")
