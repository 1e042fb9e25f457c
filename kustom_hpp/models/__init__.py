"""Requests and responses as the API reference spells them: frozen values, no I/O, no codec.

Source: docs.kustom.co, "Create", "Read" and "Distribute an HPP session" (API version 1.1) for every field and enum, unless
a line says otherwise.

A request lists its validation errors (`problems()`: all of them, each with its JSON path) and what is legal but suspicious
(`warnings()`). Neither ever shows a value. A response is tolerant.
"""

from kustom_hpp.models.distributions import (
    Distribution,
    DistributionTemplate,
    EmailDistribution,
    SmsDistribution,
    TokenDistribution,
    distribution_from_json,
    distribution_to_json,
    secrets_in_distribution,
)
from kustom_hpp.models.fields import MAX_BODY
from kustom_hpp.models.requests import (
    BackgroundImage,
    CreateSessionRequest,
    MerchantUrls,
    Options,
    PaymentMethodCategory,
    PlaceOrderMode,
    PurchaseType,
    ShowSubtotalDetail,
    private_http_problems,
    secrets_in_request,
)
from kustom_hpp.models.responses import (
    Customer,
    DistributionModule,
    ManualIdentification,
    Session,
    SessionDetails,
    SessionStatus,
)
from kustom_hpp.models.urls import AUTHORIZATION_TOKEN, ORDER_ID, SESSION_ID, with_secret

__all__ = [
    "AUTHORIZATION_TOKEN",
    "MAX_BODY",
    "ORDER_ID",
    "SESSION_ID",
    "BackgroundImage",
    "CreateSessionRequest",
    "Customer",
    "Distribution",
    "DistributionModule",
    "DistributionTemplate",
    "EmailDistribution",
    "ManualIdentification",
    "MerchantUrls",
    "Options",
    "PaymentMethodCategory",
    "PlaceOrderMode",
    "PurchaseType",
    "Session",
    "SessionDetails",
    "SessionStatus",
    "ShowSubtotalDetail",
    "SmsDistribution",
    "TokenDistribution",
    "distribution_from_json",
    "distribution_to_json",
    "private_http_problems",
    "secrets_in_distribution",
    "secrets_in_request",
    "with_secret",
]
