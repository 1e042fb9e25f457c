"""The judge: what must hold for every call whatever happened to it, read from the server's record alone.

It knows neither the table nor the library's own rules; `test_judge.py` shows that it notices when a client lies.
"""

import copy
import pickle
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType

from attrs import frozen

import kustom_hpp as hpp
from kustom_hpp import Delivery
from kustom_hpp.events import Event
from kustom_hpp.sandbox import CreatedSession, RecordedRequest

MAX_ERROR_BODY = 64 * 1024
SLACK = 5.0
"""Seconds that a busy machine may add to a call. Less than the 10 s after which the sandbox ends a silence itself."""


@frozen(kw_only=True)
class Facts:
    """One call: how it ended, and what the server knows about it."""

    outcome: hpp.Session | BaseException
    posts: tuple[RecordedRequest, ...]
    """The creates whose heads the server saw."""
    created: tuple[CreatedSession, ...]
    """The sessions that the server made for the call's payment session."""
    sink: int = 0
    """Requests that came in where redirects point to."""
    resend: bool = False
    elapsed: float = 0.0
    limit: float = 60.0
    """Seconds that the call's own settings allow it."""
    secrets: tuple[str, ...] = ()
    traced: int | None = None
    """How often aiohttp itself says that a request's head was sent; None where nobody asked it."""
    events: tuple[Event, ...] = ()
    """What a hook was told."""

    @property
    def attempts(self) -> int:
        return attempts_of(self.outcome)


def attempts_of(outcome: hpp.Session | BaseException) -> int:
    """How many requests a call says that it made."""
    if isinstance(outcome, hpp.Session):
        return outcome.info.attempts
    return outcome.attempts if isinstance(outcome, hpp.HPPError) else 0


def violations(facts: Facts) -> Iterator[str]:
    """Every rule that a call broke, one sentence each."""
    outcome, ids = facts.outcome, [made.session_id for made in facts.created]
    if facts.elapsed > facts.limit + SLACK:
        yield f"it took {facts.elapsed:.1f} s, its settings allow {facts.limit:.1f} s"
    if facts.sink:
        yield f"a redirect was followed: {facts.sink} requests at its target"
    if len(facts.posts) > facts.attempts:
        yield f"the server saw {len(facts.posts)} POSTs of {facts.attempts} attempts"
    yield from _repetitions(facts)
    if isinstance(outcome, hpp.Session):
        if outcome.session_id not in ids:
            yield f"it was handed session {outcome.session_id}, which the server never made for it"
        if facts.traced == 0:
            yield "it has a session, and aiohttp sent nothing"
    elif isinstance(outcome, hpp.HPPError):
        yield from _error(facts, outcome)
    else:
        yield f"a foreign exception: {outcome!r}"


def _repetitions(facts: Facts) -> Iterator[str]:
    statuses = [post.status for post in facts.posts]
    if not facts.resend:
        # Only what is known not to have been processed may be followed by another POST.
        if any(status != 429 for status in statuses[:-1]):
            yield f"a second POST by default, after {statuses}"
        if len(facts.created) > 1:
            yield f"{len(facts.created)} sessions by default"
    unknown = sum(
        isinstance(event, hpp.Retrying) and event.error.delivery is Delivery.UNKNOWN for event in facts.events
    )
    if facts.events and len(facts.created) > 1 + unknown:
        yield f"{len(facts.created)} sessions after {unknown} attempts of unknown outcome"
    for event in facts.events:
        if isinstance(event, hpp.Retrying) and event.error.delivery is Delivery.ACCEPTED:
            yield "what was accepted is sent again"


def _error(facts: Facts, error: hpp.HPPError) -> Iterator[str]:
    delivery = error.delivery
    unknown = isinstance(error, hpp.OutcomeUnknownError)
    if unknown != (delivery in {Delivery.UNKNOWN, Delivery.ACCEPTED}):
        yield f"a {type(error).__name__} with delivery {delivery}"
    if not unknown and facts.created:
        yield f"{delivery}, and the server made {len(facts.created)} session(s)"
    if delivery in {None, Delivery.NOT_SENT} and facts.posts:
        yield f"{delivery}, and the server saw {len(facts.posts)} POST(s)"
    if delivery is Delivery.ACCEPTED and not facts.created:
        yield "accepted, and the server made no session"
    if facts.traced is not None and (delivery in {None, Delivery.NOT_SENT}) != (facts.traced == 0):
        yield f"{delivery}, and aiohttp sent {facts.traced} request head(s)"
    if isinstance(error, (hpp.ApiError, hpp.DecodeError)) and len(error.body) > MAX_ERROR_BODY:
        yield f"it keeps {len(error.body):,} bytes of a body"
    if error.__cause__ is not None or error.__context__ is not None:
        yield f"it holds a foreign exception: {error.__cause__ or error.__context__!r}"
    last = facts.events[-1] if facts.events else None
    if last is not None and (not isinstance(last, hpp.Finished) or last.delivery is not delivery):
        yield f"{delivery}, but the hooks were told {last!r}"
    yield from travels(error)
    yield from (f"{where} shows a secret" for where in leaks(error, facts.secrets))


def travels(error: hpp.HPPError) -> Iterator[str]:
    """Where an error does not survive pickling or copying."""
    for way, there in (("pickling", pickle.loads(pickle.dumps(error))), ("copying", copy.deepcopy(error))):
        same = type(there) is type(error) and str(there) == str(error)
        if not same or (there.delivery, there.attempts) != (error.delivery, error.attempts):
            yield f"it does not survive {way}: {there!r}"


def leaks(error: BaseException, secrets: Iterable[str]) -> list[str]:
    """Where an exception shows one of these texts. Frames of the tests do not count: they hold them on purpose."""
    shown = {
        "str": str(error),
        "repr": repr(error),
        "args": repr(error.args),
        "its attributes": repr(vars(error)),
        "its traceback with locals": "".join(_frames(error.__traceback__)),
    }
    if isinstance(error, hpp.HPPError):
        shown["its pickle"] = pickle.dumps(error, protocol=0).decode("latin-1")
        shown["its body"] = bytes(getattr(error, "body", b"")).decode("latin-1")
    return [where for where, text in shown.items() if any(secret in text for secret in secrets)]


def _frames(trace: TracebackType | None) -> Iterator[str]:
    summary = traceback.StackSummary.extract(traceback.walk_tb(trace), capture_locals=True, lookup_lines=False)
    for frame in summary:
        if "/tests/" not in frame.filename:
            yield f"{frame.name}: {frame.locals}\n"
