"""Faults of the connection: refused, reset or closed."""

from kustom_hpp.sandbox.faults.base import Args, ConnectionAction, FaultType, Stage, connection_fault, processing_fault
from kustom_hpp.sandbox.http.request_context import RequestContext, discard_body


async def close(context: RequestContext, args: Args) -> ConnectionAction:  # noqa: ARG001
    """Close the connection."""
    context.connection.close()
    return ConnectionAction.CLOSE


async def reset(context: RequestContext, args: Args) -> ConnectionAction:  # noqa: ARG001
    """Reset the connection."""
    context.connection.reset()
    return ConnectionAction.CLOSE


async def send_head(context: RequestContext) -> bytes:
    """Send the head of the response and return the body."""
    whole = context.response_with_body()
    context.recorded.status = whole.status
    await context.send(whole.encode()[: -len(whole.body)])
    return whole.body


async def send_half_body(context: RequestContext) -> None:
    """Send the head and half of the body."""
    body = await send_head(context)
    await context.send(body[: len(body) // 2])


async def _half_body_close(context: RequestContext, args: Args) -> ConnectionAction:
    await send_half_body(context)
    return await close(context, args)


async def _half_body_reset(context: RequestContext, args: Args) -> ConnectionAction:
    await send_half_body(context)
    return await reset(context, args)


async def _keepalive_close(context: RequestContext, args: Args) -> ConnectionAction:
    await context.send(context.healthy_response())
    context.connection.call_later(args["after"], context.connection.close)
    return ConnectionAction.KEEP


async def _early_413(context: RequestContext, args: Args) -> ConnectionAction:  # noqa: ARG001
    await context.send(context.error(413).with_headers(("Connection", "close")))
    # Closing with unread bytes would send RST, which may destroy the response on its way.
    await discard_body(context.request)
    return ConnectionAction.CLOSE


CONNECTION_FAULTS = (
    connection_fault("accept_rst", "RST after accept", apply_to_connection=lambda connection, _: connection.reset()),
    connection_fault("accept_close", "FIN after accept", apply_to_connection=lambda connection, _: connection.close()),
    FaultType("close_on_head", "FIN after the request's head", close, stage=Stage.HEAD),
    FaultType("reset_on_head", "RST after the request's head", reset, stage=Stage.HEAD),
    FaultType(
        "keepalive_race_rst",
        "RST after a request's head, as if the idle connection had just been closed; use it with skip=1",
        reset,
        stage=Stage.HEAD,
    ),
    FaultType("early_413", "413 before the body is read", _early_413, stage=Stage.HEAD),
    FaultType("close_before_processing", "reads the request, does not process it, FIN", close),
    processing_fault("close_after_request", "processes the request, FIN", close),
    processing_fault("reset_after_request", "processes the request, RST", reset),
    processing_fault("half_body_close", "half of the body, then FIN", _half_body_close),
    processing_fault("half_body_reset", "half of the body, then RST", _half_body_reset),
    processing_fault(
        "keepalive_close",
        "the response, and FIN on the idle connection after `after` seconds",
        _keepalive_close,
        defaults={"after": 0.05},
    ),
)
