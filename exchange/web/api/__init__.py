"""The HTTP API: one room for each journey, nothing but reading requests and writing replies."""

from __future__ import annotations

from exchange.web.api.access import access
from exchange.web.api.alerts import alerts
from exchange.web.api.audit import audit
from exchange.web.api.books import books
from exchange.web.api.clients import clients
from exchange.web.api.datasets import datasets
from exchange.web.api.licences import licences
from exchange.web.api.log import log
from exchange.web.api.officer import officer
from exchange.web.api.payments import payments
from exchange.web.api.prices import prices
from exchange.web.api.queries import queries
from exchange.web.api.status import status
from exchange.web.api.uploads import uploads

blueprints = (
    licences,
    datasets,
    uploads,
    access,
    clients,
    prices,
    queries,
    payments,
    books,
    audit,
    alerts,
    officer,
    log,
    status,
)
