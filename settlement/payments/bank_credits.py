"""Bank transfers above the limit: one operator proposes the credit, another confirms it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Row, select, update

from settlement import ledger
from settlement.errors import DuplicateBusinessKey, PaymentMissing, PaymentState, SecondOperatorNeeded
from settlement.ledger import chart, entries
from settlement.money import Money
from settlement.payments.postings import booked
from settlement.payments.tables import bank_credit
from settlement.schema import timestamp, waiting_first

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class BankCredit:
    """A proposed credit; ``state`` is "open", "confirmed" or "declined"."""

    id: str
    org: str
    amount_minor: int
    currency: str
    reference: str
    state: str
    proposed_by: str
    decided_by: str | None
    proposed_at: str
    decided_at: str | None


def propose(
    session: Session,
    *,
    id: str,  # noqa: A002
    org: str,
    amount: Money,
    reference: str,
    actor: str,
    now: datetime,
) -> BankCredit:
    """Propose to credit a wallet for a bank transfer. DuplicateBusinessKey for a reference credited before.

    Proposing the same again returns the proposal; another amount or organisation under one reference is a
    PaymentState.
    """
    row = session.execute(select(bank_credit).where(bank_credit.c.reference == reference)).one_or_none()
    if row is not None:
        if (row.org, row.amount_minor, row.currency) != (org, amount.amount_minor, amount.currency):
            raise PaymentState("This reference was proposed with another amount or organisation.")
        return _from_row(row)
    if booked(session, f"bank:{reference}"):
        raise DuplicateBusinessKey(f"bank:{reference}")
    made = BankCredit(
        id=id,
        org=org,
        amount_minor=amount.amount_minor,
        currency=amount.currency,
        reference=reference,
        state="open",
        proposed_by=actor,
        decided_by=None,
        proposed_at=timestamp(now),
        decided_at=None,
    )
    session.execute(bank_credit.insert().values({n: getattr(made, n) for n in BankCredit.__slots__}))
    return made


def decide(
    session: Session, credit_id: str, *, journal: str, confirmed: bool, actor: str, now: datetime
) -> BankCredit:
    """Confirm and book, or decline, as another operator than the one who proposed.

    Raises PaymentMissing, PaymentState when decided before, SecondOperatorNeeded for the proposer.
    """
    row = session.execute(select(bank_credit).where(bank_credit.c.id == credit_id)).one_or_none()
    if row is None:
        raise PaymentMissing("There is no such credit.")
    if row.state != "open":
        raise PaymentState(f"Credit {credit_id} is {row.state} already.")
    if row.proposed_by == actor:
        raise SecondOperatorNeeded("Another operator than the one who proposed the credit decides it.")
    if confirmed:
        chart.open_buyer(session, row.org, row.currency)
        ledger.post(
            session,
            journal=journal,
            kind="wallet_credited",
            business_key=f"bank:{row.reference}",
            actor=actor,
            now=now,
            legs=entries.wallet_credited(row.org, Money(row.amount_minor, row.currency)),
        )
    values = {
        "state": "confirmed" if confirmed else "declined",
        "decided_by": actor,
        "decided_at": timestamp(now),
    }
    session.execute(update(bank_credit).where(bank_credit.c.id == credit_id).values(values))
    return _from_row(session.execute(select(bank_credit).where(bank_credit.c.id == credit_id)).one())


def proposals(session: Session, *, state: str | None = None) -> list[BankCredit]:
    """Proposed credits, newest first."""
    query = select(bank_credit).order_by(bank_credit.c.proposed_at.desc(), bank_credit.c.id)
    if state is not None:
        query = query.where(bank_credit.c.state == state)
    return [_from_row(row) for row in session.execute(query)]


def page_of_proposals(
    session: Session, *, limit: int, after: tuple[int, str, str] | None
) -> list[BankCredit]:
    """The same page by page, those first that nobody has decided; ``after`` is a :func:`place_of`."""
    held = bank_credit.c
    order = (held.state == "open", held.proposed_at, held.id)
    query = waiting_first(select(bank_credit), *order, limit=limit, after=after)
    return [_from_row(row) for row in session.execute(query)]


def place_of(one: BankCredit) -> tuple[int, str, str]:
    """Where a proposal stands among all."""
    return int(one.state != "open"), one.proposed_at, one.id


def _from_row(row: Row[tuple[object, ...]]) -> BankCredit:
    return BankCredit(**row._asdict())
