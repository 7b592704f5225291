"""Bars for charts that are drawn as SVG on the server: places and lengths, nothing else.

A chart has its numbers in a table beside it, so that nobody needs to see it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT, GAP, LINE, LABEL = 720, 160, 1, 26, 200.0
_EDGE = 2.0


@dataclass(frozen=True)
class Bar:
    """One bar in units of the drawing: its corner, its size, and the label and value that it stands for."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: int


def upright(values: Sequence[tuple[str, int]]) -> list[Bar]:
    """Bars side by side, the largest as high as the drawing; what is above zero is never invisible."""
    largest, step = max((value for _, value in values), default=0), WIDTH / max(1, len(values))
    made = []
    for place, (label, value) in enumerate(values):
        height = max(2.0, HEIGHT * value / largest) if value > 0 else 0.0
        made.append(Bar(round(place * step, 2), round(HEIGHT - height, 2), step - GAP, height, label, value))
    return made


def lying(values: Sequence[tuple[str, int]]) -> list[Bar]:
    """Bars below each other, each behind the room for its label."""
    largest = max((value for _, value in values), default=0)
    room = WIDTH - LABEL
    return [
        Bar(
            LABEL,
            place * LINE + 4.0,
            max(2.0, room * value / largest) if value > 0 else 0.0,
            18.0,
            label,
            value,
        )
        for place, (label, value) in enumerate(values)
    ]


@dataclass(frozen=True)
class Measured:
    """A lying bar with the ends of its interval, in units of the drawing; the numbers are beside."""

    bar: Bar
    low: float
    high: float
    value: float
    ends: tuple[float, float]


@dataclass(frozen=True)
class ErrorBars:
    """Bars with error bars, where they start from, and how high the drawing is."""

    items: list[Measured]
    zero: float
    height: int


def with_errors(points: Sequence[tuple[str, float, float, float]]) -> ErrorBars:
    """Lying bars of (label, value, low, high) from zero, which lies within where some are below it."""
    ends = [end for _, value, low, high in points for end in (value, low, high) if math.isfinite(end)]
    least, most = min(0.0, *ends), max(0.0, *ends)
    scale = (WIDTH - LABEL - _EDGE) / ((most - least) or 1.0)

    def place(value: float) -> float:
        return round(LABEL + (min(max(value, least), most) - least) * scale, 2)

    items = []
    for at, (label, value, low, high) in enumerate(points):
        left, right = sorted((place(0.0), place(value)))
        bar = Bar(left, at * LINE + 4.0, max(1.0, round(right - left, 2)), 18.0, label, round(value))
        items.append(Measured(bar, place(low), place(high), value, (low, high)))
    return ErrorBars(items, place(0.0), len(items) * LINE + 4)
