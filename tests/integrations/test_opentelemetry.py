"""The OpenTelemetry hook: exactly these spans and metrics, as the SDK's in-memory exporter and reader have them."""

import asyncio
import secrets
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import kustom_hpp as hpp
from kustom_hpp.integrations.opentelemetry import BUCKETS, OpenTelemetryHook
from kustom_hpp.sandbox import Sandbox
from tests.support.faults import find_fault
from tests.support.golden import MINIMAL_ANSWER, MINIMAL_DETAILS, MINIMAL_REQUEST, ORDER_URL, SESSION_ID
from tests.support.shape import run_python
from tests.test_client import ANSWER, KEY, QUICK, Hanging, lost, not_sent, throttled
from tests.test_shape import PACKAGE

ID = {"X-Correlation-Id": "c-1"}
PLACE = {
    "kustom_hpp.operation": "create_session",
    "server.address": "api.playground.kustom.co",
    "server.port": 443,
}
START = PLACE | {
    "http.request.method": "POST",
    "url.full": "https://api.playground.kustom.co/hpp/v1/sessions",
    "url.template": "/hpp/v1/sessions",
}
OK, UNSET, ERROR = trace.StatusCode.OK, trace.StatusCode.UNSET, trace.StatusCode.ERROR


class Telemetry:
    """A hook with an SDK of its own behind it."""

    def __init__(self, **tracer: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(**tracer)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])
        self.hook = OpenTelemetryHook(tracer_provider=self.tracers, meter_provider=self.meters)

    def client(self, *steps: Any, **arguments: Any) -> hpp.HPPClient:
        transport = arguments.pop("transport", None) or hpp.FakeTransport(*(steps or [ANSWER]))
        return hpp.HPPClient(KEY, transport=transport, **({"retry": QUICK, "hooks": [self.hook]} | arguments))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    @property
    def told(self) -> dict[str, Any]:
        """The one span, as plain values."""
        (span,) = self.spans
        return {
            "name": span.name,
            "kind": span.kind,
            "attributes": dict(span.attributes or {}),
            "events": [(event.name, dict(event.attributes or {})) for event in span.events],
            "status": (span.status.status_code, span.status.description),
        }

    @property
    def metrics(self) -> dict[str, list[tuple[dict[str, Any], int]]]:
        """By name: the attributes of each series, and how often something was measured."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[tuple[dict[str, Any], int]]] = {}
        for resource in data.resource_metrics if data else []:
            for scope in resource.scope_metrics:
                assert (scope.scope.name, scope.scope.version) == ("kustom_hpp", hpp.__version__)
                for metric in scope.metrics:
                    found[metric.name] = [
                        (dict(point.attributes or {}), _count(point)) for point in metric.data.data_points
                    ]
        return found


def _count(point: Any) -> int:
    if not isinstance(point, HistogramDataPoint):
        return point.value
    assert tuple(point.explicit_bounds) == BUCKETS
    assert 0 <= point.sum < 5 * point.count
    return point.count


@pytest.fixture
def telemetry():
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


def span(facts: dict[str, Any], events: Any = (), status: Any = (UNSET, None)) -> dict[str, Any]:
    return {
        "name": "POST /hpp/v1/sessions",
        "kind": trace.SpanKind.CLIENT,
        "attributes": START | facts,
        "events": [("kustom_hpp.attempt_failed", facts) for facts in events],
        "status": status,
    }


def measured(facts: dict[str, Any], retries: Any = ()) -> dict[str, Any]:
    ended = [(PLACE | facts, 1)]
    found = {"kustom_hpp.call.duration": ended, "kustom_hpp.calls": ended}
    return found | ({"kustom_hpp.retries": [(PLACE | facts, 1) for facts in retries]} if retries else {})


async def test_a_call_that_succeeds(telemetry):
    await telemetry.client(hpp.FakeTransport.response(201, MINIMAL_ANSWER, ID)).create_session(MINIMAL_REQUEST)
    facts = {"http.response.status_code": 201, "kustom_hpp.delivery": "accepted"}
    assert telemetry.told == span(facts | {"kustom_hpp.correlation_id": "c-1"})
    assert telemetry.metrics == measured(facts)
    (scope,) = {span.instrumentation_scope for span in telemetry.spans}
    assert (scope.name, scope.version, scope.schema_url) == (
        "kustom_hpp", hpp.__version__, "https://opentelemetry.io/schemas/1.38.0",
    )  # fmt: skip


async def test_a_call_that_is_tried_again(telemetry):
    client = telemetry.client(
        not_sent(), hpp.FakeTransport.response(429, {"error_code": "TOO_MANY", "correlation_id": "c-0"}), ANSWER
    )
    await client.create_session(MINIMAL_REQUEST)
    facts = {"http.response.status_code": 201, "kustom_hpp.delivery": "accepted"}
    refused = {"error.type": "kustom_hpp.ConnectError"}
    slow = {"error.type": "429", "http.response.status_code": 429}
    assert telemetry.told == span(
        facts | {"http.request.resend_count": 2},
        [
            {"kustom_hpp.attempt": 1, "kustom_hpp.wait": 0.0} | refused,
            {"kustom_hpp.attempt": 2, "kustom_hpp.wait": 0.0, "kustom_hpp.correlation_id": "c-0"} | slow,
        ],
    )
    assert telemetry.metrics == measured(
        facts, [refused | {"kustom_hpp.delivery": "not_sent"}, slow | {"kustom_hpp.delivery": "rejected"}]
    )


@pytest.mark.parametrize(
    ("step", "delivery", "error_type", "status"),
    [
        (hpp.CertificateError("expired"), "not_sent", "kustom_hpp.CertificateError", None),
        (hpp.FakeTransport.response(400), "rejected", "400", 400),
        (hpp.FakeTransport.response(401), "rejected", "401", 401),
        (hpp.FakeTransport.response(404), "rejected", "404", 404),
        (hpp.FakeTransport.response(409), "rejected", "409", 409),
        (hpp.FakeTransport.response(500), "unknown", "500", 500),
        (hpp.FakeTransport.response(302), "unknown", "302", 302),
        (lost(), "unknown", "kustom_hpp.LostResponseError", None),
        (hpp.FakeTransport.response(201, b"{}"), "accepted", "kustom_hpp.DecodeError", 201),
    ],
    ids=repr,
)
async def test_each_delivery_of_a_failure(telemetry, step, delivery, error_type, status):
    with pytest.raises(hpp.HPPError) as caught:
        await telemetry.client(step).create_session(MINIMAL_REQUEST)
    attempt = {"error.type": error_type} | ({"http.response.status_code": status} if status else {})
    facts = attempt | {"kustom_hpp.delivery": delivery}
    assert telemetry.told == span(facts, [{"kustom_hpp.attempt": 1} | attempt], (ERROR, str(caught.value)))
    assert telemetry.metrics == measured(facts)
    assert caught.value.delivery == delivery


async def test_a_call_of_unknown_outcome_whose_last_attempt_was_refused(telemetry):
    client = telemetry.client(lost(), hpp.FakeTransport.response(400, {"correlation_id": "c-2"}))
    with pytest.raises(hpp.LostResponseError) as caught:
        await client.create_session(MINIMAL_REQUEST, on_unknown="resend")
    first = {"error.type": "kustom_hpp.LostResponseError"}
    last = {"error.type": "400", "http.response.status_code": 400}
    facts = first | {"kustom_hpp.delivery": "unknown", "http.response.status_code": 400}
    assert telemetry.told == span(
        facts | {"http.request.resend_count": 1, "kustom_hpp.correlation_id": "c-2"},
        [
            {"kustom_hpp.attempt": 1, "kustom_hpp.wait": 0.0} | first,
            {"kustom_hpp.attempt": 2, "kustom_hpp.correlation_id": "c-2"} | last,
        ],
        (ERROR, str(caught.value)),
    )
    assert telemetry.metrics == measured(facts, [first | {"kustom_hpp.delivery": "unknown"}])


async def test_a_call_that_comes_to_no_attempt(telemetry):
    with pytest.raises(hpp.DeadlineExceededError) as caught:
        await telemetry.client().create_session(MINIMAL_REQUEST, deadline=0)
    facts = {"error.type": "kustom_hpp.DeadlineExceededError", "kustom_hpp.delivery": "not_sent"}
    assert telemetry.told == span(facts, [], (ERROR, str(caught.value)))
    assert telemetry.metrics == measured(facts)


async def test_a_call_of_a_closed_client(telemetry):
    client = telemetry.client()
    await client.aclose()
    with pytest.raises(hpp.ClientClosedError) as caught:
        await client.create_session(MINIMAL_REQUEST)
    facts = {"error.type": "kustom_hpp.ClientClosedError"}
    assert telemetry.told == span(facts, [], (ERROR, str(caught.value)))
    assert telemetry.metrics == measured(facts)


async def test_a_deadline_that_passes_in_the_wait_for_another_turn_is_no_attempt(telemetry):
    class Late(hpp.Pace):
        async def acquire(self, deadline=None):  # the first attempt need not wait, as there is no rate yet
            raise hpp.DeadlineExceededError("the rate limit is too low")

    with pytest.raises(hpp.RateLimitError) as caught:
        await telemetry.client(throttled(), pace=Late()).create_session(MINIMAL_REQUEST)
    slow = {"error.type": "429", "http.response.status_code": 429}
    facts = slow | {"kustom_hpp.delivery": "rejected"}
    assert telemetry.told == span(
        facts, [{"kustom_hpp.attempt": 1, "kustom_hpp.wait": 0.0} | slow], (ERROR, str(caught.value))
    )
    assert telemetry.metrics == measured(facts, [facts])


@pytest.mark.parametrize(("sends", "delivery"), [(True, "unknown"), (False, "not_sent")], ids=["sent", "unsent"])
async def test_a_call_that_is_cancelled(telemetry, sends, delivery):
    transport = Hanging(sends=sends)
    task = asyncio.create_task(telemetry.client(transport=transport).create_session(MINIMAL_REQUEST))
    await transport.waiting.wait()
    assert telemetry.spans == ()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    facts = {"kustom_hpp.cancelled": True, "kustom_hpp.delivery": delivery}
    assert telemetry.told == span(facts)
    assert telemetry.metrics == measured(facts)


async def test_a_call_that_ends_with_a_foreign_exception(telemetry):
    class Broken(Hanging):
        async def send(self, request, marker):
            marker.sent = True
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await telemetry.client(transport=Broken(sends=True)).create_session(MINIMAL_REQUEST)
    facts = {"error.type": "_OTHER", "kustom_hpp.delivery": "unknown"}
    assert telemetry.told == span(facts, [], (ERROR, None))
    assert telemetry.metrics == measured(facts)


READ = "/hpp/v1/sessions/{session_id}"


@pytest.mark.parametrize(
    ("name", "arguments", "method", "path", "answer"),
    [
        ("read_session", (), "GET", READ, hpp.FakeTransport.response(200, MINIMAL_DETAILS)),
        ("disable_session", (), "DELETE", READ, hpp.FakeTransport.response(204)),
        (
            "distribute_session", (hpp.EmailDistribution(email="alva@shop.example"),), "POST", f"{READ}/distribution",
            hpp.FakeTransport.response(204),
        ),
    ],
)  # fmt: skip
async def test_every_operation_by_its_template(telemetry, *, name, arguments, method, path, answer):
    """The id is in the URL alone, which metrics do not have."""
    await getattr(telemetry.client(answer), name)(SESSION_ID, *arguments)
    facts = {"http.response.status_code": answer.status, "kustom_hpp.delivery": "accepted"}
    place = PLACE | {"kustom_hpp.operation": name}
    told = telemetry.told
    assert told["name"] == f"{method} {path}"
    assert told["attributes"] == facts | place | {
        "http.request.method": method,
        "url.full": f"https://api.playground.kustom.co{path.replace('{session_id}', SESSION_ID)}",
        "url.template": path,
    }
    assert told["status"] == (UNSET, None)
    assert telemetry.metrics == {
        "kustom_hpp.call.duration": [(place | facts, 1)],
        "kustom_hpp.calls": [(place | facts, 1)],
    }


# ------------------------------------------------------------------------------------------------- where a span belongs


async def test_without_a_current_span_a_call_is_a_root(telemetry):
    await telemetry.client().create_session(MINIMAL_REQUEST)
    (root,) = telemetry.spans
    assert root.parent is None


async def test_a_call_is_the_child_of_the_callers_span_and_not_current_itself(telemetry):
    current = []

    class Looking(hpp.FakeTransport):
        async def send(self, request, marker):
            current.append(trace.get_current_span())
            return await super().send(request, marker)

    tracer = telemetry.tracers.get_tracer("shop")
    with tracer.start_as_current_span("checkout") as checkout:
        await telemetry.client(transport=Looking(ANSWER)).create_session(MINIMAL_REQUEST)
        assert trace.get_current_span() is checkout
    call, parent = telemetry.spans
    assert (call.parent, call.context.trace_id) == (parent.context, parent.context.trace_id)
    assert current == [checkout]


@pytest.mark.parametrize(("calls", "failing"), [(100, 0.12), pytest.param(500, 0.04, marks=pytest.mark.slow)])
async def test_each_of_many_concurrent_calls_is_the_child_of_its_own_callers_span(telemetry, calls, failing):
    """One hook and one client for all; the sandbox answers on a real socket, in whatever order.

    So few requests fail that the retry quota lasts, and so many that one does in practically every run.
    """
    tracer = telemetry.tracers.get_tracer("shop")
    async with Sandbox() as sandbox:
        sandbox.fault("status_503", probability=failing, seed=5)
        retry = hpp.RetrySettings(max_attempts=9, initial=0.001, maximum=0.01, on_unknown="resend")
        async with hpp.HPPClient(
            sandbox.api_key, base_url=sandbox.base_url, retry=retry, hooks=[telemetry.hook]
        ) as client:

            async def checkout(number):
                with tracer.start_as_current_span("checkout", attributes={"number": number}):
                    session = await client.create_session(
                        hpp.CreateSessionRequest(payment_session_url=client.order_url(f"order-{number}"))
                    )
                return number, session.info.attempts

            ended = dict(await asyncio.gather(*(checkout(number) for number in range(calls))))
        assert sandbox.record.counts.created == calls
        assert sandbox.record.counts.posts == sum(ended.values()) > calls
    parents = {span.context.span_id: span for span in telemetry.spans if span.name == "checkout"}
    spans = [span for span in telemetry.spans if span.name == "POST /hpp/v1/sessions"]
    assert len(parents) == len(spans) == calls
    resent = {
        parents[call.parent.span_id].attributes["number"]: call.attributes.get("http.request.resend_count", 0)
        for call in spans
    }
    assert resent == {number: attempts - 1 for number, attempts in ended.items()}
    assert all(len(call.events) == call.attributes.get("http.request.resend_count", 0) for call in spans)
    assert telemetry.hook._active == {}


# ------------------------------------------------------------------------------------------- what is told and what is not


async def test_nothing_is_added_to_the_request(telemetry):
    async with Sandbox() as sandbox:
        client = hpp.HPPClient(sandbox.api_key, base_url=sandbox.base_url, hooks=[telemetry.hook])
        with telemetry.tracers.get_tracer("shop").start_as_current_span("checkout"):
            async with client:
                await client.create_session(MINIMAL_REQUEST)
                await client.with_options(hooks=[]).create_session(MINIMAL_REQUEST)
        (with_hook, without) = sandbox.record.posts
        assert with_hook.headers == without.headers
        assert [name for name, _ in with_hook.headers] == [
            b"Host", b"Authorization", b"User-Agent", b"Accept", b"Accept-Encoding", b"Content-Type", b"Content-Length",
        ]  # fmt: skip
    (call, _) = telemetry.spans
    assert call.attributes["url.full"] == f"{sandbox.base_url}/hpp/v1/sessions"


@pytest.mark.parametrize("fault", ["echo_auth", "status_401", "status_503", "garbage", "hang"])
async def test_no_secret_is_told(telemetry, fault):
    planted = [secrets.token_hex(16) for _ in range(4)]
    key, header, status_update, extra = planted
    request = hpp.CreateSessionRequest(
        payment_session_url="https://orders.example/checkout/v3/orders/1",
        merchant_urls=hpp.MerchantUrls(status_update=f"https://shop.example/status?secret={status_update}"),
        extra={"newer_than_this_release": extra},
    )
    async with Sandbox(api_key=f"kco_test_{key}") as sandbox:
        sandbox.fault(find_fault(fault))
        async with hpp.HPPClient(
            sandbox.api_key,
            base_url=sandbox.base_url,
            headers={"X-Shop-Token": header},
            timeouts=hpp.Timeouts(read=0.3),
            retry=hpp.RetrySettings(max_attempts=2, initial=0, maximum=0),
            hooks=[telemetry.hook],
        ) as client:
            with pytest.raises(hpp.HPPError):
                await client.create_session(request, on_unknown="resend")
        assert all(secret.encode() in sandbox.record.connections[0].received for secret in planted)
    (call,) = telemetry.spans
    told = call.to_json() + repr(telemetry.metrics)
    assert call.status.status_code is ERROR
    assert [secret for secret in planted if secret in told] == []


async def test_what_the_server_echoes_is_not_told(telemetry):
    secret = secrets.token_hex(16)
    client = telemetry.client(
        lambda got: hpp.FakeTransport.response(
            400, {"error_code": secret, "error_messages": [KEY, got.body.decode()], "correlation_id": secret}
        )
    )
    urls = hpp.MerchantUrls(status_update=f"https://shop.example/status?secret={secret}")
    with pytest.raises(hpp.BadRequestError):
        await client.create_session(hpp.CreateSessionRequest(payment_session_url=ORDER_URL, merchant_urls=urls))
    (call,) = telemetry.spans
    told = call.to_json() + repr(telemetry.metrics)
    assert "***" in told
    assert secret not in told
    assert KEY not in told


# --------------------------------------------------------------------------------------------------------- without an SDK


async def test_an_unsampled_call_is_measured_and_not_described():
    telemetry = Telemetry(sampler=ALWAYS_OFF)
    await telemetry.client(throttled(), ANSWER).create_session(MINIMAL_REQUEST)
    assert telemetry.spans == ()
    slow = {"error.type": "429", "http.response.status_code": 429, "kustom_hpp.delivery": "rejected"}
    assert telemetry.metrics == measured({"http.response.status_code": 201, "kustom_hpp.delivery": "accepted"}, [slow])


def test_without_an_sdk_it_does_nothing_and_a_later_one_is_found():
    """The global provider may be set once in a process, so this one has a process of its own."""
    done = run_python(
        """
import asyncio, json
import kustom_hpp as hpp
from kustom_hpp.integrations.opentelemetry import OpenTelemetryHook
from opentelemetry import trace, metrics

hook = OpenTelemetryHook()
answer = hpp.FakeTransport.response(201, {"session_id": "s", "redirect_url": "https://pay.example/1"})
client = hpp.HPPClient("kco_test_x", transport=hpp.FakeTransport(answer), hooks=[hook])
request = hpp.CreateSessionRequest(payment_session_url="https://orders.example/checkout/v3/orders/1")
asyncio.run(client.create_session(request))
import sys
assert not any(name.startswith("opentelemetry.sdk") for name in sys.modules), "the hook loads an SDK"

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
asyncio.run(client.create_session(request))
names = [metric.name for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for metric in s.metrics]
print(json.dumps([[span.name for span in exporter.get_finished_spans()], names]))
""",
        PACKAGE.parent,
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == (
        '[["POST /hpp/v1/sessions"], ["kustom_hpp.call.duration", "kustom_hpp.calls"]]', "", 0,
    )  # fmt: skip


def test_without_the_library_the_error_names_the_extra():
    done = run_python(
        "import sys; sys.modules['opentelemetry'] = None; import kustom_hpp.integrations.opentelemetry", PACKAGE.parent
    )
    assert done.stderr.splitlines()[-1] == (
        "ImportError: kustom_hpp.integrations.opentelemetry needs opentelemetry-api: pip install 'kustom_hpp[otel]'"
    )
