"""Faults of time: silence, and responses that arrive slowly."""

from kustom_hpp.sandbox.faults.base import Args, ConnectionAction, FaultContext, FaultType
from kustom_hpp.sandbox.faults.connections import send_half_body, send_head

SILENCE = {"seconds": 10.0}


async def hang(context: FaultContext, args: Args) -> ConnectionAction:
    """Send nothing, and close after `seconds`."""
    await context.connection.pause(args["seconds"])
    return ConnectionAction.CLOSE


async def drip(context: FaultContext, data: bytes, interval: float) -> None:
    """Send byte by byte."""
    for at in range(len(data)):
        await context.send(data[at : at + 1])
        await context.connection.pause(interval)


async def _headers_then_hang(context: FaultContext, args: Args) -> ConnectionAction:
    await send_head(context)
    return await hang(context, args)


async def _half_body_hang(context: FaultContext, args: Args) -> ConnectionAction:
    await send_half_body(context)
    return await hang(context, args)


async def _drip_body(context: FaultContext, args: Args) -> ConnectionAction:
    await drip(context, await send_head(context), args["interval"])
    return ConnectionAction.KEEP


async def _slow_head(context: FaultContext, args: Args) -> ConnectionAction:
    await context.connection.pause(args["seconds"])
    await context.send(context.healthy_response())
    return ConnectionAction.KEEP


SLOW_FAULTS = (
    FaultType(
        "hang",
        "processes the request, then silence; FIN after `seconds`",
        hang,
        processes_request=True,
        defaults=SILENCE,
    ),
    FaultType("hang_uncommitted", "silence without processing; FIN after `seconds`", hang, defaults=SILENCE),
    FaultType(
        "slow_head", "the response after `seconds`", _slow_head, processes_request=True, defaults={"seconds": 0.3}
    ),
    FaultType(
        "headers_then_hang",
        "the head of the response, then silence",
        _headers_then_hang,
        processes_request=True,
        defaults=SILENCE,
    ),
    FaultType(
        "half_body_hang", "half of the body, then silence", _half_body_hang, processes_request=True, defaults=SILENCE
    ),
    FaultType(
        "drip_body",
        "the body byte by byte, one each `interval` seconds",
        _drip_body,
        processes_request=True,
        defaults={"interval": 0.1},
    ),
)
