"""Tries at a secret are counted, and each after the first few waits longer. Nobody is shut out for ever.

A try is counted before it is looked at, in a transaction of its own, so that parallel tries are counted too.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update

from exchange.errors import TooManyTries
from exchange.persons.tables import attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column, ColumnElement
    from sqlalchemy.orm import Session

LONGEST_WAIT_S = 900
FORGOTTEN = timedelta(hours=24)


@dataclass(frozen=True)
class Target:
    """What is tried at: the keyed digest of it, and how many tries are free."""

    key: str
    free: int


def account(key: bytes, login: str, address: str) -> tuple[Target, Target]:
    """Tries at one account's password, there or not: those from one network, and those from all.

    Whoever tries from elsewhere makes its holder wait only by as many tries as no single network has.
    """
    here = Target(_keyed(key, "account", f"{address} {login}"), free=5)
    return here, Target(_keyed(key, "account", login), free=100)


def network(key: bytes, address: str) -> Target:
    """Tries from one network (a /24 or /48), at whatever account."""
    return Target(_keyed(key, "network", address), free=50)


def factor(key: bytes, person: str) -> Target:
    """Tries at one person's second factor."""
    return Target(_keyed(key, "factor", person), free=5)


def claim(session: Session, targets: Sequence[Target], now: datetime) -> None:
    """Count a try at each of these. Raises :class:`TooManyTries`, counting nothing, while one must wait."""
    rows = {target: _row(session, target, now) for target in targets}
    waits = [(opens - now).total_seconds() for _, opens in rows.values()]
    if max(waits, default=0.0) > 0:
        raise TooManyTries(int(max(waits)) + 1)
    for target, (failures, _) in rows.items():
        _count(session, target, failures + 1, now)


def press(session: Session, target: Target, now: datetime) -> None:
    """Count a try that was refused elsewhere, unless this one waits already."""
    failures, opens = _row(session, target, now)
    if opens <= now:
        _count(session, target, failures + 1, now)


def forgive(session: Session, targets: Sequence[Target]) -> None:
    """Forget the tries at these: the last one was right."""
    session.execute(delete(attempt).where(attempt.c.key.in_([target.key for target in targets])))


def give_back(session: Session, target: Target) -> None:
    """Take the last try back, which was right, and leave those before it: a network is many people."""
    spent = update(attempt).where(attempt.c.key == target.key, attempt.c.failures > 0)
    session.execute(spent.values(failures=attempt.c.failures - 1))


def over(now: datetime) -> tuple[tuple[Column[Any], ColumnElement[bool]], ...]:
    """What is not kept: the key of each table, and which of its rows. Tries of yesterday count no more."""
    stamp = (now - FORGOTTEN).isoformat(timespec="microseconds")
    return ((attempt.c.key, attempt.c.last_at < stamp),)


def wait_s(failures: int, free: int) -> int:
    """How long the next try must wait after so many: nothing, then 2, 4, 8 seconds, up to 15 minutes."""
    return 0 if failures < free else min(LONGEST_WAIT_S, 2 ** min(20, failures - free + 1))


def _row(session: Session, target: Target, now: datetime) -> tuple[int, datetime]:
    found = session.execute(select(attempt).where(attempt.c.key == target.key)).one_or_none()
    if found is None or datetime.fromisoformat(found.last_at) < now - FORGOTTEN:
        return 0, now
    return int(found.failures), datetime.fromisoformat(found.open_at)


def _count(session: Session, target: Target, failures: int, now: datetime) -> None:
    opens = now + timedelta(seconds=wait_s(failures, target.free))
    values = {
        "failures": failures,
        "last_at": now.isoformat(timespec="microseconds"),
        "open_at": opens.isoformat(timespec="microseconds"),
    }
    same = attempt.c.key == target.key
    if not session.execute(update(attempt).where(same).values(values)).rowcount:  # type: ignore[attr-defined]
        session.execute(insert(attempt).values(key=target.key, **values))


def _keyed(key: bytes, kind: str, value: str) -> str:
    return hmac.new(key, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()
