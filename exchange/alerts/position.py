"""How far readers of the log have come, so that none reads it from the start again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from exchange.alerts.tables import log_position
from exchange.errors import InProgress

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def of(session: Session, reader: str) -> int:
    """The first sequence number that a reader has not read."""
    return session.scalar(select(log_position.c.next).where(log_position.c.reader == reader)) or 0


def move(session: Session, reader: str, start: int, stop: int) -> None:
    """Note that a reader has read up to ``stop``. Raises :class:`InProgress` where another has read on from
    ``start`` already: nothing of this transaction is kept then.
    """
    known = select(log_position.c.next).where(log_position.c.reader == reader).with_for_update()
    found = session.scalar(known)
    if (found or 0) != start:
        raise InProgress("another worker has read on")
    if found is None:
        session.execute(insert(log_position).values(reader=reader, next=stop))
    else:
        session.execute(update(log_position).where(log_position.c.reader == reader).values(next=stop))
