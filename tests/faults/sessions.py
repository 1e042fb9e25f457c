"""The failure table around a read, a disable and a distribution: what each must come to, how it is played and judged.

The rows are those of a create. What one attempt ends with is the same, but for answers that have nothing to tell, or less
to ask for; what a whole call must do is written down here a second time, and shares nothing with the client's own rules.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from attrs import frozen

import kustom_hpp as hpp
from kustom_hpp import Delivery
from kustom_hpp._protocol.codec import codec
from kustom_hpp.events import Event
from kustom_hpp.sandbox import RecordedRequest, Sandbox, Stage, StoredSession
from tests.faults import certificates
from tests.faults.judge import SLACK, leaks, travels
from tests.faults.play import PATIENT, QUICK, Site, Variant, base64_of, lent, site
from tests.faults.table import LOST, MAX_ATTEMPTS, ODD, ROWS, SERVER, SESSION, THROTTLED, UNREADABLE, Ending, Place, Row
from tests.support.faults import ALL_FAULTS as FAULTS
from tests.support.faults import find_fault

Done = Ending(None, None)

READ, DISABLE, DISTRIBUTE = "read_session", "disable_session", "distribute_session"
OPERATIONS = (READ, DISABLE, DISTRIBUTE)
_SHORT = hpp.Timeouts(connect=2.0, read=2.0)
"""For what only the client's own clock ends. All such rows run at once: a healthy answer among them takes its time, too."""

_CUT_OFF = frozenset(
    "half_body_close half_body_reset headers_then_hang half_body_hang drip_body length_too_long chunk_cut gzip_corrupt "
    "gzip_lie".split()
)
"""2xx whose bodies are cut off on their way, as the transport can tell: a read is made again after those."""
_TOO_LITTLE_FOR_A_READ = "wrong_type_session_id"
"""A 2xx of which a read cannot tell whether it is about its session; a create finds the id in the URLs."""


def endings_of(operation: str, row: Row) -> tuple[Ending, ...]:
    """What one attempt ends with."""
    if operation == READ:
        return (UNREADABLE,) if row.told == _TOO_LITTLE_FOR_A_READ else row.endings
    # Nothing is read in the answer of the others.
    return tuple(Done if ending == UNREADABLE else ending for ending in row.endings)


def sent_again(operation: str, row: Row, ending: Ending) -> bool:
    """The house's rules for operations on a session."""
    if row.hint_too_long or ending in {Done, SESSION} or ending.error is hpp.CertificateError:
        return False
    if ending.delivery is Delivery.NOT_SENT or ending == THROTTLED:
        return True
    if operation == DISTRIBUTE:
        return is_documented(row, ending)
    if ending == UNREADABLE:
        return row.told in _CUT_OFF
    return ending.delivery is Delivery.UNKNOWN and (ending != ODD or "408" in row.name)


def is_documented(row: Row, ending: Ending) -> bool:
    """A 503 in the API's own words: the documents say "please try again" to a distribution."""
    return ending == SERVER and row.place is Place.API and row.told.startswith("status_503")


@frozen(kw_only=True)
class Expected:
    """What a call must come to. Ranges where the phase is a matter of timing."""

    endings: tuple[Ending, ...]
    attempts: range


def expected(operation: str, row: Row, *, once: bool) -> Expected:
    """What a call must come to where every attempt meets the row, or only the first (`once`)."""
    endings = endings_of(operation, row)
    again = [sent_again(operation, row, ending) for ending in endings]
    attempts = [(2 if once else MAX_ATTEMPTS) if repeated else 1 for repeated in again]
    if len(endings) > 1:
        attempts += [1, 2 if once else MAX_ATTEMPTS]
    final = []
    for ending, repeated in zip(endings, again, strict=True):
        if repeated and once:
            final.append(Done)
        elif repeated and ending.delivery is Delivery.UNKNOWN and operation != READ:
            final.append(LOST)  # an earlier attempt of the call was UNKNOWN
        else:
            final.append(Done if ending == SESSION else ending)
        if len(endings) > 1 and operation != READ:
            final.append(LOST)
    return Expected(endings=tuple(final), attempts=range(min(attempts), max(attempts) + 1))


@frozen(kw_only=True)
class Facts:
    """One call: how it ended, and what the server knows about it."""

    operation: str
    row: Row
    outcome: hpp.SessionDetails | BaseException | None
    requests: tuple[RecordedRequest, ...]
    """Those of the operation, as far as the server could tell what they are."""
    heads: int
    """All requests whose heads came in."""
    session: StoredSession
    distributions: int
    sink: int
    elapsed: float
    limit: float
    secrets: tuple[str, ...]
    events: tuple[Event, ...]

    @property
    def finished(self) -> hpp.Finished:
        last = self.events[-1]
        assert isinstance(last, hpp.Finished)
        return last

    @property
    def effects(self) -> int:
        """How often the server did what was asked for; a read does nothing."""
        if self.operation == READ:
            return 0
        return self.distributions if self.operation == DISTRIBUTE else sum(seen.processed for seen in self.requests)


def violations(facts: Facts) -> Iterator[str]:
    """Every rule that a call broke, one sentence each."""
    outcome, attempts = facts.outcome, facts.finished.attempts
    if facts.elapsed > facts.limit + SLACK:
        yield f"it took {facts.elapsed:.1f} s, its settings allow {facts.limit:.1f} s"
    if facts.sink:
        yield f"a redirect was followed: {facts.sink} requests at its target"
    if facts.heads > attempts:
        yield f"the server saw {facts.heads} requests of {attempts} attempts"
    yield from _repetitions(facts)
    if isinstance(outcome, hpp.HPPError):
        yield from _error(facts, outcome)
    elif isinstance(outcome, BaseException):
        yield f"a foreign exception: {outcome!r}"
    else:
        yield from _success(facts, outcome)


def _repetitions(facts: Facts) -> Iterator[str]:
    if facts.distributions > 1:
        statuses = [seen.status for seen in facts.requests if seen.processed]
        # The one exception, and the documents': the API itself said "please try again".
        if any(status != 503 for status in statuses[:-1]) or not is_documented(facts.row, facts.row.endings[0]):
            yield f"{facts.distributions} messages, after {statuses}"


def _success(facts: Facts, outcome: hpp.SessionDetails | None) -> Iterator[str]:
    if facts.operation == READ:
        if outcome is None or outcome.session_id != facts.session.session_id:
            yield f"it read {outcome}"
    elif facts.operation == DISABLE and facts.session.status != "DISABLED":
        yield f"a success, and the session is {facts.session.status}"
    elif facts.operation == DISTRIBUTE and not facts.distributions:
        yield "a success, and no message was sent"


def _error(facts: Facts, error: hpp.HPPError) -> Iterator[str]:
    delivery = error.delivery
    unknown = isinstance(error, hpp.OutcomeUnknownError)
    if unknown != (delivery in {Delivery.UNKNOWN, Delivery.ACCEPTED}):
        yield f"a {type(error).__name__} with delivery {delivery}"
    if not unknown and facts.effects:
        yield f"{delivery}, and the server did it {facts.effects} times"
    if delivery in {None, Delivery.NOT_SENT} and facts.heads and facts.operation != READ:
        yield f"{delivery}, and the server saw {facts.heads} requests"
    if error.__cause__ is not None or error.__context__ is not None:
        yield f"it holds a foreign exception: {error.__cause__ or error.__context__!r}"
    if facts.finished.error is not error or facts.finished.delivery is not delivery:
        yield f"{delivery}, but the hooks were told {facts.finished!r}"
    if "Do not retry" in str(error) or "new order" in str(error):
        yield f"it gives a create's advice: {error}"
    if isinstance(error, hpp.DecodeError) and error.body:
        yield "it keeps a body that may hold personal data"
    yield from travels(error)
    yield from (f"{where} shows a secret" for where in leaks(error, facts.secrets))


def differences(facts: Facts, *, once: bool) -> list[str]:
    """Where a call did not come to what the table says."""
    wanted = expected(facts.operation, facts.row, once=once)
    outcome, wrong = facts.outcome, []
    ending = Ending(type(outcome), outcome.delivery) if isinstance(outcome, hpp.HPPError) else Done
    if ending not in wanted.endings:
        wrong.append(f"ended with {outcome!r} ({ending.delivery}), not {wanted.endings}")
    if facts.finished.attempts not in wanted.attempts:
        wrong.append(f"{facts.finished.attempts} attempts, not {wanted.attempts}")
    return wrong


async def play(operation: str, row: Row, variant: Variant) -> Facts:
    """One call that meets a row; what came of it, once the server has come to rest."""
    tls = {Place.TLS: row.told, Place.TUNNEL: "good"}.get(row.place)
    secret, events = secrets.token_hex(16), []
    timeouts = _SHORT if row.silent else PATIENT
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(ssl=certificates.serving(tls) if tls else None))
        stored = _stored(sandbox)
        where = await stack.enter_async_context(_site(sandbox, operation, row, once=variant.once))
        proxy = where.proxy and where.proxy.replace("://", f"://u:{secret}@")
        options: dict[str, Any] = {"ssl": where.ssl}
        if variant.borrowed:
            options = {"http_session": await stack.enter_async_context(lent(where, []))}
            options["username"] = sandbox.username
        client = hpp.HPPClient(
            sandbox.api_key,
            base_url=where.base_url,
            timeouts=timeouts,
            retry=hpp.RetrySettings(max_attempts=MAX_ATTEMPTS, **QUICK),
            proxy=proxy,
            hooks=[events.append],
            **options,
        )
        await stack.enter_async_context(client)
        for _ in range(row.before):
            await client.read_session(stored.session_id)
        sandbox.record.clear()
        events.clear()
        # By its id, or by the URLs that it came with.
        given = hpp.Session(**_links(stored, sandbox)) if variant.borrowed else stored.session_id
        began = asyncio.get_running_loop().time()
        outcome = await _outcome(_call(client, operation, given, secret, row.padding))
        elapsed = asyncio.get_running_loop().time() - began
        await sandbox.wait_until_idle()
        attempts = events[-1].attempts
        return Facts(
            operation=operation,
            row=row,
            outcome=outcome,
            requests=tuple(seen for seen in sandbox.record.requests if seen.operation == operation),
            heads=len(sandbox.record.requests),
            session=stored,
            distributions=len(sandbox.record.distributions),
            sink=len(sandbox.record.sink),
            elapsed=elapsed,
            # A wait that an answer asks for is at most 2 s in the table.
            limit=attempts * (timeouts.connect + timeouts.read) + 2 * (attempts - 1),
            secrets=(
                secret,
                sandbox.api_key,
                base64_of(f"{sandbox.username}:{sandbox.api_key}"),
                base64_of(f"u:{secret}"),
            ),
            events=tuple(events),
        )


def _stored(sandbox: Sandbox) -> StoredSession:
    """A session that nobody had to create over the wire."""
    request = codec().structure_request({"payment_session_url": "https://orders.example/checkout/v3/orders/1"})
    stored = sandbox.state.create(request)
    assert stored is not None
    return stored


def _links(stored: StoredSession, sandbox: Sandbox) -> dict[str, Any]:
    wire = stored.created_json(sandbox.base_url)
    return {name: wire[name] for name in ("session_id", "redirect_url", "session_url", "distribution_url")}


@contextlib.asynccontextmanager
async def _site(sandbox: Sandbox, operation: str, row: Row, *, once: bool) -> AsyncIterator[Site]:
    """As `site`, for this operation's requests."""
    if row.place is Place.API and FAULTS[find_fault(row.told).name].stage is not Stage.CONNECTION:
        # What comes before it on the connection is a read.
        before = row.before if operation == READ else 0
        sandbox.fault(find_fault(row.told), skip=before, times=1 if once else None, operation=operation)
        yield Site(base_url=sandbox.base_url)
    else:
        async with site(sandbox, row, once=once) as where:
            yield where


def _call(client: hpp.HPPClient, operation: str, given: Any, secret: str, padding: int) -> Callable[[], Awaitable[Any]]:
    request = hpp.EmailDistribution(
        email=f"{secret}@shop.example", extra={"x_padding": "x" * padding} if padding else {}
    )
    return {
        READ: lambda: client.read_session(given),
        DISABLE: lambda: client.disable_session(given),
        DISTRIBUTE: lambda: client.distribute_session(given, request),
    }[operation]


async def _outcome(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await call()
    except Exception as error:  # noqa: BLE001 - the judge says which ones are foreign
        return error


def rows_of(group: str) -> list[Row]:
    """The rows of a group."""
    return [row for row in ROWS if row.group == group]
