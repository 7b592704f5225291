"""The law of charges: each is what its grant's plan names, whether it is paid up front or by the query."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from exchange.queries import SETTLED, query
from settlement import ledger, orders
from settlement.errors import SettlementError
from settlement.prices import PricePlan, month_of, period_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

_Plans = dict[str, PricePlan]


def mispriced(session: Session) -> list[str]:
    """Forged plans, and what was charged otherwise than they say: by the query, the month, or up front."""
    findings: list[str] = []
    plans: _Plans = {}
    issued: dict[str, datetime] = {}
    for grant in session.execute(select(orders.access_grant)):
        plan = _plan_of(grant.plan)
        if plan is None or plan.sha256 != grant.plan_sha256:
            findings.append(f"grant {grant.id}: its price plan was changed after it was issued")
        else:
            plans[grant.id], issued[grant.id] = plan, datetime.fromisoformat(grant.issued_at)
    rows = session.execute(select(query).where(query.c.state == SETTLED)).all()
    findings += [found for row in rows if (found := _mispriced(plans.get(row.grant_id), row))]
    known = [row for row in rows if row.grant_id in plans]
    return [*findings, *_months(plans, known), *_periods(plans, issued, known), *_up_front(session, plans)]


def _mispriced(plan: PricePlan | None, row: Row[Any]) -> str | None:
    if plan is None or plan.sha256 != row.price_plan_sha256:
        return f"{row.id} was priced by a plan that its grant does not hold"
    if _worth(plan, row) != row.worth_minor or not _charged(plan, row):
        return f"{row.id} was charged another amount than its plan names"
    return None


def _worth(plan: PricePlan, row: Row[Any]) -> int:
    """What a query is worth: the rho that nothing covered, or as a refinement the step from what was priced
    of its question before.
    """
    priced = row.rho_nano - row.covered_nano
    if min(priced, row.covered_nano, row.priced_before_nano) < 0:
        return -1  # no plan has a price for what nobody can have spent
    if not priced:
        return 0
    return plan.price_of_more(priced, before_nano=row.priced_before_nano, paid_minor=row.paid_before_minor)


def _charged(plan: PricePlan, row: Row[Any]) -> bool:
    """Whether a query covered and paid what its kind of plan lets it."""
    if plan.buys_out:
        return bool(row.covered_nano == row.rho_nano and row.charge_minor == 0)
    if row.covered_nano and plan.period is None:
        return False
    if plan.monthly_cap_minor is not None:
        return bool(0 <= row.charge_minor <= row.worth_minor)
    return bool(row.charge_minor == row.worth_minor)


def _months(plans: _Plans, rows: Iterable[Row[Any]]) -> list[str]:
    """No month of a cap is charged more, and one in which less than g was asked is charged all of it."""
    charged: dict[tuple[str, str], int] = defaultdict(int)
    capped: set[tuple[str, str]] = set()
    for row in rows:
        if plans[row.grant_id].monthly_cap_minor is not None:
            month = str(row.grant_id), month_of(datetime.fromisoformat(row.reserved_at))
            charged[month] += row.charge_minor
            if row.charge_minor < row.worth_minor:
                capped.add(month)
    findings = []
    for (grant, named), minor in sorted(charged.items()):
        cap = plans[grant].monthly_cap_minor or 0
        if minor > cap or ((grant, named) in capped and minor != cap):
            findings.append(f"grant {grant} was charged {minor} in {named} under a cap of {cap}")
    return findings


def _periods(plans: _Plans, issued: dict[str, datetime], rows: Iterable[Row[Any]]) -> list[str]:
    """No period covers more than it includes, and one in which something was priced covered all of it."""
    covered: dict[tuple[str, int], int] = defaultdict(int)
    priced: set[tuple[str, int]] = set()
    for row in rows:
        plan = plans[row.grant_id]
        if plan.period is not None and row.rho_nano:
            at = datetime.fromisoformat(row.reserved_at)
            period = row.grant_id, period_at(issued[row.grant_id], plan.period, at)
            covered[period] += row.covered_nano
            if row.covered_nano < row.rho_nano:
                priced.add(period)
    findings = []
    for (grant, number), nano in sorted(covered.items()):
        included = plans[grant].included_nano
        if nano > included or ((grant, number) in priced and nano != included):
            findings.append(f"grant {grant} was covered for {nano} of {included} nano-rho in period {number}")
    return findings


def _up_front(session: Session, plans: _Plans) -> list[str]:
    """What was paid when access was granted, for a period, or for credit is what the plan names."""
    journal, transfer = ledger.journal, ledger.transfer
    kinds = ("allowance_issued", "period_opened", "credit_bought")
    entries = session.execute(
        select(journal.c.id, journal.c.business_key).where(journal.c.kind.in_(kinds))
    ).all()
    paid = select(transfer.c.journal, transfer.c.unit, func.sum(transfer.c.amount).label("amount"))
    sums = {
        (row.journal, row.unit): int(row.amount)
        for row in session.execute(paid.group_by(transfer.c.journal, transfer.c.unit))
    }
    findings = []
    for entry in entries:
        plan = plans.get(entry.business_key.split(":")[1])
        if plan is not None and sums.get((entry.id, plan.currency), 0) != plan.up_front_minor:
            findings.append(f"entry {entry.business_key} moved another amount than the plan takes up front")
    return findings


def _plan_of(text: str) -> PricePlan | None:
    try:
        return PricePlan.from_document(json.loads(text))
    except (ValueError, SettlementError):
        return None
