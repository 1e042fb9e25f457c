"""Events: plain facts, told to each hook; a hook that raises loses its place and nothing else."""

import asyncio
import copy
import logging
import pickle

import attrs
import pytest

import kustom_hpp as hpp
from kustom_hpp.events import Finished, Hooks, Retrying, Started, log_events

STARTED = Started(call_id="c0ffee", operation="create_session", method="POST", url="https://api.example/hpp/v1/sessions",
    host="api.example", port=443, path="/hpp/v1/sessions",
)  # fmt: skip
RATE_LIMIT = hpp.RateLimitError("slow down", status=429)
RETRYING = Retrying(call_id="c0ffee", operation="create_session", attempt=1, wait=0.25, error=RATE_LIMIT)


def finished(**changes) -> Finished:
    facts = {
        "call_id": "c0ffee",
        "operation": "create_session",
        "attempts": 1,
        "elapsed": 0.5,
        "delivery": hpp.Delivery.ACCEPTED,
        "status": 201,
        "correlation_id": "c-1",
        "error": None,
    }
    return Finished(**(facts | changes))


def test_no_hooks_are_false():
    assert not Hooks()
    assert Hooks([print])


def test_each_hook_is_told_in_order():
    heard = []
    hooks = Hooks([lambda event: heard.append(("a", event)), lambda event: heard.append(("b", event))])
    hooks.emit(STARTED)
    hooks.emit(RETRYING)
    assert heard == [("a", STARTED), ("b", STARTED), ("a", RETRYING), ("b", RETRYING)]


def test_hooks_may_come_from_an_iterator():
    heard = []
    hooks = Hooks(iter([heard.append]))
    hooks.emit(STARTED)
    hooks.emit(RETRYING)
    assert heard == [STARTED, RETRYING]


def test_a_hook_that_raises_is_logged_once_and_dropped(caplog):
    heard = []

    def broken(event):
        heard.append("broken")
        raise RuntimeError("of the hook")

    hooks = Hooks([broken, heard.append])
    for _ in range(3):
        hooks.emit(STARTED)
    assert heard == ["broken", STARTED, STARTED, STARTED]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("kustom_hpp", logging.ERROR)
    assert record.message == "a hook raised an exception and is not called again; the call continues"
    assert record.exc_info is not None


def test_dropping_the_last_hook_leaves_none():
    hooks = Hooks([lambda event: 1 / 0])
    hooks.emit(STARTED)
    assert not hooks


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_program_or_a_task_passes_through(kind):
    def stops(event):
        raise kind

    hooks = Hooks([stops])
    with pytest.raises(kind):
        hooks.emit(STARTED)
    assert hooks


LOST = hpp.LostResponseError("the answer was lost")
DECODE = hpp.DecodeError("unreadable", status=201)
BAD = hpp.BadRequestError("no", status=400)
CONNECT = hpp.ConnectError("no connection")
END = "create_session c0ffee: {} after 1 attempt(s) in 0.500 s, delivery {}, correlation id {}"


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (STARTED, None, ""),
        (RETRYING, logging.WARNING, "create_session c0ffee: attempt 1 failed, next in 0.25 s: slow down"),
        (finished(), logging.DEBUG, END.format(201, "accepted", "c-1")),
        (
            finished(error=BAD, status=400, delivery=BAD.delivery),
            logging.WARNING,
            END.format(400, "rejected", "c-1") + ": no",
        ),
        (
            finished(error=CONNECT, status=None, delivery=CONNECT.delivery, correlation_id=None),
            logging.WARNING,
            END.format("ConnectError", "not_sent", None) + ": no connection",
        ),
        (
            finished(error=LOST, status=None, delivery=LOST.delivery),
            logging.ERROR,
            END.format("LostResponseError", "unknown", "c-1") + ": the answer was lost",
        ),
        (
            finished(error=DECODE, delivery=DECODE.delivery),
            logging.ERROR,
            END.format(201, "accepted", "c-1") + ": unreadable",
        ),
        (
            finished(cancelled=True, status=None, delivery=hpp.Delivery.UNKNOWN),
            logging.ERROR,
            END.format("cancelled", "unknown", "c-1"),
        ),
        (
            finished(cancelled=True, status=None, delivery=hpp.Delivery.NOT_SENT),
            logging.DEBUG,
            END.format("cancelled", "not_sent", "c-1"),
        ),
        (
            finished(cancelled=True, status=None, delivery=None),
            logging.DEBUG,
            END.format("cancelled", None, "c-1"),
        ),
        # Of what may be repeated, nothing may exist that nobody knows of.
        (
            finished(error=LOST, status=None, delivery=LOST.delivery, idempotent=True),
            logging.WARNING,
            END.format("LostResponseError", "unknown", "c-1") + ": the answer was lost",
        ),
        (
            finished(error=DECODE, delivery=DECODE.delivery, idempotent=True),
            logging.WARNING,
            END.format(201, "accepted", "c-1") + ": unreadable",
        ),
        (
            finished(cancelled=True, status=None, delivery=hpp.Delivery.UNKNOWN, idempotent=True),
            logging.DEBUG,
            END.format("cancelled", "unknown", "c-1"),
        ),
        # A foreign exception: of a transport that breaks its contract.
        (
            finished(status=None, delivery=hpp.Delivery.UNKNOWN),
            logging.ERROR,
            END.format("an exception", "unknown", "c-1"),
        ),
        (
            finished(status=None, delivery=None),
            logging.WARNING,
            END.format("an exception", None, "c-1"),
        ),
    ],
    ids=str,
)
def test_the_line_of_an_event(caplog, event, level, line):
    caplog.set_level(logging.DEBUG, "kustom_hpp")
    log_events(event)
    assert [(record.levelno, record.message) for record in caplog.records] == ([] if level is None else [(level, line)])


@pytest.mark.parametrize(
    ("event", "succeeded"),
    [
        (finished(), True),
        (finished(error=BAD, delivery=BAD.delivery), False),
        (finished(error=DECODE, delivery=DECODE.delivery), False),
        (finished(cancelled=True, delivery=hpp.Delivery.UNKNOWN), False),
        (finished(cancelled=True, delivery=hpp.Delivery.ACCEPTED), False),
        (finished(delivery=hpp.Delivery.UNKNOWN), False),
    ],
    ids=str,
)
def test_whether_a_call_succeeded(event, succeeded):
    assert event.succeeded is succeeded


@pytest.mark.parametrize(
    "event", [STARTED, finished(), finished(cancelled=True)], ids=["started", "finished", "cancelled"]
)
def test_events_are_values(event):
    assert pickle.loads(pickle.dumps(event)) == event
    assert copy.deepcopy(event) == event
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.operation = "other"
    assert not hasattr(event, "__dict__")
