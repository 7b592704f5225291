"""A small stateful Stripe on this machine: as strict as the SDK's own types, signing like Stripe, with
faults.
"""

from __future__ import annotations

from tests.stripe_double.server import StripeDouble, running
from tests.stripe_double.world import Delivery, World

__all__ = ["Delivery", "StripeDouble", "World", "running"]
