"""What a fault is: a row of data and a function that plays it on a connection."""

import re
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any

from attrs import define, field, frozen

from kustom_hpp.sandbox.http import raw_response as answer
from kustom_hpp.sandbox.http.connection import Link
from kustom_hpp.sandbox.http.raw_response import Answer

Args = Mapping[str, Any]
"""A fault's parameters by name: int, float or str."""


class Stage(StrEnum):
    """When a fault bites."""

    CONNECTION = "connection"
    """When a connection is accepted, before anything is read: its `skip` and `times` count connections."""
    HEAD = "head"
    """When a request's head has come in; its body is not asked for."""
    REQUEST = "request"
    """When a request has come in whole, and, where the fault commits, has been processed."""


class Then(StrEnum):
    """What becomes of the connection after a fault."""

    KEEP = "keep"
    """It stays open for the next request."""
    CLOSE = "close"
    """The sandbox closes it, as far as the fault did not."""


@define(kw_only=True, eq=False)
class Call:
    """One request in a fault's hands."""

    link: Link
    body: bytes
    """What was read of it: empty at the stage HEAD."""
    headers: tuple[tuple[bytes, bytes], ...]
    correlation_id: str
    path: str
    """The request's path."""
    healthy: Answer | None
    """What a healthy API would answer; None where the fault does not commit."""
    shown: dict[str, Any]
    """The session that this request made, or was about, as JSON: the healthy answer's body, or, where that has none, the
    session as read. Empty where the fault does not commit."""
    stray: Callable[[], dict[str, Any]]
    """The same of a session that never was: its ids belong to nobody."""
    base_url: str
    sink: Callable[[], Awaitable[str]]
    """Gives the base URL of the sink; opens it where it is not open yet."""
    discard: Callable[[], Awaitable[None]]
    """Reads the rest of the request and throws it away."""
    answered: Callable[[int], None]
    """Writes down which status was answered."""
    record_response: Callable[[bytes], None]
    """Records bytes of the response."""

    def answer(self) -> Answer:
        """What a healthy API would answer. For faults that commit."""
        assert self.healthy is not None  # noqa: S101 - for the type checker
        return self.healthy

    def full(self) -> Answer:
        """An answer with a body, for faults of bodies: the healthy one, or where that is an empty 204 the session as 200.

        A client takes any 2xx for success. Source: docs.klarna.com, escalation and retry policy.
        """
        healthy = self.answer()
        return healthy if healthy.body else answer.json_answer(200, self.shown, self.correlation_id)

    def error(self, status: int, message: str = "as scripted") -> Answer:
        """A refusal in the API's shape."""
        return answer.error(status, answer.code(status), [message], self.correlation_id)

    async def send(self, data: Answer | bytes) -> None:
        """Write an answer, whole or in its bytes, and write its status down where it has one."""
        if isinstance(data, Answer):
            self.answered(data.status)
            data = data.encode()
        self.record_response(data)
        await self.link.send(data)


_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")

Play = Callable[[Call, Args], Awaitable[Then]]
PlayConnection = Callable[[Link, Args], None]


async def _not_a_request(call: Call, args: Args) -> Then:
    raise NotImplementedError


def _not_a_connection(link: Link, args: Args) -> None:
    raise NotImplementedError


@frozen(kw_only=True, eq=False)
class Kind:
    """A fault as the table has it. Tests read `commits` here, so that they need no second table."""

    name: str
    about: str
    """What happens, in one line."""
    commits: bool = False
    """True where the request is processed, so that a session exists, before the fault bites."""
    stage: Stage = Stage.REQUEST
    defaults: Mapping[str, Any] = field(factory=dict)
    """Its parameters with their defaults; a given value must be of the default's type."""
    play: Play = field(default=_not_a_request, repr=False)
    play_connection: PlayConnection = field(default=_not_a_connection, repr=False)


def raw(name: str, about: str, build: Callable[[Answer], bytes], then: Then = Then.CLOSE) -> Kind:
    """A row that commits, and puts bytes of its own in the place of the answer."""

    async def play(call: Call, args: Args) -> Then:  # noqa: ARG001
        data = build(call.full())
        if (line := _STATUS_LINE.match(data)) is not None:
            call.answered(int(line[1]))
        await call.send(data)
        return then

    return Kind(name=name, about=about, commits=True, play=play)


def answers(name: str, about: str, build: Callable[[Call, Args], Answer], **settings: Any) -> Kind:
    """A row that gives a well-formed answer and keeps the connection."""

    async def play(call: Call, args: Args) -> Then:
        await call.send(build(call, args))
        return Then.KEEP

    return Kind(name=name, about=about, play=play, **settings)
