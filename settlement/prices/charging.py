"""What one query costs under a plan, given what is left of what was paid for before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from settlement.prices.plans import PricePlan


@dataclass(frozen=True, slots=True)
class Standing:
    """What a grant's plan has left at a moment.

    ``included_left_nano`` is rho of the period's allowance that is neither used nor held, and
    ``room_left_minor`` what may still be charged before the month's cap (None: no cap). Open queries hold
    ``included_held_nano`` and ``room_held_minor``: what comes of them is not known yet.
    """

    included_left_nano: int = 0
    included_held_nano: int = 0
    room_left_minor: int | None = None
    room_held_minor: int = 0


@dataclass(frozen=True, slots=True)
class Charge:
    """The charge of one query: ``amount_minor`` is paid for it.

    ``covered_nano`` of its rho was paid for before, in an allowance or a buy-out. ``worth_minor`` is g of the
    rest, before the month's cap; a later refinement is credited with it. ``waits`` says that open queries
    hold what would make this one cheaper, so that its price is known only when they end.
    """

    covered_nano: int
    worth_minor: int
    amount_minor: int
    waits: bool = False


def charge(
    plan: PricePlan, standing: Standing, rho_nano: int, *, before_nano: int = 0, paid_minor: int = 0
) -> Charge:
    """What ``rho_nano`` more costs on a question of which ``before_nano`` was priced, at ``paid_minor``.

    The allowance goes first; what it does not cover is a step on g (see ``PricePlan.price_of_more``), and of
    that no more is charged than the month's cap leaves room for. Rho that an allowance covered stands on no
    curve: it is neither in ``before_nano`` nor is anything charged for it.
    """
    covered = rho_nano if plan.buys_out else min(rho_nano, standing.included_left_nano)
    priced = rho_nano - covered
    worth = plan.price_of_more(priced, before_nano=before_nano, paid_minor=paid_minor) if priced else 0
    room = standing.room_left_minor
    amount = worth if room is None else min(worth, room)
    short = (priced > 0 and standing.included_held_nano > 0) or (
        amount < worth and standing.room_held_minor > 0
    )
    return Charge(covered, worth, amount, waits=short)
