"""What of a wallet's ledger stands on no document yet: payments in and out, charges, and their returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Select, and_, case, func, or_, select

from settlement.invoices.tables import invoice_line
from settlement.ledger.statements import POSTED, postings
from settlement.ledger.tables import account, journal

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.orm import Session

Side = Literal["supply", "payment"]
_PAYMENTS = ("platform_promotion", "platform_dispute_suspense", "buyer_receivable")
"""Kinds of account that stand for the world: what a wallet gives them, or has of them, buys nothing."""


@dataclass(frozen=True, slots=True)
class Due:
    """A wallet's part in one entry: ``signed_minor`` is positive where the wallet gained.

    ``payment`` moves money between the wallet and the world, also where a bank takes it back or a buyer owes
    it; everything else of a wallet pays for a ``supply``, or gives back what was paid for one.
    """

    journal: str
    kind: str
    business_key: str
    recorded_at: str
    reverses: str | None
    account: str
    side: Side
    signed_minor: int


def due_lines(session: Session, *, org: str, currency: str, until: str) -> list[Due]:
    """What was recorded before ``until`` and stands on no document, in the order of the ledger."""
    query = _wallet_parts().where(
        account.c.owner == org, account.c.unit == currency, journal.c.recorded_at < until
    )
    rows = (row._asdict() for row in session.execute(query))
    return [Due(**{**row, "signed_minor": int(row["signed_minor"])}) for row in rows]


def organisations_due(session: Session, *, until: str) -> list[tuple[str, str]]:
    """Every (organisation, currency) with something recorded before ``until`` that stands on no document."""
    parts = _wallet_parts().where(journal.c.recorded_at < until).subquery("due")
    owners = select(account.c.owner, account.c.unit).join(parts, parts.c.account == account.c.id).distinct()
    return [
        (row.owner, row.unit) for row in session.execute(owners.order_by(account.c.owner, account.c.unit))
    ]


def wallet_parts(session: Session) -> dict[tuple[str, str, str], int]:
    """What the ledger says that each entry moved in each wallet: (entry, account, side) -> signed amount."""
    rows = session.execute(_moved())
    return {(row.journal, row.account, row.side): int(row.signed_minor) for row in rows}


def _wallet_parts() -> Select[Any]:
    moved = _moved().subquery("moved")
    return (
        select(
            journal.c.id.label("journal"),
            journal.c.kind,
            journal.c.business_key,
            journal.c.recorded_at,
            journal.c.reverses,
            moved.c.account,
            moved.c.side,
            moved.c.signed_minor,
        )
        .join(moved, moved.c.journal == journal.c.id)
        .join(account, account.c.id == moved.c.account)
        .outerjoin(
            invoice_line,
            and_(
                invoice_line.c.journal == moved.c.journal,
                invoice_line.c.account == moved.c.account,
                invoice_line.c.side == moved.c.side,
            ),
        )
        .where(invoice_line.c.invoice.is_(None), moved.c.signed_minor != 0)
        .order_by(journal.c.position, moved.c.side)
    )


def _moved() -> Select[Any]:
    """Wallets' posted parts of entries, by entry, wallet and side."""
    sides, other = postings(), account.alias("other")
    is_payment = or_(other.c.kind.like("external%"), other.c.kind.in_(_PAYMENTS))
    parts = (
        select(
            sides.c.journal,
            sides.c.account,
            case((is_payment, "payment"), else_="supply").label("side"),
            sides.c.signed_amount,
        )
        .join(account, account.c.id == sides.c.account)
        .join(other, other.c.id == sides.c.counterpart)
        .where(account.c.kind == "buyer_prepaid", sides.c.phase.in_(POSTED))
        .subquery("part")
    )
    by = (parts.c.journal, parts.c.account, parts.c.side)
    return select(*by, func.sum(parts.c.signed_amount).label("signed_minor")).group_by(*by)
