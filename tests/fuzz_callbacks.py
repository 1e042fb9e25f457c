"""Mutated callback bodies by the million: `python -m tests.fuzz_callbacks [bodies] [--seed N] [--jobs N]`.

Each body is a real one (or an odd one) that was cut, spliced, flipped and retyped, and is read with each JSON library. It
must come to a StatusUpdate or to a CallbackError, to the same with both libraries, and to nothing else. A body is made
from its number alone: the report of a failure names the number, and `mutated(number)` makes it again. The exit code is 1
where one failed.
"""

import argparse
import concurrent.futures
import copy
import json
import pickle
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import kustom_hpp as hpp
from kustom_hpp import callbacks
from kustom_hpp._protocol import codec as _codec
from tests.support.golden import FULL_DETAILS, MINIMAL_DETAILS

CORPUS = (
    b'{"event_id":"cd6f2a8e-31f4-4f0e-9d5b-2f6f0a7b1c55","session":%s}' % FULL_DETAILS,
    b'{"event_id":"cd6f2a8e-31f4-4f0e-9d5b-2f6f0a7b1c55","session":%s}' % MINIMAL_DETAILS,
    b'{"session":{"session_id":"s","status":"IN_PROGRESS"},"event_id":"e"}',
    b'\xef\xbb\xbf {"event_id": null, "session": {"session_id": "\\u00e4\\ud83d\\ude00", "status": null}, "new": [1.5e3]}',
    b'{"event_id":"e","session":{"session_id":"s","manual_identification":{"challenge":"A1","expires_at":"2019-05-13T14:51Z"}}}',
    b"{}",
    b"null",
    b"",
)
TOKENS = (
    b"null", b"true", b"0", b"-1", b"1e999", b"NaN", b"-Infinity", b"9" * 30, b"9" * 5000, b"1.5", b'""', b"[]",
    b"{}", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00", b"\\u0000", b"\x00",
    b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc0\x80", b"\xf4\x90\x80\x80", b"/*", b"//", b"\n", b" " * 100,
    b"[" * 40, b"]" * 40, b'{"a":' * 40, b"[" * 3000, b'"event_id"', b'"session"', b'"session_id"', b'"status"',
    b'"customer"', b'"updated_at"', b'"extra"', b'"info"', b'"event_id":"x",', b'"session":null,',
    b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"', b'"COMPLETED"', b'"__class__"', b'"self"', b"%s",
    b"{{session_id}}", b"\x1f\x8b\x08", b"\xfe\xff", b"\xd8\x00",
)  # fmt: skip
STEP = 10_000
"""Bodies of one task, and so how often progress is told."""


def mutated(number: int) -> bytes:
    """The body with this number."""
    dice = random.Random(number)
    if number % 2:
        return _retyped(dice)
    body = bytearray(dice.choice(CORPUS))
    for _ in range(dice.choice((1, 1, 1, 2, 3, 5, 10, 30))):
        at = dice.randint(0, len(body))
        to = min(len(body), at + dice.choice((0, 1, 1, 2, 5, 20, 100)))
        what = dice.randrange(7)
        if what == 0:
            body[at:to] = dice.choice(TOKENS)
        elif what == 1:
            body[at:at] = dice.choice(TOKENS)
        elif what == 2:
            del body[at:to]
        elif what == 3:
            body[at:at] = body[at:to] * dice.choice((1, 1, 2, 50))
        elif what == 4 and at < len(body):
            body[at] ^= 1 << dice.randrange(8)
        elif what == 5:
            body[at:to] = dice.randbytes(to - at)
        else:
            other = dice.choice(CORPUS)
            body[at:to] = other[dice.randint(0, len(other)) :]
    return bytes(body)


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 2**200, 1.5, 1e300, float("nan"), "", " ", "s", "0", "COMPLETED",
    "2019-05-13T14:51:46.288Z", "2019-05-13", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "\0",
    "\ud800", "\U0001f600", "x" * 10_000, [], {}, [[]], [None], {"a": {}}, {"session_id": "s"}, {"session_id": None},
    {"session_id": ["s"]}, {"given_name": 5}, {"extra": {"info": 1}},
    {"self": 1, "info": None, "__class__": "x", "": 0},
)  # fmt: skip


def _retyped(dice: random.Random) -> bytes:
    """JSON as a rule, with other values in the places of some: what is read, and not as it should be."""
    value = {"event_id": "e", "session": json.loads(FULL_DETAILS), "new": [1]}
    for _ in range(dice.choice((1, 1, 2, 5))):
        parent: Any = value
        while True:
            keys = list(parent) if isinstance(parent, dict) else range(len(parent))
            key = (
                dice.choice((*keys, "new", "event_id", "session", "status"))
                if isinstance(parent, dict)
                else dice.choice(keys)
            )
            child = parent.get(key) if isinstance(parent, dict) else parent[key]
            if isinstance(child, (dict, list)) and child and dice.random() < 0.8:
                parent = child
            else:
                break
        parent[key] = copy.deepcopy(dice.choice(VALUES))
        if isinstance(parent, dict) and dice.random() < 0.2:
            del parent[dice.choice(list(parent))]
    return json.dumps(value, ensure_ascii=dice.random() < 0.5).encode(errors="surrogatepass")


def readers() -> list[tuple[str, Callable[[], _codec.Codec]]]:
    """Each JSON library that is there, with what takes the place of `codec()`."""
    with mock.patch.dict(sys.modules, {"orjson": None}):
        stdlib = _codec.Codec()
    found: list[tuple[str, Callable[[], _codec.Codec]]] = [("json", lambda: stdlib)]
    try:
        import orjson  # noqa: F401 - whether it is there
    except ImportError:
        return found
    fast = _codec.Codec()
    return [*found, ("orjson", lambda: fast)]


def check(body: bytes) -> str:
    """What a body came to, in a word.

    Raises:
        AssertionError: to something that is not promised.

    """
    try:
        update = callbacks.parse(body)
    except hpp.CallbackError as error:
        return str(error).partition(" at ")[0].partition(" (")[0].translate(_DIGITS)
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    assert type(update) is callbacks.StatusUpdate
    assert update.event_id is None or (type(update.event_id) is str and update.event_id.encode())
    session = update.session
    assert session is None or (type(session.session_id) is str and session.session_id.encode())
    assert type(session.is_final if session else False) is bool
    repr(update)
    assert _same(pickle.loads(pickle.dumps(update)), update)
    assert _same(copy.deepcopy(update), update)
    return f"update with{'' if update.event_id else 'out'} event_id, with{'' if session else 'out'} session"


_DIGITS = str.maketrans(dict.fromkeys("0123456789", ""))


def _same(one: Any, other: Any) -> bool:
    """Equal, or full of NaN, which equals nothing."""
    return one == other or repr(one) == repr(other)


def fuzz(numbers: Sequence[int]) -> tuple[Counter[str], list[tuple[int, str]], int]:
    """Check the bodies with these numbers: what they came to, which failed and how, and how many the libraries read apart."""
    endings: Counter[str] = Counter()
    failed, apart = [], 0
    libraries = readers()
    for number in numbers:
        body, verdicts = mutated(number), []
        for name, codec in libraries:
            with mock.patch.object(callbacks, "codec", codec):
                try:
                    verdicts.append(check(body))
                except AssertionError as error:
                    failed.append((number, f"{name}: {error}"))
        endings.update(verdicts[:1])
        apart += len({verdict.startswith("update") for verdict in verdicts}) > 1
    return endings, failed, apart


def _tasks(first: int, bodies: int) -> Iterator[range]:
    for start in range(first, first + bodies, STEP):
        yield range(start, min(start + STEP, first + bodies))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print, and give the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz_callbacks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("bodies", nargs="?", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="the number of the first body")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    endings: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    apart, began = 0, time.monotonic()
    print(f"{options.bodies} bodies, each read with {' and '.join(name for name, _ in readers())}")
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        for some, wrong, differing in pool.map(fuzz, _tasks(options.seed, options.bodies)):
            endings += some
            failed += wrong
            apart += differing
            done = endings.total()
            if done % (10 * STEP) == 0 or done == options.bodies:
                print(
                    f"{done} bodies, {len(failed)} failed, {done / (time.monotonic() - began):.0f} a second", flush=True
                )
    for ending, count in endings.most_common():
        print(f"{count:>9}  {ending}")
    print(f"{apart:>9}  read by one library and refused by the other")
    for number, how in failed[:20]:
        print(f"FAILED: body {number}: {how}\n  {mutated(number)!r}")
    print(f"{endings.total()} bodies, {len(failed)} foreign exceptions or broken promises")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
