"""What was used: money and privacy by day and by dataset, as charts with their tables."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from flask import render_template

from exchange.identity import Actor, Role
from exchange.operations import consumption, querying
from exchange.web.auth import market
from exchange.web.portal import charts, portal
from exchange.web.portal.pages import visitor_page


@portal.get("/usage")
@visitor_page(Role.BUYER)
def usage_page(visitor: Actor) -> str:
    """Spending of the last 90 days in each currency, and the privacy that it took."""
    found = consumption.by_day(market(), visitor)
    used = querying.usage(market(), visitor)
    return render_template(
        "buyer/usage.html",
        found=found,
        spent=[_spent(found, currency) for currency in _currencies(found)],
        rho=_sums(found["lines"], "slug", lambda one: one["rho_nano"]),
        latest=used["items"][:50],
        totals=used["totals"],
        charts=charts,
    )


def _currencies(found: dict[str, Any]) -> list[str]:
    return sorted({one["charge"]["currency"] for one in found["lines"]})


def _spent(found: dict[str, Any], currency: str) -> dict[str, Any]:
    """The charges in one currency: by day as bars, and by dataset."""
    lines = [one for one in found["lines"] if one["charge"]["currency"] == currency]
    by_day = dict(_sums(lines, "day", lambda one: one["charge"]["amount_minor"]))
    days = [(day, by_day.get(day, 0)) for day in found["days"]]
    by_dataset = _sums(lines, "slug", lambda one: one["charge"]["amount_minor"])
    return {
        "currency": currency,
        "bars": charts.upright(days),
        "days": [(day, minor) for day, minor in days if day in by_day],
        "most": max(by_day.values(), default=0),
        "datasets": by_dataset,
        "dataset_bars": charts.lying(by_dataset[:20]),
        "total": sum(by_day.values()),
    }


def _sums(lines: list[dict[str, Any]], name: str, amount: Any) -> list[tuple[str, int]]:
    """(value of a field, sum), the largest sum first."""
    sums: dict[str, int] = defaultdict(int)
    for one in lines:
        sums[one[name]] += amount(one)
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))
