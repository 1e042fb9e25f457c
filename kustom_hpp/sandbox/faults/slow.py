"""Faults of time: silence, and responses that arrive slowly."""

from kustom_hpp.sandbox.faults.base import Args, ConnectionAction, FaultType, processing_fault
from kustom_hpp.sandbox.faults.connections import send_half_body, send_head
from kustom_hpp.sandbox.http.request_context import RequestContext

SILENCE = {"seconds": 10.0}


async def hang(context: RequestContext, args: Args) -> ConnectionAction:
    """Send nothing, and close after `seconds`."""
    await context.connection.pause(args["seconds"])
    return ConnectionAction.CLOSE


async def drip(context: RequestContext, data: bytes, interval: float) -> None:
    """Send byte by byte."""
    for at in range(len(data)):
        await context.send(data[at : at + 1])
        await context.connection.pause(interval)


async def _headers_then_hang(context: RequestContext, args: Args) -> ConnectionAction:
    await send_head(context)
    return await hang(context, args)


async def _half_body_hang(context: RequestContext, args: Args) -> ConnectionAction:
    await send_half_body(context)
    return await hang(context, args)


async def _drip_body(context: RequestContext, args: Args) -> ConnectionAction:
    await drip(context, await send_head(context), args["interval"])
    return ConnectionAction.KEEP


async def _slow_head(context: RequestContext, args: Args) -> ConnectionAction:
    await context.connection.pause(args["seconds"])
    await context.send(context.healthy_response())
    return ConnectionAction.KEEP


SLOW_FAULTS = (
    processing_fault("hang", "processes the request, then silence; FIN after `seconds`", hang, defaults=SILENCE),
    FaultType("hang_uncommitted", "silence without processing; FIN after `seconds`", hang, defaults=SILENCE),
    processing_fault("slow_head", "the response after `seconds`", _slow_head, defaults={"seconds": 0.3}),
    processing_fault(
        "headers_then_hang", "the head of the response, then silence", _headers_then_hang, defaults=SILENCE
    ),
    processing_fault("half_body_hang", "half of the body, then silence", _half_body_hang, defaults=SILENCE),
    processing_fault(
        "drip_body", "the body byte by byte, one each `interval` seconds", _drip_body, defaults={"interval": 0.1}
    ),
)
