"""What a fault is: `FaultType`, and `Fault`, a type with its parameters."""

import functools
import re
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from kustom_hpp.sandbox.http import raw_response
from kustom_hpp.sandbox.http.connection import Connection
from kustom_hpp.sandbox.http.raw_response import RawResponse
from kustom_hpp.sandbox.http.request_context import RequestContext

Args = Mapping[str, Any]
"""The parameters of a fault by name: int, float or str."""
_MAX_NUMBER = 1_000_000_000
_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class Stage(StrEnum):
    """When a fault triggers."""

    CONNECTION = "connection"
    """When a connection is accepted. `skip` and `times` of its rule count connections."""
    HEAD = "head"
    """When the head of a request has arrived; its body is not read."""
    REQUEST = "request"
    """When a whole request has arrived and, if the fault processes it, was processed."""


class ConnectionAction(StrEnum):
    """What happens to the connection after a fault."""

    KEEP = "keep"
    """It stays open for the next request, if the request allows it."""
    CLOSE = "close"
    """The sandbox closes it, unless the fault did."""


Apply = Callable[[RequestContext, Args], Awaitable[ConnectionAction]]
ApplyToConnection = Callable[[Connection, Args], None]


def _of_another_stage(*_: Any) -> Any:
    raise NotImplementedError


@frozen(eq=False)
class FaultType:
    """A kind of fault. `Sandbox.fault` takes `Fault(your_type)` too."""

    name: str
    about: str
    """One line: what happens."""
    apply: Apply = field(default=_of_another_stage, repr=False)
    """Acts on a request, at the stages HEAD and REQUEST."""
    apply_to_connection: ApplyToConnection = field(default=_of_another_stage, repr=False)
    """Acts on a connection, at the stage CONNECTION."""
    stage: Stage = Stage.REQUEST
    processes_request: bool = False
    """True if the sandbox processes the request first, so that a session exists."""
    defaults: Mapping[str, Any] = field(factory=dict)
    """The parameters with their defaults. A value must have the type of the default."""


processing_fault = functools.partial(FaultType, processes_request=True)
"""A type of fault that acts after the sandbox has processed the request."""
connection_fault = functools.partial(FaultType, stage=Stage.CONNECTION)
"""A type of fault that acts when a connection is accepted."""


@frozen(repr=False)
class Fault:
    """A type of fault with its parameters: `Fault.of(type, seconds=2)`."""

    type: FaultType
    parameters: tuple[tuple[str, Any], ...] = ()
    """The parameters that differ from the defaults."""

    @classmethod
    def of(cls, fault_type: FaultType, **parameters: Any) -> "Fault":
        """Return a fault of this type.

        Raises:
            ValueError: the type has no such parameter, or a value has another type. A number is at most a billion.

        """
        return cls(
            fault_type, tuple(sorted((key, _checked(fault_type, key, value)) for key, value in parameters.items()))
        )

    @property
    def name(self) -> str:
        """The name of its type."""
        return self.type.name

    @property
    def stage(self) -> Stage:
        """When it triggers."""
        return self.type.stage

    @property
    def args(self) -> dict[str, Any]:
        """All its parameters."""
        return {**self.type.defaults, **dict(self.parameters)}

    @property
    def processes_request(self) -> bool:
        """True if a session exists after it."""
        return bool(self.args.get("commit", self.type.processes_request))

    def __str__(self) -> str:
        parameters = ",".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.parameters
        )
        return f"{self.name}~{parameters}" if parameters else self.name

    def __repr__(self) -> str:
        return f"Fault({str(self)!r})"


def convert(name: str, value: Any, wanted: type) -> Any:
    """Return a value as a type, or raise a ValueError with its name."""
    try:
        return wanted(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be of type {wanted.__name__}, got {value!r}") from None


def _checked(fault_type: FaultType, key: str, value: Any) -> Any:
    if key not in fault_type.defaults:
        known = ", ".join(fault_type.defaults) or "none"
        raise ValueError(f"{fault_type.name} has no parameter {key!r}. It has: {known}")
    wanted = type(fault_type.defaults[key])
    typed = convert(f"{fault_type.name}: {key}", value, wanted)
    # Clocks and calendars cannot work with nan, or with times beyond some decades.
    if wanted is float and not -_MAX_NUMBER <= typed <= _MAX_NUMBER:
        raise ValueError(f"{fault_type.name}: {key} must be a number of at most {_MAX_NUMBER:,}, got {value!r}")
    return typed


def raw_fault(
    name: str,
    about: str,
    build: Callable[[RawResponse], bytes],
    then: ConnectionAction = ConnectionAction.CLOSE,
) -> FaultType:
    """Return a fault that processes the request and sends other bytes."""

    async def apply(context: RequestContext, args: Args) -> ConnectionAction:  # noqa: ARG001
        data = build(context.response_with_body())
        if (line := _STATUS_LINE.match(data)) is not None:
            context.recorded.status = int(line[1])
        await context.send(data)
        return then

    return FaultType(name, about, apply, processes_request=True)


def response_fault(
    name: str, about: str, build: Callable[[RequestContext, Args], RawResponse], **settings: Any
) -> FaultType:
    """Return a fault that sends a well-formed response."""

    async def apply(context: RequestContext, args: Args) -> ConnectionAction:
        await context.send(build(context, args))
        return ConnectionAction.KEEP

    return FaultType(name, about, apply, **settings)


def status_fault(status: int) -> FaultType:
    """Return a fault that responds with an error status.

    A gateway's 408 or 5xx may come after the API did the work; its status does not say.
    """
    return response_fault(
        f"status_{status}",
        f"{status} in the API's error shape; `commit=1`: after processing",
        lambda context, args: context.error(status),  # noqa: ARG005
        defaults={"commit": 0},
    )


def error_body_fault(
    name: str, about: str, build: Callable[[RequestContext], bytes], content_type: str = "application/json"
) -> FaultType:
    """Return a fault that responds with an error status and this body."""

    def respond(context: RequestContext, args: Args) -> RawResponse:
        response = context.error(args["status"]).with_headers(("Content-Type", content_type))
        return response.with_body(build(context))

    return response_fault(name, f"an error whose body is {about}", respond, defaults={"status": 400, "commit": 0})


def wait_fault(name: str, about: str, value: Callable[[float], str], *, status: int = 429) -> FaultType:
    """Return a fault that responds with a Retry-After header."""

    def respond(context: RequestContext, args: Args) -> RawResponse:
        return context.error(args["status"]).with_headers(("Retry-After", value(args["seconds"])))

    defaults = {"status": status, "seconds": 1.0, "commit": 0}
    return response_fault(name, f"{status} with Retry-After: {about}", respond, defaults=defaults)


def redirect_fault(status: int, *, processes_request: bool = False) -> FaultType:
    """Return a fault that redirects to the sink, which is another origin."""

    async def apply(context: RequestContext, args: Args) -> ConnectionAction:  # noqa: ARG001
        url = await context.sink() + context.recorded.path
        await context.send(context.error(status).with_headers(("Location", url)))
        return ConnectionAction.KEEP

    about = f"{status} to the same path of the sink, another origin"
    defaults = {"commit": int(processes_request)}
    return FaultType(f"redirect_{status}", about, apply, processes_request=processes_request, defaults=defaults)


def body_fault(
    name: str,
    about: str,
    build: Callable[[dict[str, Any]], bytes],
    content_type: str = "application/json",
) -> FaultType:
    """Return a fault that sends another body, made of the session's JSON."""

    def respond(context: RequestContext, args: Args) -> RawResponse:  # noqa: ARG001
        response = context.response_with_body().with_headers(("Content-Type", content_type))
        return response.with_body(build(context.session_json))

    return response_fault(name, about, respond, processes_request=True)


def fields_fault(name: str, about: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> FaultType:
    """Return a fault that changes the fields of the session in the response."""
    return body_fault(name, about, lambda session: raw_response.dumps(change(session)))
