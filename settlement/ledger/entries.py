"""The legs of the exchange's everyday entries, so that every caller books one fact in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from settlement.ledger import chart
from settlement.ledger.tables import account, transfer
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


def charge(
    *, buyer: str, provider: str, price: Money, fee_basis_points: int, credit_of: str | None = None
) -> list[Leg]:
    """A price paid from the wallet, split exactly between provider and platform; a share of 0 has no leg.

    ``fee_basis_points`` is the platform's share in hundredths of a percent (0 to 10,000). AmountInvalid
    otherwise. With ``credit_of`` it is paid from that grant's credit.
    """
    currency = price.currency
    wallet = chart.grant_credit(credit_of, currency) if credit_of else chart.buyer_prepaid(buyer, currency)
    earned, fee = allocate(price.amount_minor, [10_000 - fee_basis_points, fee_basis_points])
    return _legs(
        [
            (currency, wallet, chart.provider_payable(provider, currency), earned),
            (currency, wallet, chart.platform_fees(currency), fee),
        ]
    )


def credit_bought(buyer: str, grant: str, amount: Money) -> list[Leg]:
    """Money of the wallet became credit of one grant."""
    wallet, credit = chart.buyer_prepaid(buyer, amount.currency), chart.grant_credit(grant, amount.currency)
    return _legs([(amount.currency, wallet, credit, amount.amount_minor)])


def credit_returned(buyer: str, grant: str, amount: Money) -> list[Leg]:
    """Credit that was not spent went back to the wallet."""
    wallet, credit = chart.buyer_prepaid(buyer, amount.currency), chart.grant_credit(grant, amount.currency)
    return _legs([(amount.currency, credit, wallet, amount.amount_minor)])


def period_opened(grant: str, number: int, domain: str, *, rho_nano: int) -> list[Leg]:
    """A period of a subscription began, with rho included."""
    opened, included = (chart.grant_period(grant, number, part) for part in ("opened", "included"))
    return _legs([(chart.rho_unit(domain), opened, included, rho_nano)])


def included_used(grant: str, number: int, domain: str, *, rho_nano: int) -> list[Leg]:
    """A query was covered, in whole or in part, by what its period includes."""
    included, used = (chart.grant_period(grant, number, part) for part in ("included", "used"))
    return _legs([(chart.rho_unit(domain), included, used, rho_nano)])


def month_opened(grant: str, month: str, cap: Money) -> list[Leg]:
    """A month with a cap began: so much may be charged in it."""
    opened, room = (chart.grant_month(grant, month, part) for part in ("opened", "room"))
    return _legs([(chart.room_unit(cap.currency), opened, room, cap.amount_minor)])


def room_taken(grant: str, month: str, price: Money) -> list[Leg]:
    """A charge took room of its month's cap."""
    room, charged = (chart.grant_month(grant, month, part) for part in ("room", "charged"))
    return _legs([(chart.room_unit(price.currency), room, charged, price.amount_minor)])


def budget_bought(domain: str, grant: str, *, rho_nano: int) -> list[Leg]:
    """What is left of a domain's budget is set aside for one grant."""
    kept = chart.domain_set_aside(domain, grant)
    return _legs([(chart.rho_unit(domain), chart.domain_available(domain), kept, rho_nano)])


def privacy_spent(
    *, buyer: str, domain: str, grant: str | None, rho_nano: int, delta_pico: int, set_aside: bool = False
) -> list[Leg]:
    """A release's privacy loss, taken from its domain and from its grant's allowance; 0 has no leg.

    Without a grant it is the provider who spends: a preview or profile of the own data. A grant that bought
    what was left spends what was ``set_aside`` for it.
    """
    source = chart.domain_available(domain)
    if grant is not None and set_aside:
        source = chart.domain_set_aside(domain, grant)
    rho, delta = chart.rho_unit(domain), chart.delta_unit(domain)
    allowed = []
    if grant is not None:
        allowed = [(rho, chart.grant_allowance(grant), chart.grant_used(grant), rho_nano)]
    return _legs(
        [
            (rho, source, chart.domain_spent(domain, buyer), rho_nano),
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
    """How to resolve a reservation whose query died after a look at data: privacy kept, money returned.

    So is what stands for money: the room of a cap, and the allowance of a period.
    """
    rows = session.execute(
        select(transfer.c.leg, unit_table.c.kind, account.c.kind.label("account_kind"))
        .join(unit_table, unit_table.c.code == transfer.c.unit)
        .join(account, account.c.id == transfer.c.debit)
        .where(transfer.c.journal == pending_journal, transfer.c.phase == "pending")
    )
    return {
        row.leg: "void" if row.kind == "money" or row.account_kind == "grant_included" else "post"
        for row in rows
    }


def _legs(rows: list[tuple[str, str, str, int]]) -> list[Leg]:
    return [Leg(unit, debit, credit, amount) for unit, debit, credit, amount in rows if amount != 0]
