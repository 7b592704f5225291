"""Calls to Stripe that move money: written down in the transaction that decides them, sent by the worker.

    ready -> sending -> done | refused
                     -> unknown | failed500 -> (looked up) -> done | ready

An item has one idempotency key per generation. Before anything is sent a second time it is looked up at
Stripe, because Stripe forgets keys after a day and answers a saved 500 again. Only where nothing is found:
the same key again within its life, a new generation after it, or after a saved 500 and a quiet hour.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Row, select, update

from settlement.documents import canonical
from settlement.payments.tables import outbox
from settlement.schema import rows_changed, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

Kind = Literal["transfer", "refund", "reversal"]
Step = Literal["send", "look up"]

#: Stripe keeps a key for a day at least; an hour less, for clocks that differ.
KEY_LIFE = timedelta(hours=23)
#: How long a call whose outcome is unknown is given to appear at Stripe before it is taken for lost.
QUIET = timedelta(hours=1)
#: After this a process that was sending is taken for dead.
LEASE = timedelta(minutes=5)
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=10), timedelta(hours=1)
_SHORT_PAUSE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Item:
    """One call: ``body`` is sent as it was written down, under ``key``."""

    id: str
    kind: Kind
    subject: str
    body: dict[str, Any]
    state: str
    generation: int
    attempts: int
    first_sent_at: str | None
    last_sent_at: str | None
    next_at: str
    failure: str | None
    stripe_id: str | None

    @property
    def key(self) -> str:
        """The idempotency key of this generation."""
        return f"{self.id}:{self.generation}"


def put(
    session: Session,
    *,
    id: str,  # noqa: A002
    kind: Kind,
    subject: str,
    body: Mapping[str, Any],
    now: datetime,
) -> None:
    """Write a call down; it is sent with the worker's next round."""
    session.execute(
        outbox.insert().values(
            id=id,
            kind=kind,
            subject=subject,
            body=canonical(body),
            state="ready",
            generation=1,
            attempts=0,
            next_at=timestamp(now),
        )
    )


def due(session: Session, now: datetime, *, kinds: tuple[Kind, ...], limit: int = 50) -> list[Item]:
    """Items whose time has come, oldest first; of those being sent only such as outlived their lease."""
    rows = session.execute(
        select(outbox)
        .where(
            outbox.c.state.in_(("ready", "sending", "unknown", "failed500")),
            outbox.c.kind.in_(kinds),
            outbox.c.next_at <= timestamp(now),
        )
        .order_by(outbox.c.next_at, outbox.c.id)
        .limit(limit)
    )
    return [_from_row(row) for row in rows]


def find_item(session: Session, item_id: str) -> Item | None:
    """An item by its id."""
    row = session.execute(select(outbox).where(outbox.c.id == item_id)).one_or_none()
    return None if row is None else _from_row(row)


def take(session: Session, item_id: str, now: datetime) -> tuple[Item, Step] | None:
    """Claim an item for one attempt; None where another process was first or it is done.

    What was never sent is sent. What was sent and has no known outcome is looked up first.
    """
    item = find_item(session, item_id)
    if item is None or item.state in ("done", "refused") or item.next_at > timestamp(now):
        return None
    step: Step = "send" if item.state == "ready" else "look up"
    values: dict[str, Any] = {"next_at": timestamp(now + LEASE)}
    if step == "send":
        values |= _sent(item, now)
    claimed = rows_changed(
        session,
        update(outbox)
        .where(outbox.c.id == item_id, outbox.c.state == item.state, outbox.c.next_at == item.next_at)
        .values(values),
    )
    return (item, step) if claimed else None


def send_again(session: Session, item_id: str, now: datetime) -> Item | None:
    """Nothing was found at Stripe: the item as it may be sent now, or None where it has to wait.

    Within the key's life the same key cannot act twice. Beyond it, or where the key has a saved failure, a
    new generation begins, once the last attempt is an hour old: what it did would have been found.
    """
    item = find_item(session, item_id)
    if item is None or item.state in ("done", "refused", "ready"):
        return None
    first, last = _moment(item.first_sent_at), _moment(item.last_sent_at)
    same_key = item.state != "failed500" and first is not None and now - first < KEY_LIFE
    if not same_key and last is not None and now - last < QUIET:
        _write(session, item, state=item.state, next_at=timestamp(last + QUIET))
        return None
    values = _sent(item, now) | {"next_at": timestamp(now + LEASE)}
    if not same_key:
        values |= {"generation": item.generation + 1, "first_sent_at": timestamp(now)}
    _write(session, item, **values)
    return find_item(session, item_id)


def done(session: Session, item_id: str, stripe_id: str) -> None:
    """Stripe has it, under this id."""
    session.execute(
        update(outbox).where(outbox.c.id == item_id).values(state="done", stripe_id=stripe_id, failure=None)
    )


def refused(session: Session, item_id: str, failure: str) -> None:
    """Stripe refused it for good: nothing moved."""
    session.execute(
        update(outbox)
        .where(outbox.c.id == item_id, outbox.c.state != "done")
        .values(state="refused", failure=failure[:100])
    )


def postponed(session: Session, item_id: str, failure: str, now: datetime, *, short: bool = False) -> None:
    """Stripe did not begin it; the item stays as it was and is tried later.

    ``short``: a balance did not cover it. That answer is saved under the key, so the next try has a new one.
    """
    item = find_item(session, item_id)
    if item is None or item.state in ("done", "refused"):
        return
    values: dict[str, Any] = {"state": "ready", "failure": failure[:100]}
    if short:
        values |= {"generation": item.generation + 1, "first_sent_at": None}
    elif item.attempts > 1:
        values["state"] = "unknown"  # an earlier attempt may have acted: it is looked up before the next
    pause = _SHORT_PAUSE if short else _pause(item)
    _write(session, item, **values, next_at=timestamp(now + pause))


def later(session: Session, item_id: str, now: datetime) -> None:
    """It could not be looked up; what is known of it stays."""
    item = find_item(session, item_id)
    if item is not None:
        _write(session, item, next_at=timestamp(now + _pause(item)))


def unknown(session: Session, item_id: str, failure: str, now: datetime, *, saved: bool) -> None:
    """Nobody knows whether Stripe did it; ``saved``: Stripe answered 5xx and would answer it again."""
    item = find_item(session, item_id)
    if item is None or item.state in ("done", "refused"):
        return
    state = "failed500" if saved else "unknown"
    _write(session, item, state=state, failure=failure[:100], next_at=timestamp(now + _pause(item)))


def _sent(item: Item, now: datetime) -> dict[str, Any]:
    return {
        "state": "sending",
        "attempts": item.attempts + 1,
        "first_sent_at": item.first_sent_at or timestamp(now),
        "last_sent_at": timestamp(now),
    }


def _pause(item: Item) -> timedelta:
    doubled: timedelta = _FIRST_PAUSE * 2 ** min(item.attempts, 12)
    return min(doubled, _LONGEST_PAUSE)


def _write(session: Session, item: Item, **values: object) -> None:
    session.execute(update(outbox).where(outbox.c.id == item.id).values(values))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _from_row(row: Row[tuple[Any, ...]]) -> Item:
    return Item(**{**row._asdict(), "body": json.loads(row.body)})
