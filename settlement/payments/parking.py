"""Events whose parent is missing wait, and are applied when it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from settlement.payments.tables import parked_event, payment, stripe_event
from settlement.schema import insert_once, timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session


class ParentMissing(Exception):
    """What a fact is about is not in the books yet: the fact waits. Never leaves this package."""

    code = "parent_missing"

    def __init__(self, parent: str) -> None:
        super().__init__(f"There is no {parent} yet.")
        self.parent = parent


def payment_of(session: Session, payment_intent: str) -> Row[tuple[object, ...]]:
    """The payment that a fact is about. Raises ParentMissing until it was captured."""
    found = select(payment).where(payment.c.payment_intent == payment_intent)
    paid = session.execute(found).one_or_none()
    if paid is None:
        raise ParentMissing(payment_intent)
    return paid


def park(session: Session, event: str, parent: str, now: datetime) -> None:
    """Let an event wait for ``parent``."""
    values = {"id": event, "parent": parent[:100], "parked_at": timestamp(now)}
    session.execute(insert_once(session, parked_event).values(values).on_conflict_do_nothing())


def release(session: Session, event: str) -> None:
    """The event was applied."""
    session.execute(delete(parked_event).where(parked_event.c.id == event))


def waiting(session: Session, parents: Sequence[str] | None = None) -> Sequence[Row[tuple[object, ...]]]:
    """Parked events (id, parent, parked_at, payload), oldest first: of these parents, or all."""
    query = (
        select(parked_event, stripe_event.c.payload)
        .join(stripe_event, stripe_event.c.id == parked_event.c.id)
        .order_by(stripe_event.c.created, stripe_event.c.id)
    )
    if parents is not None:
        query = query.where(parked_event.c.parent.in_(parents))
    return session.execute(query).all()


def move(session: Session, event: str, parent: str) -> None:
    """The event waits for something else now."""
    session.execute(update(parked_event).where(parked_event.c.id == event).values(parent=parent[:100]))
