"""Receiving Stripe's events: each is stored as it came, once, and its fact applied in the same transaction.

Applying is idempotent and free of order (L8): every entry is named by the object that it is about, its legs
are a function of the fact and of what never changes, and an event whose parent is missing waits for it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from settlement.payments import disputes, parking, payouts, refunds, top_ups
from settlement.payments.facts import (
    AccountSeen,
    Captured,
    Disputed,
    Ended,
    Fact,
    Refunded,
    Transferred,
    facts_of,
)
from settlement.payments.parking import ParentMissing
from settlement.payments.tables import stripe_event
from settlement.schema import insert_once, rows_changed, timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

Receipt = Literal["applied", "parked", "duplicate", "ignored"]


def receive(session: Session, *, payload: bytes, now: datetime) -> Receipt:
    """Take a verified event in: ``payload`` is its bytes as they came. A duplicate changes nothing.

    AmountInvalid for an amount that the books cannot hold; KeyError and TypeError for no event of Stripe's.
    """
    event = json.loads(payload)
    values = {
        "id": event["id"],
        "type": event["type"],
        "created": event["created"],
        "payload": payload,
        "received_at": timestamp(now),
    }
    if not rows_changed(session, insert_once(session, stripe_event).values(values).on_conflict_do_nothing()):
        return "duplicate"
    fact = facts_of(event)
    if fact is None:
        return "ignored"
    try:
        _apply(session, fact, now)
    except ParentMissing as missing:
        parking.park(session, event["id"], missing.parent, now)
        return "parked"
    _unpark(session, _parents(fact), now)
    return "applied"


def known(session: Session, event_id: str) -> bool:
    """Whether an event was received before."""
    return session.scalar(select(stripe_event.c.id).where(stripe_event.c.id == event_id)) is not None


def retry_parked(session: Session, now: datetime) -> int:
    """Try every waiting event again; returns how many were applied."""
    return _unpark(session, None, now)


def parked(session: Session) -> list[dict[str, Any]]:
    """Events that wait: (event, parent, since)."""
    return [
        {"event": row.id, "parent": row.parent, "since": row.parked_at} for row in parking.waiting(session)
    ]


def stored_facts(session: Session) -> list[Fact]:
    """The facts of all events that are not waiting, in no meaningful order."""
    waiting = {row.id for row in parking.waiting(session)}
    rows = session.execute(select(stripe_event.c.id, stripe_event.c.payload))
    found = (facts_of(json.loads(row.payload)) for row in rows if row.id not in waiting)
    return [fact for fact in found if fact is not None]


def _apply(session: Session, fact: Fact, now: datetime) -> None:
    match fact:
        case Captured():
            top_ups.capture(session, fact, now)
        case Ended():
            top_ups.end(session, fact, now)
        case Refunded():
            refunds.apply(session, fact, now)
        case Disputed():
            disputes.apply(session, fact, now)
        case Transferred():
            payouts.apply(session, fact, now)
        case AccountSeen():
            payouts.see_account(session, fact)


def _parents(fact: Fact) -> list[str]:
    """What the books have now, that others may be waiting for."""
    return [fact.payment_intent] if isinstance(fact, Captured) else []


def _unpark(session: Session, parents: Sequence[str] | None, now: datetime) -> int:
    if parents is not None and not parents:
        return 0
    applied = 0
    for row in parking.waiting(session, parents):
        fact = facts_of(json.loads(row.payload))
        assert fact is not None, "only facts wait"
        try:
            _apply(session, fact, now)
        except ParentMissing as missing:
            parking.move(session, row.id, missing.parent)
            continue
        parking.release(session, row.id)
        applied += 1 + _unpark(session, _parents(fact), now)
    return applied
