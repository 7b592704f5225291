"""What each day spent of each domain, folded from the log's entries once, as they come.

Nothing is in it that the published leaves do not say, but for whose question the sweeper ended.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from exchange.alerts import position
from exchange.alerts.tables import spending_day
from exchange.audit import spending
from exchange.audit.log import audit_entry, size
from exchange.queries import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

READER = "spending"
_AT_ONCE = 5_000
_DIALECTS = {"postgresql": postgresql, "sqlite": sqlite}


def fold(session: Session) -> bool:
    """Add the next entries of the log, at most 5,000; returns whether there may be more.

    The position moves in the same transaction, so nothing is added twice.
    """
    start = position.of(session, READER)
    stop = min(size(session), start + _AT_ONCE)
    if start >= stop:
        return False
    entry, day = audit_entry.c, func.substr(audit_entry.c.time, 1, 10)
    who = func.coalesce(query.c.org, entry.org, "system")
    sums = (
        select(entry.domain, day, who, func.sum(entry.rho_nano), func.count())
        .select_from(audit_entry.outerjoin(query, query.c.id == entry.query_id))
        .where(*spends(start, stop))
        .group_by(entry.domain, day, who)
    )
    for domain, on, org, rho_nano, entries in session.execute(sums).all():
        _add(session, domain=domain, day=on, org=org, rho_nano=int(rho_nano), entries=entries)
    position.move(session, READER, start, stop)
    return stop - start == _AT_ONCE


def spends(start: int, stop: int) -> tuple[ColumnElement[bool], ...]:
    """Of the entries ``start`` <= seq < ``stop``, those that spend."""
    entry = audit_entry.c
    return entry.seq >= start, entry.seq < stop, entry.kind.in_(spending.KINDS), entry.rho_nano > 0


def by_day(session: Session, domain: str, since: str) -> dict[str, int]:
    """Nano-rho of a domain by day (`2026-11-23`), from one day on; days without any are left out."""
    table = spending_day.c
    found = select(table.day, func.sum(table.rho_nano)).where(table.domain == domain, table.day >= since)
    return {day: int(rho) for day, rho in session.execute(found.group_by(table.day).order_by(table.day))}


def by_organisation(session: Session, domain: str, *, limit: int) -> list[tuple[str, int, int]]:
    """Organisations with the nano-rho and the number of entries that they spent, the largest first."""
    table = spending_day.c
    rho = func.sum(table.rho_nano)
    found = select(table.org, rho, func.sum(table.entries)).where(table.domain == domain)
    ordered = found.group_by(table.org).order_by(rho.desc(), table.org).limit(limit)
    return [(org, int(spent), int(entries)) for org, spent, entries in session.execute(ordered)]


def entries_since(session: Session, domains: Sequence[str], since: str) -> dict[str, int]:
    """How many entries spent of each domain from one day on; domains without any are left out."""
    table = spending_day.c
    found = select(table.domain, func.sum(table.entries)).where(table.domain.in_(domains), table.day >= since)
    return {domain: int(count) for domain, count in session.execute(found.group_by(table.domain))}


def of_organisation(session: Session, domain: str, org: str) -> int:
    """Nano-rho of a domain that one organisation spent, as far as it is folded."""
    table = spending_day.c
    found = select(func.sum(table.rho_nano)).where(table.domain == domain, table.org == org)
    return int(session.scalar(found) or 0)


def in_all(session: Session, domain: str) -> int:
    """Nano-rho of a domain by every entry of the log, those included that are not folded yet."""
    table = spending_day.c
    folded = session.scalar(select(func.sum(table.rho_nano)).where(table.domain == domain)) or 0
    return int(folded) + not_folded(session, domain)


def not_folded(session: Session, domain: str) -> int:
    """Nano-rho of a domain by the entries that are not folded yet."""
    fresh = spends(position.of(session, READER), size(session))
    entry = audit_entry.c
    return int(session.scalar(select(func.sum(entry.rho_nano)).where(*fresh, entry.domain == domain)) or 0)


def days(until: str, count: int) -> Iterator[str]:
    """So many days up to one, that one included; the earliest first."""
    last = date.fromisoformat(until)
    return ((last - timedelta(days=back)).isoformat() for back in range(count - 1, -1, -1))


def _add(session: Session, **row: object) -> None:
    """Add to a day's line, or begin it."""
    table = spending_day.c
    new = _DIALECTS[session.connection().dialect.name].insert(spending_day).values(**row)
    more = {name: table[name] + new.excluded[name] for name in ("rho_nano", "entries")}
    session.execute(new.on_conflict_do_update(index_elements=["domain", "day", "org"], set_=more))
