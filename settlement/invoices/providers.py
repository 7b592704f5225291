"""A provider's month: what it opened with, earned, gave back, was paid, and closed with.

A statement is read off the ledger and never stored: entries do not change, so that a month that is over
always reads alike. What a provider has is its payable and holdback less what it owes (clawback); every entry
that moves it is one line, and opening plus all lines is closing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select

from settlement.errors import StatementMissing
from settlement.ledger.statements import POSTED, postings
from settlement.ledger.tables import account, journal, transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_KINDS = ("provider_payable", "provider_holdback", "provider_clawback")

#: Beginning of the counterpart's kind -> what a line is; the first that fits.
_CATEGORIES = (
    ("buyer", "earned"),
    ("grant_credit", "earned"),
    ("external", "payout"),
    ("platform_dispute", "dispute"),
    ("platform", "platform"),
    ("provider", "holdback"),
)


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """One entry of a provider's month, in minor units; positive is for the provider.

    ``category`` is earned, refunded, payout, dispute, platform, holdback or other. ``gross_minor`` is what
    buyers paid or were given back and ``fee_minor`` the platform's part of it; both are 0 elsewhere.
    ``net_minor`` is what the entry changed for the provider, ``held_minor`` what of it went to the holdback.
    """

    journal: str
    kind: str
    business_key: str
    recorded_at: str
    category: str
    gross_minor: int
    fee_minor: int
    net_minor: int
    held_minor: int


@dataclass(frozen=True, slots=True)
class ProviderStatement:
    """A provider's month in one currency. ``opening`` and ``closing`` map payable, holdback and clawback."""

    org: str
    currency: str
    since: str
    until: str
    opening: dict[str, int]
    closing: dict[str, int]
    lines: tuple[ProviderLine, ...]

    def totals(self) -> dict[str, int]:
        """Category -> net; with ``gross`` and ``fees`` of what was earned."""
        totals: dict[str, int] = defaultdict(int)
        for line in self.lines:
            totals[line.category] += line.net_minor
            if line.category == "earned":
                totals["gross"] += line.gross_minor
                totals["fees"] += line.fee_minor
        return dict(totals)


def providers(session: Session) -> list[str]:
    """Every organisation with a provider's accounts."""
    query = select(account.c.owner).where(account.c.kind == "provider_payable").distinct()
    return sorted(session.scalars(query))


def currencies_of(session: Session, org: str) -> list[str]:
    """Currencies in which a provider has accounts."""
    query = select(account.c.unit).where(account.c.owner == org, account.c.kind == "provider_payable")
    return sorted(session.scalars(query))


def monthly_changes(session: Session, org: str, currency: str) -> dict[str, int]:
    """Month (YYYY-MM, UTC) -> what it changed of all that a provider has in a currency, in minor units.

    Months in which nothing moved are left out. One pass over the provider's postings.
    """
    sides = _of_provider(org, currency)
    month = func.substr(journal.c.recorded_at, 1, 7).label("recorded_in")
    query = (
        select(month, func.sum(sides.c.signed_amount))
        .join(sides, sides.c.journal == journal.c.id)
        .group_by("recorded_in")
    )
    return {recorded_in: int(total) for recorded_in, total in session.execute(query)}


def earned_by_month(session: Session, org: str, currency: str, *, since: str) -> dict[str, tuple[int, int]]:
    """Month (YYYY-MM, UTC) -> what buyers' payments brought a provider, less what was given back, in minor
    units, and by how many entries. Months without any are left out.
    """
    sides = _of_provider(org, currency)
    sold = sides.c.other_kind.startswith("buyer") | sides.c.other_kind.startswith("grant_credit")
    month = func.substr(journal.c.recorded_at, 1, 7).label("recorded_in")
    query = (
        select(month, func.sum(sides.c.signed_amount), func.count(journal.c.id.distinct()))
        .join(sides, sides.c.journal == journal.c.id)
        .where(sold, journal.c.recorded_at >= since)
        .group_by("recorded_in")
    )
    return {recorded_in: (int(net), int(entries)) for recorded_in, net, entries in session.execute(query)}


def provider_statement(
    session: Session, *, org: str, currency: str, since: str, until: str
) -> ProviderStatement:
    """The statement over ``since`` (inclusive) to ``until`` (exclusive), texts of the books' times.

    Raises StatementMissing where the provider has no accounts in the currency.
    """
    if currency not in currencies_of(session, org):
        raise StatementMissing("There is no such statement.")
    return ProviderStatement(
        org=org,
        currency=currency,
        since=since,
        until=until,
        opening=_balances(session, org, currency, since),
        closing=_balances(session, org, currency, until),
        lines=tuple(_lines(session, org, currency, since, until)),
    )


def _lines(session: Session, org: str, currency: str, since: str, until: str) -> list[ProviderLine]:
    sides = _of_provider(org, currency)
    names = [journal.c[name] for name in ("kind", "business_key", "recorded_at")]
    query = (
        select(journal.c.id.label("journal"), *names, sides)
        .join(sides, sides.c.journal == journal.c.id)
        .where(journal.c.recorded_at >= since, journal.c.recorded_at < until)
        .order_by(journal.c.position, sides.c.leg)
    )
    entries: dict[str, list[Any]] = defaultdict(list)
    for row in session.execute(query):
        entries[row.journal].append(row)
    fees = _fees(session, org, currency, since, until)
    return [_line(rows, fees.get(id_, 0)) for id_, rows in entries.items()]


def _line(rows: Sequence[Any], fee: int) -> ProviderLine:
    net = sum(row.signed_amount for row in rows)
    held = sum(row.signed_amount for row in rows if row.account_kind == "provider_holdback")
    others = {row.other_kind for row in rows}
    category = next(
        (name for begins, name in _CATEGORIES if any(other.startswith(begins) for other in others)), "other"
    )
    if category == "earned" and net < 0:
        category = "refunded"
    sold = category in ("earned", "refunded")
    head = rows[0]
    return ProviderLine(
        journal=head.journal,
        kind=head.kind,
        business_key=head.business_key,
        recorded_at=head.recorded_at,
        category=category,
        gross_minor=net + fee if sold else 0,
        fee_minor=fee if sold else 0,
        net_minor=net,
        held_minor=held,
    )


def _fees(session: Session, org: str, currency: str, since: str, until: str) -> dict[str, int]:
    """Entry -> the platform's part of what buyers paid in it; negative where it was given back."""
    debit, credit = account.alias("debited"), account.alias("credited")
    paid = debit.c.kind.in_(("buyer_prepaid", "grant_credit")) & credit.c.kind.like("platform%")
    returned = debit.c.kind.like("platform%") & (credit.c.kind == "buyer_prepaid")
    signed = case((paid, transfer.c.amount), (returned, -transfer.c.amount), else_=0)
    touched = select(_of_provider(org, currency).c.journal)
    query = (
        select(transfer.c.journal, func.sum(signed))
        .join(journal, journal.c.id == transfer.c.journal)
        .join(debit, debit.c.id == transfer.c.debit)
        .join(credit, credit.c.id == transfer.c.credit)
        .where(transfer.c.unit == currency, transfer.c.phase.in_(POSTED), transfer.c.journal.in_(touched))
        .where(journal.c.recorded_at >= since, journal.c.recorded_at < until)
        .group_by(transfer.c.journal)
    )
    return {id_: int(fee) for id_, fee in session.execute(query)}


def _balances(session: Session, org: str, currency: str, moment: str) -> dict[str, int]:
    """Payable, holdback, clawback and their total just before a moment."""
    sides = _of_provider(org, currency)
    query = (
        select(sides.c.account_kind, func.sum(sides.c.signed_amount))
        .join(journal, journal.c.id == sides.c.journal)
        .where(journal.c.recorded_at < moment)
        .group_by(sides.c.account_kind)
    )
    found = {kind: int(total) for kind, total in session.execute(query)}
    parts = {kind.removeprefix("provider_"): found.get(kind, 0) for kind in _KINDS}
    return {**parts, "total": sum(parts.values())}


def _of_provider(org: str, currency: str) -> Any:
    """Every posting to a provider's accounts in a currency, with the kinds of both sides."""
    sides, other = postings(), account.alias("other")
    return (
        select(
            sides.c.journal,
            sides.c.leg,
            sides.c.signed_amount,
            account.c.kind.label("account_kind"),
            other.c.kind.label("other_kind"),
        )
        .join(account, account.c.id == sides.c.account)
        .join(other, other.c.id == sides.c.counterpart)
        .where(account.c.owner == org, account.c.unit == currency, account.c.kind.in_(_KINDS))
        .where(sides.c.phase.in_(POSTED))
        .subquery("own")
    )
