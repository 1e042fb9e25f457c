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
        name="hang",
        about="processes the request, then silence; FIN after `seconds`",
        processes_request=True,
        defaults=SILENCE,
        apply=hang,
    ),
    FaultType(
        name="hang_uncommitted",
        about="silence without processing; FIN after `seconds`",
        defaults=SILENCE,
        apply=hang,
    ),
    FaultType(
        name="slow_head",
        about="the response after `seconds`",
        processes_request=True,
        defaults={"seconds": 0.3},
        apply=_slow_head,
    ),
    FaultType(
        name="headers_then_hang",
        about="the head of the response, then silence",
        processes_request=True,
        defaults=SILENCE,
        apply=_headers_then_hang,
    ),
    FaultType(
        name="half_body_hang",
        about="half of the body, then silence",
        processes_request=True,
        defaults=SILENCE,
        apply=_half_body_hang,
    ),
    FaultType(
        name="drip_body",
        about="the body byte by byte, one each `interval` seconds",
        processes_request=True,
        defaults={"interval": 0.1},
        apply=_drip_body,
    ),
)
