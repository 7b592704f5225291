"""Money in and out: top-ups, refunds, disputes, payouts, reconciliation.

Stripe is the till, the ledger the truth. Nothing here talks to Stripe: events come in as bytes, calls go out
as rows of the outbox, and what Stripe lists comes in as values. Time, ids and the session are the caller's.
"""

from __future__ import annotations

from settlement.payments import (
    bank_credits,
    disputes,
    events,
    facts,
    laws,
    outbox,
    payouts,
    reconciliation,
    refunds,
    top_ups,
)
from settlement.payments.postings import fingerprint
from settlement.payments.reconciliation import Movement

__all__ = [
    "Movement",
    "bank_credits",
    "disputes",
    "events",
    "facts",
    "fingerprint",
    "laws",
    "outbox",
    "payouts",
    "reconciliation",
    "refunds",
    "top_ups",
]
