"""Faults of the connection and of time: cut, closed, silent, slow."""

import socket

from kustom_hpp.sandbox.faults.base import Args, Call, Kind, Stage, Then
from kustom_hpp.sandbox.http.connection import Link
from kustom_hpp.sandbox.http.raw_response import dumps

_SMALL_WINDOW = 4096


def _accept_rst(link: Link, args: Args) -> None:  # noqa: ARG001
    link.reset()


def _accept_close(link: Link, args: Args) -> None:  # noqa: ARG001
    link.close()


def _server_not_reading(link: Link, args: Args) -> None:
    # A small receive buffer, so that a body of some 200 KB finds no room on its way.
    link.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW)
    link.transport.pause_reading()
    link.later(args["seconds"], link.reset)


async def _close(call: Call, args: Args) -> Then:  # noqa: ARG001
    call.link.close()
    return Then.CLOSE


async def _reset(call: Call, args: Args) -> Then:  # noqa: ARG001
    call.link.reset()
    return Then.CLOSE


async def _hang(call: Call, args: Args) -> Then:
    await call.link.pause(args["seconds"])
    return Then.CLOSE


async def _head(call: Call) -> bytes:
    """Send the head of the answer; the body that should follow."""
    whole = call.full()
    call.answered(whole.status)
    await call.send(whole.encode()[: -len(whole.body)])
    return whole.body


async def _half_body(call: Call) -> None:
    body = await _head(call)
    await call.send(body[: len(body) // 2])


async def _half_body_close(call: Call, args: Args) -> Then:  # noqa: ARG001
    await _half_body(call)
    return Then.CLOSE


async def _half_body_reset(call: Call, args: Args) -> Then:  # noqa: ARG001
    await _half_body(call)
    call.link.reset()
    return Then.CLOSE


async def _half_body_hang(call: Call, args: Args) -> Then:
    await _half_body(call)
    return await _hang(call, args)


async def _headers_then_hang(call: Call, args: Args) -> Then:
    await _head(call)
    return await _hang(call, args)


async def _drip(call: Call, data: bytes, interval: float) -> None:
    for at in range(len(data)):
        await call.send(data[at : at + 1])
        await call.link.pause(interval)


async def _drip_body(call: Call, args: Args) -> Then:
    await _drip(call, await _head(call), args["interval"])
    return Then.KEEP


async def _drip_head(call: Call, args: Args) -> Then:
    whole = call.full()
    await _drip(call, whole.encode()[: -len(whole.body)], args["interval"])
    await call.send(whole.body)
    call.answered(whole.status)
    return Then.KEEP


async def _slow_head(call: Call, args: Args) -> Then:
    await call.link.pause(args["seconds"])
    await call.send(call.answer())
    return Then.KEEP


async def _keepalive_close(call: Call, args: Args) -> Then:
    await call.send(call.answer())
    call.link.later(args["after"], call.link.close)
    return Then.KEEP


async def _double_answer(call: Call, args: Args) -> Then:
    first, late = call.full(), args["late"]
    stray = first.with_body(dumps(call.stray())).encode()
    if late <= 0:
        call.answered(first.status)
        await call.send(first.encode() + stray)
        return Then.KEEP
    await call.send(first)
    await call.link.pause(late / 1000)
    await call.send(stray)
    return Then.KEEP


async def _early_413(call: Call, args: Args) -> Then:  # noqa: ARG001
    await call.send(call.error(413).with_headers(("Connection", "close")))
    # Closing with unread bytes would send RST, and that may destroy the answer on its way.
    await call.discard()
    return Then.CLOSE


async def _interim_flood(call: Call, args: Args) -> Then:
    while True:
        await call.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await call.link.pause(args["interval"])


async def _interim_103(call: Call, args: Args) -> Then:  # noqa: ARG001
    await call.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    await call.send(call.answer())
    return Then.KEEP


async def _status_199(call: Call, args: Args) -> Then:
    await call.send(b"HTTP/1.1 199 Odd\r\nContent-Length: 0\r\n\r\n")
    return await _hang(call, args)


_HANG = {"seconds": 10.0}

CONNECTIONS = (
    Kind(name="accept_rst", about="RST right after accept", stage=Stage.CONNECTION, play_connection=_accept_rst),
    Kind(name="accept_close", about="FIN right after accept", stage=Stage.CONNECTION, play_connection=_accept_close),
    Kind(
        name="server_not_reading",
        about="accepts and never reads a byte, so that a body of 200 KB and more cannot be sent; RST after `seconds`",
        stage=Stage.CONNECTION,
        defaults=_HANG,
        play_connection=_server_not_reading,
    ),
    Kind(name="close_on_head", about="FIN when the head is in", stage=Stage.HEAD, play=_close),
    Kind(name="reset_on_head", about="RST when the head is in", stage=Stage.HEAD, play=_reset),
    Kind(
        name="keepalive_race_rst",
        about="RST when a head is in, as if the idle connection had just been closed; give it skip=1",
        stage=Stage.HEAD,
        play=_reset,
    ),
    Kind(
        name="early_413",
        about="413 before the body is read, then the body is thrown away",
        stage=Stage.HEAD,
        play=_early_413,
    ),
    Kind(name="close_before_processing", about="reads the request, does nothing, FIN", play=_close),
    Kind(name="close_after_request", about="processes the request, FIN", commits=True, play=_close),
    Kind(name="reset_after_request", about="processes the request, RST", commits=True, play=_reset),
    Kind(
        name="hang",
        about="processes the request and falls silent; FIN after `seconds`",
        commits=True,
        defaults=_HANG,
        play=_hang,
    ),
    Kind(
        name="hang_uncommitted",
        about="falls silent without processing; FIN after `seconds`",
        defaults=_HANG,
        play=_hang,
    ),
    Kind(
        name="status_199",
        about="an odd interim answer, then silence; nothing is processed",
        defaults=_HANG,
        play=_status_199,
    ),
    Kind(name="interim_103", about="103 Early Hints, then the 201", commits=True, play=_interim_103),
    Kind(
        name="interim_flood",
        about="102 every `interval` seconds without end",
        commits=True,
        defaults={"interval": 0.05},
        play=_interim_flood,
    ),
    Kind(name="slow_head", about="the 201, `seconds` late", commits=True, defaults={"seconds": 0.3}, play=_slow_head),
    Kind(
        name="drip_head",
        about="the head of the 201 byte by byte, one every `interval` seconds",
        commits=True,
        defaults={"interval": 0.1},
        play=_drip_head,
    ),
    Kind(
        name="drip_body",
        about="the body of the 201 byte by byte, one every `interval` seconds",
        commits=True,
        defaults={"interval": 0.1},
        play=_drip_body,
    ),
    Kind(
        name="headers_then_hang",
        about="the head of the 201, then silence",
        commits=True,
        defaults=_HANG,
        play=_headers_then_hang,
    ),
    Kind(
        name="half_body_hang",
        about="half of the 201's body, then silence",
        commits=True,
        defaults=_HANG,
        play=_half_body_hang,
    ),
    Kind(name="half_body_close", about="half of the 201's body, then FIN", commits=True, play=_half_body_close),
    Kind(name="half_body_reset", about="half of the 201's body, then RST", commits=True, play=_half_body_reset),
    Kind(
        name="keepalive_close",
        about="the 201, and FIN on the idle connection `after` seconds",
        commits=True,
        defaults={"after": 0.05},
        play=_keepalive_close,
    ),
    Kind(
        name="double_answer",
        about="the 201, and `late` milliseconds after it another one whose ids are nobody's",
        commits=True,
        defaults={"late": 20.0},
        play=_double_answer,
    ),
)
