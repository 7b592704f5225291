"""Who may look behind the doors of operation: a monitoring system with its own token, or an operator."""

from __future__ import annotations

import hmac

from flask import request
from sqlalchemy.exc import SQLAlchemyError

from exchange.errors import MarketError
from exchange.identity import Role, authenticate
from exchange.web.auth import market


def monitors() -> bool:
    """Whether the request comes with the token of EXCHANGE_METRICS_TOKEN, or with an operator's.

    The first needs no database: it is what a monitoring system reads with while the database is away. Whoever
    comes with less is not refused but told less, so that nothing is logged.
    """
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    given = text.strip() if scheme.lower() == "bearer" else ""
    if not given:
        return False
    token = market().settings.metrics_token
    if token and hmac.compare_digest(given.encode(), token.encode()):
        return True
    store = market().store
    try:
        return store.read(lambda session: authenticate(session, given, store.clock())).role == Role.OPERATOR
    except (MarketError, SQLAlchemyError):
        return False
