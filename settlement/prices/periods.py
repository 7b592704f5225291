"""Periods of a subscription and months of a cap, in UTC."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Literal

Period = Literal["month", "year"]
MONTHS: dict[Period, int] = {"month": 1, "year": 12}


def month_of(moment: datetime) -> str:
    """The calendar month of an aware datetime, in UTC: "2026-11"."""
    return f"{moment.astimezone(UTC):%Y-%m}"


def period_starts(first: datetime, period: Period, number: int) -> datetime:
    """When period ``number`` (from 0) starts: the same day of a later month, or that month's last day.

    Counted from the first start each time, so that a subscription of the 31st does not wander to the 28th.
    """
    first = first.astimezone(UTC)
    months = first.month - 1 + number * MONTHS[period]
    year, month = first.year + months // 12, months % 12 + 1
    return first.replace(year=year, month=month, day=min(first.day, calendar.monthrange(year, month)[1]))


def period_at(first: datetime, period: Period, moment: datetime) -> int:
    """The number of the period in which a moment lies; 0 also for a moment before the first."""
    first, moment = first.astimezone(UTC), moment.astimezone(UTC)
    months = (moment.year - first.year) * 12 + moment.month - first.month
    number = max(0, months // MONTHS[period])
    return number if number == 0 or period_starts(first, period, number) <= moment else number - 1
