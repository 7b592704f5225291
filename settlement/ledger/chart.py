"""The chart of accounts: every account's id, and which accounts are opened together with which floors.

Credits count positive: a wallet, a payable and a remaining budget are credit balances. Accounts of money end
with their currency, accounts of delta with ``delta``, because an account holds one unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from settlement.errors import AccountUnknown
from settlement.ledger.accounts import ensure_account, ensure_unit
from settlement.money import exponent_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Quantity = Literal["rho", "delta"]


def rho_unit(domain: str) -> str:
    """The unit of a domain's rho; amounts are nano-rho."""
    return f"rho:{domain}"


def delta_unit(domain: str) -> str:
    """The unit of a domain's delta; amounts are pico-delta."""
    return f"delta:{domain}"


def buyer_prepaid(org: str, currency: str) -> str:
    """The buyer's wallet (floor)."""
    return f"buyer:{_part(org)}:prepaid:{currency}"


def buyer_receivable(org: str, currency: str) -> str:
    """What the buyer owes."""
    return f"buyer:{_part(org)}:receivable:{currency}"


def provider_payable(org: str, currency: str) -> str:
    """What the provider earned and was not paid yet (floor)."""
    return f"provider:{_part(org)}:payable:{currency}"


def provider_holdback(org: str, currency: str) -> str:
    """What is kept back against disputes (floor)."""
    return f"provider:{_part(org)}:holdback:{currency}"


def provider_clawback(org: str, currency: str) -> str:
    """What the provider owes after lost disputes."""
    return f"provider:{_part(org)}:clawback:{currency}"


def platform_fees(currency: str) -> str:
    """The platform's share of charges."""
    return f"platform:fees:{currency}"


def platform_promotion(currency: str) -> str:
    """Credit given away by the platform."""
    return f"platform:promotion:{currency}"


def platform_stripe_fees(currency: str) -> str:
    """What Stripe kept of payments."""
    return f"platform:stripe_fees:{currency}"


def platform_dispute_suspense(currency: str) -> str:
    """Provider shares set aside while a dispute is open."""
    return f"platform:dispute_suspense:{currency}"


def platform_tax(jurisdiction: str, currency: str) -> str:
    """Tax collected for one jurisdiction."""
    return f"platform:tax:{_part(jurisdiction)}:{currency}"


def external_bank(currency: str) -> str:
    """The world's side of bank transfers."""
    return f"external:bank:{currency}"


def external_stripe(currency: str) -> str:
    """The world's side of Stripe."""
    return f"external:stripe:{currency}"


def domain_granted(domain: str, quantity: Quantity = "rho") -> str:
    """The debit side of every budget a privacy domain was ever given."""
    return _of_quantity(f"domain:{domain}:granted", quantity)


def domain_available(domain: str, quantity: Quantity = "rho") -> str:
    """A domain's remaining lifetime budget (floor)."""
    return _of_quantity(f"domain:{domain}:available", quantity)


def domain_spent(domain: str, org: str, quantity: Quantity = "rho") -> str:
    """What one buyer, or the provider, spent of a domain's budget, for ever."""
    return _of_quantity(f"domain:{domain}:spent:{_part(org)}", quantity)


def grant_issued(grant: str) -> str:
    """The debit side of a grant's allowance."""
    return f"grant:{_part(grant)}:issued"


def grant_allowance(grant: str) -> str:
    """The rho a grant may still spend of its domain (floor)."""
    return f"grant:{_part(grant)}:allowance"


def grant_used(grant: str) -> str:
    """The rho a grant spent."""
    return f"grant:{_part(grant)}:used"


def grant_credit(grant: str, currency: str) -> str:
    """Credit that was paid for and may be spent under one grant alone (floor)."""
    return f"grant:{_part(grant)}:credit:{currency}"


def grant_period(grant: str, number: int, part: Literal["opened", "included", "used"]) -> str:
    """The rho that one period of a subscription includes: opened once, then included (floor) until used."""
    return f"grant:{_part(grant)}:period:{number}:{part}"


def room_unit(currency: str) -> str:
    """The unit of what may still be charged under a cap: minor units of a currency, but nobody's money."""
    return f"room:{currency}"


def grant_month(grant: str, month: str, part: Literal["opened", "room", "charged"]) -> str:
    """What one month's cap leaves to be charged: opened once, then room (floor) until charged."""
    return f"grant:{_part(grant)}:month:{_part(month)}:{part}"


def domain_set_aside(domain: str, grant: str) -> str:
    """What is left of a domain's budget for the one grant that bought it (floor)."""
    return f"domain:{domain}:set_aside:{_part(grant)}"


def open_currency(session: Session, currency: str) -> None:
    """Keep a currency and open the platform's and the world's accounts in it. AmountInvalid if unknown."""
    ensure_unit(session, currency, "money", exponent_of(currency))
    for id_, kind in (
        (platform_fees(currency), "platform_fees"),
        (platform_promotion(currency), "platform_promotion"),
        (platform_stripe_fees(currency), "platform_stripe_fees"),
        (platform_dispute_suspense(currency), "platform_dispute_suspense"),
        (external_bank(currency), "external_bank"),
        (external_stripe(currency), "external_stripe"),
    ):
        ensure_account(session, id_, currency, owner="platform", kind=kind, floor=False)


def open_buyer(session: Session, org: str, currency: str) -> None:
    """Open a buyer's wallet and receivable in a currency."""
    open_currency(session, currency)
    wallet, owed = buyer_prepaid(org, currency), buyer_receivable(org, currency)
    ensure_account(session, wallet, currency, owner=org, kind="buyer_prepaid", floor=True)
    ensure_account(session, owed, currency, owner=org, kind="buyer_receivable", floor=False)


def open_tax(session: Session, jurisdiction: str, currency: str) -> None:
    """Open what is owed to one jurisdiction in a currency."""
    id_ = platform_tax(jurisdiction, currency)
    ensure_account(session, id_, currency, owner="platform", kind="platform_tax", floor=False)


def open_provider(session: Session, org: str, currency: str) -> None:
    """Open a provider's payable, holdback and clawback in a currency."""
    open_currency(session, currency)
    payable, holdback = provider_payable(org, currency), provider_holdback(org, currency)
    ensure_account(session, payable, currency, owner=org, kind="provider_payable", floor=True)
    ensure_account(session, holdback, currency, owner=org, kind="provider_holdback", floor=True)
    clawback = provider_clawback(org, currency)
    ensure_account(session, clawback, currency, owner=org, kind="provider_clawback", floor=False)


def open_domain(session: Session, domain: str) -> None:
    """Keep a privacy domain's units and open its budget of rho and of delta; the domain owns the accounts."""
    for unit, quantity, exponent in _quantities(domain):
        ensure_unit(session, unit, quantity, exponent)
        granted, available = domain_granted(domain, quantity), domain_available(domain, quantity)
        ensure_account(session, granted, unit, owner=domain, kind="domain_granted", floor=False)
        ensure_account(session, available, unit, owner=domain, kind="domain_available", floor=True)


def open_domain_buyer(session: Session, domain: str, org: str) -> None:
    """Open what one organisation spends of a domain; the domain owns the accounts: they add up by owner."""
    for unit, quantity, _ in _quantities(domain):
        spent = domain_spent(domain, org, quantity)
        ensure_account(session, spent, unit, owner=domain, kind="domain_spent", floor=False)


def open_grant(session: Session, grant: str, domain: str) -> None:
    """Open a grant's allowance, counted in its domain's rho."""
    unit = rho_unit(domain)
    ensure_account(session, grant_issued(grant), unit, owner=grant, kind="grant_issued", floor=False)
    ensure_account(session, grant_allowance(grant), unit, owner=grant, kind="grant_allowance", floor=True)
    ensure_account(session, grant_used(grant), unit, owner=grant, kind="grant_used", floor=False)


def open_credit(session: Session, grant: str, currency: str) -> None:
    """Open a grant's credit in a currency that is kept."""
    credit = grant_credit(grant, currency)
    ensure_account(session, credit, currency, owner=grant, kind="grant_credit", floor=True)


def open_period(session: Session, grant: str, number: int, domain: str) -> None:
    """Open what a period includes, counted in its domain's rho."""
    unit = rho_unit(domain)
    opened, included = grant_period(grant, number, "opened"), grant_period(grant, number, "included")
    ensure_account(session, opened, unit, owner=grant, kind="grant_opened", floor=False)
    ensure_account(session, included, unit, owner=grant, kind="grant_included", floor=True)
    used = grant_period(grant, number, "used")
    ensure_account(session, used, unit, owner=grant, kind="grant_included_used", floor=False)


def open_month(session: Session, grant: str, month: str, currency: str) -> None:
    """Open the room that a month's cap leaves."""
    unit = room_unit(currency)
    ensure_unit(session, unit, "money", exponent_of(currency))
    opened, room = grant_month(grant, month, "opened"), grant_month(grant, month, "room")
    ensure_account(session, opened, unit, owner=grant, kind="grant_room_opened", floor=False)
    ensure_account(session, room, unit, owner=grant, kind="grant_room", floor=True)
    charged = grant_month(grant, month, "charged")
    ensure_account(session, charged, unit, owner=grant, kind="grant_room_charged", floor=False)


def open_set_aside(session: Session, domain: str, grant: str) -> None:
    """Open what a grant buys of a domain; the domain owns it, as all of its budget."""
    unit, kept = rho_unit(domain), domain_set_aside(domain, grant)
    ensure_account(session, kept, unit, owner=domain, kind="domain_set_aside", floor=True)


def _quantities(domain: str) -> tuple[tuple[str, Quantity, int], ...]:
    return (rho_unit(domain), "rho", 9), (delta_unit(domain), "delta", 12)


def _of_quantity(account_id: str, quantity: Quantity) -> str:
    return account_id if quantity == "rho" else f"{account_id}:delta"


def _part(name: str) -> str:
    """Ids stand between colons in account ids, so they hold none: no two accounts can share an id."""
    if not name or ":" in name:
        raise AccountUnknown("The id of an organisation or grant is not empty and holds no colon.")
    return name
