"""How amounts are shown - money with its decimals, rho and delta as decimal text - and how times are read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exchange.errors import RequestInvalid
from exchange.store import our_id
from privacy import accounting
from settlement import ledger
from settlement import money as amounts
from settlement.ledger import chart

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def place(token: str | None) -> tuple[int, str, str] | None:
    """Where a page begins of a list in which what waits stands first. Raises RequestInvalid for a token that
    no page gave.
    """
    if token is None:
        return None
    group, at, last = (*token.split("_", 2), "", "")[:3]
    if group not in ("0", "1") or len(at) != 32 or our_id(last) is None:
        raise RequestInvalid("the page token was not given by this list")
    return int(group), at, last


def token_of(where: tuple[int, str, str]) -> str:
    """The token of the page behind the row that has this place."""
    return "_".join(map(str, where))


def budget(session: Session, domain: str) -> dict[str, Any]:
    """A privacy domain's lifetime account: granted, spent, reserved, remaining; also as epsilon."""
    return budgets(session, [domain])[0]


def budgets(session: Session, domains: Sequence[str]) -> list[dict[str, Any]]:
    """The same of several domains, in two statements however many there are."""
    accounts: list[tuple[str, str]] = []
    for domain in domains:
        rho, delta = chart.rho_unit(domain), chart.delta_unit(domain)
        accounts += [(chart.domain_granted(domain), rho), (chart.domain_available(domain), rho)]
        accounts.append((chart.domain_granted(domain, "delta"), delta))
    found, kept = ledger.balances(session, *accounts), _set_aside(session, domains)
    by_domain = zip(domains, found[::3], found[1::3], found[2::3], strict=True)
    return [_budget(domain, given, left, deltas, kept[domain]) for domain, given, left, deltas in by_domain]


def set_aside(session: Session, domain: str) -> ledger.Balance:
    """What grants that bought the rest of a domain's rho still have of it."""
    return _set_aside(session, [domain])[domain]


def _set_aside(session: Session, domains: Sequence[str]) -> dict[str, ledger.Balance]:
    held = ledger.balances_of_owners(session, domains, "domain_set_aside")
    return {domain: _sum(held.get((domain, chart.rho_unit(domain)), [])) for domain in domains}


def _sum(kept: Sequence[ledger.Balance]) -> ledger.Balance:
    posted, pending = sum(one.posted for one in kept), sum(one.pending_out for one in kept)
    return ledger.Balance(posted, pending, sum(one.pending_in for one in kept), posted - pending)


def _budget(
    domain: str, given: ledger.Balance, left: ledger.Balance, deltas: ledger.Balance, kept: ledger.Balance
) -> dict[str, Any]:
    granted, delta_granted = -given.posted, -deltas.posted
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
