"""The SDK: ``from exchange import Exchange``. Needs httpx; uses Arrow, pandas, polars, cryptography if
present.

::

    with Exchange("http://127.0.0.1:8000", token="...") as x:
        flights = x.dataset("nyc/flights")
        answer = flights.query("select count(*) as n from flights", epsilon=0.5, max_price="2.00")
"""

from __future__ import annotations

from exchange.client.access import AccessRequest, Grant, StillOpen
from exchange.client.answers import Answer, AnswerColumn
from exchange.client.audit import Audit, Entry, Proof
from exchange.client.books import Invoice, Ledger, Statement
from exchange.client.configuration import Keys
from exchange.client.connection import Retry
from exchange.client.errors import (
    AnswerExpired,
    AuthError,
    BudgetExceeded,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
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
    QuoteExpired,
    RateLimited,
    ServerError,
    TerritoryNotAllowed,
    UploadRejected,
    VerificationFailed,
)
from exchange.client.exchange import Exchange, Identity
from exchange.client.jobs import Job, JobProgress, StillRunning
from exchange.client.licences import (
    Acceptance,
    AcceptanceReceipt,
    Licence,
    LicenceChange,
    LicenceDiff,
    Licences,
    Template,
)
from exchange.client.listings import Budget, Column, Dataset, Listing, Listings, Table
from exchange.client.money import Balance, Usage, Wallet
from exchange.client.notifications import Notification, Notifications
from exchange.client.payments import StillUnpaid, TopUp, Treasury
from exchange.client.price import Price
from exchange.client.pricing import PlanOffer, SimulatedPlan, SimulatedQuestion, Simulation
from exchange.client.profile import Profile
from exchange.client.publishing import Publication
from exchange.client.questions import Quote, QuoteColumn, Refinement
from exchange.client.receipts import Receipt

__all__ = [
    "Acceptance",
    "AcceptanceReceipt",
    "AccessRequest",
    "Answer",
    "AnswerColumn",
    "AnswerExpired",
    "Audit",
    "AuthError",
    "Balance",
    "Budget",
    "BudgetExceeded",
    "Column",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "Dataset",
    "Entry",
    "Exchange",
    "ExchangeError",
    "Grant",
    "GrantMissing",
    "Identity",
    "InProgress",
    "InvalidRequest",
    "Invoice",
    "Job",
    "JobProgress",
    "KeyReused",
    "Keys",
    "Ledger",
    "Licence",
    "LicenceChange",
    "LicenceDiff",
    "LicenceError",
    "LicenceExpired",
    "LicenceNotAccepted",
    "Licences",
    "LimitExceeded",
    "Listing",
    "Listings",
    "MissingDependency",
    "NotFound",
    "Notification",
    "Notifications",
    "PaymentRequired",
    "PermissionDenied",
    "PlanOffer",
    "Price",
    "Profile",
    "Proof",
    "Publication",
    "PurposeNotAllowed",
    "QueryCancelled",
    "QueryFailed",
    "QueryRefused",
    "QuotaExceeded",
    "Quote",
    "QuoteColumn",
    "QuoteExpired",
    "RateLimited",
    "Receipt",
    "Refinement",
    "Retry",
    "ServerError",
    "SimulatedPlan",
    "SimulatedQuestion",
    "Simulation",
    "Statement",
    "StillOpen",
    "StillRunning",
    "StillUnpaid",
    "Table",
    "Template",
    "TerritoryNotAllowed",
    "TopUp",
    "Treasury",
    "UploadRejected",
    "Usage",
    "VerificationFailed",
    "Wallet",
]
