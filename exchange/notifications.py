"""What an organisation is told of: written with the fact, in its transaction, and marked as read.

``kind`` is a past participle as in the audit log (``access.approved``), ``subject`` the id it is about.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Index, MetaData, String, Table, Text, insert, select, update

from exchange.errors import NotFound
from exchange.identity import new_id

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.orm import Session

metadata = MetaData()

notification = Table(
    "notification",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("org", String(40), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("dataset", String(200), nullable=False),
    Column("text", Text, nullable=False),
    Column("at", String(32), nullable=False),
    Column("read_at", String(32)),
    Index("notification_by_org", "org", "at"),
)

_MOST = 200
KEPT = timedelta(days=365)


def notify(
    session: Session, org: str, kind: str, *, subject: str, dataset: str, text: str, now: datetime
) -> None:
    """Tell an organisation of a fact, in the transaction that records it. ``text`` is a sentence."""
    session.execute(
        insert(notification).values(
            id=new_id("ntf"),
            org=org,
            kind=kind,
            subject=subject,
            dataset=dataset,
            text=text,
            at=now.isoformat(timespec="microseconds"),
        )
    )


def told(session: Session, org: str, kind: str, subject: str) -> bool:
    """Whether an organisation was told of this before."""
    same = select(notification.c.id).where(
        notification.c.org == org, notification.c.kind == kind, notification.c.subject == subject
    )
    return session.execute(same.limit(1)).first() is not None


def over(now: datetime) -> tuple[tuple[Column[Any], ColumnElement[bool]], ...]:
    """What is not kept: the key of each table, and which of its rows. A year ago it was news."""
    stamp = (now - KEPT).isoformat(timespec="microseconds")
    return ((notification.c.id, notification.c.at < stamp),)


def of_organisation(session: Session, org: str, *, unread: bool) -> list[Row[Any]]:
    """An organisation's latest notifications, newest first."""
    found = select(notification).where(notification.c.org == org)
    if unread:
        found = found.where(notification.c.read_at.is_(None))
    ordered = found.order_by(notification.c.at.desc(), notification.c.id.desc()).limit(_MOST)
    return list(session.execute(ordered).all())


def mark_read(session: Session, org: str, notification_id: str | None, now: datetime) -> int:
    """Mark one notification, or all, as read; returns how many were not before. Raises :class:`NotFound`."""
    own = update(notification).where(notification.c.org == org, notification.c.read_at.is_(None))
    if notification_id is not None:
        same = select(notification.c.id).where(
            notification.c.org == org, notification.c.id == notification_id
        )
        if session.execute(same).first() is None:
            raise NotFound("there is no such notification")
        own = own.where(notification.c.id == notification_id)
    done = session.execute(own.values(read_at=now.isoformat(timespec="microseconds")))
    return int(done.rowcount)  # type: ignore[attr-defined]
