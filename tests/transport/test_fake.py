"""The transport without sockets keeps its script, its memory, and the real one's manners."""

import attrs
import pytest
from yarl import URL

import kustom_hpp as hpp
from kustom_hpp._messages import Delivery, HttpRequest, SendMarker
from kustom_hpp.transport import FakeTransport


def request(number: int = 1) -> HttpRequest:
    url = URL(f"https://api.example/{number}")
    return HttpRequest(method="POST", url=url, headers={}, connect_timeout=1.0, read_timeout=1.0)


@pytest.mark.parametrize(
    ("arguments", "status", "body"),
    [((), 201, b""), ((500,), 500, b""), ((201, {"a": [1]}), 201, b'{"a": [1]}'), ((200, b"raw"), 200, b"raw"),
     ((200, "text"), 200, b'"text"'), ((200, []), 200, b"[]")],
)  # fmt: skip
def test_answers(arguments, status, body):
    answer = FakeTransport.response(*arguments, headers={"Retry-After": "1"})
    assert (answer.status, answer.body, answer.headers["retry-after"], answer.body_error) == (status, body, "1", None)


async def test_the_script_is_played_and_its_last_step_repeated():
    transport = FakeTransport(FakeTransport.response(500), FakeTransport.response(201))
    assert [(await transport.send(request(n), SendMarker())).status for n in range(4)] == [500, 201, 201, 201]
    assert [sent.url.path for sent in transport.requests] == ["/0", "/1", "/2", "/3"]


async def test_what_may_not_be_sent_takes_no_step():
    transport, mark = FakeTransport(FakeTransport.response(201)), SendMarker()
    with pytest.raises(hpp.LeaseLostError):
        await transport.send(attrs.evolve(request(), may_send=lambda: False), mark)
    assert (transport.requests, mark.sent) == ([], False)
    assert (await transport.send(attrs.evolve(request(), may_send=lambda: True), mark)).status == 201


async def test_a_step_may_look_at_the_request():
    transport = FakeTransport(
        lambda asked: FakeTransport.response(200, asked.url.path), lambda _: hpp.ConnectError("x")
    )
    assert (await transport.send(request(7), SendMarker())).body == b'"/7"'
    with pytest.raises(hpp.ConnectError):
        await transport.send(request(), SendMarker())


@pytest.mark.parametrize(
    ("step", "delivery"),
    [
        (FakeTransport.response(400), Delivery.UNKNOWN),
        (hpp.ConnectError("x"), Delivery.NOT_SENT),
        (hpp.DeadlineExceededError("x"), Delivery.NOT_SENT),
        (hpp.ClientClosedError("x"), Delivery.NOT_SENT),
        (hpp.LostResponseError("x"), Delivery.UNKNOWN),
        (hpp.LostResponseError("x", delivery=Delivery.ACCEPTED), Delivery.UNKNOWN),
    ],
)
async def test_the_mark_is_set_as_the_real_one_would(step, delivery):
    mark = SendMarker()
    if isinstance(step, hpp.HPPError):
        with pytest.raises(type(step)) as caught:
            await FakeTransport(step).send(request(), mark)
        assert caught.value is step
    else:
        assert await FakeTransport(step).send(request(), mark) is step
    assert mark.delivery is delivery


async def test_closed():
    transport = FakeTransport(FakeTransport.response())
    assert transport.closed is False
    await transport.aclose()
    await transport.aclose()
    assert transport.closed is True
    with pytest.raises(hpp.ClientClosedError):
        await transport.send(request(), SendMarker())
    assert transport.requests == []
