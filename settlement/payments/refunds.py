"""Refunds: new entries that give money back and never touch rho.

An operator's refund is held in the wallet before Stripe is asked. A refund made in Stripe's dashboard is owed
by the buyer and collected from the wallet as soon as it covers it: what an event books does not depend on
balances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Row, and_, func, or_, select, update

from settlement import ledger
from settlement.errors import Overdrawn, PaymentMissing, RefundTooLarge
from settlement.ledger import Leg, chart
from settlement.money import format_amount
from settlement.payments import outbox, parking
from settlement.payments.facts import to_stripe
from settlement.payments.postings import available, booked, journal_id, moment, post_once, reverse_once
from settlement.payments.tables import payment, payment_refund
from settlement.schema import timestamp

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from settlement.money import Money
    from settlement.payments.facts import Refunded


_UNCOLLECTED = and_(payment_refund.c.collected.is_(False), payment_refund.c.state == "refunded")


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back; ``state`` is "requested", "refunded", "returned" (it came back) or "refused"."""

    id: str
    payment_intent: str
    org: str
    amount_minor: int
    currency: str
    reason: str
    requested_by: str
    hold_journal: str | None
    stripe_refund: str | None
    state: str
    collected: bool
    requested_at: str


def request_refund(
    session: Session,
    *,
    id: str,  # noqa: A002
    item: str,
    payment_intent: str,
    amount: Money,
    reason: str,
    actor: str,
    now: datetime,
) -> Refund:
    """Hold a refund in the wallet and put it into the outbox as ``item``.

    RefundTooLarge for more than was paid and not refunded, or more than the wallet has available.
    """
    paid = session.execute(select(payment).where(payment.c.payment_intent == payment_intent)).one_or_none()
    if paid is None:
        raise PaymentMissing("There is no such payment.")
    if amount.currency != paid.currency:
        raise RefundTooLarge(f"This payment was made in {paid.currency}, and is refunded in it.")
    amount_minor = amount.amount_minor
    left = paid.amount_minor - _refunded(session, payment_intent)
    if not 0 < amount_minor <= left:
        text = f"{format_amount(left, paid.currency)} {paid.currency}"
        raise RefundTooLarge(f"A refund is above zero, and at most {text} is left of this payment.")
    legs = [
        Leg(
            paid.currency,
            debit=chart.buyer_prepaid(paid.org, paid.currency),
            credit=chart.external_stripe(paid.currency),
            amount=amount_minor,
        )
    ]
    key = f"refund:{id}:held"
    try:
        ledger.reserve(
            session,
            journal=journal_id(key),
            kind="refund_held",
            business_key=key,
            actor=actor,
            now=now,
            legs=legs,
        )
    except Overdrawn as short:
        text = f"{format_amount(short.available, paid.currency)} {paid.currency}"
        raise RefundTooLarge(f"The wallet has {text} available: what was spent cannot be refunded.") from None
    refund = Refund(
        id=id,
        payment_intent=payment_intent,
        org=paid.org,
        amount_minor=amount_minor,
        currency=paid.currency,
        reason=reason,
        requested_by=actor,
        hold_journal=journal_id(key),
        stripe_refund=None,
        state="requested",
        collected=True,
        requested_at=timestamp(now),
    )
    session.execute(payment_refund.insert().values(_values(refund)))
    body = {
        "payment_intent": payment_intent,
        "amount": to_stripe(amount_minor, paid.currency),
        "metadata": {"refund": id, "outbox": item},
    }
    outbox.put(session, id=item, kind="refund", subject=id, body=body, now=now)
    return refund


def find_refund(session: Session, refund_id: str) -> Refund:
    """A refund by its id. PaymentMissing."""
    row = session.execute(select(payment_refund).where(payment_refund.c.id == refund_id)).one_or_none()
    if row is None:
        raise PaymentMissing("There is no such refund.")
    return _from_row(row)


def refunds_of(session: Session, org: str | None = None) -> list[Refund]:
    """Refunds, newest first: an organisation's, or all."""
    query = select(payment_refund).order_by(payment_refund.c.requested_at.desc(), payment_refund.c.id)
    if org is not None:
        query = query.where(payment_refund.c.org == org)
    return [_from_row(row) for row in session.execute(query)]


def apply(session: Session, fact: Refunded, now: datetime) -> None:
    """Book that a refund left; where it came back, that too: both stand, in whatever order they came."""
    paid = parking.payment_of(session, fact.payment_intent)
    row = _row_of(session, fact, paid)
    key = f"stripe:{fact.refund}:refunded"
    if not booked(session, key):
        _book(session, row, fact, key, now)
    if fact.failed:
        reverse_once(session, of=key, key=f"stripe:{fact.refund}:returned", kind="refund_returned", now=now)
        _uncollect(session, row, now)
    state = "returned" if fact.failed or row.state == "returned" else "refunded"
    session.execute(
        update(payment_refund)
        .where(payment_refund.c.id == row.id)
        .values(state=state, stripe_refund=fact.refund)
    )


def refuse(session: Session, refund_id: str, now: datetime) -> None:
    """Stripe refused the refund for good: the wallet gets back what was held."""
    refund = find_refund(session, refund_id)
    if refund.state != "requested" or refund.hold_journal is None:
        return
    ledger.resolve(
        session,
        pending_journal=refund.hold_journal,
        journal=journal_id(f"refund:{refund_id}:released"),
        kind="refund_released",
        business_key=f"refund:{refund_id}:released",
        actor="stripe",
        now=now,
        phases="void",
    )
    session.execute(update(payment_refund).where(payment_refund.c.id == refund_id).values(state="refused"))


def due(session: Session) -> bool:
    """Whether a wallet covers something that is still to be collected."""
    owed = session.execute(select(payment_refund).where(_UNCOLLECTED)).all()
    return any(available(session, chart.buyer_prepaid(r.org, r.currency)) >= r.amount_minor for r in owed)


def collect(session: Session, now: datetime) -> int:
    """Take what buyers owe for refunds made in Stripe's dashboard from wallets that cover it; returns how
    many.
    """
    owed = session.execute(select(payment_refund).where(_UNCOLLECTED).order_by(payment_refund.c.id)).all()
    done = 0
    for row in owed:
        wallet = chart.buyer_prepaid(row.org, row.currency)
        if available(session, wallet) < row.amount_minor:
            continue
        owes = chart.buyer_receivable(row.org, row.currency)
        legs = [Leg(row.currency, debit=wallet, credit=owes, amount=row.amount_minor)]
        post_once(session, key=f"refund:{row.id}:collected", kind="refund_collected", legs=legs, now=now)
        session.execute(update(payment_refund).where(payment_refund.c.id == row.id).values(collected=True))
        done += 1
    return done


def _row_of(session: Session, fact: Refunded, paid: Row[tuple[object, ...]]) -> Refund:
    """Our refund by its id in the metadata; one made elsewhere is kept under Stripe's id."""
    known = [payment_refund.c.stripe_refund == fact.refund]
    if fact.ours:
        known.append(payment_refund.c.id == fact.ours)
    row = session.execute(
        select(payment_refund).where(or_(*known), payment_refund.c.payment_intent == fact.payment_intent)
    ).one_or_none()
    if row is not None:
        return _from_row(row)
    refund = Refund(
        id=fact.refund,
        payment_intent=fact.payment_intent,
        org=str(paid.org),
        amount_minor=fact.amount_minor,
        currency=fact.currency,
        reason="made at Stripe",
        requested_by="stripe",
        hold_journal=None,
        stripe_refund=fact.refund,
        state="requested",
        collected=False,
        requested_at=timestamp(moment(fact.at)),
    )
    session.execute(payment_refund.insert().values(_values(refund)))
    return refund


def _book(session: Session, row: Refund, fact: Refunded, key: str, now: datetime) -> None:
    if row.hold_journal is not None and row.state == "requested" and row.amount_minor == fact.amount_minor:
        ledger.resolve(
            session,
            pending_journal=row.hold_journal,
            journal=journal_id(key),
            kind="payment_refunded",
            business_key=key,
            actor="stripe",
            now=now,
            phases="post",
        )
        return
    owes = chart.buyer_receivable(row.org, fact.currency)
    legs = [
        Leg(fact.currency, debit=owes, credit=chart.external_stripe(fact.currency), amount=fact.amount_minor)
    ]
    post_once(session, key=key, kind="payment_refunded", legs=legs, now=now, at=fact.at)


def _uncollect(session: Session, row: Refund, now: datetime) -> None:
    of = f"refund:{row.id}:collected"
    reverse_once(session, of=of, key=f"refund:{row.id}:uncollected", kind="refund_uncollected", now=now)


def _refunded(session: Session, payment_intent: str) -> int:
    counted = select(func.coalesce(func.sum(payment_refund.c.amount_minor), 0)).where(
        payment_refund.c.payment_intent == payment_intent,
        payment_refund.c.state.in_(("requested", "refunded")),
    )
    return int(session.scalar(counted) or 0)


def _values(refund: Refund) -> dict[str, object]:
    return {name: getattr(refund, name) for name in Refund.__slots__}


def _from_row(row: Row[tuple[object, ...]]) -> Refund:
    return Refund(**row._asdict())
