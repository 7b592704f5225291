"""Entries of money in and out: each is named by its business key alone, and is recorded once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from settlement import ledger
from settlement.documents import canonical, sha256_hex
from settlement.ledger import journal, transfer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from settlement.ledger import Leg

#: Who books what Stripe says, and what follows from it.
ACTOR = "stripe"


def journal_id(key: str) -> str:
    """The entry's id, a function of its business key: whatever order facts arrive in, ids are the same."""
    return f"jnl_{sha256_hex(key)[:24]}"


def booked(session: Session, key: str) -> bool:
    """Whether the entry is in the ledger."""
    return session.scalar(select(journal.c.id).where(journal.c.business_key == key)) is not None


def post_once(
    session: Session,
    *,
    key: str,
    kind: str,
    legs: Sequence[Leg],
    now: datetime,
    at: int | None = None,
    actor: str = ACTOR,
) -> bool:
    """Record an entry unless it is there; True where it was recorded now. ``at``: Unix time of the fact."""
    if not legs or booked(session, key):
        return False
    ledger.post(
        session,
        journal=journal_id(key),
        kind=kind,
        business_key=key,
        actor=actor,
        now=now,
        legs=legs,
        effective_at=None if at is None else moment(at),
    )
    return True


def reverse_once(
    session: Session, *, of: str, key: str, kind: str, now: datetime, actor: str = ACTOR
) -> bool:
    """Reverse the entry with the business key ``of``, once, if it is there."""
    if booked(session, key) or not booked(session, of):
        return False
    ledger.reverse(
        session,
        reverses=journal_id(of),
        journal=journal_id(key),
        kind=kind,
        business_key=key,
        actor=actor,
        now=now,
    )
    return True


def moment(at: int) -> datetime:
    """Unix time as an aware datetime."""
    return datetime.fromtimestamp(at, UTC)


def posted(session: Session, account: str) -> int:
    """An account's posted balance (credits positive); 0 where it was never opened."""
    held = select(ledger.account.c.credits_posted - ledger.account.c.debits_posted)
    return int(session.scalar(held.where(ledger.account.c.id == account)) or 0)


def available(session: Session, account: str) -> int:
    """What an account may still give away; 0 where it was never opened."""
    row = ledger.account.c
    held = select(row.credits_posted - row.debits_posted - row.debits_pending)
    return int(session.scalar(held.where(row.id == account)) or 0)


def posted_before(session: Session, account: str, until: str) -> int:
    """An account's posted balance of what was recorded before ``until`` (text of the books)."""
    total = 0
    for side, sign in ((transfer.c.credit, 1), (transfer.c.debit, -1)):
        query = (
            select(func.coalesce(func.sum(transfer.c.amount), 0))
            .join(journal, journal.c.id == transfer.c.journal)
            .where(side == account, transfer.c.phase.in_(("single", "post")), journal.c.recorded_at < until)
        )
        total += sign * int(session.scalar(query) or 0)
    return total


def fingerprint(session: Session, prefix: str = "stripe:") -> str:
    """SHA-256 over every entry whose key begins with ``prefix``, sorted by key: what was booked, not when or
    in which order. Two ledgers with equal fingerprints hold the same entries and legs.
    """
    head = select(journal.c.id, journal.c.business_key, journal.c.kind, journal.c.reverses)
    rows = session.execute(
        head.where(journal.c.business_key.startswith(prefix, autoescape=True)).order_by(
            journal.c.business_key
        )
    )
    entries = [
        [
            row.business_key,
            row.kind,
            row.reverses,
            [
                [line.unit, line.debit, line.credit, str(line.amount), line.phase]
                for line in ledger.journal_lines(session, row.id)
            ],
        ]
        for row in rows
    ]
    return sha256_hex(canonical(entries))
