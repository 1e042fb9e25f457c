"""The async-first client for Kustom's Hosted Payment Page (HPP).

    import kustom_hpp as hpp

    async with hpp.HPPClient.from_env() as client:
        session = await client.create_session(hpp.CreateSessionRequest(
            payment_session_url=client.order_url("92d97f60-7a78-46a5-8f68-c56fe52dc4af"),
            merchant_urls=hpp.MerchantUrls(success="https://shop.example/thanks?hpp={{session_id}}")))
        print(session.payment_page)

An error always says whether the session may exist: `except hpp.OutcomeUnknownError` means it may, never repeat the call;
`except hpp.HPPError` after it means it does not.
"""

from kustom_hpp._version import __version__
from kustom_hpp.client import HPPClient
from kustom_hpp.config import Environment, Pool, RetrySettings, Timeouts
from kustom_hpp.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BatchStopped,
    CallbackError,
    CertificateError,
    ClientClosedError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    DecodeError,
    HPPError,
    InvalidRequestError,
    JournalError,
    LostAnswerError,
    MixUpError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UnexpectedStatusError,
    WrongLoopError,
)
from kustom_hpp.events import Finished, Retrying, Started, log_events
from kustom_hpp.models import (
    BackgroundImage,
    CreateSessionRequest,
    Customer,
    Distribution,
    DistributionModule,
    DistributionTemplate,
    EmailDistribution,
    ManualIdentification,
    MerchantUrls,
    Options,
    PaymentMethodCategory,
    PlaceOrderMode,
    PurchaseType,
    Session,
    SessionDetails,
    SessionStatus,
    ShowSubtotalDetail,
    SmsDistribution,
    TokenDistribution,
    with_secret,
)
from kustom_hpp.pace import Pace
from kustom_hpp.transport import FakeTransport, HTTPSessionManager, Transport, guarded_connector
from kustom_hpp.wire import CallInfo, Delivery, HttpRequest, HttpResponse, Mark, RateLimit

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BackgroundImage",
    "BadRequestError",
    "BatchStopped",
    "CallInfo",
    "CallbackError",
    "CertificateError",
    "ClientClosedError",
    "ConfigError",
    "ConnectError",
    "CreateSessionRequest",
    "Customer",
    "DeadlineExceededError",
    "DecodeError",
    "Delivery",
    "Distribution",
    "DistributionModule",
    "DistributionTemplate",
    "EmailDistribution",
    "Environment",
    "FakeTransport",
    "Finished",
    "HPPClient",
    "HPPError",
    "HTTPSessionManager",
    "HttpRequest",
    "HttpResponse",
    "InvalidRequestError",
    "JournalError",
    "LostAnswerError",
    "ManualIdentification",
    "Mark",
    "MerchantUrls",
    "MixUpError",
    "NotFoundError",
    "Options",
    "OutcomeUnknownError",
    "Pace",
    "PaymentMethodCategory",
    "PermissionDeniedError",
    "PlaceOrderMode",
    "Pool",
    "PurchaseType",
    "RateLimit",
    "RateLimitError",
    "RetrySettings",
    "Retrying",
    "ServerError",
    "Session",
    "SessionDetails",
    "SessionStatus",
    "ShowSubtotalDetail",
    "SmsDistribution",
    "Started",
    "Timeouts",
    "TokenDistribution",
    "Transport",
    "UnexpectedStatusError",
    "WrongLoopError",
    "__version__",
    "guarded_connector",
    "log_events",
    "with_secret",
]
