"""Price plans that cannot be gamed: each compiles to one function g from nano-rho to minor units.

``g(x) = min(cap, fee + ceil(tiers(x)))`` with a marginal rate per rho that never rises, and ``g(0) = 0``
because a query of public tables costs nothing. Such a g is integer, non-decreasing and subadditive, so no
splitting, averaging or recombining of cheaper answers beats buying directly: zCDP composes additively, and
Gaussian noise of variance v costs rho in proportion to 1/v (the f^2/v family of C. Li, D. Y. Li, G. Miklau,
D. Suciu, "A Theory of Pricing Private Data", 2014). Beside g a plan may take something up front or in each
period. A plan outside the form is refused, and so is a listing whose plans beat one another, with two
purchases that do it where there are any.
"""

from __future__ import annotations

from settlement.prices.charging import Charge, Standing, charge
from settlement.prices.counterexamples import Counterexample, Purchase, find_arbitrage
from settlement.prices.curves import NANO, Curve, Tier
from settlement.prices.menus import check_menu
from settlement.prices.periods import month_of, period_at, period_starts
from settlement.prices.plans import KINDS, PricePlan

__all__ = [
    "KINDS",
    "NANO",
    "Charge",
    "Counterexample",
    "Curve",
    "PricePlan",
    "Purchase",
    "Standing",
    "Tier",
    "charge",
    "check_menu",
    "find_arbitrage",
    "month_of",
    "period_at",
    "period_starts",
]
