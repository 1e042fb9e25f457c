"""The public contract as a shop would use it: read by type checkers, never run.

Each line marked `# E: <code>` must be an error, for mypy with this code (or any code, where it says `any`) and for
pyright; no other line may be one. `check.py` beside this file judges.
"""

import ssl
from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_type

import aiohttp
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request

import kustom_hpp as hpp
from kustom_hpp import callbacks
from kustom_hpp.integrations import aiohttp_web, starlette
from kustom_hpp.integrations.opentelemetry import OpenTelemetryHook


async def first_example() -> str:
    async with hpp.HPPClient.from_env() as client:
        assert_type(client, hpp.HPPClient)
        session = await client.create_session(
            hpp.CreateSessionRequest(
                payment_session_url=client.order_url("92d97f60"),
                merchant_urls=hpp.MerchantUrls(success="https://shop.example/thanks?hpp={{session_id}}"),
            )
        )
        return session.payment_page


async def second_example(client: hpp.HPPClient, request: hpp.CreateSessionRequest) -> hpp.Session | None:
    try:
        return await client.create_session(request, deadline=10)
    except hpp.OutcomeUnknownError as error:
        assert_type(error.delivery, hpp.Delivery | None)
    except hpp.HPPError as error:
        print(f"{error} (correlation id {error.correlation_id})")
    return None


def settings(context: ssl.SSLContext, session: aiohttp.ClientSession, transport: hpp.Transport) -> list[hpp.HPPClient]:
    return [
        hpp.HPPClient("kco_test_x"),
        hpp.HPPClient(username="K1", password="x", environment=hpp.Environment.LIVE),
        hpp.HPPClient("x", environment="playground", app_info="MyShop/1", headers={"Kustom-Partner": "PG1"}),
        hpp.HPPClient("x", base_url="http://localhost:1", insecure_http=True, ssl=context, proxy="http://p.example"),
        hpp.HPPClient("x", timeouts=hpp.Timeouts(connect=1, read=35.5), pool=hpp.Pool(connections=10, keepalive=4)),
        hpp.HPPClient("x", retry=hpp.RetrySettings(max_attempts=1, budget=5, on_unknown="resend"), pace=hpp.Pace(40)),
        hpp.HPPClient("x", http_session=session, trust_env=False, hooks=[hpp.log_events]),
        hpp.HPPClient("x", transport=transport),
        hpp.HPPClient("x", transport=hpp.FakeTransport(hpp.FakeTransport.response(201, {"session_id": "s"}))),
        hpp.HPPClient("x", transport=hpp.HTTPSessionManager(pool=hpp.Pool())),
    ]


def full_request(images: Sequence[hpp.BackgroundImage]) -> hpp.CreateSessionRequest:
    return hpp.CreateSessionRequest(
        payment_session_url="https://api.kustom.co/checkout/v3/orders/1",
        profile_id="p",
        merchant_urls=hpp.MerchantUrls(
            success="", cancel=None, status_update="https://shop.example/x", extra={"new": 1}
        ),
        options=hpp.Options(
            background_images=images,
            logo_url="https://shop.example/logo",
            page_title="Pay",
            payment_method_categories=[hpp.PaymentMethodCategory.KLARNA, hpp.PaymentMethodCategory.PAY_NOW],
            payment_method_category=hpp.PaymentMethodCategory.PAY_LATER,
            place_order_mode=hpp.PlaceOrderMode.NONE,
            purchase_type=hpp.PurchaseType.BUY,
            show_subtotal_detail=hpp.ShowSubtotalDetail.HIDE,
        ),
        extra={"newer": [1, None, "x"]},
    )


def lists_and_tuples() -> None:
    image = hpp.BackgroundImage(url="https://shop.example/", width=480)
    hpp.Options(background_images=[image])
    hpp.Options(background_images=(image,), payment_method_categories=(hpp.PaymentMethodCategory.KLARNA,))


def answers(request: hpp.CreateSessionRequest, session: hpp.Session) -> None:
    assert_type(request.problems(), tuple[tuple[str, str], ...])
    assert_type(request.warnings(), tuple[tuple[str, str], ...])
    assert_type(session.session_id, str)
    assert_type(session.redirect_url, str | None)
    assert_type(session.payment_page, str)
    session.payment_page.upper()  # never None: nobody has to ask
    assert_type(session.qr_code_url, str | None)
    assert_type(session.expires_at, datetime | None)
    assert_type(session.distribution_module, hpp.DistributionModule | None)
    assert_type(session.extra, dict[str, Any])
    assert_type(session.info.attempts, int)
    assert_type(session.info.elapsed, float)
    assert_type(session.info.rate_limit, hpp.RateLimit | None)
    assert_type(session.info.earlier_unknown, bool)


async def sessions(client: hpp.HPPClient, session: hpp.Session, details: hpp.SessionDetails) -> None:
    assert_type(await client.read_session(session), hpp.SessionDetails)
    assert_type(await client.read_session("92d97f60", deadline=10), hpp.SessionDetails)
    assert_type(await client.wait_for_session(details, deadline=600, poll=2), hpp.SessionDetails)
    seen: list[hpp.SessionDetails] = []
    await client.wait_for_session(session, deadline=600, on_read=seen.append)
    await client.disable_session(details, deadline=5.5)
    for request in distributions():
        await client.distribute_session(session, request, on_unknown="resend")
        assert_type(request.problems(), tuple[tuple[str, str], ...])
    assert_type(details.session_id, str)
    assert_type(details.status, hpp.SessionStatus | str | None)
    assert_type(details.is_final, bool)
    if details.status in {hpp.SessionStatus.COMPLETED, "TIMEOUT"}:
        assert_type(details.order_id, str | None)
    assert_type(details.updated_at, datetime | None)
    assert_type(details.info.attempts, int)
    if details.customer is not None:
        assert_type(details.customer.family_name, str | None)
    if details.manual_identification is not None:
        assert_type(details.manual_identification.customer_obfuscated, hpp.Customer | None)
    assert_type(hpp.SessionStatus.BACK.is_final, bool)
    assert_type(hpp.with_secret("https://shop.example/", "0123456789abcdef", name="t"), str)


def distributions() -> list[hpp.Distribution]:
    return [
        hpp.EmailDistribution("alva@shop.example", template=hpp.DistributionTemplate.INSTORE_PURCHASE),
        hpp.SmsDistribution(phone="0701234567", phone_country="SE", extra={"new": 1}),
        hpp.TokenDistribution("123456"),
    ]


def errors(error: hpp.HPPError) -> float | None:
    assert_type(error.attempts, int)
    assert_type(error.cause, str | None)
    if isinstance(error, hpp.InvalidRequestError):
        assert_type(error.problems, tuple[tuple[str, str], ...])
    elif isinstance(error, hpp.RateLimitError):
        assert_type(error.messages, tuple[str, ...])
        return error.retry_after
    elif isinstance(error, hpp.DecodeError):
        assert_type(error.session_id, str | None)
        assert_type(error.body, bytes)
    elif isinstance(error, hpp.LostResponseError):
        assert_type(error.last_error, hpp.HPPError | None)
    elif isinstance(error, hpp.ConnectError):
        assert_type(error.timed_out, bool)
    elif isinstance(error, (hpp.NotFoundError, hpp.DeadlineExceededError)):
        assert_type(error.details, Any)
    return None


def both_branches(error: hpp.ServerError) -> hpp.OutcomeUnknownError:
    assert_type(error.status, int)
    return error


def hook(event: hpp.Started | hpp.Retrying | hpp.Finished) -> None:
    assert_type(event.call_id, str)
    if isinstance(event, hpp.Finished):
        assert_type(event.succeeded, bool)
        assert_type(event.delivery, hpp.Delivery | None)
        assert_type(event.error, hpp.HPPError | None)
    elif isinstance(event, hpp.Retrying):
        assert_type(event.wait, float)
    else:
        assert_type(event.host, str)
        assert_type(event.port, int)


def updates(body: bytes) -> hpp.SessionDetails | None:
    update = callbacks.parse(body)
    assert_type(update, callbacks.StatusUpdate)
    assert_type(update.event_id, str | None)
    assert_type(callbacks.check_secret(None, "x"), bool)
    return update.session


async def on_update(request: web.Request, update: callbacks.StatusUpdate) -> None:
    assert_type(aiohttp_web.client_from(request), hpp.HPPClient)
    aiohttp_web.run_in_background(request, on_update(request, update))


async def secret_of(request: web.Request) -> str | None:
    return request.match_info["order"]


def app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(aiohttp_web.client_context(hpp.HPPClient.from_env, grace=1.0))
    app.router.add_post("/status/{order}", aiohttp_web.status_endpoint(on_update, secret=secret_of))
    app.router.add_post("/status", aiohttp_web.status_endpoint(on_update, secret="fixed", parameter="s", max_size=10))
    return app


async def on_starlette_update(request: Request, update: callbacks.StatusUpdate) -> None:
    assert_type(starlette.client_from(request), hpp.HPPClient)


def starlette_app() -> Starlette:
    app = Starlette(lifespan=starlette.client_context())
    app.add_route(
        "/status", starlette.status_endpoint(on_starlette_update, secret=lambda request: None), methods=["POST"]
    )
    hpp.HPPClient("x", hooks=[OpenTelemetryHook()])
    return app


class Recorder:
    """A transport of one's own."""

    async def send(self, request: hpp.HttpRequest, marker: hpp.SendMarker) -> hpp.HttpResponse:
        marker.sent = True
        return hpp.HttpResponse(status=201, headers={}, body=request.body or b"")

    async def aclose(self) -> None:
        pass


async def views(client: hpp.HPPClient) -> None:
    view = client.with_options(
        timeouts=hpp.Timeouts(), retry=hpp.RetrySettings(), on_unknown="raise", hooks=[hook], headers={"X-A": "1"}
    )
    assert_type(view, hpp.HPPClient)
    hpp.HPPClient("x", transport=Recorder(), hooks=[hook, hpp.log_events])
    connector: aiohttp.TCPConnector = hpp.guarded_connector(hpp.Pool(), limit=5)
    await connector.close()
    await view.aclose()


# ------------------------------------------------------------------------------------------- what must not be possible


class HalfTransport:
    async def send(self, request: hpp.HttpRequest, marker: hpp.SendMarker) -> hpp.HttpResponse:
        raise NotImplementedError


async def wrong(client: hpp.HPPClient, request: hpp.CreateSessionRequest, session: hpp.Session) -> None:
    hpp.Options(purchase_type=hpp.PlaceOrderMode.NONE)  # E: arg-type
    hpp.Options(purchase_type="BUY")  # E: arg-type
    hpp.Options(payment_method_categories=[hpp.PurchaseType.BUY])  # E: any
    hpp.Options(background_images=["https://shop.example/"])  # E: any
    hpp.Options(colour="red")  # E: call-arg
    hpp.BackgroundImage(width=480)  # E: call-arg
    hpp.BackgroundImage(url="https://shop.example/", width="480")  # E: arg-type
    hpp.MerchantUrls("https://shop.example/")  # E: any
    hpp.MerchantUrls(success=5)  # E: arg-type
    hpp.MerchantUrls(sucess="https://shop.example/")  # E: call-arg
    hpp.CreateSessionRequest()  # E: call-arg
    hpp.CreateSessionRequest(payment_session_url=None)  # E: arg-type
    hpp.CreateSessionRequest(payment_session_url="x", merchant_urls={"success": "x"})  # E: arg-type
    request.profile_id = "other"  # E: misc
    session.redirect_url = "other"  # E: misc
    session.payment_page = "other"  # E: misc
    session.info.attempts = 2  # E: misc
    print(session.status)  # E: attr-defined
    print(session.qr_code_url.upper())  # E: union-attr
    print(client.create_session(request).session_id)  # E: attr-defined
    await client.create_session({"payment_session_url": "x"})  # E: arg-type
    await client.create_session(request, deadline="10")  # E: arg-type
    await client.create_session(request, 10)  # E: call-arg
    await client.create_session(request, on_unknown="retry")  # E: arg-type
    await client.create_session(request, timeout=10)  # E: call-arg
    client.order_url(5)  # E: arg-type
    client.with_options(pool=hpp.Pool())  # E: call-arg
    client.with_options(on_unknown=True)  # E: arg-type
    hpp.HPPClient(api_key=5)  # E: arg-type
    hpp.HPPClient("x", "y")  # E: any
    hpp.HPPClient("x", ssl=False)  # E: arg-type
    hpp.HPPClient("x", timeouts=5)  # E: arg-type
    hpp.HPPClient("x", transport=HalfTransport())  # E: arg-type
    hpp.HPPClient("x", hooks=[lambda first, second: None])  # E: any
    hpp.RetrySettings(on_unknown="never")  # E: arg-type
    hpp.Timeouts(5)  # E: any
    hpp.Timeouts(read="35")  # E: arg-type
    hpp.Pool(connections=1.5)  # E: arg-type
    print(hpp.Environment.PRODUCTION)  # E: attr-defined
    print(hpp.PurchaseType.PAY)  # E: attr-defined
    print(hpp.NoSuchName)  # E: attr-defined


async def wrong_of_a_session(client: hpp.HPPClient, request: hpp.CreateSessionRequest, session: hpp.Session) -> None:
    await client.read_session(5)  # E: arg-type
    await client.read_session(request)  # E: arg-type
    await client.wait_for_session(session)  # E: call-arg
    await client.wait_for_session(session, 10)  # E: any
    await client.wait_for_session(session, deadline=None)  # E: arg-type
    await client.disable_session()  # E: call-arg
    await client.distribute_session(session)  # E: call-arg
    await client.distribute_session(session, "alva@shop.example")  # E: arg-type
    await client.distribute_session(session, {"method": "email"})  # E: arg-type
    hpp.EmailDistribution()  # E: call-arg
    hpp.SmsDistribution(phone="0701234567")  # E: call-arg
    hpp.EmailDistribution(email=None)  # E: arg-type
    hpp.with_secret("https://shop.example/", b"0123456789abcdef")  # E: arg-type
