"""One privacy domain for officers: what is spent of its lifetime, by whom and when, and when it would end.

The forecast is arithmetic on public facts and no promise: what is left, divided by the mean of what a day
spent over the last 30 days. Who wants another one has the days.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from exchange.alerts import spent
from exchange.errors import NotFound
from exchange.identity import organisation_names
from exchange.operations.auditing import note_reading
from exchange.operations.terms import budget
from settlement import ledger

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market

DAYS, PACE_DAYS = 90, 30
_MOST_ORGANISATIONS = 20
_FARTHEST_DAYS = 36_500


def dashboard(market: Market, actor: Actor, domain: str) -> dict[str, Any]:
    """A domain's account, the nano-rho of each of the last 90 days, who spent it, and the forecast.

    ``behind_nano`` is what entries spent that the worker has not added up yet. Officers and operators only;
    reading is an entry. Raises NotFound.
    """
    note_reading(market, actor, "domain", "")
    today = market.store.clock().date()

    def look(session: Session) -> dict[str, Any]:
        owner = ledger.account.c.owner
        known = select(owner).where(owner == domain, ledger.account.c.kind == "domain_granted")
        if session.scalars(known.limit(1)).first() is None:
            raise NotFound("there is no such privacy domain")
        names = organisation_names(session)
        asked = spent.by_organisation(session, domain, limit=_MOST_ORGANISATIONS)
        organisations = [
            {"org": org, "name": names.get(org, org), "rho_nano": rho, "entries": entries}
            for org, rho, entries in asked
        ]
        return {**course(session, domain, today), "organisations": organisations}

    return market.store.read(look)


def course(session: Session, domain: str, today: date) -> dict[str, Any]:
    """A domain's account, what each of the last 90 days spent of it, the forecast, and what is behind."""
    account, shown = budget(session, domain), list(spent.days(today.isoformat(), DAYS))
    sums = spent.by_day(session, domain, shown[0])
    return {
        "account": account,
        "days": [{"day": day, "rho_nano": sums.get(day, 0)} for day in shown],
        "forecast": forecast(account, sums, today),
        "behind_nano": spent.not_folded(session, domain),
    }


def forecast(account: dict[str, Any], sums: dict[str, int], today: date) -> dict[str, Any]:
    """When the budget ends at the pace of the last 30 days: ``state`` is spent, ends, or none in sight.

    Args:
        account: as :func:`exchange.operations.terms.budget` tells it.
        sums: nano-rho by day.
    """
    left = account["rho_nano_granted"] - account["rho_nano_spent"]
    pace = sum(sums.get(day, 0) for day in spent.days(today.isoformat(), PACE_DAYS))
    told: dict[str, Any] = {"left_nano": left, "pace_nano": pace, "days": None, "on": None}
    if left <= 0:
        return {**told, "state": "spent"}
    days = left * PACE_DAYS // pace if pace else _FARTHEST_DAYS
    if days >= _FARTHEST_DAYS:
        return {**told, "state": "none_in_sight"}
    return {**told, "state": "ends", "days": days, "on": (today + timedelta(days=days)).isoformat()}
