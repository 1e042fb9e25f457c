"""Traces and metrics with OpenTelemetry: a hook. Needs the extra `otel`, which is the API alone and no SDK.

    client = hpp.HPPClient.from_env(hooks=[OpenTelemetryHook()])

Each call has a CLIENT span, child of the span that is current in the caller, with an event for each failed attempt; and there
are three metrics. Names and values are those of the semantic conventions for HTTP if these have one, else our own.

| metric | kind, unit | |
|---|---|---|
| `kustom_hpp.call.duration` | histogram, s | a whole call, all its attempts and waits |
| `kustom_hpp.calls` | counter, {call} | finished calls |
| `kustom_hpp.retries` | counter, {retry} | failed attempts with another attempt after them |

Spans contain URLs without their query, no header and no body. The client sends no `traceparent`, because the API documents no
such header. If you instrument aiohttp too, its spans are next to these, with whatever it adds to the requests.

Source: opentelemetry.io, semantic conventions for HTTP spans (a span for the top-most operation) and HTTP metrics.
"""

from typing import Any

from attrs import define

from kustom_hpp._version import __version__
from kustom_hpp.errors import ApiError, HPPError, LostResponseError
from kustom_hpp.events import Event, Finished, Retrying, Started

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError(
        "kustom_hpp.integrations.opentelemetry needs opentelemetry-api: pip install 'kustom_hpp[otel]'", name=error.name
    ) from None

SCHEMA_URL = "https://opentelemetry.io/schemas/1.38.0"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
"""Bounds of the duration's buckets, in seconds: the conventions' advice, and two more for calls with retries."""

Attributes = dict[str, str | int | float | bool]


@define
class _ActiveCall:
    """A call in progress."""

    span: trace.Span
    base_attributes: Attributes
    """The attributes that all calls of an operation share: for metrics."""
    reported_attempts: int = 0
    """Failed attempts that have an event in the span."""


class OpenTelemetryHook:
    """A hook that reports every call to OpenTelemetry. One hook serves any number of clients, threads and event loops.

    Args:
        tracer_provider: receives spans; None uses the global one, even if it is set later.
        meter_provider: receives metrics; None uses the global one, even if it is set later.

    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("kustom_hpp", __version__, tracer_provider, SCHEMA_URL)
        meter = metrics.get_meter("kustom_hpp", __version__, meter_provider, SCHEMA_URL)
        self._duration = meter.create_histogram(
            "kustom_hpp.call.duration",
            unit="s",
            description="Duration of calls, all attempts and waits included.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._calls = meter.create_counter("kustom_hpp.calls", unit="{call}", description="Finished calls.")
        self._retries = meter.create_counter(
            "kustom_hpp.retries", unit="{retry}", description="Failed attempts with another attempt after them."
        )
        self._active: dict[str, _ActiveCall] = {}

    def __call__(self, event: Event) -> None:
        """Report an event."""
        if isinstance(event, Started):
            self._started(event)
        elif isinstance(event, Retrying):
            self._retrying(event, self._active[event.call_id])
        else:
            self._finished(event, self._active.pop(event.call_id))

    def _started(self, event: Started) -> None:
        # The hook runs in the caller's task, so the caller's span is the current one. Ours need not become current: nothing
        # in the library reads it.
        span = self._tracer.start_span(
            f"{event.method} {event.path}",
            kind=trace.SpanKind.CLIENT,
            attributes={
                "http.request.method": event.method,
                "server.address": event.host,
                "server.port": event.port,
                "url.full": event.url,
                "url.template": event.path,
                "kustom_hpp.operation": event.operation,
            },
        )
        base_attributes: Attributes = {
            "kustom_hpp.operation": event.operation,
            "server.address": event.host,
            "server.port": event.port,
        }
        self._active[event.call_id] = _ActiveCall(span, base_attributes)

    def _retrying(self, event: Retrying, call: _ActiveCall) -> None:
        error = event.error
        facts = _facts(error) | ({} if error.delivery is None else {"kustom_hpp.delivery": str(error.delivery)})
        self._retries.add(1, call.base_attributes | facts)
        _add_attempt_event(call, event.attempt, error, {"kustom_hpp.wait": event.wait})

    def _finished(self, event: Finished, call: _ActiveCall) -> None:
        facts: Attributes = {}
        if event.delivery is not None:
            facts["kustom_hpp.delivery"] = str(event.delivery)
        if event.status is not None:
            facts["http.response.status_code"] = event.status
        if event.cancelled:
            # By the caller: not an error by the conventions. The delivery says whether the API may have processed it.
            facts["kustom_hpp.cancelled"] = True
        elif not event.succeeded:
            facts["error.type"] = "_OTHER" if event.error is None else _error_type(event.error)
        span, context = call.span, None
        if span.is_recording():
            context = trace.set_span_in_context(span)  # for exemplars
            _finish_span(call, event, facts)
        measured = call.base_attributes | facts
        self._duration.record(event.elapsed, measured, context=context)
        self._calls.add(1, measured, context=context)
        span.end()


def _finish_span(call: _ActiveCall, event: Finished, facts: Attributes) -> None:
    span, error = call.span, event.error
    if error is not None and event.attempts > call.reported_attempts:
        # After an attempt with an unknown outcome the call's error is a summary: `last_error` is that of the attempt.
        last = error.last_error if isinstance(error, LostResponseError) else None
        _add_attempt_event(call, event.attempts, last or error, {})
    span.set_attributes(facts)
    if event.attempts > 1:
        span.set_attribute("http.request.resend_count", event.attempts - 1)
    if event.correlation_id is not None:
        span.set_attribute("kustom_hpp.correlation_id", event.correlation_id)
    if "error.type" in facts:
        # The text has what no attribute has: the API's messages, or the phase of the failure.
        span.set_status(trace.StatusCode.ERROR, None if error is None else str(error))


def _add_attempt_event(call: _ActiveCall, number: int, error: HPPError, more: Attributes) -> None:
    """Add an event for a failed attempt."""
    call.reported_attempts = number
    if call.span.is_recording():
        facts: dict[str, Any] = {"kustom_hpp.attempt": number, **_facts(error), **more}
        if error.correlation_id is not None:
            facts["kustom_hpp.correlation_id"] = error.correlation_id
        call.span.add_event("kustom_hpp.attempt_failed", facts)


def _facts(error: HPPError) -> Attributes:
    """Return the attributes of an error: its type, and its status if it has one."""
    facts: Attributes = {"error.type": _error_type(error)}
    if status := getattr(error, "status", None):
        facts["http.response.status_code"] = status
    return facts


def _error_type(error: HPPError) -> str:
    """Return the status of an error response, else the error's class."""
    return str(error.status) if isinstance(error, ApiError) else f"kustom_hpp.{type(error).__name__}"
