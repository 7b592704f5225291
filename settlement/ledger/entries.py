"""The legs of the exchange's everyday entries, so that every caller books one fact in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from settlement.ledger import chart
from settlement.ledger.tables import transfer
from settlement.ledger.tables import unit as unit_table
from settlement.ledger.transfers import Leg, Resolution
from settlement.money import Money, allocate

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def wallet_credited(org: str, amount: Money) -> list[Leg]:
    """A buyer's bank transfer arrived."""
    currency = amount.currency
    wallet = chart.buyer_prepaid(org, currency)
    return [Leg(currency, debit=chart.external_bank(currency), credit=wallet, amount=amount.amount_minor)]


def budget_granted(domain: str, *, rho_nano: int, delta_pico: int) -> list[Leg]:
    """A privacy domain was given (more of) its lifetime budget; a quantity of 0 has no leg."""
    legs = [
        (chart.rho_unit(domain), chart.domain_granted(domain), chart.domain_available(domain), rho_nano),
        (
            chart.delta_unit(domain),
            chart.domain_granted(domain, "delta"),
            chart.domain_available(domain, "delta"),
            delta_pico,
        ),
    ]
    return _legs(legs)


def allowance_issued(grant: str, domain: str, *, rho_nano: int) -> list[Leg]:
    """A grant was given rho that it may spend of its domain."""
    issued, allowance = chart.grant_issued(grant), chart.grant_allowance(grant)
    return [Leg(chart.rho_unit(domain), debit=issued, credit=allowance, amount=rho_nano)]


def charge(*, buyer: str, provider: str, price: Money, fee_basis_points: int) -> list[Leg]:
    """A price paid from the wallet, split exactly between provider and platform; a share of 0 has no leg.

    ``fee_basis_points`` is the platform's share in hundredths of a percent (0 to 10,000). AmountInvalid
    otherwise.
    """
    wallet, currency = chart.buyer_prepaid(buyer, price.currency), price.currency
    earned, fee = allocate(price.amount_minor, [10_000 - fee_basis_points, fee_basis_points])
    return _legs(
        [
            (currency, wallet, chart.provider_payable(provider, currency), earned),
            (currency, wallet, chart.platform_fees(currency), fee),
        ]
    )


def privacy_spent(*, buyer: str, domain: str, grant: str | None, rho_nano: int, delta_pico: int) -> list[Leg]:
    """A release's privacy loss, taken from its domain and from its grant's allowance; 0 has no leg.

    Without a grant it is the provider who spends: a preview or profile of the own data.
    """
    rho, delta = chart.rho_unit(domain), chart.delta_unit(domain)
    allowed = []
    if grant is not None:
        allowed = [(rho, chart.grant_allowance(grant), chart.grant_used(grant), rho_nano)]
    return _legs(
        [
            (rho, chart.domain_available(domain), chart.domain_spent(domain, buyer), rho_nano),
            *allowed,
            (
                delta,
                chart.domain_available(domain, "delta"),
                chart.domain_spent(domain, buyer, "delta"),
                delta_pico,
            ),
        ]
    )


def forfeited(session: Session, pending_journal: str) -> dict[int, Resolution]:
    """How to resolve a reservation whose query died after a look at data: privacy kept, money returned."""
    rows = session.execute(
        select(transfer.c.leg, unit_table.c.kind)
        .join(unit_table, unit_table.c.code == transfer.c.unit)
        .where(transfer.c.journal == pending_journal, transfer.c.phase == "pending")
    )
    return {row.leg: "void" if row.kind == "money" else "post" for row in rows}


def _legs(rows: list[tuple[str, str, str, int]]) -> list[Leg]:
    return [Leg(unit, debit, credit, amount) for unit, debit, credit, amount in rows if amount != 0]
