"""The queue's rows: alerts that were raised, who looks at them, and what came of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from exchange.alerts.tables import alert, alert_note
from exchange.errors import AlertResolved, NotFound, RequestInvalid
from exchange.identity import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

OPEN, ACTED, FALSE_ALARM = "open", "acted", "false_alarm"
STATES = (OPEN, ACTED, FALSE_ALARM)
MOST_OPEN = 200
"""So many alerts of one kind are open at most."""
MOST_NOTES = 50


def about(kind: str, subject: str) -> str:
    """Names what an alert is about: a kind and a subject."""
    return hashlib.sha256(f"{kind}\n{subject}".encode()).hexdigest()


def latest(session: Session, kind: str, subject: str) -> Row[Any] | None:
    """The last alert about this, open or not."""
    same = select(alert).where(alert.c.about == about(kind, subject))
    return session.execute(same.order_by(alert.c.raised_at.desc(), alert.c.id).limit(1)).one_or_none()


def taken_until(session: Session, kind: str, subject: str) -> int:
    """The last entry that an alert about this has taken in; -1 where there was none."""
    found = latest(session, kind, subject)
    return -1 if found is None else int(found.until_seq)


def count_open(session: Session, *, kind: str | None = None) -> int:
    """How many alerts are open, of all kinds or of one."""
    counted = select(func.count()).where(alert.c.state == OPEN)
    if kind is not None:
        counted = counted.where(alert.c.kind == kind)
    return int(session.execute(counted).scalar_one())


def counts(session: Session) -> list[tuple[str, str, int]]:
    """How many alerts there are of each kind in each state."""
    found = select(alert.c.kind, alert.c.state, func.count()).group_by(alert.c.kind, alert.c.state)
    return [(kind, state, int(count)) for kind, state, count in session.execute(found)]


def add(
    session: Session,
    alert_id: str,
    *,
    kind: str,
    subject: str,
    measure: int,
    most: int,
    until_seq: int,
    occasion: str,
    entries: Sequence[str],
    now: datetime,
) -> None:
    """Insert an open alert; the database holds that there is one about the same."""
    named, stamp = about(kind, subject), _stamp(now)
    session.execute(
        insert(alert).values(
            id=alert_id,
            kind=kind,
            subject=subject,
            about=named,
            open_key=named,
            measure=measure,
            most=most,
            entries=json.dumps(list(entries)),
            until_seq=until_seq,
            occasion=occasion,
            times=1,
            raised_at=stamp,
            last_at=stamp,
            state=OPEN,
        )
    )


def found_again(
    session: Session, alert_id: str, *, measure: int, until_seq: int, occasion: str, now: datetime
) -> None:
    """Count one more time on an alert that is open; one that was counted already is not counted again."""
    fresh = alert.c.id == alert_id, alert.c.until_seq < until_seq
    more = {"times": alert.c.times + 1, "last_at": _stamp(now), "measure": measure}
    session.execute(update(alert).where(*fresh).values(until_seq=until_seq, occasion=occasion, **more))


def find(session: Session, alert_id: str) -> Row[Any]:
    """An alert. Raises :class:`NotFound`."""
    row = session.execute(select(alert).where(alert.c.id == alert_id)).one_or_none()
    if row is None:
        raise NotFound("there is no such alert")
    return row


def page(
    session: Session, *, state: str | None, kind: str | None, limit: int, before: tuple[str, str] | None
) -> list[Row[Any]]:
    """Alerts, newest first, behind ``before`` (time, id)."""
    found = select(alert)
    if state is not None:
        found = found.where(alert.c.state == state)
    if kind is not None:
        found = found.where(alert.c.kind == kind)
    if before is not None:
        at, last = before
        found = found.where((alert.c.raised_at < at) | ((alert.c.raised_at == at) & (alert.c.id < last)))
    ordered = found.order_by(alert.c.raised_at.desc(), alert.c.id.desc()).limit(limit)
    return list(session.execute(ordered).all())


def notes(session: Session, alert_id: str) -> list[Row[Any]]:
    """An alert's notes, the oldest first."""
    found = select(alert_note).where(alert_note.c.alert == alert_id)
    return list(session.execute(found.order_by(alert_note.c.at, alert_note.c.id)).all())


def assign(session: Session, alert_id: str, to: str, now: datetime) -> None:
    """Give an open alert to somebody. Raises :class:`NotFound`, :class:`AlertResolved`."""
    _change(session, alert_id, assignee=to, assigned_at=_stamp(now))


def resolve(session: Session, alert_id: str, state: str, by: str, now: datetime) -> None:
    """End an open alert. Raises :class:`NotFound`, :class:`AlertResolved`."""
    _change(session, alert_id, state=state, open_key=None, resolved_by=by, resolved_at=_stamp(now))


def note(session: Session, alert_id: str, by: str, text: str, now: datetime) -> None:
    """Add a note, at most 50. Raises :class:`NotFound`, :class:`RequestInvalid`."""
    find(session, alert_id)
    held = select(func.count()).where(alert_note.c.alert == alert_id)
    if session.execute(held).scalar_one() >= MOST_NOTES:
        raise RequestInvalid(f"an alert has at most {MOST_NOTES} notes")
    values = {"id": new_id("nte"), "alert": alert_id, "at": _stamp(now), "by": by, "text": text}
    session.execute(insert(alert_note).values(**values))


def _change(session: Session, alert_id: str, **values: Any) -> None:
    find(session, alert_id)
    still = alert.c.id == alert_id, alert.c.state == OPEN
    done = session.execute(update(alert).where(*still).values(**values))
    if done.rowcount != 1:  # type: ignore[attr-defined]
        raise AlertResolved("this alert is resolved already")


def _stamp(now: datetime) -> str:
    return now.isoformat(timespec="microseconds")
