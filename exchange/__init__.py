"""The data exchange: listings, private answers, honest books, provable logs.

``from exchange import Exchange`` is the SDK and needs ``httpx`` alone; everything that a server needs is
imported by the server's own modules only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.version import __version__

if TYPE_CHECKING:
    from exchange.client import (
        Answer,
        AnswerExpired,
        AuthError,
        BudgetExceeded,
        ConfigurationError,
        Conflict,
        ConnectionFailed,
        Dataset,
        Exchange,
        ExchangeError,
        GrantMissing,
        InProgress,
        InvalidRequest,
        KeyReused,
        LicenceError,
        LicenceExpired,
        LicenceNotAccepted,
        LimitExceeded,
        MissingDependency,
        NotFound,
        PaymentRequired,
        PermissionDenied,
        PurposeNotAllowed,
        QueryCancelled,
        QueryFailed,
        QueryRefused,
        QuotaExceeded,
        Quote,
        QuoteExpired,
        RateLimited,
        Receipt,
        ServerError,
        TerritoryNotAllowed,
        UploadRejected,
        VerificationFailed,
    )

__all__ = [
    "Answer",
    "AnswerExpired",
    "AuthError",
    "BudgetExceeded",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "Dataset",
    "Exchange",
    "ExchangeError",
    "GrantMissing",
    "InProgress",
    "InvalidRequest",
    "KeyReused",
    "LicenceError",
    "LicenceExpired",
    "LicenceNotAccepted",
    "LimitExceeded",
    "MissingDependency",
    "NotFound",
    "PaymentRequired",
    "PermissionDenied",
    "PurposeNotAllowed",
    "QueryCancelled",
    "QueryFailed",
    "QueryRefused",
    "QuotaExceeded",
    "Quote",
    "QuoteExpired",
    "RateLimited",
    "Receipt",
    "ServerError",
    "TerritoryNotAllowed",
    "UploadRejected",
    "VerificationFailed",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import the SDK on first use, so that server processes do not pay for it (PEP 562)."""
    if name in __all__:
        from exchange import client

        return getattr(client, name)
    raise AttributeError(f"module 'exchange' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "client"]
