"""Trials of input: responses, headers, callbacks, rows of batches and journal files of random bytes."""

import asyncio
import contextlib
import csv
import io
import json
import random
import sqlite3
import string
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from multidict import CIMultiDict

import kustom_hpp as hpp
from kustom_hpp import callbacks, cli
from kustom_hpp._messages import HttpRequest, HttpResponse, SendMarker
from kustom_hpp.batch import Outcome, OutcomeState, SqliteJournal
from tests import fuzz_callbacks
from tests.prove.table import Row, Size, trial
from tests.support.golden import FULL_ANSWER, FULL_DETAILS, MINIMAL_REQUEST

HEADERS = (
    "Retry-After", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", "Klarna-Correlation-Id",
    "X-Correlation-Id", "Correlation-Id", "Location", "Content-Type", "Content-Length", "Content-Encoding", "Date",
)  # fmt: skip
VALUES = (
    "5", "-1", "0", "1e9", "nan", "inf", "²³", "٣", "\x1c5", "5\x85", "9" * 5000, "1.5", "", " ", ",", ";", "40, 40;w=1", "w=",
    "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 9999999 07:28:00 GMT", "Wed, 31 Feb 2026 99:99:99 -9999",
    "2026-11-28T04:00Z", "\x00", "\r\nX: y", "\ud800", "\U0001f469", "https://[::1", "//", "\x7f", "a" * 70_000, "True",
    "None", "0x10", "1_000",
)  # fmt: skip
STATUSES = (
    *range(200, 209),
    *range(300, 309),
    400,
    401,
    403,
    404,
    408,
    409,
    429,
    429,
    500,
    502,
    503,
    504,
    599,
    600,
    999,
    101,
)


class RandomApi:
    """A transport whose responses are made of random parts."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    async def send(self, _: HttpRequest, marker: SendMarker) -> HttpResponse:
        marker.sent = True
        dice = self._dice
        body = dice.choice(
            (FULL_ANSWER, FULL_DETAILS, b'{"error_code":"A","error_messages":["b"]}', b"", b"{}", b"null")
        )
        return HttpResponse(status=dice.choice(STATUSES), headers=self._headers(), body=mutated(body, dice))

    def _headers(self) -> Mapping[str, str]:
        headers, dice = CIMultiDict[str](), self._dice
        for _ in range(dice.randrange(6)):
            value = dice.choice(VALUES)
            if dice.random() < 0.5:
                value = "".join(
                    chr(dice.choice((dice.randrange(0x20), dice.randrange(0x100), dice.randrange(0x11000))))
                    for _ in range(4)
                )
                value = dice.choice(VALUES)[:40] + value
            headers.add(dice.choice(HEADERS), value)
        return headers

    async def aclose(self) -> None:
        """Nothing is open."""


def mutated(body: bytes, dice: random.Random) -> bytes:
    """Return a body with some bytes cut, changed or repeated."""
    for _ in range(dice.randrange(4)):
        at = dice.randrange(len(body) + 1)
        end = min(len(body), at + dice.randrange(1, 30))
        body = dice.choice((
            body[:at], body[:at] + body[end:], body[:at] + dice.randbytes(3) + body[end:],
            body[:at] + body[at:end] * 3 + body[end:], body[:at] + dice.choice(fuzz_callbacks.TOKENS) + body[end:],
        ))  # fmt: skip
    return body


def learn_nothing(*_: object, **__: object) -> None:
    """Replace what a pace learns from a response."""


async def _read_responses(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Let calls read random responses; return how they ended, and what escaped."""
    dice = random.Random(seed)
    endings, foreign = Counter[str](), []
    retry = hpp.RetrySettings(max_attempts=1)
    client = hpp.HPPClient("kco_test_api_x", transport=RandomApi(dice), retry=retry)
    calls = (
        lambda: client.create_session(MINIMAL_REQUEST),
        lambda: client.read_session("0b1d9815-165e-42e2-8867-35bc03789e00"),
        lambda: client.disable_session("0b1d9815-165e-42e2-8867-35bc03789e00"),
    )
    # Random rate limits teach no pace: reads have one of their own.
    with mock.patch.object(hpp.Pace, "record_response", learn_nothing):
        for number in range(count):
            try:
                await dice.choice(calls)()
            except hpp.HPPError as error:
                endings[type(error).__name__] += 1
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                foreign.append(f"response {number}: {error!r}")
            else:
                endings["a value"] += 1
    return endings, foreign


@trial("P1", short=15, whole=120)
async def random_responses(size: Size) -> list[Row]:
    """Random statuses, headers and bodies."""
    count = size.pick(20_000, 1_000_000)
    _, foreign = await _read_responses(count, size.seed)

    def careless(headers: Any) -> float | None:
        value = headers.get("Retry-After")
        return None if value is None else float(value)

    with mock.patch("kustom_hpp._protocol.response_reader.retry_after_seconds", careless):
        _, control = await _read_responses(2_000, size.seed)
    return [
        Row(
            promise="P1",
            tried=f"{count:,} random responses with {len(HEADERS)} headers, seed {size.seed}",
            figure=f"{len(foreign)} undocumented errors {foreign[:1] or ''}".strip(),
            target="0",
            held=not foreign,
            control=f"a client that trusts Retry-After: {len(control)} noticed",
            noticed=bool(control),
        )
    ]


@trial("P15", short=8, whole=320)
async def random_callbacks(size: Size) -> list[Row]:
    """Mutated callback bodies, with each JSON library."""
    count, first = size.pick(10_000, 1_000_000), size.seed * 10_000_000
    _, failed, _ = fuzz_callbacks.fuzz(range(first, first + count))
    body = b'{"event_id":"%s","session":%s}' % (b"e" * 60_000, FULL_DETAILS)
    best = min(_seconds(body) for _ in range(20)) * 1024 / len(body) * 1000

    real = callbacks.parse

    def careless(given: bytes) -> callbacks.StatusUpdate:
        json.loads(given)["event_id"]
        return real(given)

    with mock.patch.object(callbacks, "parse", careless):
        _, control, _ = fuzz_callbacks.fuzz(range(first, first + 200))
    return [
        Row(
            promise="P15",
            tried=f"{count:,} mutated bodies from number {first:,}",
            figure=f"{len(failed)} undocumented errors; {best:.4f} ms for each KiB",
            target="0; 1 ms",
            held=not failed and best < 1,
            control=f"a parser that trusts the body: {len(control)} noticed",
            noticed=bool(control),
        )
    ]


def _seconds(body: bytes) -> float:
    started = time.perf_counter()
    callbacks.parse(body)
    return time.perf_counter() - started


def _journal_rows(path: Path) -> list[tuple[str, str]]:
    """Read a journal's rows with bare SQLite, as a careless program would."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as database:
        table = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        return [row for (name,) in table for row in database.execute(f'SELECT * FROM "{name}"').fetchall()]


async def _read_journal(path: Path) -> list[tuple[str, str | None]]:
    async with SqliteJournal(path, scope="fuzz") as journal:
        return [
            (row.key, row.outcome.session.session_id if row.outcome.session else None) async for row in journal.rows()
        ]


@trial("P5", short=5, whole=110)
async def random_journal_files(size: Size) -> list[Row]:
    """A journal's file with random blocks overwritten."""
    count, dice = size.pick(300, 20_000), random.Random(size.seed)
    wrong, refused, misread = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first.db"
        async with SqliteJournal(first, scope="fuzz") as journal:
            for number in range(40):
                await journal.claim(f"key-{number}", f"order-{number}", b"d" * 32)
                session = hpp.Session(session_id=f"s-{number}", redirect_url="https://pay.example/x")
                await journal.settle(
                    f"key-{number}",
                    Outcome(key=f"key-{number}", state=OutcomeState.CREATED, session=session, attempts=1),
                )
        sound, rows, plain = first.read_bytes(), await _read_journal(first), _journal_rows(first)
        for number in range(count):
            path = Path(folder) / f"{number}.db"
            damaged = bytearray(sound)
            for _ in range(dice.randint(1, 3)):
                at = dice.randrange(len(damaged))
                block = dice.randbytes(dice.choice((1, 2, 8, 64)))
                damaged[at : at + len(block)] = block
            path.write_bytes(damaged[: len(sound)])
            with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                misread += _journal_rows(path) != plain
            try:
                if await _read_journal(path) != rows:
                    wrong.append(f"file {number} was misread")
            except hpp.JournalError:
                refused += 1
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                wrong.append(f"file {number}: {error!r}")
            for leftover in Path(folder).glob(f"{number}.db*"):
                leftover.unlink()
    return [
        Row(
            promise="P5",
            tried=f"{count:,} journal files with random blocks overwritten",
            figure=f"{len(wrong)} misread, {refused:,} refused {wrong[:1] or ''}".strip(),
            target="0",
            held=not wrong,
            control=f"bare SQLite misreads {misread:,}",
            noticed=misread > 0,
        )
    ]


def random_rows(dice: random.Random, kind: str) -> bytes:
    """Return a file of rows with random damage."""
    url = "https://api.playground.kustom.co/checkout/v3/orders/92d97f60-7a78-46a5-8f68-c56fe52dc4af"
    if kind == "csv":
        head = "key,payment_session_url,merchant_urls.success"
        text = f'{head}\n1,{url}1,https://shop.example/a\n"2",{url}2,"https://shop.example/b"\n'
    else:
        urls = {"success": "https://shop.example/a"}
        text = "".join(
            f"{json.dumps({'key': key, 'request': {'payment_session_url': f'{url}{key}', 'merchant_urls': urls}})}\n"
            for key in "123"
        )
    body = mutated(text.encode(), dice)
    if dice.random() < 0.3:
        at = dice.randrange(len(body) + 1)
        body = (
            body[:at]
            + dice.choice((b'"', b"\x00", b"\xff", b"\r", b"\n\n", b"\xef\xbb\xbf", b",,", b"'", b"\x1f\x8b"))
            + body[at:]
        )
    return dice.choice((body, body, body.decode(errors="replace").encode("utf-16"), string.printable.encode()))


def _trusting_reader(content: bytes, kind: str) -> None:
    """Read rows as a first draft would."""
    lines = content.decode().splitlines()
    for row in csv.DictReader(lines) if kind == "csv" else map(json.loads, lines):
        request = row if kind == "csv" else row["request"]
        if not isinstance(request["payment_session_url"], str):
            raise TypeError(request)


@trial("P1", short=4, whole=130)
async def random_row_files(size: Size) -> list[Row]:
    """Damaged CSV and JSONL files through `kustom-hpp batch --dry-run`."""
    count, dice = size.pick(150, 10_000), random.Random(size.seed)
    codes, escaped, control = Counter[int](), [], 0
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict("os.environ", KUSTOM_HPP_API_KEY="kco_test_api_x"):
        for number in range(count):
            kind = dice.choice(("csv", "jsonl"))
            path = Path(folder) / f"rows.{kind}"
            content = random_rows(dice, kind)
            path.write_bytes(content)
            try:
                _trusting_reader(content, kind)
            except Exception:  # noqa: BLE001 - any of them counts
                control += 1
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = await asyncio.to_thread(cli.main, ["batch", str(path), "--dry-run"])
                except BaseException as error:  # noqa: BLE001 - that is what is looked for
                    escaped.append(f"file {number}: {error!r}")
                    continue
            codes[int(code)] += 1
            if code not in {0, 1, 2} or "Traceback" in err.getvalue():
                escaped.append(f"file {number}: exit code {code}: {err.getvalue()[-200:]}")
    return [
        Row(
            promise="P1",
            tried=f"{count:,} damaged CSV and JSONL files, --dry-run",
            figure=f"{len(escaped)} tracebacks; exit code 0 for {codes[0]:,}, 2 for {codes[2]:,} {escaped[:1] or ''}".strip(),
            target="0",
            held=not escaped,
            control=f"a reader that trusts the file: {control} exceptions",
            noticed=control > 0,
        )
    ]
