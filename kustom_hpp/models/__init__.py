"""Requests and answers as the API reference spells them: frozen values, no I/O, no codec.

Source: docs.kustom.co, "Create an HPP session" (API version 1.1) for every field and enum, unless a line says otherwise.

A request tells what is wrong with it (`problems()`: all of it at once, each with its JSON path) and what is odd but may be
meant (`warnings()`). Neither ever shows a value. An answer is tolerant.
"""

from kustom_hpp.models.answers import DistributionModule, Session, SessionStatus
from kustom_hpp.models.requests import (
    MAX_BODY,
    BackgroundImage,
    CreateSessionRequest,
    MerchantUrls,
    Options,
    PaymentMethodCategory,
    PlaceOrderMode,
    PurchaseType,
    ShowSubtotalDetail,
    secrets_of,
)

__all__ = [
    "MAX_BODY",
    "BackgroundImage",
    "CreateSessionRequest",
    "DistributionModule",
    "MerchantUrls",
    "Options",
    "PaymentMethodCategory",
    "PlaceOrderMode",
    "PurchaseType",
    "Session",
    "SessionStatus",
    "ShowSubtotalDetail",
    "secrets_of",
]
