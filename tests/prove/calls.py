"""Trials of single calls over real sockets: the fault table, cancellations, deadlines, stray bytes, TLS, URLs."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from unittest import mock

import aiohttp
import aiohttp.connector
import attrs

import kustom_hpp as hpp
from kustom_hpp.sandbox import Sandbox
from tests.faults import storm
from tests.faults.judge import violations
from tests.faults.play import PATIENT, QUICK, NoNames, Variant, order, play, site
from tests.faults.table import ROWS, Place, Row
from tests.prove import mutants
from tests.prove.table import Row as Line
from tests.prove.table import Size, trial
from tests.support.faults import find_fault

AT_ONCE = 16
BROKEN_BY = {
    # a fragment of the judge's sentence: the promise that it breaks
    "a redirect was followed": "P7",
    "a second POST by default": "P2",
    "sessions by default": "P2",
    "sessions after": "P2",
    "is sent again": "P2",
    "and the server made": "P3",
    "and the server saw": "P3",
    "and aiohttp sent": "P3",
    "with delivery": "P3",
    "accepted, and": "P3",
    "it took": "P9",
    "shows a secret": "P6",
    "which the server never made": "P12",
}


def promise_of(sentence: str) -> str:
    """Return the promise that a sentence of the judge is about; P1 for all others."""
    return next((promise for fragment, promise in BROKEN_BY.items() if fragment in sentence), "P1")


@contextlib.contextmanager
def without_a_network() -> Iterator[None]:
    """Resolve no names but those that the table knows."""
    with mock.patch.object(aiohttp.connector, "DefaultResolver", return_value=NoNames()):
        yield


async def play_rows(rows: list[Row], variants: list[Variant], seed: int) -> tuple[int, Counter[str], str]:
    """Play rows in a random order; return the number of calls, the broken rules by promise, and an example."""
    slots, broken, example = asyncio.Semaphore(AT_ONCE), Counter[str](), ""
    calls = [(row, variant) for row in rows for variant in variants if row.heals or not variant.once]
    random.Random(seed).shuffle(calls)

    async def judged(row: Row, variant: Variant) -> list[str]:
        async with slots:
            return [f"{row.name}: {sentence}" for sentence in violations(await play(row, variant))]

    with without_a_network():
        for sentences in await asyncio.gather(*(judged(row, variant) for row, variant in calls)):
            broken.update(promise_of(sentence) for sentence in sentences)
            example = example or next(iter(sentences), "")
    return len(calls), broken, example


def variants_of(size: Size) -> list[Variant]:
    kinds = (
        [(False, False)]
        if size.short
        else [(borrowed, resend) for borrowed in (False, True) for resend in (False, True)]
    )
    return [
        Variant(borrowed=borrowed, resend=resend, once=once) for borrowed, resend in kinds for once in (False, True)
    ]


CONTROLS: dict[str, tuple[str, AbstractContextManager[None], tuple[str, ...]]] = {
    "P1": ("lets aiohttp's errors escape", mutants.foreign_errors(), ("reset_after_request", "garbage")),
    "P2": ("retries whatever failed", mutants.resends_unknown(), ("close_after_request", "status_500~commit=1")),
    "P3": ("judges by the exception's class", mutants.judges_by_class(), ("reset_after_request", "half_headers")),
    "P6": ("redacts nothing", mutants.redacts_nothing(), ("echo_auth",)),
    "P7": ("follows redirects", mutants.follows_redirects(), ("redirect_307", "redirect_302")),
}
FIGURES = {
    "P1": "other errors than documented",
    "P2": "creates sent again",
    "P3": "wrong errors",
    "P6": "secrets",
    "P7": "requests to where it leads",
}


@trial("P1", "P2", "P3", "P6", "P7", short=20, whole=200)
async def fault_table(size: Size) -> list[Line]:
    """Every row of the fault table; the control of each promise is a client that breaks it."""
    seeds = range(size.seed, size.seed + size.pick(1, 10))
    calls, broken, example = 0, Counter[str](), ""
    for seed in seeds:
        random.seed(seed)
        more, wrong, first = await play_rows(list(ROWS), variants_of(size), seed)
        calls, broken, example = calls + more, broken + wrong, example or first
    lines = []
    always = [Variant(borrowed=False, resend=False, once=False)]
    for promise, (says, mutant, names) in CONTROLS.items():
        with mutant:
            _, noticed, _ = await play_rows([row for row in ROWS if row.name in names], always, size.seed)
        count = broken[promise] + (broken["P9"] + broken["P12"] if promise == "P1" else 0)
        lines.append(
            Line(
                promise=promise,
                tried=f"{len(ROWS)} faults of connection, server and response; seeds: {len(seeds)}",
                figure=f"{count} {FIGURES[promise]} in {calls:,} calls{f' ({example})' if count else ''}",
                target="0",
                held=count == 0,
                control=f"a client that {says}: {noticed[promise]} noticed",
                noticed=noticed[promise] > 0,
            )
        )
    return lines


@trial("P3", "P10", short=5, whole=40)
async def cancellations(size: Size) -> list[Line]:
    """Calls cancelled at random moments, on an owned and on a borrowed session."""
    calls = size.pick(1_500, 10_000)
    aftermaths = [await storm.storm(calls, size.seed, borrowed=borrowed) for borrowed in (False, True)]
    with mutants.never_marks():
        control = await storm.storm(200, size.seed, borrowed=False)
    with mutants.leaves_tasks():
        leaving = await storm.storm(200, size.seed, borrowed=False)
    tasks = sum("a task is left" in sentence for sentence in leaving.broken)
    broken = [sentence for one in aftermaths for sentence in one.broken]
    wrong = [sentence for sentence in broken if "given up with delivery" in sentence]
    left = len(broken) - len(wrong)
    before, after = sum(one.before for one in aftermaths), sum(one.after for one in aftermaths)
    noticed = sum("given up with delivery" in sentence for sentence in control.broken)
    tried = f"{2 * calls:,} calls cancelled at random moments"
    return [
        Line(
            promise="P3", tried=tried, target="0", held=not wrong,
            figure=f"{len(wrong)} wrong: {before:,} cancelled before the send, {after:,} after it",
            control=f"a client that never sets its send marker: {noticed} noticed", noticed=noticed > 0,
        ),
        Line(
            promise="P10", tried=tried, target="0", held=left == 0,
            figure=f"{left} connections, slots, tasks or warnings left {broken[:1] if left else ''}".strip(),
            control=f"a client that leaves tasks behind: {tasks} noticed", noticed=tasks > 0,
        ),
    ]  # fmt: skip


DEADLINE, LATE = 1.0, 1.5
ENDLESS = (
    "drip_head",
    "drip_body",
    "interim_flood",
    "big_body",
    "retry_after_seconds~seconds=20",
    "status_503_retry_after",
)


async def _overrun(row: Row, *, until: float) -> float:
    """Return how long one call with a deadline took."""
    tls = row.place is Place.TLS
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox())
        where = await stack.enter_async_context(site(sandbox, row, once=False))
        timeouts = hpp.Timeouts(connect=until, read=until)
        retry = hpp.RetrySettings(**{**QUICK, "on_unknown": "resend"})
        client = await stack.enter_async_context(
            hpp.HPPClient(
                sandbox.api_key,
                base_url=where.base_url,
                timeouts=timeouts,
                retry=retry,
                proxy=where.proxy,
                ssl=where.ssl,
            )
        )
        assert not tls
        started = time.monotonic()
        with contextlib.suppress(hpp.HPPError):
            await client.create_session(order(client, "late", padding=row.padding), deadline=DEADLINE)
        return time.monotonic() - started


@trial("P9", short=5, whole=25, waits=True)
async def deadlines(size: Size) -> list[Line]:
    """Every row of the table that hangs, drips or floods, with patient timeouts and a deadline of a second."""
    hanging = [row for row in ROWS if row.silent and row.place is not Place.TLS]
    told = {row.name for row in hanging}
    hanging += [row for row in ROWS if row.name in ENDLESS and row.name not in told]
    rounds, took = size.pick(1, 10), []
    with without_a_network():
        for _ in range(rounds):
            took += await asyncio.gather(*(_overrun(row, until=20.0) for row in hanging))
        row = next(row for row in hanging if row.name == "hang")
        with mutants.ignores_deadlines():
            control = await _overrun(attrs.evolve(row), until=2.5)
    return [
        Line(
            promise="P9",
            tried=f"{len(hanging)} faults that hang, drip or flood, {len(took)} calls, deadline {DEADLINE:g} s",
            figure=f"at most {max(took):.2f} s",
            target=f"{LATE:g} s",
            held=max(took) <= LATE,
            control=f"a client that ignores it: {control:.1f} s",
            noticed=control > LATE,
        )
    ]


# ------------------------------------------------------------------------------------------------ stray bytes
STRAY = ("double_answer~late=20", "double_answer~late=0", "set_cookie", "keepalive_close", "keepalive_race_rst")


Create = Callable[[str], Awaitable[str | None]]
"""Creates a session for an order's URL; returns the id that it was handed, None after an error."""


def by_name(sandbox: Sandbox) -> str:
    """Return the base URL with a name: aiohttp stores no cookies of an IP address."""
    return sandbox.base_url.replace("127.0.0.1", "localhost")


@contextlib.asynccontextmanager
async def raw_client(sandbox: Sandbox) -> AsyncIterator[Create]:
    """Bare aiohttp, as a first draft would use it."""
    headers = {"Authorization": f"Basic {sandbox.api_key}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1), headers=headers) as session:

        async def create(url: str) -> str | None:
            body = {"payment_session_url": url, "merchant_urls": {"success": "https://shop.example/thanks"}}
            try:
                async with session.post(f"{by_name(sandbox)}/hpp/v1/sessions", json=body) as response:
                    return (await response.json(content_type=None)).get("session_id")
            except aiohttp.ClientError:
                return None

        yield create


@contextlib.asynccontextmanager
async def our_client(sandbox: Sandbox) -> AsyncIterator[Create]:
    """The client with one connection."""
    pool = hpp.Pool(connections=1)
    async with hpp.HPPClient(sandbox.api_key, base_url=by_name(sandbox), timeouts=PATIENT, pool=pool) as client:

        async def create(url: str) -> str | None:
            urls = hpp.MerchantUrls(success="https://shop.example/thanks")
            request = hpp.CreateSessionRequest(payment_session_url=url, merchant_urls=urls)
            try:
                return (await client.create_session(request)).session_id
            except hpp.HPPError:
                return None

        yield create


async def _strays(
    fault: str, calls: int, connect: Callable[[Sandbox], AbstractAsyncContextManager[Create]]
) -> tuple[int, int]:
    """Return how many sessions were those of another order, and how many cookies were sent back."""
    wrong = 0
    async with Sandbox() as sandbox, connect(sandbox) as create:
        sandbox.fault(find_fault(fault), skip=1)
        for number in range(calls):
            url = f"{by_name(sandbox)}/checkout/v3/orders/stray-{number}"
            identity = await create(url)
            wrong += identity is not None and identity not in {
                one.session_id for one in sandbox.record.created_for(url)
            }
            await asyncio.sleep(0.03)
        cookies = sum(name.lower() == b"cookie" for post in sandbox.record.posts for name, _ in post.headers)
    return wrong, cookies


@trial("P12", short=4, whole=20, waits=True)
async def stray_responses(size: Size) -> list[Line]:
    """Creates one after the other on one connection, on which the server says more than it was asked."""
    calls = size.pick(30, 300)
    found = await asyncio.gather(*(_strays(fault, calls, our_client) for fault in STRAY))
    control, _ = await _strays("double_answer~late=20", 10, raw_client)
    _, sent_back = await _strays("set_cookie", 5, raw_client)
    wrong, cookies = sum(one for one, _ in found), sum(cookies for _, cookies in found)
    return [
        Line(
            promise="P12",
            tried=f"{calls} creates on one connection, {len(STRAY)} servers that say too much",
            figure=f"{wrong} sessions of another order, {cookies} cookies sent back",
            target="0, 0",
            held=wrong == cookies == 0,
            control=f"bare aiohttp: {control} of 10 wrong, {sent_back} cookies",
            noticed=control > 0 and sent_back > 0,
        )
    ]


@trial("P13", short=3, whole=15, waits=True)
async def certificates_and_versions(size: Size) -> list[Line]:
    """Servers with an invalid certificate or an old TLS."""
    rows = [row for row in ROWS if row.place is Place.TLS and row.told != "good"]
    rows += [row for row in ROWS if row.name in {"port:tls_old", "port:tls_plain"}]
    always = Variant(borrowed=False, resend=False, once=False)
    with without_a_network():
        facts = [await play(row, always) for row in rows for _ in range(size.pick(1, 10))]
        real = hpp.HPPClient.__init__

        def careless(self: hpp.HPPClient, *args: object, ssl: object = None, **options: object) -> None:
            if ssl is not None:
                ssl.check_hostname, ssl.verify_mode = False, 0  # type: ignore[attr-defined]
            real(self, *args, ssl=ssl, **options)  # type: ignore[arg-type]

        with mock.patch.object(hpp.HPPClient, "__init__", careless):
            control = await play(next(row for row in rows if row.told == "self_signed"), always)
    reached = sum(len(one.posts) for one in facts)
    return [
        Line(
            promise="P13",
            tried=f"{len(rows)} servers: expired, future, wrong host, self-signed, unknown CA, TLS 1.1, no TLS",
            figure=f"{reached} requests reached one",
            target="0",
            held=reached == 0,
            control=f"a context that verifies nothing: {len(control.posts)} reached it",
            noticed=len(control.posts) > 0,
        )
    ]


@trial("P14", short=2, whole=6)
async def urls_in_responses(size: Size) -> list[Line]:
    """Sessions whose URLs lead elsewhere are read, disabled and distributed."""
    errors = requests = 0
    async with Sandbox() as sandbox:
        sink = await sandbox.redirect_target()
        evil = [
            f"{sink}/hpp/v1/sessions/s", f"{sandbox.base_url}@{sink[7:]}/hpp/v1/sessions/s", "javascript:alert(1)",
            f"//{sink[7:]}/hpp/v1/sessions/s", f"{sandbox.base_url}/hpp/v1/../../sink", "file:///etc/passwd",
            f"{sandbox.base_url}/hpp/v1/sessions/s\r\nX-Injected: yes", f"{sink}/hpp/v1/sessions/s?next={sandbox.base_url}",
        ]  # fmt: skip
        async with hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url) as client:
            for url in evil * size.pick(1, 20):
                session = hpp.Session(session_id="s", redirect_url=url, session_url=url, distribution_url=url)
                for call in (
                    client.read_session(session),
                    client.disable_session(session),
                    client.distribute_session(session, hpp.EmailDistribution("a@shop.example")),
                ):
                    requests += 1
                    try:
                        await call
                    except hpp.HPPError:
                        errors += 1
        reached = len(sandbox.record.sink)
        injected = sum(name.lower() == b"x-injected" for seen in sandbox.record.requests for name, _ in seen.headers)
        async with aiohttp.ClientSession() as raw:
            await raw.get(evil[0])
        control = len(sandbox.record.sink) - reached
    return [
        Line(
            promise="P14",
            tried=f"{requests} calls for sessions whose URLs lead elsewhere",
            figure=f"{reached} requests elsewhere, {injected} injected headers; {errors} typed errors",
            target="0, 0",
            held=reached == injected == 0,
            control=f"a client that calls what it is given: {control} elsewhere",
            noticed=control > 0,
        )
    ]
