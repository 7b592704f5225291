"""Money in: a buyer asks for a top-up, pays at Stripe, and the payment that arrived is credited to the
wallet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Row, Select, case, func, select, update

from settlement.errors import AmountInvalid, PaymentMissing
from settlement.ledger import Leg, chart
from settlement.payments.facts import to_stripe
from settlement.payments.parking import ParentMissing
from settlement.payments.postings import moment, post_once
from settlement.payments.tables import payment, stripe_customer, top_up
from settlement.schema import insert_once, timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from settlement.money import Money
    from settlement.payments.facts import Captured, Ended

# A later state never gives way to an earlier one, in whatever order events tell of them.
_RANK = {"requested": 0, "open": 1, "failed": 2, "expired": 3, "paid": 4}


@dataclass(frozen=True, slots=True)
class TopUp:
    """A buyer's wish to pay ``amount_minor``; ``url`` is Stripe's page to pay on, ``received_minor`` what
    came.

    ``state`` is "requested", "open" (the page stands), "failed", "expired" or "paid".
    """

    id: str
    org: str
    amount_minor: int
    currency: str
    saved_method: bool
    state: str
    payment_intent: str | None
    url: str | None
    received_minor: int
    requested_at: str


def request_top_up(
    session: Session,
    *,
    id: str,  # noqa: A002
    org: str,
    actor: str,
    amount: Money,
    saved_method: bool,
    now: datetime,
) -> TopUp:
    """Note that a top-up is asked for, before Stripe is: its id is in the metadata of everything that
    follows.

    Raises AmountInvalid for zero, or for an amount that Stripe cannot charge.
    """
    if amount.amount_minor == 0:
        raise AmountInvalid("A top-up is above zero.")
    to_stripe(amount.amount_minor, amount.currency)
    chart.open_buyer(session, org, amount.currency)
    session.execute(
        top_up.insert().values(
            id=id,
            org=org,
            actor=actor,
            amount_minor=amount.amount_minor,
            currency=amount.currency,
            saved_method=saved_method,
            state="requested",
            requested_at=timestamp(now),
        )
    )
    return find_top_up(session, id, org=org)


def opened(
    session: Session, top_up_id: str, *, checkout: str | None, url: str | None, payment_intent: str | None
) -> None:
    """Stripe made the page, or the payment with the saved method; the payment itself comes as an event."""
    known = {"session": checkout, "url": url, "payment_intent": payment_intent}
    values = {name: value for name, value in known.items() if value is not None}
    session.execute(update(top_up).where(top_up.c.id == top_up_id).values(state=_raised("open"), **values))


def ended(session: Session, top_up_id: str, state: str) -> None:
    """A call for a top-up was refused for good."""
    session.execute(update(top_up).where(top_up.c.id == top_up_id).values(state=_raised(state)))


def remember_customer(session: Session, *, org: str, customer: str, now: datetime) -> None:
    """Keep an organisation's customer at Stripe, once; a second one changes nothing."""
    values = {"org": org, "customer": customer, "created_at": timestamp(now)}
    session.execute(insert_once(session, stripe_customer).values(values).on_conflict_do_nothing())


def customer_of(session: Session, org: str) -> str | None:
    """The organisation's customer at Stripe, if it has one."""
    return session.scalar(select(stripe_customer.c.customer).where(stripe_customer.c.org == org))


def find_top_up(session: Session, top_up_id: str, *, org: str | None = None) -> TopUp:
    """A top-up; PaymentMissing for an unknown one, and for another organisation's where ``org`` is given."""
    row = session.execute(_top_ups().where(top_up.c.id == top_up_id)).one_or_none()
    if row is None or org not in (None, row.org):
        raise PaymentMissing("There is no such top-up.")
    return _from_row(row)


def top_ups_of(session: Session, org: str | None = None) -> list[TopUp]:
    """Top-ups, newest first: an organisation's, or all."""
    query = _top_ups().order_by(top_up.c.requested_at.desc(), top_up.c.id)
    return [
        _from_row(row) for row in session.execute(query if org is None else query.where(top_up.c.org == org))
    ]


def capture(session: Session, fact: Captured, now: datetime) -> None:
    """Credit the wallet with what arrived. A top-up of another currency waits for an operator."""
    row = session.execute(select(top_up).where(top_up.c.id == fact.top_up)).one_or_none()
    if row is None:
        raise ParentMissing(fact.top_up)
    if row.currency != fact.currency or fact.received_minor <= 0:
        raise ParentMissing(f"differs:{fact.top_up}")
    chart.open_buyer(session, row.org, fact.currency)
    legs = [
        Leg(
            fact.currency,
            debit=chart.external_stripe(fact.currency),
            credit=chart.buyer_prepaid(row.org, fact.currency),
            amount=fact.received_minor,
        )
    ]
    key = f"stripe:{fact.payment_intent}:captured"
    post_once(session, key=key, kind="payment_captured", legs=legs, now=now, at=fact.at)
    values = {
        "payment_intent": fact.payment_intent,
        "top_up": row.id,
        "org": row.org,
        "amount_minor": fact.received_minor,
        "currency": fact.currency,
        "captured_at": timestamp(moment(fact.at)),
    }
    session.execute(insert_once(session, payment).values(values).on_conflict_do_nothing())
    session.execute(
        update(top_up).where(top_up.c.id == row.id).values(state="paid", payment_intent=fact.payment_intent)
    )


def end(session: Session, fact: Ended, now: datetime) -> None:
    """Move a top-up's state on; a paid one stays paid."""
    row = session.execute(select(top_up).where(top_up.c.id == fact.top_up)).one_or_none()
    if row is None:
        raise ParentMissing(fact.top_up)
    values = {} if fact.payment_intent is None else {"payment_intent": fact.payment_intent}
    session.execute(update(top_up).where(top_up.c.id == row.id).values(state=_raised(fact.state), **values))
    if fact.customer:
        remember_customer(session, org=row.org, customer=fact.customer, now=now)


def _raised(state: str) -> ColumnElement[str]:
    later = [name for name, rank in _RANK.items() if rank > _RANK[state]]
    return case((top_up.c.state.in_(later), top_up.c.state), else_=state)


def _top_ups() -> Select[tuple[object, ...]]:
    received = (
        select(func.coalesce(func.sum(payment.c.amount_minor), 0))
        .where(payment.c.top_up == top_up.c.id)
        .scalar_subquery()
    )
    return select(top_up, received.label("received_minor"))


def _from_row(row: Row[tuple[object, ...]]) -> TopUp:
    values = {name: getattr(row, name) for name in TopUp.__slots__}
    return TopUp(**{**values, "received_minor": int(row.received_minor)})
