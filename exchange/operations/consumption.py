"""What a buyer has used: money and privacy by day, dataset and currency."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select

from exchange import queries
from exchange.identity import Role
from exchange.operations.terms import money

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market

DAYS = 90
_MOST = 5_000


def by_day(market: Market, actor: Actor) -> dict[str, Any]:
    """The organisation's spending on each of the last 90 days, UTC, and for each dataset.

    Days without spending have no line. A query that ended without an answer cost privacy and no money.
    """
    actor.require(Role.BUYER)
    now = market.store.clock()
    first = (now - timedelta(days=DAYS - 1)).date().isoformat()

    def look(session: Session) -> list[Any]:
        table = queries.query.c
        day = func.substr(table.reserved_at, 1, 10).label("day")
        paid = func.sum(case((table.state == queries.SETTLED, table.charge_minor), else_=0))
        found = (
            select(
                day,
                table.slug,
                table.currency,
                func.sum(table.rho_nano).label("rho_nano"),
                paid.label("minor"),
                func.count().label("queries"),
            )
            .where(
                table.org == actor.org,
                table.state.in_((queries.SETTLED, queries.FORFEITED)),
                table.reserved_at >= first,
            )
            .group_by(day, table.slug, table.currency)
        )
        return list(session.execute(found.order_by(day.desc(), table.slug).limit(_MOST)).all())

    lines = [
        {
            "day": row.day,
            "slug": row.slug,
            "rho_nano": int(row.rho_nano),
            "queries": int(row.queries),
            "charge": money(int(row.minor), row.currency),
        }
        for row in market.store.read(look)
    ]
    days = [(now - timedelta(days=back)).date().isoformat() for back in reversed(range(DAYS))]
    return {"days": days, "lines": lines}
