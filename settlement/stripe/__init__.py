"""The one door to Stripe: calls with an explicit key, address, version and time-outs; webhooks verified."""

from __future__ import annotations

from settlement.stripe.till import Checkout, Sent, Till
from settlement.stripe.webhooks import API_VERSION, TOLERANCE, verified

__all__ = ["API_VERSION", "TOLERANCE", "Checkout", "Sent", "Till", "verified"]
