"""What a listing can be found by beside its words: territories, a price, an accuracy.

All of it follows from licence, price plans and policy, which the listing tells everybody; no data is read.
Private offers are made to one organisation and count for nobody.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import privacy
from catalog import listings
from settlement import licences
from settlement.prices import NANO, PricePlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from settlement.licences import LicenceTerms

NAMES = ("subject", "unit", "territory", "price", "accuracy")
"""In the order in which they are shown. The first two are the catalogue's own."""
QUESTION_RHO_NANO = NANO // 100
"""Prices are compared by what the first answer costs at this rho, or at the most that may be asked."""
PRICES_MINOR = (0, 100, 1_000, 10_000)
"""A listing is found under each of these amounts that its price is not above, in its own currency."""
ERRORS = (1, 2, 5, 10, 25, 100)
"""And under each of these errors that its best count is not above."""
_95 = 1.959963984540054


def of_version(session: Session, view: ListingView) -> dict[str, list[str]]:
    """The values of a version by facet, for :func:`catalog.listings.publish`."""
    terms = licences.find_licence(session, view.licence_id).terms
    plans = for_everybody(view.plans)
    return {
        "territory": list(terms.territories),
        "price": prices(plans),
        "accuracy": _accuracies(privacy.Policy.from_document(view.policy), terms, plans),
    }


def fill(session: Session) -> int:
    """Enter every listing that takes new buyers into the catalogue's index, and say how many."""
    views = (listings.version_of(session, version) for version in listings.offered(session))
    found = 0
    for view in views:
        if view.state == listings.PUBLISHED:
            listings.enter(session, view.dataset_id, of_version(session, view))
            found += 1
    return found


def for_everybody(documents: Iterable[Mapping[str, Any]]) -> list[PricePlan]:
    """The plans that are made to nobody in particular."""
    return [plan for plan in map(PricePlan.from_document, documents) if not plan.organisation]


def prices(plans: Iterable[PricePlan]) -> list[str]:
    """Values of the facet: each of :data:`PRICES_MINOR` that a first answer costs no more than."""
    return [
        f"{currency}:{most}"
        for currency, price in sorted(_cheapest(plans).items())
        for most in PRICES_MINOR
        if price <= most
    ]


def first_answer_minor(plan: PricePlan) -> int:
    """What one has paid, in minor units, once the first answer at :data:`QUESTION_RHO_NANO` is there."""
    rho = min(QUESTION_RHO_NANO, plan.allowance_rho_nano or QUESTION_RHO_NANO)
    if plan.buys_out:
        return plan.up_front_minor
    if plan.period is not None:
        return plan.up_front_minor + plan.price(max(0, rho - plan.included_nano))
    price = plan.price(rho)
    if plan.up_front_minor:  # credit is bought in whole bundles, and answers spend it
        return max(1, -(-price // plan.up_front_minor)) * plan.up_front_minor
    return price if plan.monthly_cap_minor is None else min(price, plan.monthly_cap_minor)


def cheapest(documents: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """By currency the least that a first answer costs under one of these plans, in minor units."""
    return _cheapest(map(PricePlan.from_document, documents))


def best_count_error(policy: privacy.Policy, most_rho_nano: int | None = None) -> float:
    """How far a count of privacy units may be off, in 95 of 100 answers, when a question spends all it may.

    A unit changes such a count by one, so that its noise has the variance 1 / (2 rho) (M. Bun, T. Steinke,
    "Concentrated Differential Privacy", 2016, proposition 6): the figure follows from the policy alone.
    """
    rho = policy.max_rho_per_query_nano
    rho = rho if most_rho_nano is None else min(rho, most_rho_nano)
    return _95 * math.sqrt(NANO / (2 * rho))


def _cheapest(plans: Iterable[PricePlan]) -> dict[str, int]:
    found: dict[str, int] = {}
    for plan in plans:
        price = first_answer_minor(plan)
        found[plan.currency] = min(price, found.get(plan.currency, price))
    return found


def _accuracies(policy: privacy.Policy, terms: LicenceTerms, plans: list[PricePlan]) -> list[str]:
    if not any(table.private for table in policy.tables.values()):
        return []
    allowances = [plan.allowance_rho_nano for plan in plans]
    largest = max(allowances) if allowances and all(allowances) else None
    limits = [one for one in (terms.max_rho_per_query_nano, terms.max_rho_total_nano, largest) if one]
    error = best_count_error(policy, min(limits, default=None))
    return [str(most) for most in ERRORS if error <= most]
