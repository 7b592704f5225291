"""How amounts are shown - money with its decimals, rho and delta as decimal text - and how times are read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exchange.errors import RequestInvalid
from privacy import accounting
from settlement import ledger
from settlement import money as amounts
from settlement.ledger import chart

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NANO, PICO = 9, 12


def money(amount_minor: int, currency: str) -> dict[str, Any]:
    """An amount for people and machines: major units as text, and minor units."""
    return {
        "amount": amounts.format_amount(amount_minor, currency),
        "currency": currency,
        "amount_minor": amount_minor,
    }


def decimal_text(amount: int, exponent: int) -> str:
    """An integer of 10^-exponent as exact decimal text: (10_000_000, 9) -> "0.01"."""
    sign, amount = ("-" if amount < 0 else ""), abs(amount)
    whole, fraction = divmod(amount, 10**exponent)
    return f"{sign}{whole}.{fraction:0{exponent}d}".rstrip("0").rstrip(".")


def moment(name: str, text: str) -> datetime:
    """The day or time of ISO 8601 that the field ``name`` gives, in UTC unless it says otherwise.

    Raises RequestInvalid, which names the field.
    """
    try:
        given = datetime.fromisoformat(text)
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    except (ValueError, OverflowError):
        raise RequestInvalid(f"{name} must be a date or time of ISO 8601, such as 2027-01-31") from None


def budget(session: Session, domain: str) -> dict[str, Any]:
    """A privacy domain's lifetime account: granted, spent, reserved, remaining; also as epsilon."""
    rho, delta = chart.rho_unit(domain), chart.delta_unit(domain)
    given, left, deltas = ledger.balances(
        session,
        (chart.domain_granted(domain), rho),
        (chart.domain_available(domain), rho),
        (chart.domain_granted(domain, "delta"), delta),
    )
    granted, delta_granted, kept = -given.posted, -deltas.posted, set_aside(session, domain)
    spent = granted - left.posted - kept.posted
    return {
        "domain": domain,
        "rho_nano_granted": granted,
        "rho_nano_spent": spent,
        "rho_nano_reserved": left.pending_out + kept.pending_out,
        "rho_nano_set_aside": kept.posted,
        "rho_nano_remaining": left.available,
        "delta": decimal_text(delta_granted, PICO),
        "epsilon_granted": accounting.epsilon(granted, delta_granted),
        "epsilon_spent": accounting.epsilon(spent, delta_granted) if spent else 0.0,
    }


def set_aside(session: Session, domain: str) -> ledger.Balance:
    """What grants that bought the rest of a domain's rho still have of it."""
    kept = ledger.balances_of_owner(session, domain, "domain_set_aside", chart.rho_unit(domain))
    posted, pending = sum(one.posted for one in kept), sum(one.pending_out for one in kept)
    return ledger.Balance(posted, pending, sum(one.pending_in for one in kept), posted - pending)
