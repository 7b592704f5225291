"""The log and the books: every journal is named by an entry, and holds what it held when that was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from exchange.audit import log
from exchange.audit.report import ALTERED, Finding
from exchange.audit.verify import verify_books
from settlement import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

LAW = "L15"
_AT_ONCE = 256


def findings(session: Session) -> Iterator[Finding]:
    """What is wrong, with its places: journals that are gone or altered, and those that nobody logged."""
    for rows in _naming(session):
        digests = ledger.journal_digests(session, {row.journal for row in rows})
        yield from verify_books((bytes(row.leaf) for row in rows), digests.get)
    named = select(log.audit_entry.c.journal).where(log.audit_entry.c.journal.is_not(None))
    unnamed = select(ledger.journal.c.id).where(ledger.journal.c.id.not_in(named))
    for one in session.scalars(unnamed.order_by(ledger.journal.c.position)):
        yield Finding(ALTERED, "It stands in the books and in no entry of the log.", journal=one)


def broken(session: Session) -> Iterator[str]:
    """The same as sentences, for ``exchange check``."""
    for one in findings(session):
        yield f"journal {one.journal}: {one.message}" if one.journal else one.message


def _naming(session: Session) -> Iterator[Sequence[Row[Any]]]:
    """Leaves that name a journal, in their order."""
    columns, position = log.audit_entry.c, -1
    query = select(columns.seq, columns.journal, log.LEAF).where(columns.journal.is_not(None))
    while rows := session.execute(
        query.where(columns.seq > position).order_by(columns.seq).limit(_AT_ONCE)
    ).all():
        yield rows
        position = rows[-1].seq
