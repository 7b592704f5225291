"""Quotes: a price and a privacy cost, bound to one plan for fifteen minutes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from settlement.documents import canonical
from settlement.errors import AmountInvalid, QuoteExpired, QuoteMissing
from settlement.money import AMOUNT_LIMIT, Money
from settlement.orders.grants import find_grant
from settlement.orders.tables import quote
from settlement.schema import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

QUOTE_VALID = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Quote:
    """A promise to answer one plan under one grant for a price in minor units, nano-rho and pico-delta.

    ``plan_digest`` is the SHA-256 of the compiled plan; ``document`` is what was shown, as canonical JSON.
    """

    id: str
    grant_id: str
    org: str
    actor: str
    plan_digest: str
    price_minor: int
    currency: str
    rho_nano: int
    delta_pico: int
    document: str
    quoted_at: str
    expires_at: str


def save_quote(
    session: Session,
    *,
    id: str,  # noqa: A002
    grant_id: str,
    org: str,
    actor: str,
    plan_digest: str,
    price: Money,
    rho_nano: int,
    delta_pico: int,
    document: Mapping[str, Any],
    now: datetime,
) -> Quote:
    """Keep a quote for fifteen minutes. GrantMissing for another organisation's grant, AmountInvalid for
    costs below zero or too large, ValueError for a document that canonical JSON cannot hold.
    """
    if find_grant(session, grant_id, org=org).org != org:
        raise QuoteMissing("Quotes are given to the buyer who holds the grant.")
    if not 0 <= rho_nano < AMOUNT_LIMIT or not 0 <= delta_pico < AMOUNT_LIMIT:
        raise AmountInvalid("A privacy cost is an integer from 0 to 2^62.")
    saved = Quote(
        id=id,
        grant_id=grant_id,
        org=org,
        actor=actor,
        plan_digest=plan_digest,
        price_minor=price.amount_minor,
        currency=price.currency,
        rho_nano=rho_nano,
        delta_pico=delta_pico,
        document=canonical(document),
        quoted_at=timestamp(now),
        expires_at=timestamp(now + QUOTE_VALID),
    )
    session.execute(quote.insert().values({name: getattr(saved, name) for name in Quote.__slots__}))
    return saved


def find_quote(session: Session, quote_id: str, *, org: str) -> Quote:
    """A quote, whether it stands or has ended. QuoteMissing for an unknown id or another organisation's."""
    row = session.execute(select(quote).where(quote.c.id == quote_id, quote.c.org == org)).one_or_none()
    if row is None:
        raise QuoteMissing("There is no such quote.")
    return Quote(**row._asdict())


def get_quote(session: Session, quote_id: str, *, org: str, now: datetime) -> Quote:
    """A quote that still stands. QuoteMissing as in :func:`find_quote`, QuoteExpired after its fifteen
    minutes.
    """
    found = find_quote(session, quote_id, org=org)
    if found.expires_at <= timestamp(now):
        raise QuoteExpired(f"Quote {quote_id} ended at {found.expires_at}.")
    return found
